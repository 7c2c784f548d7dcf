"""One layer, canonical: what the forward functions compute, and what their gradients are the transposes of."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import dtypes, lax
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import at_least_float32, check_activation, last_axis, per_channel
from jbnn._edges import EdgeMode, check_edge_mode, continue_image, continues
from jbnn._float_conv import float_conv
from jbnn._geometry import Geometry
from jbnn._jax_versions import DIFFERENTIATES_WIDER_CONVOLUTIONS
from jbnn._options import Activation, check_pad_value

Precision = lax.PrecisionLike
Operand = jax.Array | jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class Layer:
    """u = correlation of x with w, as its geometry, its edges and its arithmetic."""

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

    def result_type(self, dtype: DTypeLike) -> DTypeLike:
        """The dtype of u, of operands of `dtype`."""
        return dtypes.canonicalize_dtype(dtype if self.preferred_element_type is None else self.preferred_element_type)

    def correlate(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """x (N, *S, C) and w (*K, C/G, O), of one dtype, to u (N, *S', O); without spatial axes a product."""
        g = self.geometry
        if not DIFFERENTIATES_WIDER_CONVOLUTIONS:
            x, w = (operand.astype(self.result_type(operand.dtype)) for operand in (x, w))
        if continues(self.edge_mode):
            x = continue_image(x, g.padding, self.edge_mode)
            g = dataclasses.replace(g, image=x.shape[1:-1], padding=((0, 0),) * g.rank)
        return float_conv(
            x,
            w,
            g,
            outside=self.pad_value,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )

    def apply(self, x: jax.Array, w: jax.Array, bias: ArrayLike | None, activation: Activation) -> jax.Array:
        """activation(u + bias), in the dtype of u; the bias and the activation are evaluated in float32 at least."""
        self.check_operands(x, w)
        dtype = self.result_type(x.dtype)
        wide = at_least_float32(dtype)
        if bias is not None:
            bias = per_channel("bias", bias, self.geometry.features, "O", wide)
        check_activation(activation)
        u = self.correlate(x, w)
        if bias is None and activation is None:
            return u
        v = u.astype(wide)
        if bias is not None:
            v = v + last_axis(bias, v)
        return (v if activation is None else activation(v)).astype(dtype)

    def check_operands(self, x: Operand, w: Operand) -> None:
        if w.dtype != x.dtype:
            raise TypeError(f"`w` must have the dtype of `x`, {x.dtype}, but has dtype {w.dtype}")
        wide = self.result_type(x.dtype)
        if jnp.finfo(wide).bits < jnp.finfo(x.dtype).bits:
            raise TypeError(f"`preferred_element_type` must be no narrower than `x`, {x.dtype}, but was {wide}")
