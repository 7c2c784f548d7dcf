"""Where a layer reads and writes: MPS's offset, clip rectangle, padding policy and edge mode, made explicit once.

MPS reads row S·y + offset - (K >> 1) + D·p of the image for output row y, counted from the clip rectangle's origin, and
tap p, with K = (k - 1)·D + 1. Whatever of that lies outside the image is made here, before anything is computed from
it, so that a border goes through the input affine, the sign and beta as pixels do.
"""

import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._enums import EdgeMode, PaddingMethod, as_member
from jbnn.mps._padding import SAME, Pair, Pairs, check_method, padding_policy

Padding = PaddingMethod | int | Sequence[tuple[int, int]]
Position = tuple[int, int]
Rectangle = tuple[Position, tuple[int, int]]


class Placement(NamedTuple):
    """What is read, as padding of the image, and where the result lies in its destination."""

    pairs: Pairs
    origin: Position


def place(
    image: tuple[int, ...],
    descriptor: ConvolutionDescriptor,
    *,
    padding: Padding | None,
    offset: Position | None,
    clip: Rectangle | None,
    destination: jax.Array | None,
    default: PaddingMethod = SAME,
) -> Placement:
    """The placement of a convolution of an image (rows, columns)."""
    check_one_way(padding, offset, clip, destination)
    geometry = {"window_strides": descriptor.window_strides, "rhs_dilation": descriptor.rhs_dilation}
    if offset is None and clip is None and destination is None:
        return Placement(pairs_of(default if padding is None else padding, image, descriptor), (0, 0))
    size = tuple(-(-n // s) for n, s in zip(image, descriptor.window_strides, strict=True))
    origin, size = written(clip, destination, size, descriptor.sub_pixel_scale_factor)
    spans = _spans(descriptor)
    offset = (0, 0) if offset is None else integers("offset", offset)
    low = [k // 2 - o for k, o in zip(spans, offset, strict=True)]
    read = [(m - 1) * s + k for m, s, k in zip(size, geometry["window_strides"], spans, strict=True)]
    rows, columns = ((lo, r - n - lo) for lo, r, n in zip(low, read, image, strict=True))
    return Placement((rows, columns), origin)


def check_one_way(padding: object, *others: object) -> None:
    """A position is given by padding, or in MPS's own terms."""
    if padding is not None and any(other is not None for other in others):
        raise ValueError(
            "`padding` must be None where `offset`, `clip` or `destination` say where to read and write, "
            f"but was {padding!r}"
        )


def pairs_of(padding: Padding, image: tuple[int, ...], descriptor: ConvolutionDescriptor) -> Pairs:
    """Explicit pairs, computed if need be."""
    if isinstance(padding, str):
        raise ValueError(
            f"`padding` must be a PaddingMethod or two pairs of integers, but was {padding!r}: "
            "MPS's policies differ from those of lax, see `padding_policy`"
        )
    if not np.iterable(padding):
        return padding_policy(
            check_method("padding", padding),  # type: ignore[arg-type]
            image,
            descriptor.window,
            window_strides=descriptor.window_strides,
            rhs_dilation=descriptor.rhs_dilation,
        )
    return explicit_pairs(padding)  # type: ignore[arg-type]


def explicit_pairs(padding: Sequence[tuple[int, int]]) -> Pairs:
    """((low, high), (low, high)) of a caller."""
    try:
        (a, b), (c, d) = padding
        return (operator.index(a), operator.index(b)), (operator.index(c), operator.index(d))
    except (TypeError, ValueError):
        raise ValueError(
            f"`padding` must be a PaddingMethod or two pairs of integers, but was {padding!r}"
        ) from None


def written(
    clip: Rectangle | None, destination: jax.Array | None, size: tuple[int, ...], factor: int
) -> tuple[Position, Position]:
    """Origin and size of the rectangle that is written, in pixels before a sub-pixel layer multiplies them."""
    whole = (size[0] * factor, size[1] * factor) if destination is None else destination.shape[1:3]
    origin, (height, width) = (0, 0), whole
    if clip is not None:
        try:
            origin, extent = clip
        except (TypeError, ValueError):
            raise ValueError(f"`clip` must be (origin, size), each (rows, columns), but was {clip!r}") from None
        origin, (height, width) = integers("clip", origin), integers("clip", extent)
        if min(*origin, height, width) < 0:
            raise ValueError(f"`clip` must have an origin and a size that are not negative, but was {clip!r}")
        if destination is not None and any(o + m > n for o, m, n in zip(origin, (height, width), whole, strict=True)):
            raise ValueError(
                f"`clip` must lie in `destination`, which has {whole[0]} rows and {whole[1]} columns, but was {clip!r}"
            )
    if height % factor or width % factor:
        raise ValueError(
            f"`clip` and `destination` must have a size that `sub_pixel_scale_factor` = {factor} divides, "
            f"but it was {(height, width)}"
        )
    return origin, (height // factor, width // factor)


def with_borders(x: jax.Array, pairs: Pairs, edge_mode: EdgeMode | int) -> jax.Array:
    """The rows and columns that are read: the image, cropped, and what the edge mode puts around it."""
    mode = as_member("edge_mode", edge_mode, EdgeMode)
    if mode not in (EdgeMode.ZERO, EdgeMode.CLAMP):
        raise ValueError(
            f"`edge_mode` must be ZERO or CLAMP, as MPS defines for convolutions, but was {mode.name}: "
            "pad the image first, and pass `padding=((0, 0), (0, 0))`"
        )
    if mode == EdgeMode.CLAMP and 0 in x.shape[1:3]:
        raise ValueError(f"`x` must have pixels with edge_mode=CLAMP, but has shape {x.shape}")
    rows, columns = (_kept_and_grown(n, *pair, mode) for n, pair in zip(x.shape[1:3], pairs, strict=True))
    x = x[:, rows[0], columns[0]]
    return jnp.pad(x, [(0, 0), rows[1], columns[1], (0, 0)], mode="constant" if mode == EdgeMode.ZERO else "edge")


def _kept_and_grown(n: int, low: int, high: int, mode: EdgeMode) -> tuple[slice, Pair]:
    """The rows of the image to keep, and how many to put before and after them."""
    start, stop = -low, max(n + high, -low)  # of what is read
    if start < n and stop > 0:
        return slice(max(start, 0), min(stop, n)), (max(-start, 0), max(stop - n, 0))
    # Nothing but border, which repeats one row or none.
    nearest = 0 if stop <= 0 else n - 1
    repeated = int(mode == EdgeMode.CLAMP and stop > start)
    return slice(nearest, nearest + repeated), (stop - start - repeated, 0)


def into(destination: jax.Array | None, y: jax.Array, origin: Position) -> jax.Array:
    """The destination with y written at its place, or y."""
    if destination is None:
        return y
    return lax.dynamic_update_slice(destination, y, (0, *origin, 0))


def as_destination(
    destination: ArrayLike | None, x: jax.Array, descriptor: ConvolutionDescriptor
) -> jax.Array | None:
    """A destination that a layer of x can write to."""
    if destination is None:
        return None
    destination = jnp.asarray(destination)
    channels = descriptor.output_feature_channels // descriptor.sub_pixel_scale_factor**2
    expected = f"(N, H, W, channels) with N = {x.shape[0]} and {channels} channels"
    if destination.ndim != 4 or (destination.shape[0], destination.shape[-1]) != (x.shape[0], channels):
        raise ValueError(f"`destination` must have shape {expected}, but has shape {destination.shape}")
    if destination.dtype != x.dtype:
        raise TypeError(f"`destination` must have the dtype of `x`, {x.dtype}, but has dtype {destination.dtype}")
    return destination


def integers(name: str, value: Sequence[int]) -> Position:
    """(rows, columns) of a caller."""
    try:
        rows, columns = map(operator.index, value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must hold (rows, columns), two integers each, but was {value!r}") from None
    return rows, columns


def _spans(descriptor: ConvolutionDescriptor) -> tuple[int, ...]:
    return tuple((k - 1) * d + 1 for k, d in zip(descriptor.window, descriptor.rhs_dilation, strict=True))
