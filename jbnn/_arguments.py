"""What a caller gives, as what the code below works with.

Every refusal names the argument, what it must be and what it was. Dtypes are judged as they were given: without x64,
`jnp.asarray` would first make words of 64 bits words of 32, and -1e-60 a zero, whose sign is +1.
"""

import numbers
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.typing import ArrayLike, DTypeLike

FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64)


def as_index(name: str, value: Any) -> int:
    """An integer of any kind as Python's."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, but was {value!r}") from None


def check_groups(name: str, groups: int, channels: int) -> None:
    """Groups share the channels evenly."""
    if groups < 1 or channels % groups:
        raise ValueError(f"`{name}` must be positive and divide the {channels} channels, but was {groups}")


def as_array(name: str, value: ArrayLike, accepted: Callable[[np.dtype], bool], must: str) -> jax.Array:
    """An array whose dtype, as it was given, is `accepted`; the error says that it `must` be so.

    A dtype that JAX would narrow is refused too. Python's numbers, and lists of them, have none: they become JAX's.
    """
    given = _given(name, value)
    if not accepted(given.dtype):
        raise TypeError(f"`{name}` must {must}, but has dtype {given.dtype}")
    if dtypes.canonicalize_dtype(given.dtype) != given.dtype:
        raise TypeError(
            f"`{name}` must {must}, but has dtype {given.dtype}, which JAX narrows: cast it, or enable `jax_enable_x64`"
        )
    return jnp.asarray(given)


def _given(name: str, value: Any) -> jax.Array | np.ndarray:
    """The array that was given, in the dtype in which it was given."""
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):
        return value.__jax_array__()
    if isinstance(value, np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if not array.dtype.isnative:
            raise TypeError(f"`{name}` must have this machine's byte order, but has dtype {array.dtype.str!r}")
        return array
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"`{name}` must be an array of numbers that JAX can hold, but was {value!r}") from None


def as_float(name: str, value: ArrayLike, otherwise: str = "", *others: DTypeLike) -> jax.Array:
    """A floating array of a dtype that the operators take, or of one of the `others`, which the error calls so."""
    accepted = [jnp.dtype(dtype) for dtype in (*FLOATS, *others)]
    must = f"have dtype float32, bfloat16, float16 or float64{otherwise}"
    return as_array(name, value, lambda dtype: dtype in accepted, must)


def as_image(value: ArrayLike, *, pixels: bool) -> jax.Array:
    """`x` in a dtype that the operators take; where it is not quantized, 8-bit pixels too."""
    if pixels:
        return as_float("x", value, ", uint8 or int8", jnp.uint8, jnp.int8)
    return as_float("x", value)


def as_words(name: str, value: ArrayLike) -> jax.Array:
    """Words of 32 bits."""
    return as_array(name, value, lambda dtype: dtype == jnp.uint32, "hold words of dtype uint32")


def as_kernel(value: ArrayLike) -> jax.Array:
    """`w` as a latent kernel or words."""
    return as_float("w", value, " or, packed, uint32", jnp.uint32)


def as_real(name: str, value: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """Real numbers of any kind in the floating `dtype`, rounded once: wide integers do not wrap on the way."""
    if type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise TypeError(f"`{name}` must be a number that a float can hold, but was {value!r}") from None
    given = _given(name, value)
    if not (jnp.issubdtype(given.dtype, jnp.floating) or jnp.issubdtype(given.dtype, jnp.integer)):
        raise TypeError(f"`{name}` must be real, but has dtype {given.dtype}")
    if isinstance(given, jax.Array):
        return given.astype(dtype)
    with np.errstate(over="ignore"):
        return jnp.asarray(given.astype(dtype))


def per_channel(name: str, value: ArrayLike, size: int, letter: str, dtype: DTypeLike) -> jax.Array:
    """A real scalar, or one number for each channel."""
    array = as_real(name, value, dtype)
    if array.shape not in ((), (size,)):
        raise ValueError(
            f"`{name}` must be a scalar or have shape ({letter},) = ({size},), but has shape {array.shape}"
        )
    return array


def real_scalar(name: str, value: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """One real number, which may be traced."""
    array = as_real(name, value, dtype)
    if array.ndim:
        raise ValueError(f"`{name}` must be a scalar, but has shape {array.shape}")
    return array


def check_number(name: str, value: Any) -> None:
    """A number that is known while tracing."""
    if isinstance(value, jax.Array) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a Python number, but was {value!r}")


def check_flag(name: str, value: Any) -> None:
    """A truth value that is known while tracing."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, but was {value!r}")


def check_activation(activation: Any) -> None:
    """A function of the result, or none."""
    if not (activation is None or callable(activation)):
        raise TypeError(f"`activation` must be a function or None, but was {activation!r}")


def array_from(name: str, result: Any) -> jax.Array:
    """What a function that the caller gave has returned."""
    if not isinstance(result, jax.Array | np.ndarray | np.generic | int | float):
        raise TypeError(f"`{name}` must return an array, but returned {result!r}")
    return jnp.asarray(result)


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    """What affines, beta and activations of an array of `dtype` are evaluated in."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def last_axis(value: jax.Array, like: jax.Array) -> jax.Array:
    """A scalar or (C,) as an array that multiplies (…, C)."""
    return value.reshape((1,) * (like.ndim - value.ndim) + value.shape)
