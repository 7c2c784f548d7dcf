"""The definition: bitwise operations and population count in lax, on every platform.

With a bit i read as a = a₀ + (a₁ - a₀)·i and a bit j as b = b₀ + (b₁ - b₀)·j, the sum of n products is

    Σ a·b  =  n·a₀·b₀ + a₀·(b₁ - b₀)·Σj + b₀·(a₁ - a₀)·Σi + (a₁ - a₀)·(b₁ - b₀)·Σij

where Σij = popcount(x & w), Σi = popcount(x) and Σj = popcount(w). For {0, 1} on both sides only the last is left; for
±1 on both sides it is n - 2·popcount(x ^ w), one count instead of three; for {0, 1} with ±1 it is
2·popcount(x & w) - popcount(x).

A *dead* tap counts for nothing: it lies outside an image that reads 0 there, or on a zero between the pixels of a
transposed convolution. Its word is 0, so that Σij and Σi have nothing of it; n and Σj are taken over live taps alone;
and of popcount(x ^ w) = popcount(w) it is masked out, or subtracted.

Everything is one elementwise expression over (N, *S', G, O/G), output channels last, which XLA fuses into one loop
that LLVM vectorises over output channels. (A `jnp.sum` over the words would not vectorise.) A loop body that grows
with the depth, the number of words of a window, falls out of the first-level cache and compiles ever more slowly, so
deep windows go chunk by chunk.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._bits import ALL_ONES, WORD, population_count, used_bits
from jbnn._geometry import Geometry, pad_image, see_through, sum_windows
from jbnn._kernels.case import SIGNS, Case
from jbnn._kernels.live_taps import LONG_AXIS, LiveTaps
from jbnn._materialize import materialize

OPAQUE = False

# One fused loop over all words is the fastest form, as long as the rows of the kernel that it sweeps for each position
# stay in the first-level cache (32 KiB), and the loop's body is not too long to compile.
CACHED_WORDS = 2**13
UNROLLED = 64
# XLA copies a value into a fusion for at most 15 uses. From 16 words on, the dynamic slices of a chunk are therefore
# made once, outside the loop; fused into it, their clamped addresses keep LLVM from vectorising.
CHUNK = 16
# Parts of a reduction: on an H100, 8192 channels to 28672, 16 us for one row and 27 for four, in one part 21 and 46.
PARTS = 16
# From here on the loop over the outputs of a group vectorises well; with fewer, one over the outputs of all is faster.
VECTOR = 8


def why_not(case: Case) -> str | None:
    """Only real values have no bits to count."""
    return None if case.counts else 'real values, as of mode="binary_weights", are not bits'


def faster(case: Case) -> bool:
    """Except where floats were measured to be faster.

    They were on a CPU where at most 4 of a word's 32 bits are used and the kernel's words outgrow the first-level cache
    (1.4 times for 4 channels and a 7x7 window, 3 times for 1 channel). On an NVIDIA GPU they were where counting takes
    more than one loop, each turn of which is a launch, against one on tensor cores (1.4 to 2.3 times for 3x3 windows).
    A few rows of a dense layer are one reduction there.
    """
    g = case.geometry
    if g.groups > 1:
        return True
    if case.on("cuda"):
        return in_one_loop(g) or case.few_rows
    return not case.on("cpu") or g.channels > 4 or g.taps * g.words * g.features <= CACHED_WORDS


def conv(x: jax.Array, w: jax.Array, case: Case, terms: Any) -> jax.Array:
    """Words x (N, *S, G·W) and w (*K, W, O) to what leaves the case."""
    g = case.geometry
    # Stored first: fused with the packing of an image, neither its padding nor the taps that read it would vectorise.
    x = materialize(x)
    # Unused bits are cleared after padding: they may hold anything, and the padding fills whole words.
    x = pad_image(x, ALL_ONES if case.outside == case.reading.one else 0, g)
    if g.channels_per_group % WORD:
        x = x & lax.expand_dims(used_bits(g.channels, g.groups), range(x.ndim - 1))
        w = w & lax.expand_dims(used_bits(g.channels_per_group), (*range(g.rank), g.rank + 1))
        if g.groups > 1:  # stored: cleared again at every use, the words of a group would not vectorise
            x, w = materialize(x), materialize(w)
    x = x.reshape(*x.shape[:-1], g.groups, g.words)
    if g.groups > 1 and 1 < g.features // g.groups < VECTOR:
        x, case = _one_output_each(x, case)
        g = case.geometry
    counted = _count_unrolled if in_one_loop(g) else _count_in_chunks
    if case.on("cuda") and case.few_rows and g.groups == 1:
        counted = _count_by_reduction
    n = g.channels_per_group * LiveTaps.of(case).number()
    if _by_xor(case):
        u = n - 2 * counted(x, w, case)
    else:
        a, b = case.reading, case.right
        both, left, right = (a.one - a.zero) * (b.one - b.zero), b.zero * (a.one - a.zero), a.zero * (b.one - b.zero)
        u = both * counted(x, w, case)
        u = u + left * _ones_of_windows(x, g) if left else u
        u = u + right * LiveTaps.of(case).sum(_ones_of_kernel(w))[None] if right else u
        u = u + a.zero * b.zero * n if a.zero * b.zero else u
    return materialize(case.finish(u, terms))


def _by_xor(case: Case) -> bool:
    return case.left == case.right == SIGNS


def _one_output_each(x: jax.Array, case: Case) -> tuple[jax.Array, Case]:
    """The words of a group (N, *S, G, W) once for each of its outputs, as so many groups of one: (N, *S, O, W)."""
    g = case.geometry
    geometry = dataclasses.replace(g, channels=g.channels_per_group * g.features, groups=g.features)
    x = materialize(jnp.repeat(x, g.features // g.groups, axis=-2))
    return x, dataclasses.replace(case, geometry=geometry)


def in_one_loop(g: Geometry) -> bool:
    """Whether all words of a window are counted in one fused loop, and not chunk by chunk."""
    depth = g.taps * g.words
    return depth < 2 * CHUNK or depth <= min(UNROLLED, CACHED_WORDS // g.features)


def _count_unrolled(x: jax.Array, w: jax.Array, case: Case) -> jax.Array:
    """Population counts over the live words of each window: int32 (N, *S', O), in one fused loop."""
    g, live = case.geometry, LiveTaps.of(case)
    w = _split_groups(w, g)
    counts = []
    for tap in np.ndindex(*g.window):
        read, rows = see_through(tap, x, g), w[tap]
        mask = live.mask(tap) if _by_xor(case) else None
        for k in range(g.words):
            bits = _combine(read[..., k], rows[k], case)
            counts.append(_population(bits if mask is None else bits & mask))
    return _join_groups(functools.reduce(lax.add, counts), g)


def _count_in_chunks(x: jax.Array, w: jax.Array, case: Case) -> jax.Array:
    """The same, 16 to 20 words at a time."""
    g = case.geometry
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
        counts = [_population(_combine(some[..., j], rows[j], case)) for j in range(size)]
        return total + functools.reduce(lax.add, counts)

    # What a loop carries must start with the type, sharding included, that one turn of it returns.
    nothing = _population(_combine(words[..., 0], kernel[0], case) & np.uint32(0))
    start = nothing - _split_groups(_ones_of_dead_taps(w, case), g)[None]
    return _join_groups(lax.fori_loop(0, chunks, add_chunk, start), g)


def _count_by_reduction(x: jax.Array, w: jax.Array, case: Case) -> jax.Array:
    """The same of a few rows, bound by reading the kernel: a GPU adds up in parallel, in parts to have enough of it."""
    g = case.geometry
    spare = -g.words % PARTS  # words of zeros, which count for nothing
    x = jnp.pad(x[:, 0], [(0, 0), (0, spare)]).reshape(-1, PARTS, (g.words + spare) // PARTS, 1)
    w = jnp.pad(w, [(0, spare), (0, 0)]).reshape(1, PARTS, -1, g.features)
    bits = x ^ w if _by_xor(case) else x & w
    return jnp.sum(lax.optimization_barrier(jnp.sum(_population(bits), 2, dtype=jnp.int32)), 1, dtype=jnp.int32)


def _ones_of_dead_taps(w: jax.Array, case: Case) -> jax.Array:
    """What dead taps add to a count, their zero words being xor-ed with the kernel's: int32 (*S', O)."""
    g, live = case.geometry, LiveTaps.of(case)
    if live.all_live or not _by_xor(case):
        return jnp.zeros((1,) * g.rank + (g.features,), jnp.int32)
    return live.sum_of_dead(_ones_of_kernel(w))


def _ones_of_kernel(w: jax.Array) -> jax.Array:
    """Σj of each tap: words (*K, W, O) to int32 (*K, O). In halves, so that it vectorises over O, and is never long."""
    counts = _population(w)
    while (words := counts.shape[-2]) > 1:
        half = words // 2
        low, high, odd = counts[..., :half, :], counts[..., half : 2 * half, :], counts[..., 2 * half :, :]
        counts = jnp.concatenate([low + high, odd], axis=-2) if words % 2 else low + high
    return counts[..., 0, :]


def _ones_of_windows(x: jax.Array, g: Geometry) -> jax.Array:
    """Σi of each window: words (N, *S, G, W) of the padded image to int32 (N, *S', O), equal within a group."""
    ones = sum_windows(jnp.sum(_population(x), axis=-1, dtype=jnp.int32), g)
    return jnp.repeat(materialize(ones), g.features // g.groups, axis=-1)


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


def _combine(x: jax.Array, w: jax.Array, case: Case) -> jax.Array:
    """One word of every window (N, *S', G) with one of every kernel (G, O/G)."""
    x, w = x[..., None], lax.expand_dims(w, range(x.ndim - 1))
    return x ^ w if _by_xor(case) else x & w


def _population(bits: jax.Array) -> jax.Array:
    return population_count(bits).astype(jnp.int32)
