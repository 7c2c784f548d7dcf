"""The geometry of one convolution: windows, strides, padding, dilations and groups, and what a window sees.

Letters, throughout the package: N batch, *S spatial axes, C input channels, O output channels, G groups, *K window,
W words. A dense layer is a convolution without spatial axes. `_shapes` makes geometries of what callers write.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import lax

from jbnn._bits import words_per_group
from jbnn._jax_versions import in_even_parts

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One convolution without its batch, canonical: equal geometries are equal, hashable values.

    `padding` counts rows of the (dilated) image, negative to crop. `lhs_dilation` puts zeros between the pixels, which
    contribute nothing; it is how a transposed convolution is written.
    """

    image: tuple[int, ...]
    window: tuple[int, ...]
    channels: int
    features: int
    groups: int
    strides: tuple[int, ...]
    padding: tuple[Pair, ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.window)

    @property
    def channels_per_group(self) -> int:
        return self.channels // self.groups

    @property
    def words(self) -> int:
        """Words of one group of one pixel."""
        return words_per_group(self.channels_per_group)

    @property
    def taps(self) -> int:
        return math.prod(self.window)

    @property
    def terms(self) -> int:
        """Products that one sum adds up, those of taps outside the image included."""
        return self.taps * self.channels_per_group

    @property
    def output(self) -> tuple[int, ...]:
        """The spatial shape of the result; an axis without room for one window is 0."""
        return tuple(
            _output_size(span(n, e), span(k, d), s, p)
            for n, k, s, p, e, d in zip(
                self.image, self.window, self.strides, self.padding, self.lhs_dilation, self.rhs_dilation, strict=True
            )
        )

    def is_empty(self, batch: int) -> bool:
        """Whether the result of so many images has no element."""
        return 0 in (batch, self.features, *self.output)

    def reads(self, axis: int) -> np.ndarray:
        """Row of the dilated image that output y reads through tap k: int (output, window), out of image included."""
        y = np.arange(self.output[axis])[:, None] * self.strides[axis]
        k = np.arange(self.window[axis])[None, :] * self.rhs_dilation[axis]
        return y + k - self.padding[axis][0]

    def inside(self, axis: int) -> np.ndarray:
        """Whether that row lies in the dilated image: bool (output, window)."""
        rows = self.reads(axis)
        return (rows >= 0) & (rows < span(self.image[axis], self.lhs_dilation[axis]))

    def on_pixel(self, axis: int) -> np.ndarray:
        """Whether that row is one of the image, and not a zero put between two: bool (output, window)."""
        return self.inside(axis) & (self.reads(axis) % self.lhs_dilation[axis] == 0)

    @property
    def touches_border(self) -> bool:
        """Whether any tap lies outside the image."""
        return not all(self.inside(axis).all() for axis in range(self.rank))


def pad_image(x: jax.Array, value: jax.typing.ArrayLike, geometry: Geometry) -> jax.Array:
    """The image (N, *S, …) as the windows see it: dilated with zeros, then padded with `value` or cropped."""
    trailing = [(0, 0, 0)] * (x.ndim - 1 - geometry.rank)
    zero, value = np.zeros((), x.dtype), np.asarray(value, x.dtype)
    for axis, (n, d, pair) in enumerate(zip(geometry.image, geometry.lhs_dilation, geometry.padding, strict=True), 1):
        if d > 1 or pair != (0, 0):
            x = in_even_parts(x, axis, math.gcd(span(n, d), span(n, d) + sum(pair)))
    if any(d > 1 for d in geometry.lhs_dilation):
        x = lax.pad(x, zero, [(0, 0, 0), *((0, 0, d - 1) for d in geometry.lhs_dilation), *trailing])
    if any(pair != (0, 0) for pair in geometry.padding):
        x = lax.pad(x, value, [(0, 0, 0), *((lo, hi, 0) for lo, hi in geometry.padding), *trailing])
    return x


def see_through(tap: Sequence[int], image: jax.Array, geometry: Geometry) -> jax.Array:
    """What every window reads of the padded image (N, *S, …) through one tap: (N, *S', …)."""
    g, first, last = geometry, [0] * image.ndim, list(image.shape)
    for axis, (k, n, s, d) in enumerate(zip(tap, g.output, g.strides, g.rhs_dilation, strict=True), start=1):
        image = in_even_parts(image, axis, n)
        first[axis], last[axis] = k * d, k * d + (n - 1) * s + 1
    return lax.slice(image, first, last, (1, *g.strides, *(1,) * (image.ndim - 1 - g.rank)))


def sum_windows(image: jax.Array, geometry: Geometry) -> jax.Array:
    """The sum of what every window sees of the padded image (N, *S, …): (N, *S', …), one axis after the other.

    (`lax.reduce_window` would do it at once, but jax-metal has it for four axes only.)
    """
    g = geometry
    for axis, (k, n, s, d) in enumerate(zip(g.window, g.output, g.strides, g.rhs_dilation, strict=True), start=1):
        image = in_even_parts(image, axis, n)
        rows = [lax.slice_in_dim(image, i * d, i * d + (n - 1) * s + 1, s, axis) for i in range(k)]
        image = functools.reduce(lax.add, rows)
    return image


def span(size: int, dilation: int) -> int:
    """Rows that `size` rows reach over, with `dilation` - 1 others between each two."""
    return (size - 1) * dilation + 1 if size > 0 else 0


def _output_size(size: int, window: int, stride: int, padding: Pair) -> int:
    room = size + sum(padding) - window
    return room // stride + 1 if room >= 0 else 0
