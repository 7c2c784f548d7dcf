"""Every public function of arrays: the same under jit and without, and traced once for equal options."""

import ast
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from absl.testing import parameterized

import jbnn
from examples.calls import CALLS, NOT_A_COMPUTATION, firsts, public_names
from jbnn import convolution

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


X, W, Y = normal(2, 5, 4, 33), normal(3, 2, 33, 6), normal(2, 5, 4, 6)
VECTORS, MATRIX = normal(2, 3, 33), normal(33, 6)
X_WORDS, W_WORDS = oracle.pack(X), oracle.pack(W, axis=-2)
VECTOR_WORDS, MATRIX_WORDS = oracle.pack(VECTORS), oracle.pack(MATRIX, axis=-2)


SAMPLES = [*firsts(), *(call for call in CALLS if "to words" in call.id)]


class Variants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters((call.id, index) for index, call in enumerate(SAMPLES))
    def test_same_as_on_numpy_arrays(self, index):
        call = SAMPLES[index]
        result = self.variant(call.function)(*jax.tree.map(jnp.asarray, call.args))
        expected = on_numpy_arrays(index)
        chex.assert_trees_all_equal_shapes_and_dtypes(result, expected)
        chex.assert_trees_all_close(result, expected, rtol=1e-5, atol=1e-5)


@functools.cache
def on_numpy_arrays(index):
    call = SAMPLES[index]
    return call.function(*call.args)


def test_no_public_function_is_forgotten():
    called = {call.name for call in CALLS}
    assert called | {*NOT_A_COMPUTATION} == {*public_names()}
    assert not called & {*NOT_A_COMPUTATION}
    assert len({call.id for call in CALLS}) == len(CALLS)


CONV = {"window_strides": (2, 1), "padding": ((1, 1), (-1, 2)), "rhs_dilation": (1, 2), "pad_value": -1}

OPTIONS = {
    "pack": (jbnn.pack, [X], {"axis": -1, "groups": 3}),
    "unpack": (jbnn.unpack, [X_WORDS], {"size": 33, "axis": -1}),
    "packed_conv": (jbnn.packed_conv, [X_WORDS, W_WORDS], {**CONV, "channels": 33}),
    "packed_dense": (jbnn.packed_dense, [VECTOR_WORDS, MATRIX_WORDS], {"channels": 33, "mode": "and"}),
    "packed_max_pool": (
        jbnn.packed_max_pool,
        [X_WORDS],
        {"window": (3, 2), "window_strides": 2, "padding": "SAME"},
    ),
    "binary_conv": (jbnn.binary_conv, [X, W], {**CONV, "scale": 0.5, "beta_scaling": True}),
    "binary_dense": (jbnn.binary_dense, [VECTORS, MATRIX], {"mode": "and", "scale": 0.5}),
    "binary_conv_transpose": (
        jbnn.binary_conv_transpose,
        [X, W],
        {"window_strides": (2, 3), "padding": "VALID", "output_size": (12, 12)},
    ),
    "convolution.conv": (
        convolution.conv,
        [X, W],
        {**CONV, "edge_mode": "constant", "preferred_element_type": "float32", "precision": "highest"},
    ),
    "convolution.conv_gradient": (
        convolution.conv_gradient,
        [X, W, Y],
        {"wrt": ("input", "kernel"), "padding": ((1, 1), (0, 1))},
    ),
}

each_function = pytest.mark.parametrize("function, args, options", OPTIONS.values(), ids=OPTIONS.keys())


def respelled(options):
    """Equal options, none of them the same object."""
    return ast.literal_eval(repr(options))


def as_lists(options):
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


@each_function
def test_equal_options_are_traced_once(function, args, options):
    counted = jax.jit(chex.assert_max_traces(function, n=1), static_argnames=tuple(options))
    result = counted(*args, **options)
    chex.assert_trees_all_equal(counted(*args, **respelled(options)), result)


@pytest.fixture(scope="module")
def compilations():
    """The durations of every trace and compilation from here on."""
    durations = []

    def listen(event, duration, **_):
        if event.startswith("/jax/core/compile/"):
            durations.append((event, duration))

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x + 1)(1)
    assert durations, "JAX does not report what it compiles"
    return durations


def compiled(events):
    """What was done beyond tracing."""
    return [event for event, _ in events if not event.endswith("jaxpr_trace_duration")]


@each_function
def test_equal_options_compile_nothing_outside_jit(function, args, options, compilations):
    args = jax.device_put(args)
    result = function(*args, **options)
    for again in (respelled(options), as_lists(options)):
        compilations.clear()
        chex.assert_trees_all_equal(function(*args, **again), result)
        # `linear_transpose`, of which this gradient is made, traces what it transposes, and compiles nothing.
        assert not compiled(compilations) if function is convolution.conv_gradient else not compilations


def test_a_new_callable_compiles_nothing(compilations):
    """Callables are no cache key: one made anew at every step is used, and nothing is kept for it."""
    x, w = jax.device_put((X, W))

    def step(offset):
        return jbnn.binary_conv(x, w, activation=lambda y: y + offset, input_quantizer=lambda z: jbnn.sign(z))

    offsets = jnp.arange(2, dtype=jnp.float32)
    first, offset = step(offsets[0]), offsets[1]
    compilations.clear()
    second = step(offset)
    assert not compiled(compilations)  # whose values a new quantizer has is found out by tracing it
    chex.assert_trees_all_close(second, first + 1)
