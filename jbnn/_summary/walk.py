"""The walk over a jaxpr that finds its layers, and the parameters of each."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jbnn._bits import words_per_group
from jbnn._scopes import image_before_edges
from jbnn._summary.equations import inner_of, results_of
from jbnn._summary.jaxprs import bits, is_literal, live, opened, used_inside
from jbnn._summary.table import Layer, Summary


def summary(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Summary:
    """A table of the layers that a function of arrays consists of, read off its jaxpr; nothing is computed.

    A layer is a convolution or a matrix product, binary or float, wherever it stands: under `jit`, `vmap`, `scan`,
    `jax.checkpoint`, in custom derivatives. Of `cond` the branch with the most work is shown, of `shard_map` the work
    of one device. Exported programs are not looked into. All else, such as pooling and batch norms, is no layer.

    A multiply-accumulate (MAC) is binary where both factors are bits. A tap counts at every position of its window,
    outside the image too. The zeros that a transposed convolution puts between pixels do not count. Gradients of
    layers are layers too, with as many MACs.

    Each parameter is shown with one layer: the first whose kernel, scale or bias it becomes, or, if it meets the data
    after a layer, as that of a batch norm does, the layer before. Parameters are the arrays of `args` and `kwargs`,
    without the input, and each `jax.Array` that `fn` closes over; NumPy arrays that it closes over are constants. They
    count as they are given: a latent float32 kernel has 32 bits a weight; words have one, and unused bits besides.

    The input is what a first layer reads; if several arrays are mixed there, the largest. A first layer that is a
    matrix product may have it on either side. Then it is the array that another layer read as its input before; or the
    one that is neither closed over, nor a constant, nor a parameter of another layer; or the vector, where a matrix is
    multiplied with one. Between two matrices nothing in a jaxpr decides: the left one is then taken for the input, and
    of W @ x that is the kernel. Nor can it be seen that in X @ w a vector is the kernel.

    A `vmap` over kernels makes several networks. Those of jbnn's functions are shown as `times` one of them; those of
    other functions as what JAX makes of them: a convolution with more output channels or groups, or a matrix product in
    groups. Of edge modes the image is shown, not what it is continued to.

    Args:
      fn: a function of arrays; bind options that are no arrays with `functools.partial`.
      args: its arguments: pytrees of arrays, or of `jax.ShapeDtypeStruct`.
      kwargs: its arguments by name.

    Returns:
      A frozen dataclass. `layers` is a tuple of rows, also frozen dataclasses: `kind`, `window`, `strides`, `groups`,
      `input_shape`, `input_dtype`, `output_shape`, `output_dtype`, `times` and the counts `binary_macs`, `float_macs`,
      `parameters`, `parameter_bits`, `activation_bits` (of the input as the layer reads it), whose totals the summary
      has under the same names. Shapes are of one network in one turn, counts of all. `str` makes a table of it.

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
    closed = jax.make_jaxpr(fn)(*args, **kwargs)
    walk = _Walk()
    leaves = [walk.leaf(var.aval) for var in closed.jaxpr.invars]
    walk.jaxpr(closed, [_Flow(frozenset([leaf])) for leaf in leaves], times=1, used=None)
    return Summary(tuple(walk.rows))


@dataclasses.dataclass(frozen=True)
class _Flow:
    """Where a value comes from: before the first layer, of leaves; after one, of that layer and of no leaf.

    A leaf is an argument, or an array that is closed over. So of two operands of an equation, one with a layer and one
    with leaves, the first is data and the second are parameters.
    """

    leaves: frozenset[int] = frozenset()
    layer: int | None = None
    edges: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # image and shape, if the image was continued to that


class _Walk:
    """One pass over the equations in their order, with the flow of every value.

    A layer with a flow of leaves on both sides is a first one: one of its data's leaves is the input, the others, and
    all leaves of its kernel, scale and bias, are its parameters. Any other equation joins the flows of its operands;
    if one of them has passed a layer, leaves that it meets there are that layer's parameters. A leaf is given out once.
    """

    def __init__(self) -> None:
        self.rows: list[Layer] = []
        self.avals: list[Any] = []  # of the leaves
        self.consts: dict[int, int] = {}  # a constant's id to its leaf
        self.inputs: set[int] = set()
        self.parameters: set[int] = set()

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

    def jaxpr(self, jaxpr: Any, inputs: list[_Flow], times: int | None, used: list[bool] | None) -> list[_Flow]:
        """The flows of the results, from those of the arguments."""
        consts = jaxpr.consts if isinstance(jaxpr, ClosedJaxpr) else []
        jaxpr = opened(jaxpr)
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= dict(zip(jaxpr.constvars, map(self.const, consts), strict=False))

        def read(atom: Any) -> _Flow:
            return _Flow() if is_literal(atom) else known.get(atom, _Flow())

        for eqn, of_eqn in live(jaxpr, used):
            flows = self.equation(eqn, [read(atom) for atom in eqn.invars], times, of_eqn)
            if (image := image_before_edges(eqn)) is not None:
                shapes = [var.aval.shape for var in eqn.outvars]
                flows = [dataclasses.replace(flow, edges=(image, s)) for flow, s in zip(flows, shapes, strict=True)]
            known |= dict(zip(eqn.outvars, flows, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, flows: list[_Flow], times: int | None, used: list[bool]) -> list[_Flow]:
        if (results := results_of(eqn, used)) is not None:
            found = []
            for layer, places, other_places in results:
                data, others = [flows[i] for i in places], [flows[i] for i in other_places]
                if layer is None:
                    found.append(self.join(data))
                    continue
                if eqn.primitive.name == "dot_general" and self.data_is_right(eqn, *data, *others):
                    data, others, x = others, data, eqn.invars[1].aval
                    layer = dataclasses.replace(
                        layer, input_shape=x.shape, input_dtype=str(x.dtype), activation_bits=bits(x)
                    )
                found.append(self.layer(layer, data, others, times))
            return found
        if (inner := inner_of(eqn)) is not None:
            jaxpr, arguments, turns = inner
            times = None if times is None or turns is None else times * turns
            return self.jaxpr(jaxpr, [flows[i] for i in arguments], times, used_inside(used, turns))
        return [self.join(flows)] * len(eqn.outvars)

    def join(self, flows: list[_Flow]) -> _Flow:
        """The flow of what is made of several; what meets data after a layer belongs to that layer."""
        leaves = frozenset().union(*(flow.leaves for flow in flows))
        edges = next((flow.edges for flow in flows if flow.edges is not None), None)
        layers = [flow.layer for flow in flows if flow.layer is not None]
        if not layers:
            return _Flow(leaves, edges=edges)
        self.assign(leaves, max(layers))
        return _Flow(layer=max(layers), edges=edges)

    def data_is_right(self, eqn: Any, left: _Flow, right: _Flow) -> bool:
        """Which operand of a matrix product is the data, by the first of these rules that tells them apart."""
        _, (batched, _) = eqn.params["dimension_numbers"]
        sides = [(flow, atom.aval.ndim - len(batched)) for flow, atom in zip((left, right), eqn.invars, strict=True)]
        rules: tuple[Callable[[_Flow, int], bool], ...] = (
            lambda flow, rank: flow.layer is not None,
            lambda flow, rank: bool(flow.leaves & self.inputs),
            lambda flow, rank: not flow.leaves <= self.parameters | set(self.consts.values()),
            lambda flow, rank: rank == 1,
        )
        answers = ([rule(*side) for side in sides] for rule in rules)
        return next((right for left, right in answers if left != right), False)

    def layer(self, layer: Layer, data: list[_Flow], others: list[_Flow], times: int | None) -> _Flow:
        here, turns = len(self.rows), 1 if times is None else times
        layer = _before_edges(layer, data[0])
        row = dataclasses.replace(
            layer,
            times=None if times is None or layer.times is None else times * layer.times,
            binary_macs=turns * layer.binary_macs,
            float_macs=turns * layer.float_macs,
            activation_bits=turns * layer.activation_bits,
        )
        self.rows.append(row)
        in_data = frozenset().union(*(flow.leaves for flow in data))
        in_others = frozenset().union(*(flow.leaves for flow in others))
        free = in_data - self.inputs - self.parameters
        if free and all(flow.layer is None for flow in data):
            self.inputs.add(max(sorted(free), key=lambda leaf: math.prod(self.avals[leaf].shape)))
        words = {leaf for leaf in in_others if self.avals[leaf].dtype == np.uint32}
        channels = math.prod(layer.input_shape[-1:]) // (layer.groups if layer.window else 1)
        self.assign(words, here, channels / max(words_per_group(channels), 1))
        self.assign(in_data | in_others, here)
        return _Flow(layer=here)

    def assign(self, leaves: Iterable[int], index: int, each: float = 1) -> None:
        """Leaves that belong to nobody yet become parameters of a layer, `each` for each of their numbers."""
        for leaf in set(leaves) - self.inputs - self.parameters:
            self.parameters.add(leaf)
            row, aval = self.rows[index], self.avals[leaf]
            self.rows[index] = dataclasses.replace(
                row,
                parameters=row.parameters + round(math.prod(aval.shape) * each),
                parameter_bits=row.parameter_bits + bits(aval),
            )


def _before_edges(layer: Layer, data: _Flow) -> Layer:
    """The layer as one of the image, and not of what that was continued to."""
    padded = layer.input_shape[1:-1]
    if data.edges is None or not padded:
        return layer
    image, shape = data.edges
    runs = [shape[i : i + len(padded)] for i in range(len(shape))]
    if len(image) != len(padded) or padded not in runs:
        return layer
    return dataclasses.replace(
        layer,
        input_shape=(layer.input_shape[0], *image, layer.input_shape[-1]),
        activation_bits=layer.activation_bits * math.prod(image) // math.prod(padded),
    )
