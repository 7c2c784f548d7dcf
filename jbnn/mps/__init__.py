"""A door for code that comes from Metal Performance Shaders: its descriptors, weights and layers, as pure functions.

Layers take an image (N, H, W, C) and a data source, which is a descriptor with weights in MPS's layout, and follow
MPS's arithmetic where Apple documents it; the documentation's table says where it does not and what holds here. Unlike
MPS's, binary layers can be trained. Pairs of rows and columns name rows first, as arrays do; MPS names x first.
"""

from jbnn.mps._binary import binary_convolution, binary_fully_connected
from jbnn.mps._blobs import (
    dense_words,
    kernel_from_weights,
    pack_weights,
    unpack_weights,
    weights_from_dense_words,
    weights_from_kernel,
)
from jbnn.mps._descriptor import BatchNormalization, ConvolutionDescriptor
from jbnn.mps._enums import (
    AccumulatorPrecision,
    BinaryConvolutionFlags,
    BinaryConvolutionType,
    DataType,
    EdgeMode,
    GradientOption,
    NeuronType,
    PaddingMethod,
    WeightsQuantizationType,
)
from jbnn.mps._float import convolution, convolution_gradient, convolution_transpose
from jbnn.mps._neuron import NeuronDescriptor
from jbnn.mps._padding import padding_policy
from jbnn.mps._source import ArrayDataSource, DataSource

__all__ = [
    "AccumulatorPrecision",
    "ArrayDataSource",
    "BatchNormalization",
    "BinaryConvolutionFlags",
    "BinaryConvolutionType",
    "ConvolutionDescriptor",
    "DataSource",
    "DataType",
    "EdgeMode",
    "GradientOption",
    "NeuronDescriptor",
    "NeuronType",
    "PaddingMethod",
    "WeightsQuantizationType",
    "binary_convolution",
    "binary_fully_connected",
    "convolution",
    "convolution_gradient",
    "convolution_transpose",
    "dense_words",
    "kernel_from_weights",
    "pack_weights",
    "padding_policy",
    "unpack_weights",
    "weights_from_dense_words",
    "weights_from_kernel",
]
