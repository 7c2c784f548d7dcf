"""Normalization across channels, a sibling of the convolutions in MPS."""

from __future__ import annotations

import functools
import numbers

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_float, as_index, at_least_float32
from jbnn._numbers import real_scalar

# So few are added one by one, which is as fast as by doubling.
_FEW = 8


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
    given, dtype = {"alpha": alpha, "beta": beta, "delta": delta}, at_least_float32(x.dtype)
    constants = tuple((name, value) for name, value in given.items() if isinstance(value, numbers.Real))
    arrays = {name: real_scalar(name, value, dtype) for name, value in given.items() if name not in dict(constants)}
    return _normalized(x, arrays, constants, size)


@functools.partial(jax.jit, static_argnames=("constants", "size"), inline=True)
def _normalized(
    x: jax.Array, arrays: dict[str, jax.Array], constants: tuple[tuple[str, float], ...], size: int
) -> jax.Array:
    """The formula; Python's numbers are constants of the program."""
    z = x.astype(at_least_float32(x.dtype))
    alpha, beta, delta = (
        arrays[name] if name in arrays else real_scalar(name, dict(constants)[name], z.dtype)
        for name in ("alpha", "beta", "delta")
    )
    strength = delta + alpha / size * _sum_of_neighbours(z * z, size // 2, (size - 1) // 2)
    return (z / strength**beta).astype(x.dtype)


def _sum_of_neighbours(x: jax.Array, below: int, above: int) -> jax.Array:
    """Each channel's sum over so many channels below it and above it.

    Sums of 1, 2, 4, … channels are made, each of two of the one before, and those that the binary digits of the window
    name are joined: log2(window) additions, and nothing is ever subtracted, as a difference of cumulative sums would,
    which cancels and spreads NaN. (`lax.reduce_window` reads the whole window for every channel, and jax-metal has it
    for four axes only.)
    """
    channels = x.shape[-1]
    below, above = (min(n, max(channels - 1, 0)) for n in (below, above))  # further away all is zero
    x, window = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(below, above)]), below + above + 1

    def from_channel(sums: jax.Array, first: int) -> jax.Array:
        return lax.slice_in_dim(sums, first, first + channels, axis=-1)

    if window <= _FEW:
        return functools.reduce(lax.add, (from_channel(x, i) for i in range(window)))
    parts, first, width = [], 0, 1
    while True:  # x[…, i] is the sum of the `width` padded channels from i
        if window & width:
            parts.append(from_channel(x, first))
            first += width
        if 2 * width > window:
            return functools.reduce(lax.add, parts)
        ends = x.shape[-1] - width
        x = lax.slice_in_dim(x, 0, ends, axis=-1) + lax.slice_in_dim(x, width, ends + width, axis=-1)
        width *= 2
