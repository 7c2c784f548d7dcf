"""The float convolution: what every binary one must equal, and what gradients and the ordinary family are made of."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from jbnn._geometry import Geometry, pad_image, see_through
from jbnn._jax_versions import conv_out_sharding, is_explicit
from jbnn._scopes import layer_scope
from jbnn._sharded_conv import exact_on_meshes

# From here on a loop over the outputs of one channel vectorises well.
_VECTOR = 8
# Beyond it, a product for each tap takes long to compile.
_UNROLLED_TAPS = 64


def float_conv(a: jax.Array, b: jax.Array, geometry: Geometry, *, outside: float = 0, **numerics: Any) -> jax.Array:
    """The correlation of real a (N, *S, C) with b (*K, C/G, O), in their dtype, differentiable by JAX.

    A tap outside the image reads `outside`. `numerics` are lax's `precision` and `preferred_element_type`.
    """
    numerics = {name: tuple(value) if isinstance(value, list) else value for name, value in numerics.items()}
    with layer_scope(a.shape[0], geometry, _result_type(a, numerics)):
        return _jitted(a, b, geometry, outside, **numerics)


def jbnn_float_conv(a: jax.Array, b: jax.Array, g: Geometry, outside: float, **numerics: Any) -> jax.Array:
    """The same as one equation, which `jbnn.summary` knows by this name."""
    shape = (a.shape[0], *g.output, g.features)
    if g.is_empty(a.shape[0]):
        return jnp.zeros(shape, _result_type(a, numerics))
    if g.groups > 1 and g.taps <= _UNROLLED_TAPS:
        return _float_conv_of_groups(a, b, g, outside, numerics)
    if g.rank == 0:
        return jnp.einsum("nc,co->no", a, b, **numerics)
    padding, lhs_dilation = g.padding, g.lhs_dilation
    image = a
    if outside != 0:  # lax pads with zeros only
        a = pad_image(a, outside, g)
        padding, lhs_dilation = ((0, 0),) * g.rank, (1,) * g.rank
    spatial = "DHW"[-g.rank :]

    out_sharding = conv_out_sharding(image, b, g.output)

    def conv(a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            a,
            b,
            g.strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=g.rhs_dilation,
            dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
            feature_group_count=g.groups,
            **numerics,
            **out_sharding,
        )

    return exact_on_meshes(conv, a, b)


_jitted = jax.jit(jbnn_float_conv, static_argnums=(2, 3), static_argnames=("precision", "preferred_element_type"))


def _result_type(a: jax.Array, numerics: dict[str, Any]) -> DTypeLike:
    wide = numerics.get("preferred_element_type")
    return a.dtype if wide is None else wide


def _float_conv_of_groups(
    a: jax.Array, b: jax.Array, g: Geometry, outside: float, numerics: dict[str, Any]
) -> jax.Array:
    """A product for each tap and group, of matrices or, with one channel a group, of elements.

    They are added up in float32 at least, as lax does within a convolution.

    XLA's gradient of `lax.conv_general_dilated` with groups is slow on a CPU: with it, that of 128 channels and a 3x3
    window takes 5 times as long in 2 groups, and 67 times in 32 (examples/benchmarks/groups.py). And on a mesh of
    several axes it is wrong: if images are sharded over one of them, the kernel's gradient is summed over the others.
    """
    dtype = _result_type(a, numerics)
    wide = dtype if jnp.finfo(dtype).bits > 32 else jnp.float32
    a, groups = pad_image(a, outside, g), g.groups
    if g.channels_per_group == 1 and 1 < g.features // groups < _VECTOR:  # each channel once for each of its outputs
        a, groups = jnp.repeat(a, g.features // groups, axis=-1), g.features
    a = a.reshape(*a.shape[:-1], groups, g.channels_per_group)
    b = b.reshape(*b.shape[:-1], groups, g.features // groups)

    def term(tap: tuple[int, ...]) -> jax.Array:
        seen = see_through(tap, a, g)
        if g.channels_per_group == 1:
            return seen.astype(wide) * lax.expand_dims(b[tap][0].astype(wide), range(seen.ndim - 2))
        if not is_explicit(a):  # jax-metal contracts one axis only, but explicit axes may not be merged
            seen = seen.reshape(-1, *seen.shape[-2:])
        return jnp.einsum("...gc,cgo->...go", seen, b[tap], **{**numerics, "preferred_element_type": wide})

    u = functools.reduce(jnp.add, map(term, np.ndindex(*g.window)))
    return u.reshape(a.shape[0], *g.output, g.features).astype(dtype)
