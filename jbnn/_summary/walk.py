"""The walk over a jaxpr that finds its layers, and the parameters of each."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jbnn._bits import words_per_group
from jbnn._summary.equations import bits, inner_of, layer_of, live
from jbnn._summary.table import Layer, Summary


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

        for eqn in live(jaxpr):
            flows = [read(atom) for atom in eqn.invars]
            known |= dict(zip(eqn.outvars, self.equation(eqn, flows, times), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, flows: list[_Flow], times: int | None) -> list[_Flow]:
        if (layer := layer_of(eqn)) is not None:
            data, kernel, *rest = flows
            if data.layer is None and kernel.layer is not None:  # a matrix product may have its data on the right
                data, kernel, x = kernel, data, eqn.invars[1].aval
                layer = dataclasses.replace(
                    layer, input_shape=x.shape, input_dtype=str(x.dtype), activation_bits=bits(x)
                )
            return [self.layer(layer, data, kernel, rest, times)]
        if (inner := inner_of(eqn)) is not None:
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
                parameter_bits=row.parameter_bits + bits(aval),
            )
