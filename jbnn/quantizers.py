"""Surrogate gradients: functions that quantize on the way forward and pass a useful gradient on the way back.

The sign's own derivative is zero almost everywhere, so a binary network trains with another one in its place. The ±1
quantizers below share one forward function, `jbnn.sign`, and differ only in that surrogate; values and gradients are
those of Larq [1]. A gradient that is a mask keeps one bit an element for the backward pass.

`jbnn.binary_conv` takes ±1 quantizers as `input_quantizer` and `kernel_quantizer`; a quantizer with options goes in as
`functools.partial(jbnn.quantizers.ste_sign, clip=1.25)`. Every number of a surrogate may be traced, so that it can
change during training; it has no gradient. Forward-mode differentiation and second derivatives raise a `TypeError`.

[1] Geiger and the Plumerai team, Larq: An Open-Source Library for Training Binarized Neural Networks, JOSS 2020.
    https://doi.org/10.21105/joss.01746
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_float, as_index, at_least_float32, check_flag
from jbnn._bits import sign
from jbnn._marks import marked
from jbnn._numbers import known, real_scalar
from jbnn._once import tied, witness
from jbnn._residuals import keep_mask, recall_mask

__all__ = [
    "approx_sign",
    "dorefa",
    "identity",
    "magnitude_aware_sign",
    "ste_heaviside",
    "ste_sign",
    "ste_tern",
    "swish_sign",
]

# The functions that a rule is made of (value, mask, slope) are the same objects at every call, so that `jit` recognises
# them. Its numbers are arrays, so that they may be traced. For the value, a forward pass calls the rule itself: so the
# value has its derivative there too.
Function = Callable[..., jax.Array]
Numbers = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pass_through(x: jax.Array, numbers: Numbers, value: Function) -> jax.Array:
    """value(x, *numbers), with the gradient of x."""
    return value(x, *numbers)


_pass_through.defvjp(
    lambda x, numbers, value: (_pass_through(x, numbers, value), witness(x)),
    lambda value, source, g: (tied(g, source), None),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _pass_where(x: jax.Array, numbers: Numbers, bounds: Numbers, value: Function, passes: Function) -> jax.Array:
    """value(x, *numbers), with the gradient of x where passes(x, *bounds), else 0. That mask is kept as bits."""
    return value(x, *numbers)


def _pass_where_fwd(
    x: jax.Array, numbers: Numbers, bounds: Numbers, value: Function, passes: Function
) -> tuple[jax.Array, Numbers]:
    y = _pass_where(x, numbers, bounds, value, passes)
    return y, (keep_mask(passes(x, *bounds)), witness(x))


def _pass_where_bwd(value: Function, passes: Function, residuals: Numbers, g: jax.Array) -> tuple[Any, ...]:
    words, source = residuals
    mask, g = recall_mask(words, g)
    return tied(jnp.where(mask, g, jnp.zeros_like(g)), source), None, None


_pass_where.defvjp(_pass_where_fwd, _pass_where_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sign_with_slope(x: jax.Array, numbers: Numbers, slope: Function) -> jax.Array:
    """sign(x), with the gradient of x times slope(x, *numbers)."""
    return sign(x)


def _sign_with_slope_fwd(x: jax.Array, numbers: Numbers, slope: Function) -> tuple[jax.Array, Numbers]:
    return _sign_with_slope(x, numbers, slope), (slope(x, *numbers), witness(x))


def _sign_with_slope_bwd(slope: Function, residuals: Numbers, g: jax.Array) -> tuple[Any, ...]:
    factor, source = residuals
    # Selected, as Larq does: an infinite cotangent does not pass where the slope is 0.
    return tied(jnp.where(factor == 0, jnp.zeros_like(g), g * factor), source), None


_sign_with_slope.defvjp(_sign_with_slope_fwd, _sign_with_slope_bwd)


# One program each, so that their constants are the program's, and not sent to the device at every call.
_through = jax.jit(_pass_through, static_argnums=2)
_where = jax.jit(_pass_where, static_argnums=(3, 4))
_sloped = jax.jit(_sign_with_slope, static_argnums=2)


def _straight_through(x: jax.Array, value: Function, clip: ArrayLike | None, *numbers: jax.Array) -> jax.Array:
    if clip is None:
        return _through(x, numbers, value)
    bound, is_known = real_scalar("clip", clip, x.dtype), known(clip)
    if is_known is not None and not is_known > 0:
        raise ValueError(f"`clip` must be positive or None, but was {clip!r}")
    return _where(x, numbers, (bound,), value, _is_within)


def _is_within(x: jax.Array, clip: jax.Array) -> jax.Array:
    return (x >= -clip) & (x <= clip)


def ste_sign(x: ArrayLike, clip: ArrayLike | None = 1.0) -> jax.Array:
    """Sign with the straight-through estimator.

        q(x) = sign(x)          dq/dx = 1 where |x| <= clip, else 0

    Args:
      x: floating array of any shape.
      clip: the gradient passes where |x| <= clip; None passes it everywhere. A scalar, positive, which may be traced.

    Returns:
      ±1 in the shape and dtype of x. The backward pass keeps one bit an element.

    Raises:
      TypeError: x is not floating.
      ValueError: `clip` is no scalar, or not positive where its value is known.

    Example:
      >>> x = jnp.array([-1.5, -0.5, 0.0, 1.0])
      >>> slope = jax.grad(lambda x: jbnn.quantizers.ste_sign(x).sum())
      >>> print(jbnn.quantizers.ste_sign(x), slope(x))
      [-1. -1.  1.  1.] [0. 1. 1. 1.]

    References:
      Courbariaux et al., Binarized Neural Networks, 2016, section 1.3. https://arxiv.org/abs/1602.02830
    """
    return _straight_through(as_float("x", x), sign, clip)


def approx_sign(x: ArrayLike) -> jax.Array:
    """Sign with the gradient of a piecewise quadratic.

        q(x) = sign(x)          dq/dx = 2 - 2|x| where |x| <= 1, else 0

    Args:
      x: floating array of any shape.

    Returns:
      ±1 in the shape and dtype of x.

    Raises:
      TypeError: x is not floating.

    Example:
      >>> slope = jax.grad(lambda x: jbnn.quantizers.approx_sign(x).sum())
      >>> print(slope(jnp.array([-0.25, 0.0, 2.0])))
      [1.5 2.  0. ]

    References:
      Liu et al., Bi-Real Net, 2018, section 3.3. https://arxiv.org/abs/1808.00278
    """
    return _sloped(as_float("x", x), (), _triangle)


def _triangle(x: jax.Array) -> jax.Array:
    distance = jnp.abs(x)
    return jnp.where(distance <= 1, 2 - 2 * distance, jnp.zeros_like(x))


def swish_sign(x: ArrayLike, beta: ArrayLike = 5.0) -> jax.Array:
    """Sign with the gradient of the SignSwish function.

        q(x) = sign(x)          dq/dx = beta·(2 - beta·x·tanh(beta·x/2)) / (1 + cosh(beta·x))

    Since 1 + cosh(y) = 2·cosh²(y/2) = 2 / (1 - tanh²(y/2)), tanh alone is enough.

    Args:
      x: floating array of any shape.
      beta: how steep the surrogate is at 0; a scalar, which may be traced.

    Returns:
      ±1 in the shape and dtype of x.

    Raises:
      TypeError: x is not floating.

    Example:
      >>> print(jax.grad(lambda x: jbnn.quantizers.swish_sign(x).sum())(jnp.array([0.0, 10.0])))
      [5. 0.]

    References:
      Darabi et al., Regularized Binary Network Training (BNN+), 2018, section 3.1. https://arxiv.org/abs/1812.11800
    """
    x = as_float("x", x)
    return _sloped(x, (real_scalar("beta", beta, x.dtype),), _swish_slope)


def _swish_slope(x: jax.Array, beta: jax.Array) -> jax.Array:
    t = jnp.tanh(beta * x / 2)
    tail = 1 - t * t
    x = jnp.where(tail == 0, jnp.zeros_like(x), x)  # x may be infinite where tanh has reached ±1
    return beta * (2 - beta * x * t) * tail / 2


def magnitude_aware_sign(x: ArrayLike, clip: ArrayLike | None = 1.0) -> jax.Array:
    """Sign scaled by the mean magnitude of each output channel.

        q(x) = s·sign(x)          dq/dx = s where |x| <= clip, else 0
        s = mean |x| over all axes but the last, its gradient stopped

    Its values are not ±1, so `binary_conv` refuses it. There, `ste_sign` with `scale=lax.stop_gradient(jbnn.alpha(w))`
    gives the same values, and for the kernel the same gradient.

    Args:
      x: floating array of at least one axis; the last is the output channels.
      clip: as in `ste_sign`.

    Returns:
      ±s in the shape and dtype of x.

    Raises:
      TypeError: x is not floating.
      ValueError: x has no axis; `clip` is no scalar, or not positive where its value is known.

    Example:
      >>> print(jbnn.quantizers.magnitude_aware_sign(jnp.array([[1.0, -2.0], [-3.0, 0.0]])))
      [[ 2. -1.]
       [-2.  1.]]

    References:
      Liu et al., Bi-Real Net, 2018, section 3.3. https://arxiv.org/abs/1808.00278
    """
    x = as_float("x", x)
    if x.ndim == 0:
        raise ValueError("`x` must have at least one axis, its last the output channels, but has shape ()")
    return marked(ste_sign(x, clip) * _mean_magnitude(x), "magnitude_aware_sign")


@jax.jit
def _mean_magnitude(x: jax.Array) -> jax.Array:
    return lax.stop_gradient(jnp.mean(jnp.abs(x), axis=range(x.ndim - 1), keepdims=True))


def ste_heaviside(x: ArrayLike, clip: ArrayLike | None = 1.0) -> jax.Array:
    """The unit step with the straight-through estimator.

        q(x) = 1 where x > 0, else 0          dq/dx = 1 where |x| <= clip, else 0

    As a quantizer it is for `mode="and"` only, where its value is the bit: also inside a function of the caller's, as
    `lambda z: ste_heaviside(z - shift)`, as long as this returns its values unchanged. `jbnn.pack` reads signs
    unless it is told otherwise, so its kernels are packed as `jbnn.pack(w, axis=-2, quantizer=ste_heaviside)`.

    Args:
      x: floating array of any shape.
      clip: as in `ste_sign`.

    Returns:
      0 or 1 in the shape and dtype of x. The backward pass keeps one bit an element.

    Raises:
      TypeError: x is not floating.
      ValueError: `clip` is no scalar, or not positive where its value is known.

    Example:
      >>> print(jbnn.quantizers.ste_heaviside(jnp.array([-1.0, 0.0, 0.5])))
      [0. 0. 1.]

    References:
      Larq, `SteHeaviside`. https://docs.larq.dev/larq/api/quantizers/
    """
    return marked(_straight_through(as_float("x", x), _step, clip), "ste_heaviside")


def _step(x: jax.Array) -> jax.Array:
    # x > 0 is sign(-x) = -1: decided on bits, so that subnormals count on every device.
    return jnp.where(sign(-x) < 0, jnp.ones_like(x), jnp.zeros_like(x))


def ste_tern(
    x: ArrayLike, threshold: ArrayLike = 0.05, ternary_weight_networks: bool = False, clip: ArrayLike | None = 1.0
) -> jax.Array:
    """Three values with the straight-through estimator.

        q(x) = sign(x) where |x| >= t and x ≠ 0, else 0          dq/dx = 1 where |x| <= clip, else 0
        t = threshold, or 0.7·mean |x| over the whole array

    Its values are not ±1, so `binary_conv` refuses it.

    Args:
      x: floating array of any shape.
      threshold: t, not negative; a scalar, which may be traced.
      ternary_weight_networks: take t from the array, as Ternary Weight Networks do.
      clip: as in `ste_sign`.

    Returns:
      -1, 0 or 1 in the shape and dtype of x; NaN gives 0.

    Raises:
      TypeError: x is not floating.
      ValueError: `clip` or `threshold` is no scalar, or not positive or negative where its value is known.

    Example:
      >>> print(jbnn.quantizers.ste_tern(jnp.array([-0.3, -0.01, 0.05, 2.0])))
      [-1.  0.  1.  1.]

    References:
      Li et al., Ternary Weight Networks, 2016, section 2.2. https://arxiv.org/abs/1605.04711
    """
    x = as_float("x", x)
    check_flag("ternary_weight_networks", ternary_weight_networks)
    t, is_known = real_scalar("threshold", threshold, x.dtype), known(threshold)
    if is_known is not None and not is_known >= 0:
        raise ValueError(f"`threshold` must not be negative, but was {threshold!r}")
    if ternary_weight_networks:
        return marked(_straight_through(x, _ternary_by_mean, clip), "ste_tern")
    return marked(_straight_through(x, _ternary, clip, t), "ste_tern")


def _ternary_by_mean(x: jax.Array) -> jax.Array:
    return _ternary(x, 0.7 * jnp.mean(jnp.abs(x)))


def _ternary(x: jax.Array, t: jax.Array) -> jax.Array:
    """sign(x) where |x| >= t and x ≠ 0, decided on bits, as `sign` is: those of |x| increase with it."""
    unsigned = np.dtype(f"uint{8 * x.dtype.itemsize}")
    magnitude, bound = (lax.bitcast_convert_type(v, unsigned) << 1 for v in (x, t))
    bound = jnp.where(sign(t) < 0, jnp.zeros_like(bound), bound)  # below 0 it excludes nothing
    infinity = np.array(np.inf, x.dtype).view(unsigned) << unsigned.type(1)
    counts = (magnitude >= bound) & (magnitude != 0) & (magnitude <= infinity)
    return jnp.where(counts, sign(x), jnp.zeros_like(x))


def dorefa(x: ArrayLike, k: int = 2, mode: Literal["activations", "weights"] = "activations") -> jax.Array:
    """DoReFa-Net's uniform quantization to k bits, n = 2^k - 1 steps.

        activations:  q(x) = round(n·clip(x, 0, 1)) / n
                      dq/dx = 1 where 0 <= x <= 1, else 0
        weights:      q(x) = 2·round(n·y) / n - 1,  y = tanh(x) / (2·m) + ½
                      dq/dx = 2·dy/dx, as if round were the identity and m = max |tanh(x)| a constant

    Its values are not ±1, so `binary_conv` refuses it.

    Args:
      x: floating array of any shape.
      k: bits, from 1 to 24.
      mode: "activations", values in [0, 1], or "weights", values in [-1, 1].

    Returns:
      The quantized array in the shape and dtype of x. Weights that are all 0 have y = ½.

    Raises:
      TypeError: x is not floating, or k no integer.
      ValueError: k lies outside its range; unknown mode.

    Example:
      >>> print(jbnn.quantizers.dorefa(jnp.array([-1.0, 0.4, 0.9]), k=1))
      [0. 0. 1.]

    References:
      Zhou et al., DoReFa-Net, 2016, sections 2.2 to 2.4. https://arxiv.org/abs/1606.06160
    """
    x, k = as_float("x", x), as_index("k", k)
    if not 1 <= k <= 24:
        raise ValueError(f"`k` must lie in [1, 24], the bits of a float32's integers, but was {k!r}")
    if mode == "activations":
        return marked(_where(x, (), (), _Rounded(2**k - 1), _is_in_unit_interval), "dorefa")
    if mode == "weights":
        return marked(_dorefa_weights(x, _Rounded(2**k - 1)), "dorefa")
    raise ValueError(f'`mode` must be "activations" or "weights", but was {mode!r}')


@dataclasses.dataclass(frozen=True)
class _Rounded:
    """The nearest of 0, 1 / steps, … 1: two of as many steps are one function to `jit`."""

    steps: int

    def __call__(self, y: jax.Array) -> jax.Array:
        wide = y.astype(at_least_float32(y.dtype))  # float16 ends at 65504
        return (jnp.round(jnp.clip(wide, 0, 1) * self.steps) / self.steps).astype(y.dtype)


def _is_in_unit_interval(x: jax.Array) -> jax.Array:
    return (x >= 0) & (x <= 1)


@functools.partial(jax.jit, static_argnums=1)
def _dorefa_weights(x: jax.Array, rounded: _Rounded) -> jax.Array:
    t = jnp.tanh(x)
    largest = lax.stop_gradient(jnp.max(jnp.abs(t), initial=0))
    y = t / jnp.where(largest == 0, jnp.ones_like(largest), 2 * largest) + 0.5
    return 2 * _pass_through(y, (), rounded) - 1


def identity(x: ArrayLike) -> jax.Array:
    """Returns x unchanged, with gradient 1.

    Given to `binary_conv`, the caller promises that the values are ±1 already.

    Args:
      x: any array.

    Returns:
      x, unchanged.

    Example:
      >>> print(jbnn.quantizers.identity(jnp.array([1.0, -1.0])))
      [ 1. -1.]
    """
    return jnp.asarray(x)
