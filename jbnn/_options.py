"""What a caller writes beside x, w and the geometry: checked here, all of it, and made one `Formula`."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jbnn._arguments import at_least_float32, check_activation, check_flag, check_number
from jbnn._geometry import Geometry
from jbnn._kernels.case import BITS, SIGNS, Case, Reading
from jbnn._kernels.choose import check_case
from jbnn._numbers import per_channel
from jbnn._quantized import Quantizer, check_quantizer

Mode = Literal["xnor", "and", "binary_weights"]
BitMode = Literal["xnor", "and"]
Activation = Callable[[jax.Array], jax.Array] | None

READINGS: dict[str, tuple[Reading | None, Reading]] = {
    "xnor": (SIGNS, SIGNS),
    "and": (BITS, BITS),
    "binary_weights": (None, SIGNS),
}
"""By mode, what the bits of a and of B stand for; None where a is real."""


class Formula(NamedTuple):
    """activation(u·scale·beta + bias), with u of a = quantized (x + input_bias)·input_scale and B = quantized w.

    The terms are arrays, in float32 at least, or None.
    """

    case: Case
    input_bias: jax.Array | None
    input_scale: jax.Array | None
    scale: jax.Array | None
    bias: jax.Array | None
    beta_scaling: bool
    activation: Activation
    input_quantizer: Quantizer
    kernel_quantizer: Quantizer
    implementation: str | None


def formula(
    x: jax.Array,
    geometry: Geometry,
    *,
    mode: Mode,
    pad_value: float,
    input_bias: ArrayLike | None,
    input_scale: ArrayLike | None,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    beta_scaling: bool,
    activation: Activation,
    input_quantizer: Quantizer,
    kernel_quantizer: Quantizer,
    implementation: str | None,
) -> Formula:
    """The formula of x and the options, once all of them are right."""
    left, right = readings(mode, tuple(READINGS))
    check_pad_value(pad_value, mode)
    check_quantizer("input_quantizer", input_quantizer, left)
    check_quantizer("kernel_quantizer", kernel_quantizer, right)
    check_flag("beta_scaling", beta_scaling)
    check_activation(activation)
    before = {"input_bias": input_bias, "input_scale": input_scale, "beta_scaling": beta_scaling or None}
    if jnp.issubdtype(x.dtype, jnp.integer):
        _check_pixels(x.dtype, pad_value, [name for name, value in before.items() if value is not None])
    dtype = at_least_float32(x.dtype)

    def term(name: str, value: ArrayLike | None, size: int, letter: str) -> jax.Array | None:
        return None if value is None else per_channel(name, value, size, letter, dtype)

    pad_value = math.nan if pad_value != pad_value else pad_value  # one NaN, equal to itself as this object
    real = np.dtype(x.dtype if input_bias is None and input_scale is None else dtype)
    case = Case(geometry, real if left is None else left, right, pad_value)
    check_case(implementation, case)
    return Formula(
        case,
        term("input_bias", input_bias, geometry.channels, "C"),
        term("input_scale", input_scale, geometry.channels, "C"),
        term("scale", scale, geometry.features, "O"),
        term("bias", bias, geometry.features, "O"),
        bool(beta_scaling),
        activation,
        input_quantizer,
        kernel_quantizer,
        implementation,
    )


def readings(mode: Any, allowed: tuple[str, ...]) -> tuple[Reading | None, Reading]:
    """What the bits of a, unless it is real, and of B stand for, in one of the allowed modes."""
    if not isinstance(mode, str) or mode not in allowed:
        names = ", ".join(f'"{name}"' for name in allowed)
        raise ValueError(f"`mode` must be one of {names}, but was {mode!r}")
    return READINGS[mode]


def check_pad_value(pad_value: float, mode: str) -> None:
    """A tap outside the image reads what a bit of a stands for, or 0, which adds nothing; of real a, any number."""
    check_number("pad_value", pad_value)
    left, _ = READINGS[mode]
    if left is None:
        try:
            float(pad_value)
        except OverflowError:
            raise ValueError(f"`pad_value` must be a number that a float can hold, but was {pad_value!r}") from None
        return
    allowed = tuple(dict.fromkeys((0, left.one, left.zero)))
    if pad_value not in allowed:
        raise ValueError(f'`pad_value` must be one of {allowed} with mode="{mode}", but was {pad_value!r}')


def _check_pixels(dtype: np.dtype, pad_value: float, given: list[str]) -> None:
    """Pixels of 8 bits are convolved as they are."""
    for name in given:
        raise TypeError(f"`x` must be floating where `{name}` is given, but has dtype {dtype}")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if not (low <= pad_value <= high and pad_value == int(pad_value)):
        raise ValueError(
            f"`pad_value` must be an integer in [{low}, {high}], as `x` of {dtype} holds, but was {pad_value!r}"
        )
