"""The real numbers beside an array, each of which may be traced: scales, biases, statistics, a temperature."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import given_array, last_axis, leaves_of


def as_real(name: str, value: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """Real numbers of any kind in the floating `dtype`, rounded once: wide integers do not wrap on the way."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with jax.transfer_guard_host_to_device("allow"):  # "disallow" forbids what is sent unasked
            return _rounded(name, value, dtype)
    given = [given_array(name, leaf) for leaf in leaves_of(value) if type(leaf) not in (int, float)]
    for each in given:
        if not (jnp.issubdtype(each.dtype, jnp.floating) or jnp.issubdtype(each.dtype, jnp.integer)):
            raise TypeError(f"`{name}` must be real, but has dtype {each.dtype}")
    if isinstance(value, list | tuple):
        return _rounded(name, value, dtype)
    return given[0].astype(dtype) if isinstance(given[0], jax.Array) else _rounded(name, given[0], dtype)


def real_scalar(name: str, value: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """One real number, which may be traced."""
    array = as_real(name, value, dtype)
    if array.ndim:
        raise ValueError(f"`{name}` must be a scalar, but has shape {array.shape}")
    return array


def per_channel(name: str, value: ArrayLike, size: int, letter: str, dtype: DTypeLike) -> jax.Array:
    """A real scalar, or one number for each channel."""
    array = as_real(name, value, dtype)
    if array.shape not in ((), (size,)):
        raise ValueError(
            f"`{name}` must be a scalar or have shape ({letter},) = ({size},), but has shape {array.shape}"
        )
    return array


def real_like(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    """A real scalar, or an array, that broadcasts to the shape of `like`, in its dtype."""
    array = as_real(name, value, like.dtype)
    if array.ndim > like.ndim or any(
        n not in (1, m) for n, m in zip(array.shape[::-1], like.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"`{name}` must be a scalar or broadcast to the shape of `x`, {like.shape}, but has shape {array.shape}"
        )
    return last_axis(array, like) if array.ndim else array


def common_shape(shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of terms that are each scalars, (O,), or (…, O) with axes in front that stack layers."""
    size = next((shape[-1:] for shape in shapes.values() if shape), ())
    longest = max((shape for shape in shapes.values() if shape[-1:] in ((), size)), key=len, default=())
    for name, shape in shapes.items():
        if shape != longest[len(longest) - len(shape) :]:
            stacked = f", or (…, O) = {longest}" if len(longest) > 1 else ""
            raise ValueError(f"`{name}` must be a scalar or have shape (O,) = {size}{stacked}, but has shape {shape}")
    return longest


def known(value: Any) -> np.ndarray | None:
    """The value of a number, None if it is traced."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array):
        # Asked of the array and not computed from it: inside `jit` even a comparison of known arrays is traced.
        return jax.device_get(value) if value.is_fully_addressable else None
    return np.asarray(value)


def _rounded(name: str, value: Any, dtype: DTypeLike) -> jax.Array:
    """Of one of Python's numbers, a list, or an array of NumPy."""
    with np.errstate(over="ignore"):
        try:
            if isinstance(value, list | tuple):
                return jnp.asarray(value, dtype)
            wide = np.float64(value) if isinstance(value, int | float) else value
            return jnp.asarray(wide.astype(dtype))
        except (ValueError, OverflowError):
            raise TypeError(f"`{name}` must be numbers that a float can hold, but was {value!r}") from None
