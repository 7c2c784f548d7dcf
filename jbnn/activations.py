"""The neurons of Metal Performance Shaders as differentiable functions, with MPS's parameters.

Each takes an array and returns one of the same shape and dtype, and each is an `activation=` for `jbnn.binary_conv`;
one with parameters goes in as `functools.partial(jbnn.activations.relun, a=0.0)`. Formulas are those of
`MPSCNNNeuronType` [1]; where Apple's page contradicts itself, the docstring says what holds here.

[1] https://developer.apple.com/documentation/metalperformanceshaders/mpscnnneurontype
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._bits import as_floating

__all__ = [
    "absolute",
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "linear",
    "logarithm",
    "none",
    "power",
    "prelu",
    "relu",
    "relun",
    "sigmoid",
    "soft_plus",
    "soft_sign",
    "tanh",
]


def _scaled(x: jax.Array, a: ArrayLike) -> jax.Array:
    """a·x, where a plain 0 gives 0 for infinite x too."""
    return jnp.zeros_like(x) if isinstance(a, int | float) and a == 0 else jnp.asarray(a, x.dtype) * x


def none(x: ArrayLike) -> jax.Array:
    """f(x) = x.

    Args:
      x: floating array of any shape.

    Returns:
      x, unchanged.

    Example:
      >>> print(jbnn.activations.none(jnp.array([-1.0, 2.0])))
      [-1.  2.]
    """
    return as_floating(x)


def relu(x: ArrayLike, a: ArrayLike = 0.0) -> jax.Array:
    """f(x) = x where x >= 0, else a·x.

    Args:
      x: floating array of any shape.
      a: slope below 0; a scalar.

    Returns:
      The shape and dtype of x. The slope at 0 is 1, as in MPS; `jax.nn.relu` has 0 there.

    Example:
      >>> print(jbnn.activations.relu(jnp.array([-2.0, 3.0]), a=0.5))
      [-1.  3.]
    """
    x = as_floating(x)
    return jnp.where(x < 0, _scaled(x, a), x)


def linear(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> jax.Array:
    """f(x) = a·x + b.

    Args:
      x: floating array of any shape.
      a: slope; a scalar.
      b: offset; a scalar.

    Returns:
      The shape and dtype of x.

    Example:
      >>> print(jbnn.activations.linear(jnp.array([1.0, 2.0]), 3.0, 1.0))
      [4. 7.]
    """
    x = as_floating(x)
    return jnp.asarray(a, x.dtype) * x + jnp.asarray(b, x.dtype)


def sigmoid(x: ArrayLike) -> jax.Array:
    """f(x) = 1 / (1 + e^-x).

    Args:
      x: floating array of any shape.

    Returns:
      The shape and dtype of x.

    Example:
      >>> print(jbnn.activations.sigmoid(jnp.array([0.0])))
      [0.5]
    """
    return jax.nn.sigmoid(as_floating(x))


def hard_sigmoid(x: ArrayLike, a: ArrayLike = 0.2, b: ArrayLike = 0.5) -> jax.Array:
    """f(x) = a·x + b, clamped to [0, 1].

    Args:
      x: floating array of any shape.
      a: slope; a scalar.
      b: offset; a scalar.

    Returns:
      The shape and dtype of x. The slope is a at both ends of the ramp too, as in MPS.

    Example:
      >>> print(jbnn.activations.hard_sigmoid(jnp.array([-5.0, 0.0, 1.0])))
      [0.  0.5 0.7]
    """
    y = linear(x, a, b)
    zero, one = jnp.zeros_like(y), jnp.ones_like(y)
    return jnp.where(y < 0, zero, jnp.where(y > 1, one, y))


def tanh(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 1.0) -> jax.Array:
    """f(x) = a·tanh(b·x).

    Args:
      x: floating array of any shape.
      a: outer factor; a scalar.
      b: inner factor; a scalar.

    Returns:
      The shape and dtype of x.

    Example:
      >>> print(jbnn.activations.tanh(jnp.array([0.0, 100.0]), a=2.0))
      [0. 2.]
    """
    x = as_floating(x)
    return jnp.asarray(a, x.dtype) * jnp.tanh(jnp.asarray(b, x.dtype) * x)


def absolute(x: ArrayLike) -> jax.Array:
    """f(x) = |x|.

    Args:
      x: floating array of any shape.

    Returns:
      The shape and dtype of x. The slope is the sign of x, and 0 at 0; `jnp.abs` has 1 there.

    Example:
      >>> print(jbnn.activations.absolute(jnp.array([-2.0, 3.0])))
      [2. 3.]
    """
    x = as_floating(x)
    return jnp.where(x == 0, jnp.zeros_like(x), jnp.abs(x))


def soft_plus(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 1.0) -> jax.Array:
    """f(x) = a·log(1 + e^(b·x)).

    Args:
      x: floating array of any shape.
      a: outer factor; a scalar.
      b: inner factor; a scalar.

    Returns:
      The shape and dtype of x, without overflow for large b·x.

    Example:
      >>> print(jbnn.activations.soft_plus(jnp.array([-200.0, 200.0])))
      [  0. 200.]
    """
    x = as_floating(x)
    y = jnp.asarray(b, x.dtype) * x
    return jnp.asarray(a, x.dtype) * jnp.logaddexp(y, jnp.zeros_like(y))


def soft_sign(x: ArrayLike) -> jax.Array:
    """f(x) = x / (1 + |x|).

    Args:
      x: floating array of any shape.

    Returns:
      The shape and dtype of x.

    Example:
      >>> print(jbnn.activations.soft_sign(jnp.array([-1.0, 3.0])))
      [-0.5   0.75]
    """
    return jax.nn.soft_sign(as_floating(x))


def elu(x: ArrayLike, a: ArrayLike = 1.0) -> jax.Array:
    """f(x) = x where x >= 0, else a·(e^x - 1).

    Args:
      x: floating array of any shape.
      a: factor below 0; a scalar.

    Returns:
      The shape and dtype of x. The slope at 0 is 1.

    Example:
      >>> print(jbnn.activations.elu(jnp.array([-100.0, 2.0]), a=3.0))
      [-3.  2.]
    """
    x = as_floating(x)
    below = jnp.where(x >= 0, jnp.zeros_like(x), x)  # the other branch must not overflow, or its gradient is NaN
    return jnp.where(x >= 0, x, jnp.asarray(a, x.dtype) * jnp.expm1(below))


def prelu(x: ArrayLike, a: ArrayLike) -> jax.Array:
    """f(x) = x where x >= 0, else a·x with a slope for each output channel.

    Args:
      x: floating array (…, O).
      a: slopes below 0, (O,).

    Returns:
      The shape and dtype of x. The slope at 0 is 1.

    Raises:
      ValueError: `a` has another shape.

    Example:
      >>> print(jbnn.activations.prelu(jnp.array([-2.0, -2.0]), jnp.array([0.5, 0.0])))
      [-1. -0.]
    """
    x = as_floating(x)
    a = jnp.asarray(a, x.dtype)
    if x.ndim == 0 or a.shape != x.shape[-1:]:
        raise ValueError(f"`a` must have one slope for each channel, shape {x.shape[-1:]}, but has shape {a.shape}")
    return jnp.where(x >= 0, x, jax.lax.broadcast_in_dim(a, x.shape, (x.ndim - 1,)) * x)


def relun(x: ArrayLike, a: ArrayLike, b: ArrayLike = 6.0) -> jax.Array:
    """f(x) = min(x where x >= 0 else a·x, b).

    MPS documents a = 1 as the default, under which negative values pass unchanged, so `a` must be said here: ReLU6
    is `a=0.0`.

    Args:
      x: floating array of any shape.
      a: slope below 0; a scalar.
      b: the ceiling; a scalar.

    Returns:
      The shape and dtype of x. The slope from the ceiling on is 0; Apple's page prints b.

    Example:
      >>> print(jbnn.activations.relun(jnp.array([-1.0, 3.0, 8.0]), a=0.0))
      [0. 3. 6.]
    """
    y = relu(x, a)
    ceiling = jnp.broadcast_to(jnp.asarray(b, y.dtype), y.shape)
    return jnp.where(y >= ceiling, ceiling, y)


def power(x: ArrayLike, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> jax.Array:
    """f(x) = (a·x + b)^c.

    Args:
      x: floating array of any shape.
      a: slope; a scalar.
      b: offset; a scalar.
      c: exponent; a scalar.

    Returns:
      The shape and dtype of x; NaN where the base is negative and c is not an integer.

    Example:
      >>> print(jbnn.activations.power(jnp.array([1.0, 2.0]), 2.0, 1.0, 2.0))
      [ 9. 25.]
    """
    y = linear(x, a, b)
    return jnp.power(y, jnp.asarray(c, y.dtype))


def exponential(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 0.0, c: float = -1.0) -> jax.Array:
    """f(x) = c^(a·x + b), or e^(a·x + b) where c is -1.

    Args:
      x: floating array of any shape.
      a: slope of the exponent; a scalar.
      b: offset of the exponent; a scalar.
      c: the base, a positive number, or -1 for e.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: c is neither positive nor -1.

    Example:
      >>> print(jbnn.activations.exponential(jnp.array([0.0, 3.0]), c=2.0))
      [1. 8.]
    """
    _check_base(c)
    y = linear(x, a, b)
    return jnp.exp(y) if c == -1 else jnp.power(jnp.asarray(c, y.dtype), y)


def logarithm(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 0.0, c: float = -1.0) -> jax.Array:
    """f(x) = log_c(a·x + b), or the natural logarithm where c is -1.

    Args:
      x: floating array of any shape.
      a: slope of the argument; a scalar.
      b: offset of the argument; a scalar.
      c: the base, a positive number, or -1 for e.

    Returns:
      The shape and dtype of x; NaN where the argument is negative.

    Raises:
      ValueError: c is neither positive nor -1.

    Example:
      >>> print(jbnn.activations.logarithm(jnp.array([1.0, 8.0]), c=2.0))
      [0. 3.]
    """
    _check_base(c)
    y = linear(x, a, b)
    return jnp.log(y) if c == -1 else jnp.log(y) / jnp.log(jnp.asarray(c, y.dtype))


def gelu(x: ArrayLike) -> jax.Array:
    """f(x) = ½·x·(1 + erf(x / √2)), the exact form.

    Args:
      x: floating array of any shape.

    Returns:
      The shape and dtype of x. The gradient is that of the formula; Apple's page lacks a ½ in its second term.

    Example:
      >>> print(jbnn.activations.gelu(jnp.array([0.0, 100.0])))
      [  0. 100.]
    """
    return jax.nn.gelu(as_floating(x), approximate=False)


def _check_base(c: float) -> None:
    if not (c > 0 or c == -1):
        raise ValueError(f"`c` must be a positive base, or -1 for e, but was {c!r}")
