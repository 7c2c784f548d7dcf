"""jbnn: binary neural networks in JAX, on real bits."""

from jbnn import activations, convolution, interchange, mps, quantizers
from jbnn._alpha import alpha
from jbnn._batch_norm import fold_batch_norm
from jbnn._binary import binary_conv, binary_conv_transpose, binary_dense
from jbnn._bits import pack, population_count, sign, unpack
from jbnn._deploy import pack_kernels
from jbnn._kernels.choose import implementations
from jbnn._packed import packed_conv, packed_dense
from jbnn._pool import packed_max_pool
from jbnn._summary.walk import summary
from jbnn._threshold import Threshold, sign_threshold

__version__ = "0.1.0"

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
