"""What implementations refuse of the tests that are offered to them: counted, told, and bounded.

A named implementation may refuse a case, if its own `why_not` says so. Such a test is skipped as *refused*, apart from
every other skip. Those that stand for all cases may refuse nothing, and no other more than `MOST` of its tests.
"""

import collections
import traceback
from fractions import Fraction

from jbnn._kernels import choose

MOST = Fraction(1, 2)
"""Of its tests; one that refuses more is hardly tested."""

FEW = 100
"""A run of fewer tests, such as that of one module, may be about the one thing that an implementation cannot do."""

OFFERED, REFUSED = "implementation offered", "implementation refused"  # properties of a test, in its report


def is_why_not(error, name):
    """Whether `why_not` of that implementation gave the error; raised by anything else it is a fault."""
    frame, _ = list(traceback.walk_tb(error.__traceback__))[-1]
    return frame.f_code is choose._refuse_if.__code__ and frame.f_locals["implementation"] == name


def is_allowed(error, name):
    """Whether that implementation may refuse a test by this error."""
    return name not in choose.EVERYWHERE and is_why_not(error, name)


class Tally:
    """What was offered to each implementation, and what it refused, for which reasons."""

    def __init__(self):
        self.offered = collections.Counter()
        self.reasons = collections.defaultdict(collections.Counter)

    def add(self, properties):
        """Of one test, by the properties of its report."""
        for key, value in properties:
            if key == OFFERED:
                self.offered[value] += 1
            elif key == REFUSED:
                name, _, reason = value.partition(": ")
                self.reasons[name][reason] += 1

    def lines(self):
        for name, reasons in self.reasons.items():
            yield f"{name} refused {reasons.total()} of {self.offered[name]} tests"
            yield from (f"  {count} times: {reason}" for reason, count in reasons.most_common())
        yield from (f"{name} refused more than {MOST} of them" for name in self.beyond())

    def beyond(self):
        """The implementations that refused too much."""
        return [
            name
            for name, reasons in self.reasons.items()
            if self.offered[name] >= FEW and reasons.total() > MOST * self.offered[name]
        ]
