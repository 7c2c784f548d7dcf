"""The shape of one convolution: windows, strides, padding, dilation and groups, made canonical once.

Everything the user may write in several ways (a scalar stride, "SAME", a list of pairs) becomes one frozen, hashable
`Geometry` here, and every error about shapes is raised here. Below this file geometry is only passed on.

Letters, throughout the package: N batch, *S spatial axes, C input channels, O output channels, G groups, *K window,
W words. A dense layer is a convolution without spatial axes.
"""

import dataclasses
import math
import operator
from collections.abc import Sequence

import jax
import numpy as np
from jax import lax

from jbnn._bits import as_index, check_groups, words_per_group

Pair = tuple[int, int]
Padding = str | Sequence[tuple[int, int]]


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
    def output(self) -> tuple[int, ...]:
        """The spatial shape of the result; an axis without room for one window is 0."""
        return tuple(
            _output_size(_dilated(n, e), _dilated(k, d), s, p)
            for n, k, s, p, e, d in zip(
                self.image, self.window, self.strides, self.padding, self.lhs_dilation, self.rhs_dilation, strict=True
            )
        )

    def reads(self, axis: int) -> np.ndarray:
        """Row of the dilated image that output y reads through tap k: int (output, window), out of image included."""
        y = np.arange(self.output[axis])[:, None] * self.strides[axis]
        k = np.arange(self.window[axis])[None, :] * self.rhs_dilation[axis]
        return y + k - self.padding[axis][0]

    def inside(self, axis: int) -> np.ndarray:
        """Whether that row lies in the dilated image: bool (output, window)."""
        rows = self.reads(axis)
        return (rows >= 0) & (rows < _dilated(self.image[axis], self.lhs_dilation[axis]))

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
    if any(d > 1 for d in geometry.lhs_dilation):
        x = lax.pad(x, zero, [(0, 0, 0), *((0, 0, d - 1) for d in geometry.lhs_dilation), *trailing])
    if any(pair != (0, 0) for pair in geometry.padding):
        x = lax.pad(x, value, [(0, 0, 0), *((lo, hi, 0) for lo, hi in geometry.padding), *trailing])
    return x


def see_through(tap: Sequence[int], image: jax.Array, geometry: Geometry) -> jax.Array:
    """What every window reads of the padded image (N, *S, …) through one tap: (N, *S', …)."""
    g, first, last = geometry, [0] * image.ndim, list(image.shape)
    for axis, (k, n, s, d) in enumerate(zip(tap, g.output, g.strides, g.rhs_dilation, strict=True), start=1):
        first[axis], last[axis] = k * d, k * d + (n - 1) * s + 1
    return lax.slice(image, first, last, (1, *g.strides, *(1,) * (image.ndim - 1 - g.rank)))


def _dilated(size: int, dilation: int) -> int:
    return (size - 1) * dilation + 1 if size > 0 else 0


def _output_size(size: int, window: int, stride: int, padding: Pair) -> int:
    room = size + sum(padding) - window
    return room // stride + 1 if room >= 0 else 0


def conv_geometry(
    image: Sequence[int],
    window: Sequence[int],
    *,
    channels: int,
    features: int,
    window_strides: int | Sequence[int],
    padding: Padding,
    rhs_dilation: int | Sequence[int],
    feature_group_count: int,
) -> Geometry:
    """The geometry of a convolution as `lax.conv_general_dilated` defines it."""
    rank = len(window)
    strides = per_axis("window_strides", window_strides, rank)
    dilation = per_axis("rhs_dilation", rhs_dilation, rank)
    _check_window(window)
    feature_group_count = as_index("feature_group_count", feature_group_count)
    _check_features(channels, features, feature_group_count)
    spans = [_dilated(k, d) for k, d in zip(window, dilation, strict=True)]
    return Geometry(
        image=tuple(image),
        window=tuple(window),
        channels=channels,
        features=features,
        groups=feature_group_count,
        strides=strides,
        padding=_pairs(padding, image, spans, strides),
        lhs_dilation=(1,) * rank,
        rhs_dilation=dilation,
    )


def transpose_geometry(
    image: Sequence[int],
    window: Sequence[int],
    *,
    channels: int,
    features: int,
    window_strides: int | Sequence[int],
    padding: Padding,
    rhs_dilation: int | Sequence[int],
    feature_group_count: int,
    output_size: int | Sequence[int] | None,
) -> Geometry:
    """The geometry of `lax.conv_transpose(transpose_kernel=False)`: a unit-stride window over the dilated image."""
    rank = len(window)
    strides = per_axis("window_strides", window_strides, rank)
    dilation = per_axis("rhs_dilation", rhs_dilation, rank)
    _check_window(window)
    feature_group_count = as_index("feature_group_count", feature_group_count)
    _check_features(channels, features, feature_group_count)
    pairs = _explicit_pairs(padding, rank)
    if pairs is None:
        same = padding == "SAME"
        spans = [_dilated(k, d) for k, d in zip(window, dilation, strict=True)]
        pairs = tuple(
            (_transpose_same if same else _transpose_valid)(k, s) for k, s in zip(spans, strides, strict=True)
        )
    geometry = Geometry(
        image=tuple(image),
        window=tuple(window),
        channels=channels,
        features=features,
        groups=feature_group_count,
        strides=(1,) * rank,
        padding=pairs,
        lhs_dilation=strides,
        rhs_dilation=dilation,
    )
    if output_size is None:
        return geometry
    wanted = per_axis("output_size", output_size, rank, least=0)
    extra = [w - n for w, n in zip(wanted, geometry.output, strict=True)]
    if not all(0 <= e < s for e, s in zip(extra, strides, strict=True)):
        ranges = ", ".join(f"[{n}, {n + s - 1}]" for n, s in zip(geometry.output, strides, strict=True))
        raise ValueError(f"`output_size` must lie in {ranges}, but was {wanted}")
    grown = tuple((lo, hi + e) for (lo, hi), e in zip(pairs, extra, strict=True))
    return dataclasses.replace(geometry, padding=grown)


def dense_geometry(*, channels: int, features: int) -> Geometry:
    """The geometry of a dense layer: one pixel, one tap, no spatial axis."""
    return Geometry((), (), channels, features, 1, (), (), (), ())


def pool_geometry(
    image: Sequence[int],
    window: int | Sequence[int],
    *,
    window_strides: int | Sequence[int] | None,
    padding: Padding,
) -> Geometry:
    """The geometry of pooling, as `lax.reduce_window` defines it. It has no channels: each is pooled alone."""
    rank = len(image)
    window = per_axis("window", window, rank)
    strides = window if window_strides is None else per_axis("window_strides", window_strides, rank)
    return Geometry(
        image=tuple(image),
        window=window,
        channels=0,
        features=0,
        groups=1,
        strides=strides,
        padding=_pairs(padding, image, window, strides),
        lhs_dilation=(1,) * rank,
        rhs_dilation=(1,) * rank,
    )


def per_axis(name: str, value: int | Sequence[int], rank: int, *, least: int = 1) -> tuple[int, ...]:
    """A scalar for every axis, or one integer an axis."""
    try:
        values = tuple(map(operator.index, value if np.iterable(value) else (value,) * rank))
    except TypeError:
        raise TypeError(f"`{name}` must be an integer or {rank} integers, but was {value!r}") from None
    if len(values) != rank or any(v < least for v in values):
        raise ValueError(f"`{name}` must be an integer or {rank} integers, each at least {least}, but was {value!r}")
    return values


def _pairs(padding: Padding, image: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> tuple[Pair, ...]:
    """The padding of windows that reach over `spans` rows."""
    pairs = _explicit_pairs(padding, len(image))
    if pairs is not None:
        return pairs
    if padding == "VALID":
        return ((0, 0),) * len(image)
    return tuple(_same(n, k, s) for n, k, s in zip(image, spans, strides, strict=True))


def _explicit_pairs(padding: Padding, rank: int) -> tuple[Pair, ...] | None:
    """Explicit padding as pairs, or None for "SAME" and "VALID"."""
    if isinstance(padding, str):
        if padding in ("SAME", "VALID"):
            return None
    else:
        try:
            pairs = tuple((operator.index(lo), operator.index(hi)) for lo, hi in padding)
        except (TypeError, ValueError):
            pairs = ()
        if len(pairs) == rank:
            return pairs
    raise ValueError(f'`padding` must be "SAME", "VALID" or {rank} pairs of integers, but was {padding!r}')


def _same(size: int, span: int, stride: int) -> Pair:
    """lax's "SAME": ceil(size / stride) outputs, the odd row at the high end."""
    rows = -(-size // stride)
    total = max((rows - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def _transpose_same(span: int, stride: int) -> Pair:
    """size·stride outputs, of which the dilated image covers (size - 1)·stride + 1."""
    total = span + stride - 2
    low = span - 1 if stride > span - 1 else -(-total // 2)
    return low, total - low


def _transpose_valid(span: int, stride: int) -> Pair:
    """Every output that reads a pixel, and no fewer than size·stride."""
    return span - 1, span - 1 + max(stride - span, 0)


def _check_window(window: Sequence[int]) -> None:
    if any(k < 1 for k in window):
        raise ValueError(f"`w` must have a window of at least one tap on every axis, but its window is {tuple(window)}")


def _check_features(channels: int, features: int, groups: int) -> None:
    if channels < 1:
        raise ValueError(f"`x` must have at least one channel, but has {channels}")
    check_groups(channels, groups, "feature_group_count")
    if features % groups:
        raise ValueError(
            f"`w` must have a number of output channels that `feature_group_count` = {groups} divides, "
            f"but has {features}"
        )
