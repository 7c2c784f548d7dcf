"""Words unpacked to the numbers that they stand for, and JAX's own convolution: the expression all else must equal.

Its sums of ±1 are integers, and float32 holds every integer up to 2^24.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jbnn._bits import unpack_bits
from jbnn._float_conv import float_conv
from jbnn._kernels.case import EXACT, Case, Reading

OPAQUE = False


def why_not(case: Case) -> str | None:
    """Sums of integers must stay exact."""
    if case.sums == np.int32 and case.largest_sum > EXACT:
        return f"float32 sums as large as {case.largest_sum} are not exact"
    return None


def faster(case: Case) -> bool:
    """It is the last in every table, and runs where it is reached."""
    return True


def conv(x: jax.Array, w: jax.Array, case: Case, terms: Any) -> jax.Array:
    """Words x (N, *S, G·W), or reals (N, *S, C), and words w (*K, W, O) to what leaves the case."""
    g = case.geometry
    floats = np.float32 if case.sums == np.int32 else case.sums
    a = read_as(x, g.channels, case.reading, axis=-1, groups=g.groups) if case.counts else x.astype(floats)
    b = read_as(w, g.channels_per_group, case.right, axis=-2, dtype=floats)
    u = float_conv(a, b, g, outside=case.outside)
    if case.sums == np.int32:
        # Rounded, because a GPU may convolve through transforms, which leave errors far below one half.
        u = jnp.round(u).astype(jnp.int32)
    return case.finish(u, terms)


def read_as(
    words: jax.Array, size: int, reading: Reading, *, axis: int, groups: int = 1, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """The numbers that bits stand for."""
    bits = unpack_bits(words, size, axis=axis % words.ndim, groups=groups)
    return jnp.where(bits, jnp.array(reading.one, dtype), jnp.array(reading.zero, dtype))
