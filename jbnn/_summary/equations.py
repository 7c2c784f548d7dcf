"""One equation of a jaxpr: the layer that it is, or the jaxpr that it runs."""

import math
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jbnn._summary.table import Layer


def layer_of(eqn: Any) -> Layer | None:
    """The equation as a row without parameters, if it is a layer."""
    counts = {"times": 1, "parameters": 0, "parameter_bits": 0}
    out = eqn.outvars[0].aval
    name = eqn.primitive.name
    if name == "jbnn_correlate":
        g = eqn.params["case"].geometry
        x = eqn.invars[0].aval
        pixels = g.image if any(d > 1 for d in g.lhs_dilation) else g.output
        return Layer(
            kind="binary conv" if g.rank else "binary dense",
            window=g.window,
            strides=g.strides,
            groups=g.groups,
            input_shape=(x.shape[0], *g.image, g.channels),
            input_dtype="bit",
            output_shape=(x.shape[0], *g.output, g.features),
            output_dtype="bit" if out.dtype == np.uint32 else str(out.dtype),
            binary_macs=x.shape[0] * math.prod(pixels) * g.taps * g.channels_per_group * g.features,
            float_macs=0,
            activation_bits=bits(x),
            **counts,
        )
    if name == "conv_general_dilated":
        return _conv(eqn, counts)
    if name == "dot_general":
        x = eqn.invars[0].aval
        (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
        terms = math.prod(x.shape[axis] for axis in contracted)
        return Layer(
            kind="dense",
            window=(),
            strides=(),
            groups=math.prod(x.shape[axis] for axis in batched),
            input_shape=x.shape,
            input_dtype=str(x.dtype),
            output_shape=out.shape,
            output_dtype=str(out.dtype),
            binary_macs=0,
            float_macs=math.prod(out.shape) * terms,
            activation_bits=bits(x),
            **counts,
        )
    return None


def _conv(eqn: Any, counts: dict[str, int]) -> Layer:
    """A float convolution, whatever the layout of its operands, as if channels were last."""
    (x, w), out, params = (atom.aval for atom in eqn.invars[:2]), eqn.outvars[0].aval, eqn.params
    numbers = params["dimension_numbers"]

    def channels_last(shape: tuple[int, ...], spec: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, *spatial = spec
        return tuple(shape[axis] for axis in (batch, *spatial, channels))

    features, *window = (w.shape[axis] for axis in numbers.rhs_spec if axis != numbers.rhs_spec[1])
    inputs = channels_last(x.shape, numbers.lhs_spec)
    outputs = channels_last(out.shape, numbers.out_spec)
    dilated = any(d > 1 for d in params["lhs_dilation"])
    pixels = math.prod(inputs[1:-1] if dilated else outputs[1:-1])
    return Layer(
        kind="conv",
        window=tuple(window),
        strides=tuple(params["window_strides"]),
        groups=params["feature_group_count"],
        input_shape=inputs,
        input_dtype=str(x.dtype),
        output_shape=outputs,
        output_dtype=str(out.dtype),
        binary_macs=0,
        float_macs=outputs[0] * pixels * math.prod(window) * w.shape[numbers.rhs_spec[1]] * features,
        activation_bits=bits(x),
        **counts,
    )


def inner_of(eqn: Any) -> tuple[Any, list[int], int | None] | None:
    """The jaxpr that an equation runs, which of its operands are that one's arguments, and how often it runs."""
    every = list(range(len(eqn.invars)))
    name, params = eqn.primitive.name, eqn.params
    if name == "while":
        return params["body_jaxpr"], every[params["cond_nconsts"] :], None
    if name == "cond":
        return max(params["branches"], key=_macs), every[1:], 1
    for value in params.values():  # "jaxpr", "call_jaxpr" or "fun_jaxpr", by primitive and version of JAX
        if isinstance(value, (ClosedJaxpr, Jaxpr)):
            jaxpr = value.jaxpr if isinstance(value, ClosedJaxpr) else value
            if (len(jaxpr.invars), len(jaxpr.outvars)) == (len(eqn.invars), len(eqn.outvars)):
                return value, every, params["length"] if name == "scan" else 1
    return None


def live(jaxpr: Any) -> list[Any]:
    """The equations whose results are used: a gradient's jaxpr may hold a forward pass of which only shapes are."""
    used = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    live = []
    for eqn in reversed(jaxpr.eqns):
        if used.intersection(eqn.outvars):
            used |= {atom for atom in eqn.invars if not isinstance(atom, Literal)}
            live.append(eqn)
    return live[::-1]


def _macs(jaxpr: Any) -> int:
    total = 0
    for eqn in live(jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr):
        if (layer := layer_of(eqn)) is not None:
            total += layer.binary_macs + layer.float_macs
        elif (inner := inner_of(eqn)) is not None:
            body, _, turns = inner
            total += _macs(body) * (1 if turns is None else turns)
    return total


def bits(aval: Any) -> int:
    return 8 * math.prod(aval.shape) * aval.dtype.itemsize
