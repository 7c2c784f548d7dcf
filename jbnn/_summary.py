"""What a network consists of, read off its jaxpr: layers, multiply-accumulates, bits of parameters and activations."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jbnn._bits import words_per_group


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution or matrix product. Counts are of all its `times` together."""

    kind: str  # "binary conv", "binary dense", "conv" or "dense"
    window: tuple[int, ...]
    strides: tuple[int, ...]
    groups: int
    input_shape: tuple[int, ...]  # with channels, not words, last
    input_dtype: str  # "bit" for words
    output_shape: tuple[int, ...]
    output_dtype: str
    times: int | None  # turns of the loops around it; None if one of them is a while loop, whose turns are unknown
    binary_macs: int
    float_macs: int
    parameters: int
    parameter_bits: int
    activation_bits: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The layers of a network in the order in which they run; `str` is a table, and the totals are properties."""

    layers: tuple[Layer, ...]

    @property
    def binary_macs(self) -> int:
        return sum(layer.binary_macs for layer in self.layers)

    @property
    def float_macs(self) -> int:
        return sum(layer.float_macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def parameter_bits(self) -> int:
        return sum(layer.parameter_bits for layer in self.layers)

    @property
    def activation_bits(self) -> int:
        return sum(layer.activation_bits for layer in self.layers)

    def __str__(self) -> str:
        counts = ("binary_macs", "float_macs", "parameters", "parameter_bits", "activation_bits")
        head = ["layer", "window", "input", "output", "binary MACs", "float MACs", "params", "param bits", "act. bits"]
        rows = [
            [_kind(layer), _window(layer), _shape(layer.input_shape, layer.input_dtype)]
            + [_shape(layer.output_shape, layer.output_dtype)]
            + [_short(getattr(layer, count)) for count in counts]
            for layer in self.layers
        ]
        total = ["total", "", "", "", *(_short(getattr(self, count)) for count in counts)]
        widths = [max(map(len, column)) for column in zip(head, *rows, total, strict=True)]
        rule = ["-" * width for width in widths]

        def line(cells: list[str]) -> str:
            pairs = zip(cells, widths, strict=True)
            return "  ".join(c.rjust(w) if i > 3 else c.ljust(w) for i, (c, w) in enumerate(pairs)).rstrip()

        macs = self.binary_macs + self.float_macs
        share = f"{self.binary_macs / macs:.1%} of the MACs are binary; " if macs else ""
        size = f"parameters take {self.parameter_bits // 8:,} bytes"
        if 0 < self.parameter_bits < 32 * self.parameters:
            size += f", {32 * self.parameters / self.parameter_bits:.1f} times less than in float32"
        return "\n".join([*map(line, [head, rule, *rows, rule, total]), share + size])


def summary(fn: Callable[..., Any], *args: Any) -> Summary:
    """A table of the layers that a function of arrays consists of, read off its jaxpr; nothing is computed.

    A layer is a binary or float convolution or matrix product, wherever it stands: under `jit`, `vmap`, `scan`,
    `jax.checkpoint`, in custom derivatives. Under `cond` the branch with the most work counts, under `shard_map` the
    work of one device. Elementwise work, pooling and the like are no layers and count for nothing; nor do depthwise
    convolutions where they are written as elementwise products, as in `jbnn.convolution`, nor calls of exported
    programs. A grouped float convolution may appear as a matrix product for each tap.

    A multiply-accumulate (MAC) is binary where both factors are bits. All taps count, those outside the image too; the
    zeros that a transposed convolution puts between pixels do not.

    Parameters are the arrays of `args`, and each `jax.Array` that `fn` closes over (NumPy's are constants), as they are
    given: a latent float kernel has 32 bits a weight, words have one, and unused bits besides. Each belongs to the
    first layer whose kernel, scale or bias it becomes, or, if it meets the data after a layer, as a batch norm does, to
    the layer before. What flows into the first layers as their input is no parameter; where several arrays do, the
    largest is the input.

    Args:
      fn: a function of arrays.
      args: its arguments: pytrees of arrays, or of `jax.ShapeDtypeStruct`.

    Returns:
      A frozen dataclass. `layers` is a tuple of rows, also frozen dataclasses: `kind`, `window`, `strides`, `groups`,
      `input_shape`, `input_dtype`, `output_shape`, `output_dtype`, `times` and the counts `binary_macs`, `float_macs`,
      `parameters`, `parameter_bits`, `activation_bits` (of the input as the layer reads it), whose totals the summary
      has under the same names. `str` makes a table of it.

    Raises:
      TypeError: `fn` is not callable.

    Example:
      >>> x, w = jnp.ones((1, 8, 8, 64)), jnp.ones((3, 3, 64, 128))
      >>> print(jbnn.summary(jbnn.binary_conv, x, jbnn.pack(w, axis=-2)))
      layer        window  input         output             binary MACs  float MACs  params  param bits  act. bits
      -----------  ------  ------------  -----------------  -----------  ----------  ------  ----------  ---------
      binary conv  3x3     1x8x8x64 bit  1x8x8x128 float32       4.72 M           0  73.7 k      73.7 k     4.10 k
      -----------  ------  ------------  -----------------  -----------  ----------  ------  ----------  ---------
      total                                                      4.72 M           0  73.7 k      73.7 k     4.10 k
      100.0% of the MACs are binary; parameters take 9,216 bytes, 32.0 times less than in float32
    """
    if not callable(fn):
        raise TypeError(f"`fn` must be a function, but was {fn!r}")
    closed = jax.make_jaxpr(fn)(*args)
    walk = _Walk()
    leaves = [walk.leaf(var.aval) for var in closed.jaxpr.invars]
    walk.jaxpr(closed, [_Flow(frozenset([leaf])) for leaf in leaves], times=1)
    return Summary(tuple(walk.rows))


@dataclasses.dataclass(frozen=True)
class _Flow:
    """Where a value comes from: the arrays that reach it without passing a layer, or else the last layer it passed."""

    leaves: frozenset[int] = frozenset()
    layer: int | None = None


class _Walk:
    """One pass over a jaxpr, which meets each layer once, and assigns each leaf when it meets data or a kernel."""

    def __init__(self) -> None:
        self.rows: list[Layer] = []
        self.avals: list[Any] = []  # of the leaves
        self.consts: dict[int, int] = {}  # a constant's id to its leaf
        self.taken: set[int] = set()  # leaves that are inputs, or parameters of a layer

    def leaf(self, aval: Any) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def const(self, value: Any) -> _Flow:
        """A closed-over array is a parameter; NumPy's are the tables and masks of functions, and are not."""
        if not isinstance(value, jax.Array):
            return _Flow()
        if id(value) not in self.consts:
            self.consts[id(value)] = self.leaf(value)
        return _Flow(frozenset([self.consts[id(value)]]))

    def jaxpr(self, jaxpr: Any, inputs: list[_Flow], times: int | None) -> list[_Flow]:
        """The flows of the results, from those of the arguments."""
        consts = jaxpr.consts if isinstance(jaxpr, ClosedJaxpr) else []
        jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= dict(zip(jaxpr.constvars, map(self.const, consts), strict=False))

        def read(atom: Any) -> _Flow:
            return _Flow() if isinstance(atom, Literal) else known.get(atom, _Flow())

        for eqn in _live(jaxpr):
            flows = [read(atom) for atom in eqn.invars]
            known |= dict(zip(eqn.outvars, self.equation(eqn, flows, times), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, flows: list[_Flow], times: int | None) -> list[_Flow]:
        if (layer := _layer(eqn)) is not None:
            data, kernel, *rest = flows
            if data.layer is None and kernel.layer is not None:  # a matrix product may have its data on the right
                data, kernel, x = kernel, data, eqn.invars[1].aval
                layer = dataclasses.replace(
                    layer, input_shape=x.shape, input_dtype=str(x.dtype), activation_bits=_bits(x)
                )
            return [self.layer(layer, data, kernel, rest, times)]
        if (inner := _inner(eqn)) is not None:
            jaxpr, arguments, turns = inner
            times = None if times is None or turns is None else times * turns
            return self.jaxpr(jaxpr, [flows[i] for i in arguments], times)
        return [self.mix(flows)] * len(eqn.outvars)

    def mix(self, flows: list[_Flow]) -> _Flow:
        """What meets data after a layer belongs to that layer."""
        leaves = frozenset().union(*(flow.leaves for flow in flows))
        layers = [flow.layer for flow in flows if flow.layer is not None]
        if not layers:
            return _Flow(leaves)
        self.assign(leaves, max(layers))
        return _Flow(layer=max(layers))

    def layer(self, layer: Layer, data: _Flow, kernel: _Flow, rest: list[_Flow], times: int | None) -> _Flow:
        turns = 1 if times is None else times
        here = len(self.rows)
        row = dataclasses.replace(
            layer,
            times=times,
            binary_macs=turns * layer.binary_macs,
            float_macs=turns * layer.float_macs,
            activation_bits=turns * layer.activation_bits,
        )
        self.rows.append(row)
        if data.layer is None and data.leaves - self.taken:
            self.taken.add(max(sorted(data.leaves - self.taken), key=lambda leaf: math.prod(self.avals[leaf].shape)))
        words = {leaf for leaf in kernel.leaves if self.avals[leaf].dtype == np.uint32}
        channels = math.prod(layer.input_shape[-1:]) // (1 if layer.kind == "dense" else layer.groups)
        self.assign(words, here, channels / max(words_per_group(channels), 1))
        self.assign(frozenset().union(data.leaves, kernel.leaves, *(flow.leaves for flow in rest)), here)
        return _Flow(layer=here)

    def assign(self, leaves: Any, index: int, each: float = 1) -> None:
        """Leaves that belong to nobody yet become parameters of a layer, `each` for each of their numbers."""
        for leaf in leaves - self.taken:
            self.taken.add(leaf)
            row, aval = self.rows[index], self.avals[leaf]
            self.rows[index] = dataclasses.replace(
                row,
                parameters=row.parameters + round(math.prod(aval.shape) * each),
                parameter_bits=row.parameter_bits + _bits(aval),
            )


def _layer(eqn: Any) -> Layer | None:
    """The equation as a row without parameters, if it is a layer."""
    counts = {"times": 1, "parameters": 0, "parameter_bits": 0}
    out = eqn.outvars[0].aval
    name = eqn.primitive.name
    if name == "jbnn_correlate":
        g = eqn.params["correlation"].geometry
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
            activation_bits=_bits(x),
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
            activation_bits=_bits(x),
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
        activation_bits=_bits(x),
        **counts,
    )


def _inner(eqn: Any) -> tuple[Any, list[int], int | None] | None:
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


def _live(jaxpr: Any) -> list[Any]:
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
    for eqn in _live(jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr):
        if (layer := _layer(eqn)) is not None:
            total += layer.binary_macs + layer.float_macs
        elif (inner := _inner(eqn)) is not None:
            body, _, turns = inner
            total += _macs(body) * (1 if turns is None else turns)
    return total


def _bits(aval: Any) -> int:
    return 8 * math.prod(aval.shape) * aval.dtype.itemsize


def _kind(layer: Layer) -> str:
    groups = f", {layer.groups} groups" if layer.groups > 1 else ""
    times = {1: "", None: "? x "}.get(layer.times, f"{layer.times} x ")
    return times + layer.kind + groups


def _window(layer: Layer) -> str:
    window, strides = ("x".join(map(str, sizes)) for sizes in (layer.window, layer.strides))
    if any(s > 1 for s in layer.strides):
        return f"{window} by {layer.strides[0] if len(set(layer.strides)) == 1 else strides}"
    return window


def _shape(shape: tuple[int, ...], dtype: str) -> str:
    return f"{'x'.join(map(str, shape))} {dtype}"


def _short(count: int) -> str:
    """Three digits, and k, M or G."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            scaled = count / 10**power
            return f"{scaled:.{2 - min(int(math.log10(scaled)), 2)}f} {unit}"
    return str(count)
