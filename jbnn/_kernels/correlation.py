"""What a kernel is asked: a `Correlation` of words, and what to do with its result, an `Epilogue`.

A kernel is a module with one function and two answers:

    conv(x, w, correlation, epilogue) -> array         of words x (N, *S, G·W), w (*K, W, O)
    why_not(correlation) -> str | None                 None if it can do that case, else the reason
    why_not_there(platforms, exported) -> str | None   None if it can run in such a program, else the reason

It knows neither gradients nor quantizers nor another kernel.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jbnn._bits import pack, words_per_group
from jbnn._geometry import Geometry
from jbnn._kernels.materialize import materialize
from jbnn._threshold import Threshold

Clamp = tuple[float | None, float | None]  # low, high
Mode = Literal["xnor", "and", "binary_weights"]


@dataclasses.dataclass(frozen=True)
class Correlation:
    """u = correlation of a with B, in one of three readings of a bit.

    xnor: a, B in {-1, +1}. and: a, B in {0, 1}. binary_weights: a is real, B in {-1, +1}.
    A tap outside the image reads `pad_value`.
    """

    geometry: Geometry
    mode: Mode
    pad_value: float


@dataclasses.dataclass(frozen=True)
class Epilogue:
    """What leaves a kernel instead of u (…, O) in int32.

    Either floats, y = clamp(u·scale + bias) in float32, cast once to `dtype`, (…, O); or, with a `threshold` and
    nothing else, its bits as words, (…, ceil(O/32)) in uint32.
    """

    scale: jax.Array | None = None  # (O,)
    bias: jax.Array | None = None  # (O,)
    clamp: Clamp = (None, None)
    dtype: DTypeLike = jnp.uint32
    threshold: Threshold | None = None  # of (O,)

    def __call__(self, u: jax.Array) -> jax.Array:
        """The epilogue of u in plain lax, for kernels that leave the fusing to XLA."""
        if self.threshold is not None:
            value, flip = (lax.broadcast_in_dim(term, u.shape, (u.ndim - 1,)) for term in self.threshold)
            # On a CPU u is stored all the same: compared, or narrowed to bytes, in the loop that counts, it made that
            # loop up to three times slower.
            return pack((materialize(u) >= value) != flip)
        y = u.astype(jnp.float32)
        low, high = self.clamp
        if self.scale is not None:
            y = y * lax.broadcast_in_dim(self.scale, y.shape, (y.ndim - 1,))
        if self.bias is not None:
            y = y + lax.broadcast_in_dim(self.bias, y.shape, (y.ndim - 1,))
        if low is not None:
            y = jnp.where(y < low, jnp.float32(low), y)
        if high is not None:
            y = jnp.where(y > high, jnp.float32(high), y)
        return y.astype(self.dtype)


jax.tree_util.register_dataclass(Epilogue, data_fields=["scale", "bias", "threshold"], meta_fields=["clamp", "dtype"])


def result(geometry: Geometry, epilogue: Epilogue | None) -> tuple[int, DTypeLike]:
    """The size of the last axis that leaves a kernel, and its dtype."""
    if epilogue is None:
        return geometry.features, jnp.int32
    return geometry.features if epilogue.threshold is None else words_per_group(geometry.features), epilogue.dtype
