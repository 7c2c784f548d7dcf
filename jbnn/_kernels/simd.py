"""Native code for CPUs, compiled from C++: by the widest instructions that the processor has.

*Words with words* are counted. With X = popcount(x ^ w) over the live taps, Σij = (Σi + Σj - X) / 2, so that for all
readings (see popcount.py)

    2u  =  2·(a₁ - a₀)·(b₁ - b₀)·Σij + 2·b₀·(a₁ - a₀)·Σi + 2·a₀·(b₁ - b₀)·Σj + 2·n·a₀·b₀ + 2·(of taps outside)
        =  channel + pixel - (a₁ - a₀)·(b₁ - b₀)·X

where Σi makes a term of the pixels, and all that does not depend on them a term of each output channel in each box of
positions (boxes.py). *Reals with words* are added up by table, and the only term is that of taps outside.

The native code adds the terms and makes of u what leaves.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jbnn import _native
from jbnn._bits import WORD, population_count, used_bits
from jbnn._geometry import Geometry
from jbnn._kernels.boxes import Box, boxes
from jbnn._kernels.case import SIGNS, Affine, Bits, Case

OPAQUE = True

MOST_PREPARED = 10 * 2**20
"""Bytes that are prepared of a kernel while a program is lowered, which then holds them beside its words."""

LARGEST = np.iinfo(np.int32).max
LEAVES = {np.dtype(np.float32): 1, np.dtype(jnp.bfloat16): 2, np.dtype(np.uint32): 3}
REALS = tuple(map(np.dtype, (np.float32, jnp.bfloat16, np.float16, np.int8, np.uint8)))


def why_not(case: Case) -> str | None:
    """It is for CPUs, and for programs that stay here."""
    g = case.geometry
    if case.counts and _step(case) not in (1, 2, 4):
        return f"its bits stand for numbers whose steps make {_step(case)}, not 1, 2 or 4"
    if not case.counts and case.left not in REALS:
        return f"its tables are of float32, and x is {case.left}"
    if not case.counts and case.right != SIGNS:
        return f"its kernel's bits stand for -1 and 1, not for {case.right.zero} and {case.right.one}"
    if case.sums == np.int32 and 4 * case.largest_sum > LARGEST:
        return f"sums as large as {case.largest_sum} may not fit int32 on the way"
    if g.rank > 3:
        return f"an image has at most three spatial axes, and this has {g.rank}"
    if case.place is None:
        return None
    if not case.on("cpu"):
        return "it runs on CPUs only"
    if case.place.exported:
        return "an exported program may run anywhere: leave the choice to None"
    if not all(isinstance(n, int) for n in g.image):
        return "the image's rows must be known"
    of_pixel = g.groups * g.words if case.counts else g.channels
    if max(math.prod(g.image) * of_pixel, math.prod(g.output) * g.features, g.taps * g.words) > LARGEST:
        return "an image, its result or a window has 2^31 elements or more"
    return _native.why_not()


def faster(case: Case) -> bool:
    """Where there are instructions for it, enough output channels to share a window, and images that lie on one device.

    On a Zen 4, against what else would run: of words with words, 128 channels to 128 in 4 groups were 1.2 times as fast
    at least, in 8 groups 0.2 to 0.5 times; 64 to 16 2.4 times, 64 to 4 0.9 to 3; windows of 3 channels 0.8 times. Of
    reals, rows were 1.6 times as fast for 4 output channels and more; windows 1.1 times for 64 to 64 at least, by
    AVX2 0.7 times for 64 bytes to 32, and 0.2 to 1.3 times for 3 channels.
    """
    g = case.geometry
    outputs = g.features // g.groups
    if case.split or _native.paths()[:1] in ((), ("portable",)):
        return False
    if case.counts:
        return outputs >= (16 if g.groups == 1 else 32) and g.channels_per_group >= 8
    return outputs >= 4 if g.rank == 0 else outputs >= 64 and g.channels_per_group >= 32


def conv(x: jax.Array, w: jax.Array | np.ndarray, case: Case, terms: Any) -> jax.Array:
    """Words x (N, *S, G·W), or reals (N, *S, C), and words w (*K, W, O) to what leaves the case.

    A kernel that is given as an array of NumPy is a constant of the program: it is prepared once, here.
    """
    return conv_by(_native.paths()[0], x, w, case, terms)


def conv_by(path: str, x: jax.Array, w: jax.Array | np.ndarray, case: Case, terms: Any) -> jax.Array:
    """The same by one path."""
    g = case.geometry
    if not _can_leave(case):
        bare = dataclasses.replace(case, result=None)
        return case.finish(conv_by(path, x, w, bare, ()), terms)
    if case.counts:
        w = _without_spare_bits(w, g)  # reals meet them with zeros
    pixel = g.words if case.counts else g.channels_per_group
    found = boxes(g, by_outside=case.outside != 0)
    plan = np.array([box.numbers(g, words=g.words, pixel=pixel) for box in found], np.int32)
    numbers = np.array([*_call(path, case, pixel), *(_of_words(case) if case.counts else (0,) * 4)], np.int32)
    if case.counts:
        channel = _channel_term(w, case, found)
    else:
        x = x.astype(jnp.float32) if x.dtype == np.float16 else x
        channel = _outside_term(w, case, found)
    rows = w.reshape(-1, w.shape[-1])
    prepared = np.zeros(0, np.uint8)
    if case.counts and isinstance(rows, np.ndarray):
        prepared = _native.prepared(path, rows, g.groups, most=MOST_PREPARED)
    call = jax.ffi.ffi_call(
        "jbnn_words" if case.counts else "jbnn_reals",
        jax.ShapeDtypeStruct((x.shape[0], *g.output, case.last_axis), case.dtype),
    )
    return call(numbers, x, rows, channel, plan, *_operands(case.result, terms), prepared)


def _without_spare_bits(w: jax.Array | np.ndarray, g: Geometry) -> jax.Array | np.ndarray:
    """The kernel, with zeros where a bit is no channel's, and anything may be."""
    if g.channels_per_group % WORD == 0:
        return w
    return w & used_bits(g.channels_per_group).reshape((1,) * g.rank + (g.words, 1))


def _call(path: str, case: Case, pixel: int) -> list[int]:
    """The numbers of `Call` in simd.cc that words and reals have in common."""
    g = case.geometry
    leaves = 0 if case.result is None else LEAVES[case.dtype]
    low, high = case.result.clamp if isinstance(case.result, Affine) else (None, None)
    clamp = np.array([-np.inf if low is None else low, np.inf if high is None else high], np.float32)
    return [_native.PATHS[path], g.groups, g.words, pixel, leaves, *clamp.view(np.int32).tolist()]


def _step(case: Case) -> int:
    """(a₁ - a₀)·(b₁ - b₀)."""
    a, b = case.reading, case.right
    return (a.one - a.zero) * (b.one - b.zero)


def _can_leave(case: Case) -> bool:
    """Whether the native code can make what leaves of u."""
    g = case.geometry
    if isinstance(case.result, Bits):
        return case.counts and (g.groups == 1 or g.features // g.groups % WORD == 0)
    return case.result is None or case.dtype in LEAVES


def _operands(result: Affine | Bits | None, terms: Any) -> list[jax.Array]:
    """Two arrays, empty ones for those that are None."""
    if result is None:
        terms = None, None
    return [jnp.zeros(0, jnp.float32) if term is None else term for term in terms]


def _divisor(case: Case) -> int:
    """What is added up is 2u divided by this: u where every factor in 2u is even, and else 2u itself."""
    return 2 if _step(case) > 1 else 1


def _of_words(case: Case) -> list[int]:
    """Those of words: u = (channel + pixel - X·2^up) / 2^down, and what a bit that is 1 adds to `pixel`."""
    a, b, step, divisor = case.reading, case.right, _step(case), _divisor(case)
    used = int(used_bits(case.geometry.channels_per_group)[-1].astype(np.int32))
    up, down = (step // divisor).bit_length() - 1, int(divisor == 1)
    return [used, up, down, (step + 2 * b.zero * (a.one - a.zero)) // divisor]


def _channel_term(w: jax.Array | np.ndarray, case: Case, found: list[Box]) -> jax.Array:
    """What of u·2^down does not depend on the pixels: int32 (boxes, O)."""
    g, a, b, divisor = case.geometry, case.reading, case.right, _divisor(case)
    outside, n = int(case.outside), g.channels_per_group
    # What an element of Σj counts for, where its tap is live and where it is outside.
    of_live = (_step(case) + 2 * a.zero * (b.one - b.zero)) // divisor
    of_outside = 2 * outside * (b.one - b.zero) // divisor
    live, beyond = _taps(case, found)
    known = 2 * n * (a.zero * b.zero * live.sum(1) + outside * b.zero * beyond.sum(1)) // divisor
    term = jnp.broadcast_to(known.astype(np.int32)[:, None], (len(found), g.features))
    times = of_live * live + of_outside * beyond
    return term + jnp.matmul(times.astype(np.int32), _ones(w, g)) if times.any() else term


def _outside_term(w: jax.Array | np.ndarray, case: Case, found: list[Box]) -> jax.Array:
    """What taps outside add to sums of reals, (boxes, O); empty where they add nothing."""
    g = case.geometry
    if case.outside == 0 or not g.touches_border:
        return jnp.zeros((0, g.features), case.sums)
    signs = 2 * _ones(_without_spare_bits(w, g), g) - np.int32(g.channels_per_group)
    _, beyond = _taps(case, found)
    sums = jnp.matmul(beyond.astype(np.int32), signs)
    return sums.astype(case.sums) * np.asarray(case.outside, case.sums)


def _taps(case: Case, found: list[Box]) -> tuple[np.ndarray, np.ndarray]:
    """The live taps of each box, and those outside the image: int (boxes, taps)."""
    g = case.geometry
    live, outside = ([getattr(box, name)(g).ravel() for box in found] for name in ("live", "outside"))
    return np.array(live, int), np.array(outside, int)


def _ones(w: jax.Array | np.ndarray, g: Geometry) -> jax.Array:
    """Σj of each tap: int32 (taps, O)."""
    counts = jnp.sum(population_count(w).astype(jnp.int32), axis=-2, dtype=jnp.int32)
    return counts.reshape(g.taps, g.features)
