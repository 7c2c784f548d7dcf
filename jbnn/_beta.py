"""XNOR-Net's beta: how large the input was, at each position, before it became bits."""

import jax
import jax.numpy as jnp

from jbnn._bits import pack, unpack_bits
from jbnn._geometry import Geometry, pad_image, sum_windows


def beta(z: jax.Array, geometry: Geometry) -> jax.Array:
    """The box mean of A = mean over channels of |z|: (N, *S, C) to (N, *S', 1).

    The box is the convolution's own window, dilation included; A is 0 outside the image, and the divisor is always
    the full window.
    """
    if geometry.is_empty(1):
        return jnp.zeros((z.shape[0], *geometry.output, 1), z.dtype)
    sums = sum_windows(pad_image(jnp.mean(_magnitude(z), axis=-1), 0, geometry), geometry)
    return (sums / geometry.taps)[..., None]


@jax.custom_vjp
def _magnitude(z: jax.Array) -> jax.Array:
    """|z| with JAX's gradient, 1 where z >= 0 and -1 elsewhere, kept as one bit an element."""
    return jnp.abs(z)


def _magnitude_fwd(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.abs(z), pack(z >= 0)


def _magnitude_bwd(words: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    rising = unpack_bits(words, g.shape[-1], axis=g.ndim - 1, groups=1)
    return (jnp.where(rising, g, -g),)


_magnitude.defvjp(_magnitude_fwd, _magnitude_bwd)
