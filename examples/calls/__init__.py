"""Every public function of jbnn, called on small arrays: the one list that the checks of all functions go through.

`examples.apple_check` runs it on a device beside the CPU; in tests/ it is lowered for Apple's plugins, and run with and
without `jit`. The first call of each name is the one that says most.
"""

import types
from collections.abc import Iterator

import jbnn
from examples.calls.call import Call
from examples.calls.elementwise import ACTIVATIONS, BITS, QUANTIZERS
from examples.calls.family import DOOR, INTERCHANGE, ORDINARY
from examples.calls.operators import OPERATORS

__all__ = ["CALLS", "NOT_A_COMPUTATION", "Call", "firsts", "public_names"]

CALLS = [*OPERATORS, *ORDINARY, *INTERCHANGE, *DOOR, *BITS, *QUANTIZERS, *ACTIVATIONS]

NOT_A_COMPUTATION = {
    "Threshold": "two arrays",
    "convolution.ConvGradient": "holds results",
    "implementations": "says what can run here",
    "sign_threshold": "computed in NumPy, before anything is deployed",
    "mps.padding_policy": "computes numbers in Python",
    **{f"mps.{name}": "describes a layer" for name, value in vars(jbnn.mps).items() if isinstance(value, type)},
    "summary": "counts what a function does, without running it",
}
"""The public names that are not called, and why."""


def public_names(module: types.ModuleType = jbnn, prefix: str = "") -> Iterator[str]:
    """The names of jbnn and of its public modules, as a user writes them after `jbnn.`."""
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, types.ModuleType):
            yield from public_names(thing, f"{prefix}{name}.")
        elif not name.startswith("__"):
            yield prefix + name


def firsts() -> list[Call]:
    """One call of each function."""
    return list({call.name: call for call in reversed(CALLS)}.values())[::-1]
