"""The fields of a descriptor: canonical Python numbers, which compare and hash, and arrays of them for the layers."""

import functools
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jbnn._arguments import as_index


def set_field(frozen: object, name: str, value: object) -> None:
    """Makes a field of a frozen dataclass canonical, which is allowed while it is made."""
    object.__setattr__(frozen, name, value)


def as_count(least: int, name: str, value: int) -> int:
    """An integer that is not too small."""
    value = as_index(name, value)
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, but was {value}")
    return value


def python_float(name: str, value: object) -> float:
    """A number as Python's; every NaN as one object, which Python's tuples then hold to be equal to itself."""
    if not isinstance(value, numbers.Real):
        value = _known(name, value, 0, "a number")[()]
    try:
        number = float(value)
    except OverflowError:
        raise TypeError(f"`{name}` must be a number that a float can hold, but was {value!r}") from None
    return math.nan if math.isnan(number) else number


def python_floats(name: str, values: object) -> tuple[float, ...]:
    """A row of numbers as a tuple of Python's."""
    return tuple(python_float(name, float(value)) for value in _known(name, values, 1, "one row of numbers"))


def _known(name: str, value: object, ndim: int, what: str) -> np.ndarray:
    """An array of numbers, of so many axes, that is not traced."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"`{name}` must be known while tracing, but was {value!r}")
    array = np.asarray(value)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if array.ndim != ndim or not real:
        was = f"has shape {array.shape} and dtype {array.dtype}" if array.ndim else f"was {value!r}"
        raise TypeError(f"`{name}` must be {what}, but {was}")
    return array


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def constants(values: float | tuple[float, ...], dtype: DTypeLike) -> jax.Array:
    """Numbers of a descriptor as an array: constants of a program, so that nothing has to be moved to the device."""
    return jnp.asarray(values, dtype)
