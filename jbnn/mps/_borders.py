"""What a layer reads outside the image.

A binary layer needs its border made before anything is computed from the image, so that the border goes through the
input affine, the sign and beta as pixels do: literally zero, and not a zero of the sum.
"""

import jax
import numpy as np
from jax import lax

from jbnn import _edges as edges
from jbnn._scopes import edges_scope
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


def with_borders(x: jax.Array, pairs: Pairs, edge_mode: EdgeMode | int) -> jax.Array:
    """The rows and columns that are read: the image, cropped, and what the edge mode puts around it."""
    name = edge_name(edge_mode)
    if edges.continues(name):
        return edges.continue_image(x, pairs, name)
    (rows, above), (columns, beside) = (_kept_and_grown(n, *pair) for n, pair in zip(x.shape[1:3], pairs, strict=True))
    with edges_scope(x.shape[1:3]):
        return lax.pad(x[:, rows, columns], np.zeros((), x.dtype), [(0, 0, 0), (*above, 0), (*beside, 0), (0, 0, 0)])


def _kept_and_grown(n: int, low: int, high: int) -> tuple[slice, Pair]:
    """The rows of the image to keep, and how many to put before and after: a border is never cropped again."""
    start, stop = -low, max(n + high, -low)  # of what is read
    if start < n and stop > 0:
        return slice(max(start, 0), min(stop, n)), (max(-start, 0), max(stop - n, 0))
    return slice(0, 0), (stop - start, 0)
