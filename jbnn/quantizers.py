"""Surrogate gradients: functions that quantize on the way forward and pass a useful gradient on the way back.

The sign's own derivative is zero almost everywhere, so a binary network trains with another one in its place. The ±1
quantizers below share one forward function, `jbnn.sign`, and differ only in that surrogate; values and gradients are
those of Larq [1]. A gradient that is a mask keeps one bit an element for the backward pass.

`jbnn.binary_conv` takes ±1 quantizers as `input_quantizer` and `kernel_quantizer`; a quantizer with options goes in as
`functools.partial(jbnn.quantizers.ste_sign, clip=1.25)`. Forward-mode differentiation raises a `TypeError`.

[1] Geiger and the Plumerai team, Larq: An Open-Source Library for Training Binarized Neural Networks, JOSS 2020.
    https://doi.org/10.21105/joss.01746
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._arguments import as_index
from jbnn._bits import as_floating, pack, sign, unpack_bits
from jbnn._once import differentiable_once

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


Forward = Callable[[jax.Array], jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _pass_through(x: jax.Array, forward: Forward) -> jax.Array:
    """forward(x), with the gradient of x."""
    return forward(x)


_pass_through.defvjp(lambda x, forward: (forward(differentiable_once(x)), None), lambda forward, _, g: (g,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pass_between(x: jax.Array, forward: Forward, low: float, high: float) -> jax.Array:
    """forward(x), with the gradient of x where low <= x <= high, and 0 elsewhere. That mask is kept as bits."""
    return forward(x)


def _pass_between_fwd(x: jax.Array, forward: Forward, low: float, high: float) -> tuple[jax.Array, jax.Array]:
    x = differentiable_once(x)
    return forward(x), pack(jnp.atleast_1d((x >= low) & (x <= high)))


def _pass_between_bwd(forward: Forward, low: float, high: float, words: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    mask = unpack_bits(words, g.shape[-1] if g.ndim else 1, axis=max(g.ndim - 1, 0), groups=1)
    return (jnp.where(mask.reshape(g.shape), g, jnp.zeros_like(g)),)


_pass_between.defvjp(_pass_between_fwd, _pass_between_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _sign_with_slope(x: jax.Array, slope: Forward) -> jax.Array:
    """sign(x), with the gradient of x times slope(x)."""
    return sign(x)


def _sign_with_slope_fwd(x: jax.Array, slope: Forward) -> tuple[jax.Array, jax.Array]:
    x = differentiable_once(x)
    return sign(x), slope(x)


def _sign_with_slope_bwd(slope: Forward, factor: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    # Selected, as Larq does: an infinite cotangent does not pass where the slope is 0.
    return (jnp.where(factor == 0, jnp.zeros_like(g), g * factor),)


_sign_with_slope.defvjp(_sign_with_slope_fwd, _sign_with_slope_bwd)


def _straight_through(x: jax.Array, forward: Forward, clip: float | None) -> jax.Array:
    if clip is None:
        return _pass_through(x, forward)
    if not clip > 0:
        raise ValueError(f"`clip` must be positive or None, but was {clip!r}")
    return _pass_between(x, forward, -clip, clip)


def ste_sign(x: ArrayLike, clip: float | None = 1.0) -> jax.Array:
    """Sign with the straight-through estimator.

        q(x) = sign(x)          dq/dx = 1 where |x| <= clip, else 0

    Args:
      x: floating array of any shape.
      clip: the gradient passes where |x| <= clip; None passes it everywhere.

    Returns:
      ±1 in the shape and dtype of x. The backward pass keeps one bit an element.

    Raises:
      TypeError: x is not floating.
      ValueError: `clip` is not positive.

    Example:
      >>> x = jnp.array([-1.5, -0.5, 0.0, 1.0])
      >>> slope = jax.grad(lambda x: jbnn.quantizers.ste_sign(x).sum())
      >>> print(jbnn.quantizers.ste_sign(x), slope(x))
      [-1. -1.  1.  1.] [0. 1. 1. 1.]

    References:
      Courbariaux et al., Binarized Neural Networks, 2016, section 1.3. https://arxiv.org/abs/1602.02830
    """
    return _straight_through(as_floating(x), sign, clip)


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

    def slope(x: jax.Array) -> jax.Array:
        distance = jnp.abs(x)
        return jnp.where(distance <= 1, 2 - 2 * distance, jnp.zeros_like(x))

    return _sign_with_slope(as_floating(x), slope)


def swish_sign(x: ArrayLike, beta: float = 5.0) -> jax.Array:
    """Sign with the gradient of the SignSwish function.

        q(x) = sign(x)          dq/dx = beta·(2 - beta·x·tanh(beta·x/2)) / (1 + cosh(beta·x))

    Since 1 + cosh(y) = 2·cosh²(y/2) = 2 / (1 - tanh²(y/2)), tanh alone is enough.

    Args:
      x: floating array of any shape.
      beta: how steep the surrogate is at 0.

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

    def slope(x: jax.Array) -> jax.Array:
        t = jnp.tanh(beta * x / 2)
        tail = 1 - t * t
        x = jnp.where(tail == 0, jnp.zeros_like(x), x)  # x may be infinite where tanh has reached ±1
        return beta * (2 - beta * x * t) * tail / 2

    return _sign_with_slope(as_floating(x), slope)


def magnitude_aware_sign(x: ArrayLike, clip: float | None = 1.0) -> jax.Array:
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
      ValueError: x has no axis, or `clip` is not positive.

    Example:
      >>> print(jbnn.quantizers.magnitude_aware_sign(jnp.array([[1.0, -2.0], [-3.0, 0.0]])))
      [[ 2. -1.]
       [-2.  1.]]

    References:
      Liu et al., Bi-Real Net, 2018, section 3.3. https://arxiv.org/abs/1808.00278
    """
    x = as_floating(x)
    if x.ndim == 0:
        raise ValueError("`x` must have at least one axis, its last the output channels, but has shape ()")
    scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(x), axis=range(x.ndim - 1), keepdims=True))
    return ste_sign(x, clip) * scale


def ste_heaviside(x: ArrayLike, clip: float | None = 1.0) -> jax.Array:
    """The unit step with the straight-through estimator.

        q(x) = 1 where x > 0, else 0          dq/dx = 1 where |x| <= clip, else 0

    As a quantizer it is for `mode="and"` only, where its value is the bit.

    Args:
      x: floating array of any shape.
      clip: as in `ste_sign`.

    Returns:
      0 or 1 in the shape and dtype of x. The backward pass keeps one bit an element.

    Raises:
      TypeError: x is not floating.
      ValueError: `clip` is not positive.

    Example:
      >>> print(jbnn.quantizers.ste_heaviside(jnp.array([-1.0, 0.0, 0.5])))
      [0. 0. 1.]

    References:
      Larq, `SteHeaviside`. https://docs.larq.dev/larq/api/quantizers/
    """

    def step(x: jax.Array) -> jax.Array:
        # x > 0 is sign(-x) = -1: decided on bits, so that subnormals count on every device.
        return jnp.where(sign(-x) < 0, jnp.ones_like(x), jnp.zeros_like(x))

    return _straight_through(as_floating(x), step, clip)


def ste_tern(
    x: ArrayLike, threshold: float = 0.05, ternary_weight_networks: bool = False, clip: float | None = 1.0
) -> jax.Array:
    """Three values with the straight-through estimator.

        q(x) = sign(x) where |x| >= t and x ≠ 0, else 0          dq/dx = 1 where |x| <= clip, else 0
        t = threshold, or 0.7·mean |x| over the whole array

    Its values are not ±1, so `binary_conv` refuses it.

    Args:
      x: floating array of any shape.
      threshold: t, not negative.
      ternary_weight_networks: take t from the array, as Ternary Weight Networks do.
      clip: as in `ste_sign`.

    Returns:
      -1, 0 or 1 in the shape and dtype of x.

    Raises:
      TypeError: x is not floating.
      ValueError: `clip` is not positive, or `threshold` is negative.

    Example:
      >>> print(jbnn.quantizers.ste_tern(jnp.array([-0.3, -0.01, 0.05, 2.0])))
      [-1.  0.  1.  1.]

    References:
      Li et al., Ternary Weight Networks, 2016, section 2.2. https://arxiv.org/abs/1605.04711
    """
    x = as_floating(x)
    if not threshold >= 0:
        raise ValueError(f"`threshold` must not be negative, but was {threshold!r}")

    def three_values(x: jax.Array) -> jax.Array:
        t = 0.7 * jnp.mean(jnp.abs(x)) if ternary_weight_networks else jnp.asarray(threshold, x.dtype)
        t = jnp.broadcast_to(t, x.shape)
        return jnp.sign(jnp.sign(x + t) + jnp.sign(x - t))

    return _straight_through(x, three_values, clip)


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
    x, k = as_floating(x), as_index("k", k)
    if not 1 <= k <= 24:
        raise ValueError(f"`k` must lie in [1, 24], the bits of a float32's integers, but was {k!r}")
    steps = 2**k - 1

    def rounded(y: jax.Array) -> jax.Array:
        wide = y.astype(jnp.float64 if y.dtype == jnp.float64 else jnp.float32)  # float16 ends at 65504
        return (jnp.round(jnp.clip(wide, 0, 1) * steps) / steps).astype(y.dtype)

    if mode == "activations":
        return _pass_between(x, rounded, 0.0, 1.0)
    if mode == "weights":
        t = jnp.tanh(x)
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(t), initial=0))
        y = t / jnp.where(largest == 0, jnp.ones_like(largest), 2 * largest) + 0.5
        return 2 * _pass_through(y, rounded) - 1
    raise ValueError(f'`mode` must be "activations" or "weights", but was {mode!r}')


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
