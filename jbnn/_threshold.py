"""A batch norm and a sign after a binary layer, as one comparison of integers for each channel."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_exactly, given_array, leaves_of
from jbnn._jax_versions import register_for_export
from jbnn._numbers import common_shape


class Threshold(NamedTuple):
    """What makes bits of exact sums, channel by channel.

        bit = (u >= value) != flip

    Without `flip` the bits are those of a rising function of u, with it those of a falling one: u >= value or
    u < value. value = -2^31 is a bit that does not depend on u: 1, or with `flip` 0.

    Two thresholds are equal if their values and flips are, and their shapes. They have no hash, as arrays have none.

    Args:
      value: `int32` (O,), or a scalar for all channels; Python's integers, or a list of them, within int32.
      flip: `bool` (O,), or a scalar for all channels; Python's truth values, or a list of them.

    Example:
      >>> threshold = jbnn.Threshold(jnp.array([3, 3], jnp.int32), jnp.array([False, True]))
      >>> x, w = jbnn.pack(jnp.ones((1, 4))), jbnn.pack(jnp.ones((4, 2)), axis=-2)
      >>> print(jbnn.packed_dense(x, w, channels=4), jbnn.packed_dense(x, w, channels=4, threshold=threshold))
      [[4 4]] [[1]]
    """

    value: jax.Array
    flip: jax.Array

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Threshold):
            return False
        if any(isinstance(leaf, jax.core.Tracer) for field in (*self, *other) for leaf in leaves_of(field)):
            raise TypeError("thresholds that are traced cannot be compared by ==: use `jax.tree.map(jnp.equal, a, b)`")
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self, other, strict=True))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise TypeError("a `Threshold` has no hash, as arrays have none")


register_for_export(Threshold)


def sign_threshold(scale: ArrayLike, bias: ArrayLike) -> Threshold:
    """The threshold that stands for an affine and a sign.

        (u >= value) != flip   where   sign(fl(fl(float32(u)·scale) + bias)) is +1

    fl rounds to float32, as NumPy does, and keeps subnormals. Equal for every int32 u, of which float32(u) is itself
    a rounding, and for every scale and bias: negative, zero, subnormal, infinite and NaN ones too.

    Computed in NumPy, once, when a network is deployed; XLA may contract the two roundings to one.

    Args:
      scale: scalar, (O,), or (…, O) of layers that are stacked; float32, bfloat16 or float16, or Python's numbers, one
        or a list, which are rounded to float32.
      bias: the same.

    Returns:
      A `Threshold` of int32 and bool (O,), or of scalars if both arguments are. That of stacked layers is (…, O), whose
      rows `jax.vmap` or `jax.lax.scan` gives to `packed_conv`.

    Raises:
      TypeError: a dtype is another one, float64 among them, which would have to be rounded; or an argument is traced,
        as under `jit`: then its values are not known yet.
      ValueError: one shape is neither the other nor the end of it.

    Gradient: none; a threshold is made after training.

    Example:
      >>> print(jbnn.sign_threshold(jnp.array([0.5, -0.5]), jnp.array([1.0, 1.0])))
      Threshold(value=Array([-2,  3], dtype=int32), flip=Array([False,  True], dtype=bool))

    References:
      Umuroglu et al., FINN, 2017, section 4.2.2. https://arxiv.org/abs/1612.07119
    """
    s, b = _known("scale", scale), _known("bias", bias)
    shape = common_shape({"scale": s.shape, "bias": b.shape})

    def is_positive(u: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # inf and NaN are answers here
            return ~(u.astype(np.float32) * s + b < 0)

    # The answer changes at most once as u rises, so it is found by bisection. Rounding keeps order: float32(u) rises
    # with u, and p = fl(float32(u)·scale) rises or falls. A rounded sum has the sign of the real one, since it is 0
    # only where that is, so it is negative where p < -bias. This holds for infinities too, inf - inf being NaN and
    # counting as +1. Only 0·inf remains, which is NaN at u = 0, between p = -inf and p = +inf. It counts as +1, as
    # p = +inf always does.
    low = np.full(shape, np.iinfo(np.int32).min, np.int64)
    high = np.full_like(low, np.iinfo(np.int32).max)
    first, last = is_positive(low), is_positive(high)
    while np.any(high - low > 1):  # the answer at low is the first one, at high another, if there is another
        middle = (low + high) // 2
        same = is_positive(middle) == first
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    constant = first == last
    value = np.where(constant, np.iinfo(np.int32).min, high).astype(np.int32)
    flip = np.where(constant, ~first, first)
    return Threshold(jax.device_put(value), jax.device_put(flip))


def _known(name: str, value: ArrayLike) -> np.ndarray:
    """Known values in float32, of which Python's own alone are rounded to it."""
    leaves = leaves_of(value)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError(
            f"`{name}` must be a concrete array, but was traced: make thresholds outside `jit` and `vmap`, "
            "of stacked layers at once from (…, O)"
        )
    if all(type(leaf) in (int, float) for leaf in leaves):
        try:
            with np.errstate(over="ignore"):
                return np.asarray(value, np.float32)
        except (ValueError, OverflowError):
            raise TypeError(f"`{name}` must be numbers that a float can hold, but was {value!r}") from None
    array = np.asarray(jax.device_get(given_array(name, value)))
    if array.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        raise TypeError(f"`{name}` must have dtype float32, bfloat16 or float16, but has dtype {array.dtype}")
    return array.astype(np.float32)


def as_threshold(threshold: Threshold, features: int) -> Threshold:
    """A threshold of arrays (O,), traced or not."""
    if not isinstance(threshold, Threshold):
        raise TypeError(f"`threshold` must be a `Threshold` or None, but was {threshold!r}")
    value, flip = threshold
    return Threshold(
        _per_output("threshold.value", as_exactly("threshold.value", value, np.int32), features),
        _per_output("threshold.flip", as_exactly("threshold.flip", flip, np.bool_), features),
    )


def _per_output(name: str, term: jax.Array, features: int) -> jax.Array:
    if term.shape not in ((), (features,)):
        stacked = ": stacked layers go in by `jax.vmap` or `jax.lax.scan`" if term.ndim > 1 else ""
        raise ValueError(
            f"`{name}` must be a scalar or have shape (O,) = ({features},), but has shape {term.shape}{stacked}"
        )
    return lax.broadcast(term, (features,)) if term.ndim == 0 else term
