"""Quantizers: values and surrogate gradients against their formulas, restated one number at a time in float64."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from residuals import kept

import jbnn
from jbnn.quantizers import (
    approx_sign,
    dorefa,
    identity,
    magnitude_aware_sign,
    ste_heaviside,
    ste_sign,
    ste_tern,
    swish_sign,
)

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def sign(x):
    return -1.0 if x < 0 else 1.0


def heaviside(x):
    return 1.0 if x > 0 else 0.0


def ternary(threshold):
    return lambda x: sign(x) if abs(x) >= threshold else 0.0


def inside(clip):
    return lambda x: float(abs(x) <= clip)


def signed_swish(beta):
    """The derivative of 2·sigmoid(beta·x)·(1 + beta·x·(1 - sigmoid(beta·x))) - 1."""

    def slope(x):
        y = beta * x
        return 0.0 if abs(y) > 700 else beta * (2 - y * math.tanh(y / 2)) / (1 + math.cosh(y))

    return slope


class Estimator(NamedTuple):
    """A quantizer of single numbers, its value and its slope, and how close the slope can come."""

    id: str
    quantizer: Callable
    value: Callable[[float], float]
    slope: Callable[[float], float]
    steepness: float = 0.0


ESTIMATORS = [
    Estimator("ste_sign", ste_sign, sign, inside(1)),
    Estimator("ste_sign, clip 1.25", partial(ste_sign, clip=1.25), sign, inside(1.25)),
    Estimator("ste_sign, no clip", partial(ste_sign, clip=None), sign, inside(math.inf)),
    Estimator("approx_sign", approx_sign, sign, lambda x: max(2 - 2 * abs(x), 0.0), 2),
    Estimator("swish_sign", swish_sign, sign, signed_swish(5), 5),
    Estimator("swish_sign, beta 1", partial(swish_sign, beta=1.0), sign, signed_swish(1), 1),
    Estimator("ste_heaviside", ste_heaviside, heaviside, inside(1)),
    Estimator("ste_heaviside, clip 0.5", partial(ste_heaviside, clip=0.5), heaviside, inside(0.5)),
    Estimator("ste_heaviside, no clip", partial(ste_heaviside, clip=None), heaviside, inside(math.inf)),
    Estimator("ste_tern", ste_tern, ternary(0.05), inside(1)),
    Estimator("ste_tern, 0.25", partial(ste_tern, threshold=0.25), ternary(0.25), inside(1)),
    Estimator("ste_tern, clip 0.5", partial(ste_tern, clip=0.5), ternary(0.05), inside(0.5)),
    Estimator("ste_tern, no clip", partial(ste_tern, clip=None), ternary(0.05), inside(math.inf)),
    Estimator("dorefa", dorefa, lambda x: round(3 * min(max(x, 0), 1)) / 3, lambda x: float(0 <= x <= 1)),
    Estimator("identity", identity, lambda x: x, lambda x: 1.0),
]

each_estimator = pytest.mark.parametrize("case", ESTIMATORS, ids=lambda case: case.id)


def points(dtype):
    """Every place where a slope or value jumps, its neighbours on either side, and the far ends, of both signs."""
    info = jnp.finfo(dtype)
    edges = np.array([0.25, 0.5, 1, 1.25], dtype)
    neighbours = [np.nextafter(edges, np.array(toward, dtype)) for toward in (0, math.inf)]
    others = np.array([0, 0.01, 0.07, 0.3, 0.9, 1.6, 3, 20, float(info.tiny), float(info.max), math.inf], dtype)
    positive = np.concatenate([edges, *neighbours, others])
    return np.concatenate([positive, -positive])


def cotangents(like):
    """Powers of two of either sign, by which to multiply is exact."""
    i = np.arange(like.size).reshape(like.shape)
    return ((-1.0) ** i * 2.0 ** (i % 5 - 2)).astype(like.dtype)


def value_and_gradient(quantizer, x):
    @jax.jit
    def run(x, g):
        value, pull_back = jax.vjp(quantizer, x)
        return value, *pull_back(g)

    value, gradient = run(x, cotangents(x))
    assert value.dtype == gradient.dtype == x.dtype
    assert value.shape == gradient.shape == x.shape
    return np.asarray(value), np.asarray(gradient)


@each_dtype
@each_estimator
def test_values_and_gradients(case, dtype):
    x = points(dtype)
    value, gradient = value_and_gradient(case.quantizer, x)
    exact = x.astype(np.float64)
    assert_array_equal(value, np.vectorize(case.value)(exact).astype(dtype))
    slopes = gradient.astype(np.float64) / cotangents(x).astype(np.float64)
    tolerance = 8 * case.steepness * float(jnp.finfo(dtype).eps)
    assert_allclose(slopes, np.vectorize(case.slope)(exact), rtol=0, atol=tolerance)


@each_estimator
def test_of_single_numbers(case):
    x = points(jnp.float32)
    together, one_by_one = value_and_gradient(case.quantizer, x), value_and_gradient(jax.vmap(case.quantizer), x)
    assert_array_equal(one_by_one, together)


@each_estimator
def test_without_jit(case):
    x = points(jnp.float32)
    assert_array_equal(
        case.quantizer(jnp.asarray(x)), np.vectorize(case.value)(x.astype(np.float64)).astype(np.float32)
    )


@each_dtype
def test_the_threshold_is_the_nearest_number_of_the_type(dtype):
    t = np.array(0.05, dtype)
    below = np.nextafter(t, np.array(0, dtype))
    assert_array_equal(ste_tern(np.array([t, below, -t, -below])).astype(np.float32), [1, 0, -1, 0])


@each_dtype
def test_so_is_the_clip(dtype):
    clip = np.array(0.1, dtype)
    x = np.array([clip, np.nextafter(clip, np.array(1, dtype)), -clip])
    for quantizer in (ste_sign, ste_heaviside, ste_tern):
        _, gradient = value_and_gradient(partial(quantizer, clip=0.1), x)
        assert_array_equal(gradient, cotangents(x) * np.array([1, 0, 1], dtype))


MASKS = [ste_sign, ste_heaviside, ste_tern, dorefa]


def test_nan_is_plus_one_and_not_above_zero():
    x = np.float32([np.nan, -np.nan])
    for quantizer in (ste_sign, approx_sign, swish_sign):
        assert_array_equal(quantizer(x), [1, 1])
    assert_array_equal(ste_heaviside(x), [0, 0])
    for quantizer in (ste_sign, approx_sign, ste_heaviside):
        assert_array_equal(value_and_gradient(quantizer, x)[1], [0, 0])


@pytest.mark.parametrize("quantizer", [*MASKS, approx_sign], ids=lambda quantizer: quantizer.__name__)
def test_where_the_slope_is_zero_nothing_passes(quantizer):
    """Not even an infinity or a NaN from above, which a product with 0 would let through."""
    value, pull_back = jax.vjp(quantizer, jnp.array([-1.5, 0.5, 7.0, jnp.inf]))
    (gradient,) = pull_back(jnp.array([jnp.nan, 2.0, jnp.inf, jnp.nan], value.dtype))
    assert_array_equal(gradient[jnp.array([0, 2, 3])], [0, 0, 0])
    assert gradient[1] != 0


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_dorefa_activations(k):
    steps = 2**k - 1
    levels = np.float32([(i + offset) / steps for i in range(steps) for offset in (0, 0.25, 0.75)])
    x = np.concatenate([levels, np.float32([1, 1 + 2**-23, 5, -(2**-20), -3])])
    value, gradient = value_and_gradient(partial(dorefa, k=k), x)
    assert_allclose(value, [round(steps * min(max(v, 0), 1)) / steps for v in x.tolist()], rtol=1e-6)
    assert len(set(value.tolist())) == steps + 1
    assert_array_equal(gradient, cotangents(x) * ((x >= 0) & (x <= 1)))


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_dorefa_weights(k):
    """q = 2·round(n·y) / n - 1 with y = tanh(x) / (2m) + 1/2, where neither round nor m has a slope of its own."""
    x, steps = np.linspace(-2.03, 1.5, 49, dtype=np.float32).reshape(7, 7), 2**k - 1
    value, gradient = value_and_gradient(partial(dorefa, k=k, mode="weights"), x)
    t = np.tanh(x.astype(np.float64))
    m = np.abs(t).max()
    assert_allclose(value, 2 * np.round(steps * (t / (2 * m) + 0.5)) / steps - 1, rtol=0, atol=1e-6)
    assert_allclose(gradient, cotangents(x) * (1 - t**2) / m, rtol=1e-5)


def test_dorefa_of_weights_that_are_all_zero():
    value, gradient = value_and_gradient(partial(dorefa, k=2, mode="weights"), np.zeros(3, np.float32))
    assert_allclose(value, [2 * 2 / 3 - 1] * 3, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("clip", [1.0, 0.5, None])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 5, 4)], ids=str)
def test_magnitude_aware_sign(shape, clip):
    """s·sign(x), with s a constant for each index of the last axis."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.flat[:3] = 1, -1, 0
    value, gradient = value_and_gradient(partial(magnitude_aware_sign, clip=clip), x)
    s = np.abs(x.astype(np.float64)).reshape(-1, 4).mean(0)
    assert_allclose(value, s * np.vectorize(sign)(x), rtol=1e-6)
    assert_allclose(gradient, cotangents(x) * s * np.vectorize(inside(clip or math.inf))(x), rtol=1e-6)


def test_ternary_weight_networks_take_the_threshold_from_the_array():
    x = np.float32([[-2, -0.5, 0.25], [0.75, 1.5, -1]])
    t = 0.7 * (2 + 0.5 + 0.25 + 0.75 + 1.5 + 1) / 6  # 0.7 exactly: below 0.75, above 0.5
    value, gradient = value_and_gradient(partial(ste_tern, threshold=9, ternary_weight_networks=True), x)
    assert_array_equal(value, np.vectorize(lambda v: sign(v) * (abs(v) >= t))(x))
    assert_array_equal(gradient, cotangents(x) * (np.abs(x) <= 1))


WHOLE_ARRAY = [
    magnitude_aware_sign,
    partial(ste_tern, ternary_weight_networks=True),
    partial(dorefa, k=3, mode="weights"),
]


@pytest.mark.parametrize("quantizer", WHOLE_ARRAY, ids=["magnitude_aware_sign", "ste_tern", "dorefa"])
def test_an_example_of_a_batch_is_quantized_by_itself(quantizer):
    x = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)
    batched = jax.jit(jax.vmap(jax.grad(lambda x: (quantizer(x) * cotangents(x)).sum()), in_axes=1))(x)
    alone = [jax.grad(lambda x: (quantizer(x) * cotangents(x)).sum())(x[:, i]) for i in range(4)]
    assert_allclose(batched, alone, rtol=1e-5)
    assert_allclose(jax.vmap(quantizer)(x), [quantizer(v) for v in x], rtol=1e-5)


@each_dtype
@pytest.mark.parametrize("quantizer", MASKS, ids=lambda quantizer: quantizer.__name__)
def test_the_residual_is_one_bit_an_element(quantizer, dtype):
    (words,) = kept(quantizer, jnp.ones((6, 5, 33), dtype))
    assert words.dtype == jnp.uint32
    assert words.size == 6 * 5 * 2  # 33 bits are two words


def test_without_a_mask_there_is_no_residual():
    for quantizer in (partial(ste_sign, clip=None), partial(ste_heaviside, clip=None), identity):
        assert not kept(quantizer, jnp.ones((6, 33)))


ALL = [ste_sign, approx_sign, swish_sign, magnitude_aware_sign, ste_heaviside, ste_tern, dorefa, WHOLE_ARRAY[2]]
NAMES = [quantizer.__name__ for quantizer in ALL[:-1]] + ["dorefa, weights"]

every_quantizer = pytest.mark.parametrize("quantizer", ALL, ids=NAMES)


@every_quantizer
def test_empty_arrays(quantizer):
    value, gradient = value_and_gradient(quantizer, np.zeros((0, 3), np.float32))
    assert value.size == gradient.size == 0


@every_quantizer
def test_forward_mode_is_refused(quantizer):
    with pytest.raises(TypeError, match=r"forward-mode.*custom_vjp"):
        jax.jvp(quantizer, (jnp.ones(3),), (jnp.ones(3),))


@every_quantizer
def test_second_derivatives_are_refused(quantizer):
    def slope(x):
        return jax.grad(lambda x: jnp.square(quantizer(x)).sum())(x)

    with pytest.raises(TypeError, match="can be differentiated once"):
        jax.jacrev(slope)(jnp.ones(3))


@every_quantizer
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32, jnp.bool_, jnp.complex64], ids=lambda dtype: dtype.__name__)
def test_only_floats_are_quantized(quantizer, dtype):
    with pytest.raises(TypeError, match=f"`x` must have dtype float32, .*but has dtype {np.dtype(dtype).name}"):
        quantizer(jnp.ones(3, dtype))


@pytest.mark.parametrize(
    "quantizer", [ste_sign, magnitude_aware_sign, ste_heaviside, ste_tern], ids=lambda quantizer: quantizer.__name__
)
@pytest.mark.parametrize("clip", [0, -1.0, math.nan])
def test_a_clip_that_is_not_positive_is_refused(quantizer, clip):
    with pytest.raises(ValueError, match=f"`clip` must be positive or None, but was {clip}"):
        quantizer(jnp.ones(3), clip=clip)


def test_other_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`threshold` must not be negative, but was -0\.5"):
        ste_tern(jnp.ones(3), threshold=-0.5)
    for k in (2.0, "2"):
        with pytest.raises(TypeError, match=f"`k` must be an integer, but was {k!r}"):
            dorefa(jnp.ones(3), k)
    for k in (0, -1, 25):
        with pytest.raises(ValueError, match=rf"`k` must lie in \[1, 24\], .* but was {k}"):
            dorefa(jnp.ones(3), k)
    with pytest.raises(ValueError, match='`mode` must be "activations" or "weights", but was \'gradients\''):
        dorefa(jnp.ones(3), mode="gradients")
    with pytest.raises(ValueError, match=r"`x` must have at least one axis.*\(\)"):
        magnitude_aware_sign(jnp.array(1.0))


@every_quantizer
@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fnuz, jnp.float8_e5m2, jnp.float8_e4m3fn], ids=str)
def test_floats_of_8_bits_are_refused(quantizer, dtype):
    """Some have no -0, others no infinity: their signs would be wrong."""
    with pytest.raises(TypeError, match=r"`x` must .*float8"):
        quantizer(jnp.ones(3, dtype))


def test_float64_that_jax_would_narrow_is_refused():
    with pytest.raises(TypeError, match=r"`x` must .*float64"):
        ste_sign(np.array([-1e-60]))


def test_ternary_of_nan_infinity_and_subnormals():
    assert_array_equal(ste_tern(np.float32([-1e-40, np.nan, 1e-40, -0.0]), 0.0), [-1, 0, 1, 0])
    x = np.float32([1.0, np.inf, -np.inf, np.nan])
    assert_array_equal(ste_tern(x[:3], ternary_weight_networks=True), [0, 1, -1])
    assert_array_equal(ste_tern(x), [1, 1, -1, 0])


def test_ternary_weight_networks_is_a_truth_value():
    with pytest.raises(TypeError, match="`ternary_weight_networks` must be True or False, but was 'no'"):
        ste_tern(jnp.ones(3), ternary_weight_networks="no")


NUMBERS = {
    "clip": lambda x, n: ste_sign(x, n),
    "clip of a step": lambda x, n: ste_heaviside(x, n),
    "beta": swish_sign,
    "threshold": ste_tern,
    "clip of three": lambda x, n: ste_tern(x, clip=n),
    "clip of scaled": lambda x, n: magnitude_aware_sign(x, n),
}


@pytest.mark.parametrize("quantizer", NUMBERS.values(), ids=NUMBERS.keys())
def test_every_number_may_be_traced(quantizer):
    x, n = jnp.linspace(-2.0, 2.0, 9), jnp.float32(0.75)

    def total(x, n):
        return (quantizer(x, n) * (1 + jnp.arange(9.0))).sum()

    value, slope = total(x, 0.75), jax.grad(total)(x, 0.75)
    for wrapped in (total, jax.jit(total), jax.checkpoint(total)):
        assert_array_equal(wrapped(x, n), value)
        assert_array_equal(jax.grad(wrapped)(x, n), slope)
    _, slopes = jax.lax.scan(lambda c, n: (c, jax.grad(total)(x, n)), 0, n[None])
    assert_array_equal(slopes[0], slope)
    assert jax.grad(total, 1)(x, n) == 0  # a number of the surrogate has no gradient


def test_a_traced_temperature_as_a_kernel_quantizer():
    x, w = jnp.ones((2, 4)), jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)

    @jax.jit
    def slope(w, b):
        quantizer = partial(swish_sign, beta=b)
        return jax.grad(lambda w: jbnn.binary_dense(x, w, kernel_quantizer=quantizer).sum())(w)

    assert_allclose(slope(w, 3.0), 2 * jax.grad(lambda w: swish_sign(w, 3.0).sum())(w), rtol=1e-6)


def test_numbers_are_scalars_and_checked_where_they_are_known():
    for clip in (np.ones(4), jnp.ones((1, 1))):
        with pytest.raises(ValueError, match=r"`clip` must be a scalar, but has shape \("):
            ste_sign(jnp.ones(4), clip)
    with pytest.raises(ValueError, match=r"`clip` must be positive"):
        ste_sign(jnp.ones(4), jnp.float32(-1))


@every_quantizer
def test_nothing_is_sent_to_the_device(quantizer):
    x = jnp.ones((2, 3))
    with jax.transfer_guard("disallow"):
        _, pull_back = jax.vjp(quantizer, x)
        quantizer(x), pull_back(x)
