"""A batch norm and a sign after a binary layer, as one comparison of integers for each channel."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jbnn._arguments import per_channel
from jbnn._jax_versions import register_for_export


class Threshold(NamedTuple):
    """What makes bits of exact sums, channel by channel.

        bit = (u >= value) != flip

    Without `flip` the bits are those of a rising function of u, with it those of a falling one: u >= value or
    u < value. value = -2^31 is a bit that does not depend on u: 1, or with `flip` 0.

    Args:
      value: `int32` (O,), or a scalar for all channels.
      flip: `bool` (O,), or a scalar for all channels.

    Example:
      >>> threshold = jbnn.Threshold(jnp.array([3, 3], jnp.int32), jnp.array([False, True]))
      >>> x, w = jbnn.pack(jnp.ones((1, 4))), jbnn.pack(jnp.ones((4, 2)), axis=-2)
      >>> print(jbnn.packed_dense(x, w, channels=4), jbnn.packed_dense(x, w, channels=4, threshold=threshold))
      [[4 4]] [[1]]
    """

    value: jax.Array
    flip: jax.Array


register_for_export(Threshold)


def sign_threshold(scale: ArrayLike, bias: ArrayLike) -> Threshold:
    """The threshold that stands for an affine and a sign.

        (u >= value) != flip   where   sign(fl(fl(float32(u)·scale) + bias)) is +1

    fl rounds to float32, as NumPy does, and keeps subnormals. Equal for every int32 u, of which float32(u) is itself
    a rounding, and for every scale and bias: negative, zero, subnormal, infinite and NaN ones too.

    Computed in NumPy, once, when a network is deployed; XLA may contract the two roundings to one.

    Args:
      scale: scalar or (O,); float32, bfloat16 or float16, or a Python number, which is rounded to float32.
      bias: the same.

    Returns:
      A `Threshold` of int32 and bool (O,), or of scalars if both arguments are.

    Raises:
      TypeError: a dtype is another one, float64 among them, which would have to be rounded; or an argument is traced,
        as under `jit`: then its values are not known yet.
      ValueError: a shape is neither () nor (O,), or the lengths differ.

    Gradient: none; a threshold is made after training.

    Example:
      >>> print(jbnn.sign_threshold(jnp.array([0.5, -0.5]), jnp.array([1.0, 1.0])))
      Threshold(value=Array([-2,  3], dtype=int32), flip=Array([False,  True], dtype=bool))

    References:
      Umuroglu et al., FINN, 2017, section 4.2.2. https://arxiv.org/abs/1612.07119
    """
    s, b = _known("scale", scale), _known("bias", bias)
    if s.ndim and b.ndim and s.shape != b.shape:
        raise ValueError(f"`scale` and `bias` must have the same length, but have shapes {s.shape} and {b.shape}")

    def is_positive(u: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # inf and NaN are answers here
            return ~(u.astype(np.float32) * s + b < 0)

    # The answer changes at most once as u rises, so it is found by bisection. Rounding keeps order: float32(u) rises
    # with u, and p = fl(float32(u)·scale) rises or falls. A rounded sum has the sign of the real one, since it is 0
    # only where that is, so it is negative where p < -bias. This holds for infinities too, inf - inf being NaN and
    # counting as +1. Only 0·inf remains, which is NaN at u = 0, between p = -inf and p = +inf. It counts as +1, as
    # p = +inf always does.
    low = np.full(np.broadcast_shapes(s.shape, b.shape), np.iinfo(np.int32).min, np.int64)
    high = np.full_like(low, np.iinfo(np.int32).max)
    first, last = is_positive(low), is_positive(high)
    while np.any(high - low > 1):  # the answer at low is the first one, at high another, if there is another
        middle = (low + high) // 2
        same = is_positive(middle) == first
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    constant = first == last
    value = np.where(constant, np.iinfo(np.int32).min, high).astype(np.int32)
    flip = np.where(constant, ~first, first)
    return Threshold(jnp.asarray(value), jnp.asarray(flip))


def _known(name: str, value: ArrayLike) -> np.ndarray:
    """A float32 vector or scalar of known values, with nothing rounded."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"`{name}` must be a concrete array, but was traced: make thresholds outside `jit` and `vmap`")
    array = np.asarray(value, np.float32 if type(value) in (int, float) else None)
    if array.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        raise TypeError(f"`{name}` must have dtype float32, bfloat16 or float16, but has dtype {array.dtype}")
    if array.ndim > 1:
        raise ValueError(f"`{name}` must be a scalar or have shape (O,), but has shape {array.shape}")
    return array.astype(np.float32)


def as_threshold(threshold: Threshold, features: int) -> Threshold:
    """A threshold of arrays (O,), traced or not."""
    if not isinstance(threshold, Threshold):
        raise TypeError(f"`threshold` must be a `Threshold` or None, but was {threshold!r}")

    def per_output(field: str, value: ArrayLike, dtype: type) -> jax.Array:
        value = value if isinstance(value, jax.Array) else np.asarray(value)  # JAX would wrap int64 around
        if value.dtype != dtype:
            raise TypeError(f"`threshold.{field}` must have dtype {jnp.dtype(dtype).name}, but has dtype {value.dtype}")
        if value.shape not in ((), (features,)):
            raise ValueError(
                f"`threshold.{field}` must be a scalar or have shape (O,) = ({features},), but has shape {value.shape}"
            )
        return jnp.broadcast_to(value, (features,))

    value, flip = threshold
    return Threshold(per_output("value", value, jnp.int32), per_output("flip", flip, jnp.bool_))


def fold_batch_norm(
    mean: ArrayLike,
    variance: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    epsilon: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The affine that a batch norm becomes when its statistics are fixed.

        gamma·(y - mean)/√(variance + epsilon) + beta   =   u·(I·scale) + (I·bias + J)

        y = u·scale + bias        I = gamma/√(variance + epsilon)        J = beta - I·mean

    Equal in exact arithmetic. In floats the two sides round differently, so a network that is to give the same signs
    before and after it is deployed evaluates the affine in both.

    Args:
      mean: the running mean, scalar or (O,).
      variance: the running variance, scalar or (O,).
      gamma: scalar or (O,); None is 1.
      beta: scalar or (O,); None is 0.
      epsilon: what was added to the variance in training. Frameworks differ, so it has no default.
      scale: of the layer before, scalar or (O,); None is 1.
      bias: of the layer before, scalar or (O,); None is 0.

    Returns:
      `(scale, bias)` for `binary_conv` or `sign_threshold`, each (O,), or scalars if all arguments are; float32, or
      float64 if an array among them is; a Python number takes the dtype of the others.

    Raises:
      TypeError: an argument is not real.
      ValueError: a shape is neither () nor (O,), or that of `epsilon` is not ().

    Gradient: that of the formula.

    Example:
      >>> mean, variance = jnp.array([2.0, -1.0]), jnp.array([3.0, 0.0])
      >>> scale, bias = jbnn.fold_batch_norm(mean, variance, gamma=jnp.array([1.0, -1.0]), epsilon=1.0)
      >>> print(scale, bias)
      [ 0.5 -1. ] [-1. -1.]

    References:
      `MPSCNNConvolutionDescriptor.setBatchNormalizationParametersForInference`, whose I and J these are.
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolutiondescriptor
    """
    given = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta, "scale": scale, "bias": bias}
    arrays = {name: jnp.asarray(value) for name, value in given.items() if value is not None}
    exact = any(a.dtype == jnp.float64 and not a.weak_type for a in arrays.values())  # Python's numbers are weak
    dtype = jnp.float64 if exact else jnp.float32
    size = next((a.shape[0] for a in arrays.values() if a.ndim == 1), 1)
    epsilon = jnp.asarray(epsilon)
    if epsilon.ndim:
        raise ValueError(f"`epsilon` must be a scalar, but has shape {epsilon.shape}")
    terms = {name: per_channel(name, array, size, "O", dtype) for name, array in arrays.items()}
    root = jnp.sqrt(terms["variance"] + per_channel("epsilon", epsilon, size, "O", dtype))
    inner = terms["gamma"] / root if gamma is not None else 1 / root
    outer = -inner * terms["mean"] if beta is None else terms["beta"] - inner * terms["mean"]
    if bias is not None:
        outer = inner * terms["bias"] + outer
    factor, term = jnp.broadcast_arrays(inner if scale is None else inner * terms["scale"], outer)
    return factor, term
