"""Which taps of a window count: not those on a zero that was put between pixels, nor, if it reads 0 there, outside.

An axis has the same answer for all positions on the others, so a count over a window is a product of counts along its
axes. Three kinds of tap have such counts: *any*; *inside* the dilated image; on a *pixel* of the image, which is
inside. If the outside reads 0, the taps on pixels are the live ones. If not, those outside are live as well:

    live  =  any - inside + pixel
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._bits import ALL_ONES
from jbnn._geometry import Geometry
from jbnn._kernels.case import Case

# Up to here an axis of the window is unrolled, which vectorises; beyond, it would compile ever more slowly.
LONG_AXIS = 32


@dataclasses.dataclass(frozen=True)
class LiveTaps:
    """The taps of a case that count."""

    geometry: Geometry
    neutral: bool  # the outside reads 0

    @classmethod
    def of(cls, case: Case) -> "LiveTaps":
        """Those of one case."""
        return cls(case.geometry, case.outside == 0)

    @property
    def all_live(self) -> bool:
        """Whether no tap is dead anywhere."""
        g = self.geometry
        return all(d == 1 for d in g.lhs_dilation) and not (self.neutral and g.touches_border)

    def number(self) -> jax.Array:
        """How many are live at each position: int32 (1, *S', 1), with 1 for an axis on which it does not change."""
        return self._total(_product_of_counts)

    def sum(self, values: jax.Array) -> jax.Array:
        """The values (*K, O) of those that are live at each position, added up: (*S', O)."""
        return self._total(lambda rows: _contract(values, rows))

    def sum_of_dead(self, values: jax.Array) -> jax.Array:
        """The same of those that are dead."""
        return _contract(values, self._any()) - self.sum(values)

    def mask(self, tap: Sequence[int]) -> jax.Array | None:
        """All ones where this tap is live, else zero: uint32 (1, *S', 1, 1); None where it always is."""
        if self.all_live:
            return None
        on_pixel = _on_every_axis(self._on_pixel(), tap)
        return on_pixel if self.neutral else on_pixel | ~_on_every_axis(self._inside(), tap)

    def _total(self, over: Callable[[list[np.ndarray]], jax.Array]) -> jax.Array:
        """A total over the live taps, of totals over the taps whose rows count along every axis."""
        if self.all_live:
            return over(self._any())
        if self.neutral:
            return over(self._on_pixel())
        return over(self._any()) - over(self._inside()) + over(self._on_pixel())

    # Which rows count along each axis, bool (output, window).

    def _any(self) -> list[np.ndarray]:
        return [np.ones((1, k), bool) for k in self.geometry.window]

    def _inside(self) -> list[np.ndarray]:
        return [self.geometry.inside(axis) for axis in range(self.geometry.rank)]

    def _on_pixel(self) -> list[np.ndarray]:
        return [self.geometry.on_pixel(axis) for axis in range(self.geometry.rank)]


def _product_of_counts(rows: list[np.ndarray]) -> jax.Array:
    along = [_along(r.sum(1, dtype=np.int32), 1 + axis, len(rows) + 2) for axis, r in enumerate(rows)]
    return functools.reduce(operator.mul, along, jnp.int32(1))


def _on_every_axis(rows: list[np.ndarray], tap: Sequence[int]) -> jax.Array:
    masks = [np.where(r[:, k], ALL_ONES, np.uint32(0)) for r, k in zip(rows, tap, strict=True)]
    return functools.reduce(operator.and_, [_along(m, 1 + axis, len(rows) + 3) for axis, m in enumerate(masks)])


def _contract(values: jax.Array, rows: list[np.ndarray]) -> jax.Array:
    """Sums the values (*K, O) over the taps whose row counts along every axis, one axis at a time: (*S', O)."""
    for axis, counts in enumerate(rows):
        table = counts.astype(np.int32)
        window = table.shape[1]
        if window > LONG_AXIS:
            columns = lax.broadcast_in_dim(table, (*table.shape, *values.shape[axis + 1 :]), (0, 1))
            columns = lax.expand_dims(columns, range(axis))
            values = jnp.sum(lax.expand_dims(values, (axis,)) * columns, axis=axis + 1, dtype=jnp.int32)
            continue
        terms = [
            lax.slice_in_dim(values, k, k + 1, axis=axis) * _along(table[:, k], axis, values.ndim)
            for k in range(window)
        ]
        values = functools.reduce(lax.add, terms)
    return values


def _along(vector: np.ndarray, axis: int, ndim: int) -> jax.Array:
    return lax.expand_dims(vector, [other for other in range(ndim) if other != axis])
