"""One sample call, and arrays for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

RNG = np.random.default_rng(0)


class Call(NamedTuple):
    """A function of arrays, or of trees of them, with its arguments."""

    id: str  # begins with the public name, up to ":"
    function: Callable
    args: tuple[Any, ...]
    wrt: tuple[int, ...] = ()  # the arguments that it is differentiated in
    exact: bool = False  # whether its floats are the same on every device, as integers always are

    @property
    def name(self) -> str:
        """The public name, as a user writes it after `jbnn.`."""
        return self.id.partition(":")[0]


def floats(*shape: int, dtype: DTypeLike = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(jnp.dtype(dtype))


def positive(*shape: int) -> np.ndarray:
    return abs(floats(*shape)) + np.float32(0.125)


def words(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2**32, shape, np.uint32)


def integers(*shape: int, dtype: DTypeLike = "int32") -> np.ndarray:
    return RNG.integers(0, 100, shape).astype(dtype)


def bools(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2, shape).astype(bool)


def corners(dtype: DTypeLike) -> np.ndarray:
    """Numbers whose sign is a decision: zeros, NaN, infinities and subnormals among ordinary ones."""
    tiny = float(jnp.finfo(dtype).tiny) / 4
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, tiny, -tiny]
    return np.concatenate([np.array(special * 3, jnp.dtype(dtype)), floats(45, dtype=dtype)]).reshape(2, 33)
