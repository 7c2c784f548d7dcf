"""From the shapes of x and w, and what a caller writes beside them, to a canonical `Geometry`.

A scalar stride, "SAME", a list of pairs: what can be written in several ways becomes one frozen value here. Here too
stands every check of shapes, so each message shows those of x and w both. Below this file geometry is only passed on.
"""

import dataclasses
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jbnn._arguments import as_index
from jbnn._bits import words_per_group
from jbnn._geometry import Geometry, Pair, span

Sizes = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]
Operand = jax.Array | jax.ShapeDtypeStruct
"""Anything with a shape and a dtype; `uint32` are words, of 32 channels each."""

_NAMED_PADDING = "SAME", "SAME_LOWER", "VALID"


def conv_geometry(
    x: Operand,
    w: Operand,
    *,
    channels: int | None = None,
    window_strides: Sizes,
    padding: Padding,
    rhs_dilation: Sizes,
    feature_group_count: int,
) -> Geometry:
    """The geometry of a convolution as `lax.conv_general_dilated` defines it; `channels` are those of words x."""
    check_image("x", x)
    rank = x.ndim - 2
    _check_window(x, w)
    strides = per_axis("window_strides", window_strides, rank)
    dilation = per_axis("rhs_dilation", rhs_dilation, rank)
    groups = as_index("feature_group_count", feature_group_count)
    spans = [span(k, d) for k, d in zip(w.shape[:-2], dilation, strict=True)]
    return Geometry(
        image=tuple(x.shape[1:-1]),
        window=tuple(w.shape[:-2]),
        channels=_channels(x, w, channels, groups),
        features=w.shape[-1],
        groups=groups,
        strides=strides,
        padding=_pairs(padding, x.shape[1:-1], spans, strides),
        lhs_dilation=(1,) * rank,
        rhs_dilation=dilation,
    )


def transpose_geometry(
    x: Operand,
    w: Operand,
    *,
    window_strides: Sizes,
    padding: Padding,
    rhs_dilation: Sizes,
    feature_group_count: int,
    output_size: Sizes | None,
) -> Geometry:
    """The geometry of `lax.conv_transpose(transpose_kernel=False)`: a unit-stride window over the dilated image."""
    one = conv_geometry(
        x, w, window_strides=1, padding="VALID", rhs_dilation=rhs_dilation, feature_group_count=feature_group_count
    )
    strides = per_axis("window_strides", window_strides, one.rank)
    pairs = _explicit_pairs(padding, one.rank, named=("SAME", "VALID"))
    if pairs is None:
        pad = _transpose_same if padding == "SAME" else _transpose_valid
        spans = map(span, one.window, one.rhs_dilation)
        pairs = tuple(pad(k, s) for k, s in zip(spans, strides, strict=True))
    geometry = dataclasses.replace(one, padding=pairs, lhs_dilation=strides)
    if output_size is None:
        return geometry
    wanted = per_axis("output_size", output_size, one.rank, least=0)
    extra = [w - n for w, n in zip(wanted, geometry.output, strict=True)]
    if not all(0 <= e < s for e, s in zip(extra, strides, strict=True)):
        ranges = ", ".join(f"[{n}, {n + s - 1}]" for n, s in zip(geometry.output, strides, strict=True))
        raise ValueError(f"`output_size` must lie in {ranges}, but was {wanted}")
    grown = tuple((lo, hi + e) for (lo, hi), e in zip(pairs, extra, strict=True))
    return dataclasses.replace(geometry, padding=grown)


def dense_geometry(x: Operand, w: Operand, *, channels: int | None = None) -> Geometry:
    """The geometry of a dense layer: one pixel, one tap, no spatial axis."""
    if x.ndim < 1:
        raise ValueError(f"`x` must have shape (…, C), but has shape {x.shape}")
    if w.ndim != 2:
        raise ValueError(f"`w` must have shape (C, O), but has shape {w.shape}; `x` has {x.shape}")
    return Geometry((), (), _channels(x, w, channels, 1), w.shape[-1], 1, (), (), (), ())


def pool_geometry(image: Sequence[int], window: Sizes, *, window_strides: Sizes | None, padding: Padding) -> Geometry:
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


def check_image(name: str, x: Operand) -> None:
    """An image has a batch, one to three spatial axes, and channels or words."""
    if not 3 <= x.ndim <= 5:
        last = "W" if x.dtype == jnp.uint32 else "C"
        raise ValueError(
            f"`{name}` must have shape (N, *S, {last}) with one to three spatial axes, but has shape {x.shape}"
        )


def per_axis(name: str, value: int | Sequence[int], rank: int, *, least: int | None = 1) -> tuple[int, ...]:
    """A scalar for every axis, or one integer an axis."""
    try:
        values = tuple(map(operator.index, value if np.iterable(value) else (value,) * rank))
    except TypeError:
        raise TypeError(f"`{name}` must be an integer or {rank} integers, but was {value!r}") from None
    if len(values) != rank or (least is not None and any(v < least for v in values)):
        bound = "" if least is None else f", each at least {least}"
        raise ValueError(f"`{name}` must be an integer or {rank} integers{bound}, but was {value!r}")
    return values


def check_known_size(name: str, image: Sequence[int]) -> None:
    """Words are read row by row, so rows must be numbers: of an exported program the batch alone may be a symbol."""
    if not all(isinstance(n, int) for n in image):
        sizes = ", ".join(map(str, image))
        raise ValueError(
            f"`{name}` must have spatial axes of known size, but they are ({sizes}); only N may be symbolic"
        )


def _check_window(x: Operand, w: Operand) -> None:
    if w.ndim != x.ndim:
        hint = ": is the batch axis missing?" if w.ndim == x.ndim + 1 else ""
        raise ValueError(
            f"`w` must have {x.ndim} axes, as `x` has, but has shape {w.shape} where `x` has {x.shape}{hint}"
        )
    if any(k < 1 for k in w.shape[:-2]):
        raise ValueError(f"`w` must have a window of at least one tap on every axis, but has shape {w.shape}")


def _channels(x: Operand, w: Operand, channels: int | None, groups: int) -> int:
    """C, after checking that it fits the last axis of x, the last but one of w, and the groups."""
    channels = x.shape[-1] if channels is None else as_index("channels", channels)
    if channels < 0:
        raise ValueError(f"`channels` must not be negative, but was {channels}")
    shapes = f"`x` has shape {x.shape} and `w` {w.shape}"
    if groups < 1 or channels % groups:
        raise ValueError(
            f"`feature_group_count` must be positive and divide the {channels} channels, but was {groups}; {shapes}"
        )
    if w.shape[-1] % groups:
        raise ValueError(f"`w` must have output channels that `feature_group_count` = {groups} divides, but {shapes}")
    depth = channels // groups
    words = words_per_group(depth)
    if x.dtype == jnp.uint32 and x.shape[-1] != groups * words:
        hint = ": were its words packed along another axis?" if x.ndim > 2 and x.shape[1] == groups * words else ""
        raise ValueError(
            f"`x` must have {groups * words} words for {channels} channels in {groups} groups, but {shapes}{hint}"
        )
    expected, what = (words, "words of 32") if w.dtype == jnp.uint32 else (depth, "channels")
    if w.shape[-2] != expected:
        raise ValueError(
            f"`w` must have {expected} {what} on its axis -2, for C / groups = {depth} input channels, "
            f"but {shapes}{_likely_cause(x, w, groups, depth)}"
        )
    return channels


def _likely_cause(x: Operand, w: Operand, groups: int, depth: int) -> str:
    """A question that helps where the shapes look like another library's layout."""
    if w.dtype == jnp.uint32:
        forgotten = w.shape[-2] == depth
        return ": were its words packed along another axis? A kernel takes `pack(w, axis=-2)`" if forgotten else ""
    if w.ndim > 2 and w.shape[1] == depth and max(w.shape[2:]) <= min(w.shape[:2]):
        return ": is `w` laid out (O, C, *K)? Here it is (*K, C/G, O)"
    if x.ndim > 2 and w.shape[-2] * groups == x.shape[1]:
        return ": is `x` laid out (N, C, *S)? Here it is (N, *S, C)"
    return ""


def _pairs(padding: Padding, image: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> tuple[Pair, ...]:
    """The padding of windows that reach over `spans` rows."""
    pairs = _explicit_pairs(padding, len(image))
    if pairs is not None:
        return pairs
    if padding == "VALID":
        return ((0, 0),) * len(image)
    same = (_same(n, k, s) for n, k, s in zip(image, spans, strides, strict=True))
    return tuple((hi, lo) if padding == "SAME_LOWER" else (lo, hi) for lo, hi in same)


def _explicit_pairs(padding: Padding, rank: int, *, named: Sequence[str] = _NAMED_PADDING) -> tuple[Pair, ...] | None:
    """Explicit padding as pairs, or None for a named one."""
    if isinstance(padding, str):
        if padding in named:
            return None
    else:
        try:
            pairs = tuple((as_index("padding", lo), as_index("padding", hi)) for lo, hi in padding)
        except (TypeError, ValueError):
            pairs = ()
        if len(pairs) == rank:
            return pairs
    names = ", ".join(f'"{name}"' for name in named)
    raise ValueError(f"`padding` must be {names} or {rank} pairs of integers, but was {padding!r}")


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
