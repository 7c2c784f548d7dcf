"""What a gradient keeps between its forward and its backward pass."""

import jax

# Before 0.7, JAX's closure may also hold the result of every custom rule in it; that is not the rule's doing.
JAX_KEEPS_RESULTS = jax.__version_info__ < (0, 7)


def kept(function, *args):
    """The arrays that the backward pass of the function at these arguments holds on to; single numbers aside."""
    _, pull_back = jax.vjp(function, *args)
    arrays = [leaf for leaf in jax.tree.leaves(pull_back) if leaf.size > 1]
    return [array for array in arrays if array.dtype == "uint32"] if JAX_KEEPS_RESULTS else arrays
