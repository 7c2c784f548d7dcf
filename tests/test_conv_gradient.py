"""The gradient convolutions: JAX's own, to the bit, and the sums that Apple's documentation writes out."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from float_expression import round_numbers
from numpy.testing import assert_array_equal

import jbnn
from jbnn import convolution
from jbnn.quantizers import approx_sign, swish_sign

PARTS = ("input", "kernel", "bias")


def normal(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def pulled_back(forward, x, w, outputs=None):
    """The gradient of forward(x, w, bias=b) as `jax.vjp` has it, and the cotangent that it was given."""
    result = jax.eval_shape(forward, x, w)
    g = normal(*result.shape, seed=9, dtype=result.dtype)

    @jax.jit
    def gradient(x, w, bias, g):
        _, pull_back = jax.vjp(lambda x, w, b: forward(x, w, bias=b), x, w, bias)
        return convolution.ConvGradient(*pull_back(g))

    return gradient(x, w, jnp.zeros(outputs or result.shape[-1], result.dtype), g), g


# Shapes of x and w, and the options of the forward call.
LAYERS = {
    "plain": ((2, 5, 4, 3), (3, 3, 3, 4), {}),
    "strides, dilation, even window": ((2, 9, 8, 3), (2, 4, 3, 2), {"window_strides": (3, 2), "rhs_dilation": (1, 2)}),
    "explicit, cropped": ((2, 6, 5, 2), (3, 2, 2, 3), {"padding": ((-1, 2), (3, -2)), "window_strides": 2}),
    "groups": ((2, 5, 4, 6), (3, 2, 2, 9), {"feature_group_count": 3, "window_strides": 2}),
    "depthwise, multiplier 2": ((1, 5, 4, 3), (3, 3, 1, 6), {"feature_group_count": 3}),
    "clamp": ((2, 5, 4, 2), (3, 3, 2, 2), {"edge_mode": "clamp", "window_strides": 2}),
    "mirror": ((1, 4, 3, 2), (3, 3, 2, 2), {"edge_mode": "mirror"}),
    "mirror_with_edge": ((1, 4, 3, 2), (3, 3, 2, 2), {"edge_mode": "mirror_with_edge", "rhs_dilation": 2}),
    "constant": ((1, 4, 3, 2), (3, 3, 2, 2), {"edge_mode": "constant", "pad_value": 1.5}),
    "1-D": ((2, 7, 3), (4, 3, 2), {"window_strides": 2, "padding": "VALID"}),
    "3-D": ((1, 3, 4, 3, 2), (2, 3, 2, 2, 2), {"window_strides": (1, 2, 1)}),
    "wide batch": ((65, 2, 2, 1), (2, 2, 1, 2), {}),
    "empty batch": ((0, 4, 3, 2), (3, 3, 2, 2), {}),
    "no output": ((2, 2, 2, 2), (3, 3, 2, 2), {"padding": "VALID"}),
    "transposed": ((2, 3, 4, 3), (3, 3, 3, 4), {"transposed": True, "window_strides": 2}),
    "transposed, output size": (
        (2, 3, 4, 6),
        (3, 2, 2, 9),
        {
            "transposed": True,
            "window_strides": (2, 3),
            "feature_group_count": 3,
            "padding": ((1, 1), (0, 2)),
            "output_size": (6, 12),
        },
    ),
    "transposed, dilation, 1-D": ((2, 4, 2), (3, 2, 3), {"transposed": True, "rhs_dilation": 2, "padding": "VALID"}),
    "bfloat16": ((2, 5, 4, 3), (3, 3, 3, 4), {"dtype": jnp.bfloat16}),
    "bfloat16 summed in float32": (
        (2, 5, 4, 3),
        (3, 3, 3, 4),
        {"dtype": jnp.bfloat16, "preferred_element_type": jnp.float32, "precision": "highest"},
    ),
}


@pytest.mark.parametrize("x_shape, w_shape, options", LAYERS.values(), ids=LAYERS)
def test_conv_gradient_is_jax_vjp(x_shape, w_shape, options):
    """In two programs, so that the compiler cannot make one of both."""
    options = dict(options)
    dtype, transposed = options.pop("dtype", np.float32), options.pop("transposed", False)
    forward = functools.partial(convolution.conv_transpose if transposed else convolution.conv, **options)
    x, w = normal(*x_shape, dtype=dtype), normal(*w_shape, seed=1, dtype=dtype)
    expected, g = pulled_back(forward, x, w)

    @jax.jit
    def ours(x, w, g):
        gradient = functools.partial(convolution.conv_gradient, transposed=transposed, **options)
        return (
            gradient(x, w, g),
            gradient(None, w, g, wrt="input", input_size=x_shape[1:-1]),
            gradient(x, None, g, wrt=["kernel", "bias"], window=w_shape[:-2]),
            gradient(None, None, g, wrt=("bias",)),
        )

    everything, by_input, by_kernel, by_bias = ours(x, w, g)
    chex.assert_trees_all_equal_shapes_and_dtypes(everything, expected)
    chex.assert_trees_all_equal(everything, expected)
    chex.assert_trees_all_equal(by_input, expected._replace(kernel=None, bias=None))
    chex.assert_trees_all_equal(by_kernel, expected._replace(input=None))
    chex.assert_trees_all_equal(by_bias, convolution.ConvGradient(None, None, expected.bias))


@pytest.mark.parametrize("wrt", [p for n in (1, 2, 3) for p in itertools.combinations(PARTS, n)], ids="+".join)
def test_what_is_not_asked_for_is_none(wrt):
    x, w, g = normal(1, 3, 2), normal(2, 2, 4), normal(1, 3, 4)
    layers = {
        convolution.conv_gradient: (x, w, g),
        convolution.binary_conv_gradient: (x, w, g),
        convolution.dense_gradient: (x[0], w[0], g[0]),
    }
    for function, args in layers.items():
        whole, some = function(*args), function(*args, wrt=wrt)
        for part in PARTS:
            assert (getattr(some, part) is None) == (part not in wrt)
            if part in wrt:
                assert_array_equal(getattr(some, part), getattr(whole, part))


def test_dense_gradient_is_jax_vjp():
    for lead, dtype, options in [
        ((), np.float32, {}),
        ((2, 3), np.float32, {"precision": "highest"}),
        ((2, 3), jnp.bfloat16, {"preferred_element_type": jnp.float32}),
        ((0,), np.float32, {}),
    ]:
        x, w = normal(*lead, 5, dtype=dtype), normal(5, 4, seed=1, dtype=dtype)
        expected, g = pulled_back(functools.partial(convolution.dense, **options), x, w)
        gradient = jax.jit(functools.partial(convolution.dense_gradient, **options), static_argnames="wrt")
        chex.assert_trees_all_equal(gradient(x, w, g), expected)
        chex.assert_trees_all_equal(gradient(None, w, g, wrt="input").input, expected.input)
        chex.assert_trees_all_equal(gradient(x, None, g, wrt="kernel").kernel, expected.kernel)
        chex.assert_trees_all_equal(gradient(None, None, g, wrt="bias").bias, expected.bias)


def test_a_depthwise_layer():
    x, w = normal(2, 6, 5, 3), normal(3, 2, 3, 2, seed=1)
    forward = functools.partial(convolution.depthwise_conv, window_strides=2, rhs_dilation=(1, 2))
    expected, g = pulled_back(forward, x, w)
    options = {"feature_group_count": 3, "window_strides": 2, "rhs_dilation": (1, 2)}
    ours = jax.jit(functools.partial(convolution.conv_gradient, **options))(x, w.reshape(3, 2, 1, 6), g)
    chex.assert_trees_all_equal(ours._replace(kernel=ours.kernel.reshape(w.shape)), expected)


@pytest.mark.usefixtures("on_cpu")  # where equal programs add in the same order
@pytest.mark.parametrize("order", ["dcr", "crd"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_sub_pixel_layer(order, groups):
    x, w = normal(2, 3, 4, 6), normal(3, 3, 6 // groups, 12, seed=1)

    def forward(x, w, bias=None):
        y = convolution.conv(x, w, bias=bias, feature_group_count=groups)
        return convolution.depth_to_space(y, 2, order=order)

    expected, g = pulled_back(forward, x, w, outputs=12)

    @jax.jit
    def ours(x, w, g):
        before = convolution.space_to_depth(g, 2, order=order)
        return convolution.conv_gradient(x, w, before, feature_group_count=groups)

    chex.assert_trees_all_equal(ours(x, w, g), expected)


# MPS's geometry of one axis: rows, window, stride, dilation, offset, outputs.
AXES = [(7, 3, 2, 1, 0, 4), (6, 4, 1, 1, 1, 5), (9, 2, 3, 2, 0, 3), (8, 3, 1, 2, -1, 8), (5, 1, 2, 1, 1, 2)]


@pytest.mark.parametrize("n, k, s, d, offset, m", AXES)
def test_the_sums_that_mps_documents(n, k, s, d, offset, m):
    """dW, db, dI of `MPSCNNConvolutionGradient`, term by term, in one dimension, summed over the batch.

    Output y reads row s·y + offset - kd // 2 + d·p through tap p; kd is the dilated window.
    """
    channels, features, batch = 2, 3, 2
    x, w = round_numbers((batch, n, channels), 1), round_numbers((k, channels, features), 2)
    g = round_numbers((batch, m, features), 3)
    kd = (k - 1) * d + 1
    start = offset - kd // 2

    by_kernel = np.zeros_like(w)
    for y, p in itertools.product(range(m), range(k)):
        row = s * y + start + d * p
        if 0 <= row < n:
            by_kernel[p] += np.einsum("nc,no->co", x[:, row], g[:, y])

    # dI: zeros between the rows of g, then a correlation of unit stride with the rotated kernel, in and out exchanged.
    spread = np.zeros((batch, (m - 1) * s + 1, features), np.float32)
    spread[:, ::s] = g
    rotated = w[::-1].swapaxes(1, 2)
    kernel_offset = -offset + (kd % 2 == 0)
    by_input = np.zeros_like(x)
    for i, p in itertools.product(range(n), range(k)):
        row = i + kernel_offset - kd // 2 + d * p
        if 0 <= row < spread.shape[1]:
            by_input[:, i] += spread[:, row] @ rotated[p]

    high = (m - 1) * s + start + kd - n
    options = {"window_strides": s, "rhs_dilation": d, "padding": [(-start, high)]}
    ours = convolution.conv_gradient(x, w, g, **options)
    chex.assert_trees_all_equal(ours, convolution.ConvGradient(by_input, by_kernel, g.sum((0, 1))))


BINARY = {
    "xnor": {},
    "and": {"mode": "and", "pad_value": 1, "window_strides": 2},
    "binary_weights": {"mode": "binary_weights", "pad_value": 0.5, "rhs_dilation": 2},
    "groups, other quantizers": {
        "feature_group_count": 2,
        "input_quantizer": approx_sign,
        "kernel_quantizer": functools.partial(swish_sign, beta=2.0),
    },
    "terms, beta": {
        "input_bias": 0.5,
        "input_scale": normal(6, seed=5),
        "scale": normal(4, seed=6),
        "beta_scaling": True,
        "pad_value": -1,
    },
    "transposed": {"transposed": True, "window_strides": 2, "output_size": (11, 9), "padding": "VALID"},
    "bfloat16": {"dtype": jnp.bfloat16, "scale": 2.0},
}


@pytest.mark.parametrize("options", BINARY.values(), ids=BINARY)
def test_binary_conv_gradient_is_jax_vjp(options):
    options = dict(options)
    dtype, transposed = options.pop("dtype", np.float32), options.pop("transposed", False)
    depth = 6 // options.get("feature_group_count", 1)
    x, w = normal(2, 5, 4, 6, dtype=dtype), normal(3, 3, depth, 4, seed=1, dtype=dtype)
    forward = functools.partial(jbnn.binary_conv_transpose if transposed else jbnn.binary_conv, **options)
    expected, g = pulled_back(forward, x, w)
    gradient = functools.partial(convolution.binary_conv_gradient, transposed=transposed, **options)
    ours = jax.jit(gradient)(x, w, g)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, expected)
    chex.assert_trees_all_equal(ours, expected)


def test_a_packed_kernel_has_an_input_gradient():
    x, w, g = normal(2, 5, 4, 40), normal(3, 3, 40, 4, seed=1), normal(2, 5, 4, 4, seed=2)
    words = oracle.pack(w, axis=-2)
    gradient = jax.jit(convolution.binary_conv_gradient, static_argnames="wrt")
    ours = gradient(x, words, g, wrt=("input", "bias"))
    expected = gradient(x, w, g)
    chex.assert_trees_all_equal(ours, expected._replace(kernel=None))


def test_gradients_under_vmap_and_of_gradients():
    """Batched in every argument; and, the map being linear in each operand, differentiable again."""
    x, w, g = normal(3, 2, 5, 2), normal(3, 3, 2, 4, seed=1), normal(3, 2, 5, 4, seed=2)
    batched = jax.vmap(convolution.conv_gradient)(x, w, g)
    for i in range(3):
        one = convolution.conv_gradient(x[i], w[i], g[i])
        chex.assert_trees_all_close(jax.tree.map(lambda part, i=i: part[i], batched), one, rtol=1e-5, atol=1e-5)
    second = jax.grad(lambda w: convolution.conv_gradient(x[0], w, g[0], wrt="input").input.sum())(w[0])
    expected = jax.grad(lambda w: jax.vjp(lambda x: convolution.conv(x, w), x[0])[1](g[0])[0].sum())(w[0])
    chex.assert_trees_all_close(second, expected, rtol=1e-5)
