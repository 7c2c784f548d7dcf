"""What `jbnn.convolution` refuses, before anything is computed: the argument, what it must be, and what it was."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbnn
from jbnn import convolution as c


def floats(*shape, dtype=np.float32):
    return jnp.ones(shape, dtype)


X, W, G = floats(1, 5, 4, 6), floats(3, 3, 6, 4), floats(1, 5, 4, 4)
DEPTHWISE = floats(3, 3, 6, 2)
WORDS = floats(3, 3, 1, 4, dtype=np.uint32)
BYTES = floats(3, 3, 6, 4, dtype=np.uint8)

DTYPES = "must have dtype float32, bfloat16, float16 or float64, but has dtype"
IMAGE = "`x` must have shape (N, *S, C) with one to three spatial axes, but has shape"
MODES = '`edge_mode` must be one of "zero", "clamp", "mirror", "mirror_with_edge", "constant", but was'
ONE_VALUE = '`pad_value` must be 0 unless `edge_mode` is "constant", but was'
DIVIDE = "`feature_group_count` must be positive and divide the 6 channels, but was"
PARTS = '`wrt` must be one or more of "input", "kernel", "bias", but was'
RESULT = "`g` must have shape (1, 5, 4, 4), as the layer's result, but has shape"
half = jnp.bfloat16

WRONG_DTYPE = [
    (c.conv, [X.astype(int), W], {}, f"`x` {DTYPES} int32"),
    (c.conv, [X, WORDS], {}, f"`w` {DTYPES} uint32"),
    (c.conv, [X, W.astype(half)], {}, "`w` must have the dtype of `x`, float32, but has dtype bfloat16"),
    (c.conv, [X, W], {"bias": floats(4, dtype=bool)}, "`bias` must be real, but has dtype bool"),
    (c.conv, [X, W], {"activation": "relu"}, "`activation` must be a function or None, but was 'relu'"),
    (c.conv, [X, W], {"preferred_element_type": np.int32}, "`preferred_element_type` must be floating, but was int32"),
    (c.conv, [X, W], {"preferred_element_type": half}, "`preferred_element_type` must be no narrower than `x`"),
    (c.conv, [X, W], {"edge_mode": "constant", "pad_value": jnp.ones(())}, "`pad_value` must be a Python number"),
    (c.conv, [X, W], {"pad_value": jnp.ones(())}, "`pad_value` must be a Python number, but was"),
    (c.conv, [X, W], {"window_strides": 1.5}, "`window_strides` must be an integer or 2 integers, but was 1.5"),
    (c.depthwise_conv, [X, DEPTHWISE.astype(half)], {}, "`w` must have the dtype of `x`, float32, but has"),
    (c.conv_transpose, [X.astype(bool), W], {}, f"`x` {DTYPES} bool"),
    (c.conv_transpose, [X, W], {"output_size": 5.0}, "`output_size` must be an integer or 2 integers, but was 5.0"),
    (c.dense, [X, W[0, 0].astype(half)], {}, "`w` must have the dtype of `x`, float32, but has dtype bfloat16"),
    (c.conv_gradient, [X, W, G.astype(int)], {}, f"`g` {DTYPES} int32"),
    (c.conv_gradient, [X, W, G.astype(half)], {}, "`g` must have dtype float32, as the layer's result, but has"),
    (c.conv_gradient, [X.astype(half), W, G], {}, "`w` must have the dtype of `x`, bfloat16, but has dtype float32"),
    (c.dense_gradient, [X, W[0, 0], G.astype(half)], {}, "`g` must have dtype float32, as the layer's result, but has"),
    (c.binary_conv_gradient, [X, W, G.astype(half)], {}, "`g` must have dtype float32, as the layer's result, but"),
    (c.binary_conv_gradient, [X, WORDS, G], {}, '`w` must be a latent kernel where "kernel" is in `wrt`, but has'),
    (c.depth_to_space, [X, 2.0], {}, "`block` must be an integer or 2 integers, but was 2.0"),
    (c.transpose_kernel, [W], {"feature_group_count": 1.0}, "`feature_group_count` must be an integer, but was 1.0"),
    (c.cross_channel_normalization, [X.astype(int)], {}, f"`x` {DTYPES} int32"),
    (c.cross_channel_normalization, [X], {"alpha": 1j}, "`alpha` must be real, but has dtype complex64"),
    (c.cross_channel_normalization, [X], {"kernel_size": 5.0}, "`kernel_size` must be an integer, but was 5.0"),
    (c.dequantize_linear, [W, 0, 1], {}, "`w` must have dtype uint8, but has dtype float32"),
    (c.dequantize_linear, [BYTES, floats(4, dtype=bool), 1], {}, "`minimum` must be real, but has dtype bool"),
    (c.dequantize_linear, [np.zeros((2, 4), np.uint64), 0, 1], {}, ("`w` must have dtype uint8", "uint64")),
    (c.depth_to_space, [np.zeros((1, 2, 2, 4), np.int64), 2], {}, ("`x` must have", "int64", "jax_enable_x64")),
    (c.transpose_kernel, [np.zeros((3, 1, 1))], {}, ("`w` must have", "float64", "jax_enable_x64")),
    (c.dequantize_lookup, [W, floats(256)], {}, "`w` must have dtype uint8, but has dtype float32"),
    (c.dequantize_lookup, [BYTES, floats(256, dtype=int)], {}, "`table` must have a floating dtype, but has dtype int"),
]

OF_BIAS = [None, None, G]  # neither operand is needed, and every option is looked at all the same

WRONG_VALUE = [
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "padding": "nonsense"}, ("`padding` must be", "'nonsense'")),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "window_strides": -1}, ("`window_strides` must be", "at least 1", "-1")),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "rhs_dilation": 0}, ("`rhs_dilation` must be", "at least 1", "was 0")),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "feature_group_count": 3}, ("`feature_group_count` must", "4", "was 3")),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "edge_mode": "reflect"}, f"{MODES} 'reflect'"),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "pad_value": 1.0}, f"{ONE_VALUE} 1.0"),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "precision": "best"}, ("recision", "best")),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "output_size": 5}, "`output_size` must be None unless `transposed`"),
    (c.conv_gradient, OF_BIAS, {"wrt": "bias", "window": (3, -1)}, ("`window` must be", "at least 0", "(3, -1)")),
    (c.conv_gradient, [X, None, G], {"wrt": "bias", "padding": "nonsense"}, ("`padding` must be", "'nonsense'")),
    (c.conv_gradient, [X, W, G], {"wrt": "bias", "precision": "best"}, ("recision", "best")),
    (c.dense_gradient, OF_BIAS, {"wrt": "bias", "precision": "best"}, ("recision", "best")),
    (c.binary_conv_gradient, OF_BIAS, {"wrt": "bias", "mode": "or"}, ("`mode` must be", "'or'")),
    (c.binary_conv_gradient, OF_BIAS, {"wrt": "bias", "padding": "no"}, ("`padding` must be", "'no'")),
    (c.binary_conv_gradient, OF_BIAS, {"wrt": "bias", "pad_value": 7}, ("`pad_value` must be", "7")),
    (c.binary_conv_gradient, OF_BIAS, {"wrt": "bias", "scale": floats(3)}, ("`scale` must", "(4,)", "(3,)")),
    (c.conv, [X[0, 0], W], {}, f"{IMAGE} (4, 6)"),
    (c.conv, [X, W[0]], {}, "`w` must have 4 axes, as `x` has, but has shape (3, 6, 4)"),
    (c.conv, [X, floats(3, 3, 3, 4)], {}, ("`w` must have", "C / groups = 6", "(3, 3, 3, 4)", "(1, 5, 4, 6)")),
    (c.conv, [X, W], {"feature_group_count": 4}, f"{DIVIDE} 4"),
    (
        c.conv,
        [X, floats(3, 3, 2, 4)],
        {"feature_group_count": 3},
        ("`w` must have output channels that `feature_group_count` = 3 divides", "(3, 3, 2, 4)", "(1, 5, 4, 6)"),
    ),
    (c.conv, [X, W], {"bias": floats(6)}, "`bias` must be a scalar or have shape (O,) = (4,), but has shape (6,)"),
    (c.conv, [X, W], {"edge_mode": "reflect"}, f"{MODES} 'reflect'"),
    (c.conv, [X, W], {"edge_mode": None}, f"{MODES} None"),
    (c.conv, [X, W], {"pad_value": 1.0}, f"{ONE_VALUE} 1.0"),
    (c.conv, [X, W], {"pad_value": -1, "edge_mode": "clamp"}, f"{ONE_VALUE} -1"),
    (c.conv, [X[:, :0], W], {"edge_mode": "clamp", "padding": [(1, 1), (1, 1)]}, "must have a pixel to continue, but"),
    (c.conv, [X, W], {"padding": "same"}, ("`padding` must be", '"SAME_LOWER"', "2 pairs of integers", "'same'")),
    (c.conv, [X, W], {"rhs_dilation": 0}, "`rhs_dilation` must be an integer or 2 integers, each at least 1, but was"),
    (c.depthwise_conv, [X, W[:, :, :3]], {}, ("`w` must have", "(*K, C, M)", "C = 6", "(3, 3, 3, 4)", "(1, 5, 4, 6)")),
    (c.depthwise_conv, [X, W[0]], {}, ("`w` must have", "(*K, C, M)", "2 window axes", "(3, 6, 4)", "(1, 5, 4, 6)")),
    (c.depthwise_conv, [X[0, 0], W[0, 0]], {}, f"{IMAGE} (4, 6)"),
    (c.depthwise_conv, [X, DEPTHWISE], {"bias": floats(6)}, "`bias` must be a scalar or have shape (O,) = (12,), but"),
    (c.conv_transpose, [X, W], {"output_size": (6, 4)}, "`output_size` must lie in [5, 5], [4, 4], but was (6, 4)"),
    (
        c.conv_transpose,
        [X, W],
        {"output_size": 9, "window_strides": 2},
        "`output_size` must lie in [10, 11], [8, 9], but was (9, 9)",
    ),
    (c.conv_transpose, [X, W], {"output_size": (5, 4, 1)}, "`output_size` must be an integer or 2 integers, each"),
    (c.conv_transpose, [X, W], {"feature_group_count": 4}, f"{DIVIDE} 4"),
    (c.dense, [floats(), W[0, 0]], {}, "`x` must have shape (…, C), but has shape ()"),
    (c.dense, [X, W], {}, ("`w` must have shape (C, O)", "(3, 3, 6, 4)", "(1, 5, 4, 6)")),
    (c.dense, [X, floats(4, 6)], {}, ("`w` must have", "6 input channels", "(4, 6)", "(1, 5, 4, 6)")),
    (c.conv_gradient, [X, W, G], {"wrt": "x"}, f"{PARTS} 'x'"),
    (c.conv_gradient, [X, W, G], {"wrt": ()}, f"{PARTS} ()"),
    (c.conv_gradient, [X, W, G], {"wrt": 3}, f"{PARTS} 3"),
    (c.conv_gradient, [X, W, G], {"wrt": ("input", "weights")}, f"{PARTS} ('input', 'weights')"),
    (c.conv_gradient, [None, W, G], {}, '`x` must be given where "kernel" is in `wrt`, but was None'),
    (c.conv_gradient, [X, None, G], {}, '`w` must be given where "input" is in `wrt`, but was None'),
    (c.conv_gradient, [None, W, G], {"wrt": "input"}, "`input_size` must be given where `x` is None, but was None"),
    (c.conv_gradient, [X, None, G], {"wrt": "kernel"}, "`window` must be given where `w` is None, but was None"),
    (c.conv_gradient, [X, W, G], {"input_size": 5}, "`input_size` must be None unless `x` is None, but was 5"),
    (c.conv_gradient, [X, W, G], {"window": (3, 3)}, "`window` must be None unless `w` is None, but was (3, 3)"),
    (c.conv_gradient, [None, W, G], {"wrt": "input", "input_size": (6, 4)}, "`g` must have shape (1, 6, 4, 4)"),
    (c.conv_gradient, [None, W[0], G], {"wrt": "input", "input_size": 5}, "`w` must have 4 axes, as `x` has, but"),
    (c.conv_gradient, [X, None, G], {"wrt": "kernel", "window": 3, "feature_group_count": 4}, f"{DIVIDE} 4"),
    (c.conv_gradient, [X, W, G[0, 0]], {}, "`g` must have shape (N, *S', O) with one to three spatial axes, but"),
    (c.conv_gradient, [X, W, G[:, 1:]], {}, f"{RESULT} (1, 4, 4, 4)"),
    (c.conv_gradient, [X, W, G], {"output_size": 5}, "`output_size` must be None unless `transposed` is True, but"),
    (c.conv_gradient, [X, W, G], {"transposed": True, "edge_mode": "clamp"}, '`edge_mode` must be "zero" where'),
    (c.conv_gradient, [X, W, G], {"transposed": True, "output_size": 9}, "`output_size` must lie in [5, 5], [4, 4]"),
    (c.conv_gradient, [X, W, G], {"transposed": True, "window_strides": 2}, "`g` must have shape (1, 10, 8, 4), as"),
    (c.dense_gradient, [X, W[0, 0], floats()], {}, "`g` must have shape (…, O), but has shape ()"),
    (c.dense_gradient, [X, W[0, 0], G[0]], {}, f"{RESULT} (5, 4, 4)"),
    (c.dense_gradient, [X, None, G], {}, '`w` must be given where "input" is in `wrt`, but was None'),
    (c.binary_conv_gradient, [None, W, G], {"wrt": "input"}, '`x` must be given unless `wrt` is "bias" alone, but was'),
    (c.binary_conv_gradient, [X, None, G], {}, '`w` must be given unless `wrt` is "bias" alone, but was None'),
    (c.binary_conv_gradient, [X, W, G[..., :1]], {}, f"{RESULT} (1, 5, 4, 1)"),
    (c.binary_conv_gradient, [X, W, G], {"wrt": "scale"}, f"{PARTS} 'scale'"),
    (c.binary_conv_gradient, [X, W, G], {"output_size": 5}, "`output_size` must be None unless `transposed` is True"),
    (
        c.binary_conv_gradient,
        [X, W, G],
        {"mode": "or"},
        ("`mode` must be", '"xnor"', '"and"', '"binary_weights"', "'or'"),
    ),
    (c.depth_to_space, [X, 2], {}, "`block` must divide the 6 channels, but has 4 pixels"),
    (c.depth_to_space, [X, (2,)], {}, "`block` must be an integer or 2 integers, each at least 1, but was (2,)"),
    (c.depth_to_space, [X, 0], {}, "`block` must be an integer or 2 integers, each at least 1, but was 0"),
    (c.depth_to_space, [X, 1], {"order": "DCR"}, '`order` must be "dcr" or "crd", but was \'DCR\''),
    (c.depth_to_space, [X[0, 0], 1], {}, f"{IMAGE} (4, 6)"),
    (c.space_to_depth, [X, 2], {}, "`block` must divide the spatial axes of `x`, (5, 4), but was (2, 2)"),
    (c.transpose_kernel, [W[0, 0]], {}, "`w` must have shape (*K, O/G, C) with one to three window axes, but has"),
    (c.transpose_kernel, [W], {"feature_group_count": 3}, "`feature_group_count` must be positive and divide the 4"),
    (c.cross_channel_normalization, [floats()], {}, "`x` must have shape (…, C), but has shape ()"),
    (c.cross_channel_normalization, [X], {"kernel_size": 0}, "`kernel_size` must be positive, but was 0"),
    (c.cross_channel_normalization, [X], {"alpha": floats(6)}, "`alpha` must be a scalar, but has shape (6,)"),
    (c.dequantize_linear, [BYTES, floats(6), 1], {}, "`minimum` must be a scalar or have shape (O,) = (4,), but has"),
    (c.dequantize_linear, [BYTES, 0, floats(1)], {}, "`maximum` must be a scalar or have shape (O,) = (4,), but has"),
    (c.dequantize_linear, [BYTES[0, 0, 0, 0], 0, 1], {}, "`w` must have shape (…, O), but has shape ()"),
    (c.dequantize_lookup, [BYTES, floats(255)], {}, "`table` must have shape (256,), but has shape (255,)"),
]


def described(row):
    function, args, options, _ = row
    shapes = "x".join(str(getattr(arg, "shape", arg)) for arg in args)
    return f"{function.__name__}-{shapes}-{','.join(options)}"


def check(error, function, args, options, message):
    """The facts appear, while only shapes are known."""
    arrays = [i for i, arg in enumerate(args) if isinstance(arg, jax.Array)]

    def call(*given):
        return function(*(given[arrays.index(i)] if i in arrays else arg for i, arg in enumerate(args)), **options)

    with pytest.raises(error) as raised:
        jax.eval_shape(call, *(args[i] for i in arrays))
    for fact in (message,) if isinstance(message, str) else message:
        assert fact in str(raised.value)


@pytest.mark.parametrize("row", WRONG_DTYPE, ids=described)
def test_wrong_dtype(row):
    check(TypeError, *row)


@pytest.mark.parametrize("row", WRONG_VALUE, ids=described)
def test_wrong_value(row):
    check(ValueError, *row)


def test_nothing_is_computed_before_everything_is_checked():
    def explode(x):
        raise AssertionError("computed before everything was checked")

    for options in ({"bias": floats(7)}, {"padding": "same"}, {"edge_mode": "wrap"}, {"pad_value": 7}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
            c.conv(X, W, activation=explode, **options)


@pytest.mark.parametrize("name", sorted(set(c.__all__) - {"ConvGradient"}))
def test_options_are_keywords(name):
    parameters = inspect.signature(getattr(jbnn.convolution, name)).parameters.values()
    options = [p for p in parameters if p.default is not p.empty]
    assert all(p.kind is p.KEYWORD_ONLY for p in options)
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters if p not in options)


@pytest.mark.parametrize("module", [jbnn.convolution, jbnn.mps], ids=lambda module: module.__name__)
def test_signatures_can_be_read(module):
    """`help` opens with the names of types, and not with what each stands for."""
    for function in filter(inspect.isfunction, (getattr(module, name) for name in module.__all__)):
        for parameter in inspect.signature(function).parameters.values():
            assert len(str(parameter.annotation)) < 40, function.__name__
