"""JAX's float convolution, right on meshes as well.

On a mesh of several axes, XLA's partitioner doubles a convolution, or its gradient, where rows of the image are split
over one axis and something else, or nothing, over another (jax 0.4.34 to 0.10.2, examples in tests/test_sharding.py).
So where a program is for several devices it is told here what each device computes. On one device nothing changes.

A convolution, a gradient in its image and one in its kernel are all the same operation:

    out[n, t, o]  =  Σ_j Σ_i  lhs[n, (t·stride + j·dilation - low) / lhs_dilation, i] · rhs[j, i, o]

Images n and outputs o are shared out as they are, and sums over shared i are added up. Rows are shared out in one of
two ways. Device number p has rows p·L to (p + 1)·L of lhs, and either as many outputs t as read from there on, or as
many taps j; then sums are added up. Either way it lacks a few rows at both ends, which its neighbours send. The
outermost devices receive zeros, which is what lies outside of the image.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jbnn._eager import run_as_program
from jbnn._jax_versions import is_shared_out, pass_through_shard_map, require_devices
from jbnn._partition import Dimension, MeshAxes, Rule, on_shares


def exact_on_meshes(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), plain lax, with each convolution in it replaced by the one of this file."""
    closed = jax.make_jaxpr(function)(*args)
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(closed.jaxpr.invars, jax.tree.leaves(args), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in closed.jaxpr.eqns:
        primitive = _conv_p if equation.primitive is lax.conv_general_dilated_p else equation.primitive
        results = primitive.bind(*map(read, equation.invars), **equation.params)
        results = results if primitive.multiple_results else [results]
        values |= dict(zip(equation.outvars, results, strict=True))
    (result,) = map(read, closed.jaxpr.outvars)
    return result


# Named as lax names it: whoever reads a jaxpr finds the same operation with the same parameters.
_conv_p = Primitive("conv_general_dilated")
run_as_program(_conv_p)


def _of_lax(lhs: jax.Array, rhs: jax.Array, **params: Any) -> jax.Array:
    return lax.conv_general_dilated_p.bind(lhs, rhs, **params)


@_conv_p.def_abstract_eval
def _abstract(lhs: Any, rhs: Any, **params: Any) -> Any:
    (out,) = jax.make_jaxpr(functools.partial(_of_lax, **params))(lhs, rhs).out_avals
    return out


def _transpose_lhs(g: jax.Array, lhs: Any, rhs: jax.Array, **params: Any) -> jax.Array:
    def transposed(g: jax.Array, rhs: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda lhs: _of_lax(lhs, rhs, **params), lhs.aval)(g)[0]

    return exact_on_meshes(transposed, g, rhs)


def _transpose_rhs(g: jax.Array, lhs: jax.Array, rhs: Any, **params: Any) -> jax.Array:
    def transposed(g: jax.Array, lhs: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda rhs: _of_lax(lhs, rhs, **params), rhs.aval)(g)[0]

    return exact_on_meshes(transposed, g, lhs)


ad.defbilinear(_conv_p, _transpose_lhs, _transpose_rhs)


def _batch(args: Any, dims: Any, **params: Any) -> tuple[jax.Array, int]:
    return exact_on_meshes(jax.vmap(functools.partial(_of_lax, **params), dims), *args), 0


batching.primitive_batchers[_conv_p] = _batch


def _lower(ctx: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    exported = ctx.module_context.lowering_parameters.for_export  # as a program of StableHLO and nothing else
    call: Callable[..., Any] = functools.partial(_of_lax, **params)
    if is_shared_out(ctx) and not exported:
        of_lhs, of_rhs = ctx.avals_in
        shares = _Shares.of(of_lhs, of_rhs, ctx.avals_out[0], params)
        call = on_shares(shares.conv, shares.rule())
    return mlir.lower_fun(call, multiple_results=False)(ctx, lhs, rhs)


mlir.register_lowering(_conv_p, _lower)
require_devices(_conv_p)
pass_through_shard_map(_conv_p)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """One spatial axis, and how it is shared out: rows of lhs with those `along` them, of out or else of the window."""

    letter: str
    rows: int
    along: int
    step: int  # from one of those to the next, in rows of the dilated image
    reach: int  # from the first row to the last that one of them reads
    low: int
    dilation: int

    @property
    def steps(self) -> int:
        """Into how many parts both can be cut; 0 if the parts would not lie beside each other, or there is but one."""
        parts = math.gcd(self.rows, self.along) if self.rows * self.dilation == self.along * self.step else 0
        return parts if parts > 1 else 0

    def borders(self, devices: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """How many rows a device needs of the one before and of the one after, and the padding of what it then has."""
        rows, last = self.rows // devices, (self.along // devices - 1) * self.step + self.reach - self.low
        before = max(self.low // self.dilation, 0)
        after = max(last // self.dilation - (rows - 1), 0)
        return (before, after), (self.low - before * self.dilation, last - (rows - 1 + after) * self.dilation)

    def possible(self, steps: int) -> bool:
        """Whether devices of so many steps each need rows of their neighbours alone."""
        devices = self.steps // steps if steps else 0
        return devices > 0 and max(self.borders(devices)[0]) <= self.rows // devices


@dataclasses.dataclass(frozen=True)
class _Shares:
    """One convolution, shared out."""

    params: dict[str, Any]
    axes: tuple[_Rows, ...]

    @classmethod
    def of(cls, lhs: Any, rhs: Any, out: Any, params: dict[str, Any]) -> "_Shares":
        """That of so many rows, taps and outputs."""
        numbers = params["dimension_numbers"]
        axes = []
        for axis, (i, j, k) in enumerate(zip(*(spec[2:] for spec in numbers), strict=True)):
            n, window, output = lhs.shape[i], rhs.shape[j], out.shape[k]
            stride, dilation = params["window_strides"][axis], params["rhs_dilation"][axis]
            low, between = params["padding"][axis][0], params["lhs_dilation"][axis]
            by_outputs = _Rows(f"t{axis}", n, output, stride, (window - 1) * dilation, low, between)
            by_taps = _Rows(f"j{axis}", n, window, dilation, (output - 1) * stride, low, between)
            axes.append(by_outputs if by_outputs.steps or not by_taps.steps else by_taps)
        return cls(params, tuple(axes))

    def rule(self) -> Rule:
        """Which axes of lhs, rhs and out may be split, those of rows only where they are cut into the same parts."""
        grouped = self.params["feature_group_count"] > 1 or self.params["batch_group_count"] > 1
        letters = {"n": self.params["batch_group_count"] == 1, "o": not grouped, "i": not grouped}

        def named(letter: str, side: str) -> Dimension:
            return Dimension(letter if letters[letter] else letter + side)

        first = named("n", "l"), named("i", "l")
        arrays = [
            dict(enumerate(first)),
            {0: named("o", "r"), 1: named("i", "r")},
            {0: named("n", "u"), 1: named("o", "u")},
        ]
        for axis, rows in enumerate(self.axes):
            along = 2 if rows.letter.startswith("t") else 1
            for side in range(3):
                arrays[side][2 + axis] = Dimension(f"{'lru'[side]}{axis}")
            if rows.steps:
                arrays[0][2 + axis] = Dimension(rows.letter, rows.rows // rows.steps)
                arrays[along][2 + axis] = Dimension(rows.letter, rows.along // rows.steps)
        lhs, rhs, out = (
            tuple(dimensions[position] for position in _places(spec))
            for dimensions, spec in zip(arrays, self.params["dimension_numbers"], strict=True)
        )
        splits: dict[str, Callable[[int], bool]] = {"n": _always} if letters["n"] else {}
        splits |= {rows.letter: rows.possible for rows in self.axes if rows.steps}
        splits |= {} if grouped else {"o": _always, "i": _always}
        return Rule((lhs, rhs), out, splits)

    def conv(self, split: dict[str, MeshAxes], lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        """A device's share of the result, of its shares of lhs and rhs."""
        padding = list(self.params["padding"])
        spatial = self.params["dimension_numbers"].lhs_spec[2:]
        for axis, (rows, position) in enumerate(zip(self.axes, spatial, strict=True)):
            if names := split.get(rows.letter, ()):
                (before, after), padding[axis] = rows.borders(rows.rows // lhs.shape[position])
                lhs = _with_borders(lhs, position, before, after, names, rows.rows // lhs.shape[position])
        u = _of_lax(lhs, rhs, **(self.params | {"padding": tuple(padding)}))
        summed = [split.get(letter, ()) for letter in ("i", *(r.letter for r in self.axes if r.letter.startswith("j")))]
        names = tuple(name for names in summed for name in names)
        return lax.psum(u, names) if names else u


def _always(steps: int) -> bool:
    return True


def _places(spec: tuple[int, ...]) -> list[int]:
    """Of an array whose axes lie where lax's specification says, what each axis is in its order."""
    return sorted(range(len(spec)), key=lambda position: spec[position])


def _with_borders(x: jax.Array, axis: int, before: int, after: int, names: MeshAxes, devices: int) -> jax.Array:
    """A device's rows between the last of the device before it and the first of the one after it."""
    size = x.shape[axis]
    parts = [x]
    if before:
        last = lax.slice_in_dim(x, size - before, size, axis=axis)
        parts.insert(0, lax.ppermute(last, names, [(p, p + 1) for p in range(devices - 1)]))
    if after:
        first = lax.slice_in_dim(x, 0, after, axis=axis)
        parts.append(lax.ppermute(first, names, [(p + 1, p) for p in range(devices - 1)]))
    return lax.concatenate(parts, axis) if len(parts) > 1 else x
