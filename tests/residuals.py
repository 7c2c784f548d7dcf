"""What a gradient keeps between its forward and its backward pass."""

import jax
from jax_versions import KEEPS_RESULTS_OF_RULES


def kept(function, *args):
    """The arrays that the backward pass of the function at these arguments holds on to; single numbers aside."""
    _, pull_back = jax.vjp(function, *args)
    arrays = [leaf for leaf in jax.tree.leaves(pull_back) if leaf.size > 1]
    return [array for array in arrays if array.dtype == "uint32"] if KEEPS_RESULTS_OF_RULES else arrays
