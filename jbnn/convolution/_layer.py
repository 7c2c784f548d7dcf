"""A real layer without its arrays: what the forward functions apply, and the gradient functions transpose."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import dtypes, lax
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import array_from, at_least_float32, check_activation, last_axis
from jbnn._float_conv import float_conv
from jbnn._geometry import Geometry
from jbnn._jax_versions import DIFFERENTIATES_WIDER_CONVOLUTIONS
from jbnn._numbers import per_channel
from jbnn._options import Activation, check_pad_value
from jbnn._shapes import Operand
from jbnn.convolution._edges import EdgeMode, check_edge_mode, continue_image, continues

Precision = lax.PrecisionLike


@dataclasses.dataclass(frozen=True)
class Layer:
    """u = correlation of x with w: its geometry, what lies outside the image, and lax's numerical options."""

    geometry: Geometry
    edge_mode: EdgeMode = "zero"
    pad_value: float = 0
    precision: Precision = None
    preferred_element_type: DTypeLike | None = None

    def __post_init__(self) -> None:
        check_pad_value(self.pad_value, "binary_weights")
        check_edge_mode(self.edge_mode, self.pad_value)
        wide = self.preferred_element_type
        if wide is not None and not jnp.issubdtype(wide, jnp.floating):
            raise TypeError(f"`preferred_element_type` must be floating, but was {jnp.dtype(wide)}")

    def result_type(self, x: Operand, w: Operand) -> DTypeLike:
        """The dtype of u, of operands of one dtype that is no wider."""
        if w.dtype != x.dtype:
            raise TypeError(f"`w` must have the dtype of `x`, {x.dtype}, but has dtype {w.dtype}")
        wide = self.preferred_element_type
        dtype = dtypes.canonicalize_dtype(x.dtype if wide is None else wide)
        if jnp.finfo(dtype).bits < jnp.finfo(x.dtype).bits:
            raise TypeError(f"`preferred_element_type` must be no narrower than `x`, {x.dtype}, but was {dtype}")
        return dtype

    def apply(self, x: jax.Array, w: jax.Array, bias: ArrayLike | None, activation: Activation) -> jax.Array:
        """activation(u + bias), in the dtype of u; the bias and the activation are evaluated in float32 at least."""
        dtype = self.result_type(x, w)
        wide = at_least_float32(dtype)
        if bias is not None:
            bias = per_channel("bias", bias, self.geometry.features, "O", wide)
        check_activation(activation)
        u = correlate(x, w, self)
        if bias is None and activation is None:
            return u
        v = u.astype(wide)
        if bias is not None:
            v = v + last_axis(bias, v)
        return (v if activation is None else array_from("activation", activation(v))).astype(dtype)


# A program of its own where the caller has none, so that its constants need no transfer; else a part of the caller's.
@functools.partial(jax.jit, static_argnums=2, inline=True)
def correlate(x: jax.Array, w: jax.Array, layer: Layer) -> jax.Array:
    """x (N, *S, C) and w (*K, C/G, O), of one dtype, to u (N, *S', O); without spatial axes a product."""
    g = layer.geometry
    if not DIFFERENTIATES_WIDER_CONVOLUTIONS:
        x, w = (operand.astype(layer.result_type(x, w)) for operand in (x, w))
    if continues(layer.edge_mode):
        x = continue_image(x, g.padding, layer.edge_mode)
        g = dataclasses.replace(g, image=x.shape[1:-1], padding=((0, 0),) * g.rank)
    return float_conv(
        x,
        w,
        g,
        outside=layer.pad_value,
        precision=layer.precision,
        preferred_element_type=layer.preferred_element_type,
    )
