"""Parameters in a safetensors file: arrays by the names of their places in the tree, such as "[3].kernel".

python -m pip install safetensors
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file


def save(path: str | Path, params: Any) -> None:
    save_file({name: np.asarray(leaf) for name, leaf in _named(params)}, path)


def load(path: str | Path, like: Any) -> Any:
    """The parameters of a file, in the tree of `like`, whose leaves need only shapes and dtypes."""
    arrays = load_file(path)
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in _named(like)}
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ValueError(f"`path` must hold the parameters of `like`, but differs in {', '.join(wrong)}")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
