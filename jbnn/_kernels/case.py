"""What a kernel is asked, as plain data: everything that decides, and every test of a decision, reads the same `Case`.

    u = correlation of a with B          a: words, read as two numbers, or reals          B: words, read as two numbers

A kernel is a module with

    why_not(case) -> str | None     None if it can do that case there, else the reason, a sentence for the user
    faster(case) -> bool            whether it was measured to be faster than the kernels behind it in the table
    conv(x, w, case, terms)         x (N, *S, G·W) words or (N, *S, C) reals, and w (*K, W, O) words, to what leaves
    OPAQUE                          whether XLA cannot look into it, and must be told how it is split over devices

and knows neither gradients nor quantizers nor another kernel.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._bits import pack_bits, words_per_group
from jbnn._geometry import Geometry
from jbnn._materialize import materialize

Clamp = tuple[float | None, float | None]  # low, high

EXACT = 2**24
"""float32 holds every integer up to here."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The two numbers that a bit stands for."""

    zero: int
    one: int


SIGNS = Reading(-1, 1)
BITS = Reading(0, 1)


@dataclasses.dataclass(frozen=True)
class Affine:
    """Floats leave: y = clamp(u·scale + bias) in float32, cast once to `dtype`. Terms: scale and bias, (O,) or None."""

    dtype: np.dtype
    clamp: Clamp = (None, None)

    def size(self, features: int) -> int:
        """How long the last axis is."""
        return features

    def __call__(self, u: jax.Array, terms: Any) -> jax.Array:
        """What leaves, in plain lax."""
        scale, bias = terms
        low, high = self.clamp
        y = u.astype(jnp.float32)
        if scale is not None:
            y = y * lax.broadcast_in_dim(scale, y.shape, (y.ndim - 1,))
        if bias is not None:
            y = y + lax.broadcast_in_dim(bias, y.shape, (y.ndim - 1,))
        if low is not None:
            y = jnp.where(y < low, jnp.float32(low), y)
        if high is not None:
            y = jnp.where(y > high, jnp.float32(high), y)
        return y.astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class Bits:
    """Words leave: the bits (u >= value) != flip. Terms: a `Threshold` of (O,)."""

    dtype: np.dtype = dataclasses.field(default=np.dtype(np.uint32), init=False)

    def size(self, features: int) -> int:
        """How long the last axis is."""
        return words_per_group(features)

    def __call__(self, u: jax.Array, terms: Any) -> jax.Array:
        """What leaves, in plain lax."""
        value, flip = (lax.broadcast_in_dim(term, u.shape, (u.ndim - 1,)) for term in terms)
        # On a CPU u is stored all the same: compared, or narrowed to bytes, in the loop that counts, it made that loop
        # up to three times slower.
        return pack_bits((materialize(u) >= value) != flip)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a program will run: known once it is lowered."""

    platforms: tuple[str, ...]
    device: str | None = None  # what kind, as `jax.Device.device_kind` says; None if it is not here
    exported: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """One correlation and what becomes of it."""

    geometry: Geometry
    left: Reading | np.dtype  # words, or reals of that dtype
    right: Reading
    outside: float  # what a tap outside the image reads; 0 adds nothing to a sum, whatever words are read as
    result: Affine | Bits | None = None  # None: u itself
    place: Place | None = None  # None while tracing: only what can be done nowhere is refused
    images: int | None = None  # N, or a device's share; None while tracing, since `vmap` may come, and for a symbol
    split: bool = False  # whether the pixels of an image are known to lie on several devices

    @property
    def counts(self) -> bool:
        """Whether both sides are words."""
        return isinstance(self.left, Reading)

    @property
    def reading(self) -> Reading:
        """What words on the left are read as; of reals there is none."""
        if not isinstance(self.left, Reading):
            raise TypeError(f"`left` must be words, but was {self.left}")
        return self.left

    @property
    def sums(self) -> np.dtype:
        """The dtype of u: int32, exact, of words and 8-bit integers; of floats, float32 at least."""
        if isinstance(self.left, Reading) or jnp.issubdtype(self.left, jnp.integer):
            return np.dtype(np.int32)
        return np.dtype(np.float64 if self.left == np.float64 else np.float32)

    @property
    def largest_sum(self) -> int:
        """No sum of integers is larger; of floats nothing is known."""
        if isinstance(self.left, Reading):
            each = max(abs(self.left.zero), abs(self.left.one))
        else:
            each = 255 if self.left == np.uint8 else 128
        return self.geometry.terms * each * max(abs(self.right.zero), abs(self.right.one))

    @property
    def few_rows(self) -> bool:
        """Whether these are rows of a dense layer, so few that reading the kernel takes longest."""
        return self.geometry.rank == 0 and self.images is not None and self.images <= 8

    @property
    def last_axis(self) -> int:
        """The size of the last axis of what leaves."""
        return self.geometry.features if self.result is None else self.result.size(self.geometry.features)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of what leaves."""
        return self.sums if self.result is None else self.result.dtype

    def finish(self, u: jax.Array, terms: Any) -> jax.Array:
        """What leaves, of u (…, O), in plain lax: for kernels that leave the fusing to XLA."""
        return u if self.result is None else self.result(u, terms)

    def on(self, *platforms: str) -> bool:
        """Whether the program is for these platforms and no other."""
        return self.place is not None and self.place.platforms == platforms
