"""jbnn: binary neural networks in JAX, on real bits."""

from jbnn import activations, quantizers
from jbnn._binary import alpha, binary_conv, binary_conv_transpose, binary_dense
from jbnn._bits import pack, population_count, sign, unpack
from jbnn._kernels.choose import implementations
from jbnn._packed import packed_conv, packed_dense
from jbnn._summary import summary

__all__ = [
    "activations",
    "alpha",
    "binary_conv",
    "binary_conv_transpose",
    "binary_dense",
    "implementations",
    "pack",
    "packed_conv",
    "packed_dense",
    "population_count",
    "quantizers",
    "sign",
    "summary",
    "unpack",
]
