"""What is kept for the backward pass: bits, under a name that `jax.checkpoint` can ask for.

`jax.checkpoint_policies.save_only_these_names(jbnn._residuals.NAME)` keeps them and computes everything else again.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jbnn._bits import pack, unpack_bits

NAME = "jbnn_bits"


def keep(words: jax.Array) -> jax.Array:
    """Words, named."""
    return checkpoint_name(words, NAME)


def keep_mask(mask: jax.Array) -> jax.Array:
    """A mask of any shape as named words, along its last axis."""
    return keep(pack(jnp.atleast_1d(mask)))


def recall(words: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The words again, once the cotangent is there; and the cotangent."""
    return words, cotangent


def recall_mask(words: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mask again, in the shape of the cotangent; and the cotangent."""
    (words,), cotangent = recall((words,), cotangent)
    size = cotangent.shape[-1] if cotangent.ndim else 1
    mask = unpack_bits(words, size, axis=max(cotangent.ndim - 1, 0), groups=1)
    return mask.reshape(cotangent.shape), cotangent
