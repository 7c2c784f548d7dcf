"""Eager calls send nothing to the device by themselves: of arrays that are there, everything runs there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jbnn import convolution as c, mps

X, W, G, B = (jnp.ones(shape) for shape in ((1, 4, 4, 4), (3, 3, 4, 4), (1, 4, 4, 4), (4,)))
GROUPED, DEPTHWISE, NONE, MATRIX = jnp.ones((3, 3, 2, 4)), jnp.ones((3, 3, 4, 2)), X[:0], jnp.ones((4, 4))
BYTES, TABLE, RANGES = jnp.ones((3, 3, 4, 4), jnp.uint8), jnp.ones(256), jnp.ones((4, 2))
WORDS, FLAT, TARGET = jnp.ones((4, 3, 3, 1), jnp.uint32), jnp.ones((4, 3, 3, 4)), jnp.ones((1, 6, 6, 4))
NORM = mps.BatchNormalization(mean=[0.5] * 4, variance=[1.0] * 4, epsilon=1e-3)


def source(data_type=mps.DataType.FLOAT32, weights=FLAT, **options):
    of = {name: options.pop(name) for name in list(options) if name in mps.ConvolutionDescriptor.__dataclass_fields__}
    d = mps.ConvolutionDescriptor(input_feature_channels=4, output_feature_channels=4, **of)
    return mps.ArrayDataSource(d, data_type, weights, B, **options)


def call(function, *args, **options):
    return functools.partial(function, *args, **options)


D = source().descriptor
OF_BYTES = jnp.ones((4, 3, 3, 4), jnp.uint8)
CALLS = {
    "conv": call(c.conv, X, W, bias=B, activation=jnp.tanh, window_strides=2),
    "conv, groups": call(c.conv, X, GROUPED, feature_group_count=2),
    "conv, clamp": call(c.conv, X, W, edge_mode="clamp"),
    "conv, mirror": call(c.conv, X, W, edge_mode="mirror", padding=((2, -1), (-1, 2))),
    "conv, constant": call(c.conv, X, W, edge_mode="constant", pad_value=2.0),
    "conv, no image": call(c.conv, NONE, W),
    "depthwise_conv": call(c.depthwise_conv, X, DEPTHWISE),
    "conv_transpose": call(c.conv_transpose, X, W, window_strides=2),
    "dense": call(c.dense, X, MATRIX, bias=B),
    "conv_gradient": call(c.conv_gradient, X, W, G),
    "conv_gradient, groups": call(c.conv_gradient, X, GROUPED, G, feature_group_count=2),
    "conv_gradient, clamp": call(c.conv_gradient, X, W, G, edge_mode="clamp"),
    "conv_gradient, bias": call(c.conv_gradient, None, None, G, wrt="bias"),
    "dense_gradient": call(c.dense_gradient, X, MATRIX, G),
    "depth_to_space": call(c.depth_to_space, X, 2),
    "space_to_depth": call(c.space_to_depth, X, 2),
    "transpose_kernel": call(c.transpose_kernel, W),
    "cross_channel_normalization": call(c.cross_channel_normalization, X),
    "dequantize_linear": call(c.dequantize_linear, BYTES, B, B),
    "dequantize_lookup": call(c.dequantize_lookup, BYTES, TABLE),
    "mps.convolution": call(mps.convolution, X, source(batch_normalization=NORM)),
    "mps.convolution, clamp": call(mps.convolution, X, source(), edge_mode=mps.EdgeMode.CLAMP),
    "mps.convolution, destination": call(
        mps.convolution, X, source(), destination=TARGET, clip=((1, 1), (2, 2)), offset=(1, 0)
    ),
    "mps.convolution, sub-pixels": call(mps.convolution, X, source(sub_pixel_scale_factor=2)),
    "mps.convolution, ranges": call(
        mps.convolution, X, source(mps.DataType.UINT8, OF_BYTES, weights_quantization_type=1, ranges=RANGES)
    ),
    "mps.convolution, table": call(
        mps.convolution, X, source(mps.DataType.UINT8, OF_BYTES, weights_quantization_type=2, lookup_table=TABLE)
    ),
    "mps.convolution_transpose": call(mps.convolution_transpose, X, source(stride_in_pixels_x=2)),
    "mps.convolution_gradient": call(mps.convolution_gradient, X, source(), G),
    "mps.binary_convolution, real": call(mps.binary_convolution, X, source(mps.DataType.UINT32, WORDS), type=0),
    "mps.pack_weights": call(mps.pack_weights, W),
    "mps.unpack_weights": call(mps.unpack_weights, WORDS, D),
    "mps.kernel_from_weights": call(mps.kernel_from_weights, FLAT, D),
    "mps.weights_from_kernel": call(mps.weights_from_kernel, W),
    "mps.dense_words": call(mps.dense_words, WORDS, D),
}


@pytest.mark.parametrize("run", CALLS.values(), ids=CALLS)
def test_nothing_is_sent(run):
    with jax.transfer_guard("disallow"):
        result = run()
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(result))
