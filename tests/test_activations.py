"""MPS's neurons: values and slopes against their formulas, restated one number at a time in float64."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jbnn
from jbnn import activations


def exp(x):
    return math.exp(min(x, 700.0))


def sigmoid(x):
    return 1 / (1 + exp(-x))


def normal_cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def normal_pdf(x):
    return exp(-x * x / 2) / math.sqrt(2 * math.pi)


class Neuron(NamedTuple):
    """A function of single numbers, with the formula of its value and of its slope."""

    id: str
    function: Callable
    value: Callable[[float], float]
    slope: Callable[[float], float]
    points: tuple = (-30, -6, -3, -2, -1.25, -1, -0.5, -0.125, 0, 0.125, 0.5, 1, 1.5, 2, 3, 5.875, 6, 6.125, 30)


POSITIVE = 0.125, 0.5, 1, 2, 3.5, 30

NEURONS = [
    Neuron("none", activations.none, lambda x: x, lambda x: 1),
    Neuron("relu", activations.relu, lambda x: max(x, 0), lambda x: x >= 0),
    Neuron(
        "relu, a 0.25",
        partial(activations.relu, a=0.25),
        lambda x: x if x >= 0 else 0.25 * x,
        lambda x: 1 if x >= 0 else 0.25,
    ),
    Neuron("linear", partial(activations.linear, a=3, b=-1), lambda x: 3 * x - 1, lambda x: 3),
    Neuron("sigmoid", activations.sigmoid, sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    Neuron(
        "hard_sigmoid",
        activations.hard_sigmoid,
        lambda x: min(max(0.2 * x + 0.5, 0), 1),
        lambda x: 0.2 * (abs(x) < 2.5),
    ),
    Neuron(
        "hard_sigmoid, a 0.25",  # whose ramp ends at -2 and 2, without rounding
        partial(activations.hard_sigmoid, a=0.25),
        lambda x: min(max(0.25 * x + 0.5, 0), 1),
        lambda x: 0.25 if abs(x) <= 2 else 0,
    ),
    Neuron("tanh", activations.tanh, math.tanh, lambda x: 1 - math.tanh(x) ** 2),
    Neuron(
        "tanh, a 3, b 0.5",
        partial(activations.tanh, a=3, b=0.5),
        lambda x: 3 * math.tanh(x / 2),
        lambda x: 3 * 0.5 * (1 - math.tanh(x / 2) ** 2),
    ),
    Neuron("absolute", activations.absolute, abs, lambda x: (x > 0) - (x < 0)),
    Neuron("soft_plus", activations.soft_plus, lambda x: math.log1p(exp(x)), sigmoid),
    Neuron(
        "soft_plus, a 3, b 2",
        partial(activations.soft_plus, a=3, b=2),
        lambda x: 3 * math.log1p(exp(2 * x)),
        lambda x: 3 * 2 * sigmoid(2 * x),
    ),
    Neuron("soft_sign", activations.soft_sign, lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    Neuron("elu", activations.elu, lambda x: x if x >= 0 else math.expm1(x), lambda x: exp(min(x, 0))),
    Neuron(
        "elu, a 1.5",
        partial(activations.elu, a=1.5),
        lambda x: x if x >= 0 else 1.5 * math.expm1(x),
        lambda x: 1 if x >= 0 else 1.5 * exp(x),
    ),
    Neuron("relun, ReLU6", partial(activations.relun, a=0), lambda x: min(max(x, 0), 6), lambda x: 0 <= x < 6),
    Neuron(
        "relun, a 0.5, b 2",
        partial(activations.relun, a=0.5, b=2),
        lambda x: min(x if x >= 0 else 0.5 * x, 2),
        lambda x: 0 if x >= 2 else 1 if x >= 0 else 0.5,
    ),
    Neuron(
        "power, square",
        partial(activations.power, a=2, b=1, c=2),
        lambda x: (2 * x + 1) ** 2,
        lambda x: 4 * (2 * x + 1),
    ),
    Neuron("power, cube", partial(activations.power, a=1, b=0, c=3), lambda x: x**3, lambda x: 3 * x**2),
    Neuron(
        "power, root",
        partial(activations.power, a=2, b=1, c=0.5),
        lambda x: math.sqrt(2 * x + 1),
        lambda x: 1 / math.sqrt(2 * x + 1),
        POSITIVE,
    ),
    Neuron("power, line", partial(activations.power, a=-2, b=0, c=1), lambda x: -2 * x, lambda x: -2),
    Neuron("exponential", activations.exponential, exp, exp, (-80, -3, -1, 0, 0.5, 2)),
    Neuron(
        "exponential, base 2",
        partial(activations.exponential, a=2, b=1, c=2),
        lambda x: 2 ** (2 * x + 1),
        lambda x: 2 * math.log(2) * 2 ** (2 * x + 1),
        (-3, -1, 0, 0.5, 2),
    ),
    Neuron("logarithm", activations.logarithm, math.log, lambda x: 1 / x, POSITIVE),
    Neuron(
        "logarithm, base 10",
        partial(activations.logarithm, a=2, b=1, c=10),
        lambda x: math.log10(2 * x + 1),
        lambda x: 2 / ((2 * x + 1) * math.log(10)),
        POSITIVE,
    ),
    Neuron("gelu", activations.gelu, lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x)),
]

each_neuron = pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: neuron.id)


def value_and_slope(function, x):
    @jax.jit
    def run(x):
        value, pull_back = jax.vjp(function, x)
        return value, *pull_back(jnp.ones_like(value))

    value, slope = run(x)
    assert value.dtype == slope.dtype == x.dtype
    assert value.shape == slope.shape == x.shape
    return value.astype(jnp.float32), slope.astype(jnp.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
@each_neuron
def test_values_and_slopes(neuron, dtype):
    x = np.array(neuron.points, dtype)
    value, slope = value_and_slope(neuron.function, x)
    tolerance = 16 * float(jnp.finfo(dtype).eps)
    exact = x.astype(np.float64)
    assert_allclose(value, np.vectorize(neuron.value, otypes=[float])(exact), rtol=tolerance, atol=tolerance)
    assert_allclose(slope, np.vectorize(neuron.slope, otypes=[float])(exact), rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("x64")
@each_neuron
def test_in_double_precision(neuron):
    x = np.array(neuron.points, np.float64)
    y = neuron.function(x)
    assert y.dtype == jnp.float64
    assert_allclose(y, np.vectorize(neuron.value, otypes=[float])(x), rtol=1e-13, atol=1e-13)


def test_slopes_where_two_pieces_meet():
    """Exactly: the slope at a kink is a decision."""
    at = {
        activations.relu: (0, 1),
        partial(activations.relu, a=0.25): (-0.0, 1),
        partial(activations.prelu, a=jnp.array([0.25])): (0, 1),
        partial(activations.hard_sigmoid, a=0.25): (2, 0.25),
        partial(activations.hard_sigmoid, a=0.25, b=0.75): (-3, 0.25),
        activations.absolute: (0, 0),
        activations.elu: (0, 1),
        partial(activations.elu, a=3.0): (0, 1),
        partial(activations.relun, a=0.5): (0, 1),
        partial(activations.relun, a=0.5, b=2.0): (2, 0),
    }
    for function, (kink, slope) in at.items():
        assert value_and_slope(function, np.float32([kink]))[1] == slope, function


# The value and the slope far to the left, and far to the right.
ENDS = {
    activations.none: [(-math.inf, 1), (math.inf, 1)],
    activations.relu: [(0, 0), (math.inf, 1)],
    activations.sigmoid: [(0, 0), (1, 0)],
    activations.hard_sigmoid: [(0, 0), (1, 0)],
    activations.tanh: [(-1, 0), (1, 0)],
    activations.absolute: [(math.inf, -1), (math.inf, 1)],
    activations.soft_plus: [(0, 0), (math.inf, 1)],
    activations.elu: [(-1, 0), (math.inf, 1)],
    partial(activations.relun, a=0.0): [(0, 0), (6, 0)],
    activations.exponential: [(0, 0), (math.inf, math.inf)],
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("function", ENDS, ids=lambda function: getattr(function, "__name__", "relu6"))
def test_branches_that_are_not_taken_do_not_overflow_into_the_gradient(function, dtype):
    (left, slope_left), (right, slope_right) = ENDS[function]
    value, slope = value_and_slope(function, np.array([-math.inf, math.inf], dtype))
    assert_array_equal(value, [left, right])
    assert_array_equal(slope, [slope_left, slope_right])
    largest = float(jnp.finfo(dtype).max)
    _, slope = value_and_slope(function, np.array([-largest, -1e4, 1e4, largest], dtype))
    assert_array_equal(slope, [slope_left, slope_left, slope_right, slope_right])


def test_soft_sign_and_gelu_of_large_numbers():
    x = np.float32([-3e38, -1e4, 1e4, 3e38])
    for function, value, slope in [
        (activations.soft_sign, [-1, -1, 1, 1], [0, 0, 0, 0]),
        (activations.gelu, [0, 0, 1e4, 3e38], [0, 0, 1, 1]),
    ]:
        values, slopes = value_and_slope(function, x)
        assert_allclose(values, np.float32(value), rtol=1e-3)
        assert_allclose(slopes, slope, atol=1e-6)


def test_prelu_has_a_slope_for_each_channel():
    x = jnp.array([[-2.0, -4.0, 0.0], [3.0, -1.0, -6.0]])
    a = jnp.array([0.5, 0.25, -1.0])
    y, pull_back = jax.vjp(activations.prelu, x, a)
    assert_array_equal(y, [[-1, -1, 0], [3, -0.25, 6]])
    dx, da = pull_back(jnp.array([[1.0, 2, 3], [4, 5, 6]]))
    assert_array_equal(dx, [[0.5 * 1, 0.25 * 2, 3], [4, 0.25 * 5, -1 * 6]])
    assert_array_equal(da, [-2 * 1, -4 * 2 - 1 * 5, -6 * 6])


def test_parameters_may_be_trained():
    x = jnp.array([-2.0, 0.5, 4.0])
    gradients = jax.jit(
        lambda a, b: (
            jax.grad(lambda a: activations.relu(x, a).sum())(a),
            jax.grad(lambda a: activations.elu(x, a).sum())(a),
            jax.grad(lambda a, b: activations.linear(x, a, b).sum(), (0, 1))(a, b),
            jax.grad(lambda a, b: activations.relun(x, a, b).sum(), (0, 1))(a, b),
        )
    )(jnp.array(0.5), jnp.array(3.0))
    expected = -2, math.expm1(-2), (-2 + 0.5 + 4, 3), (-2, 1)
    jax.tree.map(partial(assert_allclose, rtol=1e-6), gradients, expected)


def test_parameters_do_not_widen_the_result():
    x = jnp.array([[-1.0, 2.0]], jnp.bfloat16)
    a, b = np.float32(0.5), np.float32(1)
    for y in (
        activations.relu(x, a),
        activations.prelu(x, jnp.array([0.5, 1.0])),
        activations.hard_sigmoid(x, a, b),
        activations.relun(x, a, b),
        activations.power(x, a, b, b),
        activations.exponential(x, a, b, 2.0),
    ):
        assert y.dtype == jnp.bfloat16


def test_each_is_an_activation_of_the_operator():
    x, w = jnp.array([[1.0, 1, 1, -1]]), jnp.array([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1]])
    sums = jnp.array([[2.0, 2, 4, 2]])
    assert_array_equal(jbnn.binary_dense(x, w), sums)

    @jax.jit
    def all_of_them(x):
        functions = [neuron.function for neuron in NEURONS]
        return [jbnn.binary_dense(x, w, activation=f) for f in functions], [f(sums) for f in functions]

    jax.tree.map(partial(assert_allclose, rtol=1e-6), *all_of_them(x))


EVERY = {name: getattr(activations, name) for name in activations.__all__}
REQUIRED = {"linear": (1, 0), "prelu": (np.ones(3, np.float32),), "relun": (0,), "power": (1, 0, 1)}


def test_every_neuron_is_tested():
    assert {neuron.id.split(",")[0] for neuron in NEURONS} | {"prelu"} == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_only_floats_have_activations(name):
    for x in (np.ones((2, 3), np.int32), np.ones((2, 3), bool), np.ones((2, 3), np.complex64)):
        with pytest.raises(TypeError, match=f"`x` must have dtype float32, .*but has dtype {x.dtype}"):
            EVERY[name](x, *REQUIRED.get(name, ()))


def test_parameters_out_of_range_are_refused():
    x = jnp.ones((2, 3))
    for a in (0.5, jnp.ones(2), jnp.ones((1, 3))):
        with pytest.raises(ValueError, match=r"`a` must have one slope for each channel, shape \(3,\), but has shape"):
            activations.prelu(x, a)
    for function in (activations.exponential, activations.logarithm):
        for c in (0.0, -2.0):
            with pytest.raises(ValueError, match=f"`c` must be a positive base, or -1 for e, but was {c}"):
                function(x, c=c)


def test_parameters_do_not_widen_the_shape():
    x = jnp.ones(3)
    for shape in ((2, 1), (4,), (1, 3)):
        with pytest.raises(ValueError, match=r"`a` must .*shape of `x`, \(3,\), but has shape"):
            activations.tanh(x, a=jnp.ones(shape))
    assert activations.tanh(jnp.ones((2, 3)), a=jnp.ones(3)).shape == (2, 3)


def test_limits_at_infinity():
    x = np.float32([-np.inf, np.inf])
    assert_array_equal(value_and_slope(activations.gelu, x), [[0, math.inf], [0, 1]])
    assert_array_equal(value_and_slope(activations.soft_sign, x), [[-1, 1], [0, 0]])


@pytest.mark.parametrize("function", [activations.exponential, activations.logarithm], ids=["exp", "log"])
def test_a_base_may_be_traced(function):
    x = jnp.array([0.5, 2.0, 3.0])
    for c in (-1.0, 2.0):
        assert_allclose(jax.jit(lambda c: function(x, c=c))(c), function(x, c=c), rtol=1e-6)
        slope = jax.jit(jax.grad(lambda x, c: function(x, c=c).sum()))(x, c)
        assert_allclose(slope, jax.grad(lambda x, c=c: function(x, c=c).sum())(x), rtol=1e-6)
        assert np.isfinite(jax.grad(lambda c: function(x, c=c).sum())(c))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in REQUIRED])
def test_nothing_is_sent_to_the_device(name):
    x = jnp.ones((2, 3))
    with jax.transfer_guard("disallow"):
        _, pull_back = jax.vjp(EVERY[name], x)
        EVERY[name](x), pull_back(x)
