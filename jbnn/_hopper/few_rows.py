"""How a few rows of reals are laid out for words of a kernel that are read once: see few_rows_body.py.

A product of tensor cores takes 16 terms of 8 rows. Which these are does not matter, as long as both sides agree: each
of the four lanes that share a row has a word of its own, and of that bits b and b + 16, and b + 8 and b + 24.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WARPS = 8
WORDS, ROWS = 4, 8
MOST_ROWS = 32
"""Rows of one block; more go to more blocks, which read the words again."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Words (depth, features), and rows in parts of 8 of which a block takes `parts`."""

    depth: int
    features: int
    rows: int

    @property
    def parts(self) -> int:
        return min(-(-self.rows // ROWS), MOST_ROWS // ROWS)

    @property
    def channels(self) -> int:
        """Of a block: for few rows fewer, so that more blocks are under way."""
        return 32 if self.parts == 1 else 64

    @property
    def row_blocks(self) -> int:
        return -(-self.rows // (ROWS * self.parts))

    @property
    def channel_blocks(self) -> int:
        return -(-self.features // self.channels)

    @property
    def groups(self) -> int:
        """Of four words."""
        return -(-self.depth // WORDS)

    @property
    def shared(self) -> tuple[int, ...]:
        """Floats that meet there."""
        return (WARPS, self.parts * ROWS, self.channels)


def terms(x: jax.Array, layout: Layout) -> jax.Array:
    """bfloat16 (rows, K) as a thread reads it: int32 (row blocks, groups, 4, parts, lanes·rows, 4)."""
    shape = layout.row_blocks * layout.parts * ROWS, layout.groups * WORDS * 32
    x = jnp.pad(x, [(0, size - given) for size, given in zip(shape, x.shape, strict=True)])
    # Of 32 bits: halves, eights, and twice four pairs of bits.
    x = x.reshape(layout.row_blocks, layout.parts, ROWS, layout.groups, WORDS, 2, 2, 4, 2)
    x = x.transpose(0, 3, 7, 1, 2, 4, 8, 6, 5)
    x = lax.bitcast_convert_type(x, np.int32)
    return x.reshape(layout.row_blocks, layout.groups, 4, layout.parts, ROWS * WORDS, 4)
