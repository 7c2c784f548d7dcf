"""Ordinary convolutions against NumPy: geometry, groups, channel multipliers, edges, the terms around the sum."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CASES, Case
from float_expression import round_numbers
from jax import lax
from numpy.testing import assert_array_equal
from oracle import assert_close

from jbnn import convolution
from jbnn.activations import relu

NUMPY_NAMES = {"zero": "constant", "constant": "constant", "clamp": "edge", "mirror": "reflect"}
NUMPY_NAMES["mirror_with_edge"] = "symmetric"


def numbers(case):
    """An image and a kernel whose sums are exact."""
    return round_numbers(case.image, 1), round_numbers(case.kernel, 2)


@pytest.mark.usefixtures("on_cpu")  # where JAX adds small numbers exactly
def test_every_geometry():
    """All in one program: compiling takes longer than computing."""
    operands = [numbers(case) for case in CASES]

    @jax.jit
    def conv(operands):
        return [convolution.conv(*args, **case.geometry) for args, case in zip(operands, CASES, strict=True)]

    for case, args, y in zip(CASES, operands, conv(operands), strict=True):
        expected = oracle.correlate(*map(oracle.real, args), **case.geometry)
        assert y.dtype == jnp.float32
        assert_array_equal(y, expected, err_msg=case.id)


MULTIPLIERS = [
    Case("multiplier 1", (2, 5, 4, 3), (3, 3, 1)),
    Case("multiplier 3", (2, 5, 4, 2), (3, 2, 3), window_strides=(2, 1), padding=((1, 2), (0, -1))),
    Case("3 channels to 12", (1, 5, 6, 3), (2, 3, 4), rhs_dilation=2),
    Case("1-D", (2, 9, 5), (4, 2), window_strides=3),
    Case("3-D", (1, 3, 4, 3, 3), (2, 1, 3, 2), padding="VALID"),
]


def test_any_channel_multiplier():
    """Output channel k·M + q reads input channel k alone."""

    def arguments(case):
        *window, multiplier = case.window
        return round_numbers(case.image, 1), round_numbers((*window, case.channels, multiplier), 2)

    def options(case):
        return {name: value for name, value in case.geometry.items() if name != "feature_group_count"}

    @jax.jit
    def depthwise(operands):
        return [
            convolution.depthwise_conv(x, w, **options(case))
            for (x, w), case in zip(operands, MULTIPLIERS, strict=True)
        ]

    operands = [arguments(case) for case in MULTIPLIERS]
    for case, (x, w), y in zip(MULTIPLIERS, operands, depthwise(operands), strict=True):
        for k in range(case.channels):
            for q in range(w.shape[-1]):
                one = oracle.correlate(x[..., [k]], w[..., [k], q, None], **options(case))
                assert_array_equal(y[..., k * w.shape[-1] + q], one[..., 0], err_msg=case.id)


EDGES = [
    Case("SAME", (2, 5, 4, 2), (3, 3, 2)),
    Case("SAME, strided, even window", (1, 7, 6, 3), (4, 2, 2), window_strides=2),
    Case("dilated", (1, 5, 4, 2), (3, 2, 3), rhs_dilation=(2, 3)),
    Case("cropped here, padded there", (2, 5, 6, 2), (3, 2, 2), padding=((-1, 3), (2, -2))),
    Case("further than the image", (1, 3, 2, 2), (2, 2, 2), padding=((5, 4), (3, 6))),
    Case("cropped past the image, padded after it", (1, 3, 4, 1), (2, 2, 1), padding=((-4, 4), (1, 1))),
    Case("one pixel", (2, 1, 1, 2), (3, 3, 2)),
    Case("groups, 1-D", (2, 5, 4), (3, 2), feature_group_count=2),
    Case("3-D", (1, 2, 3, 2, 2), (3, 2, 2, 2)),
    Case("empty batch", (0, 5, 4, 2), (3, 3, 2)),
]


@pytest.mark.parametrize("edge_mode", NUMPY_NAMES)
def test_edges(edge_mode):
    """The image as NumPy continues it, cropped, and then convolved without padding."""
    pad_value = -1.5 if edge_mode == "constant" else 0
    operands = [numbers(case) for case in EDGES]

    @jax.jit
    def conv(operands):
        options = {"edge_mode": edge_mode, "pad_value": pad_value}
        return [convolution.conv(*args, **case.geometry, **options) for args, case in zip(operands, EDGES, strict=True)]

    for case, (x, w), y in zip(EDGES, operands, conv(operands), strict=True):
        geometry = case.geometry
        per_axis = [oracle.per_axis(geometry[name], x.ndim - 2) for name in ("window_strides", "rhs_dilation")]
        pairs = oracle.explicit_padding(geometry["padding"], x.shape[1:-1], w.shape[:-2], *per_axis)
        grown = [(0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in pairs), (0, 0)]
        constant = {"constant_values": pad_value} if NUMPY_NAMES[edge_mode] == "constant" else {}
        wide = np.pad(x, grown, mode=NUMPY_NAMES[edge_mode], **constant)
        cropped = oracle.bordered(wide, [(min(lo, 0), min(hi, 0)) for lo, hi in pairs], 0)
        expected = oracle.correlate(cropped, w, **{**geometry, "padding": "VALID"})
        assert_array_equal(y, expected, err_msg=case.id)


@pytest.mark.parametrize("bias", [np.float32([1, -2, 0.5]), -1.5, np.array(2)], ids=lambda b: str(np.shape(b)))
def test_bias_and_activation(bias):
    x, w = round_numbers((2, 4, 3, 2), 1), round_numbers((3, 3, 2, 3), 2)
    y = jax.jit(lambda x, w, b: convolution.conv(x, w, bias=b, activation=functools.partial(relu, a=0.5)))(x, w, bias)
    v = oracle.correlate(x, w) + bias
    assert_array_equal(y, np.where(v < 0, v / 2, v))


@pytest.mark.parametrize("bias", [None, np.float32([1, -2, 0.5])], ids=["no bias", "bias"])
def test_dense(bias):
    x, w = round_numbers((2, 3, 5), 1), round_numbers((5, 3), 2)
    for rows in (x, x[0], x[0, 0], x[:0]):
        y = convolution.dense(rows, w, bias=bias, activation=jnp.abs)
        assert_array_equal(y, np.abs(rows @ w + (0 if bias is None else bias)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("of", ["conv", "depthwise_conv", "conv_transpose", "dense"])
def test_accumulating_in_float32(of, dtype):
    """`preferred_element_type` is the dtype of the sum and of the result; without it both are those of x."""
    rng = np.random.default_rng(0)
    shape = {"conv": (3, 3, 4, 6), "conv_transpose": (3, 3, 4, 6), "depthwise_conv": (3, 3, 4, 2), "dense": (4, 6)}[of]
    x, w, b = (jnp.asarray(rng.standard_normal(s), dtype) for s in ((2, 5, 5, 4), shape, shape[-1:]))
    b = b if of != "depthwise_conv" else jnp.zeros((8,), dtype)
    function = getattr(convolution, of)
    wide = function(x, w, bias=b, preferred_element_type=jnp.float32)
    narrow = function(x, w, bias=b)
    exact = function(*(operand.astype(jnp.float32) for operand in (x, w)), bias=b)
    assert (wide.dtype, narrow.dtype) == (jnp.float32, dtype)
    assert_close(wide, oracle.real(exact))
    assert_close(narrow, oracle.real(exact), dtype, 0.02)
    gradients = jax.grad(lambda *args: function(*args, preferred_element_type=jnp.float32).sum(), (0, 1))(x, w)
    assert [g.dtype for g in gradients] == [dtype] * 2


def test_bias_and_activation_are_evaluated_in_float32():
    """1 + 2^-9 is no bfloat16: added and squared in bfloat16 the bias would be lost."""
    x, w = jnp.ones((1, 1, 1), jnp.bfloat16), jnp.ones((1, 1, 1), jnp.bfloat16)
    y = convolution.conv(x, w, bias=jnp.float32(2**-9), activation=lambda v: (v - 1) * 512)
    assert y.dtype == jnp.bfloat16
    assert_array_equal(oracle.real(y), np.ones((1, 1, 1)))


@pytest.mark.parametrize("depth", [1, 3])
def test_narrow_groups_are_not_summed_in_their_own_dtype(depth):
    """256 + 16 has a bfloat16, but 256 + 1 has not: added one by one, the 16 would be lost."""
    x = jnp.zeros((1, 17, 2 * depth), jnp.bfloat16).at[:, :, ::depth].set(1).at[:, 0, ::depth].set(256)
    y = convolution.conv(x, jnp.ones((17, depth, 2), jnp.bfloat16), padding="VALID", feature_group_count=2)
    assert_array_equal(oracle.real(y), np.full((1, 1, 2), 272))


@pytest.mark.parametrize("precision", ["high", lax.Precision.HIGH, None])
def test_precision_reaches_lax(precision):
    x, w = jnp.ones((1, 3, 2)), jnp.ones((2, 2, 1))
    for function, args in ((convolution.conv, (x, w)), (convolution.dense, (x, w[0]))):
        text = str(jax.make_jaxpr(functools.partial(function, precision=precision))(*args))
        assert bool(re.search(r"HIGH\b", text)) == (precision is not None)


@pytest.mark.usefixtures("x64")
def test_float64():
    x, w = (np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate([(1, 4, 2), (2, 2, 3)]))
    for edge_mode in "zero", "mirror":
        assert convolution.conv(x, w, bias=np.ones(3), edge_mode=edge_mode).dtype == jnp.float64
    assert_close(convolution.conv(x, w), oracle.correlate(x, w), np.float64, 1e-12)


def test_thin_over_lax():
    """One convolution and nothing else, where nothing else is asked for."""
    x, w = jnp.ones((2, 5, 4, 6)), jnp.ones((3, 3, 6, 4))
    for options in ({}, {"window_strides": 2, "padding": ((1, -1), (0, 2)), "rhs_dilation": 2}):
        equations = jax.make_jaxpr(functools.partial(convolution.conv, **options))(x, w).eqns
        while len(equations) == 1 and "jaxpr" in equations[0].params:  # a program inside the program
            equations = equations[0].params["jaxpr"].eqns
        assert [equation.primitive.name for equation in equations] == ["conv_general_dilated"]
    assert str(jax.make_jaxpr(convolution.dense)(x[0, 0], w[0, 0])).count("dot_general") == 1


def test_any_order_and_both_modes_of_differentiation():
    x, w = jnp.asarray(round_numbers((1, 4, 2), 1)), jnp.asarray(round_numbers((3, 2, 2), 2))

    def total(x):
        return (convolution.conv(x, w, edge_mode="mirror", activation=jnp.square) ** 2).sum()

    along = jnp.ones_like(x)
    slope, bend = jax.jvp(jax.jit(jax.grad(total)), (x,), (along,))
    chex.assert_trees_all_close(jax.jvp(total, (x,), (along,))[1], (slope * along).sum(), rtol=1e-5)
    assert bend.shape == x.shape and bool(jnp.any(bend != 0))
