"""A few rows of reals times words, bound by reading the words once: ±1 are made of them in registers.

A block has 32 or 64 output channels, and each of its eight warps every eighth group of four words. A thread takes one
word of such a group for four or eight channels, all 32 bits of it. A product of tensor cores, 16 channels x 16 terms x
8 rows, wants two pairs of terms from a thread, and one shift brings a pair of bits to the places of two signs:

    ±1, ±1 in bfloat16  =  (~word << (15 - b)) & 0x80008000 | 0x3F803F80

The warps' sums meet in shared memory.
"""

from jbnn._hopper import ptx
from jbnn._hopper.few_rows import ROWS, WARPS, WORDS, Layout
from jbnn._hopper.ptx import Int

LANES = 4
ONES = 0x3F803F80
SIGN_BITS = 0x80008000


def run(layout: Layout, x: Int, w: Int, out: Int, shared: Int) -> None:
    """The whole kernel: float32 (rows, features)."""
    thread, block = ptx.special("tid.x"), ptx.special("ctaid.x")
    lane, warp = thread % 32, thread // 32
    first = block % layout.channel_blocks * layout.channels
    row_block = block // layout.channel_blocks
    each = layout.channels // 8
    channel = first + lane // LANES * each
    exists = channel < layout.features
    of_lane = x + (row_block.wide() * (layout.groups * 4 * layout.parts * 512) + (lane * 16).wide())

    def fetch(group: Int) -> list[Int]:
        """A word for each of a thread's channels."""
        row = group * WORDS + lane % LANES
        address = w + (row.wide() * layout.features + channel.wide()) * 4
        missing = ptx.select(exists, ptx.select(row < layout.depth, Int.of(0), 1), 1)
        none = Int.of(0)
        return [word for i in range(each // 4) for word in ptx.load_where(address + 16 * i, none, missing, 4)]

    def of_group(group: Int, *carried: Int) -> list[Int]:
        words, acc = [word ^ 0xFFFFFFFF for word in carried[:each]], list(carried[each:])
        following = fetch(group + WARPS)
        for pair in range(4):
            at = of_lane + group.wide() * (4 * layout.parts * 512)
            rows = [ptx.load("global", at, 4, offset=(pair * layout.parts + p) * 512) for p in range(layout.parts)]
            for bit in (0, 1):
                b = 2 * pair + bit
                for f in range(each // 2):
                    a = [signs(words[2 * f + i], b + further) for further in (0, 8) for i in (0, 1)]
                    for p in range(layout.parts):
                        sums = slice(4 * (f * layout.parts + p), 4 * (f * layout.parts + p) + 4)
                        acc[sums] = ptx.multiply_reals(acc[sums], a, rows[p][2 * bit : 2 * bit + 2])
        return [*following, *acc]

    nothing = [Int.of(0)] * (2 * each * layout.parts)
    acc = ptx.loop(warp, layout.groups, WARPS, of_group, *fetch(warp), *nothing)[each:]
    for f in range(each // 2):
        for p in range(layout.parts):
            for i, value in enumerate(acc[4 * (f * layout.parts + p) :][:4]):
                mine, row = lane // LANES * each + 2 * f + i // 2, lane % LANES * 2 + i % 2 + 8 * p
                place = (warp * (layout.parts * ROWS) + row) * layout.channels + mine
                ptx.store_shared(shared + place * 4, value)
    ptx.asm("bar.sync 0;", "")

    def add_up(i: Int) -> None:
        row, mine = i // layout.channels, i % layout.channels
        parts = [
            ptx.load("shared", shared + i * 4, 1, offset=4 * layout.parts * ROWS * layout.channels * each)[0].as_float()
            for each in range(WARPS)
        ]
        while len(parts) > 1:
            parts = [ptx.rounded("add", a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        place = (row_block * (layout.parts * ROWS) + row).wide() * layout.features + (first + mine).wide()
        inside = ptx.both(row_block * (layout.parts * ROWS) + row < layout.rows, first + mine < layout.features)
        ptx.store_global(out + place * 4, [ptx.bits_of(parts[0])], inside)

    ptx.loop(thread, layout.parts * ROWS * layout.channels, 32 * WARPS, add_up)


def signs(word: Int, bit: int) -> Int:
    """±1 of bits `bit` and `bit` + 16 of a complemented word."""
    return (word << (15 - bit)) & SIGN_BITS | ONES
