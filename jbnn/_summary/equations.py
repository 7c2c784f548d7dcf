"""One equation of a jaxpr: the layers that it computes, or the jaxpr that it runs."""

import dataclasses
import math
from typing import Any, NamedTuple

from jbnn._geometry import Geometry
from jbnn._scopes import Origin, origin_of
from jbnn._summary.jaxprs import bits, called, live, operands_of_results, used_inside
from jbnn._summary.table import Layer


class Result(NamedTuple):
    """One result of an equation: the layer that computes it, if one does, and by their places the operands it needs."""

    layer: Layer | None
    data: tuple[int, ...]
    others: tuple[int, ...] = ()


def results_of(eqn: Any, used: list[bool]) -> list[Result] | None:
    """The results of an equation that is a layer, or several; else None. What is not `used` is not computed either."""
    others = tuple(range(1, len(eqn.invars)))
    match eqn.primitive.name, eqn.params.get("name"):
        case "jbnn_correlate", _:
            return [Result(_correlation(eqn), (0,), others)]
        case "conv_general_dilated", _:
            return [Result(_lax_conv(eqn), (0,), others)]
        case "dot_general", _:
            return [Result(_matrix_product(eqn), (0,), others)]
        case _, "jbnn_float_conv" if (origin := origin_of(eqn)) is not None:
            operands = operands_of_results(eqn.params["jaxpr"])
            return [_float_conv(eqn, i, of, origin, used[i]) for i, of in enumerate(operands)]
    return None


def _correlation(eqn: Any) -> Layer:
    """A correlation with words. After `vmap` it is one of all networks, whose output channels stand side by side."""
    case, x, dtype = eqn.params["case"], eqn.invars[0].aval, str(eqn.outvars[0].aval.dtype)
    geometry, networks = case.geometry, 1
    if (origin := origin_of(eqn)) is not None:
        networks, geometry, dtype = geometry.features // origin.geometry.features, origin.geometry, origin.dtype
    layer = _layer(geometry, x.shape[0], networks, "bit" if case.counts else str(case.left), dtype)
    return dataclasses.replace(layer, activation_bits=bits(x))


def _float_conv(eqn: Any, index: int, operands: tuple[int, ...], origin: Origin, used: bool) -> Result:
    """A result of `float_conv`, or of what `grad` and `vmap` make of it.

    u is bilinear in x and w, so u, the gradient in x and the gradient in w take the same number of products. Which of
    the three a result is, its shape tells, to which `vmap` may have added axes. What is made of a single operand is
    none of them, but kept for one, as a cast of w may be.
    """
    if not used or len(operands) < 2:
        return Result(None, operands)
    n, g, _ = origin
    x, w, u = (n, *g.image, g.channels), (*g.window, g.channels_per_group, g.features), (n, *g.output, g.features)
    given, out = [atom.aval for atom in eqn.invars], eqn.outvars[index].aval
    forward = _within(x, given[0].shape) and _within(w, given[1].shape)
    kind = next((shape for shape in ((u,) if forward else (x, w, u)) if _within(shape, out.shape)), None)
    if kind is None:
        return Result(None, operands)
    times = out.size // max(math.prod(kind), 1)
    if forward:
        networks = given[1].size // max(math.prod(w), 1)
        layer = _layer(g, n * times // networks, networks, str(given[0].dtype), str(out.dtype))
        if len(operands) == len(given) == 4:
            # In forward mode x, w and their tangents come in, and the tangent of u is two products.
            layer = dataclasses.replace(layer, float_macs=2 * layer.float_macs)
        return Result(dataclasses.replace(layer, activation_bits=bits(given[0])), operands[:1], operands[1:])
    du = given[-1]
    data, others = operands, operands[:0]
    if kind == w:
        layer = dataclasses.replace(_layer(g, n, times, str(du.dtype), str(out.dtype)), output_shape=w)
    else:
        layer = _layer(g, n * times, 1, str(du.dtype), str(out.dtype))
        layer = dataclasses.replace(layer, input_shape=layer.output_shape, output_shape=layer.input_shape)
        data, others = operands[-1:], operands[:-1]
    size = math.prod(layer.input_shape) * du.dtype.itemsize
    return Result(dataclasses.replace(layer, activation_bits=8 * size), data, others)


def _layer(g: Geometry, images: int, networks: int, input_dtype: str, output_dtype: str) -> Layer:
    """A layer of that geometry, in `networks` of a `vmap`; its activation bits are still to be told."""
    pixels = g.image if any(d > 1 for d in g.lhs_dilation) else g.output
    macs = networks * images * math.prod(pixels) * g.terms * g.features
    binary = input_dtype == "bit"
    return Layer(
        kind=("binary " if binary else "") + ("conv" if g.rank else "dense"),
        window=g.window,
        strides=g.strides,
        groups=g.groups,
        input_shape=(images, *g.image, g.channels),
        input_dtype=input_dtype,
        output_shape=(images, *g.output, g.features),
        output_dtype="bit" if output_dtype == "uint32" else output_dtype,
        times=networks,
        binary_macs=macs if binary else 0,
        float_macs=0 if binary else macs,
        parameters=0,
        parameter_bits=0,
        activation_bits=0,
    )


def _lax_conv(eqn: Any) -> Layer:
    """A float convolution, whatever the layout of its operands, as if channels were last."""
    (x, w), out, params = (atom.aval for atom in eqn.invars[:2]), eqn.outvars[0].aval, eqn.params
    numbers = params["dimension_numbers"]

    def channels_last(shape: tuple[int, ...], spec: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, *spatial = spec
        return tuple(shape[axis] for axis in (batch, *spatial, channels))

    features, *window = (w.shape[axis] for axis in numbers.rhs_spec if axis != numbers.rhs_spec[1])
    inputs = channels_last(x.shape, numbers.lhs_spec)
    outputs = channels_last(out.shape, numbers.out_spec)
    pairs = 1  # of a pixel and a tap that meet, along all axes
    for n, k, m, dilation in zip(inputs[1:-1], window, outputs[1:-1], params["lhs_dilation"], strict=True):
        # With zeros between them, each of n pixels meets every tap once, and every output once at most. In a kernel's
        # gradient the outputs are fewer.
        pairs *= m * k if dilation == 1 else n * min(k, m)
    return Layer(
        kind="conv",
        window=tuple(window),
        strides=tuple(params["window_strides"]),
        groups=params["feature_group_count"],
        input_shape=inputs,
        input_dtype=str(x.dtype),
        output_shape=outputs,
        output_dtype=str(out.dtype),
        times=1,
        binary_macs=0,
        float_macs=outputs[0] * pairs * w.shape[numbers.rhs_spec[1]] * features,
        parameters=0,
        parameter_bits=0,
        activation_bits=bits(x),
    )


def _matrix_product(eqn: Any) -> Layer:
    x, out = eqn.invars[0].aval, eqn.outvars[0].aval
    (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
    return Layer(
        kind="dense",
        window=(),
        strides=(),
        groups=math.prod(x.shape[axis] for axis in batched),
        input_shape=x.shape,
        input_dtype=str(x.dtype),
        output_shape=out.shape,
        output_dtype=str(out.dtype),
        times=1,
        binary_macs=0,
        float_macs=math.prod(out.shape) * math.prod(x.shape[axis] for axis in contracted),
        parameters=0,
        parameter_bits=0,
        activation_bits=bits(x),
    )


def inner_of(eqn: Any) -> tuple[Any, list[int], int | None] | None:
    """The jaxpr that an equation runs, which of its operands are that one's arguments, and how often it runs."""
    every = list(range(len(eqn.invars)))
    name, params = eqn.primitive.name, eqn.params
    if name == "while":
        return params["body_jaxpr"], every[params["cond_nconsts"] :], None
    if name == "cond":
        return max(params["branches"], key=_macs), every[1:], 1
    jaxpr = called(eqn)
    return None if jaxpr is None else (jaxpr, every, params["length"] if name == "scan" else 1)


def _macs(jaxpr: Any, used: list[bool] | None = None) -> int:
    total = 0
    for eqn, of_eqn in live(jaxpr, used):
        if (results := results_of(eqn, of_eqn)) is not None:
            total += sum(layer.binary_macs + layer.float_macs for layer, *_ in results if layer is not None)
        elif (inner := inner_of(eqn)) is not None:
            body, _, turns = inner
            total += _macs(body, used_inside(of_eqn, turns)) * (1 if turns is None else turns)
    return total


def _within(shape: tuple[int, ...], longer: tuple[int, ...]) -> bool:
    """Whether these sizes stand among those others, in their order."""
    rest = iter(longer)
    return all(size in rest for size in shape)
