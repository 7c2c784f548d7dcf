"""What a program says of itself where its jaxpr would not: which layer this is, and which image was continued.

Of a grouped layer JAX makes many products, and of several networks under `vmap` one wide convolution. What they were is
written into the name of a scope. Such names stay with their equations through `jit`, `vmap` and `grad`, cost no time,
and stand in a profile; `jbnn.summary` reads them.
"""

import dataclasses
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from jbnn._geometry import Geometry

_LAYER, _EDGES = "jbnn_layer", "jbnn_edges"


class Origin(NamedTuple):
    """A layer as it was called, before any `vmap`."""

    images: int
    geometry: Geometry
    dtype: str  # of its result


def layer_scope(images: int, geometry: Geometry, dtype: DTypeLike) -> AbstractContextManager[None]:
    """Around all that is made of one layer."""
    sizes = {field.name: getattr(geometry, field.name) for field in dataclasses.fields(Geometry)}
    return jax.named_scope(_written(_LAYER, images=images, dtype=np.dtype(dtype).name, **sizes))


def edges_scope(image: Sequence[int]) -> AbstractContextManager[None]:
    """Around all that continues an image of that size beyond its edges."""
    return jax.named_scope(_written(_EDGES, image=tuple(image)))


def origin_of(eqn: Any) -> Origin | None:
    """The layer that an equation of a jaxpr was made of, if it is known, and its sizes are numbers."""
    found = _read(_LAYER, eqn)
    try:
        images, dtype = int(found.pop("images")), found.pop("dtype")
        sizes: dict[str, Any] = {name: _integers(text) for name, text in found.items()}
    except (KeyError, ValueError):
        return None
    for name in ("channels", "features", "groups"):
        (sizes[name],) = sizes[name]
    lows_and_highs = sizes["padding"]
    sizes["padding"] = tuple(zip(lows_and_highs[::2], lows_and_highs[1::2], strict=True))
    return Origin(images, Geometry(**sizes), dtype)


def image_before_edges(eqn: Any) -> tuple[int, ...] | None:
    """The size of the image that an equation continues, if it does that."""
    try:
        return _integers(_read(_EDGES, eqn)["image"])
    except (KeyError, ValueError):
        return None


def _written(name: str, **values: Any) -> str:
    """For instance `jbnn_edges[image=8,6]`."""
    return f"{name}[{' '.join(f'{key}={_text(value)}' for key, value in values.items())}]"


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def _read(name: str, eqn: Any) -> dict[str, str]:
    """What the outermost scope of that name says: of two `vmap`s, the inner one was done first, around the other."""
    found = re.search(rf"{name}\[([^\]]*)\]", str(eqn.source_info.name_stack))
    return {} if found is None else dict(word.split("=", 1) for word in found[1].split(" "))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, filter(None, text.split(","))))
