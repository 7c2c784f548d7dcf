"""Which kernel runs: pure functions of the case, the platforms the program is for, and whether it is exported."""

from collections.abc import Sequence
from types import ModuleType

import jax

from jbnn._kernels import popcount, unpacked
from jbnn._kernels.correlation import Correlation

KERNELS: dict[str, ModuleType] = {"popcount": popcount, "unpacked": unpacked}


def implementations() -> dict[str, str | None]:
    """The implementations of the binary operators, and why some cannot run here.

    Returns:
      Each name that `implementation=` takes, with None if it can run on JAX's default backend, else the reason.

    Example:
      >>> print(jbnn.implementations())
      {'popcount': None, 'unpacked': None}
    """
    here = (jax.default_backend(),)
    return {name: kernel.why_not_there(here, exported=False) for name, kernel in KERNELS.items()}


def check_case(implementation: str | None, correlation: Correlation) -> None:
    """Refuses, while tracing, a name that no kernel has, and a case that the named kernel can do nowhere."""
    if implementation is None:
        return
    if implementation not in tuple(KERNELS):
        names = ", ".join(f'"{name}"' for name in KERNELS)
        raise ValueError(f"`implementation` must be None or one of {names}, but was {implementation!r}")
    _refuse_if(implementation, KERNELS[implementation].why_not(correlation))


def choose(
    implementation: str | None, correlation: Correlation, *, platforms: Sequence[str], exported: bool
) -> ModuleType:
    """The kernel of that name, or for None the fastest that can do the case there; a name is never replaced."""
    if implementation is None:
        implementation = fastest(correlation, platforms)
    kernel = KERNELS[implementation]
    _refuse_if(implementation, kernel.why_not_there(platforms, exported))
    return kernel


def fastest(correlation: Correlation, platforms: Sequence[str]) -> str:
    """The name that None stands for: floats where they were measured to be faster, bits everywhere else.

    On a CPU that is where at most 4 of a word's 32 bits are used and the kernel's words outgrow the first-level cache
    (1.4 times for 4 channels and a 7x7 window, 3 times for 1 channel). On an NVIDIA GPU it is where counting takes more
    than one loop, each turn of which is a launch, against one on tensor cores (1.4 to 2.3 times for 3x3 windows).
    """
    g = correlation.geometry
    floats_win: dict[tuple[str, ...], bool] = {
        ("cpu",): g.groups == 1 and g.channels <= 4 and g.taps * g.words * g.features > popcount.CACHED_WORDS,
        ("cuda",): g.groups == 1 and not popcount.in_one_loop(g),
    }
    return "unpacked" if floats_win.get(tuple(platforms)) and unpacked.why_not(correlation) is None else "popcount"


def _refuse_if(implementation: str, reason: str | None) -> None:
    if reason is not None:
        raise NotImplementedError(f'implementation="{implementation}" cannot do this: {reason}')
