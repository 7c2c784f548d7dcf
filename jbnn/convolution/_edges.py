"""The edge modes: what an image continues with, where the windows of real layers reach beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from jbnn._scopes import edges_scope

EdgeMode = Literal["zero", "clamp", "mirror", "mirror_with_edge", "constant"]

_NUMPY_NAMES = {"clamp": "edge", "mirror": "reflect", "mirror_with_edge": "symmetric"}


def continues(edge_mode: EdgeMode) -> bool:
    """Whether the outside is made of the image's own pixels, and not of one value."""
    return edge_mode in _NUMPY_NAMES


def check_edge_mode(edge_mode: EdgeMode, pad_value: float) -> None:
    """A known mode, and a value only where the mode has one."""
    if edge_mode not in get_args(EdgeMode):
        names = ", ".join(f'"{name}"' for name in get_args(EdgeMode))
        raise ValueError(f"`edge_mode` must be one of {names}, but was {edge_mode!r}")
    if edge_mode != "constant" and pad_value != 0:
        raise ValueError(f'`pad_value` must be 0 unless `edge_mode` is "constant", but was {pad_value!r}')


def continue_image(x: jax.Array, pairs: Sequence[tuple[int, int]], edge_mode: EdgeMode) -> jax.Array:
    """The image (N, *S, …) continued beyond its edges, and then cropped where a pair is negative."""
    trailing = x.ndim - 1 - len(pairs)
    if any(n == 0 and max(pair) > 0 for n, pair in zip(x.shape[1:], pairs, strict=False)):
        raise ValueError(f'`edge_mode`="{edge_mode}" must have a pixel to continue, but `x` has shape {x.shape}')
    grown = [(0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in pairs), *[(0, 0)] * trailing]
    with edges_scope(x.shape[1 : 1 + len(pairs)]):
        x = jnp.pad(x, grown, mode=_NUMPY_NAMES[edge_mode])
        for axis, (low, high) in enumerate(pairs, start=1):
            end = max(x.shape[axis] + min(high, 0), 0)
            x = lax.slice_in_dim(x, min(max(-low, 0), end), end, axis=axis)
        return x
