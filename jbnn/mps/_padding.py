"""MPS's padding policies: how large a result is, and where the region that is read lies.

MPS centres that region on the image, also when a stride leaves rows over, which "SAME" and "VALID" do not. With
s = -1, 0, +1 for valid, same, full, K the rows that a window reaches over, S the stride and n rows,

    result = ceil((n + s·(K - 1)) / S)
    read   = (result - 1)·S + K               from the first row of the first window to the last row of the last one
    extra  = read - n                         rows of padding; negative where rows of the image are left over
    left   = trunc((extra + t) / 2)           t = 1 if the remainder goes to the top or left, 0 if bottom or right

This is the arithmetic in the comments of MPSNeuralNetworkTypes.h of Apple's SDK, where trunc is what C does with a
negative `extra`. A transposed convolution is one of stride 1 over the zero-filled image, so there n = (rows - 1)·S + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from jbnn._arguments import as_index
from jbnn._geometry import Pair, span
from jbnn._shapes import Sizes, per_axis
from jbnn.mps._enums import PaddingMethod

Pairs = tuple[Pair, ...]

SAME = PaddingMethod.SIZE_SAME

_REMAINDERS = PaddingMethod.ADD_REMAINDER_TO_BOTTOM_RIGHT
_SIZES = 0x7F0
_STYLES = {PaddingMethod.SIZE_VALID_ONLY: -1, PaddingMethod.SIZE_SAME: 0, PaddingMethod.SIZE_FULL: 1}
_ALIGNMENTS = 0x3


def padding_policy(
    method: PaddingMethod | int,
    size: Sequence[int],
    window: Sequence[int],
    *,
    window_strides: Sizes = 1,
    rhs_dilation: Sizes = 1,
    transposed: bool = False,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What an MPS padding policy means as explicit padding, in the sense of `lax`.

        result = ceil((n + s·(K - 1)) / S)                   s = -1 valid, 0 same, +1 full;  K = (k - 1)·dilation + 1
        extra  = (result - 1)·S + K - n
        low    = trunc((extra + t) / 2),  high = extra - low     t = 1 for a remainder to the top or left, else 0

    Differences from "SAME" and "VALID": MPS centres the rows that it reads, also when a stride leaves some over, and
    gives the odd row to the top and left unless told otherwise. For 4 to 11 rows, windows of 1 to 5 and strides of 1
    to 4, `SIZE_SAME | ADD_REMAINDER_TO_BOTTOM_RIGHT`, MPS's `tensorFlowSame`, pads otherwise than "SAME" in 8 of 156
    cases, and `SIZE_VALID_ONLY | ADD_REMAINDER_TO_BOTTOM_RIGHT` crops where "VALID" does not in 31.

    Args:
      method: ALIGN, ADD_REMAINDER and SIZE, joined with `|`; or the raw value. An alignment to the top left puts all
        extra rows there, one to the bottom right there.
      size: rows and columns of the image.
      window: rows and columns of the window.
      window_strides: S; an integer, or one for rows and one for columns.
      rhs_dilation: an integer, or one for rows and one for columns.
      transposed: for a transposed convolution, whose result has s·(K - 1) rows more than the image with S - 1 zeros
        between its rows: (n - 1)·S + 1 + s·(K - 1), or s·(K - 1) of an image without rows; the pairs then pad
        the image with its zeros between pixels, as in `lax.conv_transpose`.

    Returns:
      ((low, high), (low, high)) for rows and columns; negative where rows are left over, which are cropped.

    Raises:
      TypeError: a size is not an integer.
      ValueError: a size is not positive, or the method has bits that say nothing about a convolution.

    Example:
      >>> method = jbnn.mps.PaddingMethod
      >>> print(jbnn.mps.padding_policy(method.SIZE_SAME, (8, 8), (2, 3)))
      ((1, 0), (1, 1))
      >>> valid = method.SIZE_VALID_ONLY | method.ADD_REMAINDER_TO_BOTTOM_RIGHT
      >>> print(jbnn.mps.padding_policy(valid, (7, 7), (1, 1), window_strides=4))  # pixels 1 and 5, not 0 and 4
      ((-1, -1), (-1, -1))

    References:
      `MPSNNPaddingMethod`. https://developer.apple.com/documentation/metalperformanceshaders/mpsnnpaddingmethod
    """
    method = check_method("method", method)
    sizes = per_axis("size", size, 2, least=0)
    windows = per_axis("window", window, 2)
    strides = per_axis("window_strides", window_strides, 2)
    dilation = per_axis("rhs_dilation", rhs_dilation, 2)
    rows, columns = (
        _policy_along(axis, method, n, span(k, d), s, transposed)
        for axis, (n, k, d, s) in enumerate(zip(sizes, windows, dilation, strides, strict=True))
    )
    return rows, columns


def check_known(image: tuple[int, ...]) -> None:
    """Policies, offsets and borders are computed from rows and columns, which a program of unknown sizes has not."""
    if not all(isinstance(n, int) for n in image):
        sizes = ", ".join(map(str, image))
        raise ValueError(
            f"`x` must have rows and columns of known size, but they are ({sizes}); only N may be symbolic"
        )


def check_method(name: str, method: int) -> PaddingMethod:
    """A method whose bits say where a convolution reads, and nothing else."""
    try:
        value = as_index(name, method)
    except TypeError:
        raise TypeError(f"`{name}` must be a PaddingMethod, but was {method!r}") from None
    known = value & _SIZES in _STYLES and value & _ALIGNMENTS != _ALIGNMENTS and value >= 0
    if not known or value & ~(_SIZES | _ALIGNMENTS | _REMAINDERS):
        raise ValueError(
            f"`{name}` must be one of ALIGN, one of ADD_REMAINDER and one of SIZE, joined, but was {method!r}: "
            "custom policies are pairs or an offset here, and EXCLUDE_EDGES is for pooling"
        )
    return PaddingMethod(value)


def _policy_along(axis: int, method: PaddingMethod, n: int, reach: int, stride: int, transposed: bool) -> Pair:
    """The padding of one axis, 0 rows or 1 columns, for windows that reach over so many rows."""
    style = _STYLES[PaddingMethod(method & _SIZES)]
    if transposed:  # a convolution of unit stride, of the zero-filled image
        n, stride = span(n, stride), 1
    result = -((-n - style * (reach - 1)) // stride)  # rounded up
    extra = (max(result, 0) - 1) * stride + reach - n
    low = left_of(axis, method, extra)
    return low, extra - low


def left_of(axis: int, method: PaddingMethod, extra: int) -> int:
    """How many of the extra rows lie at the top or left."""
    alignment = PaddingMethod(method & _ALIGNMENTS)
    if alignment == PaddingMethod.ALIGN_TOP_LEFT:
        return extra
    if alignment == PaddingMethod.ALIGN_BOTTOM_RIGHT:
        return 0
    remainder = method & _REMAINDERS
    to_high = PaddingMethod.ADD_REMAINDER_TO_BOTTOM_LEFT if axis == 0 else PaddingMethod.ADD_REMAINDER_TO_TOP_RIGHT
    return int((extra + (0 if remainder & to_high else 1)) / 2)  # truncates towards zero, as C does
