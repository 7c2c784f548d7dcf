"""The gradient, once: above the kernels and below everything else.

u = conv(a, b) is bilinear in a and b, whichever kernel computes it, so its gradient is that of JAX's own float
convolution at the same a and b,

    da = transpose of conv in a, at b, of du        db = transpose of conv in b, at a, of du

and all that has to be kept for it is a and b: their bits. `jax.vjp` of the float expression supplies collectives and
shardings too. What follows u, scale, bias and activation, is differentiated by JAX, and so is everything before a and
b: quantizers, input affine, beta.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike

from jbnn._arguments import at_least_float32, last_axis
from jbnn._bits import pack_bits
from jbnn._float_conv import float_conv
from jbnn._kernels.case import BITS, Case, Reading
from jbnn._kernels.primitive import correlate_words
from jbnn._kernels.unpacked import read_as
from jbnn._once import tied, witness
from jbnn._residuals import keep, recall


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def correlate(
    a: jax.Array,
    b: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    case: Case,
    activation: Any,
    implementation: str | None,
) -> jax.Array:
    """What leaves the case, of a (N, *S, C) and of b (*K, C/G, O) or its words (*K, W, O).

    Where bits are counted, a and b hold the numbers that these stand for. Without a result of the case, scale, bias
    and activation are None, and u leaves: in float32 at least. With an `Affine`, whose clamp is that of `activation`,
    activation(u·scale + bias) does.
    """
    terms = () if case.result is None else (_per_output(scale, case), _per_output(bias, case))
    y = correlate_words(image_of(a, case), kernel_words(b, case), case, terms, implementation=implementation)
    return y if case.result is not None else _as_floats(y, a.dtype)


def _correlate_fwd(
    a: Any, b: Any, scale: Any, bias: Any, case: Case, activation: Any, implementation: str | None
) -> tuple[jax.Array, Any]:
    image, w = (of(lax.stop_gradient(v.value), case) for of, v in ((image_of, a), (kernel_words, b)))
    source = witness(*(v.value for v in (a, b) if jnp.issubdtype(v.value.dtype, jnp.floating)))
    bare = dataclasses.replace(case, result=None)
    u = _as_floats(correlate_words(image, w, bare, implementation=implementation), a.value.dtype)
    u = tied(u, source)
    # What does not vary is closed over: nothing is then kept for the gradient of, say, a constant scale.
    given = {"u": u} | {name: term.value for name, term in (("scale", scale), ("bias", bias)) if term is not None}
    varies = {"u": a.perturbed or b.perturbed}
    varies |= {name: term.perturbed for name, term in (("scale", scale), ("bias", bias)) if term is not None}

    def finish(varying: dict[str, jax.Array]) -> jax.Array:
        terms = given | varying
        if case.result is None:
            return terms["u"]
        v = scaled_and_biased(terms["u"], terms.get("scale"), terms.get("bias"))
        # In the activation's own words: its slopes are not those of a clamp.
        return (v if activation is None else activation(v)).astype(case.result.dtype)

    y, pull_back = jax.vjp(finish, {name: value for name, value in given.items() if varies[name]})
    image = keep(image) if case.counts else image
    # Residuals are arrays; which of a and b vary is carried by their structure, () or None.
    return y, (pull_back, image, keep(w), source, *(() if operand.perturbed else None for operand in (a, b)))


def _correlate_bwd(
    case: Case, activation: Any, implementation: str | None, residuals: Any, g: Any
) -> tuple[jax.Array | None, ...]:
    pull_back, image, w, source, *operands = residuals
    (found,) = pull_back(jnp.zeros(g.shape, g.dtype) if isinstance(g, SymbolicZero) else g)
    slopes = _bilinear(image, w, found["u"], case) if "u" in found else (None, None)
    da, db = (None if v is None else tied(slope, source) for slope, v in zip(slopes, operands, strict=True))
    return da, db, found.get("scale"), found.get("bias")


correlate.defvjp(_correlate_fwd, _correlate_bwd, symbolic_zeros=True)


def _bilinear(image: jax.Array, w: jax.Array, du: jax.Array, case: Case) -> tuple[jax.Array, jax.Array]:
    """The gradients in a and b, from their words, or from real a."""
    g = case.geometry
    if case.counts:
        (image, w), du = recall((image, w), du)
        a = read_as(image, g.channels, case.reading, axis=-1, groups=g.groups, dtype=du.dtype)
    else:
        (w,), du = recall((w,), du)
        a = image.astype(du.dtype)
    b = read_as(w, g.channels_per_group, case.right, axis=-2, dtype=du.dtype)
    _, pull_back = jax.vjp(functools.partial(float_conv, geometry=g, outside=case.outside), a, b)
    da, db = pull_back(du)
    return da if case.counts else da.astype(image.dtype), db


def image_of(a: jax.Array, case: Case) -> jax.Array:
    """What a kernel reads on the left."""
    return pack_bits(_as_bits(a, case.reading), groups=case.geometry.groups) if case.counts else a


def kernel_words(b: jax.Array, case: Case) -> jax.Array:
    """What a kernel reads on the right."""
    return b if b.dtype == jnp.uint32 else pack_bits(_as_bits(b, case.right), axis=-2)


def scaled_and_biased(
    u: jax.Array, scale: jax.Array | None, bias: jax.Array | None, *, beta: jax.Array | None = None
) -> jax.Array:
    """u·scale·beta + bias, without the terms that are None."""
    v = u if scale is None else u * last_axis(scale, u)
    v = v if beta is None else v * beta
    return v if bias is None else v + last_axis(bias, v)


def _as_bits(a: jax.Array, reading: Reading) -> jax.Array:
    """What `pack` reads as the bits that a stands for."""
    return _is_one(a) if reading == BITS else a


@jax.jit
def _is_one(a: jax.Array) -> jax.Array:
    return a > 0.5


def _as_floats(u: jax.Array, dtype: DTypeLike) -> jax.Array:
    return u.astype(at_least_float32(dtype))


def _per_output(term: jax.Array | None, case: Case) -> jax.Array | None:
    return None if term is None else jnp.broadcast_to(term, (case.geometry.features,))
