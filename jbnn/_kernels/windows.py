"""What every window of an image sees, side by side."""

import jax
import jax.numpy as jnp
from jax import lax

from jbnn._geometry import Geometry
from jbnn._kernels.live_taps import LONG_AXIS


def windows(x: jax.Array, g: Geometry) -> jax.Array:
    """The taps of every window of the padded image (N, *S, G, D), (N, *S', G, taps·D), gathered axis after axis."""
    groups, depth = x.shape[-2:]
    for axis in range(g.rank):
        rows = g.reads(axis) + g.padding[axis][0]  # of the padded image, (S'_d, K_d)
        if g.window[axis] > LONG_AXIS:
            x = jnp.moveaxis(jnp.take(x, rows, axis=1 + axis), 2 + axis, -2)
            continue
        slices = [lax.slice_in_dim(x, r[0], r[-1] + 1, g.strides[axis], axis=1 + axis) for r in rows.T.tolist()]
        x = jnp.stack(slices, axis=-2)
    return x.reshape(x.shape[0], *g.output, groups, g.taps * depth)
