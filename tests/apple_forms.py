"""The forms in which the audit for Apple's plugins sees every function. Arguments are shapes; nothing is computed."""

import jax
import jax.numpy as jnp
import numpy as np

from examples.calls import CALLS


def shapes(args, *lead):
    """What is known of the arrays before they are there, with these axes in front."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((*lead, *np.shape(a)), a.dtype), args)


CASES = [call._replace(args=shapes(call.args)) for call in CALLS]


def gradient(case):
    def total(*args):
        y = case.function(*args).astype(jnp.float32)
        return (y * y).sum()  # so that what arrives at y varies with the arguments, and is batched with them

    return jax.grad(total, case.wrt)


def forms(case):
    """The function, its gradient, and both of a batch in every argument: (function, arguments) by name."""
    yield "forward", (case.function, case.args)
    yield "vmap", (jax.vmap(case.function), shapes(case.args, 3))
    if case.wrt:
        yield "gradient", (gradient(case), case.args)
        yield "vmap of gradient", (jax.vmap(gradient(case)), shapes(case.args, 3))
