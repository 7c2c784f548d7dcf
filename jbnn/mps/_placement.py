"""Where a layer reads, as explicit padding of its image: from MPS's offset and clip rectangle, or from a policy.

Along one axis of n rows, with stride S and k taps that reach over K = (k - 1)·D + 1 rows, MPS reads

    row  S·y + offset - (K >> 1) + D·p        for output y, counted from the first of the clip rectangle, and tap p

and a correlation of an image with `low` rows of padding before it reads row S·y + D·p - low. So

    low  = (K >> 1) - offset
    high = (m - 1)·S + K - n - low            m outputs read (m - 1)·S + K rows in all; what the image lacks follows it

A transposed layer is a correlation with S = 1 over the zero-filled image, x with S - 1 zeros between its rows. MPS
gives its offset in two parts: in rows of x, each of which is S rows of the zero-filled image, and the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

import jax

from jbnn._arguments import as_index
from jbnn._geometry import Pair, span
from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._destination import Position, Rectangle, integers, written
from jbnn.mps._enums import PaddingMethod
from jbnn.mps._padding import SAME, Pairs, check_known, check_method, left_of, padding_policy

Padding = PaddingMethod | int | Sequence[tuple[int, int]]


class Placement(NamedTuple):
    """What is read, as padding of the image, and where the result lies in its destination."""

    pairs: Pairs
    origin: Position = (0, 0)


def place(
    image: tuple[int, ...],
    descriptor: ConvolutionDescriptor,
    *,
    padding: Padding | None,
    offset: Position | None,
    clip: Rectangle | None,
    destination: jax.Array | None,
) -> Placement:
    """The placement of a convolution of an image (rows, columns)."""
    if offset is None and clip is None and destination is None:
        return Placement(_pairs(padding, image, descriptor, transposed=False))
    _check_one_way("padding", padding)
    check_known(image)
    strides, reaches = descriptor.window_strides, _reaches(descriptor)
    same = tuple(-(-n // s) for n, s in zip(image, strides, strict=True))
    origin, size = written(clip, destination, same, descriptor.sub_pixel_scale_factor)
    centre = (0, 0) if offset is None else integers("offset", offset)
    rows, columns = (
        _around(n, reach, s, m, low=reach // 2 - o)
        for n, reach, s, m, o in zip(image, reaches, strides, size, centre, strict=True)
    )
    return Placement((rows, columns), origin)


def place_transposed(
    image: tuple[int, ...],
    descriptor: ConvolutionDescriptor,
    *,
    padding: Padding | None,
    output_size: Sequence[int] | None,
    offset: Position | None,
    kernel_offset: Position | None,
    clip: Rectangle | None,
    destination: jax.Array | None,
) -> Placement:
    """The placement of a transposed convolution; the pairs pad the zero-filled image."""
    if offset is None and kernel_offset is None and clip is None and destination is None:
        pairs = _pairs(padding, image, descriptor, transposed=True)
        return Placement(pairs if output_size is None else _pairs_to(output_size, pairs, padding, image, descriptor))
    _check_one_way("padding", padding)
    _check_one_way("output_size", output_size)
    check_known(image)
    strides, reaches, wide = descriptor.window_strides, _reaches(descriptor), _zero_filled(image, descriptor)
    origin, size = written(clip, destination, wide, descriptor.sub_pixel_scale_factor)
    pixels = (0, 0) if offset is None else integers("offset", offset)
    rest = (0, 0) if kernel_offset is None else integers("kernel_offset", kernel_offset)
    rows, columns = (
        _around(n, reach, 1, m, low=reach // 2 - (o * s + r))
        for n, reach, m, o, s, r in zip(wide, reaches, size, pixels, strides, rest, strict=True)
    )
    return Placement((rows, columns), origin)


def _around(n: int, reach: int, stride: int, outputs: int, *, low: int) -> Pair:
    """The padding of n rows so that `outputs` windows, a stride apart, find what they read; its low end is known."""
    return low, (outputs - 1) * stride + reach - n - low


def _check_one_way(name: str, value: object) -> None:
    """A position is given by padding, or in MPS's own terms."""
    if value is not None:
        raise ValueError(
            f"`{name}` must be None where an offset, `clip` or `destination` say where to read and write, "
            f"but was {value!r}"
        )


def _pairs(
    padding: Padding | None, image: tuple[int, ...], descriptor: ConvolutionDescriptor, *, transposed: bool
) -> Pairs:
    """Pairs as they were given, or those of a policy."""
    if isinstance(padding, str):
        raise ValueError(
            f"`padding` must be a PaddingMethod or two pairs of integers, but was {padding!r}: "
            "MPS's policies differ from those of lax, see `padding_policy`"
        )
    if _is_explicit(padding):
        try:
            rows, columns = ((as_index("padding", low), as_index("padding", high)) for low, high in padding)
        except (TypeError, ValueError):
            raise ValueError(
                f"`padding` must be a PaddingMethod or two pairs of integers, but was {padding!r}"
            ) from None
        return rows, columns
    method = _method(padding)
    check_known(image)
    return padding_policy(
        method,
        image,
        descriptor.window,
        window_strides=descriptor.window_strides,
        rhs_dilation=descriptor.rhs_dilation,
        transposed=transposed,
    )


def _is_explicit(padding: Padding | None) -> TypeGuard[Sequence[tuple[int, int]]]:
    return not (padding is None or hasattr(padding, "__index__"))


def _method(padding: Padding | None) -> PaddingMethod:
    return SAME if padding is None else check_method("padding", padding)  # type: ignore[arg-type]  # pairs are ruled out


def _pairs_to(
    output_size: Sequence[int],
    pairs: Pairs,
    padding: Padding | None,
    image: tuple[int, ...],
    descriptor: ConvolutionDescriptor,
) -> Pairs:
    """Padding so that the layer is the transpose of the convolution that makes x of an image of `output_size`.

    Along one axis that convolution makes the n rows of x of m rows. It reads (n - 1)·S + K, so K - 1 more than the
    zero-filled x has; m of them are its image, and the policy puts `left` of the others before it. Row i of its image
    is thus read by output y through place i + left - S·y of the window. In the transpose, row i of the result meets
    row y of x, which is row S·y of the zero-filled image, through place S·y - i + low. The kernel of a transpose is
    the other one rotated, so these two places add up to K - 1, and low = K - 1 - left.
    """
    if _is_explicit(padding):
        raise ValueError(f"`padding` must be a PaddingMethod with `output_size`, but was {padding!r}")
    method, wanted = _method(padding), integers("output_size", output_size)
    strides, reaches, wide = descriptor.window_strides, _reaches(descriptor), _zero_filled(image, descriptor)
    # Images of `least` to least + S - 1 rows: a convolution of stride S leaves up to S - 1 rows over.
    least = [n + low + high - reach + 1 for n, (low, high), reach in zip(wide, pairs, reaches, strict=True)]
    if not all(0 <= m - n < s for m, n, s in zip(wanted, least, strides, strict=True)):
        rows, columns = (f"[{n}, {n + s - 1}]" for n, s in zip(least, strides, strict=True))
        raise ValueError(
            f"`output_size` must have rows in {rows} and columns in {columns}, but was {output_size!r}: only of "
            f"such images does a convolution with this stride and padding make one of {image[0]} rows and {image[1]} "
            "columns, as `x` has"
        )

    def along(axis: int, m: int, n: int, reach: int) -> Pair:
        left = left_of(axis, method, n - 1 + reach - m)
        return _around(n, reach, 1, m, low=reach - 1 - left)

    to_rows, to_columns = (along(axis, *sizes) for axis, sizes in enumerate(zip(wanted, wide, reaches, strict=True)))
    return to_rows, to_columns


def _reaches(descriptor: ConvolutionDescriptor) -> tuple[int, ...]:
    """K of rows and of columns."""
    return tuple(map(span, descriptor.window, descriptor.rhs_dilation))


def _zero_filled(image: tuple[int, ...], descriptor: ConvolutionDescriptor) -> tuple[int, ...]:
    """The size of the zero-filled image."""
    return tuple(map(span, image, descriptor.window_strides))
