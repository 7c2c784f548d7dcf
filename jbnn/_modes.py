"""The modes, by which callers name what the bits of a and of B stand for."""

from typing import Literal

from jbnn._arguments import check_number
from jbnn._kernels.case import BITS, SIGNS, Reading

Mode = Literal["xnor", "and", "binary_weights"]
BitMode = Literal["xnor", "and"]

READINGS: dict[str, tuple[Reading | None, Reading]] = {
    "xnor": (SIGNS, SIGNS),
    "and": (BITS, BITS),
    "binary_weights": (None, SIGNS),
}
"""The readings of a, None where it is real, and of B."""


def readings(mode: str, allowed: tuple[str, ...]) -> tuple[Reading | None, Reading]:
    """Those of one of the allowed modes."""
    if not isinstance(mode, str) or mode not in allowed:
        names = ", ".join(f'"{name}"' for name in allowed)
        raise ValueError(f"`mode` must be one of {names}, but was {mode!r}")
    return READINGS[mode]


def check_pad_value(pad_value: float, mode: str) -> None:
    """A tap outside the image reads what a bit of a stands for, or 0, which adds nothing; of real a, any number."""
    check_number("pad_value", pad_value)
    left, _ = READINGS[mode]
    if left is None:
        try:
            float(pad_value)
        except OverflowError:
            raise ValueError(f"`pad_value` must be a number that a float can hold, but was {pad_value!r}") from None
        return
    allowed = tuple(dict.fromkeys((0, left.one, left.zero)))
    if pad_value not in allowed:
        raise ValueError(f'`pad_value` must be one of {allowed} with mode="{mode}", but was {pad_value!r}')
