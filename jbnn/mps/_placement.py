"""Where a layer reads: MPS's offset and clip rectangle, or a padding policy, as explicit padding of the image.

MPS reads row S·y + offset - (K >> 1) + D·p of the image for tap p of output row y, counted from the clip rectangle's
origin, with K = (k - 1)·D + 1. That is a padding of (K >> 1) - offset rows at the low end.
"""

import operator
from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

import jax

from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._destination import Position, Rectangle, integers, written
from jbnn.mps._enums import PaddingMethod
from jbnn.mps._padding import SAME, Pairs, check_method, left_of, padding_policy

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
    strides, spans = descriptor.window_strides, _spans(descriptor)
    same = tuple(-(-n // s) for n, s in zip(image, strides, strict=True))
    origin, size = written(clip, destination, same, descriptor.sub_pixel_scale_factor)
    centre = (0, 0) if offset is None else integers("offset", offset)
    low = [k // 2 - o for k, o in zip(spans, centre, strict=True)]
    read = [(m - 1) * s + k for m, s, k in zip(size, strides, spans, strict=True)]
    rows, columns = ((lo, r - n - lo) for lo, r, n in zip(low, read, image, strict=True))
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
    """The placement of a transposed convolution; the pairs pad the image with zeros between its pixels."""
    if offset is None and kernel_offset is None and clip is None and destination is None:
        pairs = _pairs(padding, image, descriptor, transposed=True)
        return Placement(pairs if output_size is None else _pairs_to(output_size, pairs, padding, image, descriptor))
    _check_one_way("padding", padding)
    _check_one_way("output_size", output_size)
    strides, spans, wide = descriptor.window_strides, _spans(descriptor), _zero_filled(image, descriptor)
    origin, size = written(clip, destination, wide, descriptor.sub_pixel_scale_factor)
    pixels = (0, 0) if offset is None else integers("offset", offset)
    rest = (0, 0) if kernel_offset is None else integers("kernel_offset", kernel_offset)
    low = [k // 2 - (o * s + r) for k, o, s, r in zip(spans, pixels, strides, rest, strict=True)]
    rows, columns = ((lo, m - 1 + k - n - lo) for lo, m, k, n in zip(low, size, spans, wide, strict=True))
    return Placement((rows, columns), origin)


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
    """Explicit pairs, computed if need be."""
    if isinstance(padding, str):
        raise ValueError(
            f"`padding` must be a PaddingMethod or two pairs of integers, but was {padding!r}: "
            "MPS's policies differ from those of lax, see `padding_policy`"
        )
    if _is_explicit(padding):
        try:
            (top, bottom), (left, right) = padding
            return (operator.index(top), operator.index(bottom)), (operator.index(left), operator.index(right))
        except (TypeError, ValueError):
            raise ValueError(
                f"`padding` must be a PaddingMethod or two pairs of integers, but was {padding!r}"
            ) from None
    return padding_policy(
        _method(padding),
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
    """The padding of the transpose of the convolution that makes x of an image of `output_size`."""
    if _is_explicit(padding):
        raise ValueError(f"`padding` must be a PaddingMethod with `output_size`, but was {padding!r}")
    wanted = integers("output_size", output_size)
    strides, spans, wide = descriptor.window_strides, _spans(descriptor), _zero_filled(image, descriptor)
    least = [n + lo + hi - k + 1 for n, (lo, hi), k in zip(wide, pairs, spans, strict=True)]
    if not all(0 <= w - m < s for w, m, s in zip(wanted, least, strides, strict=True)):
        ranges = " and ".join(f"[{m}, {m + s - 1}]" for m, s in zip(least, strides, strict=True))
        raise ValueError(
            f"`output_size` must lie in {ranges}, the sizes of which a convolution with that policy makes an image of "
            f"{image}, but was {output_size!r}"
        )
    method = _method(padding)

    def along(axis: int, m: int, n: int, k: int) -> tuple[int, int]:
        # The convolution adds n - 1 + k - m rows, `left` of them before the image, so the first row of its transpose
        # sees the zero-filled image through the last `left` + 1 rows of the window.
        left = left_of(axis, method, n - 1 + k - m)
        low = k - 1 - left
        return low, m - 1 + k - n - low

    rows, columns = (along(axis, *sizes) for axis, sizes in enumerate(zip(wanted, wide, spans, strict=True)))
    return rows, columns


def _spans(descriptor: ConvolutionDescriptor) -> tuple[int, ...]:
    return tuple((k - 1) * d + 1 for k, d in zip(descriptor.window, descriptor.rhs_dilation, strict=True))


def _zero_filled(image: tuple[int, ...], descriptor: ConvolutionDescriptor) -> tuple[int, ...]:
    return tuple((n - 1) * s + 1 if n else 0 for n, s in zip(image, descriptor.window_strides, strict=True))
