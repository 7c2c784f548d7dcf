"""Dtypes and values that arithmetic trips over: half and double precision, NaN, infinity, -0.0, subnormal numbers."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import named
from numpy.testing import assert_array_equal
from oracle import assert_close

import jbnn

OPERATORS = {
    "binary_conv": (jbnn.binary_conv, (2, 3, 3, 33), (2, 2, 33, 5)),
    "binary_dense": (jbnn.binary_dense, (2, 33), (33, 5)),
    "binary_conv_transpose": (jbnn.binary_conv_transpose, (2, 3, 3, 33), (2, 2, 33, 5)),
}
ORACLES = {name: getattr(oracle, name) for name in OPERATORS}
MODES = "xnor", "and", "binary_weights"

each_operator = pytest.mark.parametrize("name", OPERATORS)
each_mode = pytest.mark.parametrize("mode", MODES)


def normal(shape, seed, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def draw(name, dtype=np.float32):
    _, image, kernel = OPERATORS[name]
    terms = {"input_bias": 33, "input_scale": 33, "scale": 5, "bias": 5}
    return normal(image, 0, dtype), normal(kernel, 1, dtype), {t: normal(n, 2) for t, n in terms.items()}


@pytest.mark.parametrize("w_dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("x_dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_the_result_has_the_dtype_of_x(x_dtype, w_dtype):
    for operator, image, kernel in OPERATORS.values():
        for w in (jnp.ones(kernel, w_dtype), jbnn.pack(jnp.ones(kernel, w_dtype), axis=-2)):
            for options in ({}, {"beta_scaling": True, "scale": np.float32(2)}, {"mode": "binary_weights"}):
                result = jax.eval_shape(partial(operator, **options), jnp.ones(image, x_dtype), w)
                assert result.dtype == x_dtype and not result.weak_type


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
@each_operator
def test_half_precision_is_computed_in_float32_and_rounded_once(name, dtype):
    """Terms that are powers of two and halves leave the float32 result exact, wherever it is rounded."""
    x, w, _ = draw(name, dtype)
    terms = {"scale": np.float32([0.5, -1, 2, 0.25, 4]), "bias": np.float32([0.125, 100, 0, -7.5, 3])}
    y = jax.jit(OPERATORS[name][0])(x, w, **terms)
    assert_array_equal(y, ORACLES[name](x, w, **terms).astype(dtype))


def test_the_input_affine_is_not_rounded_to_half_precision():
    """1 + 2^-10 is 1 in bfloat16, and 1 - (1 + 2^-10) would lose its sign."""
    x, one = jnp.ones((1, 1), jnp.bfloat16), jnp.ones((1, 1), jnp.bfloat16)
    assert jbnn.binary_dense(x, one, input_bias=np.float32(-1 - 2**-10)) == -1
    assert jbnn.binary_dense(x, one, input_bias=np.float32(-1 + 2**-10)) == 1
    assert (
        jbnn.binary_dense(x, one, mode="binary_weights", input_bias=np.float32(2**-10), scale=2.0**10, bias=-(2.0**10))
        == 1
    )


def test_beta_is_not_rounded_to_half_precision():
    """(256 + 255·1) / 256 needs nine bits, one more than bfloat16 has; 256 times that, less 511, shows the last."""
    x = jnp.array([[256.0] + [1.0] * 255], jnp.bfloat16)
    y = jbnn.binary_dense(x, jnp.ones((256, 1), jnp.bfloat16), beta_scaling=True, bias=-511.0 + 1 / 8)
    assert y == 1 / 8


@pytest.mark.usefixtures("x64")
@each_mode
@each_operator
def test_double_precision(name, mode):
    x, w, terms = draw(name, np.float64)
    terms = {term: value.astype(np.float64) / 3 for term, value in terms.items()}
    y = jax.jit(partial(OPERATORS[name][0], mode=mode, beta_scaling=True))(x, w, **terms)
    assert_close(y, ORACLES[name](x, w, mode=mode, beta_scaling=True, **terms), jnp.float64, 1e-13)


@pytest.mark.usefixtures("x64")
def test_double_precision_gradients():
    """1 - tanh(x)² to fifteen digits, through a closure of the test's own."""
    x, w, _ = draw("binary_dense", np.float64)
    scale = np.linspace(0.1, 0.9, 5)
    gradient = jax.grad(lambda s: jnp.tanh(jbnn.binary_dense(x, w, scale=s, beta_scaling=True)).sum())(scale)
    sums = oracle.binary_dense(x, w) * np.abs(x).mean(-1, keepdims=True)
    assert_close(gradient, ((1 - np.tanh(sums * scale) ** 2) * sums).sum(0), jnp.float64, 1e-13)


@each_operator
def test_single_precision_is_the_same_with_x64(name, request):
    x, w, terms = draw(name)
    run = jax.jit(lambda x, w, terms: OPERATORS[name][0](x, w, beta_scaling=True, **terms))
    before = np.asarray(run(x, w, terms))
    request.getfixturevalue("x64")
    after = run(x, w, terms)
    assert after.dtype == jnp.float32
    assert_array_equal(after, before)


@pytest.mark.usefixtures("x64")
def test_counts_are_int32_with_x64_too():
    x, w, _ = draw("binary_conv")
    words = oracle.pack(x), oracle.pack(w, axis=-2)
    u = jbnn.packed_conv(*words, channels=33)
    assert u.dtype == jnp.int32
    assert_array_equal(u, oracle.accumulate(x, w))
    assert jbnn.pack(x).dtype == jbnn.population_count(words[0]).dtype == jnp.uint32
    assert jbnn.unpack(words[0], 33).dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_a_double_is_not_rounded_before_its_sign():
    tiny = 1e-300
    one = np.ones((1, 1))
    assert jbnn.binary_dense(-tiny * one, one) == -1
    assert jbnn.binary_dense(one, -tiny * one) == -1
    assert jbnn.binary_dense(one.astype(np.float32), -tiny * one) == -1
    assert jbnn.binary_dense(one, one, input_bias=-1 - 2**-50) == -1


def test_hostile_bits():
    """What is +1: everything but numbers below zero."""
    info = jnp.finfo(jnp.float32)
    plus = [0.0, -0.0, math.nan, -math.nan, math.inf, float(info.smallest_subnormal), float(info.max)]
    minus = [-math.inf, -float(info.smallest_subnormal), -float(info.tiny), -float(info.max)]
    for values, expected in [(plus, 1), (minus, -1)]:
        x, one = np.float32(values)[:, None], np.ones((1, 1), np.float32)
        assert_array_equal(jax.jit(jbnn.binary_dense)(x, one), np.full_like(x, expected))
        assert_array_equal(jax.jit(jbnn.binary_dense)(one, x.T), np.full_like(x.T, expected))
        assert_array_equal(jbnn.binary_dense(x, one, mode="and"), np.full_like(x, (expected + 1) / 2))


@pytest.mark.parametrize("hostile", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("mode", ["xnor", "and"])
def test_a_hostile_activation_harms_only_beta_and_only_its_windows(hostile, mode):
    (case,) = named("33 channels")
    x, w = case.draw()
    x[0, 0, 0, 5] = hostile
    assert_array_equal(jbnn.binary_conv(x, w, mode=mode), oracle.binary_conv(x, w, mode=mode))
    y = np.asarray(jbnn.binary_conv(x, w, mode=mode, beta_scaling=True))
    near = np.zeros(y.shape[:-1], bool)
    near[0, :2, :2] = True  # the 3×3 windows that see pixel (0, 0)
    assert np.isfinite(y[~near]).all()
    assert not np.isfinite(y[near]).any()
    gradient = jax.grad(lambda w: jbnn.binary_conv(x, w, mode=mode).sum())(w)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("term", ["scale", "bias"])
def test_a_hostile_term_harms_only_its_channel(term):
    x, w = normal((3, 33), 0), normal((33, 4), 1)
    values = np.float32([1, math.nan, 1, math.inf])
    y = jax.jit(lambda v: jbnn.binary_dense(x, w, **{term: v}))(values)
    u = oracle.binary_dense(x, w)
    assert_array_equal(y, u * values if term == "scale" else u + values)


def test_a_kernel_s_nan_is_a_sign_but_reaches_alpha():
    w = np.float32([[1, math.nan], [-1, -1]])
    assert_array_equal(jbnn.binary_dense(jnp.ones((1, 2)), w), [[1 - 1, 1 - 1]])
    assert_array_equal(jbnn.alpha(w), [1, math.nan])


@each_operator
def test_numpy_arrays_lists_and_jax_arrays_are_the_same(name):
    x, w, terms = draw(name)
    operator = OPERATORS[name][0]
    expected = operator(jnp.asarray(x), jnp.asarray(w), **{t: jnp.asarray(v) for t, v in terms.items()})
    assert isinstance(expected, jax.Array)
    assert_array_equal(operator(x, w, **terms), expected)
    assert_array_equal(operator(x, oracle.pack(w, axis=-2), **terms), expected)
    assert_array_equal(operator(np.asfortranarray(x), w[..., ::-1][..., ::-1], **terms), expected)


@pytest.mark.parametrize(
    "scalar", [int, float, np.int32, np.float64, jnp.bfloat16, jnp.asarray], ids=lambda f: f.__name__
)
def test_scalars_of_every_kind(scalar):
    x, w = normal((3, 33), 0), normal((33, 4), 1)
    terms = {"input_bias": 1, "input_scale": -2, "scale": 3, "bias": 4}
    y = jbnn.binary_dense(x, w, **{name: scalar(value) for name, value in terms.items()})
    assert_array_equal(y, oracle.binary_dense(x, w, **terms))
    assert y.dtype == jnp.float32


def test_weak_scalars_leave_the_result_strong():
    """A Python number somewhere neither promotes nor retraces what comes after."""
    weak = jnp.asarray(0.5)
    assert weak.weak_type
    x, w = normal((3, 33), 0), normal((33, 4), 1)
    for options in ({"scale": 0.5}, {"bias": weak}, {"input_scale": weak}, {"activation": lambda y: y * 2.0}):
        y = jbnn.binary_dense(x, w, **options)
        assert y.dtype == jnp.float32 and not y.weak_type


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32], ids=lambda dtype: dtype.__name__)
def test_alpha_has_the_dtype_of_the_kernel(dtype):
    w = normal((3, 3, 40, 6), 0).astype(dtype)
    result = jax.jit(jbnn.alpha)(w)
    exact = np.abs(oracle.real(w)).mean((0, 1, 2))
    assert_close(result, exact, dtype, 4 * float(jnp.finfo(dtype).eps))
