"""Weights as MPS stores them, (O, kH, kW, C/G), and kernels as jbnn has them, (kH, kW, C/G, O).

Binary weights are `uint32` (O, kH, kW, ceil(C/G/32)) in MPS: channel c is bit c % 32 of word c // 32, as in jbnn, so
that conversion moves an axis and changes no bit. What a bit of a last word means that no channel uses, Apple does not
say: it is ignored on reading and written 0.

MPS hands blobs over as pointers, so a blob may be flat here, or have its shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_array, as_kernel, as_words
from jbnn._bits import WORD, pack, unpack, words_per_group
from jbnn.mps._descriptor import ConvolutionDescriptor, check_descriptor


def pack_weights(w: ArrayLike) -> jax.Array:
    """Packs a kernel into MPS's binary weights.

    Args:
      w: a latent or ±1 kernel (kH, kW, C/G, O); float32, bfloat16 or float16 (float64 under x64); or its `uint32`
        words (kH, kW, ceil(C/G/32), O) from `pack(w, axis=-2)`, which are moved as they are.

    Returns:
      `uint32` (O, kH, kW, ceil(C/G/32)), in C order; `np.asarray(blob).tobytes()` is what an MPS data source returns
      as its weights. A bit is 1 where not w < 0.

    Raises:
      TypeError: w is neither of these dtypes nor `uint32`.
      ValueError: w has not four axes.

    Example:
      >>> w = jnp.full((1, 1, 32, 1), -1.0).at[0, 0, 13, 0].set(1.0)
      >>> print(hex(jbnn.mps.pack_weights(w)[0, 0, 0, 0]))
      0x2000

    References:
      The layout is that of `MPSCNNBinaryConvolution`'s weights.
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnbinaryconvolution
    """
    w = as_kernel(w)
    _check_kernel(w)
    return _outputs_first(w if w.dtype == jnp.uint32 else pack(w, axis=-2))


def unpack_weights(
    weights: ArrayLike, descriptor: ConvolutionDescriptor, *, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Makes a kernel of MPS's binary weights.

    Args:
      weights: `uint32` (O, kH, kW, ceil(C/G/32)), or flat. Bits that no channel uses may hold anything.
      descriptor: the layer that they belong to.
      dtype: of the result.

    Returns:
      A kernel (kH, kW, C/G, O) of +1 where a bit is 1, else -1, to train on. With `dtype=jnp.uint32`, words
      (kH, kW, ceil(C/G/32), O), as a packed kernel to deploy, with its unused bits 0.

    Raises:
      TypeError: weights are not `uint32`; dtype is neither floating nor `uint32`.
      ValueError: weights have another length or shape than the descriptor says.

    Example:
      >>> d = jbnn.mps.ConvolutionDescriptor(
      ...     kernel_width=1, kernel_height=1, input_feature_channels=3, output_feature_channels=1
      ... )
      >>> print(jbnn.mps.unpack_weights(jnp.array([0xFFFFFFFB], jnp.uint32), d)[0, 0, :, 0])
      [ 1.  1. -1.]
    """
    check_descriptor("descriptor", descriptor)
    dtype = jnp.dtype(dtype)
    if not (dtype == jnp.uint32 or jnp.issubdtype(dtype, jnp.floating)):
        raise TypeError(f"`dtype` must be floating or uint32, but was {dtype}")
    words = _outputs_last(shaped("weights", as_words("weights", weights), descriptor.words_shape))
    signs = unpack(words, descriptor.weights_shape[-1], axis=-2, dtype=jnp.float32 if dtype == jnp.uint32 else dtype)
    return pack(signs, axis=-2) if dtype == jnp.uint32 else signs


def kernel_from_weights(weights: ArrayLike, descriptor: ConvolutionDescriptor) -> jax.Array:
    """Makes a kernel of MPS's real weights: OHWI to HWIO.

    Args:
      weights: (O, kH, kW, C/G), or flat; of any dtype but words. A depthwise layer's (C, multiplier, kH, kW) are these
        in the same order, and are read flat.
      descriptor: the layer that they belong to.

    Returns:
      (kH, kW, C/G, O) in the dtype of `weights`.

    Raises:
      ValueError: weights have another length or shape than the descriptor says.

    Gradient: exact; the entries are moved.

    Example:
      >>> d = jbnn.mps.ConvolutionDescriptor(
      ...     kernel_width=2, kernel_height=1, input_feature_channels=1, output_feature_channels=2
      ... )
      >>> print(jbnn.mps.kernel_from_weights(jnp.array([1.0, 2.0, 3.0, 4.0]), d)[0, :, 0])
      [[1. 3.]
       [2. 4.]]
    """
    check_descriptor("descriptor", descriptor)
    weights = as_array("weights", weights, lambda _: True, "have a dtype that JAX holds")
    return _outputs_last(shaped("weights", weights, descriptor.weights_shape))


def weights_from_kernel(w: ArrayLike) -> jax.Array:
    """Makes MPS's real weights of a kernel: HWIO to OHWI.

    Args:
      w: (kH, kW, C/G, O), floating.

    Returns:
      (O, kH, kW, C/G) in the dtype of w.

    Raises:
      TypeError: w is not floating.
      ValueError: w has not four axes.

    Gradient: exact; the entries are moved.

    Example:
      >>> print(jbnn.mps.weights_from_kernel(jnp.ones((5, 3, 16, 8))).shape)
      (8, 5, 3, 16)
    """
    w = as_array("w", w, lambda dtype: jnp.issubdtype(dtype, jnp.floating), "have a floating dtype")
    _check_kernel(w)
    return _outputs_first(w)


def dense_words(weights: ArrayLike, descriptor: ConvolutionDescriptor) -> jax.Array:
    """The weights of a binary fully connected layer as words for `binary_dense` and `packed_dense`.

    MPS starts a new word at each pixel; a dense kernel packs all H·W·C entries of a row without gaps.

    Args:
      weights: `uint32` (O, H, W, ceil(C/32)), or flat.
      descriptor: of the layer, whose window is the image.

    Returns:
      `uint32` (ceil(H·W·C/32), O), for rows of the image as `x.reshape(N, H * W * C)`.

    Raises:
      TypeError: weights are not `uint32`.
      ValueError: weights have another length or shape than the descriptor says; the layer has groups.

    Example:
      >>> d = jbnn.mps.ConvolutionDescriptor(
      ...     kernel_width=2, kernel_height=2, input_feature_channels=3, output_feature_channels=1
      ... )
      >>> print(jbnn.mps.dense_words(jnp.array([1, 1, 1, 7], jnp.uint32), d))
      [[3657]]
    """
    _check_no_groups(descriptor)
    signs = unpack_weights(weights, descriptor)
    return pack(signs.reshape(-1, signs.shape[-1]), axis=-2)


def weights_from_dense_words(words: ArrayLike, descriptor: ConvolutionDescriptor) -> jax.Array:
    """The words of a dense kernel as the weights of a binary fully connected layer.

    Args:
      words: `uint32` (ceil(H·W·C/32), O).
      descriptor: of the layer, whose window is the image.

    Returns:
      `uint32` (O, H, W, ceil(C/32)).

    Raises:
      TypeError: words are not `uint32`.
      ValueError: words have another shape than the descriptor says; the layer has groups.

    Example:
      >>> d = jbnn.mps.ConvolutionDescriptor(
      ...     kernel_width=2, kernel_height=2, input_feature_channels=3, output_feature_channels=1
      ... )
      >>> print(jbnn.mps.weights_from_dense_words(jnp.array([[3657]], jnp.uint32), d).reshape(-1))
      [1 1 1 7]
    """
    _check_no_groups(descriptor)
    words = as_words("words", words)
    outputs, height, width, depth = descriptor.weights_shape
    expected = (words_per_group(height * width * depth), outputs)
    if words.shape != expected:
        raise ValueError(
            f"`words` must have shape (ceil(H·W·C/{WORD}), O) = {expected} as the descriptor says, "
            f"but has shape {words.shape}"
        )
    return pack_weights(unpack(words, height * width * depth, axis=-2).reshape(height, width, depth, outputs))


def shaped(name: str, weights: jax.Array, shape: Sequence[int]) -> jax.Array:
    """A blob, flat or in its shape, in its shape."""
    shape, size = tuple(shape), math.prod(shape)
    if weights.shape not in (shape, (size,)):
        raise ValueError(
            f"`{name}` must have {size} elements, flat or in the shape (O, kH, kW, depth) = {shape} that the "
            f"descriptor says, but has shape {weights.shape}"
        )
    return weights.reshape(shape)


def _outputs_first(w: jax.Array) -> jax.Array:
    return jnp.moveaxis(w, -1, 0)


def _outputs_last(weights: jax.Array) -> jax.Array:
    return jnp.moveaxis(weights, 0, -1)


def _check_kernel(w: jax.Array) -> None:
    if w.ndim != 4:
        raise ValueError(f"`w` must have shape (kH, kW, C / groups, O), but has shape {w.shape}")


def _check_no_groups(descriptor: ConvolutionDescriptor) -> None:
    check_descriptor("descriptor", descriptor)
    if descriptor.feature_group_count != 1:
        raise ValueError(
            f"`descriptor` must be of one group in a fully connected layer, but has {descriptor.feature_group_count}"
        )
