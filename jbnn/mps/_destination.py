"""Where a layer writes: MPS's clip rectangle in a destination image, without writing to anything."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_array, as_index
from jbnn.mps._descriptor import ConvolutionDescriptor

Position = tuple[int, int]
Rectangle = tuple[Position, tuple[int, int]]


def as_destination(destination: ArrayLike | None, x: jax.Array, descriptor: ConvolutionDescriptor) -> jax.Array | None:
    """A destination that a layer of x can write to."""
    if destination is None:
        return None
    must = f"have the dtype of `x`, {x.dtype}"
    destination = as_array("destination", destination, lambda dtype: dtype == x.dtype, must)
    channels = descriptor.output_feature_channels // descriptor.sub_pixel_scale_factor**2
    if destination.ndim != 4 or (destination.shape[0], destination.shape[-1]) != (x.shape[0], channels):
        raise ValueError(
            f"`destination` must have shape (N, H, W, channels) with N = {x.shape[0]} and {channels} channels, "
            f"but has shape {destination.shape}"
        )
    return destination


def written(
    clip: Rectangle | None, destination: jax.Array | None, size: tuple[int, ...], factor: int
) -> tuple[Position, Position]:
    """Origin, and size in pixels before a sub-pixel layer multiplies them, of the rectangle that is written.

    `size`, of such pixels, is taken where neither is given.
    """
    rows, columns = (n * factor for n in size) if destination is None else destination.shape[1:3]
    if clip is None:
        origin, (height, width) = (0, 0), (rows, columns)
    else:
        try:
            origin, extent = clip
        except (TypeError, ValueError):
            raise ValueError(f"`clip` must be (origin, size), each (rows, columns), but was {clip!r}") from None
        origin, (height, width) = integers("clip", origin), integers("clip", extent)
        if min(*origin, height, width) < 0:
            raise ValueError(f"`clip` must have an origin and a size that are not negative, but was {clip!r}")
        if destination is not None and (origin[0] + height > rows or origin[1] + width > columns):
            raise ValueError(
                f"`clip` must lie in `destination`, which has {rows} rows and {columns} columns, but was {clip!r}"
            )
    if height % factor or width % factor:
        raise ValueError(
            f"`clip` or `destination` must have a size that `sub_pixel_scale_factor` = {factor} divides, "
            f"but it was {(height, width)}"
        )
    return origin, (height // factor, width // factor)


def into(destination: jax.Array | None, y: jax.Array, origin: Position) -> jax.Array:
    """The destination with y written at its place, or y."""
    return y if destination is None else _updated(destination, y, origin)


@functools.partial(jax.jit, static_argnames="origin", inline=True)
def _updated(destination: jax.Array, y: jax.Array, origin: Position) -> jax.Array:
    return lax.dynamic_update_slice(destination, y, (0, *origin, 0))


def integers(name: str, value: Sequence[int]) -> Position:
    """(rows, columns) of a caller."""
    try:
        rows, columns = (as_index(name, number) for number in value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must hold (rows, columns), two integers each, but was {value!r}") from None
    return rows, columns
