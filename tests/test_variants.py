"""Every public function of arrays: the same under jit and without, and traced once for equal options."""

import ast
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from absl.testing import parameterized

import jbnn
from jbnn import activations, convolution, interchange, mps, quantizers

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


X, W, Y, TERM = normal(2, 5, 4, 33), normal(3, 2, 33, 6), normal(2, 5, 4, 6), normal(6)
VECTORS, MATRIX = normal(2, 3, 33), normal(33, 6)
BYTES = RNG.integers(0, 256, W.shape, np.uint8)
X_WORDS, W_WORDS = oracle.pack(X), oracle.pack(W, axis=-2)
VECTOR_WORDS, MATRIX_WORDS = oracle.pack(VECTORS), oracle.pack(MATRIX, axis=-2)
VALUE, FLIP = np.arange(-3, 3, dtype=np.int32), np.arange(6) % 2 == 0


def with_threshold(function):
    return lambda x, w, *fields: function(x, w, channels=33, threshold=jbnn.Threshold(*fields))


DESCRIPTOR = mps.ConvolutionDescriptor(
    kernel_width=2, kernel_height=3, input_feature_channels=33, output_feature_channels=6
)


def blob_of(w):
    return mps.ArrayDataSource(DESCRIPTOR, mps.DataType.UINT32, mps.pack_weights(w))


def weights_of(w):
    return mps.ArrayDataSource(DESCRIPTOR, mps.DataType.FLOAT32, mps.weights_from_kernel(w))


CALLS = {
    "sign": (jbnn.sign, X),
    "pack": (lambda x: jbnn.pack(x, axis=1), X),
    "unpack": (lambda x: jbnn.unpack(x, 33), X_WORDS),
    "population_count": (jbnn.population_count, X_WORDS),
    "alpha": (jbnn.alpha, W),
    "packed_conv": (lambda x, w: jbnn.packed_conv(x, w, channels=33, window_strides=(2, 1)), X_WORDS, W_WORDS),
    "packed_dense": (lambda x, w: jbnn.packed_dense(x, w, channels=33), VECTOR_WORDS, MATRIX_WORDS),
    "packed_conv to words": (with_threshold(jbnn.packed_conv), X_WORDS, W_WORDS, VALUE, FLIP),
    "packed_dense to words": (with_threshold(jbnn.packed_dense), VECTOR_WORDS, MATRIX_WORDS, VALUE, FLIP),
    "packed_max_pool": (lambda x, flip: jbnn.packed_max_pool(x, 2, flip=flip), X_WORDS, np.arange(33) < 9),
    "fold_batch_norm": (lambda *terms: jbnn.fold_batch_norm(*terms, epsilon=1.0), TERM, np.abs(TERM), TERM, TERM),
    "pack_kernels": (lambda w: jbnn.pack_kernels({"w": w}, lambda path, leaf: True), W),
    "binary_conv": (lambda x, w: jbnn.binary_conv(x, w, beta_scaling=True, pad_value=1), X, W),
    "binary_conv of words": (lambda x, w: jbnn.binary_conv(x, w, mode="and"), X, W_WORDS),
    "binary_dense": (lambda x, w: jbnn.binary_dense(x, w, beta_scaling=True), VECTORS, MATRIX),
    "binary_conv_transpose": (lambda x, w: jbnn.binary_conv_transpose(x, w, window_strides=(2, 3)), X, W),
    "convolution.conv": (lambda x, w: convolution.conv(x, w, edge_mode="mirror", window_strides=2), X, W),
    "convolution.conv of groups": (lambda x, w: convolution.conv(x, w[:, :, :11, :], feature_group_count=3), X, W),
    "convolution.conv_transpose": (lambda x, w: convolution.conv_transpose(x, w, window_strides=(2, 3)), X, W),
    "convolution.depthwise_conv": (convolution.depthwise_conv, X, W),
    "convolution.dense": (convolution.dense, VECTORS, MATRIX),
    "convolution.conv_gradient": (convolution.conv_gradient, X, W, Y),
    "convolution.dense_gradient": (convolution.dense_gradient, VECTORS, MATRIX, normal(2, 3, 6)),
    "convolution.binary_conv_gradient": (convolution.binary_conv_gradient, X, W, Y),
    "convolution.depth_to_space": (lambda x: convolution.depth_to_space(x, (1, 3)), X),
    "convolution.space_to_depth": (lambda x: convolution.space_to_depth(x, (1, 2)), X),
    "convolution.transpose_kernel": (lambda w: convolution.transpose_kernel(w, feature_group_count=2), W),
    "convolution.cross_channel_normalization": (convolution.cross_channel_normalization, X),
    "convolution.dequantize_linear": (lambda w: convolution.dequantize_linear(w, -1.0, 1.0), BYTES),
    "convolution.dequantize_lookup": (convolution.dequantize_lookup, BYTES, normal(256)),
    "interchange.to_larq": (lambda w: interchange.to_larq(w, channels=33), W_WORDS),
    "interchange.from_larq": (lambda w: interchange.from_larq(w, channels=190), W_WORDS),
    "interchange.to_openvino": (lambda w: interchange.to_openvino(w, channels=33), W_WORDS),
    "interchange.from_openvino": (lambda data: interchange.from_openvino(data, (6, 11, 4, 3)), BYTES.ravel()[:99]),
    "mps.binary_convolution": (lambda x, w: mps.binary_convolution(x, blob_of(w), type=1, flags=1), X, W),
    "mps.binary_fully_connected": (lambda w: mps.binary_fully_connected(X[:, :3, :2], blob_of(w), type=2), W),
    "mps.convolution": (lambda x, w: mps.convolution(x, weights_of(w), edge_mode=1), X, W),
    "mps.convolution_transpose": (lambda x, w: mps.convolution_transpose(x, weights_of(w)), X, W),
    "mps.convolution_gradient": (lambda x, w, g: mps.convolution_gradient(x, weights_of(w), g), X, W, Y),
    "mps.pack_weights": (mps.pack_weights, W),
    "mps.unpack_weights": (lambda w: mps.unpack_weights(mps.pack_weights(w), DESCRIPTOR), W),
    "mps.kernel_from_weights": (lambda w: mps.kernel_from_weights(w.reshape(-1), DESCRIPTOR), W),
    "mps.weights_from_kernel": (mps.weights_from_kernel, W),
    "mps.dense_words": (lambda w: mps.dense_words(mps.pack_weights(w), DESCRIPTOR), W),
    "mps.weights_from_dense_words": (
        lambda w: mps.weights_from_dense_words(w, DESCRIPTOR),
        oracle.pack(W.reshape(-1, 6), 0),
    ),
    "quantizers.ste_sign": (quantizers.ste_sign, X),
    "quantizers.approx_sign": (quantizers.approx_sign, X),
    "quantizers.swish_sign": (quantizers.swish_sign, X),
    "quantizers.magnitude_aware_sign": (quantizers.magnitude_aware_sign, X),
    "quantizers.ste_heaviside": (quantizers.ste_heaviside, X),
    "quantizers.ste_tern": (quantizers.ste_tern, X),
    "quantizers.dorefa": (lambda x: quantizers.dorefa(x, 2), X),
    "quantizers.identity": (quantizers.identity, X),
    "activations.none": (activations.none, Y),
    "activations.relu": (lambda x: activations.relu(x, 0.1), Y),
    "activations.linear": (lambda x: activations.linear(x, 2.0, -1.0), Y),
    "activations.sigmoid": (activations.sigmoid, Y),
    "activations.hard_sigmoid": (activations.hard_sigmoid, Y),
    "activations.tanh": (activations.tanh, Y),
    "activations.absolute": (activations.absolute, Y),
    "activations.soft_plus": (activations.soft_plus, Y),
    "activations.soft_sign": (activations.soft_sign, Y),
    "activations.elu": (activations.elu, Y),
    "activations.prelu": (activations.prelu, Y, TERM),
    "activations.relun": (lambda x: activations.relun(x, 0.5), Y),
    "activations.power": (lambda x: activations.power(x, 2.0, 1.0, 2.0), Y),
    "activations.exponential": (activations.exponential, Y),
    "activations.logarithm": (activations.logarithm, np.abs(Y) + 1),
    "activations.gelu": (activations.gelu, Y),
}

# They answer about the machine, a function or Python's numbers; `sign_threshold` wants to know its arrays.
NOT_FOR_JIT = {"implementations", "mps.padding_policy", "sign_threshold", "summary"}


class Variants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters((name, *call) for name, call in CALLS.items())
    def test_same_as_on_numpy_arrays(self, function, *args):
        result = self.variant(function)(*map(jnp.asarray, args))
        expected = function(*args)
        chex.assert_trees_all_equal_shapes_and_dtypes(result, expected)
        chex.assert_trees_all_close(result, expected, rtol=1e-5, atol=1e-5)


def test_no_public_function_is_forgotten():
    modules = {f"{name}.": getattr(jbnn, name) for name in jbnn.__all__ if inspect.ismodule(getattr(jbnn, name))}
    public = {
        prefix + name
        for prefix, module in {"": jbnn, **modules}.items()
        for name in module.__all__
        if inspect.isroutine(getattr(module, name))
    }
    assert public - NOT_FOR_JIT == {name.split()[0] for name in CALLS}


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


@each_function
def test_equal_options_compile_nothing_outside_jit(function, args, options, compilations):
    args = jax.device_put(args)
    result = function(*args, **options)
    for again in (respelled(options), as_lists(options)):
        compilations.clear()
        chex.assert_trees_all_equal(function(*args, **again), result)
        assert not compilations


def test_a_new_callable_compiles_nothing(compilations):
    """Callables are no cache key: one made anew at every step is used, and nothing is kept for it."""
    x, w = jax.device_put((X, W))

    def step(offset):
        return jbnn.binary_conv(x, w, activation=lambda y: y + offset, input_quantizer=lambda z: jbnn.sign(z))

    offsets = jnp.arange(2, dtype=jnp.float32)
    first, offset = step(offsets[0]), offsets[1]
    compilations.clear()
    second = step(offset)
    assert not compilations
    chex.assert_trees_all_close(second, first + 1)
