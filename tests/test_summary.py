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
    "binary weights, groups": (
        functools.partial(jbnn.binary_conv, mode="binary_weights", feature_group_count=5),
        (X, words(3, 3, 1, 10)),
        ("conv", 0, MACS // 5, 720, 32 * 90),
    ),
    "binary weights, latent": (
        functools.partial(jbnn.binary_conv, mode="binary_weights"),
        (X, W),
        ("conv", 0, MACS, 3600, 32 * 3600),
    ),
    "binary weights, transposed": (
        functools.partial(jbnn.binary_conv_transpose, mode="binary_weights", window_strides=2),
        (X, W),
        ("conv", 0, MACS, 3600, 32 * 3600),
    ),
    "binary weights, transposed, padded": (
        functools.partial(jbnn.binary_conv_transpose, mode="binary_weights", window_strides=2, pad_value=1),
        (X, words(3, 3, 2, 10)),
        ("conv", 0, MACS, 3600, 32 * 180),
    ),
    "binary weights, transposed, groups": (
        functools.partial(jbnn.binary_conv_transpose, mode="binary_weights", window_strides=2, feature_group_count=5),
        (X, f32(3, 3, 8, 10)),
        ("conv", 0, MACS // 5, 720, 32 * 720),
    ),
    "binary weights, dense": (
        functools.partial(jbnn.binary_dense, mode="binary_weights"),
        (f32(2, 7, 40), words(2, 10)),
        ("dense", 0, 2 * 7 * 400, 400, 32 * 20),
    ),
    "layer": (jbnn.convolution.conv, (X, W), ("conv", 0, MACS, 3600, 32 * 3600)),
    "layer, groups": (
        functools.partial(jbnn.convolution.conv, feature_group_count=5),
        (X, f32(3, 3, 8, 10)),
        ("conv", 0, MACS // 5, 720, 32 * 720),
    ),
    "layer, depthwise": (
        jbnn.convolution.depthwise_conv,
        (X, f32(3, 3, 40, 2)),
        ("conv", 0, 2 * 8 * 6 * 9 * 80, 720, 32 * 720),
    ),
    "layer, transposed": (
        functools.partial(jbnn.convolution.conv_transpose, window_strides=2),
        (X, W),
        ("conv", 0, MACS, 3600, 32 * 3600),
    ),
    "layer, transposed, groups": (
        functools.partial(jbnn.convolution.conv_transpose, window_strides=2, feature_group_count=5),
        (X, f32(3, 3, 8, 10)),
        ("conv", 0, MACS // 5, 720, 32 * 720),
    ),
    "layer, dense": (jbnn.convolution.dense, (f32(2, 7, 40), f32(40, 10)), ("dense", 0, 5600, 400, 32 * 400)),
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
        3,
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


def fields(row, *names):
    return tuple(getattr(row, name) for name in names)


IN, OUT = ("input_shape", "input_dtype"), ("output_shape", "output_dtype")


@pytest.mark.parametrize("dtype, bits", [(jnp.float32, 32), (jnp.bfloat16, 16), (jnp.uint8, 8), (jnp.int8, 8)])
def test_the_left_side_of_binary_weights_is_real(dtype, bits):
    x = ShapeDtypeStruct((2, 8, 6, 40), dtype)
    (row,) = jbnn.summary(functools.partial(jbnn.binary_conv, mode="binary_weights"), x, words(3, 3, 2, 10)).layers
    assert fields(row, "kind", *IN) == ("conv", x.shape, x.dtype.name)
    assert row.activation_bits == bits * 2 * 8 * 6 * 40


GROUPED = {
    "layer": jbnn.convolution.conv,
    "binary weights": functools.partial(jbnn.binary_conv, mode="binary_weights"),
    "bits": jbnn.binary_conv,
}


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("groups", [5, 40], ids=["groups", "depthwise"])
def test_a_grouped_layer_is_one_row(name, groups):
    function = functools.partial(GROUPED[name], feature_group_count=groups, window_strides=2)
    (row,) = jbnn.summary(function, X, f32(3, 3, 40 // groups, 80)).layers
    assert fields(row, "groups", "window", "strides") == (groups, (3, 3), (2, 2))
    assert fields(row, *IN, *OUT) == (X.shape, "bit" if name == "bits" else "float32", (2, 4, 3, 80), "float32")
    packed = 32 * groups * -(-40 // groups // 32)
    assert row.activation_bits == 2 * 8 * 6 * (packed if name == "bits" else 32 * 40)


@pytest.mark.parametrize("edge_mode", ["clamp", "mirror", "mirror_with_edge", "constant"])
@pytest.mark.parametrize("groups", [1, 5])
def test_edges_are_no_part_of_the_image(edge_mode, groups):
    pad_value = 2.0 if edge_mode == "constant" else 0
    function = functools.partial(
        jbnn.convolution.conv, edge_mode=edge_mode, pad_value=pad_value, feature_group_count=groups
    )
    (row,) = jbnn.summary(function, X, f32(3, 3, 40 // groups, 10)).layers
    assert fields(row, "input_shape", "output_shape") == (X.shape, (2, 8, 6, 10))
    assert fields(row, "float_macs", "activation_bits") == (MACS // groups, 32 * 2 * 8 * 6 * 40)


@pytest.mark.parametrize("edge_mode", [jbnn.mps.EdgeMode.ZERO, jbnn.mps.EdgeMode.CLAMP])
def test_nor_are_those_of_a_binary_layer(edge_mode):
    d = jbnn.mps.ConvolutionDescriptor(input_feature_channels=40, output_feature_channels=10)

    def function(x, w):
        source = jbnn.mps.ArrayDataSource(d, jbnn.mps.DataType.FLOAT32, w)
        return jbnn.mps.binary_convolution(x, source, type=jbnn.mps.BinaryConvolutionType.XNOR, edge_mode=edge_mode)

    for wrapped in (function, jax.vmap(function, (0, None))):
        x = X if wrapped is function else f32(5, *X.shape)
        rows = [row for row in jbnn.summary(wrapped, x, f32(10, 3, 3, 40)).layers if row.kind == "binary conv"]
        images = 2 if wrapped is function else 10
        assert [row.input_shape for row in rows] == [(images, 8, 6, 40)]
        assert [row.activation_bits for row in rows] == [images * 8 * 6 * 64]


def test_data_may_stand_on_the_right():
    found = jbnn.summary(lambda w, x: w @ jnp.abs(w @ x), f32(5, 5), f32(5, 3))
    assert [r.float_macs for r in found.layers] == [75, 75]
    assert found.layers[1].input_shape == (5, 3) and found.layers[1].activation_bits == 32 * 15


A = np.ones((8, 64), np.float32)
ON_THE_RIGHT = {
    "a vector": (lambda w, x: w @ x, (f32(8, 64), f32(64)), [512]),
    "vectors under vmap": (lambda w, x: jax.vmap(lambda w, x: w @ x)(w, x), (f32(3, 8, 64), f32(3, 64)), [1536]),
    "beside a constant": (lambda x: A @ x, (f32(64, 100),), [0]),
    "the input before": (lambda w, v, x: (x @ w, v @ x), (f32(64, 64), f32(8, 64), f32(64, 64)), [4096, 512]),
    "beside a parameter before": (
        lambda x, w, y: (x @ w, w @ y),
        (f32(100, 64), f32(64, 64), f32(64, 3)),
        [4096, 0],
    ),
}


@pytest.mark.parametrize("name", ON_THE_RIGHT)
def test_the_first_data_too_where_it_can_be_told(name):
    function, shapes, parameters = ON_THE_RIGHT[name]
    found = jbnn.summary(function, *shapes)
    assert [row.parameters for row in found.layers] == parameters
    assert found.layers[-1].input_shape == shapes[-1].shape
    assert found.layers[-1].activation_bits == 32 * np.prod(shapes[-1].shape)


def test_what_is_closed_over_is_no_data():
    w = jnp.asarray(A)
    (row,) = jbnn.summary(lambda x: w @ x, f32(64, 100)).layers
    assert fields(row, "input_shape", "parameters") == ((64, 100), 512)


def test_data_stands_on_the_left_where_nothing_tells():
    (row,) = jbnn.summary(jnp.matmul, f32(8, 64), f32(64, 3)).layers
    assert fields(row, "input_shape", "parameters") == ((8, 64), 64 * 3)
    (row,) = jbnn.summary(jnp.matmul, f32(64), f32(64, 3)).layers
    assert fields(row, "input_shape", "parameters") == ((64,), 64 * 3)


def scaled(x, w, s):
    return jbnn.binary_conv(x, w, scale=s)


ONE = ("binary conv", (2, 8, 6, 40), "bit", (2, 8, 6, 10), "float32")
NETWORKS = {
    "one image": (scaled, (None, 0, 0), (X, f32(5, *W.shape), f32(5, 10)), ONE),
    "an image each": (scaled, (0, 0, 0), (f32(5, *X.shape), f32(5, *W.shape), f32(5, 10)), ONE),
    "one scale": (scaled, (None, 0, None), (X, f32(5, *W.shape), SCALE), ONE),
    "dense": (
        lambda x, w, s: jbnn.binary_dense(x, w) * s,
        (0, 0, None),
        (f32(5, 2, 40), f32(5, 40, 10), f32()),
        ("binary dense", (2, 40), "bit", (2, 10), "float32"),
    ),
    "binary weights": (
        lambda x, w, s: jbnn.binary_conv(x, w, mode="binary_weights"),
        (0, 0, None),
        (f32(5, *X.shape), f32(5, *W.shape), f32()),
        ("conv", (2, 8, 6, 40), "float32", (2, 8, 6, 10), "float32"),
    ),
    "layer": (
        lambda x, w, s: jbnn.convolution.conv(x, w),
        (None, 0, None),
        (X, f32(5, *W.shape), f32()),
        ("conv", (2, 8, 6, 40), "float32", (2, 8, 6, 10), "float32"),
    ),
    "layer, dense": (
        lambda x, w, s: jbnn.convolution.dense(x, w),
        (0, 0, None),
        (f32(5, 2, 40), f32(5, 40, 10), f32()),
        ("dense", (2, 40), "float32", (2, 10), "float32"),
    ),
}


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["as it is", "jit"])
@pytest.mark.parametrize("name", NETWORKS)
def test_several_networks_are_several(name, transform):
    function, axes, shapes, expected = NETWORKS[name]
    (one,) = jbnn.summary(
        function, *(f32(*s.shape[1:]) if a == 0 else s for s, a in zip(shapes, axes, strict=True))
    ).layers
    (row,) = jbnn.summary(jax.vmap(transform(function), axes), *shapes).layers
    assert fields(row, "kind", *IN, *OUT) == expected
    assert (row.times, row.groups) == (5, 1)
    assert (row.binary_macs, row.float_macs) == (5 * one.binary_macs, 5 * one.float_macs)
    assert row.activation_bits == (5 if axes[0] == 0 else 1) * one.activation_bits


def test_networks_of_networks():
    f = jax.vmap(jax.vmap(lambda x, w: jbnn.binary_conv(x, w), (None, 0)), (0, 0))
    (row,) = jbnn.summary(f, f32(7, *X.shape), f32(7, 3, *W.shape)).layers
    assert fields(row, "times", "groups", *IN, *OUT) == (21, 1, *ONE[1:])
    assert row.binary_macs == 21 * MACS


def test_more_images_are_no_more_networks():
    for function in (jbnn.binary_conv, jbnn.convolution.conv):
        (row,) = jbnn.summary(jax.vmap(function, (0, None)), f32(5, *X.shape), W).layers
        assert fields(row, "times", "input_shape") == (1, (10, 8, 6, 40))


def test_arguments_by_name():
    found = jbnn.summary(scaled, X, s=1.0, w=W)
    assert counts(found) == [("binary conv", MACS, 0, 3601, 32 * 3601)]
    assert jbnn.summary(lambda fn: fn + 1, fn=f32(3)).layers == ()


def test_training_is_counted_too():
    """Forward and the two convolutions of the gradient, but not the float one whose shape alone was asked for."""
    found = jbnn.summary(jax.value_and_grad(lambda x, w: jbnn.binary_conv(x, w).sum(), (0, 1)), X, W)
    assert [r.kind for r in found.layers] == ["binary conv", "conv", "conv"]
    assert [r.binary_macs + r.float_macs for r in found.layers] == [MACS] * 3


TRAINED = {
    "groups": (functools.partial(jbnn.convolution.conv, feature_group_count=5), f32(3, 3, 8, 40), 4 * MACS // 5),
    "depthwise": (jbnn.convolution.depthwise_conv, f32(3, 3, 40, 1), 2 * 8 * 6 * 9 * 40),
    "one tap": (functools.partial(jbnn.convolution.conv, feature_group_count=5), f32(1, 1, 8, 40), 4 * MACS // 45),
    "constant edges": (
        functools.partial(jbnn.convolution.conv, edge_mode="constant", pad_value=1.0),
        W,
        MACS,
    ),
    "clamped edges": (functools.partial(jbnn.convolution.conv, edge_mode="clamp"), W, MACS),
    "transposed": (functools.partial(jbnn.convolution.conv_transpose, window_strides=2), W, MACS),
    "JAX's transposed": (lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME"), W, MACS),
    "JAX's strided": (
        lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
        W,
        MACS // 4,
    ),
    "binary, transposed, padded": (
        functools.partial(jbnn.binary_conv_transpose, window_strides=2, pad_value=1),
        W,
        MACS,
    ),
    "binary, groups": (functools.partial(jbnn.binary_conv, feature_group_count=5), f32(3, 3, 8, 10), MACS // 5),
    "binary weights": (
        functools.partial(jbnn.binary_conv_transpose, mode="binary_weights", window_strides=2, pad_value=1),
        W,
        MACS,
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_each_gradient_costs_what_the_layer_does(name):
    function, w, macs = TRAINED[name]

    def loss(x, w):
        return jnp.sum(function(x, w) ** 2)

    gradient = jax.grad(loss, (0, 1))
    for step in (gradient, jax.jit(gradient), jax.grad(jax.checkpoint(jax.jit(loss)), (0, 1))):
        found = jbnn.summary(step, X, w)
        assert [r.binary_macs + r.float_macs for r in found.layers] == [macs] * 3
        assert found.parameters == np.prod(w.shape)


def test_a_gradient_that_is_not_asked_for_has_no_row():
    def loss(x, w):
        return jnp.sum(jbnn.convolution.conv(x, w, feature_group_count=5))

    w = f32(3, 3, 8, 10)
    (row,) = jbnn.summary(jax.grad(loss, 1), X, w).layers
    assert fields(row, "float_macs", "output_shape", "groups") == (MACS // 5, (3, 3, 8, 10), 5)
    (row,) = jbnn.summary(lambda x, w: jax.grad(loss)(x, w), X, w).layers
    assert fields(row, "float_macs", "output_shape", "groups") == (MACS // 5, X.shape, 5)
    per_image = jbnn.summary(jax.vmap(jax.grad(loss, (0, 1)), (0, None)), f32(5, *X.shape), w)
    # Of a linear loss the gradient in x is that of every image, so it is computed once.
    assert [row.float_macs for row in per_image.layers] == [MACS // 5, MACS]


def test_forward_mode():
    function = functools.partial(jbnn.convolution.conv, feature_group_count=5)
    found = jbnn.summary(lambda x, w: jax.jvp(function, (x, w), (x, w)), X, f32(3, 3, 8, 10))
    assert [row.float_macs for row in found.layers] == [MACS // 5, 2 * MACS // 5]


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
