"""MPS's kernels of bytes as floats."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._arguments import as_array, last_axis
from jbnn._numbers import as_real, per_channel


def dequantize_linear(w: ArrayLike, minimum: ArrayLike, maximum: ArrayLike) -> jax.Array:
    """A kernel of bytes, each output channel with a range of its own.

        out[…, o] = w[…, o] / 255 · (maximum[o] - minimum[o]) + minimum[o]

    Args:
      w: uint8 (…, O), for instance a kernel (*K, C/G, O).
      minimum: scalar or (O,), what 0 stands for.
      maximum: scalar or (O,), what 255 stands for.

    Returns:
      float32, in the shape of w.

    Raises:
      TypeError: w is not uint8, or a bound not real.
      ValueError: w has no axis, or a bound another shape.

    Gradient: JAX's own, in `minimum` and `maximum`.

    Example:
      >>> w = jnp.array([[0, 0], [255, 255]], jnp.uint8)
      >>> print(jbnn.convolution.dequantize_linear(w, -1.0, jnp.array([1.0, 4.0])).round(3))
      [[-1. -1.]
       [ 1.  4.]]

    References:
      `rangesForUInt8Kernel` of `MPSCNNConvolutionDataSource`.
    """
    w = _of_bytes(w)
    if w.ndim == 0:
        raise ValueError("`w` must have shape (…, O), but has shape ()")
    low = per_channel("minimum", minimum, w.shape[-1], "O", jnp.float32)
    high = per_channel("maximum", maximum, w.shape[-1], "O", jnp.float32)
    low, high = last_axis(low, w), last_axis(high, w)
    return _fraction(w) * (high - low) + low


def dequantize_lookup(w: ArrayLike, table: ArrayLike) -> jax.Array:
    """A kernel of bytes, each the place of its value in a table.

        out[…] = table[w[…]]

    Args:
      w: uint8 of any shape, for instance a kernel (*K, C/G, O).
      table: (256,); floating.

    Returns:
      float32, in the shape of w.

    Raises:
      TypeError: w is not uint8, or the table not floating.
      ValueError: the table has another shape.

    Gradient: JAX's own, in `table`.

    Example:
      >>> table = jnp.linspace(-1.0, 1.0, 256)
      >>> print(jbnn.convolution.dequantize_lookup(jnp.array([0, 255], jnp.uint8), table))
      [-1.  1.]

    References:
      `lookupTableForUInt8Kernel` of `MPSCNNConvolutionDataSource`.
    """
    w = _of_bytes(w)
    dtype = getattr(table, "dtype", jnp.float32)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`table` must have a floating dtype, but has dtype {dtype}")
    table = as_real("table", table, jnp.float32)
    if table.shape != (256,):
        raise ValueError(f"`table` must have shape (256,), but has shape {table.shape}")
    return _looked_up(table, w)


def _of_bytes(w: ArrayLike) -> jax.Array:
    return as_array("w", w, lambda dtype: dtype == jnp.uint8, "have dtype uint8")


@functools.partial(jax.jit, inline=True)
def _fraction(w: jax.Array) -> jax.Array:
    return w.astype(jnp.float32) / 255


@functools.partial(jax.jit, inline=True)
def _looked_up(table: jax.Array, w: jax.Array) -> jax.Array:
    return table.at[w.astype(jnp.int32)].get(mode="promise_in_bounds")
