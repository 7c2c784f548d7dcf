"""What a binary layer reads outside the image: pixels that are made before anything is computed from it.

So a border goes through the input affine, the sign and beta as the image's own pixels do: it is literally zero, and
not a zero of the sum.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
from jax import lax

from jbnn._scopes import edges_scope
from jbnn.convolution import _edges as edges
from jbnn.mps._enums import EdgeMode, as_member
from jbnn.mps._padding import Pair, Pairs

_NAMES: dict[EdgeMode, edges.EdgeMode] = {
    EdgeMode.ZERO: "zero",
    EdgeMode.CLAMP: "clamp",
    EdgeMode.MIRROR: "mirror",
    EdgeMode.MIRROR_WITH_EDGE: "mirror_with_edge",
}


def edge_name(edge_mode: EdgeMode | int) -> edges.EdgeMode:
    """The edge mode as `jbnn.convolution` calls it."""
    mode = as_member("edge_mode", edge_mode, EdgeMode)
    if mode == EdgeMode.CONSTANT:
        raise ValueError(
            "`edge_mode` must be ZERO, CLAMP, MIRROR or MIRROR_WITH_EDGE, but was CONSTANT, whose constant belongs to "
            "a layer of its own in MPS: pad the image first, and pass `padding=((0, 0), (0, 0))`"
        )
    return _NAMES[mode]


@functools.partial(jax.jit, static_argnames=("pairs", "edge_mode"), inline=True)
def with_borders(x: jax.Array, pairs: Pairs, edge_mode: edges.EdgeMode) -> jax.Array:
    """The rows and columns that are read: the image, cropped, and what the edge mode puts around it."""
    if edges.continues(edge_mode):
        return edges.continue_image(x, pairs, edge_mode)
    (rows, above), (columns, beside) = (_kept_and_grown(n, *pair) for n, pair in zip(x.shape[1:3], pairs, strict=True))
    with edges_scope(x.shape[1:3]):
        return lax.pad(x[:, rows, columns], np.zeros((), x.dtype), [(0, 0, 0), (*above, 0), (*beside, 0), (0, 0, 0)])


def _kept_and_grown(n: int, low: int, high: int) -> tuple[slice, Pair]:
    """The rows of the image to keep, and how many zeros to put before and after them.

    What is read are the rows from -low up to n + high, which may begin after the image or end before it: `lax.pad` by
    (low, high) would crop rows of zeros there, which jax-mps refuses, so rows that are read as zeros are only added.
    """
    start, stop = -low, max(n + high, -low)
    if start < n and stop > 0:
        return slice(max(start, 0), min(stop, n)), (max(-start, 0), max(stop - n, 0))
    return slice(0, 0), (stop - start, 0)
