"""What every gradient function takes and gives: a cotangent, the parts that are asked for, and a `ConvGradient`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jbnn._arguments import at_least_float32, check_groups
from jbnn._jax_versions import register_for_export
from jbnn._shapes import Operand, per_axis

Wrt = Literal["input", "kernel", "bias"]
EVERYTHING: tuple[Wrt, ...] = ("input", "kernel", "bias")


class ConvGradient(NamedTuple):
    """The gradient of a layer: each part an array, or None where it was not asked for.

    Args:
      input: the gradient in x, in its shape.
      kernel: the gradient in w, in its shape.
      bias: the gradient in the bias, (O,).
    """

    input: jax.Array | None
    kernel: jax.Array | None
    bias: jax.Array | None


register_for_export(ConvGradient)


def bias_gradient(g: jax.Array) -> jax.Array:
    """The sum over all but the last axis, added up in the dtype in which the bias was added."""
    wide = at_least_float32(g.dtype)
    return jnp.sum(g.astype(wide), axis=range(g.ndim - 1)).astype(g.dtype)


def parts_of(wrt: Wrt | Sequence[Wrt]) -> frozenset[Wrt]:
    """The parts that are asked for, by name."""
    parts = (wrt,) if isinstance(wrt, str) or not np.iterable(wrt) else tuple(wrt)
    if not parts or not all(part in EVERYTHING for part in parts):
        raise ValueError(f'`wrt` must be one or more of "input", "kernel", "bias", but was {wrt!r}')
    return frozenset(parts)


def smallest_operands(g: jax.Array, groups: int, preferred_element_type: Any) -> tuple[Operand, Operand]:
    """One pixel and one tap with the outputs of g: where operands are not needed, the options are checked on these."""
    check_groups("feature_group_count", groups, g.shape[-1])
    ones, dtype = (1,) * (g.ndim - 2), dtype_of_operands(g, preferred_element_type)
    image = jax.ShapeDtypeStruct((1, *ones, groups), dtype)
    return image, jax.ShapeDtypeStruct((*ones, 1, g.shape[-1]), dtype)


def dtype_of_operands(g: jax.Array, preferred_element_type: Any) -> Any:
    """A dtype that operands may have whose result is to have that of g."""
    known = preferred_element_type is not None and jnp.issubdtype(preferred_element_type, jnp.floating)
    return jnp.dtype(preferred_element_type) if known else g.dtype


def check_sizes(rank: int, **sizes: Any) -> None:
    """Sizes that are not needed, which must be sizes all the same."""
    for name, value in sizes.items():
        if value is not None:
            per_axis(name, value, rank, least=0)


def check_cotangent(g: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """The gradient in a result has its shape and dtype."""
    if g.shape != shape:
        raise ValueError(f"`g` must have shape {shape}, as the layer's result, but has shape {g.shape}")
    if g.dtype != dtype:
        raise TypeError(f"`g` must have dtype {dtype}, as the layer's result, but has dtype {g.dtype}")


def refuse_output_size(output_size: Any) -> None:
    """Only a transposed layer has several sizes to choose from."""
    if output_size is not None:
        raise ValueError(f"`output_size` must be None unless `transposed` is True, but was {output_size}")
