"""vmap over any argument, along any axis; scan, jit and export: each the same as a Python loop, exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from float_expression import round_numbers, round_terms
from jax import export, lax
from numpy.testing import assert_array_equal

import jbnn

SIZE = 3
CHANNELS, OUTPUTS = 64, 6

OPERATORS = {
    "binary_conv": (partial(jbnn.binary_conv, window_strides=(2, 1), pad_value=-1), (2, 5, 4), (2, 3)),
    "groups": (partial(jbnn.binary_conv, feature_group_count=2), (2, 4, 3), (2, 2)),
    "beta": (partial(jbnn.binary_conv, beta_scaling=True), (2, 4, 3), (2, 2)),
    "binary_weights": (partial(jbnn.binary_conv, mode="binary_weights", activation=jnp.abs), (2, 7), (2,)),
    "binary_conv_transpose": (partial(jbnn.binary_conv_transpose, window_strides=2), (2, 3, 2), (2, 3)),
    "binary_dense": (partial(jbnn.binary_dense, activation=jax.nn.relu), (4,), ()),
}


def draw(name, copies=1):
    """Every argument as often as asked, along a new first axis; the terms are kept exact by being round."""
    _, lead, window = OPERATORS[name]
    depth = CHANNELS // 2 if name == "groups" else CHANNELS
    arrays = {
        "x": round_numbers((copies, *lead, CHANNELS), 0),
        "w": round_numbers((copies, *window, depth, OUTPUTS), 1),
    }
    terms = round_terms((copies, CHANNELS), (copies, OUTPUTS))
    return arrays | terms


def run(name):
    return jax.jit(lambda arguments: OPERATORS[name][0](**arguments))


def same_as_a_loop(function, arguments, in_axes, out_axes=0):
    batched = jax.jit(jax.vmap(function, in_axes=(in_axes,), out_axes=out_axes))(arguments)
    taken = [
        {k: v if in_axes[k] is None else np.take(v, i, in_axes[k]) for k, v in arguments.items()} for i in range(SIZE)
    ]
    assert_array_equal(batched, np.stack([function(each) for each in taken], out_axes))


ALL = "x", "w", "input_bias", "input_scale", "scale", "bias"

MAPPED = [*((name,) for name in ALL), ("x", "w"), ("w", "scale", "bias"), ("x", "bias"), ALL]


def mapped_along_the_first_axis(name, mapped):
    one, many = draw(name), draw(name, SIZE)
    arguments = {k: many[k] if k in mapped else one[k][0] for k in ALL}
    return arguments, {k: 0 if k in mapped else None for k in ALL}


@pytest.mark.parametrize("mapped", MAPPED, ids=" ".join)
def test_vmap_over_any_argument_of_a_convolution(mapped):
    same_as_a_loop(run("binary_conv"), *mapped_along_the_first_axis("binary_conv", mapped))


@pytest.mark.parametrize("mapped", [("x",), ("w",), ALL], ids=" ".join)
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "binary_conv"])
def test_vmap_over_the_others(name, mapped):
    same_as_a_loop(run(name), *mapped_along_the_first_axis(name, mapped))


@pytest.mark.parametrize("name", ["binary_conv", "groups", "binary_dense"])
def test_vmap_along_other_axes(name):
    arguments = draw(name, SIZE)
    axes = {"x": -1, "w": 1, "input_bias": 1, "input_scale": 0, "scale": -1, "bias": 0}
    moved = {k: np.moveaxis(v, 0, axes[k]) for k, v in arguments.items()}
    same_as_a_loop(run(name), moved, axes, out_axes=1)
    same_as_a_loop(run(name), {**moved, "w": moved["w"][:, 0]}, {**axes, "w": None}, out_axes=-1)


PACKED = {
    "packed_conv": (partial(jbnn.packed_conv, channels=33, padding=((1, 0), (2, -1))), (2, 5, 4, 2), (3, 2, 2, 5)),
    "groups": (partial(jbnn.packed_conv, channels=66, feature_group_count=2), (2, 4, 3, 4), (2, 2, 2, 6)),
    "and": (partial(jbnn.packed_conv, channels=33, mode="and", pad_value=1), (2, 6, 2), (3, 2, 5)),
    "packed_dense": (partial(jbnn.packed_dense, channels=33), (4, 2), (2, 5)),
}


@pytest.mark.parametrize("x_axis, w_axis, out_axis", [(0, None, 0), (None, 0, 0), (0, 0, 0), (1, -1, -1), (-1, 1, 1)])
@pytest.mark.parametrize("function, x_shape, w_shape", PACKED.values(), ids=PACKED.keys())
def test_vmap_of_words(function, x_shape, w_shape, x_axis, w_axis, out_axis, implementation):
    rng = np.random.default_rng(0)
    axes, arguments = {"x": x_axis, "w": w_axis}, {}
    for name, shape in (("x", x_shape), ("w", w_shape)):
        words = rng.integers(0, 2**32, (SIZE, *shape), np.uint32)
        arguments[name] = words[0] if axes[name] is None else np.moveaxis(words, 0, axes[name])
    run = jax.jit(lambda arguments: function(**arguments, implementation=implementation))
    same_as_a_loop(run, arguments, axes, out_axis)


def test_vmap_within_vmap():
    x, w, conv = round_numbers((2, 3, 1, 4, 33), 0), round_numbers((3, 2, 33, 5), 1), jax.jit(jbnn.binary_conv)
    every_pair = jax.jit(jax.vmap(jax.vmap(jbnn.binary_conv, (0, None)), (None, 0)))(x[:, 0], w)
    assert_array_equal(every_pair, [[conv(image, kernel) for image in x[:, 0]] for kernel in w])
    every_pair = jax.jit(jax.vmap(jax.vmap(jbnn.binary_conv), (0, None)))(x, w)
    assert_array_equal(every_pair, [[conv(*pair) for pair in zip(images, w, strict=True)] for images in x])


def network(words, kernels):
    """Deployed layers: words in, words out, no float between; then counts."""
    for kernel in kernels[:-1]:
        words = jbnn.pack(jbnn.packed_conv(words, kernel, channels=40))
    return jbnn.packed_conv(words, kernels[-1], channels=40, padding="VALID")


@pytest.fixture(scope="module")
def deployed():
    rng = np.random.default_rng(1)
    x, *latent = (rng.standard_normal(shape) for shape in [(2, 5, 5, 40), *[(3, 3, 40, 40)] * 4])
    words, kernels = oracle.pack(x), np.stack([oracle.pack(w, axis=-2) for w in latent])
    for w in latent[:-1]:
        x = oracle.accumulate(x, w)
    return words, kernels, oracle.accumulate(x, latent[-1], padding="VALID")


def test_a_packed_network_is_what_its_float_layers_are(deployed):
    words, kernels, expected = deployed
    assert_array_equal(network(words, kernels), expected)
    assert_array_equal(jax.jit(jax.jit(network))(words, kernels), expected)
    assert_array_equal(jax.vmap(lambda x: network(x[None], kernels)[0])(words), expected)


def test_scan(deployed):
    words, kernels, expected = deployed

    @jax.jit
    def scanned(words, kernels):
        def layer(words, kernel):
            return jbnn.pack(jbnn.packed_conv(words, kernel, channels=40)), None

        words, _ = lax.scan(layer, words, kernels[:-1])
        return network(words, kernels[-1:])

    assert_array_equal(scanned(words, kernels), expected)


def exported(function, *args, platforms=("cpu",), vjp_order=0):
    """Through the bytes that are stored, and back."""
    stored = export.export(jax.jit(function), platforms=platforms)(*args).serialize(vjp_order=vjp_order)
    return export.deserialize(stored)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda", "tpu")], ids=" ".join)
def test_export(platforms, deployed):
    words, kernels, expected = deployed
    program = exported(network, words, kernels, platforms=platforms)
    assert program.platforms == platforms
    assert_array_equal(program.call(words, kernels), expected)


@pytest.mark.usefixtures("on_cpu")
def test_export_for_any_batch_size(deployed):
    words, kernels, expected = deployed
    any_batch = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 5, 5, 2"), jnp.uint32)
    program = exported(network, any_batch, kernels)
    for n in (1, 2):
        assert_array_equal(program.call(words[:n], kernels), expected[:n])


@pytest.mark.usefixtures("on_cpu")
def test_export_with_a_gradient():
    arguments = draw("binary_conv")
    x, w, scale = (arguments[name][0] for name in ("x", "w", "scale"))

    def loss(x, w, scale):
        return jbnn.binary_conv(x, w, scale=scale, activation=jax.nn.relu).sum()

    program = exported(loss, x, w, scale, vjp_order=1)
    theirs, ours = (jax.grad(f, argnums=(0, 1, 2))(x, w, scale) for f in (program.call, loss))
    jax.tree.map(assert_array_equal, theirs, ours)


def lowered_for(platform, function, *args):
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_only_platforms_that_have_it_are_sent_a_population_count(deployed):
    words, kernels, _ = deployed
    conv, x, w = jbnn.binary_conv, *(draw("binary_conv")[name][0] for name in ("x", "w"))
    for function, *args in [
        (network, words, kernels),
        (conv, x, w),
        (jax.value_and_grad(lambda x, w: conv(x, w).sum(), argnums=(0, 1)), x, w),
    ]:
        sent = lowered_for("cpu", function, *args)
        assert "popcnt" in sent or "jbnn_words" in sent
        assert "popcnt" not in lowered_for("METAL", function, *args)
