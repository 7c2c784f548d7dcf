"""XNOR-Net's beta: how large the input was, at each position, before it became bits."""

import jax
import jax.numpy as jnp
from jax import lax

from jbnn._bits import pack, unpack_bits
from jbnn._geometry import Geometry, pad_image


def beta(z: jax.Array, geometry: Geometry) -> jax.Array:
    """The box mean of A = mean over channels of |z|: (N, *S, C) to (N, *S', 1).

    The box is the convolution's own window, dilation included; A is 0 outside the image, and the divisor is always
    the full window.
    """
    if 0 in geometry.output:
        return jnp.zeros((z.shape[0], *geometry.output, 1), z.dtype)
    image = pad_image(jnp.mean(_magnitude(z), axis=-1), 0, geometry)
    sums = lax.reduce_window(
        image,
        jnp.zeros((), z.dtype),
        lax.add,
        (1, *geometry.window),
        (1, *geometry.strides),
        "VALID",
        window_dilation=(1, *geometry.rhs_dilation),
    )
    return (sums / geometry.taps)[..., None]


@jax.custom_vjp
def _magnitude(z: jax.Array) -> jax.Array:
    """|z|, which keeps two bits an element for the backward pass: z < 0 and z > 0."""
    return jnp.abs(z)


def _magnitude_fwd(z: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return jnp.abs(z), (pack(z < 0), pack(z > 0))


def _magnitude_bwd(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    negative, positive = (unpack_bits(words, g.shape[-1], axis=g.ndim - 1, groups=1) for words in residuals)
    return (jnp.where(positive, g, jnp.where(negative, -g, jnp.zeros_like(g))),)


_magnitude.defvjp(_magnitude_fwd, _magnitude_bwd)
