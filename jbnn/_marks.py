"""Values that are recognised through a caller's wrapping: which known quantizer a function returns the values of.

A quantizer with other values than ±1 marks its result by an operation that does nothing. A caller may put it into a
lambda with a learned shift, into `jax.jit` or `jax.checkpoint`: the mark is still there in the jaxpr, and if the
function's result is a marked value, moved about or cast but not computed with, its values are those of that quantizer.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal, Primitive
from jax.interpreters import ad, batching, mlir


def marked(x: jax.Array, quantizer: str) -> jax.Array:
    """Returns x, the result of the known quantizer."""
    return _mark_p.bind(x, quantizer=quantizer)


def mark_of(function: Callable[[jax.Array], Any], x: jax.Array) -> str | None:
    """The quantizer whose values the function returns of arrays like x; None if none is known.

    Objects are not asked: they may have a state, which a second call would change.
    """
    called: Any = function
    while isinstance(called, functools.partial):
        called = called.func
    if not isinstance(called, _STATELESS):
        return None
    try:
        closed = jax.make_jaxpr(function)(x)
    except Exception:
        # It needs more than shapes, or a state that a trace may not touch. If it is wrong, calling it will say so.
        return None
    results = closed.jaxpr.outvars
    return _mark(closed.jaxpr, results[0], lambda argument: None) if len(results) == 1 else None


Of = Callable[[int], str | None]
_STATELESS = (types.FunctionType, type(jax.jit(lambda x: x)))

# What only moves values about, or tells the compiler about them, by name, since their number grows with JAX.
_MOVES = frozenset(
    {
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "copy_p",
        "dynamic_slice",
        "expand_dims",
        "gather",
        "name",
        "pbroadcast",
        "pvary",
        "reduce_precision",
        "reshape",
        "reshard",
        "rev",
        "sharding_constraint",
        "slice",
        "squeeze",
        "transpose",
    }
)


def _mark(jaxpr: Any, var: Any, of_argument: Of) -> str | None:
    """The mark of a variable of a jaxpr, from the marks of its arguments."""
    if isinstance(var, Literal):
        return None
    if var in jaxpr.invars:
        return of_argument(jaxpr.invars.index(var))
    eqn = next((eqn for eqn in jaxpr.eqns if var in eqn.outvars), None)
    if eqn is None:  # a constant
        return None
    return _mark_of_result(eqn, eqn.outvars.index(var), lambda i: _mark(jaxpr, eqn.invars[i], of_argument))


def _mark_of_result(eqn: Any, result: int, of_operand: Of) -> str | None:
    name = eqn.primitive.name
    if eqn.primitive is _mark_p:
        return eqn.params["quantizer"]
    if name in _MOVES:
        return of_operand(0)
    if name == "optimization_barrier":
        return of_operand(result)
    if name == "concatenate":
        return _common([of_operand(i) for i in range(len(eqn.invars))])
    if name == "select_n":
        return _common([of_operand(i) for i in range(1, len(eqn.invars))])
    if name == "cond":  # its first operand is the choice
        branches = [branch.jaxpr for branch in eqn.params["branches"]]
        return _common([_mark(inner, inner.outvars[result], lambda i: of_operand(i + 1)) for inner in branches])
    # Calls, whatever their name: one jaxpr of as many arguments and results. The results of `scan` are its body's too.
    inner = [getattr(param, "jaxpr", param) for param in eqn.params.values() if _is_jaxpr(param)]
    if len(inner) == 1 and len(inner[0].outvars) == len(eqn.outvars) and len(inner[0].invars) == len(eqn.invars):
        return _mark(inner[0], inner[0].outvars[result], of_operand)
    return None


def _is_jaxpr(param: Any) -> bool:
    return hasattr(getattr(param, "jaxpr", param), "eqns")


def _common(marks: list[str | None]) -> str | None:
    return marks[0] if len(set(marks)) == 1 else None


def _jvp(primals: Any, tangents: Any, *, quantizer: str) -> tuple[jax.Array, Any]:
    return marked(primals[0], quantizer), tangents[0]


_mark_p = Primitive("jbnn_quantizer")
_mark_p.def_impl(lambda x, *, quantizer: x)
_mark_p.def_abstract_eval(lambda x, *, quantizer: x)
ad.primitive_jvps[_mark_p] = _jvp
batching.defvectorized(_mark_p)
mlir.register_lowering(_mark_p, mlir.lower_fun(lambda x, *, quantizer: x, multiple_results=False))
