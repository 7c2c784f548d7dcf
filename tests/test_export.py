"""`jax.export`: programs that leave Python, for one platform or several, and come back as they were."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from errors import refuses
from jax import export

import jbnn

pytestmark = pytest.mark.usefixtures("on_cpu")  # a program runs where it was exported for
PLATFORMS = ("cpu",), ("cuda",), ("tpu",), ("cpu", "cuda", "tpu")
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


X, W, SCALE, BIAS = normal(5, 6, 4, 70), normal(3, 2, 70, 6), normal(6), normal(6)
X_WORDS, W_WORDS = oracle.pack(X), oracle.pack(W, axis=-2)


def deployed(x, w, scale, bias):
    return jbnn.binary_conv(x, w, scale=scale, bias=bias, activation=jbnn.activations.relu)


def to_words(x, w, value, flip):
    y = jbnn.packed_conv(x, w, channels=70, threshold=jbnn.Threshold(value, flip))
    return jbnn.packed_max_pool(y, 2, flip=flip)


def loss(x, w, scale, bias):
    return jnp.sum(jbnn.binary_conv(x, w, scale=scale, bias=bias, beta_scaling=True, window_strides=2) ** 2)


def step(x, w, scale, bias):
    value, slopes = jax.value_and_grad(loss, argnums=(1, 2, 3))(x, w, scale, bias)
    return value, jax.tree.map(lambda p, slope: p - 0.1 * slope, (w, scale, bias), slopes)


PROGRAMS = {
    "pack": (jbnn.pack, X),
    "unpack": (functools.partial(jbnn.unpack, size=70), X_WORDS),
    "packed_conv": (functools.partial(jbnn.packed_conv, channels=70), X_WORDS, W_WORDS),
    "packed_dense": (functools.partial(jbnn.packed_dense, channels=70), X_WORDS[:, 0, 0], W_WORDS[0, 0]),
    "layer from words to words": (to_words, X_WORDS, W_WORDS, np.arange(-3, 3, dtype=np.int32), SCALE < 0),
    "deployed": (deployed, X, W_WORDS, SCALE, BIAS),
    "transpose": (functools.partial(jbnn.binary_conv_transpose, window_strides=2), X, W),
    "groups": (functools.partial(jbnn.binary_conv, feature_group_count=2, mode="and"), X, W[:, :, :35]),
    "training step": (step, X, W, SCALE, BIAS),
}


@pytest.fixture(scope="module", autouse=True)
def on_cpu():
    """Where these programs run, whatever else is there."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture(params=PROGRAMS)
def program(request):
    return PROGRAMS[request.param]


def round_trip(function, arguments, **options):
    exported = export.export(jax.jit(function), **options)(*arguments)
    return export.deserialize(exported.serialize())


def assert_same(function, exported, arguments):
    results, expected = jax.jit(exported.call)(*arguments), jax.jit(function)(*arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(results, expected)
    chex.assert_trees_all_close(results, expected, rtol=1e-6)
    integers = [jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(expected)]
    if all(integers):
        chex.assert_trees_all_equal(results, expected)


@pytest.mark.parametrize("platforms", PLATFORMS, ids="+".join)
def test_round_trip(program, platforms):
    """By default in the portable form, which any XLA can compile: nothing calls into native code."""
    function, *arguments = program
    exported = round_trip(function, arguments, platforms=platforms)
    assert exported.platforms == platforms
    assert "custom_call" not in exported.mlir_module()
    if "cpu" in platforms:
        assert_same(function, exported, arguments)
    else:
        with pytest.raises(ValueError, match="cpu"):
            exported.call(*arguments)


@pytest.mark.parametrize("implementation", ["popcount", "unpacked"])
@pytest.mark.parametrize("platforms", PLATFORMS, ids="+".join)
def test_named_implementation(implementation, platforms):
    """The name is kept: bits are counted, or floats convolved, on every platform."""
    function = functools.partial(jbnn.packed_conv, channels=70, implementation=implementation)
    exported = round_trip(function, (X_WORDS, W_WORDS), platforms=platforms)
    module = exported.mlir_module()
    assert ("popcnt" in module, "stablehlo.convolution" in module) == (
        (True, False) if implementation == "popcount" else (False, True)
    )
    if "cpu" in platforms:
        assert_same(function, exported, (X_WORDS, W_WORDS))


def test_unknown_batch(program):
    """One program for every number of images."""
    function, x, *rest = program
    (batch,) = export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), *rest]
    exported = round_trip(function, shapes, platforms=("cpu", "cuda", "tpu"))
    for n in (1, 3, 5):
        assert_same(function, exported, (x[:n], *rest))


def test_unknown_batch_of_vectors():
    """All leading axes of a dense layer."""
    shapes = [jax.ShapeDtypeStruct((*export.symbolic_shape("batch, time"), 70), jnp.float32), W[0, 0]]
    exported = round_trip(jbnn.binary_dense, shapes, platforms=("cpu",))
    assert_same(jbnn.binary_dense, exported, (X[:3, 0], W[0, 0]))


SIZES = "1, h, w, 70"
SIZES_UNKNOWN = {
    "binary_conv": (jbnn.binary_conv, "x", "float32", SIZES, W),
    "binary_conv of words": (jbnn.binary_conv, "x", "float32", SIZES, W_WORDS),
    "binary_conv_transpose": (jbnn.binary_conv_transpose, "x", "float32", SIZES, W),
    "packed_conv": (functools.partial(jbnn.packed_conv, channels=70), "x", "uint32", "1, h, w, 3", W_WORDS),
    "packed_max_pool": (functools.partial(jbnn.packed_max_pool, window=2), "words", "uint32", "1, h, w, 3"),
}


@pytest.mark.parametrize("call", SIZES_UNKNOWN.values(), ids=SIZES_UNKNOWN)
def test_rows_of_words_must_be_known(call):
    """Words are counted row by row, so only the batch may be a symbol."""
    function, name, dtype, sizes, *rest = call
    x = jax.ShapeDtypeStruct(export.symbolic_shape(sizes), dtype)
    program = functools.partial(export.export(jax.jit(function)), x, *rest)
    refuses(program, ValueError, name, must=("known size", "N may be symbolic"), was=("h", "w"))


@pytest.mark.parametrize(
    "function", [functools.partial(jbnn.binary_conv, mode="binary_weights"), jbnn.convolution.conv]
)
def test_rows_of_floats_may_be_unknown(function):
    """As in lax."""
    x = jax.ShapeDtypeStruct(export.symbolic_shape(SIZES), jnp.float32)
    exported = export.export(jax.jit(function), platforms=("cpu",))(x, W)
    chex.assert_trees_all_close(exported.call(X[:1], W), function(X[:1], W), rtol=1e-5, atol=1e-4)


def test_gradient_travels_along():
    """A program exported with its derivative trains where it arrives."""
    arguments = X, W, SCALE, BIAS
    exported = export.export(jax.jit(loss), platforms=("cpu",))(*arguments)
    arrived = export.deserialize(exported.serialize(vjp_order=1))
    slopes = [jax.jit(jax.grad(f, argnums=(0, 1, 2, 3)))(*arguments) for f in (arrived.call, loss)]
    chex.assert_trees_all_close(*slopes, rtol=1e-6)


def test_no_second_derivative_travels():
    """As without export."""
    with pytest.raises(TypeError, match="differentiated once"):
        export.export(jax.jit(loss))(X, W, SCALE, BIAS).serialize(vjp_order=2)
