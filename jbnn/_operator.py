"""The operator's expression, in the order of its formula.

    z = (x + input_bias)·input_scale,   a = quantized z,   B = quantized w,
    u = correlation of a with B,        out = activation(u·scale·beta + bias)

Everything here is plain JAX around u, so JAX differentiates it. Where the end of the formula is simple enough, u and
that end go to the kernel as one.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jbnn import activations
from jbnn._arguments import (
    array_from,
    as_float,
    at_least_float32,
    check_activation,
    check_flag,
    last_axis,
    per_channel,
)
from jbnn._beta import beta
from jbnn._geometry import Geometry
from jbnn._gradient import correlate, kernel_words
from jbnn._kernels.case import Affine, Case, Clamp, Reading
from jbnn._kernels.choose import check_case
from jbnn._kernels.primitive import correlate_words
from jbnn._modes import READINGS, Mode, check_pad_value, readings
from jbnn._quantized import Quantizer, check_quantizer, quantized
from jbnn._shapes import check_known_size

Activation = Callable[[jax.Array], jax.Array] | None

# The activations that an `Affine` can express, recognised by identity.
_CLAMPS: tuple[tuple[Activation, Clamp], ...] = (
    (None, (None, None)),
    (activations.none, (None, None)),
    (activations.relu, (0.0, None)),
    (jax.nn.relu, (0.0, None)),
    (jax.nn.relu6, (0.0, 6.0)),
)


class Options(NamedTuple):
    """What a caller writes beside x, w and the geometry."""

    mode: Mode
    pad_value: float
    input_bias: ArrayLike | None
    input_scale: ArrayLike | None
    scale: ArrayLike | None
    bias: ArrayLike | None
    beta_scaling: bool
    activation: Activation
    input_quantizer: Quantizer
    kernel_quantizer: Quantizer
    implementation: str | None


def as_image(x: ArrayLike, mode: str) -> jax.Array:
    """x as an array of a dtype that the mode takes: pixels of 8 bits too where it is not quantized."""
    if mode == "binary_weights":
        return as_float("x", x, ', uint8 or int8 with mode="binary_weights"', jnp.uint8, jnp.int8)
    return as_float("x", x)


def apply(x: jax.Array, w: jax.Array, geometry: Geometry, options: Options) -> jax.Array:
    """The operator of x (N, *S, C), or of a dense layer's x (…, C), and w."""
    o, batch, dtype = options, x.shape[:1], at_least_float32(x.dtype)
    case = _checked(x, w, geometry, o)
    pixels = jnp.issubdtype(x.dtype, jnp.integer)
    if geometry.rank == 0:
        batch, x = x.shape[:-1], x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    scale = None if o.scale is None else per_channel("scale", o.scale, geometry.features, "O", dtype)
    bias = None if o.bias is None else per_channel("bias", o.bias, geometry.features, "O", dtype)

    z = _affine(x, o, geometry) if case.counts or o.input_bias is not None or o.input_scale is not None else x
    a = quantized("input_quantizer", z, o.input_quantizer, case.left) if isinstance(case.left, Reading) else z
    b = w
    if w.dtype != jnp.uint32:
        wide = w.astype(at_least_float32(w.dtype))  # rounding first could turn a tiny -w into 0, whose sign is +1
        b = quantized("kernel_quantizer", wide, o.kernel_quantizer, case.right).astype(dtype)

    if pixels and scale is None and bias is None and o.activation is None:
        u = correlate_words(x, kernel_words(b, case), case, implementation=o.implementation)
        return u.reshape(*batch, *u.shape[1:])
    out = dtype if pixels else x.dtype
    clamp = [clamp for known, clamp in _CLAMPS if known is o.activation]
    if clamp and not o.beta_scaling and dtype == jnp.float32:
        case = dataclasses.replace(case, result=Affine(np.dtype(out), clamp[0]))
        y = correlate(a, b, scale, bias, case, o.activation, o.implementation)
        return y.reshape(*batch, *y.shape[1:])
    v = correlate(a, b, None, None, case, None, o.implementation)
    v = v if scale is None else v * last_axis(scale, v)
    v = v * beta(z.astype(dtype), geometry) if o.beta_scaling else v
    v = v if bias is None else v + last_axis(bias, v)
    v = v.reshape(*batch, *v.shape[1:])
    return (v if o.activation is None else array_from("activation", o.activation(v))).astype(out)


def _affine(x: jax.Array, o: Options, geometry: Geometry) -> jax.Array:
    z = x.astype(at_least_float32(x.dtype))
    if o.input_bias is not None:
        z = z + last_axis(per_channel("input_bias", o.input_bias, geometry.channels, "C", z.dtype), z)
    if o.input_scale is not None:
        z = z * last_axis(per_channel("input_scale", o.input_scale, geometry.channels, "C", z.dtype), z)
    return z


def _checked(x: jax.Array, w: jax.Array, geometry: Geometry, o: Options) -> Case:
    """The case that the options ask for, once all of them are right."""
    left, right = readings(o.mode, tuple(READINGS))
    check_pad_value(o.pad_value, o.mode)
    if left is not None:
        check_known_size(geometry)
    check_quantizer("input_quantizer", o.input_quantizer, left)
    check_quantizer("kernel_quantizer", o.kernel_quantizer, right)
    check_flag("beta_scaling", o.beta_scaling)
    check_activation(o.activation)
    if jnp.issubdtype(x.dtype, jnp.integer):
        _check_pixels(x.dtype, o)
    wide = o.input_bias is not None or o.input_scale is not None
    real = np.dtype(at_least_float32(x.dtype) if wide else x.dtype)
    case = Case(geometry, real if left is None else left, right, o.pad_value)
    check_case(o.implementation, case)
    return case


def _check_pixels(dtype: np.dtype, o: Options) -> None:
    """Pixels of 8 bits are convolved as they are."""
    given = {"input_bias": o.input_bias is not None, "input_scale": o.input_scale is not None}
    for name, is_given in (given | {"beta_scaling": bool(o.beta_scaling)}).items():
        if is_given:
            raise TypeError(f"`x` must be floating where `{name}` is given, but has dtype {dtype}")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if not (low <= o.pad_value <= high and o.pad_value == int(o.pad_value)):
        raise ValueError(f"`pad_value` must be an integer in [{low}, {high}] of {dtype} `x`, but was {o.pad_value!r}")
