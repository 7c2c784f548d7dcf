"""Parameters to deploy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jbnn._bits import pack


def pack_kernels(params: Any, where: Callable[[Any, Any], bool]) -> Any:
    """A network's parameters with its latent kernels as words.

    Args:
      params: a pytree. Kernels are (*K, C/G, O) or (C, O), with any number of axes in front, such as one of layers.
      where: a function of a leaf's path and the leaf that is true for the kernels to pack. The path is a tuple of
        keys, as `jax.tree_util.tree_map_with_path` gives; `jax.tree_util.keystr` makes it a string.

    Returns:
      The same tree, with `pack(kernel, axis=-2)` for those kernels and every other leaf as it was.

    Raises:
      TypeError: `where` is not a function, or selects a leaf that is not a floating array; of a leaf that holds words
        already, the message says that the network was packed before.
      ValueError: it selects a leaf of fewer than two axes.

    Gradient: none; words are integers.

    Example:
      >>> params = {"stem": jnp.ones((3, 3, 1, 64)), "block": {"w": jnp.ones((3, 3, 64, 32)), "scale": jnp.ones(32)}}
      >>> packed = jbnn.pack_kernels(params, lambda path, leaf: jax.tree_util.keystr(path) == "['block']['w']")
      >>> print(jax.tree.map(jnp.shape, packed)["block"], packed["block"]["w"].dtype)
      {'scale': (32,), 'w': (3, 3, 2, 32)} uint32
    """
    if not callable(where):
        raise TypeError(f"`where` must be a function of a path and a leaf, but was {where!r}")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _packed(jax.tree_util.keystr(path), leaf) if where(path, leaf) else leaf, params
    )


def _packed(name: str, leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    if leaf.dtype == jnp.uint32:
        raise TypeError(
            f"`where` must select latent kernels, but selects `params{name}`, which holds words of dtype uint32: "
            "it is packed already"
        )
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise TypeError(f"`where` must select floating kernels, but selects `params{name}` of dtype {leaf.dtype}")
    if leaf.ndim < 2:
        raise ValueError(
            f"`where` must select kernels of at least two axes, but selects `params{name}` of shape {leaf.shape}"
        )
    return pack(leaf, axis=-2)
