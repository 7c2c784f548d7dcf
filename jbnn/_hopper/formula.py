"""What the kernel makes of its counts."""

import dataclasses
import math

MAGIC = 0x4B400000
"""The bits of the float32 12582912: a small integer added to them makes them those of the sum."""
MAGIC_FLOAT = 12582912.0


@dataclasses.dataclass(frozen=True)
class Formula:
    """u = both·Σij + left·Σi + c, no sum of which is larger than `largest`, and what leaves: clamp(u·scale + bias)."""

    both: int
    left: int
    largest: int
    leaves: str  # "sums", "float32", "bfloat16" or "words"
    scales: bool = False
    shifts: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def bytes(self) -> int | None:
        """Of a channel; of words there are none."""
        return {"sums": 4, "float32": 4, "bfloat16": 2, "words": None}[self.leaves]

    @property
    def more_rows(self) -> int:
        """Rows of the table behind c of every class: scale and bias, or what is flipped."""
        return 1 if self.leaves == "words" else self.scales + self.shifts

    @property
    def shift(self) -> int:
        """Differences from a threshold are compared with 0 after division by 2 to this."""
        return (math.gcd(self.both, self.left) & 2) // 2

    @property
    def in_halves(self) -> bool:
        """Whether such a difference fits 16 bits."""
        return self.leaves == "words" and (2 * self.largest + 2) >> self.shift < 2**15

    @property
    def by_magic(self) -> bool:
        """Whether floats are made by adding to the bits of one: sums must be small."""
        return self.leaves in ("float32", "bfloat16") and 4 * self.largest < 2**22

    @property
    def table_bytes(self) -> int:
        """Of c in shared memory."""
        return 2 if self.in_halves else 4
