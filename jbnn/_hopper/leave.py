"""What becomes of the counts: u, floats or words, to memory.

A block's table holds c of every class of positions and channel, as the end of the formula wants it, in the order in
which a lane meets its channels, four (eight of 16 bits) side by side; then what else a channel has: scale and bias.

*Words.* A bit is 1 where u - t >= 0. Two channels are done at once, a half of a register each, with

    v + 32768  =  (both/h)·Σij + (left/h)·Σi + ⌊(c - t)/h⌋ + 32768,     h = gcd(both, left)

whose highest bit is the answer. One instruction spreads four such bits over the bytes of a register, so a lane's
channels are neighbours in every eighth bit.

*Floats.* An integer s is added to the bits of 12582912, which are then those of 12582912 + s; what is added next,
c - 12582912, makes it s + c without an instruction that converts, and exactly.
"""

import math
from typing import Any

from jbnn._hopper import ptx
from jbnn._hopper.formula import MAGIC, Formula
from jbnn._hopper.memory import Block, Memory, Row
from jbnn._hopper.plan import LANES, Plan
from jbnn._hopper.ptx import Int


def leave(
    plan: Plan,
    formula: Formula,
    memory: Memory,
    block: Block,
    lane: Int,
    rows: list[Row],
    acc: list[Int],
    flips: Int | None,
) -> None:
    """Stores what a thread's two rows of a tile become."""
    counted = [Counted(plan, formula, memory, lane, row, acc, half) for half, row in enumerate(rows)]
    if flips is None:
        store_numbers(plan, formula, memory, block, lane, counted)
        return
    bits = halves if formula.in_halves else wholes
    for row in counted:
        store_word(plan, memory, block, row.row, lane, bits(formula, row), flips)


class Counted:
    """What a thread has of one row."""

    def __init__(
        self, plan: Plan, formula: Formula, memory: Memory, lane: Int, row: Row, acc: list[Int], half: int
    ) -> None:
        n = plan.filters
        self.row = row
        self.counts = [acc[4 * (i // 2) + 2 * half + i % 2] for i in range(n // LANES)]
        self.window = acc[n // 2 + 2 * half]
        self.terms = memory.shared_table + lane * 16 + row.box * (formula.table_bytes * n)  # c of its class


def flip_word(plan: Plan, formula: Formula, memory: Memory, lane: Int) -> Int | None:
    """Of the word that this lane has a part in: the bits that leave the other way round."""
    if formula.leaves != "words":
        return None
    begin = memory.shared_table + plan.classes * formula.table_bytes * plan.filters
    return ptx.load("shared", begin + lane // (128 // plan.filters) * 4, 1)[0]


def halves(formula: Formula, row: Counted) -> Int:
    """Whether u >= t, for two channels at once."""
    h = 1 << formula.shift
    of_row = row.window * (formula.left // h * 65537)
    word = Int.of(0)
    for k in range(len(row.counts) // 8):
        found = []
        for j, c in enumerate(ptx.load("shared", row.terms, 4, offset=64 * k)):
            low, high = row.counts[8 * k + 2 * j : 8 * k + 2 * j + 2]
            found.append(ptx.lower_halves(low, high) * (formula.both // h) + (c + of_row))
        for i in (0, 1):
            spread = ptx.spread_halves(found[2 * i], found[2 * i + 1])
            word = word | spread & (0x01010101 << (2 * k + i))
    return word


def wholes(formula: Formula, row: Counted) -> Int:
    """The same where a difference needs more than 16 bits."""
    word, chunks = Int.of(0), range(len(row.counts) // 4)
    for k in chunks:
        four = zip(row.counts[4 * k : 4 * k + 4], ptx.load("shared", row.terms, 4, offset=64 * k), strict=True)
        found = [u * formula.both + (c + row.window * formula.left) for u, c in four]
        word = word | ptx.spread(found) & (0x01010101 << k)
    return word ^ sum(0x01010101 << k for k in chunks)


def store_word(plan: Plan, memory: Memory, block: Block, row: Row, lane: Int, word: Int, flips: Int) -> None:
    """A word, of which each of so many neighbouring lanes has every eighth bits."""
    sharing = 128 // plan.filters
    owner = row.position < plan.positions
    of_word = lane // sharing
    if sharing > 1:
        mine = Int.of(sum(0x01010101 << k for k in range(8 // sharing)))
        word = (word & mine) << (lane % sharing * (8 // sharing))
        for apart in (1, 2)[: sharing // 2]:
            word = word | ptx.of_neighbour(word, apart)
        owner = ptx.both(owner, (lane % sharing).eq(0))
    if not plan.full:
        owner = ptx.both(owner, (of_word * 32) < block.valid)
    words = -(-plan.geometry.features // 32)
    place = row.position.wide() * words + (block.first // 32 + of_word).wide()
    ptx.store_global(memory.out + place * 4, [word ^ flips], owner)


def store_numbers(plan: Plan, formula: Formula, memory: Memory, block: Block, lane: Int, rows: list[Counted]) -> None:
    """Sixteen bytes a store, or fewer where a run of channels may go beyond the last, or be out of step with them."""
    size, g = formula.bytes, plan.geometry
    assert size is not None
    run = 16 // size
    at_once = math.gcd(run, g.features // g.groups)
    of_lane = memory.out + (block.first + lane * run).wide() * size
    starts = [of_lane + row.row.position.wide() * (g.features * size) for row in rows]
    exist = [row.row.position < plan.positions for row in rows]
    for i in range(plan.filters // (LANES * run)):
        chunks = range(i * run // 4, (i + 1) * run // 4)
        terms = [shared_terms(plan, formula, memory, lane, k) for k in chunks]
        # Where all positions are of one class, its c serves both rows.
        shared_c = [ptx.load("shared", rows[0].terms, 4, offset=64 * k) for k in chunks] if plan.classes == 1 else None
        for row, start, exists in zip(rows, starts, exist, strict=True):
            c = shared_c or [ptx.load("shared", row.terms, 4, offset=64 * k) for k in chunks]
            given = zip(chunks, c, terms, strict=True)
            values = [value for k, each, more in given for value in four(formula, row, k, each, more)]
            words = ptx.in_pairs(values) if size == 2 else [ptx.bits_of(value) for value in values]
            for j in range(0, run, at_once):
                channel = lane * run + (i * LANES * run + j)
                where = exists if plan.full else ptx.both(exists, channel < block.valid)
                offset = 16 * LANES * i + size * j
                if at_once * size == 2:
                    ptx.store_half(start, words[j // 2] >> 16 * (j % 2), where, offset)
                else:
                    some = words[j * size // 4 : (j + at_once) * size // 4]
                    # As what is read once: images and filters are more, and keep their places in the cache.
                    ptx.store_global(start, some, where, offset, ".cs")


def shared_terms(plan: Plan, formula: Formula, memory: Memory, lane: Int, k: int) -> list[list[Int]]:
    """Scale and bias of a lane's next four channels; of sums nothing."""
    begin = memory.shared_table + lane * 16 + plan.classes * formula.table_bytes * plan.filters
    return [ptx.load("shared", begin, 4, offset=64 * k + 4 * plan.filters * i) for i in range(formula.more_rows)]


def four(formula: Formula, row: Counted, k: int, c: list[Int], more: list[list[Int]]) -> list[Any]:
    """u of four channels, or clamp(u·scale + bias), rounded after the product and after the sum."""
    of_row = row.window * formula.left + (MAGIC if formula.by_magic else 0)
    sums = [u * formula.both + of_row for u in row.counts[4 * k : 4 * k + 4]]
    if formula.leaves == "sums":
        return [(u + each).value for u, each in zip(sums, c, strict=True)]
    values = []
    for u, each, *terms in zip(sums, c, *more, strict=True):
        y = ptx.rounded("add", u.as_float(), each.as_float()) if formula.by_magic else (u + each).converted()
        if formula.scales:
            y = ptx.rounded("mul", y, terms[0].as_float())
        if formula.shifts:
            y = ptx.rounded("add", y, terms[-1].as_float())
        values.append(ptx.clamped(y, formula.low, formula.high))
    return values
