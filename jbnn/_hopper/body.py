"""What one thread of the kernel does, from the tables of `plan`.

First the filters of a block are copied to shared memory; then its warpgroups take tiles of 64 positions, each for
itself, and never wait for one another.

    u  =  both·Σij + left·Σi + c           c: of the channel and of the class of positions that see the same taps

Σij are the counts of the filters' columns, Σi that of the columns behind them. Of a tile's counts a thread has those of
two rows, `lane // 4` and 8 further in its warp's 16, and of each every fourth pair of columns. The filters are laid out
so that these are runs of neighbouring channels, or of one word of bits (`plan.filter_of`).
"""

import math

from jbnn._hopper import ptx
from jbnn._hopper.formula import Formula
from jbnn._hopper.leave import flip_word, leave
from jbnn._hopper.memory import Block, Memory, Row
from jbnn._hopper.plan import LANES, ROWS, Plan, of_loads, shared_shapes
from jbnn._hopper.ptx import Int

AHEAD = 2
"""Loads of a window that are under way before the first is needed."""
CARRIED = 16
"""Registers for words of the next tile, loaded while this one's counts leave; of many filters half as many."""
KEPT = 4
"""Loads whose places are kept in registers."""
MANY = 128
"""Filters whose counts leave few registers."""


def run(plan: Plan, formula: Formula, memory: Memory) -> None:
    """The whole kernel."""
    thread, block = ptx.special("tid.x"), Block.this(plan)
    share(plan, formula, memory, block, thread)
    lane = thread % LANES
    row = thread % 128 // 32 * 16 + thread % 32 // LANES

    def rows_of(tile: Int) -> list[Row]:
        return [Row.at(tile * ROWS + row + further, plan, memory, block) for further in (0, 8)]

    def of_tile(tile: Int, *carried: Int) -> list[Int]:
        rows, fetched = Row.carried(tile * ROWS + row, carried[:6]), windows.carried(carried[6:])
        acc, held = windows.count(rows, fetched)
        following = rows_of(tile + step)
        acc = ptx.finish(acc, held)
        words = windows.begin(following)
        leave(plan, formula, memory, block, lane, rows, acc, flips)
        return [*(each for row in following for each in row.carry()), *words]

    step = plan.slots * plan.warpgroups
    first = block.slot + (thread // 128) * plan.slots
    rows = rows_of(first)
    ptx.meet(memory.barrier)
    flips = flip_word(plan, formula, memory, lane)
    windows = Windows(plan, memory, lane)
    carried = [*(each for row in rows for each in row.carry()), *windows.begin(rows)]
    ptx.loop(first, plan.tiles, step, of_tile, *carried)


def share(plan: Plan, formula: Formula, memory: Memory, block: Block, thread: Int) -> None:
    """One thread starts to copy what all will share."""
    sizes = [4 * math.prod(shape) for shape in shared_shapes(plan, formula)[:2]]
    sources, targets = (memory.filters, memory.table), (memory.shared_filters, memory.shared_table)

    def copy() -> None:
        ptx.begin_copies(memory.barrier, sum(sizes))
        for source, target, size in zip(sources, targets, sizes, strict=True):
            ptx.copy(target, source + block.set.wide() * size, size, memory.barrier)

    ptx.when(thread.eq(0), copy)


class Windows:
    """The words of this thread's two windows, load by load, and their products with the filters."""

    def __init__(self, plan: Plan, memory: Memory, lane: Int) -> None:
        self.plan, self.memory, self.lane = plan, memory, lane
        self.table = of_loads(plan)
        # A few vectors' places are kept in registers, where there are enough; those of many are read again.
        few = len(plan.loads) <= KEPT and plan.filters < MANY
        self.kept = [self.place(i) for i in range(len(plan.loads))] if few else None

    @property
    def at_once(self) -> int:
        """Loads whose words are carried to the next tile."""
        count, words = 0, 0
        for load in self.plan.loads:
            words += 2 * load.width
            count += words <= (CARRIED if self.plan.filters < MANY else CARRIED // 2)
        return count

    def place(self, i: int) -> list[Int]:
        """Bytes from an output's place to this lane's vector, and the mask that the output must have."""
        begins = self.memory.shared_filters + self.lane * 8
        return ptx.load("shared", begins, 2, offset=self.plan.steps * 2 * self.plan.columns * 16 + i * LANES * 8)

    def fetch(self, i: int, rows: list[Row]) -> list[list[Int]]:
        width, x = self.plan.loads[i].width, self.memory.x
        if not self.plan.loads[i].in_a_row:
            place, needed = self.kept[i] if self.kept else self.place(i)
            return [ptx.load_where(x + (row.place + place).wide_signed(), row.mask, needed, width) for row in rows]
        offset, mask = self.table[i, 0].tolist()
        addresses = [x + (row.place + self.lane * (4 * width)).wide_signed() for row in rows]
        if self.plan.always_inside:
            return [ptx.load("global", address, width, offset) for address in addresses]
        needed = Int.of(mask)
        pairs = zip(addresses, rows, strict=True)
        return [ptx.load_where(address, row.mask, needed, width, offset) for address, row in pairs]

    def begin(self, rows: list[Row]) -> list[Int]:
        """The words of the first loads, one after the other."""
        return [word for i in range(self.at_once) for words in self.fetch(i, rows) for word in words]

    def carried(self, words: tuple[Int, ...]) -> list[list[list[Int]]]:
        """The same, as `fetch` returns them."""
        loads, done = [], 0
        for load in self.plan.loads[: self.at_once]:
            loads.append([list(words[done + i * load.width :][: load.width]) for i in (0, 1)])
            done += 2 * load.width
        return loads

    def count(self, rows: list[Row], fetched: list[list[list[Int]]]) -> tuple[list[Int], list[Int]]:
        """The counts of this thread, under way, and the registers that they wait for."""
        plan, loads = self.plan, self.plan.loads
        # Two halves of N columns of 16 bytes make a step; eight columns are 128 bytes apart.
        distances = plan.columns << 16 | (128 >> 4) << 32
        start = ((self.memory.shared_filters & 0x3FFFF) >> 4).wide() | distances
        slots: list[list[Int]] = [[], []]
        held: list[Int] = []
        done: list[Int] = []
        acc, step = None, 0
        for i in range(len(loads)):
            while len(fetched) < min(i + 1 + AHEAD, len(loads)):
                fetched.append(self.fetch(len(fetched), rows))
            for mine, new in zip(slots, fetched[i], strict=True):
                mine += new
            if i + 1 < self.at_once:  # the next is there as well
                continue
            if i == len(loads) - 1 and len(slots[0]) % 2:
                for mine in slots:
                    mine.append(Int.of(0))
            if len(slots[0]) < 2:
                continue
            ptx.begin()
            while len(slots[0]) >= 2:
                (low, high), (low8, high8) = (mine[:2] for mine in slots)
                slots = [mine[2:] for mine in slots]
                a = [low, low8, high, high8]
                acc = ptx.multiply(acc, a, start, step * 2 * plan.columns, plan.columns)
                step += 1
                held += a
            ptx.commit()
            if i + 1 < len(loads):
                ptx.wait(1, done)
                done, held = held, []
        assert acc is not None
        return acc, done + held
