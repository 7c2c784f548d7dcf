"""How work that XLA cannot look into is shared out over the devices of a mesh.

XLA gives every device all of a call that it does not know. Told which axes of the arrays may be split, it gives each
device a share instead. The axes are told by letters, as for `einsum`: "n" of the images, "o" of the output channels,
and whatever is to be whole on every device by any other.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jbnn._jax_versions import call_on_shares

MeshAxes = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One axis of an array: its letter, and how many of its elements make one step of that letter, 1 as a rule.

    Words of 32 output channels are one array's "o" and those channels another's, of 32 elements a step.
    """

    letter: str
    each: int = 1


Array = tuple[Dimension, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """The axes of arguments and of the result, and which letters may be split.

    `splits` maps a letter to whether a share of so many steps can be worked on. If two letters are split over the same
    mesh axis, the one that comes first here gets it. A letter need not be on every array: the work is told what was
    split, and adds up over the devices what must be added up.
    """

    arguments: tuple[Array, ...]
    result: Array
    splits: dict[str, Callable[[int], bool]]

    def split(self, mesh: Mesh, arguments: Sequence[Any]) -> dict[str, MeshAxes]:
        """The mesh axes of each letter, of the shardings that the arguments have."""
        taken: set[str] = set()
        axes: dict[str, MeshAxes] = {}
        for letter, possible in self.splits.items():
            axes[letter] = ()
            for sharded, dimensions in zip(arguments, self.arguments, strict=True):
                for position, dimension in enumerate(dimensions):
                    names = _names(sharded, position) if dimension.letter == letter else ()
                    steps, rest = divmod(sharded.shape[position], dimension.each)
                    devices = math.prod(mesh.shape[name] for name in names)
                    if not names or axes[letter] or taken & set(names) or rest or steps % devices:
                        continue
                    if possible(steps // devices):
                        axes[letter] = names
            taken |= set(axes[letter])
        return axes

    def sharding(self, mesh: Mesh, dimensions: Array, axes: dict[str, MeshAxes]) -> NamedSharding:
        """How one array is laid out, once it is known what is split over which axes."""
        return NamedSharding(mesh, PartitionSpec(*(axes.get(d.letter) or None for d in dimensions)))

    def text(self) -> tuple[str, dict[str, int]]:
        """The rule in the notation of Shardy, and the sizes of the factors that it puts inside an axis."""
        sizes = {f"{d.letter}{d.each}": d.each for dims in (*self.arguments, self.result) for d in dims if d.each > 1}

        def written(dimensions: Array) -> str:
            return " ".join(d.letter if d.each == 1 else f"({d.letter} {d.letter}{d.each})" for d in dimensions)

        return f"{', '.join(map(written, self.arguments))} -> {written(self.result)}", sizes

    def whole(self) -> tuple[str, ...]:
        """The letters that may not be split."""
        letters = dict.fromkeys(d.letter for dims in (*self.arguments, self.result) for d in dims)
        return tuple(letter for letter in letters if letter not in self.splits)


def on_shares(work: Callable[..., jax.Array], rule: Rule) -> Callable[..., jax.Array]:
    """A function of the arguments that gives `work(axes, *shares)` to each device, with the mesh axes of each letter.

    It is to be traced while a program is lowered. On one device, and within `shard_map`, it is `work` with no axes.
    """

    def on_each(mesh: Mesh, arguments: Sequence[Any]) -> tuple[Any, ...]:
        axes = rule.split(mesh, arguments)
        shardings = tuple(rule.sharding(mesh, dimensions, axes) for dimensions in rule.arguments)
        return functools.partial(work, axes), shardings, rule.sharding(mesh, rule.result, axes)

    text, sizes = rule.text()
    return call_on_shares(functools.partial(work, {}), on_each, text, rule.whole(), sizes)


def _names(sharded: Any, position: int) -> MeshAxes:
    """The mesh axes over which one axis of an argument is split."""
    spec = getattr(sharded.sharding, "spec", PartitionSpec())
    names = spec[position] if position < len(spec) else None
    return () if names is None else names if isinstance(names, tuple) else (names,)
