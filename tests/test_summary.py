"""`summary`: layers, multiply-accumulates and bits, counted here by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct, lax

import jbnn
from examples.models import binarynet, quicknet


def f32(*shape):
    return ShapeDtypeStruct(shape, jnp.float32)


def words(*shape):
    return ShapeDtypeStruct(shape, jnp.uint32)


X, W, SCALE = f32(2, 8, 6, 40), f32(3, 3, 40, 10), f32(10)
MACS = 2 * 8 * 6 * 9 * 40 * 10


def counts(found):
    return [(r.kind, r.binary_macs, r.float_macs, r.parameters, r.parameter_bits) for r in found.layers]


def float_conv(x, w, **options):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def test_a_layer_in_every_field():
    (row,) = jbnn.summary(
        functools.partial(jbnn.packed_conv, channels=40, window_strides=2), words(2, 8, 6, 2), words(3, 3, 2, 10)
    ).layers
    assert dataclasses.asdict(row) == {
        "kind": "binary conv",
        "window": (3, 3),
        "strides": (2, 2),
        "groups": 1,
        "input_shape": (2, 8, 6, 40),
        "input_dtype": "bit",
        "output_shape": (2, 4, 3, 10),
        "output_dtype": "int32",
        "times": 1,
        "binary_macs": MACS // 4,
        "float_macs": 0,
        "parameters": 9 * 40 * 10,
        "parameter_bits": 9 * 2 * 10 * 32,
        "activation_bits": 2 * 8 * 6 * 2 * 32,
    }


LAYERS = {
    "latent": (jbnn.binary_conv, (X, W), ("binary conv", MACS, 0, 3600, 32 * 3600)),
    "half": (
        jbnn.binary_conv,
        (ShapeDtypeStruct(X.shape, jnp.bfloat16), ShapeDtypeStruct(W.shape, jnp.bfloat16)),
        ("binary conv", MACS, 0, 3600, 16 * 3600),
    ),
    "its own scale": (
        lambda x, w: jbnn.binary_conv(x, w, scale=jbnn.alpha(w)),
        (X, W),
        ("binary conv", MACS, 0, 3600, 32 * 3600),
    ),
    "scale in the kernel call": (
        lambda x, w, s: jbnn.binary_conv(x, w, scale=s),
        (X, words(3, 3, 2, 10), SCALE),
        ("binary conv", MACS, 0, 3610, 32 * (180 + 10)),
    ),
    "affine after it": (
        lambda x, w, s: jax.nn.relu(jbnn.binary_conv(x, w)) * s[None, None, None],
        (X, words(3, 3, 2, 10), SCALE),
        ("binary conv", MACS, 0, 3610, 32 * (180 + 10)),
    ),
    "affine before it": (
        lambda x, w, b: jbnn.binary_conv(x, w, input_bias=b),
        (X, W, f32(40)),
        ("binary conv", MACS, 0, 3640, 32 * 3640),
    ),
    "groups": (
        functools.partial(jbnn.binary_conv, feature_group_count=5),
        (X, f32(3, 3, 8, 10)),
        ("binary conv", MACS // 5, 0, 720, 32 * 720),
    ),
    "transposed": (
        functools.partial(jbnn.binary_conv_transpose, window_strides=2),
        (X, W),
        ("binary conv", MACS, 0, 3600, 32 * 3600),
    ),
    "dense": (jbnn.binary_dense, (f32(2, 7, 40), f32(40, 10)), ("binary dense", 2 * 7 * 400, 0, 400, 32 * 400)),
    "binary weights": (
        functools.partial(jbnn.binary_conv, mode="binary_weights"),
        (X, words(3, 3, 2, 10)),
        ("conv", 0, MACS, 3600, 32 * 180),
    ),
    "float conv": (float_conv, (X, W), ("conv", 0, MACS, 3600, 32 * 3600)),
    "float conv, groups": (
        functools.partial(float_conv, feature_group_count=5),
        (X, f32(3, 3, 8, 10)),
        ("conv", 0, MACS // 5, 720, 32 * 720),
    ),
    "float conv, channels first": (
        lambda x, w: lax.conv(x, w, (1, 1), "SAME"),
        (f32(2, 40, 8, 6), f32(10, 40, 3, 3)),
        ("conv", 0, MACS, 3600, 32 * 3600),
    ),
    "float conv, transposed": (
        lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME"),
        (X, W),
        ("conv", 0, MACS, 3600, 32 * 3600),
    ),
    "matrix product": (jnp.matmul, (f32(2, 40), f32(40, 10)), ("dense", 0, 800, 400, 32 * 400)),
}


@pytest.mark.parametrize("function, args, expected", LAYERS.values(), ids=LAYERS)
def test_counts(function, args, expected):
    assert counts(jbnn.summary(function, *args)) == [expected]


def layer(x, w):
    return jbnn.binary_conv(x, w)


W40 = f32(3, 3, 40, 40)
STACK = f32(3, *W40.shape)
ROW = ("binary conv", 4 * MACS, 0, 14400, 32 * 14400)
NESTED = {
    "jit": (jax.jit(layer), W40, ROW, 1),
    "checkpoint": (jax.checkpoint(layer), W40, ROW, 1),
    "custom_jvp": (jax.custom_jvp(layer), W40, ROW, 1),
    "scan over layers": (
        lambda x, w: lax.scan(lambda x, w: (layer(x, w), None), x, w)[0],
        STACK,
        ("binary conv", 12 * MACS, 0, 43200, 32 * 43200),
        3,
    ),
    "a loop": (
        lambda x, w: lax.fori_loop(0, 5, lambda i, x: layer(x, w), x),
        W40,
        ("binary conv", 20 * MACS, 0, 14400, 32 * 14400),
        5,
    ),
    "a loop of words": (
        lambda x, w: lax.fori_loop(0, 5, lambda i, x: layer(x, w), x),
        words(3, 3, 2, 40),
        ("binary conv", 20 * MACS, 0, 14400, 32 * 720),
        5,
    ),
    "scan over layers of words": (
        lambda x, w: lax.scan(lambda x, w: (layer(x, w), None), x, w)[0],
        words(3, 3, 3, 2, 40),
        ("binary conv", 12 * MACS, 0, 43200, 32 * 2160),
        3,
    ),
    "an unknown loop": (
        lambda x, w: lax.while_loop(lambda x: x[0, 0, 0, 0] < 9, lambda x: layer(x, w), x),
        W40,
        ROW,
        None,
    ),
    "the costlier branch": (
        lambda x, w: lax.cond(x[0, 0, 0, 0] < 0, lambda: layer(x, w), lambda: layer(layer(x, w), w)),
        W40,
        ROW,
        1,
    ),
    "the branch with more turns": (
        lambda x, w: lax.cond(
            x[0, 0, 0, 0] < 0, lambda: layer(layer(x, w), w), lambda: lax.fori_loop(0, 3, lambda i, x: layer(x, w), x)
        ),
        W40,
        ("binary conv", 12 * MACS, 0, 14400, 32 * 14400),
        3,
    ),
    "vmap": (
        lambda x, w: jax.vmap(layer, (None, 0))(x, w),
        STACK,
        ("binary conv", 12 * MACS, 0, 43200, 32 * 43200),
        1,
    ),
}


NESTED["custom_jvp"][0].defjvp(lambda primals, tangents: (layer(*primals), tangents[0]))


@pytest.mark.parametrize("name", NESTED)
def test_inside(name):
    function, w, expected, times = NESTED[name]
    found = jbnn.summary(function, X, w)
    assert (counts(found)[0], found.layers[0].times) == (expected, times)
    assert len(found.layers) == (2 if name == "the costlier branch" else 1)


def test_parameters_are_counted_once_and_inputs_never():
    def network(params, mean, images):
        x = float_conv(images - mean[None, None, None], params["stem"])
        x = jbnn.binary_conv(x, params["shared"]) + params["shift"][None, None, None]
        x = jbnn.binary_conv(x, params["shared"]) + x
        return x.mean(axis=(1, 2)) @ params["head"]

    params = {"stem": W40, "shared": W40, "shift": f32(40), "head": f32(40, 10), "unused": f32(7)}
    found = jbnn.summary(network, params, f32(40), X)
    assert [r.parameters for r in found.layers] == [14400 + 40, 14400 + 40, 0, 400]
    assert found.parameters == 14440 + 14440 + 400
    assert found.parameter_bits == 32 * found.parameters
    assert found.float_macs == 4 * MACS + 2 * 400
    assert found.binary_macs == 8 * MACS


def test_parameters_may_be_closed_over():
    w = jnp.ones((3, 3, 2, 10), jnp.uint32)
    found = jbnn.summary(lambda x: jbnn.packed_conv(x, w, channels=40), words(2, 8, 6, 2))
    assert counts(found) == [("binary conv", MACS, 0, 3600, 32 * 180)]


def test_a_kernel_may_be_made_of_several_words():
    def network(x, a, b):
        return jbnn.packed_conv(x, jnp.concatenate([a, b], axis=-1), channels=40)

    found = jbnn.summary(network, words(2, 8, 6, 2), words(3, 3, 2, 4), words(3, 3, 2, 6))
    assert counts(found) == [("binary conv", MACS, 0, 3600, 32 * 180)]


def test_data_may_stand_on_the_right():
    found = jbnn.summary(lambda w, x: w @ jnp.abs(w @ x), f32(5, 5), f32(5, 3))
    assert [r.float_macs for r in found.layers] == [75, 75]
    assert found.layers[1].input_shape == (5, 3) and found.layers[1].activation_bits == 32 * 15


def test_training_is_counted_too():
    """Forward and the two convolutions of the gradient, but not the float one whose shape alone was asked for."""
    found = jbnn.summary(jax.value_and_grad(lambda x, w: jbnn.binary_conv(x, w).sum(), (0, 1)), X, W)
    assert [r.kind for r in found.layers] == ["binary conv", "conv", "conv"]
    assert [r.binary_macs + r.float_macs for r in found.layers] == [MACS] * 3


def test_a_network_is_a_table():
    params, state = jax.eval_shape(quicknet.init, jax.random.key(0))
    params, state = jax.eval_shape(quicknet.deploy, params, state)
    found = jbnn.summary(lambda params, x: quicknet.apply(params, state, x), params, f32(1, 224, 224, 3))
    lines = str(found).splitlines()
    assert len(lines) == len(found.layers) + 5
    assert max(map(len, lines)) <= 120
    assert lines[-1] == "98.5% of the MACs are binary; parameters take 4,347,936 bytes, 12.2 times less than in float32"
    assert found.parameter_bits == 8 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.layers[0].times = 2


def test_a_deployed_binarynet_passes_bits():
    options = {"conv_widths": (32, 64), "dense_widths": (96,), "size": 4}
    params, state = jax.eval_shape(functools.partial(binarynet.init, **options), jax.random.key(0))
    params, state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), (params, state))
    params, state = binarynet.deploy(params, state)
    found = jbnn.summary(lambda params, x: binarynet.apply(params, state, x), params, np.zeros((1, 4, 4, 3), np.uint8))
    assert [r.output_dtype for r in found.layers] == ["float32", "bit", "bit", "int32"]
    assert [r.activation_bits for r in found.layers] == [32 * 48, 32 * 16, 4 * 64, 96]
    assert found.parameter_bits == 8 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def test_nothing_is_no_error():
    found = jbnn.summary(jnp.sin, f32(3))
    assert found.layers == () and found.binary_macs == 0
    assert str(found).endswith("parameters take 0 bytes")


def test_what_is_no_function():
    with pytest.raises(TypeError, match="`fn` must be a function, but was 3"):
        jbnn.summary(3)
