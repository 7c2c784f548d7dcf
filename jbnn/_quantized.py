"""A caller's quantizer, checked and called: its values as the numbers that bits stand for."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jbnn import quantizers
from jbnn._arguments import array_in_shape
from jbnn._kernels.case import BITS, Reading
from jbnn._marks import mark_of

Quantizer = Callable[[jax.Array], jax.Array]

_STEP = quantizers.ste_heaviside.__name__
# The quantizers to other values than ±1, by the name with which they mark these, and what an error says of them.
_WAY_OUT = {
    "dorefa": "it has more than one bit, or values in [0, 1]",
    "ste_tern": "it has three values",
    "magnitude_aware_sign": "use `ste_sign` and `scale=jax.lax.stop_gradient(jbnn.alpha(w))`",
    _STEP: 'its values are 0 and 1, which are for mode="and"',
}
# The quantizers to ±1. Any other function is traced, in search of a mark.
_TO_SIGNS = (quantizers.ste_sign, quantizers.approx_sign, quantizers.swish_sign, quantizers.identity)
_OTHERS = {getattr(quantizers, name): name for name in _WAY_OUT}


def check_quantizer(name: str, quantizer: Quantizer, reading: Reading | None) -> None:
    """A function; and if it is a known one, to values that can be read so. None reads none."""
    function = _function(quantizer)
    if not callable(function):
        raise TypeError(f"`{name}` must be a function to ±1, but was {quantizer!r}")
    if reading is not None:
        _check_values(name, _known(function), reading)


def quantized(name: str, x: jax.Array, quantizer: Quantizer, reading: Reading) -> jax.Array:
    """The numbers that bits stand for, of x: those of a quantizer to ±1, or of a step to {0, 1}.

    A known quantizer inside a function of the caller's is found as well, before anything is computed.
    """
    function = _function(quantizer)
    values = _known(function)
    if values is None and not any(function is known for known in _TO_SIGNS):
        values = mark_of(quantizer, x)
        _check_values(name, values, reading)
    q = array_in_shape(name, quantizer, x).astype(x.dtype)
    return q if reading != BITS or values == _STEP else _from_signs(q)


@jax.jit
def _from_signs(q: jax.Array) -> jax.Array:
    """±1 as 1 and 0."""
    return (q + 1) / 2


def is_known(quantizer: Quantizer) -> bool:
    """Whether it is one of `jbnn.quantizers`, with options that are not traced."""
    options: list[Any] = []
    while isinstance(quantizer, functools.partial):
        options += [quantizer.args, quantizer.keywords]
        quantizer = quantizer.func
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(options))
    return not traced and (_known(quantizer) is not None or any(quantizer is known for known in _TO_SIGNS))


def _check_values(name: str, values: str | None, reading: Reading) -> None:
    if values is not None and not (values == _STEP and reading == BITS):
        raise ValueError(f"`{name}` must return ±1, but its values are those of `{values}`: {_WAY_OUT[values]}")


def _known(function: Quantizer) -> str | None:
    """Which of the known quantizers it is. A callable need not have a hash."""
    return next((name for known, name in _OTHERS.items() if function is known), None)


def _function(quantizer: Quantizer) -> Quantizer:
    """What a `functools.partial` calls in the end."""
    while isinstance(quantizer, functools.partial):
        quantizer = quantizer.func
    return quantizer
