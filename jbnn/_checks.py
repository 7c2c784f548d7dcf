"""The checks that several operators share. Each names the argument, what it must be and what it was."""

import numbers

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from jbnn._geometry import Geometry


def check_ranks(x: jax.Array, w: jax.Array) -> None:
    """A convolution has one to three spatial axes, and a kernel for each."""
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"`x` must have shape (N, *S, C) with one to three spatial axes, but has shape {x.shape}")
    if w.ndim != x.ndim:
        raise ValueError(f"`w` must have {x.ndim} axes, as `x` has, but has shape {w.shape}")


def check_dense_ranks(x: jax.Array, w: jax.Array) -> None:
    """A dense layer has rows of channels and a matrix."""
    if x.ndim < 1:
        raise ValueError(f"`x` must have shape (…, C), but has shape {x.shape}")
    if w.ndim != 2:
        raise ValueError(f"`w` must have 2 axes, but has shape {w.shape}")


def check_kernel_words(w: jax.Array, geometry: Geometry) -> None:
    """A packed kernel has the words of one group's channels."""
    if w.shape[-2] != geometry.words:
        raise ValueError(
            f"`w` must have {geometry.words} words for C / groups = {geometry.channels_per_group} input channels, "
            f"but has shape {w.shape}"
        )


def check_pad_value(mode: str, pad_value: float) -> None:
    """A tap outside the image reads what bits can stand for, or under xnor nothing; of real values, any."""
    if isinstance(pad_value, jax.Array) or not isinstance(pad_value, numbers.Real):
        raise TypeError(f"`pad_value` must be a Python number, but was {pad_value!r}")
    allowed = {"xnor": (0, 1, -1), "and": (0, 1)}.get(mode, (pad_value,))
    if pad_value not in allowed:
        raise ValueError(f'`pad_value` must be one of {allowed} with mode="{mode}", but was {pad_value!r}')


def per_channel(name: str, value: ArrayLike, size: int, letter: str, dtype: DTypeLike) -> jax.Array:
    """A real scalar, or one number for each channel."""
    value = jnp.asarray(value)
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(f"`{name}` must be real, but has dtype {value.dtype}")
    if value.shape not in ((), (size,)):
        raise ValueError(
            f"`{name}` must be a scalar or have shape ({letter},) = ({size},), but has shape {value.shape}"
        )
    return value.astype(dtype)


def of_float(name: str, value: jax.Array, otherwise: str = "") -> jax.Array:
    """A floating array of a dtype that the operators take."""
    if value.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64):
        raise TypeError(
            f"`{name}` must have dtype float32, bfloat16, float16 or float64{otherwise}, but has dtype {value.dtype}"
        )
    return value
