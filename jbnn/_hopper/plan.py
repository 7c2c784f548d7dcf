"""How one correlation is laid out on the chip: a pure function of its geometry, and the tables that the kernel reads.

    Σij = popcount(x & w) of positions (rows) and filters (columns):  a product of matrices over {0, 1}

A *block* of threads holds `filters` filters of one group in shared memory, for as long as it lives. Its warpgroups
take *tiles* of 64 output positions, whose windows they gather from the image straight into registers: there is no
matrix of windows anywhere, and no padded image. One instruction multiplies 64 rows of 256 bits, a *step*.

In a step a thread holds two words of each of its two rows, and which words these are is free, as long as filters are
laid out alike. The four *lanes* that share a row (a quad) are therefore dealt whole vectors of up to four words, side
by side in memory: one *load* gives every lane of a quad a vector of its own.

Where a tap sees no pixel, its words are not loaded but 0, and count for nothing. Whether it does is the product of
what holds along each axis: an output has a *mask* with a field of bits for each axis, and a tap sees a pixel if its
bit in every field is set. So a vector's place and its mask are sums of what belongs to the output and to the tap:

    row of the image  =  ⌊(y·stride - padding) / e⌋ + ⌈k·dilation / e⌉,     e - 1 zeros lying between two pixels
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import numpy as np

from jbnn._bits import used_bits
from jbnn._geometry import Geometry
from jbnn._hopper.formula import Formula
from jbnn._kernels.boxes import Box, spans

LANES = 4
ROWS = 64
"""Rows of one instruction."""
COUNTING = 16
"""Columns behind those of the filters, which count the bits of a window: their filter is all ones."""
FILTERS = (128, 64, 32)
MASK_BITS = 31
SHORT_MASK = 15
"""Bits of masks; with this many, mask and class of an output fit a word."""
MOST_ENTRIES = 2**14
"""Positions of an image that are looked up as they are, and not axis by axis."""
SHARED_MEMORY = 220 * 1024
"""Bytes of it that a block takes at most."""


@dataclasses.dataclass(frozen=True)
class Load:
    """One load of every lane of a quad: so many words from (tap, word), or None."""

    width: int
    vectors: tuple[tuple[int, int] | None, ...]

    @property
    def in_a_row(self) -> bool:
        """Whether the lanes' vectors lie side by side in one pixel."""
        places = [divmod(word, self.width)[0] for _, word in filter(None, self.vectors)]
        return len({tap for tap, _ in filter(None, self.vectors)}) == 1 and np.diff(places).tolist() == [1] * 3


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the kernel's text depends on."""

    geometry: Geometry
    images: int
    filters: int  # of a block
    slots: int  # blocks that share the tiles of one such set of filters
    by_outside: bool

    @property
    def pixel_bytes(self) -> int:
        return 4 * self.geometry.groups * self.geometry.words

    @property
    def image_bytes(self) -> int:
        return self.pixel_bytes * math.prod(self.geometry.image)

    @property
    def warpgroups(self) -> int:
        """Of a block: as many as registers for the counts of each allow."""
        return 4 if self.filters == 128 else 5

    @property
    def threads(self) -> int:
        return 128 * self.warpgroups

    @property
    def digits(self) -> tuple[int, ...]:
        """A position within an image, as digits with an entry of the table each: one where that table is small."""
        output = self.geometry.output
        return (math.prod(output),) if output and math.prod(output) <= MOST_ENTRIES else output

    @property
    def always_inside(self) -> bool:
        """Whether every tap of every output sees a pixel."""
        g = self.geometry
        return all(g.on_pixel(axis).all() for axis in range(g.rank))

    @property
    def mask_bits(self) -> int:
        return SHORT_MASK if sum(self.geometry.window) <= SHORT_MASK else MASK_BITS

    @property
    def nowhere(self) -> int:
        """The mask of a vector that no lane has: no output sets this bit."""
        return 1 << self.mask_bits

    @property
    def loads(self) -> list[Load]:
        return loads(self.geometry)

    @property
    def steps(self) -> int:
        return -(-sum(load.width for load in self.loads) // 2)

    @property
    def columns(self) -> int:
        return self.filters + COUNTING

    @property
    def sets(self) -> int:
        """Sets of filters of one group."""
        return -(-(self.geometry.features // self.geometry.groups) // self.filters)

    @property
    def full(self) -> bool:
        """Whether every block has as many filters as it can hold."""
        return self.geometry.features // self.geometry.groups % self.filters == 0

    @property
    def blocks(self) -> int:
        return self.geometry.groups * self.sets * self.slots

    @property
    def positions(self) -> int:
        return self.images * math.prod(self.geometry.output)

    @property
    def tiles(self) -> int:
        return -(-self.positions // ROWS)

    @property
    def classes(self) -> int:
        """Classes of positions that see the same taps."""
        return math.prod(len(each) for each in self.spans)

    @property
    def spans(self) -> list:
        g = self.geometry
        return [spans(g, axis, by_inside=self.by_outside) for axis in range(g.rank)]

    @property
    def boxes(self) -> list[Box]:
        """The positions of each class."""
        return [Box(each) for each in itertools.product(*self.spans)]


@functools.lru_cache(64)
def loads(g: Geometry) -> list[Load]:
    """All words of a window, dealt to the lanes of a quad, vector by vector."""
    width = math.gcd(g.words, 4)
    rest = g.taps * g.words // width % LANES
    parts = [(width, g.taps * g.words - rest * width)]
    # Vectors of four words that only one or two lanes would have take one step, and not two, in halves.
    parts.append((2 if width == 4 and rest <= 2 else width, rest * width))
    result, done = [], 0
    for wide, words in parts:
        firsts: list[tuple[int, int] | None] = [divmod(done + word, g.words) for word in range(0, words, wide)]
        firsts += [None] * (-len(firsts) % LANES)
        result += [Load(wide, tuple(firsts[i : i + LANES])) for i in range(0, len(firsts), LANES)]
        done += words
    return result


def plan(g: Geometry, images: int, *, processors: int, by_outside: bool, formula: Formula) -> Plan | None:
    """The largest blocks that leave every processor work; None if not even the smallest fit.

    Few positions leave few tiles for each set of filters: then more, smaller sets keep more processors busy.
    """
    fitting = [
        each
        for filters in FILTERS
        if (each := Plan(g, images, filters, 1, by_outside)) and shared_memory(each, formula) <= SHARED_MEMORY
    ]
    if not fitting:
        return None
    of_group = g.features // g.groups
    best = fitting[0]
    for smaller in fitting[1:]:
        idle = best.tiles * best.sets * g.groups < processors
        if idle or of_group <= smaller.filters:
            best = smaller
    slots = max(processors // (best.sets * g.groups), 1)
    return dataclasses.replace(best, slots=min(slots, best.tiles))


def shared_memory(plan: Plan, formula: Formula) -> int:
    """Bytes that a block takes."""
    return sum(4 * math.prod(shape) for shape in shared_shapes(plan, formula))


def shared_shapes(plan: Plan, formula: Formula) -> tuple[tuple[int, ...], ...]:
    """int32 arrays: filters and loads; the table of each position class and filter; a barrier."""
    filters = plan.steps * 2 * plan.columns * LANES + len(plan.loads) * LANES * 2
    table = plan.classes * formula.table_bytes * plan.filters // 4
    more = LANES if formula.leaves == "words" else plan.filters * formula.more_rows
    return (filters,), (table + more,), (4,)


def of_outputs(plan: Plan) -> np.ndarray:
    """For the outputs of each of `plan.digits`, one after the other: bytes to the row read, mask, class. int32 (…, 4).

    Where masks are short, a class stands in the upper half of its mask's word: (…, 2).
    """
    g = plan.geometry
    tables: list[np.ndarray] = []
    pitch, shift, stride = row_bytes(plan), 0, 1
    for axis in reversed(range(g.rank)):
        s, e = g.strides[axis], g.lhs_dilation[axis]
        entries = np.zeros((g.output[axis], 3), np.int64)
        entries[:, 0] = (np.arange(g.output[axis]) * s - g.padding[axis][0]) // e * pitch[axis]
        entries[:, 1] = g.on_pixel(axis) @ (1 << (shift + np.arange(g.window[axis])))
        for index, span in enumerate(plan.spans[axis]):
            entries[list(span.output), 2] = index * stride
        tables.insert(0, entries)
        shift, stride = shift + g.window[axis], stride * len(plan.spans[axis])
    if len(plan.digits) == 1:
        tables = [functools.reduce(lambda a, b: (a[:, None] + b).reshape(-1, 3), tables)]
    entries = np.concatenate([np.zeros((0, 3), np.int64), *tables])
    if plan.mask_bits == SHORT_MASK:
        return np.stack([entries[:, 0], entries[:, 1] | entries[:, 2] << 16], axis=1).astype(np.int32)
    return np.pad(entries, [(0, 0), (0, 1)]).astype(np.int32)


def of_loads(plan: Plan) -> np.ndarray:
    """For every load and lane: bytes to the vector, and the mask that an output must have. int32 (loads, 4, 2)."""
    g = plan.geometry
    table = np.zeros((len(plan.loads), LANES, 2), np.int64)
    table[..., 1] = plan.nowhere
    pitch = row_bytes(plan)
    for i, load in enumerate(plan.loads):
        for lane, vector in enumerate(load.vectors):
            if vector is None:
                continue
            tap, word = vector
            taps, shift, mask = np.unravel_index(tap, g.window) if g.rank else (), 0, 0
            place = 4 * word
            for axis in reversed(range(g.rank)):
                k, e = int(taps[axis]), g.lhs_dilation[axis]
                place += -(-k * g.rhs_dilation[axis] // e) * pitch[axis]
                mask |= 1 << (shift + k)
                shift += g.window[axis]
            table[i, lane] = place, mask
    return table.astype(np.uint32).view(np.int32)


def of_filters(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """For every half of a step and lane: the row of w (taps·W, O), and its used bits. int and uint32 (2·steps, 4)."""
    g = plan.geometry
    rows, used = np.zeros((2 * plan.steps, LANES), int), np.zeros((2 * plan.steps, LANES), np.uint32)
    of_word = used_bits(g.channels_per_group)
    half = 0
    for load in plan.loads:
        for lane, vector in enumerate(load.vectors):
            for i in range(load.width if vector else 0):
                tap, word = vector[0], vector[1] + i  # type: ignore[index]
                rows[half + i, lane], used[half + i, lane] = tap * g.words + word, of_word[word]
        half += load.width
    return rows, used


def row_bytes(plan: Plan) -> list[int]:
    """Bytes from a row of the image to the next, along each axis."""
    pitch = [plan.pixel_bytes]
    for n in reversed(plan.geometry.image[1:]):
        pitch.insert(0, pitch[0] * n)
    return pitch


def channel_of(lane: Any, index: Any, filters: int, leaves_bytes: int | None) -> Any:
    """The filter that is a lane's `index`-th: of runs of 16 bytes of what leaves, dealt to the lanes in turn.

    Of words (None), with 128, 64 or 32 filters, 1, 2 or 4 lanes share one, and each has every eighth bits of it.
    """
    if leaves_bytes is None:
        sharing = 128 // filters
        return lane // sharing * 32 + index % 4 * 8 + lane % sharing * (8 // sharing) + index // 4
    run = 16 // leaves_bytes
    return index // run * (LANES * run) + lane * run + index % run
