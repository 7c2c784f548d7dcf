"""A caller's quantizer, checked and called: its values as the numbers that bits stand for."""

import functools
from collections.abc import Callable

import jax

from jbnn import quantizers
from jbnn._arguments import array_from
from jbnn._kernels.case import BITS, Reading

Quantizer = Callable[[jax.Array], jax.Array]

_WAY_OUT = (
    (quantizers.dorefa, "it has more than one bit, or values in [0, 1]"),
    (quantizers.ste_tern, "it has three values"),
    (quantizers.magnitude_aware_sign, "use `ste_sign` and `scale=jax.lax.stop_gradient(jbnn.alpha(w))`"),
    (quantizers.ste_heaviside, 'its values are 0 and 1, which are for mode="and"'),
)


def check_quantizer(name: str, quantizer: Quantizer, reading: Reading | None) -> None:
    """A function, and if it is a known one, to ±1; None reads nothing of it."""
    function = _function(quantizer)
    if not callable(function):
        raise TypeError(f"`{name}` must be a function to ±1, but was {quantizer!r}")
    for refused, way_out in _WAY_OUT:
        steps = refused is quantizers.ste_heaviside and reading == BITS
        if reading is not None and function is refused and not steps:
            raise ValueError(f"`{name}` must return ±1, but was {refused.__name__}: {way_out}")


def quantized(name: str, x: jax.Array, quantizer: Quantizer, reading: Reading) -> jax.Array:
    """The numbers that bits stand for, of x: those of a quantizer to ±1, or of a step to {0, 1}."""
    q = array_from(name, quantizer(x))
    if q.shape != x.shape:
        raise ValueError(f"`{name}` must keep the shape of its argument, {x.shape}, but returned shape {q.shape}")
    q = q.astype(x.dtype)
    if reading != BITS or _function(quantizer) is quantizers.ste_heaviside:
        return q
    return (q + 1) / 2


def _function(quantizer: Quantizer) -> Quantizer:
    """What a `functools.partial` calls in the end."""
    while isinstance(quantizer, functools.partial):
        quantizer = quantizer.func
    return quantizer
