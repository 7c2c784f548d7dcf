"""Normalization across channels, a sibling of the convolutions in MPS."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_float, as_index, at_least_float32


def cross_channel_normalization(
    x: ArrayLike, *, alpha: ArrayLike = 1.0, beta: ArrayLike = 5.0, delta: ArrayLike = 1.0, kernel_size: int = 5
) -> jax.Array:
    """Divides each channel by the strength of its neighbours, as MPS's local response normalization.

        y[…, k] = x[…, k] / L[…, k]^beta
        L[…, k] = delta + (alpha / N)·Σ over q from k - N // 2 to k + (N - 1) // 2 of x[…, q]²

    with 0 beyond the first and the last channel, where the divisor stays N.

    Args:
      x: (…, C); float32, bfloat16 or float16 (float64 under x64).
      alpha: scalar.
      beta: scalar.
      delta: scalar; with 0, a channel whose neighbours are all 0 gives NaN.
      kernel_size: N, the number of neighbours, the channel itself among them. The defaults are MPS's.

    Returns:
      The shape and dtype of x. Evaluated in float32 (float64 if x is) and cast once.

    Raises:
      TypeError: x is of another dtype, one of the numbers is not real, or `kernel_size` is not an integer.
      ValueError: x has no axis, or `kernel_size` is not positive, or one of the numbers no scalar.

    Gradient: JAX's own, of this expression; in alpha, beta and delta too.

    Example:
      >>> x = jnp.array([1.0, 1.0, 1.0])
      >>> print(jbnn.convolution.cross_channel_normalization(x, beta=1.0, kernel_size=2))
      [0.6666667 0.5       0.5      ]

    References:
      `MPSCNNCrossChannelNormalization`,
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnncrosschannelnormalization
    """
    x = as_float("x", x)
    if x.ndim == 0:
        raise ValueError("`x` must have shape (…, C), but has shape ()")
    size = as_index("kernel_size", kernel_size)
    if size < 1:
        raise ValueError(f"`kernel_size` must be positive, but was {kernel_size}")
    z = x.astype(at_least_float32(x.dtype))
    numbers = {name: jnp.asarray(value) for name, value in (("alpha", alpha), ("beta", beta), ("delta", delta))}
    for name, value in numbers.items():
        if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
            raise TypeError(f"`{name}` must be real, but has dtype {value.dtype}")
        if value.ndim:
            raise ValueError(f"`{name}` must be a scalar, but has shape {value.shape}")
    alpha, beta, delta = (value.astype(z.dtype) for value in numbers.values())
    # A sum of slices: `lax.reduce_window` over one axis of four at most is all that jax-metal has.
    squares = jnp.pad(z * z, [(0, 0)] * (z.ndim - 1) + [(size // 2, (size - 1) // 2)])
    neighbours = [lax.slice_in_dim(squares, i, i + z.shape[-1], axis=-1) for i in range(size)]
    strength = delta + alpha / size * functools.reduce(lax.add, neighbours)
    return (z / strength**beta).astype(x.dtype)
