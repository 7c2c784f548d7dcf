"""Reals times ±1, straight from the words: a bit of the kernel chooses a product, and nothing is multiplied.

    u = Σ a·b,   b = ±1:   each term is a or -a

Every window is laid out as a row of reals, 32 to a word of the kernel, and the words are taken one after the other. A
program that names this kernel gets it for any number of rows; None stands for it only where `faster` says so.

*Few rows.* A word, shifted so that the bit lies in its sign, chooses between a and -a: three instructions for a term
(shift, choose, add) of a whole vector of output channels. 32 terms are added up in a tree, whose rounding error is
that of five additions. The kernel is read once and unpacked nowhere.

*Many rows.* A block of words that fits the second-level cache is unpacked to ±1 and multiplied with the rows by XLA's
float product, one block after the other. So unpacking is paid once for all rows, and no float leaves the cache.

Unused bits meet zeros, whose products are zeros, whatever the bits are. The same is true of taps outside an image that
reads 0 there and of the zeros between the pixels of a transposed convolution: no tap is dead.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._bits import WORD, unpack_bits
from jbnn._geometry import Geometry, pad_image
from jbnn._kernels.case import EXACT, SIGNS, Case

OPAQUE = False

# Up to so many rows choosing term by term is faster than unpacking a block for them.
FEW_ROWS = 8
# From here on a loop over the outputs of a group vectorises.
VECTOR = 8
# Windows of several taps, laid out as rows, take many times the image. Beyond this many rows it takes longer than to
# unpack the whole kernel, so `faster` says no: of a 3x3 window over 7x7 pixels, blocks were 1.1 times as fast for 392
# rows (two cores of a Zen 4, 2026-11-26), and 0.8 times for 1568 (by hand that day, on a machine not recorded).
MANY_ROWS = 400
# Floats of a block: 2 MiB, shared by two cores whose second-level caches hold 512 KiB each, was the fastest.
BLOCK = 2**19
# Of so many words of 8-bit integers float32 holds every sum.
EXACT_WORDS = EXACT // (255 * WORD)


def why_not(case: Case) -> str | None:
    """Bits on the left are counted, which is faster."""
    if case.counts:
        return "bits on both sides are counted"
    if case.right != SIGNS:
        return f"its kernel's bits stand for -1 and 1, not for {case.right.zero} and {case.right.one}"
    if not all(isinstance(n, int) for n in case.geometry.image):
        return "the image's rows must be known to lay out its windows"
    return None


def faster(case: Case) -> bool:
    """On a CPU, where positions are few for the outputs that share them, and words are at least half full.

    Windows of several taps must be few in all images, whose number has to be known. On a mesh these are the images of
    the whole program, and of a device only within `shard_map`: XLA shares a kernel in `lax` out after it was chosen.

    Against "unpacked", on two cores of a Zen 4, 2026-11-26: 4096 channels to 4096, 18 times as fast for 1 row, 1.2 for
    256; a 3x3 window of 512 channels to 512 over 7x7 pixels, 1.0 times for 1 image, 1.1 for 8. By hand that day, on a
    machine not recorded: 20 times for 2x2 pixels, but 0.7 times for 256 channels to 256 and 14x14 pixels.
    """
    g = case.geometry
    filled = 2 * g.channels_per_group >= g.words * WORD
    laid_out = g.taps == 1 or (case.images is not None and case.images * math.prod(g.output) <= MANY_ROWS)
    return case.on("cpu") and filled and laid_out and VECTOR * math.prod(g.output) <= g.features // g.groups


def conv(x: jax.Array, w: jax.Array, case: Case, terms: Any) -> jax.Array:
    """Reals (N, *S, C) and words w (*K, W, O) to what leaves the case."""
    g = case.geometry
    x = x.astype(case.sums)
    rows = _rows(pad_image(x, case.outside, g), g)
    w = w.reshape(g.taps * g.words, g.features)
    w = w.reshape(*w.shape[:1], g.groups, g.features // g.groups)
    count = x.shape[0] * math.prod(g.output) if isinstance(x.shape[0], int) else None
    few = count is not None and count <= FEW_ROWS and w.shape[-1] >= VECTOR
    u = _choose_terms(rows, w) if few else _multiply_blocks(rows, w)
    return case.finish(u.reshape(*u.shape[:-2], g.features), terms)


def _rows(image: jax.Array, g: Geometry) -> jax.Array:
    """Every window of the padded image (N, *S, C) as a row, zeros filling its words: (N, *S', G, taps·W, 32)."""
    image = image.reshape(*image.shape[:-1], g.groups, g.channels_per_group)
    unused = g.words * WORD - g.channels_per_group
    image = jnp.pad(image, [(0, 0)] * (image.ndim - 1) + [(0, unused)])
    for axis in range(g.rank):
        reads = g.reads(axis) + g.padding[axis][0]  # of the padded image, (S'_d, K_d)
        image = jnp.moveaxis(jnp.take(image, reads, axis=1 + axis), 2 + axis, -2)
    # First merged, then split: JAX does not follow a sharding through both at once.
    rows = image.reshape(image.shape[0], *g.output, g.groups, g.taps * g.words * WORD)
    return rows.reshape(*rows.shape[:-1], g.taps * g.words, WORD)


def _choose_terms(rows: jax.Array, w: jax.Array) -> jax.Array:
    """Rows (N, *S', G, depth, 32) times words (depth, G, O/G): (N, *S', G, O/G)."""
    # Two words a turn load and store the sums half as often. For a single row LLVM then vectorises nothing.
    return _add_up(_chosen, rows, w, words=1 if math.prod(rows.shape[:-3]) == 1 else 2)


def _multiply_blocks(rows: jax.Array, w: jax.Array) -> jax.Array:
    """The same, a block of words after the other."""
    words = max(BLOCK // (WORD * math.prod(w.shape[1:])), 1)
    return _add_up(_product, rows, w, words=words if rows.dtype != np.int32 else min(words, EXACT_WORDS))


def _add_up(part: Callable[[jax.Array, jax.Array], jax.Array], rows: jax.Array, w: jax.Array, words: int) -> jax.Array:
    """`part`(rows, w) over runs of at most so many words, added up."""
    depth = w.shape[0]
    turns = -(-depth // words)
    if turns == 1:
        return part(rows, w)
    size = -(-depth // turns)
    spare = turns * size - depth  # words whose reals are zeros
    rows = jnp.pad(rows, [(0, 0)] * (rows.ndim - 2) + [(0, spare), (0, 0)])
    w = jnp.pad(w, [(0, spare), (0, 0), (0, 0)])

    def add_run(i: jax.Array, total: jax.Array) -> jax.Array:
        some = lax.dynamic_slice_in_dim(rows, i * size, size, axis=-2)
        return total + part(some, lax.dynamic_slice_in_dim(w, i * size, size, axis=0))

    # What a loop carries must start with the type, sharding included, that one turn of it returns.
    nothing = (_choose(rows[..., 0, 0], w[0]) == 0).astype(rows.dtype) * np.zeros((), rows.dtype)
    return lax.fori_loop(0, turns, add_run, nothing)


def _chosen(rows: jax.Array, w: jax.Array) -> jax.Array:
    terms = []
    for word in range(w.shape[0]):
        for bit in range(WORD):
            terms.append(_choose(rows[..., word, bit], w[word] << np.uint32(WORD - 1 - bit)))
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]


def _choose(a: jax.Array, w: jax.Array) -> jax.Array:
    """a (N, *S', G) where the highest bit of a word (G, O/G) is 1, and -a where it is 0: (N, *S', G, O/G)."""
    a = a[..., None]
    positive = lax.bitcast_convert_type(w, np.int32) < 0
    return jnp.where(lax.expand_dims(positive, range(a.ndim - 2)), a, -a)


def _product(rows: jax.Array, w: jax.Array) -> jax.Array:
    floats = jnp.float32 if rows.dtype == np.int32 else rows.dtype
    bits = unpack_bits(w, w.shape[0] * WORD, axis=0, groups=1)
    signs = jnp.where(bits, jnp.array(1, floats), jnp.array(-1, floats))
    a = rows.reshape(*rows.shape[:-2], -1).astype(floats)
    if w.shape[1] == 1:  # a product of matrices, and not of batches of one
        u = jnp.einsum("...k,ko->...o", a[..., 0, :], signs[:, 0])[..., None, :]
    else:
        u = jnp.einsum("...gk,kgo->...go", a, signs)
    return u.astype(rows.dtype)
