"""Which kernel runs: by name or not at all; under None, from a table."""

import dataclasses
from types import ModuleType

import jax
import numpy as np

from jbnn._geometry import Geometry
from jbnn._kernels import popcount, sign_flip, simd, unpacked, wgmma
from jbnn._kernels.case import SIGNS, Case, Place
from jbnn._shapes import check_known_size

KERNELS: dict[str, ModuleType] = {
    "simd": simd,
    "wgmma": wgmma,
    "popcount": popcount,
    "sign_flip": sign_flip,
    "unpacked": unpacked,
}

PREFERRED: dict[str, tuple[str, ...]] = {
    "cpu": ("simd", "popcount", "sign_flip", "unpacked"),
    "cuda": ("wgmma", "popcount", "unpacked"),
}
"""By platform, kernels in order of preference: the first runs that can do a case and was measured to be faster."""

EVERYWHERE = ("popcount", "unpacked", "sign_flip")
"""The order where none was, and in programs for other platforms or for several. Together these can do every case."""


def implementations() -> dict[str, str | None]:
    """The implementations of the binary operators, and why some cannot run here.

    Returns:
      Each name that `implementation=` takes, with None if it can run on JAX's default backend, else the reason.

    Example:
      >>> able = jbnn.implementations()
      >>> print(able["popcount"], able["unpacked"])  # these two can run everywhere
      None None
    """
    platform = jax.default_backend()
    here = Place((lowered(platform),), device_kind(platform))
    dense = Geometry((), (), 32, 1, 1, (), (), (), ())
    samples = [Case(dense, left, SIGNS, 0, place=here, images=1) for left in (SIGNS, np.dtype(np.float32))]
    reasons = {name: [kernel.why_not(case) for case in samples] for name, kernel in KERNELS.items()}
    return {name: None if None in each else each[0] for name, each in reasons.items()}


def lowered(platform: str) -> str:
    """What programs for JAX's platform are lowered for: of a GPU, its maker's."""
    if platform != "gpu":
        return platform
    return "rocm" if "rocm" in jax.devices()[0].client.platform_version.lower() else "cuda"


def device_kind(platform: str) -> str | None:
    """What kind of device a platform has here; None if it has none."""
    try:
        return jax.local_devices(backend=platform)[0].device_kind
    except RuntimeError:
        return None


def check_case(implementation: str | None, case: Case) -> None:
    """Refuses, while tracing, a name that no kernel has, and a case that no kernel, or not the named one, can do."""
    if case.counts:
        check_known_size("x", case.geometry.image)
    if case.sums == np.int32 and case.largest_sum > np.iinfo(np.int32).max:
        raise ValueError(f"`w` must have a window whose sums int32 can hold, but they may be {case.largest_sum}")
    everywhere = dataclasses.replace(case, place=None)
    if implementation is None:
        reasons = {name: KERNELS[name].why_not(everywhere) for name in EVERYWHERE}
        if None not in reasons.values():
            raise NotImplementedError("; ".join(f'"{name}" cannot do this: {why}' for name, why in reasons.items()))
        return
    if implementation not in tuple(KERNELS):
        names = ", ".join(f'"{name}"' for name in KERNELS)
        raise ValueError(f"`implementation` must be None or one of {names}, but was {implementation!r}")
    _refuse_if(implementation, KERNELS[implementation].why_not(everywhere))


def choose(implementation: str | None, case: Case) -> ModuleType:
    """The kernel of that name, or for None the first that the table finds; a name is never replaced."""
    if implementation is None:
        implementation = first(case)
    kernel = KERNELS[implementation]
    _refuse_if(implementation, kernel.why_not(case))
    return kernel


def first(case: Case) -> str:
    """The name that None stands for."""
    platforms = () if case.place is None else case.place.platforms
    preferred = PREFERRED.get(platforms[0], ()) if len(platforms) == 1 else ()
    for name in preferred:
        if KERNELS[name].why_not(case) is None and KERNELS[name].faster(case):
            return name
    return next(name for name in EVERYWHERE if KERNELS[name].why_not(case) is None)


def _refuse_if(implementation: str, reason: str | None) -> None:
    if reason is not None:
        raise NotImplementedError(f'implementation="{implementation}" cannot do this: {reason}')
