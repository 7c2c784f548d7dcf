"""What is kept for the backward pass: bits, which `jax.checkpoint` can ask for by name, recalled as late as can be.

    jax.checkpoint(block, policy=jax.checkpoint_policies.save_only_these_names("jbnn_bits"))

keeps the bits of a block and computes everything else of it again.

The backward pass unpacks bits to numbers 32 times as large. Nothing that it unpacks depends on the cotangent, so XLA
would move the unpacking to the forward pass, right behind the packing, and keep the numbers. Therefore words and
cotangent pass together through something that is ready only once both are: on a CPU, where XLA removes its own
barriers, a loop of no turns, and elsewhere a barrier. Which of them is known when the program is lowered.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jbnn._bits import pack_bits, unpack_bits
from jbnn._jax_versions import sharded_as
from jbnn._materialize import through_an_empty_loop

NAME = "jbnn_bits"


def keep(words: jax.Array) -> jax.Array:
    """Words, named."""
    return checkpoint_name(words, NAME)


def keep_mask(mask: jax.Array) -> jax.Array:
    """A mask of any shape as named words, along its last axis."""
    return keep(pack_bits(jnp.atleast_1d(mask)))


def recall(words: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The words again, once the cotangent is there; and the cotangent."""
    *words_, cotangent = _recall_p.bind(*words, cotangent)
    return tuple(words_), cotangent


def recall_mask(words: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mask again, in the shape of the cotangent; and the cotangent."""
    (words,), cotangent = recall((words,), cotangent)
    size = cotangent.shape[-1] if cotangent.ndim else 1
    mask = unpack_bits(words, size, axis=max(cotangent.ndim - 1, 0), groups=1)
    return sharded_as(cotangent, mask.reshape(cotangent.shape)), cotangent


def _barrier(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return lax.optimization_barrier(arrays)


def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """The identity's: tangents need not wait."""
    return _recall_p.bind(*primals), list(tangents)


_recall_p = Primitive("jbnn_recall")
_recall_p.multiple_results = True
_recall_p.def_impl(lambda *arrays: list(arrays))
_recall_p.def_abstract_eval(lambda *arrays: list(arrays))
ad.primitive_jvps[_recall_p] = _jvp
# Each array is batched or not by itself: under a batch of cotangents the words stay one.
batching.primitive_batchers[_recall_p] = lambda arrays, dims: (_recall_p.bind(*arrays), dims)
mlir.register_lowering(_recall_p, mlir.lower_fun(_barrier, multiple_results=True))
mlir.register_lowering(_recall_p, mlir.lower_fun(through_an_empty_loop, multiple_results=True), platform="cpu")
