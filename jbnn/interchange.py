"""Packed kernels as other libraries store them: Larq Compute Engine and OpenVINO.

    jbnn      uint32 (kH, kW, ceil(C/32), O), bit 1 for +1     `pack(w, axis=-2)`
    Larq      int32  (O, kH, kW, ceil(C/32)), bit 1 for -1     the filter of `LceBconv2d`
    OpenVINO  bits   (O, C, kH, kW),          bit 1 for +1     the u1 constant of `BinaryConvolution`

Bits are counted from the least significant one, and of a grouped convolution C stands for the channels of one group.
Kernels of the library Larq itself are floats (kH, kW, C, O), as here.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_array, as_index, as_words
from jbnn._bits import pack_bits, unpack_bits, used_bits, words_per_group

__all__ = ["from_larq", "from_openvino", "to_larq", "to_openvino"]

_BYTES = np.uint32(8) * np.arange(4, dtype=np.uint32)[None]  # where the bytes of a word begin, low byte first


def to_larq(w: ArrayLike, *, channels: int) -> jax.Array:
    """A packed kernel as the filter of Larq Compute Engine's binary convolution.

    Args:
      w: `uint32` (kH, kW, W, O), as `pack(b, axis=-2)` gives. Unused bits may hold anything.
      channels: C, the input channels of one group, which the words do not tell.

    Returns:
      `int32` (O, kH, kW, W), bit 1 for -1; unused bits are 0.

    Raises:
      TypeError: w is not `uint32`, or `channels` is not given: a guess of 32·W would take unused bits for channels.
      ValueError: w has another rank, or another number of words than `channels` fill.

    Example:
      >>> w = jbnn.pack(jnp.array([1.0, -1.0, 1.0, 1.0]).reshape(1, 1, 4, 1), axis=-2)
      >>> print(w.ravel(), jbnn.interchange.to_larq(w, channels=4).ravel())
      [13] [2]

    References:
      Larq Compute Engine, https://github.com/larq/compute-engine
    """
    w = as_words("w", w)
    return _to_larq(w, channels=_channels(w, 2, channels))


@functools.partial(jax.jit, static_argnames="channels")
def _to_larq(w: jax.Array, *, channels: int) -> jax.Array:
    return lax.bitcast_convert_type(_inverted(w, channels, axis=2).transpose(3, 0, 1, 2), jnp.int32)


def from_larq(w: ArrayLike, *, channels: int) -> jax.Array:
    """The filter of Larq Compute Engine's binary convolution as a packed kernel, the inverse of `to_larq`.

    Args:
      w: `int32` or `uint32` (O, kH, kW, W), bit 1 for -1. Unused bits may hold anything.
      channels: C, the input channels of one group, which the words do not tell.

    Returns:
      `uint32` (kH, kW, W, O), as `pack(b, axis=-2)` gives.

    Raises:
      TypeError: w is of another dtype, or `channels` is not given, as in `to_larq`.
      ValueError: w has another rank, or another number of words than `channels` fill.

    Example:
      >>> w = jbnn.interchange.from_larq(jnp.array([[[[2]]]], jnp.int32), channels=4)
      >>> print(jbnn.unpack(w, 4, axis=-2).ravel())
      [ 1. -1.  1.  1.]

    References:
      Larq Compute Engine, https://github.com/larq/compute-engine
    """
    w = as_array("w", w, lambda dtype: dtype in (jnp.int32, jnp.uint32), "have dtype int32 or uint32")
    return _from_larq(w, channels=_channels(w, 3, channels))


@functools.partial(jax.jit, static_argnames="channels")
def _from_larq(w: jax.Array, *, channels: int) -> jax.Array:
    words = lax.bitcast_convert_type(w, jnp.uint32)
    return _inverted(words, channels, axis=3).transpose(1, 2, 3, 0)


def to_openvino(w: ArrayLike, *, channels: int) -> jax.Array:
    """A packed kernel as the constant of OpenVINO's binary convolution.

    OpenVINO has no groups. Its CPU plugin was seen to compute wrong results where C is not a multiple of 8 (2026.4.1).

    Args:
      w: `uint32` (kH, kW, W, O), as `pack(b, axis=-2)` gives. Unused bits may hold anything.
      channels: C, which the words do not tell.

    Returns:
      `uint8` (ceil(O·C·kH·kW/8),): the bits of (O, C, kH, kW) in a row, for a tensor of type u1 and that shape.

    Raises:
      TypeError: w is not `uint32`, or `channels` is not given: a guess of 32·W would take unused bits for channels.
      ValueError: w has another rank, or another number of words than `channels` fill.

    Example:
      >>> w = jbnn.pack(jnp.array([1.0, -1.0, 1.0, 1.0]).reshape(1, 1, 4, 1), axis=-2)
      >>> print(jbnn.interchange.to_openvino(w, channels=4))
      [13]

    References:
      BinaryConvolution-1,
      https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/convolution/binary-convolution-1.html
    """
    w = as_words("w", w)
    return _to_openvino(w, channels=_channels(w, 2, channels))


@functools.partial(jax.jit, static_argnames="channels")
def _to_openvino(w: jax.Array, *, channels: int) -> jax.Array:
    bits = unpack_bits(w, channels, axis=2, groups=1).transpose(3, 2, 0, 1).reshape(-1)
    if bits.size == 0:
        return jnp.zeros((0,), jnp.uint8)
    in_bytes = lax.expand_dims(pack_bits(bits), (1,)) >> _BYTES
    return (in_bytes & np.uint32(0xFF)).astype(jnp.uint8).reshape(-1)[: -(-bits.size // 8)]


def from_openvino(data: ArrayLike, shape: Sequence[int]) -> jax.Array:
    """The constant of OpenVINO's binary convolution as a packed kernel, the inverse of `to_openvino`.

    Args:
      data: `uint8` (ceil(O·C·kH·kW/8),), the bits in a row; in another shape, of that size.
      shape: (O, C, kH, kW), which the bytes do not tell.

    Returns:
      `uint32` (kH, kW, ceil(C/32), O), as `pack(b, axis=-2)` gives.

    Raises:
      TypeError: `data` is not `uint8`, or `shape` not of integers.
      ValueError: `shape` has not four axes of at least 1, or `data` another number of bytes.

    Example:
      >>> w = jbnn.interchange.from_openvino(jnp.array([13], jnp.uint8), (1, 4, 1, 1))
      >>> print(jbnn.unpack(w, 4, axis=-2).ravel())
      [ 1. -1.  1.  1.]

    References:
      BinaryConvolution-1, as for `to_openvino`.
    """
    way_out = ": bytes go in as `np.frombuffer(data, np.uint8)`"
    data = as_array("data", data, lambda dtype: dtype == jnp.uint8, "have dtype uint8", way_out)
    if not np.iterable(shape):
        raise TypeError(f"`shape` must be a sequence (O, C, kH, kW), but was {shape!r}")
    sizes = tuple(as_index("shape", n) for n in shape)
    if len(sizes) != 4 or min(sizes) < 1:
        raise ValueError(f"`shape` must be (O, C, kH, kW), each at least 1, but was {shape}")
    count = math.prod(sizes)
    if data.size != -(-count // 8):
        raise ValueError(f"`data` must have {-(-count // 8)} bytes for shape {sizes}, but has {data.size}")
    return _from_openvino(data, sizes=sizes)


@functools.partial(jax.jit, static_argnames="sizes")
def _from_openvino(data: jax.Array, *, sizes: tuple[int, ...]) -> jax.Array:
    data = jnp.pad(data.reshape(-1), (0, -data.size % 4)).reshape(-1, 4).astype(jnp.uint32)
    words = jnp.sum(data << _BYTES, axis=1, dtype=jnp.uint32)
    bits = unpack_bits(words, math.prod(sizes), axis=0, groups=1).reshape(sizes)
    return pack_bits(bits.transpose(2, 3, 1, 0), axis=-2)


def _channels(w: jax.Array, axis: int, channels: int) -> int:
    """C, checked against the words on that axis of a kernel."""
    if w.ndim != 4:
        raise ValueError(f"`w` must have 4 axes, but has shape {w.shape}")
    channels = as_index("channels", channels)
    if channels < 1 or words_per_group(channels) != w.shape[axis]:
        raise ValueError(f"`channels` must fill the {w.shape[axis]} words of `w`, but was {channels}")
    return channels


def _inverted(words: jax.Array, channels: int, axis: int) -> jax.Array:
    """Every used bit flipped, every other 0."""
    return ~words & lax.broadcast_in_dim(used_bits(channels), words.shape, (axis,))
