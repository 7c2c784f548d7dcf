"""First derivatives only: what a rule's forward pass does to bits has no derivative that JAX could find."""

from typing import NoReturn

import jax


@jax.custom_jvp
def differentiable_once(x: jax.Array) -> jax.Array:
    """x, for the forward pass of a `custom_vjp`: differentiating that pass is a second derivative, which raises.

    Without it JAX would differentiate `sign`, find zero, and return a second derivative that is silently wrong.
    """
    return x


@differentiable_once.defjvp
def _refuse(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> NoReturn:
    raise TypeError("jbnn's functions of bits can be differentiated once: second derivatives are not defined")
