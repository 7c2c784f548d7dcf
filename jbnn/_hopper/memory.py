"""Where a block finds what it works on, and where a row of a tile lies in it."""

import dataclasses
from typing import Any

from jbnn._hopper import ptx
from jbnn._hopper.plan import SHORT_MASK, Plan
from jbnn._hopper.ptx import Int


@dataclasses.dataclass(frozen=True)
class Memory:
    """Addresses: of operands in global memory (64 bits), and of what a block shares (32 bits)."""

    x: Int
    filters: Int
    table: Int
    outputs: Int
    out: Int
    shared_filters: Int
    shared_table: Int
    barrier: Int


@dataclasses.dataclass(frozen=True)
class Block:
    """Which filters this block holds, and which of the tiles it takes."""

    first: Int  # channel
    valid: Int  # of the group's channels from there on
    group: Int
    set: Int
    slot: Int

    @classmethod
    def this(cls, plan: Plan) -> "Block":
        index = ptx.special("ctaid.x")
        slot, sets = index % plan.slots, index // plan.slots
        group, number = sets // plan.sets, sets % plan.sets
        of_group = plan.geometry.features // plan.geometry.groups
        begin = number * plan.filters
        return cls(group * of_group + begin, Int.of(of_group) - begin, group, sets, slot)


@dataclasses.dataclass(frozen=True)
class Row:
    """One of a thread's two rows of a tile: an output position."""

    position: Int
    place: Int  # bytes from the first image to what the first tap reads, of this group; it may lie before the image
    mask: Int
    box: Int  # class of positions

    @classmethod
    def at(cls, position: Int, plan: Plan, memory: Memory, block: Block) -> "Row":
        """Behind the last position it is the last one's, and nothing leaves."""
        g = plan.geometry
        rest = ptx.least(position, plan.positions - 1)
        place, mask, box, first = block.group * (4 * g.words), Int.of(0), Int.of(0), sum(plan.digits)
        for size in reversed(plan.digits):
            first -= size
            y, rest = rest % size, rest // size
            if plan.mask_bits == SHORT_MASK:
                offset, bits = ptx.load("global", memory.outputs + y.wide() * 8, 2, offset=8 * first)
                place, mask = place + offset, mask + bits
                continue
            offset, bits, index, _ = ptx.load("global", memory.outputs + y.wide() * 16, 4, offset=16 * first)
            place, mask, box = place + offset, mask + bits, box + index
        box = mask >> 16 if plan.mask_bits == SHORT_MASK else box
        return cls(position, place + rest * plan.image_bytes, mask, box)

    def carry(self) -> list[Int]:
        return [self.place, self.mask, self.box]

    @classmethod
    def carried(cls, position: Int, numbers: Any) -> "list[Row]":
        """The two rows of a thread again."""
        return [cls(position, *numbers[:3]), cls(position + 8, *numbers[3:])]
