"""The neurons of Metal Performance Shaders as differentiable functions, with MPS's parameters.

Each takes an array and returns one of the same shape and dtype, and each is an `activation=` for `jbnn.binary_conv`;
one with parameters goes in as `functools.partial(jbnn.activations.relun, a=0.0)`. Formulas are those of
`MPSCNNNeuronType` [1]; where Apple's page contradicts itself, the docstring says what holds here.

[1] https://developer.apple.com/documentation/metalperformanceshaders/mpscnnneurontype
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jbnn._arguments import as_float
from jbnn._numbers import as_real, known, real_like

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


# Each neuron is one program, so that its constants are the program's, and not sent to the device at every call. Its
# parameters are arrays in the dtype of x: none widens the result, and all may be traced.


def _is_plain_zero(a: ArrayLike) -> bool:
    """Whether 0·x is to be 0 for infinite x too."""
    return isinstance(a, int | float) and a == 0


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
    return as_float("x", x)


def relu(x: ArrayLike, a: ArrayLike = 0.0) -> jax.Array:
    """f(x) = x where x >= 0, else a·x.

    Args:
      x: floating array of any shape.
      a: slope below 0; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x. The slope at 0 is 1, as in MPS; `jax.nn.relu` has 0 there.

    Example:
      >>> print(jbnn.activations.relu(jnp.array([-2.0, 3.0]), a=0.5))
      [-1.  3.]
    """
    x = as_float("x", x)
    slope = real_like("a", a, x)
    return _rectified(x) if _is_plain_zero(a) else _bent(x, slope)


@jax.jit
def _rectified(x: jax.Array) -> jax.Array:
    return jnp.where(x < 0, jnp.zeros_like(x), x)


@jax.jit
def _bent(x: jax.Array, a: jax.Array) -> jax.Array:
    return jnp.where(x < 0, a * x, x)


def linear(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> jax.Array:
    """f(x) = a·x + b.

    Args:
      x: floating array of any shape.
      a: slope; a scalar, or what broadcasts to the shape of x.
      b: offset; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x.

    Example:
      >>> print(jbnn.activations.linear(jnp.array([1.0, 2.0]), 3.0, 1.0))
      [4. 7.]
    """
    x = as_float("x", x)
    return _line(x, real_like("a", a, x), real_like("b", b, x))


@jax.jit
def _line(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return a * x + b


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
    return jax.nn.sigmoid(as_float("x", x))


def hard_sigmoid(x: ArrayLike, a: ArrayLike = 0.2, b: ArrayLike = 0.5) -> jax.Array:
    """f(x) = a·x + b, clamped to [0, 1].

    Args:
      x: floating array of any shape.
      a: slope; a scalar, or what broadcasts to the shape of x.
      b: offset; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x. The slope is a at both ends of the ramp too, as in MPS.

    Example:
      >>> print(jbnn.activations.hard_sigmoid(jnp.array([-5.0, 0.0, 1.0])))
      [0.  0.5 0.7]
    """
    x = as_float("x", x)
    return _ramp(x, real_like("a", a, x), real_like("b", b, x))


@jax.jit
def _ramp(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    y = a * x + b
    zero, one = jnp.zeros_like(y), jnp.ones_like(y)
    return jnp.where(y < 0, zero, jnp.where(y > 1, one, y))


def tanh(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 1.0) -> jax.Array:
    """f(x) = a·tanh(b·x).

    Args:
      x: floating array of any shape.
      a: outer factor; a scalar, or what broadcasts to the shape of x.
      b: inner factor; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x.

    Example:
      >>> print(jbnn.activations.tanh(jnp.array([0.0, 100.0]), a=2.0))
      [0. 2.]
    """
    x = as_float("x", x)
    return _scaled_tanh(x, real_like("a", a, x), real_like("b", b, x))


@jax.jit
def _scaled_tanh(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return a * jnp.tanh(b * x)


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
    return _absolute(as_float("x", x))


@jax.jit
def _absolute(x: jax.Array) -> jax.Array:
    return jnp.where(x == 0, jnp.zeros_like(x), jnp.abs(x))


def soft_plus(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 1.0) -> jax.Array:
    """f(x) = a·log(1 + e^(b·x)).

    Args:
      x: floating array of any shape.
      a: outer factor; a scalar, or what broadcasts to the shape of x.
      b: inner factor; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x, without overflow for large b·x.

    Example:
      >>> print(jbnn.activations.soft_plus(jnp.array([-200.0, 200.0])))
      [  0. 200.]
    """
    x = as_float("x", x)
    return _soft_plus(x, real_like("a", a, x), real_like("b", b, x))


@jax.jit
def _soft_plus(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    y = b * x
    return a * jnp.logaddexp(y, jnp.zeros_like(y))


def soft_sign(x: ArrayLike) -> jax.Array:
    """f(x) = x / (1 + |x|).

    Args:
      x: floating array of any shape.

    Returns:
      The shape and dtype of x; ±1, the limits, for infinite x.

    Example:
      >>> print(jbnn.activations.soft_sign(jnp.array([-1.0, 3.0])))
      [-0.5   0.75]
    """
    return _soft_sign(as_float("x", x))


@jax.jit
def _soft_sign(x: jax.Array) -> jax.Array:
    infinite = jnp.isinf(x)
    finite = jnp.where(infinite, jnp.zeros_like(x), x)  # or the gradient would be NaN
    return jnp.where(infinite, jnp.sign(x), jax.nn.soft_sign(finite))


def elu(x: ArrayLike, a: ArrayLike = 1.0) -> jax.Array:
    """f(x) = x where x >= 0, else a·(e^x - 1).

    Args:
      x: floating array of any shape.
      a: factor below 0; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x. The slope at 0 is 1.

    Example:
      >>> print(jbnn.activations.elu(jnp.array([-100.0, 2.0]), a=3.0))
      [-3.  2.]
    """
    x = as_float("x", x)
    return _elu(x, real_like("a", a, x))


@jax.jit
def _elu(x: jax.Array, a: jax.Array) -> jax.Array:
    below = jnp.where(x >= 0, jnp.zeros_like(x), x)  # the other branch must not overflow, or its gradient is NaN
    return jnp.where(x >= 0, x, a * jnp.expm1(below))


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
    x = as_float("x", x)
    a = as_real("a", a, x.dtype)
    if x.ndim == 0 or a.shape != x.shape[-1:]:
        raise ValueError(f"`a` must have one slope for each channel, shape {x.shape[-1:]}, but has shape {a.shape}")
    return _bent_channels(x, a)


@jax.jit
def _bent_channels(x: jax.Array, a: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, x, jax.lax.broadcast_in_dim(a, x.shape, (x.ndim - 1,)) * x)


def relun(x: ArrayLike, a: ArrayLike, b: ArrayLike = 6.0) -> jax.Array:
    """f(x) = min(x where x >= 0 else a·x, b).

    MPS documents a = 1 as the default, under which negative values pass unchanged, so `a` must be said here: ReLU6
    is `a=0.0`.

    Args:
      x: floating array of any shape.
      a: slope below 0; a scalar, or what broadcasts to the shape of x.
      b: the ceiling; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x. The slope from the ceiling on is 0; Apple's page prints b.

    Example:
      >>> print(jbnn.activations.relun(jnp.array([-1.0, 3.0, 8.0]), a=0.0))
      [0. 3. 6.]
    """
    y = relu(x, a)
    return _capped(y, real_like("b", b, y))


@jax.jit
def _capped(x: jax.Array, b: jax.Array) -> jax.Array:
    ceiling = jnp.broadcast_to(b, x.shape)
    return jnp.where(x >= ceiling, ceiling, x)


def power(x: ArrayLike, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> jax.Array:
    """f(x) = (a·x + b)^c.

    Args:
      x: floating array of any shape.
      a: slope; a scalar, or what broadcasts to the shape of x.
      b: offset; a scalar, or what broadcasts to the shape of x.
      c: exponent; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x; NaN where the base is negative and c is not an integer.

    Example:
      >>> print(jbnn.activations.power(jnp.array([1.0, 2.0]), 2.0, 1.0, 2.0))
      [ 9. 25.]
    """
    x = as_float("x", x)
    return _power(x, real_like("a", a, x), real_like("b", b, x), real_like("c", c, x))


@jax.jit
def _power(x: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    return jnp.power(_line(x, a, b), c)


def exponential(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 0.0, c: ArrayLike = -1.0) -> jax.Array:
    """f(x) = c^(a·x + b), or e^(a·x + b) where c is -1.

    Args:
      x: floating array of any shape.
      a: slope of the exponent; a scalar, or what broadcasts to the shape of x.
      b: offset of the exponent; a scalar, or what broadcasts to the shape of x.
      c: the base, a positive number, or -1 for e; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: c is neither positive nor -1, where its value is known while tracing.

    Example:
      >>> print(jbnn.activations.exponential(jnp.array([0.0, 3.0]), c=2.0))
      [1. 8.]
    """
    x = as_float("x", x)
    natural, c = _base(c, x)
    return _exponential(x, real_like("a", a, x), real_like("b", b, x), c, natural)


@functools.partial(jax.jit, static_argnums=4)
def _exponential(x: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array, natural: bool | None) -> jax.Array:
    y = _line(x, a, b)
    if natural is not None:
        return jnp.exp(y) if natural else jnp.power(c, y)
    is_natural = c == -1
    base = jnp.where(is_natural, jnp.ones_like(c), c)  # the power of a negative base is NaN, in the gradient too
    return jnp.where(is_natural, jnp.exp(y), jnp.power(base, y))


def logarithm(x: ArrayLike, a: ArrayLike = 1.0, b: ArrayLike = 0.0, c: ArrayLike = -1.0) -> jax.Array:
    """f(x) = log_c(a·x + b), or the natural logarithm where c is -1.

    Args:
      x: floating array of any shape.
      a: slope of the argument; a scalar, or what broadcasts to the shape of x.
      b: offset of the argument; a scalar, or what broadcasts to the shape of x.
      c: the base, a positive number, or -1 for e; a scalar, or what broadcasts to the shape of x.

    Returns:
      The shape and dtype of x; NaN where the argument is negative.

    Raises:
      ValueError: c is neither positive nor -1, where its value is known while tracing.

    Example:
      >>> print(jbnn.activations.logarithm(jnp.array([1.0, 8.0]), c=2.0))
      [0. 3.]
    """
    x = as_float("x", x)
    natural, c = _base(c, x)
    return _logarithm(x, real_like("a", a, x), real_like("b", b, x), c, natural)


@functools.partial(jax.jit, static_argnums=4)
def _logarithm(x: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array, natural: bool | None) -> jax.Array:
    y = jnp.log(_line(x, a, b))
    if natural is not None:
        return y if natural else y / jnp.log(c)
    is_natural = c == -1
    base = jnp.where(is_natural, jnp.full_like(c, 2), c)  # the logarithm of a negative base is NaN, in the gradient too
    return jnp.where(is_natural, y, y / jnp.log(base))


def gelu(x: ArrayLike) -> jax.Array:
    """f(x) = ½·x·(1 + erf(x / √2)), the exact form.

    Args:
      x: floating array of any shape.

    Returns:
      The shape and dtype of x; 0, the limit, at -∞. The gradient is that of the formula; Apple's page lacks a ½ in its
      second term.

    Example:
      >>> print(jbnn.activations.gelu(jnp.array([0.0, 100.0])))
      [  0. 100.]
    """
    return _gelu(as_float("x", x))


@jax.jit
def _gelu(x: jax.Array) -> jax.Array:
    finite = jnp.where(jnp.isinf(x), jnp.zeros_like(x), x)  # or the gradient would be NaN
    return jnp.where(x == jnp.inf, x, jax.nn.gelu(finite, approximate=False))


def _base(c: ArrayLike, x: jax.Array) -> tuple[bool | None, jax.Array]:
    """Whether it is e, None if that is not known yet, and the base; checked where it is known."""
    value, base = known(c), real_like("c", c, x)
    if value is None:
        return None, base
    if not np.all((value > 0) | (value == -1)):
        raise ValueError(f"`c` must be a positive base, or -1 for e, but was {c!r}")
    natural = value == -1
    return (bool(natural.all()) if natural.all() or not natural.any() else None), base
