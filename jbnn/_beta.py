"""XNOR-Net's beta: how large the input was, at each position, before it became bits."""

import functools

import jax
import jax.numpy as jnp

from jbnn._geometry import Geometry, pad_image, sum_windows
from jbnn._residuals import keep_mask, recall_mask


@functools.partial(jax.jit, static_argnames="geometry")
def beta(z: jax.Array, geometry: Geometry) -> jax.Array:
    """The box mean of A = mean over channels of |z|: (N, *S, C) to (N, *S', 1).

    The box is the convolution's own window, dilation included; A is 0 outside the image, and the divisor is always
    the full window. Of no channels the mean is 0.
    """
    if geometry.is_empty(1) or geometry.channels == 0:
        return jnp.zeros((z.shape[0], *geometry.output, 1), z.dtype)
    sums = sum_windows(pad_image(jnp.mean(_magnitude(z), axis=-1), 0, geometry), geometry)
    return (sums / geometry.taps)[..., None]


@jax.custom_vjp
def _magnitude(z: jax.Array) -> jax.Array:
    """|z| with JAX's gradient, 1 where z >= 0 and -1 elsewhere, kept as one bit an element."""
    return jnp.abs(z)


def _magnitude_fwd(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _magnitude(z), keep_mask(z >= 0)


def _magnitude_bwd(words: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    rising, g = recall_mask(words, g)
    return (jnp.where(rising, g, -g),)


_magnitude.defvjp(_magnitude_fwd, _magnitude_bwd)
