"""Gradients of the operators, in every argument: `jax.grad` of the same expression in floats."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import Case, named, table
from float_expression import (
    BORDERS,
    assert_close_gradients,
    assert_same_gradients,
    expression,
    forward_geometry,
    halved,
    heaviside,
    inside,
    round_numbers,
    round_terms,
    sign,
    straight_through,
    surrogate,
    transposed_geometry,
)
from jax.nn import relu, relu6

import jbnn
from jbnn import activations
from jbnn.quantizers import approx_sign, identity, ste_heaviside, ste_sign, swish_sign

each_mode = pytest.mark.parametrize("mode", BORDERS)

EXACT = named(
    "one channel",
    "33 channels",
    "2x2 window, SAME",
    "4x4 window, SAME, stride 2",
    "window larger than the image, SAME",
    "stride larger than the window",
    "dilation and stride",
    "asymmetric padding",
    "cropped here, padded there",
    "4 groups of 25, strided",
    "depthwise with multiplier 2",
    "1-D, even, dilated, padded",
    "3-D, everything",
)


@each_mode
@pytest.mark.parametrize(
    "case", table(EXACT, "33 channels", "dilation and stride", "4 groups of 25, strided", "3-D, everything")
)
def test_of_a_convolution(case, mode):
    """In every argument, the border's values taking turns."""
    pad_value = BORDERS[mode][EXACT.index(case) % len(BORDERS[mode])]
    geometry = forward_geometry(case, pad_value)
    options = {"mode": mode, "pad_value": pad_value, "activation": relu, **case.geometry}
    assert_same_gradients(
        lambda x, w, terms: jbnn.binary_conv(x, w, **terms, **options),
        lambda x, w, terms: expression(x, w, terms, geometry, mode, activation=relu),
        round_numbers(case.image, 6),
        round_numbers(case.kernel, 7),
        round_terms(case.channels, case.window[-1]),
    )


@each_mode
def test_without_terms_and_with_scalar_ones(mode):
    (case,) = named("33 channels")
    x, w = round_numbers(case.image, 6), round_numbers(case.kernel, 7)
    geometry = forward_geometry(case, 0)
    for terms in ({}, {"input_bias": 0.5, "input_scale": -2.0, "scale": 0.5, "bias": -1.0}):
        terms = {name: jnp.array(value) for name, value in terms.items()}
        assert_same_gradients(
            lambda x, w, terms: jbnn.binary_conv(x, w, mode=mode, **terms, **case.geometry),
            lambda x, w, terms: expression(x, w, terms, geometry, mode),
            *(x, w, terms),
        )


@each_mode
@pytest.mark.parametrize(
    "case",
    named("33 channels", "dilation and stride", "cropped here, padded there", "4 groups of 25, strided", "1-D, groups"),
    ids=lambda case: case.id,
)
def test_through_beta_and_an_activation_that_closes_over_an_array(case, mode):
    pad_value = BORDERS[mode][-1]
    geometry = forward_geometry(case, pad_value)
    options = {"mode": mode, "pad_value": pad_value, "beta_scaling": True, **case.geometry}

    def bent(slopes):
        return lambda v: jnp.tanh(v / 8) * slopes.reshape((1,) * (v.ndim - 1) + slopes.shape)

    x, w = case.draw()
    terms, slopes = case.draw_terms(), np.linspace(-2, 2, case.window[-1], dtype=np.float32)
    assert_close_gradients(
        lambda x, w, terms, slopes: jbnn.binary_conv(x, w, activation=bent(slopes), **terms, **options),
        lambda x, w, terms, slopes: expression(x, w, terms, geometry, mode, beta_scaling=True, activation=bent(slopes)),
        *(x, w, terms, slopes),
        tolerance=3e-5,  # the slope of tanh is a difference of neighbours where it saturates
    )


def test_beta_has_the_slope_of_the_magnitude_at_zero_too():
    x = jnp.array([[-2.0, -0.0, 0.0, 2.0]])
    assert_same_gradients(
        lambda x: jbnn.binary_dense(x, jnp.ones((4, 1)), beta_scaling=True),
        lambda x: expression(x, jnp.ones((4, 1)), {}, None, "xnor", beta_scaling=True),
        x,
    )


@each_mode
@pytest.mark.parametrize("lead", [(), (3,), (2, 0), (2, 3)], ids=str)
def test_of_a_dense_layer(lead, mode):
    x, w = round_numbers((*lead, 33), 6), round_numbers((33, 5), 7)
    assert_same_gradients(
        lambda x, w, terms: jbnn.binary_dense(x, w, mode=mode, **terms),
        lambda x, w, terms: expression(x, w, terms, None, mode),
        *(x, w, round_terms(33, 5)),
    )
    assert_close_gradients(
        lambda x, w, terms: jbnn.binary_dense(x, w, mode=mode, beta_scaling=True, activation=jnp.sin, **terms),
        lambda x, w, terms: expression(x, w, terms, None, mode, beta_scaling=True, activation=jnp.sin),
        *(x + 0.25, w, round_terms(33, 5)),
    )


TRANSPOSED = [
    Case("stride 2", (2, 3, 4, 33), (3, 2, 4), window_strides=2),
    Case("VALID, dilated, stride beyond the window", (2, 3, 3, 20), (2, 2, 3), (4, 2), "VALID", (1, 2)),
    Case("explicit", (2, 3, 4, 6), (2, 3, 4), 2, ((2, -1), (-1, 3)), 1, 2),
    Case("1-D", (2, 5, 33), (4, 3), window_strides=3),
]


@each_mode
@pytest.mark.parametrize("case", TRANSPOSED, ids=lambda case: case.id)
def test_of_a_transposed_convolution(case, mode):
    pad_value = BORDERS[mode][-1]
    geometry = transposed_geometry(case, pad_value)
    options = {"mode": mode, "pad_value": pad_value, **case.geometry}
    x, w, terms = (
        round_numbers(case.image, 6),
        round_numbers(case.kernel, 7),
        round_terms(case.channels, case.window[-1]),
    )
    assert_same_gradients(
        lambda x, w, terms: jbnn.binary_conv_transpose(x, w, **terms, **options),
        lambda x, w, terms: expression(x, w, terms, geometry, mode),
        *(x, w, terms),
    )
    assert_close_gradients(
        lambda x, w, terms: jbnn.binary_conv_transpose(x, w, beta_scaling=True, **terms, **options),
        lambda x, w, terms: expression(x, w, terms, geometry, mode, beta_scaling=True),
        *(x + 0.25, w, terms),
    )


def test_of_the_rows_that_output_size_adds():
    (case,) = (case for case in TRANSPOSED if case.id == "1-D")
    assert_same_gradients(
        lambda x, w: jbnn.binary_conv_transpose(x, w, pad_value=-1, output_size=5 * 3 + 2, **case.geometry),
        lambda x, w: expression(x, w, {}, transposed_geometry(case, -1, grown=2), "xnor"),
        *(round_numbers(case.image, 6), round_numbers(case.kernel, 7)),
    )


def dense_arguments(channels=33, outputs=5):
    x, w = round_numbers((7, channels), 6), round_numbers((channels, outputs), 7)
    return x, w, round_terms(channels, outputs)


@pytest.mark.parametrize("name", ["input_bias", "input_scale", "scale", "bias"])
@pytest.mark.parametrize("options", [{}, {"activation": jnp.abs}], ids=["fused", "not fused"])
def test_of_one_argument_alone(name, options):
    x, w, terms = dense_arguments()
    rest = {other: value for other, value in terms.items() if other != name}
    assert_same_gradients(
        lambda value: jbnn.binary_dense(x, w, **{name: value}, **rest, **options),
        lambda value: expression(x, w, {name: value, **rest}, None, **options),
        terms[name],
    )


@pytest.mark.parametrize(
    "activation",
    [activations.none, activations.relu, relu, relu6, partial(activations.relun, a=0.25), jnp.square],
    ids=["none", "slope 1 at 0", "slope 0 at 0", "relu6", "relun", "square"],
)
def test_at_the_kinks_of_an_activation(activation):
    """Sums of six signs are even numbers from -6 to 6: they meet every kink."""
    x, w, _ = dense_arguments(6, 40)
    assert {0, 6} <= set(np.ravel(oracle.binary_dense(x, w)))
    assert_same_gradients(
        lambda x, w: jbnn.binary_dense(x, w, activation=activation),
        lambda x, w: expression(x, w, {}, None, activation=activation),
        *(x, w),
    )


def swish_slope(x):
    return 5 * (2 - 5 * x * jnp.tanh(5 * x / 2)) / (1 + jnp.cosh(5 * x))


own = surrogate(sign, lambda x: 1 - jnp.tanh(x) ** 2)

SURROGATES = {
    "approx_sign": (approx_sign, surrogate(sign, lambda x: jnp.maximum(2 - 2 * jnp.abs(x), 0.0))),
    "swish_sign": (swish_sign, surrogate(sign, swish_slope)),
    "clip 0.5": (partial(ste_sign, clip=0.5), surrogate(sign, inside(0.5))),
    "no clip": (partial(ste_sign, clip=None), surrogate(sign, jnp.ones_like)),
    "the caller's": (own, own),
}


@pytest.mark.parametrize("mode", ["xnor", "and"])
@pytest.mark.parametrize("quantizer, formula", SURROGATES.values(), ids=SURROGATES.keys())
def test_with_other_quantizers(quantizer, formula, mode):
    as_operand = halved if mode == "and" else lambda quantize: quantize
    for ours, theirs in [
        ({"input_quantizer": quantizer}, (formula, straight_through)),
        ({"kernel_quantizer": quantizer}, (straight_through, formula)),
    ]:
        theirs = tuple(map(as_operand, theirs))
        assert_close_gradients(
            lambda x, w, terms, ours=ours: jbnn.binary_dense(x, w, mode=mode, **ours, **terms),
            lambda x, w, terms, theirs=theirs: expression(x, w, terms, None, quantizers=theirs),
            *dense_arguments(),
        )


def test_with_the_unit_step_whose_value_is_the_bit():
    assert_same_gradients(
        lambda x, w, terms: jbnn.binary_dense(x, w, mode="and", input_quantizer=ste_heaviside, **terms),
        lambda x, w, terms: expression(
            x, w, terms, None, quantizers=(surrogate(heaviside, inside(1)), halved(straight_through))
        ),
        *dense_arguments(),
    )


def test_with_no_quantizer():
    """Of signs themselves, the convolution is JAX's, and so is its gradient."""
    (case,) = named("4 groups of 25, strided")
    a, b = (np.float32(oracle.sign(v)) for v in case.draw())
    unquantized = {"input_quantizer": identity, "kernel_quantizer": identity}
    assert_same_gradients(
        lambda a, b: jbnn.binary_conv(a, b, **unquantized, **case.geometry),
        lambda a, b: expression(a, b, {}, forward_geometry(case, 0), quantizers=(lambda a: a, lambda b: b)),
        *(a, b),
    )


def test_through_alpha():
    """XNOR-Net's kernel scale has a gradient of its own, unless it is stopped."""
    for keep in (lambda scale: scale, jax.lax.stop_gradient):
        assert_close_gradients(
            lambda x, w, keep=keep: jbnn.binary_dense(x, w, scale=keep(jbnn.alpha(w))),
            lambda x, w, keep=keep: expression(x, w, {"scale": keep(jnp.abs(w).mean(0))}, None),
            *dense_arguments()[:2],
        )


@pytest.mark.parametrize("pad_value", [0, -1])
@pytest.mark.parametrize("case", named("33 channels", "4 groups of 25, strided"), ids=lambda case: case.id)
def test_a_packed_kernel_gives_the_other_gradients(case, pad_value):
    x, w = round_numbers(case.image, 6), round_numbers(case.kernel, 7)
    terms = round_terms(case.channels, case.window[-1])
    words = oracle.pack(w, axis=-2)
    assert_same_gradients(
        lambda x, terms: jbnn.binary_conv(x, words, pad_value=pad_value, **terms, **case.geometry),
        lambda x, terms: expression(x, w, terms, forward_geometry(case, pad_value)),
        *(x, terms),
    )
    of_words = jax.grad(lambda words: jbnn.binary_conv(x, words, **case.geometry).sum(), allow_int=True)(words)
    assert of_words.dtype == jax.dtypes.float0 and of_words.shape == words.shape


@pytest.mark.parametrize(
    "x_dtype, w_dtype",
    [
        (jnp.bfloat16, jnp.bfloat16),
        (jnp.float16, jnp.float16),
        (jnp.float32, jnp.bfloat16),
        (jnp.bfloat16, jnp.float32),
    ],
    ids=lambda dtype: dtype.__name__,
)
def test_of_half_precision(x_dtype, w_dtype):
    """Computed in float32, and rounded once to the dtype of each argument."""
    x, w, terms = dense_arguments()
    terms["scale"] = terms["scale"].astype(w_dtype)
    for activation in (relu, jnp.square):
        assert_same_gradients(
            lambda x, w, terms, f=activation: jbnn.binary_dense(x, w, activation=f, **terms),
            lambda x, w, terms, f=activation: expression(x, w, terms, None, activation=f, dtype=x_dtype),
            *(x.astype(x_dtype), w.astype(w_dtype), terms),
        )
