"""First derivatives only: what a rule's forward pass does to bits has no derivative that JAX could find.

The gradient of a rule depends on its operands through their bits, whose derivative JAX takes for zero. A second
derivative would be silently wrong there. So the forward pass keeps a *witness* of its operands, a plain zero, and what
depends on their bits is tied to it; a derivative that is traced back through the tie to the operands is refused. One
that is asked for and then thrown away, as by `jax.lax.stop_gradient` around an inner gradient, is not.
"""

import functools
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


@jax.custom_jvp
def witness(*operands: jax.Array) -> jax.Array:
    """What stands for floating operands in the residuals of a rule."""
    return jnp.zeros((), jnp.float32)


@functools.partial(witness.defjvp, symbolic_zeros=True)
def _witness_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    zero = jnp.zeros((), jnp.float32)
    return zero, _sum([_refused_p.bind(t, zero) for t in tangents if not isinstance(t, SymbolicZero)], zero)


@jax.custom_jvp
def tied(result: jax.Array, to: jax.Array) -> jax.Array:
    """A floating result that depends on the bits of what the witness stands for."""
    return result


@functools.partial(tied.defjvp, symbolic_zeros=True)
def _tied_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (result, _), (own, of_witness) = primals, tangents
    terms = [] if isinstance(own, SymbolicZero) else [own]
    terms += [] if isinstance(of_witness, SymbolicZero) else [_refused_p.bind(of_witness, result)]
    return result, _sum(terms, result)


def _sum(terms: list[jax.Array], like: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(like)


# A derivative that does not exist, as a linear map of a tangent to the type of `like`, and an error once it is needed.
_refused_p = Primitive("jbnn_second_derivative")


def _refuse(*args: Any, **params: Any) -> NoReturn:
    raise TypeError(
        "jbnn's functions of bits can be differentiated once: second derivatives are not defined. Where a gradient "
        "serves as a constant, as in first-order meta-learning, stop it: `jax.lax.stop_gradient(jax.grad(loss)(w))`"
    )


def _transpose(cotangent: Any, tangent: Any, like: Any) -> list[Any]:
    if type(cotangent) is not ad.Zero:
        _refuse()
    return [ad.Zero(tangent.aval), None]


def _jvp(primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    (_, like), (tangent, _) = primals, tangents
    out = _refused_p.bind(*primals)
    zero = jnp.zeros_like(like)
    return out, zero if type(tangent) is ad.Zero else _refused_p.bind(tangent, like)


_refused_p.def_impl(_refuse)
_refused_p.def_abstract_eval(lambda tangent, like: like)
ad.primitive_jvps[_refused_p] = _jvp
ad.primitive_transposes[_refused_p] = _transpose
batching.primitive_batchers[_refused_p] = lambda args, dims: (_refused_p.bind(*args), dims[1])
mlir.register_lowering(_refused_p, _refuse)
