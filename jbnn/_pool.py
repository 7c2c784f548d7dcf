"""Max pooling of bits."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_exactly, as_words
from jbnn._bits import WORD, pack_bits, used_bits, words_per_group
from jbnn._geometry import Geometry, pad_image
from jbnn._shapes import Padding, Sizes, check_image, check_known_size, pool_geometry


def packed_max_pool(
    words: ArrayLike,
    window: Sizes,
    *,
    window_strides: Sizes | None = None,
    padding: Padding = "VALID",
    flip: ArrayLike | None = None,
) -> jax.Array:
    """The largest bit of every window: an OR, or where `flip` is set an AND.

        bit = max over the window of bits          where flip:   min over the window of bits

    A threshold rises with u, or falls where its `flip` is set, and so takes the maximum of u to the maximum of its
    bits, or to their minimum. Given that `flip`, pooling after the threshold equals pooling before it, bit for bit:
    the network convolution, max pool, batch norm, sign may pool its words.

    Args:
      words: `uint32` (N, *S, W), as `pack` gives; one, two or three spatial axes.
      window: an integer, or one for each spatial axis.
      window_strides: the same; None is the window, so that windows touch and do not overlap.
      padding: "SAME", "VALID" or a pair (low, high) for each spatial axis; negative values crop. What lies outside the
        image is never chosen.
      flip: `bool` (C,), the channels of a falling threshold; may be traced. The words must be of one group. A scalar
        holds for every bit of the words, whatever C is. Python's truth values, or a list of them, are taken too.

    Returns:
      `uint32` (N, *S', W), *S' as in `lax.reduce_window`. Unused bits are 0 if `flip` is (C,), and else are pooled like
      the others. A window wholly outside the image gives the bit `flip`, as a maximum of -inf would.

    Raises:
      TypeError: the words are not `uint32`, or `flip` is not bool: integers that mean truth values are not.
      ValueError: wrong rank; W is not ceil(C/32); unknown padding, or a window or stride below 1.

    Gradient: none; train with a max pool of floats.

    Example:
      >>> words = jbnn.pack(jnp.array([[[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0]]]))
      >>> print(jbnn.unpack(jbnn.packed_max_pool(words, 2), 2)[0])
      [[ 1.  1.]
       [-1.  1.]]
      >>> print(jbnn.unpack(jbnn.packed_max_pool(words, 2, flip=jnp.array([False, True])), 2)[0])
      [[ 1.  1.]
       [-1. -1.]]
    """
    words = as_words("words", words)
    check_image("words", words)
    check_known_size("words", words.shape[1:-1])
    geometry = pool_geometry(words.shape[1:-1], window, window_strides=window_strides, padding=padding)
    return _max_pool(words, None if flip is None else _as_flip(flip, words.shape[-1]), geometry=geometry)


def _as_flip(flip: ArrayLike, words: int) -> jax.Array:
    flip = as_exactly("flip", flip, np.bool_)
    if flip.ndim == 0:
        return lax.broadcast(flip, (WORD * words,))
    if flip.ndim != 1 or words_per_group(flip.shape[0]) != words:
        least, most = WORD * (words - 1) + 1, WORD * words
        raise ValueError(
            f"`flip` must have shape (C,), with C channels in {words} words, {least} to {most}, "
            f"but has shape {flip.shape}; a scalar holds for all channels"
        )
    return flip


@functools.partial(jax.jit, static_argnames="geometry")
def _max_pool(words: jax.Array, flip: jax.Array | None, *, geometry: Geometry) -> jax.Array:
    if 0 in geometry.output:
        return jnp.zeros((words.shape[0], *geometry.output, words.shape[-1]), jnp.uint32)
    if flip is None:
        return _any(words, geometry)
    # The minimum of bits is the complement of their complements' maximum: here, in the padding too, 0 is never chosen.
    falling = lax.expand_dims(pack_bits(flip), range(words.ndim - 1))
    used = lax.expand_dims(used_bits(flip.shape[0]), range(words.ndim - 1))
    return (_any(words ^ falling, geometry) ^ falling) & used


def _any(words: jax.Array, g: Geometry) -> jax.Array:
    """The OR of every window, along one axis after the other."""
    words = pad_image(words, 0, g)
    for axis, (size, stride, count) in enumerate(zip(g.window, g.strides, g.output, strict=True), start=1):
        # An OR may read a word twice: windows grow by doubling, and the last step takes two of them that overlap.
        span = 1
        while 2 * span < size:
            rows = words.shape[axis] - span
            words = lax.slice_in_dim(words, 0, rows, axis=axis) | lax.slice_in_dim(words, span, rows + span, axis=axis)
            span *= 2
        ends = [(start, start + (count - 1) * stride + 1) for start in (0, size - span)]
        first, last = (lax.slice_in_dim(words, low, high, stride, axis=axis) for low, high in ends)
        words = first | last
    return words
