"""Ordinary convolutions: the rest of the family that `jbnn.binary_conv` belongs to, and their gradients as functions.

A network with binary layers has ordinary ones too, and code that comes from Metal Performance Shaders has layers of
every kind: grouped, depthwise, transposed, sub-pixel, with any of MPS's edge modes and neurons. Here they are thin
over `jax.lax`, with the layouts and option names of the binary operators: images (N, *S, C) and kernels (*K, C/G, O).
"""

from jbnn.convolution._binary_gradient import binary_conv_gradient
from jbnn.convolution._cotangent import ConvGradient
from jbnn.convolution._dequantize import dequantize_linear, dequantize_lookup
from jbnn.convolution._forward import conv, conv_transpose, dense, depthwise_conv
from jbnn.convolution._gradient import conv_gradient, dense_gradient
from jbnn.convolution._layout import depth_to_space, space_to_depth, transpose_kernel
from jbnn.convolution._normalization import cross_channel_normalization

__all__ = [
    "ConvGradient",
    "binary_conv_gradient",
    "conv",
    "conv_gradient",
    "conv_transpose",
    "cross_channel_normalization",
    "dense",
    "dense_gradient",
    "depth_to_space",
    "depthwise_conv",
    "dequantize_linear",
    "dequantize_lookup",
    "space_to_depth",
    "transpose_kernel",
]
