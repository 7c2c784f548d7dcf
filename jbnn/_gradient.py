"""The gradient, once: above the kernels and below everything else.

u = conv(a, b) is bilinear in a and b, whichever kernel computes it, so its gradient is that of JAX's own float
convolution at the same a and b,

    da = transpose of conv in a, at b, of du        db = transpose of conv in b, at a, of du

and all that has to be kept for it is a and b: their bits. `jax.vjp` of the float expression supplies collectives and
shardings too. Quantizers, affine, beta, scale, bias and activation are plain JAX around this rule.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jbnn._bits import pack
from jbnn._kernels.correlation import Correlation
from jbnn._kernels.primitive import correlate_words
from jbnn._kernels.unpacked import float_conv, values
from jbnn._once import differentiable_once

Residuals = tuple[jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def correlate(a: jax.Array, b: jax.Array, correlation: Correlation, implementation: str | None) -> jax.Array:
    """u = correlation of a (N, *S, C) with b (*K, C/G, O), or with its words (*K, W, O), in the dtype of a.

    Under xnor and `and`, a and b hold what bits stand for, and u is exact as far as its dtype holds integers.
    """
    w = kernel_words(b, correlation)
    if correlation.mode == "binary_weights":
        return float_conv(a, _kernel_values(w, correlation, a.dtype), correlation)
    return correlate_words(image_words(a, correlation), w, correlation, implementation=implementation).astype(a.dtype)


def _correlate_fwd(
    a: jax.Array, b: jax.Array, correlation: Correlation, implementation: str | None
) -> tuple[jax.Array, Residuals]:
    a = differentiable_once(a)
    b = b if b.dtype == jnp.uint32 else differentiable_once(b)
    image = a if correlation.mode == "binary_weights" else image_words(a, correlation)
    dtype_of_kernel = jnp.zeros((0,), b.dtype)
    return correlate(a, b, correlation, implementation), (image, kernel_words(b, correlation), dtype_of_kernel)


def _correlate_bwd(
    correlation: Correlation, implementation: str | None, residuals: Residuals, g: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    image, w, dtype_of_kernel = residuals
    geometry = correlation.geometry
    a = image
    if correlation.mode != "binary_weights":
        a = values(image, geometry.channels, correlation, axis=-1, groups=geometry.groups, dtype=g.dtype)
    b = _kernel_values(w, correlation, g.dtype)
    _, pull_back = jax.vjp(functools.partial(float_conv, correlation=correlation), a, b)
    da, db = pull_back(g)
    return da, None if dtype_of_kernel.dtype == jnp.uint32 else db


correlate.defvjp(_correlate_fwd, _correlate_bwd)


def image_words(a: jax.Array, correlation: Correlation) -> jax.Array:
    return pack(_as_bits(a, correlation), groups=correlation.geometry.groups)


def kernel_words(b: jax.Array, correlation: Correlation) -> jax.Array:
    return b if b.dtype == jnp.uint32 else pack(_as_bits(b, correlation), axis=-2)


def _as_bits(a: jax.Array, correlation: Correlation) -> jax.Array:
    """What `pack` reads as the bits that a stands for."""
    return a > 0.5 if correlation.mode == "and" else a


def _kernel_values(w: jax.Array, correlation: Correlation, dtype: DTypeLike) -> jax.Array:
    return values(w, correlation.geometry.channels_per_group, correlation, axis=-2, groups=1, dtype=dtype)
