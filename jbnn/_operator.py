"""The operator's expression, in the order of its formula.

    z = (x + input_bias)·input_scale,   a = quantized z,   B = quantized w,
    u = correlation of a with B,        out = activation(u·scale·beta + bias)

Everything here is plain JAX around u, so JAX differentiates it. Where the end of the formula is simple enough, u and
that end go to the kernel as one.
"""

import contextlib
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jbnn import activations
from jbnn._arguments import array_from, at_least_float32, last_axis
from jbnn._beta import beta
from jbnn._gradient import correlate, kernel_words, scaled_and_biased
from jbnn._jax_versions import known_now
from jbnn._kernels.case import Affine, Clamp
from jbnn._kernels.primitive import correlate_words
from jbnn._options import Activation, Formula
from jbnn._quantized import is_known, quantized

# The activations that an `Affine` can express, recognised by identity.
_CLAMPS: tuple[tuple[Activation, Clamp], ...] = (
    (None, (None, None)),
    (activations.none, (None, None)),
    (activations.relu, (0.0, None)),
    (jax.nn.relu, (0.0, None)),
    (jax.nn.relu6, (0.0, 6.0)),
)


def apply(x: jax.Array, w: jax.Array, f: Formula) -> jax.Array:
    """The operator of x (N, *S, C), or of a dense layer's x (…, C), and w."""
    case, dtype, pixels = f.case, at_least_float32(x.dtype), jnp.issubdtype(x.dtype, jnp.integer)
    batch, geometry = x.shape[:1], f.case.geometry
    if geometry.rank == 0:
        batch, x = x.shape[:-1], x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    z = _affine(x, f)
    a = quantized("input_quantizer", z.astype(dtype), f.input_quantizer, case.reading) if case.counts else z
    b = w if w.dtype == jnp.uint32 else _kernel(x, w, f)

    if pixels and f.scale is None and f.bias is None and f.activation is None:
        u = correlate_words(x, kernel_words(b, case), case, implementation=f.implementation)
        return u.reshape(*batch, *u.shape[1:])
    out = dtype if pixels else x.dtype
    clamp = [clamp for known, clamp in _CLAMPS if known is f.activation]
    if clamp and not f.beta_scaling and dtype == jnp.float32:
        case = dataclasses.replace(case, result=Affine(np.dtype(out), clamp[0]))
        y = correlate(a, b, f.scale, f.bias, case, f.activation, f.implementation)
        return y.reshape(*batch, *y.shape[1:])
    u = correlate(a, b, None, None, case, None, f.implementation)
    v = scaled_and_biased(u, f.scale, f.bias, beta=beta(z.astype(dtype), geometry) if f.beta_scaling else None)
    v = v.reshape(*batch, *v.shape[1:])
    return (v if f.activation is None else array_from("activation", f.activation(v))).astype(out)


def _kernel(x: jax.Array, w: jax.Array, f: Formula) -> jax.Array:
    """B of a latent kernel, in the floats of a; or already its words.

    A kernel that a jitted function closes over is packed now: XLA would do it while it compiles, for seconds.
    """
    closed_over = isinstance(x, jax.core.Tracer) and not isinstance(w, jax.core.Tracer)
    now = closed_over and is_known(f.kernel_quantizer)
    with known_now() if now else contextlib.nullcontext():
        wide = w.astype(at_least_float32(w.dtype))  # rounding first could turn a tiny -w into 0, whose sign is +1
        b = quantized("kernel_quantizer", wide, f.kernel_quantizer, f.case.right)
        return kernel_words(b, f.case) if now else b.astype(at_least_float32(x.dtype))


def _affine(x: jax.Array, f: Formula) -> jax.Array:
    """z: x itself, or in float32 at least."""
    z = x if f.input_bias is None else x.astype(f.input_bias.dtype) + last_axis(f.input_bias, x)
    return z if f.input_scale is None else z.astype(f.input_scale.dtype) * last_axis(f.input_scale, x)
