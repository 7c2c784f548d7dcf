"""What our own primitives do outside `jit`: each call of one is a program of its own, which JAX keeps."""

from typing import Any

import jax
from jax.extend.core import Primitive


def run_as_program(primitive: Primitive) -> None:
    """Lets a primitive, whose parameters are hashable, be called with arrays."""
    program = jax.jit(lambda params, *args: primitive.bind(*args, **dict(params)), static_argnums=0)

    @primitive.def_impl
    def now(*args: jax.Array, **params: Any) -> jax.Array:
        with jax.disable_jit(False):  # else the program would come back here
            return program(tuple(params.items()), *args)
