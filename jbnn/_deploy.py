"""Parameters to deploy."""

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey, keystr

from jbnn._arguments import FLOATS, as_array, check_flag
from jbnn._bits import pack

# An error lists no more paths than these.
_LISTED = 20


def pack_kernels(
    params: Any,
    where: Callable[[Any, Any], bool],
    *,
    quantizer: Callable[[jax.Array], jax.Array] | None = None,
) -> Any:
    """A network's parameters with its latent kernels as words.

    Args:
      params: a pytree. Kernels are (*K, C/G, O) or (C, O), with any number of axes in front, such as one of layers.
      where: a function of a leaf's path and the leaf that is True for the kernels to pack. The path is a tuple of
        JAX's keys, as `jax.tree_util.tree_map_with_path` gives, which here equal also what they hold:
        `path[-1] == "kernel"`, `"stem" in path` and `path[0] == 0` are as they read. `jax.tree_util.keystr` makes it a
        string.
      quantizer: the kernels' own, as in `pack`; None is `sign`. For `binary_conv` with a `kernel_quantizer` that has
        another forward, such as one that subtracts a mean. It is called with a whole leaf: one that takes a mean
        goes in as `jax.vmap(quantizer)` where kernels are stacked.

    Returns:
      The same tree, with `pack(kernel, axis=-2, quantizer=quantizer)` for those kernels and every other leaf as it was.

    Raises:
      TypeError: `where` is not a function, or does not return True or False; or selects a leaf that is not a floating
        array: of one that holds words already, the network was packed before.
      ValueError: it selects no leaf, or one of fewer than two axes; or the quantizer's values are refused by `pack`.

    Gradient: none, as of `pack`.

    Example:
      >>> params = {"stem": jnp.ones((3, 3, 1, 64)), "block": {"w": jnp.ones((3, 3, 64, 32)), "scale": jnp.ones(32)}}
      >>> packed = jbnn.pack_kernels(params, lambda path, leaf: path[-1] == "w")
      >>> print(jax.tree.map(jnp.shape, packed)["block"], packed["block"]["w"].dtype)
      {'scale': (32,), 'w': (3, 3, 2, 32)} uint32
    """
    if not callable(where):
        raise TypeError(f"`where` must be a function of a path and a leaf, but was {where!r}")
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    leaves = [(tuple(map(_comparable, path)), leaf) for path, leaf in leaves]
    selected = [_selects(where, path, leaf) for path, leaf in leaves]
    if not any(selected):
        raise ValueError(f"`where` must select a leaf, but selects none of {_listed([path for path, _ in leaves])}")
    return jax.tree.unflatten(
        tree,
        (
            _packed(f"params{keystr(path)}", leaf, quantizer) if selects else leaf
            for (path, leaf), selects in zip(leaves, selected, strict=True)
        ),
    )


def _listed(paths: list[Any]) -> str:
    names = [f"`params{keystr(path)}`" for path in paths]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) + more) if names else "`params`, which has no leaf"


def _selects(where: Callable[[Any, Any], bool], path: tuple[Any, ...], leaf: Any) -> bool:
    selects = where(path, leaf)
    check_flag(f"where(path, leaf)` of `params{keystr(path)}", selects)
    return bool(selects)


def _packed(name: str, leaf: Any, quantizer: Callable[[jax.Array], jax.Array] | None) -> jax.Array:
    must = "be a floating latent kernel (float32, bfloat16, float16, float64), because `where` selects it"
    way_out = ": if it holds words, it is packed already"
    leaf = as_array(name, leaf, lambda dtype: dtype in FLOATS, must, way_out)
    if leaf.ndim < 2:
        raise ValueError(
            f"`{name}` must have at least two axes, because `where` selects it, but has shape {leaf.shape}"
        )
    return pack(leaf, axis=-2, quantizer=quantizer)


def _comparable(key: Any) -> Any:
    """The same key, to be compared as users write it; one of a user's own as it is."""
    return _KEYS[type(key)](_held(key)) if type(key) in _KEYS else key


def _held(key: Any) -> Any:
    """What a key of JAX holds: "kernel", 0."""
    if isinstance(key, DictKey | FlattenedIndexKey):
        return key.key
    return key.idx if isinstance(key, SequenceKey) else key.name


def _comparing(kind: type) -> type:
    """A kind of JAX's keys that equal what they hold too."""
    # Not by a second base class, which the newest JAX's keys, being of C++, do not allow.

    def equals(key: Any, other: Any) -> bool:
        return _held(key) == (_held(other) if isinstance(other, kind) else other)

    methods = {
        "__eq__": equals,
        "__ne__": lambda key, other: not equals(key, other),
        "__hash__": lambda key: hash(_held(key)),
    }
    return type(kind.__name__, (kind,), methods)


_KEYS = {kind: _comparing(kind) for kind in (DictKey, SequenceKey, GetAttrKey, FlattenedIndexKey)}
