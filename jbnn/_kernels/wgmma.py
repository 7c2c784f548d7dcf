"""The tensor cores of NVIDIA's Hopper (H100, H200).

*Words with words*, on the binary ones: 64 rows of 256 bits times up to 144 filters an instruction. They multiply and
add {0, 1}, which is Σij, and with a filter of ones Σi. So for all readings (see popcount.py), with what taps outside
the image read,

    u  =  (a₁ - a₀)·(b₁ - b₀)·Σij + b₀·(a₁ - a₀)·Σi + c,    c = a₀·(b₁ - b₀)·Σj + n·a₀·b₀ + (of taps outside)

where c depends on the output channel and on which taps see a pixel: positions fall into classes (boxes.py). It is one
small product over the kernel's words, made beside the call, and so are the thresholds, which are subtracted from it.

*Reals with words*, rows of a dense layer, few of them: on those of bfloat16, from words that are read once. A number
of more than 8 significant bits is the exact sum of two or three that have 8, each a row of its own.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._bits import WORD, pack_bits, population_count, used_bits
from jbnn._hopper import arrange, launch
from jbnn._hopper.few_rows import Layout
from jbnn._hopper.formula import Formula
from jbnn._hopper.plan import MASK_BITS, Plan, plan
from jbnn._kernels.case import EXACT, SIGNS, Bits, Case

OPAQUE = True

HOPPER = "H100", "H200", "H800", "H20", "GH200"
LARGEST = np.iinfo(np.int32).max
PARTS = {np.dtype(t): n for t, n in ((jnp.bfloat16, 1), (np.int8, 1), (np.uint8, 1), (np.float16, 2), (np.float32, 3))}
"""Numbers of 8 significant bits whose sum one is."""
FEW_ROWS = 64
"""Rows of 8 significant bits up to which reading words was faster than unpacking them once."""
LEAVES = {np.dtype(np.float32): "float32", np.dtype(jnp.bfloat16): "bfloat16", np.dtype(np.uint32): "words"}


def why_not(case: Case) -> str | None:
    """It is for Hopper, and for programs that stay here."""
    g = case.geometry
    reason = _why_not_words(case) if case.counts else _why_not_reals(case)
    if reason is not None or case.place is None:
        return reason
    if not case.on("cuda"):
        return "it runs on NVIDIA GPUs only"
    if case.place.exported:
        return "an exported program may run anywhere: leave the choice to None"
    if case.place.device is None or not any(name in case.place.device for name in HOPPER):
        return f"binary tensor cores are Hopper's (H100, H200), and this is {case.place.device}"
    if case.images is None or not all(isinstance(n, int) for n in g.image):
        return "the number of images and their rows must be known"
    if case.counts:
        image = 4 * g.groups * g.words * math.prod(g.image)
        if case.images * max(math.prod(g.output), image) > LARGEST:
            return "x has more than 2^31 bytes, or the result more than 2^31 positions"
        if _plan(case) is None:
            return f"a window of {g.taps * g.words} words, or its table, outgrows shared memory"
    return launch.why_not()


def _why_not_words(case: Case) -> str | None:
    g = case.geometry
    if 4 * case.largest_sum > LARGEST:
        return f"sums as large as {case.largest_sum} may not fit int32 on the way"
    if g.rank > 3:
        return f"an image has at most three spatial axes, and this has {g.rank}"
    if sum(g.window) > MASK_BITS:
        return f"the sizes of a window add up to {MASK_BITS} at most, and these to {sum(g.window)}"
    return None


def _why_not_reals(case: Case) -> str | None:
    g = case.geometry
    if case.left not in PARTS:
        return f"its products are of bfloat16, and x is {case.left}"
    if g.rank or g.groups > 1:
        return "of real values it takes rows of a dense layer, and no windows"
    if g.features % 8:
        return f"of real values it takes output channels by 8, and not {g.features}"
    if case.right != SIGNS:
        return f"its kernel's bits stand for -1 and 1, not for {case.right.zero} and {case.right.one}"
    if case.sums == np.int32 and case.largest_sum > EXACT:
        return f"float32 sums as large as {case.largest_sum} are not exact"
    return None


def faster(case: Case) -> bool:
    """Where images lie on one device, and outputs are enough to share a window.

    A few rows of words on a large dense kernel are left to "popcount", which reads the kernel once; here it would have
    to be arranged first.
    """
    g = case.geometry
    if not case.counts:
        return case.images is not None and case.images * _parts(case) <= FEW_ROWS
    return not case.split and not case.few_rows and g.features // g.groups >= 32


def conv(x: jax.Array, w: jax.Array | np.ndarray, case: Case, terms: Any) -> jax.Array:
    """Words x (N, *S, G·W) and w (*K, W, O) to what leaves the case."""
    g = case.geometry
    if not case.counts:
        return case.finish(_sums_of_reals(x, w, case), terms)
    if not _can_leave(case):
        bare = dataclasses.replace(case, result=None)
        return case.finish(conv(x, w, bare, ()), terms)
    case = dataclasses.replace(case, images=x.shape[0])
    layout = _plan(case)
    assert layout is not None
    formula = _formula(case, terms)
    rows = w.reshape(-1, g.features)
    dtype = np.dtype(np.int32) if case.dtype == np.uint32 else case.dtype
    y = launch.correlate(
        layout,
        formula,
        lax.bitcast_convert_type(x, np.int32),
        arrange.filters(layout, formula, rows),
        _table(layout, formula, rows, case, terms),
        jax.ShapeDtypeStruct((case.images, *g.output, case.last_axis), dtype),
    )
    return lax.bitcast_convert_type(y, np.uint32) if case.dtype == np.uint32 else y


def _parts(case: Case) -> int:
    return PARTS[case.left] if isinstance(case.left, np.dtype) else 0


def _sums_of_reals(x: jax.Array, w: jax.Array | np.ndarray, case: Case) -> jax.Array:
    """Reals (N, C) and words w (W, O) to u (N, O)."""
    parts = _parts(case)
    rest, rows = x.astype(jnp.float32), []
    for _ in range(parts):
        # The upper half of its bits: 8 significant ones. What is no finite number has no rest.
        upper = lax.bitcast_convert_type(rest, np.uint32) & np.uint32(0xFFFF0000)
        part = jnp.where(jnp.isnan(rest), np.float32(np.nan), lax.bitcast_convert_type(upper, np.float32))
        rows.append(part.astype(jnp.bfloat16))
        rest = jnp.where(jnp.isfinite(part), rest - part, 0)
    layout = Layout(w.shape[0], w.shape[1], parts * x.shape[0])
    given = jnp.stack(rows).reshape(layout.rows, x.shape[1])
    words = lax.bitcast_convert_type(jnp.asarray(w), np.int32)
    u = launch.multiply_rows(layout, given, words).reshape(parts, x.shape[0], -1)
    return jnp.sum(u[::-1], axis=0).astype(case.sums)


def _can_leave(case: Case) -> bool:
    """Whether the kernel can make what leaves of u."""
    g = case.geometry
    if isinstance(case.result, Bits):
        return g.groups == 1 or g.features // g.groups % WORD == 0
    return case.result is None or case.dtype in LEAVES


def _formula(case: Case, terms: Any) -> Formula:
    a, b = case.reading, case.right
    both, left = (a.one - a.zero) * (b.one - b.zero), b.zero * (a.one - a.zero)
    if case.result is None:
        return Formula(both, left, case.largest_sum, "sums")
    if isinstance(case.result, Bits):
        return Formula(both, left, case.largest_sum, "words")
    scales, shifts = (term is not None for term in terms)
    return Formula(both, left, case.largest_sum, LEAVES[case.dtype], scales, shifts, *case.result.clamp)


def _plan(case: Case) -> Plan | None:
    leaves = case if _can_leave(case) else dataclasses.replace(case, result=None)
    return plan(
        case.geometry,
        case.images or 0,
        processors=launch.processors(),
        by_outside=case.outside != 0,
        formula=_formula(leaves, (0, 0)),  # which terms there are is not known yet
    )


def _table(layout: Plan, formula: Formula, w: arrange.Array, case: Case, terms: Any) -> arrange.Array:
    """c of each class, less the threshold of bits, and what else the result needs of a channel."""
    c = _constant(layout, w, case)
    if case.result is None:
        return arrange.table(layout, formula, c, [])
    if isinstance(case.result, Bits):
        value, flip = terms
        # No sum is further out, so that a difference fits int32.
        value = jnp.clip(value, -case.largest_sum, case.largest_sum + 1)
        return arrange.table(layout, formula, jnp.asarray(c) - value[None], [pack_bits(flip)])
    return arrange.table(layout, formula, c, [term for term in terms if term is not None])


def _constant(layout: Plan, w: arrange.Array, case: Case) -> arrange.Array:
    """c of each class: int32 (classes, O)."""
    g, a, b = case.geometry, case.reading, case.right
    outside, n = int(case.outside), g.channels_per_group
    live, beyond = (
        np.array([getattr(box, name)(g).ravel() for box in layout.boxes], np.int32) for name in ("live", "outside")
    )
    taps = a.zero * live + outside * beyond
    known = n * b.zero * taps.sum(1, dtype=np.int32)
    of_words = np.repeat(taps * (b.one - b.zero), g.words, axis=1)  # (classes, taps·W)
    used = np.tile(used_bits(n), g.taps)[:, None]
    if isinstance(w, np.ndarray):
        ones = np.unpackbits((w & used)[..., None].view(np.uint8), axis=-1).sum(-1, dtype=np.int32)
        return known[:, None] + of_words @ ones
    ones = population_count(w & used).astype(jnp.int32)
    return known[:, None] + jnp.sum(of_words[:, :, None] * ones[None], axis=1, dtype=jnp.int32)
