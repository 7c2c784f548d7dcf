"""Where elements stand: sub-pixels as channels, and the kernels of other libraries' transposed convolutions."""

from __future__ import annotations

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._arguments import as_array, as_index, check_groups
from jbnn._shapes import Sizes, check_image, per_axis

Order = Literal["dcr", "crd"]


def depth_to_space(x: ArrayLike, block: Sizes, *, order: Order = "dcr") -> jax.Array:
    """Channels become pixels: the output of a sub-pixel convolution.

    With r the block, in two dimensions and C' = C/r²:

        "dcr":  out[n, y, x, c] = in[n, y // r, x // r, ((y % r)·r + x % r)·C' + c]
        "crd":  out[n, y, x, c] = in[n, y // r, x // r, c·r² + (y % r)·r + x % r]

    "dcr" is the order of MPS, of TensorFlow and of ONNX's default mode; "crd" that of PyTorch's `PixelShuffle`.

    Args:
      x: (N, *S, C), with one, two or three spatial axes; any dtype.
      block: pixels of the output for one of the input; an integer, or one for each spatial axis.
      order: "dcr" or "crd".

    Returns:
      (N, *S·block, C / prod(block)) in the dtype of x.

    Raises:
      TypeError: `block` is not of integers, or x has a dtype that JAX would narrow.
      ValueError: the block does not divide C; x has another rank; unknown order.

    Gradient: JAX's own, which is `space_to_depth`.

    Example:
      >>> x = jnp.arange(4.0).reshape(1, 1, 1, 4)
      >>> print(jbnn.convolution.depth_to_space(x, 2)[0, :, :, 0])
      [[0. 1.]
       [2. 3.]]

    References:
      Shi et al., Real-Time Single Image and Video Super-Resolution, 2016. https://arxiv.org/abs/1609.05158
      `MPSCNNSubPixelConvolutionDescriptor`.
    """
    x = _as_given("x", x)
    block = _checked(x, block, order)
    rank, pieces = len(block), math.prod(block)
    n, *sizes, channels = x.shape
    if channels % pieces:
        raise ValueError(f"`block` must divide the {channels} channels, but has {pieces} pixels")
    depth = channels // pieces
    if order == "dcr":
        split, within, last = (*block, depth), 1 + rank, 1 + 2 * rank
    else:
        split, within, last = (depth, *block), 2 + rank, 1 + rank
    x = x.reshape(n, *sizes, *split)
    axes = [axis for i in range(rank) for axis in (1 + i, within + i)]
    return x.transpose(0, *axes, last).reshape(n, *(s * b for s, b in zip(sizes, block, strict=True)), depth)


def space_to_depth(x: ArrayLike, block: Sizes, *, order: Order = "dcr") -> jax.Array:
    """Pixels become channels: the inverse of `depth_to_space`, and its gradient.

    Args:
      x: (N, *S, C), with one, two or three spatial axes; any dtype.
      block: a divisor of *S; an integer, or one for each spatial axis.
      order: "dcr" or "crd", as in `depth_to_space`.

    Returns:
      (N, *S/block, C·prod(block)) in the dtype of x.

    Raises:
      TypeError: `block` is not of integers, or x has a dtype that JAX would narrow.
      ValueError: the block does not divide *S; x has another rank; unknown order.

    Gradient: JAX's own, which is `depth_to_space`.

    Example:
      >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
      >>> print(jbnn.convolution.space_to_depth(x, 2)[0, 0, 0])
      [0. 1. 2. 3.]
    """
    x = _as_given("x", x)
    block = _checked(x, block, order)
    rank, pieces = len(block), math.prod(block)
    n, *sizes, channels = x.shape
    if any(s % b for s, b in zip(sizes, block, strict=True)):
        raise ValueError(f"`block` must divide the spatial axes of `x`, {tuple(sizes)}, but was {block}")
    sizes = [s // b for s, b in zip(sizes, block, strict=True)]
    x = x.reshape(n, *(size for pair in zip(sizes, block, strict=True) for size in pair), channels)
    pixels, within, last = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2), 1 + 2 * rank
    x = x.transpose(0, *pixels, *((*within, last) if order == "dcr" else (last, *within)))
    return x.reshape(n, *sizes, channels * pieces)


def transpose_kernel(w: ArrayLike, *, feature_group_count: int = 1) -> jax.Array:
    """A convolution's kernel as that of its transpose: every window rotated by 180°, channels in and out exchanged.

    PyTorch and TensorFlow call a convolution's input gradient its transpose, and store the kernel of that convolution;
    `conv_transpose` and MPS correlate with what they store, unrotated. `jax.lax.conv_transpose` does the same to its
    kernel with `transpose_kernel=True`. Applied twice, it gives w again.

        TensorFlow's conv2d_transpose, (kH, kW, O, C):    transpose_kernel(w)
        PyTorch's ConvTranspose2d, (C, O/G, kH, kW):      transpose_kernel(w.transpose(2, 3, 1, 0),
                                                                           feature_group_count=G)

    Args:
      w: kernel (*K, O/G, C) of a convolution from O to C channels; any dtype.
      feature_group_count: G, a divisor of C.

    Returns:
      The kernel (*K, C/G, O) of its transpose, from C to O channels.

    Raises:
      TypeError: `feature_group_count` is not an integer, or w has a dtype that JAX would narrow.
      ValueError: it does not divide C, or w has another rank.

    Gradient: JAX's own.

    Example:
      >>> w = jnp.arange(6.0).reshape(3, 1, 2)  # from one channel to two
      >>> print(jbnn.convolution.transpose_kernel(w)[..., 0])
      [[4. 5.]
       [2. 3.]
       [0. 1.]]
    """
    w = _as_given("w", w)
    if not 3 <= w.ndim <= 5:
        raise ValueError(f"`w` must have shape (*K, O/G, C) with one to three window axes, but has shape {w.shape}")
    groups = as_index("feature_group_count", feature_group_count)
    *window, depth, channels = w.shape
    check_groups("feature_group_count", groups, channels)
    w = jnp.flip(w, range(len(window))).reshape(*window, depth, groups, channels // groups)
    return jnp.moveaxis(w, -1, -3).swapaxes(-1, -2).reshape(*window, channels // groups, groups * depth)


def _as_given(name: str, value: ArrayLike) -> jax.Array:
    """An array of any dtype that JAX holds as it is: elements are moved here, and never changed."""
    return as_array(name, value, lambda _: True, "have a dtype that JAX holds")


def _checked(x: jax.Array, block: Sizes, order: Order) -> tuple[int, ...]:
    check_image("x", x)
    if order not in get_args(Order):
        raise ValueError(f'`order` must be "dcr" or "crd", but was {order!r}')
    return per_axis("block", block, x.ndim - 2)
