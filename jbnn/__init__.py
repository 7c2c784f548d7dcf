"""jbnn: binary neural networks in JAX, on real bits."""

from jbnn import activations, convolution, interchange, quantizers
from jbnn._binary import alpha, binary_conv, binary_conv_transpose, binary_dense
from jbnn._bits import pack, population_count, sign, unpack
from jbnn._kernels.choose import implementations
from jbnn._packed import packed_conv, packed_dense

__all__ = [
    "activations",
    "alpha",
    "binary_conv",
    "binary_conv_transpose",
    "binary_dense",
    "convolution",
    "implementations",
    "interchange",
    "pack",
    "packed_conv",
    "packed_dense",
    "population_count",
    "quantizers",
    "sign",
    "unpack",
]
