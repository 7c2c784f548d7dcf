"""The definition: bitwise operations and population count in lax, on every platform.

With bits 1 for +1, a word of n used bits contributes

    xnor:  n - 2·popcount(x ^ w)          and:  popcount(x & w)

and the result is the sum over the words of all taps; their number is the *depth*. A *dead* tap counts for nothing:
neutral padding, or a zero between the pixels of a transposed convolution. Under `and` its zero words do so anyway;
under `xnor` they would count popcount(w), which is masked out or subtracted.

Everything is one elementwise expression over (N, *S', G, O/G), output channels last, which XLA fuses into one loop
that LLVM vectorises over output channels. (A `jnp.sum` over the words would not vectorise.) A loop body that grows
with the depth falls out of the first-level cache and compiles ever more slowly, so deep windows go chunk by chunk.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._bits import ALL_ONES, WORD, population_count, used_bits
from jbnn._geometry import Geometry, pad_image, see_through
from jbnn._kernels.correlation import Correlation, Epilogue
from jbnn._kernels.materialize import materialize

# One fused loop over all words is the fastest form, as long as the rows of the kernel that it sweeps for each position
# stay in the first-level cache (32 KiB), and the loop's body is not too long to compile.
CACHED_WORDS = 2**13
UNROLLED = 64
# XLA copies a value into a fusion for at most 15 uses. From 16 words on, the dynamic slices of a chunk are therefore
# made once, outside the loop; fused into it, their clamped addresses keep LLVM from vectorising.
CHUNK = 16
# Up to here an axis of the window is unrolled, which vectorises; beyond, it would compile ever more slowly.
LONG_AXIS = 32

# From here on the loop over the outputs of a group vectorises well; with fewer, one over the outputs of all is faster.
VECTOR = 8

Rows = Callable[[Geometry, int], np.ndarray]  # which rows count along an axis: bool (output, window)


def why_not_there(platforms: Sequence[str], exported: bool) -> str | None:
    """Runs everywhere."""
    return None


def why_not(correlation: Correlation) -> str | None:
    """Only real values have no bits to count."""
    if correlation.mode == "binary_weights":
        return 'mode="binary_weights" convolves real values, which are not bits'
    return None


def conv(x: jax.Array, w: jax.Array, correlation: Correlation, epilogue: Epilogue | None) -> jax.Array:
    """Words x (N, *S, G·W) and w (*K, W, O) to int32 (N, *S', O), or to what the epilogue makes of it."""
    g = correlation.geometry
    # Stored first: fused with the packing of an image, neither its padding nor the taps that read it would vectorise.
    x = materialize(x)
    # Unused bits are cleared after padding: they may hold anything, and the padding fills whole words.
    x = pad_image(x, ALL_ONES if correlation.pad_value > 0 else 0, g)
    if g.channels_per_group % WORD:
        x = x & lax.expand_dims(used_bits(g.channels, g.groups), range(x.ndim - 1))
        w = w & lax.expand_dims(used_bits(g.channels_per_group), (*range(g.rank), g.rank + 1))
        if g.groups > 1:  # stored: cleared again at every use, the words of a group would not vectorise
            x, w = materialize(x), materialize(w)
    x = x.reshape(*x.shape[:-1], g.groups, g.words)
    if g.groups > 1 and 1 < g.features // g.groups < VECTOR:
        x, correlation = _one_output_each(x, correlation)
        g = correlation.geometry
    u = (_count_unrolled if in_one_loop(g) else _count_in_chunks)(x, w, correlation)
    if correlation.mode == "xnor":
        u = g.channels_per_group * _over_live_taps(lambda rows: _number(rows, g), correlation) - 2 * u
    return materialize(u if epilogue is None else epilogue(u))


def _one_output_each(x: jax.Array, correlation: Correlation) -> tuple[jax.Array, Correlation]:
    """The words of a group (N, *S, G, W) once for each of its outputs, as so many groups of one: (N, *S, O, W)."""
    g = correlation.geometry
    geometry = dataclasses.replace(g, channels=g.channels_per_group * g.features, groups=g.features)
    x = materialize(jnp.repeat(x, g.features // g.groups, axis=-2))
    return x, dataclasses.replace(correlation, geometry=geometry)


def in_one_loop(g: Geometry) -> bool:
    """Whether all words of a window are counted in one fused loop, and not chunk by chunk."""
    depth = g.taps * g.words
    return depth < 2 * CHUNK or depth <= min(UNROLLED, CACHED_WORDS // g.features)


def _count_unrolled(x: jax.Array, w: jax.Array, correlation: Correlation) -> jax.Array:
    """Population counts over the live words of each window: int32 (N, *S', O), in one fused loop."""
    g = correlation.geometry
    w = _split_groups(w, g)
    counts = []
    for tap in np.ndindex(*g.window):
        read, rows = see_through(tap, x, g), w[tap]
        live = _live_mask(tap, correlation)
        for k in range(g.words):
            bits = _combine(read[..., k], rows[k], correlation)
            counts.append(_population(bits if live is None else bits & live))
    return _join_groups(functools.reduce(lax.add, counts), g)


def _count_in_chunks(x: jax.Array, w: jax.Array, correlation: Correlation) -> jax.Array:
    """The same, 16 to 20 words at a time."""
    g = correlation.geometry
    depth = g.taps * g.words
    chunks = depth // CHUNK
    size = -(-depth // chunks)
    spare = chunks * size - depth  # words of zeros, which count for nothing
    words = _windows(x, g)
    words = jnp.pad(words, [(0, 0)] * (words.ndim - 1) + [(0, spare)])
    kernel = jnp.pad(_split_groups(w, g).reshape(depth, g.groups, -1), [(0, spare), (0, 0), (0, 0)])

    def add_chunk(i: jax.Array, total: jax.Array) -> jax.Array:
        some = lax.dynamic_slice_in_dim(words, i * size, size, axis=-1)
        rows = lax.dynamic_slice_in_dim(kernel, i * size, size, axis=0)
        counts = [_population(_combine(some[..., j], rows[j], correlation)) for j in range(size)]
        return total + functools.reduce(lax.add, counts)

    # What a loop carries must start with the type, sharding included, that one turn of it returns.
    nothing = _population(_combine(words[..., 0], kernel[0], correlation) & np.uint32(0))
    start = nothing - _split_groups(_ones_of_dead_taps(w, correlation), g)[None]
    return _join_groups(lax.fori_loop(0, chunks, add_chunk, start), g)


def _split_groups(array: jax.Array, g: Geometry) -> jax.Array:
    return array.reshape(*array.shape[:-1], g.groups, g.features // g.groups)


def _join_groups(array: jax.Array, g: Geometry) -> jax.Array:
    return array.reshape(*array.shape[:-2], g.features)


def _windows(x: jax.Array, g: Geometry) -> jax.Array:
    """Every window's words side by side, (N, *S', G, depth), gathered along one axis after the other."""
    for axis in range(g.rank):
        rows = g.reads(axis) + g.padding[axis][0]  # of the padded image, (S'_d, K_d)
        if g.window[axis] > LONG_AXIS:
            x = jnp.moveaxis(jnp.take(x, rows, axis=1 + axis), 2 + axis, -2)
            continue
        slices = [lax.slice_in_dim(x, r[0], r[-1] + 1, g.strides[axis], axis=1 + axis) for r in rows.T.tolist()]
        x = jnp.stack(slices, axis=-2)
    return x.reshape(x.shape[0], *g.output, g.groups, g.taps * g.words)


def _combine(x: jax.Array, w: jax.Array, correlation: Correlation) -> jax.Array:
    """One word of every window (N, *S', G) with one of every kernel (G, O/G)."""
    x, w = x[..., None], lax.expand_dims(w, range(x.ndim - 1))
    return x & w if correlation.mode == "and" else x ^ w


def _population(bits: jax.Array) -> jax.Array:
    return population_count(bits).astype(jnp.int32)


def _has_dead_taps(correlation: Correlation) -> bool:
    g = correlation.geometry
    neutral_border = correlation.pad_value == 0 and g.touches_border
    return correlation.mode == "xnor" and (neutral_border or any(d > 1 for d in g.lhs_dilation))


def _live_mask(tap: Sequence[int], correlation: Correlation) -> jax.Array | None:
    """All ones where a tap is live, else zero, (1, *S', 1, 1); None where it always is."""
    if not _has_dead_taps(correlation):
        return None
    g = correlation.geometry

    def on_every_axis(rows: Rows) -> jax.Array:
        masks = [np.where(rows(g, axis)[:, k], ALL_ONES, np.uint32(0)) for axis, k in enumerate(tap)]
        return functools.reduce(operator.and_, [_along(m, 1 + axis, g.rank + 3) for axis, m in enumerate(masks)])

    on_pixel = on_every_axis(Geometry.on_pixel)
    return on_pixel if correlation.pad_value == 0 else on_pixel | ~on_every_axis(Geometry.inside)


def _ones_of_dead_taps(w: jax.Array, correlation: Correlation) -> jax.Array:
    """What dead taps add to a count, their zero words being xor-ed with the kernel's: int32 (*S', O)."""
    g = correlation.geometry
    if not _has_dead_taps(correlation):
        return jnp.zeros((1,) * g.rank + (g.features,), jnp.int32)
    ones = _sum_over_words(_population(w))
    live = _over_live_taps(lambda rows: _contract(ones, rows, g), correlation)
    return _contract(ones, _any_row, g) - live


def _sum_over_words(counts: jax.Array) -> jax.Array:
    """(*K, W, O) to (*K, O), in halves: elementwise, so that it vectorises over O, and never W terms long."""
    while (words := counts.shape[-2]) > 1:
        half = words // 2
        low, high, odd = counts[..., :half, :], counts[..., half : 2 * half, :], counts[..., 2 * half :, :]
        counts = jnp.concatenate([low + high, odd], axis=-2) if words % 2 else low + high
    return counts[..., 0, :]


def _over_live_taps(total: Callable[[Rows], jax.Array], correlation: Correlation) -> jax.Array:
    """A total over the live taps, from totals over the taps whose rows count along every axis."""
    if not _has_dead_taps(correlation):
        return total(_any_row)
    if correlation.pad_value == 0:
        return total(Geometry.on_pixel)
    return total(_any_row) - total(Geometry.inside) + total(Geometry.on_pixel)


def _any_row(g: Geometry, axis: int) -> np.ndarray:
    return np.ones((1, g.window[axis]), bool)


def _number(rows: Rows, g: Geometry) -> jax.Array:
    """How many taps count at each position: (1, *S', 1)."""
    along = [_along(rows(g, axis).sum(1, dtype=np.int32), 1 + axis, g.rank + 2) for axis in range(g.rank)]
    return functools.reduce(operator.mul, along, jnp.int32(1))


def _contract(values: jax.Array, rows: Rows, g: Geometry) -> jax.Array:
    """Sums the values (*K, O) over the taps whose row counts along every axis, one axis at a time: (*S', O)."""
    for axis in range(g.rank):
        table = rows(g, axis).astype(np.int32)
        if g.window[axis] > LONG_AXIS:
            columns = lax.broadcast_in_dim(table, (*table.shape, *values.shape[axis + 1 :]), (0, 1))
            columns = lax.expand_dims(columns, range(axis))
            values = jnp.sum(lax.expand_dims(values, (axis,)) * columns, axis=axis + 1, dtype=jnp.int32)
            continue
        terms = [
            lax.slice_in_dim(values, k, k + 1, axis=axis) * _along(table[:, k], axis, values.ndim)
            for k in range(g.window[axis])
        ]
        values = functools.reduce(lax.add, terms)
    return values


def _along(vector: np.ndarray, axis: int, ndim: int) -> jax.Array:
    return lax.expand_dims(vector, [other for other in range(ndim) if other != axis])
