"""The numbers of quantizers and activations, each of which may be traced: a temperature, an annealed threshold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jbnn._arguments import as_real


def number(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    """A real scalar in the dtype of `like`."""
    array = _real(name, value, like)
    if array.ndim:
        raise ValueError(f"`{name}` must be a scalar, but has shape {array.shape}")
    return array


def numbers(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    """A real scalar, or an array, that broadcasts to the shape of `like`, in its dtype."""
    array = _real(name, value, like)
    if array.ndim > like.ndim or any(
        n not in (1, m) for n, m in zip(array.shape[::-1], like.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"`{name}` must be a scalar or broadcast to the shape of `x`, {like.shape}, but has shape {array.shape}"
        )
    return array.reshape((1,) * (like.ndim - array.ndim) + array.shape) if array.ndim else array


def known(value: Any) -> np.ndarray | None:
    """The value of a number, None if it is traced."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array):
        # Asked of the array and not computed from it: inside `jit` even a comparison of known arrays is traced.
        return jax.device_get(value) if value.is_fully_addressable else None
    return np.asarray(value)


def _real(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            with np.errstate(over="ignore"):
                rounded = np.float64(value).astype(like.dtype)
        except OverflowError:
            raise TypeError(f"`{name}` must be a number that a float can hold, but was {value!r}") from None
        with jax.transfer_guard_host_to_device("allow"):  # "disallow" forbids what is sent unasked
            return jnp.asarray(rounded)
    return as_real(name, value, like.dtype)
