"""Data sources and arrays that the tests of the door share."""

import jax.numpy as jnp
import numpy as np

from jbnn import mps

BINARY_WEIGHTS, XNOR, AND = mps.BinaryConvolutionType
BETA = mps.BinaryConvolutionFlags.USE_BETA_SCALING
UINT32, FLOAT32 = mps.DataType.UINT32, mps.DataType.FLOAT32
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def descriptor(inputs=33, outputs=4, size=3, **options):
    return mps.ConvolutionDescriptor(
        kernel_width=size,
        kernel_height=size,
        input_feature_channels=inputs,
        output_feature_channels=outputs,
        **options,
    )


def source_of(w, bias=None, **options):
    """A data source of words, from a kernel (k, k, C/G, O)."""
    size, _, depth, outputs = w.shape
    d = descriptor(depth * options.get("groups", 1), outputs, size, **options)
    return mps.ArrayDataSource(d, UINT32, mps.pack_weights(w), bias)


def real_source(w, bias=None, **options):
    size, _, depth, outputs = w.shape
    d = descriptor(depth * options.get("groups", 1), outputs, size, **options)
    return mps.ArrayDataSource(d, FLOAT32, mps.weights_from_kernel(w), bias)


def one_pixel(values):
    return jnp.asarray(values, jnp.float32).reshape(1, 1, 1, -1)


def one_tap(word, channels, bias=None):
    """One output of one tap, whose weights are a word written out."""
    bias = None if bias is None else jnp.float32([bias])
    return mps.ArrayDataSource(descriptor(channels, 1, 1), UINT32, np.uint32([word]), bias)


X, W = normal(2, 5, 4, 33), normal(3, 3, 33, 4)
TERMS = {
    "output_bias_terms": normal(4),
    "output_scale_terms": normal(4),
    "input_bias_terms": normal(33),
    "input_scale_terms": normal(33),
}


def row_of_three():
    d = mps.ConvolutionDescriptor(kernel_height=1, input_feature_channels=1, output_feature_channels=1)
    return mps.ArrayDataSource(d, UINT32, np.ones(3, np.uint32))
