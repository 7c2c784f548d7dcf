"""±1 (or 0 and 1) as floats through JAX's own convolution: the float expression that everything else must equal.

Its sums of ±1 are integers, and float32 holds every integer up to 2^24.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from jbnn._bits import unpack_bits
from jbnn._geometry import Geometry, pad_image
from jbnn._kernels.correlation import Correlation, Epilogue

EXACT_TERMS = 2**24


def why_not_there(platforms: Sequence[str], exported: bool) -> str | None:
    """Runs everywhere."""
    return None


def why_not(correlation: Correlation) -> str | None:
    """Sums of bits must stay exact."""
    terms = correlation.geometry.taps * correlation.geometry.channels_per_group
    if correlation.mode != "binary_weights" and terms > EXACT_TERMS:
        return f"float32 sums of {terms} terms are not exact"
    return None


def conv(x: jax.Array, w: jax.Array, correlation: Correlation, epilogue: Epilogue | None) -> jax.Array:
    """Words x (N, *S, G·W) and w (*K, W, O) to int32 (N, *S', O), or to what the epilogue makes of it."""
    g = correlation.geometry
    a = values(x, g.channels, correlation, axis=-1, groups=g.groups)
    b = values(w, g.channels_per_group, correlation, axis=-2, groups=1)
    # Rounded, because a GPU may convolve through transforms, which leave errors far below one half.
    u = jnp.round(float_conv(a, b, correlation)).astype(jnp.int32)
    return u if epilogue is None else epilogue(u)


def values(
    words: jax.Array, size: int, correlation: Correlation, *, axis: int, groups: int, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """What bits stand for: ±1, or under `and` 0 and 1."""
    bits = unpack_bits(words, size, axis=axis % words.ndim, groups=groups)
    return jnp.where(bits, jnp.array(1, dtype), jnp.array(0 if correlation.mode == "and" else -1, dtype))


def float_conv(a: jax.Array, b: jax.Array, correlation: Correlation) -> jax.Array:
    """The correlation of real a (N, *S, C) with b (*K, C/G, O), in their dtype, differentiable by JAX."""
    g = correlation.geometry
    shape = (a.shape[0], *g.output, g.features)
    if 0 in shape:
        return jnp.zeros(shape, a.dtype)
    if g.rank == 0:
        return _float_dense(a, b, g)
    padding, lhs_dilation = g.padding, g.lhs_dilation
    if correlation.pad_value != 0:  # lax pads with zeros only
        a = pad_image(a, correlation.pad_value, g)
        padding, lhs_dilation = ((0, 0),) * g.rank, (1,) * g.rank
    spatial = "DHW"[-g.rank :]
    return lax.conv_general_dilated(
        a,
        b,
        g.strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=g.rhs_dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=g.groups,
        **_out_sharding(a, b),
    )


def _out_sharding(a: jax.Array, b: jax.Array) -> dict[str, Any]:
    """The result's sharding, on a mesh of explicit axes: JAX derives it only where the kernel is not sharded."""
    if not hasattr(jax, "set_mesh"):  # nor are there such meshes
        return {}
    types: list[Any] = [jax.typeof(array) for array in (a, b)]
    image, kernel = (type_.sharding for type_ in types)
    if jax.sharding.AxisType.Explicit not in image.mesh.axis_types:
        return {}
    return {"out_sharding": NamedSharding(image.mesh, PartitionSpec(*image.spec[:-1], kernel.spec[-1]))}


def _float_dense(a: jax.Array, b: jax.Array, g: Geometry) -> jax.Array:
    """(N, C) by (C/G, O): a matrix product for each group."""
    if g.groups == 1:
        return jnp.einsum("nc,co->no", a, b)
    a = a.reshape(-1, g.groups, g.channels_per_group)
    b = b.reshape(g.channels_per_group, g.groups, -1)
    return jnp.einsum("ngc,cgo->ngo", a, b).reshape(-1, g.features)
