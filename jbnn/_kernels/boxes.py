"""The output positions of a correlation in boxes that see the same taps, for kernels that visit no other.

Along one axis, the outputs whose taps on pixels are the same fall into *spans*: of a window of 3 with a padding of 1,
the first output, the last, and all between. Where zeros lie between the pixels (a transposed convolution) so does each
phase. A *box* is a product of spans, one an axis. All its positions read the same taps at the same distances, so
within it nothing is padded and nothing is skipped.
"""

import dataclasses
import itertools
import math

import numpy as np

from jbnn._geometry import Geometry


@dataclasses.dataclass(frozen=True)
class Span:
    """Some outputs of one axis, and the taps on pixels that they all see."""

    output: range
    taps: range
    pixel: int  # the row that the first output reads through its first tap
    pixel_step: int  # rows from an output to the next
    pixel_tap: int  # rows from a tap to the next
    inside: np.ndarray  # of all taps, which lie in the dilated image: bool (window,)


def spans(g: Geometry, axis: int, *, by_inside: bool) -> list[Span]:
    """The spans of one axis, the longest first; with `by_inside` also the taps inside are the same for all outputs."""
    s, d, e = g.strides[axis], g.rhs_dilation[axis], g.lhs_dilation[axis]
    inside, on_pixel, reads = g.inside(axis), g.on_pixel(axis), g.reads(axis)
    period, tap_step = e // math.gcd(s, e), e // math.gcd(d, e)
    found = []
    for phase in range(min(period, len(reads))):
        seen = on_pixel[phase::period]
        if by_inside:
            seen = np.concatenate([seen, inside[phase::period]], axis=1)
        changes = 1 + np.flatnonzero((seen[1:] != seen[:-1]).any(axis=1))
        for first, last in itertools.pairwise([0, *changes.tolist(), len(seen)]):
            y = phase + first * period
            output = range(y, y + (last - first) * period, period)
            live = np.flatnonzero(on_pixel[y])  # equally far apart: those inside are neighbours
            taps = range(live[0], live[-1] + 1, tap_step) if live.size else range(0)
            pixel = int(reads[y, live[0]]) // e if live.size else 0
            found.append(Span(output, taps, pixel, period * s // e, tap_step * d // e, inside[y]))
    return sorted(found, key=lambda span: -len(span.output))


@dataclasses.dataclass(frozen=True)
class Box:
    """A product of spans, one for each axis."""

    spans: tuple[Span, ...]

    def live(self, g: Geometry) -> np.ndarray:
        """The taps on pixels: bool (*K)."""
        taps = np.zeros(g.window, bool)
        taps[np.ix_(*(span.taps for span in self.spans))] = True
        return taps

    def outside(self, g: Geometry) -> np.ndarray:
        """The taps outside the image: bool (*K)."""
        outside = np.ones(g.window, bool)
        outside[np.ix_(*(span.inside for span in self.spans))] = False
        return outside

    def numbers(self, g: Geometry, *, words: int, pixel: int) -> list[int]:
        """As jbnn/_native/problem.h reads it: starts, and three axes; a group's pixel meets `words` rows of w."""
        x_starts, y_starts, w_starts, axes = 0, 0, 0, []
        x_row, y_row, w_row = pixel * g.groups, 1, words  # of the last axis
        for axis in reversed(range(g.rank)):
            span = self.spans[axis]
            x_starts += span.pixel * x_row
            y_starts += span.output.start * y_row
            w_starts += span.taps.start * w_row
            outputs = (len(span.output), span.pixel_step * x_row, span.output.step * y_row)
            axes.append((*outputs, len(span.taps), span.pixel_tap * x_row, span.taps.step * w_row))
            x_row, y_row, w_row = x_row * g.image[axis], y_row * g.output[axis], w_row * g.window[axis]
        axes += [(1, 0, 0, 1, 0, 0)] * (3 - g.rank)
        return [x_starts, y_starts, w_starts, *itertools.chain(*reversed(axes))]


def boxes(g: Geometry, *, by_outside: bool) -> list[Box]:
    """All positions, the largest box first; with `by_outside` the taps outside the image are those of all of a box."""
    along = [spans(g, axis, by_inside=by_outside) for axis in range(g.rank)]
    found = [Box(each) for each in itertools.product(*along)]
    return sorted(found, key=lambda box: -math.prod(len(span.output) for span in box.spans))
