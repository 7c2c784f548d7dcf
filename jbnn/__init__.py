"""jbnn: binary neural networks in JAX, on real bits."""

from jbnn import activations, convolution, interchange, mps, quantizers
from jbnn._binary import alpha, binary_conv, binary_conv_transpose, binary_dense
from jbnn._bits import pack, population_count, sign, unpack
from jbnn._deploy import pack_kernels
from jbnn._kernels.choose import implementations
from jbnn._packed import packed_conv, packed_dense
from jbnn._pool import packed_max_pool
from jbnn._summary.walk import summary
from jbnn._threshold import Threshold, fold_batch_norm, sign_threshold

__all__ = [
    "Threshold",
    "activations",
    "alpha",
    "binary_conv",
    "binary_conv_transpose",
    "binary_dense",
    "convolution",
    "fold_batch_norm",
    "implementations",
    "interchange",
    "mps",
    "pack",
    "pack_kernels",
    "packed_conv",
    "packed_dense",
    "packed_max_pool",
    "population_count",
    "quantizers",
    "sign",
    "sign_threshold",
    "summary",
    "unpack",
]
