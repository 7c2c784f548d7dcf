"""The operators' formula with JAX's float convolutions, whose gradient `jax.grad` takes: what jbnn's must equal.

A surrogate gradient is an expression too: value(x) + slope(x)·(x - stop_gradient(x)), value and slope held constant.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
from cases import BORDERS
from jax import lax
from oracle import assert_close

BORDERS = {**BORDERS, "binary_weights": (0, 0.5)}


def surrogate(value, slope):
    """A quantizer with one function's value and another one's as its slope."""

    def quantize(x):
        return lax.stop_gradient(value(x)) + lax.stop_gradient(slope(x)) * (x - lax.stop_gradient(x))

    return quantize


def sign(x):
    return jnp.where(x < 0, -1.0, 1.0)


def inside(clip):
    return lambda x: jnp.where(jnp.abs(x) <= clip, 1.0, 0.0)


straight_through = surrogate(sign, inside(1))


def halved(quantize):
    return lambda x: (quantize(x) + 1) / 2


def heaviside(x):
    return jnp.where(x > 0, 1.0, 0.0)


def float_conv(a, b, *, strides, pairs, spread, dilation, groups, pad_value):
    inner = [(0, 0, step - 1) for step in spread]
    outer = [(low, high, 0) for low, high in pairs]
    a = lax.pad(a, np.float32(0), [(0, 0, 0), *inner, (0, 0, 0)])
    a = lax.pad(a, np.float32(pad_value), [(0, 0, 0), *outer, (0, 0, 0)])
    axes = "XYZ"[: len(pairs)]
    layout = f"N{axes}C", f"{axes}IO", f"N{axes}C"
    return lax.conv_general_dilated(
        a, b, strides, "VALID", rhs_dilation=dilation, dimension_numbers=layout, feature_group_count=groups
    )


def box_mean(a, window, geometry):
    box = jnp.full((*window, 1, 1), 1 / math.prod(window))
    return float_conv(a, box, **{**geometry, "groups": 1, "pad_value": 0})


QUANTIZERS = {
    "xnor": (straight_through, straight_through),
    "and": (halved(straight_through), halved(straight_through)),
    "binary_weights": (lambda z: z, straight_through),
}


def expression(
    x,
    w,
    terms,
    geometry,
    mode="xnor",
    *,
    quantizers=None,
    beta_scaling=False,
    activation=lambda v: v,
    dtype=jnp.float32,
):
    """The operator's formula, in float32. `geometry` is float_conv's, or None for a dense layer."""
    quantize_input, quantize_kernel = quantizers or QUANTIZERS[mode]

    def term(name, default):
        """A number, or one for each channel: on the last axis."""
        value = jnp.asarray(terms.get(name, default)).astype(jnp.float32)
        return value.reshape((1,) * (x.ndim - value.ndim) + value.shape)

    z = (x.astype(jnp.float32) + term("input_bias", 0)) * term("input_scale", 1)
    a, b = quantize_input(z), quantize_kernel(w.astype(jnp.float32))
    v = (a @ b if geometry is None else float_conv(a, b, **geometry)) * term("scale", 1)
    if beta_scaling:
        magnitude = jnp.abs(z).mean(-1, keepdims=True)
        v = v * (magnitude if geometry is None else box_mean(magnitude, w.shape[:-2], geometry))
    return activation(v + term("bias", 0)).astype(dtype)


def forward_geometry(case, pad_value):
    rank = len(case.window) - 1
    strides, dilation = oracle.per_axis(case.window_strides, rank), oracle.per_axis(case.rhs_dilation, rank)
    pairs = oracle.explicit_padding(case.padding, case.image[1:-1], case.window[:-1], strides, dilation)
    return {
        "strides": strides,
        "pairs": pairs,
        "spread": (1,) * rank,
        "dilation": dilation,
        "groups": case.feature_group_count,
        "pad_value": pad_value,
    }


def transposed_geometry(case, pad_value, grown=0):
    rank = len(case.window) - 1
    spread, dilation = oracle.per_axis(case.window_strides, rank), oracle.per_axis(case.rhs_dilation, rank)
    pairs = oracle.transposed_padding(case.padding, case.window[:-1], spread, dilation)
    return {
        **forward_geometry(case, pad_value),
        "strides": (1,) * rank,
        "pairs": [(low, high + grown) for low, high in pairs],
        "spread": spread,
    }


def round_numbers(shape, seed, values=(-2, -1, -0.5, -0.0, 0, 0.5, 1, 2)):
    """Numbers whose sums and products are exact, the quantizers' corners among them."""
    return np.random.default_rng(seed).choice(np.float32(values), shape)


def round_terms(channels, outputs):
    return {
        "input_bias": round_numbers(channels, 1, (-0.5, 0, 0.5, 1)),
        "input_scale": round_numbers(channels, 2, (-2, -1, 0.5, 1)),
        "scale": round_numbers(outputs, 3, (-1, 0.5, 1, 2)),
        "bias": round_numbers(outputs, 4, (-3, -0.5, 0, 2)),
    }


def gradients(function, *args):
    """The gradient in every argument, of whole cotangents."""
    y, pull_back = jax.vjp(function, *args)
    return pull_back(jnp.asarray(round_numbers(y.shape, 5, (-3, -2, -1, 0, 1, 2, 3)), y.dtype))


def assert_same_gradients(function, expected, *args):
    """Exactly: for round numbers, of which no sum or product needs rounding."""
    ours, theirs = jax.jit(lambda *args: [gradients(f, *args) for f in (function, expected)])(*args)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    chex.assert_trees_all_equal(ours, theirs)


def assert_close_gradients(function, expected, *args, tolerance=1e-5):
    ours, theirs = jax.jit(lambda *args: [gradients(f, *args) for f in (function, expected)])(*args)
    jax.tree.map(lambda y, e: assert_close(y, oracle.real(e), e.dtype, tolerance), ours, theirs)
