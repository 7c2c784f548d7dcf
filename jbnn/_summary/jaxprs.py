"""What any jaxpr tells: which equations are needed, which call others, and what depends on what."""

import math
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def opened(jaxpr: Any) -> Any:
    """A jaxpr without its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def bits(aval: Any) -> int:
    """The size of an array in memory."""
    return 8 * math.prod(aval.shape) * np.dtype(aval.dtype).itemsize


def called(eqn: Any) -> Any | None:
    """The jaxpr whose arguments and results are those of the equation, as of `jit`, `scan` or a custom derivative."""
    for value in eqn.params.values():  # "jaxpr", "call_jaxpr" or "fun_jaxpr", by primitive and version of JAX
        if isinstance(value, (ClosedJaxpr, Jaxpr)):
            jaxpr = opened(value)
            if (len(jaxpr.invars), len(jaxpr.outvars)) == (len(eqn.invars), len(eqn.outvars)):
                return value
    return None


def live(jaxpr: Any, used: list[bool] | None) -> list[tuple[Any, list[bool]]]:
    """The equations that the `used` results, or all, are made of, and which of their own results are used for that.

    The others XLA drops: a gradient's jaxpr may hold a forward pass of which shapes alone were asked for.
    """
    jaxpr = opened(jaxpr)
    used = [True] * len(jaxpr.outvars) if used is None else used
    needed = {atom for atom, is_used in zip(jaxpr.outvars, used, strict=True) if is_used and not is_literal(atom)}
    found = []
    for eqn in reversed(jaxpr.eqns):
        of_eqn = [var in needed for var in eqn.outvars]
        if any(of_eqn):
            needed |= {atom for atom in eqn.invars if not is_literal(atom)}
            found.append((eqn, of_eqn))
    return found[::-1]


def used_inside(used: list[bool], turns: int | None) -> list[bool] | None:
    """Which results of an equation's jaxpr are used; of a loop's perhaps all (None), since its next turn reads them."""
    return used if turns == 1 else None


def operands_of_results(jaxpr: Any) -> list[tuple[int, ...]]:
    """For each result of a jaxpr the arguments, by their places, that it is made of."""
    jaxpr = opened(jaxpr)
    known = {var: {place} for place, var in enumerate(jaxpr.invars)}

    def of(atom: Any) -> set[int]:
        return set() if is_literal(atom) else known.get(atom, set())

    for eqn in jaxpr.eqns:
        inner = None if eqn.primitive.name == "scan" else called(eqn)
        every = [tuple(range(len(eqn.invars)))] * len(eqn.outvars)
        places_of_each = every if inner is None else operands_of_results(inner)
        for var, places in zip(eqn.outvars, places_of_each, strict=True):
            known[var] = set().union(*(of(eqn.invars[place]) for place in places))
    return [tuple(sorted(of(atom))) for atom in jaxpr.outvars]


def is_literal(atom: Any) -> bool:
    """Whether an operand is written into its equation."""
    return isinstance(atom, Literal)
