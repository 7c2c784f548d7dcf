"""The processor that a benchmark runs on: its name, its instructions, and how much it could do at best."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from unittest import mock

from jbnn import _native

CEILING = pathlib.Path(__file__).with_name("ceiling.cc")
INSTRUCTIONS = "avx2", "avx512bw", "avx512_vpopcntdq", "avx512_vbmi", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd"


def cores() -> int:
    """Those that this process may use: `taskset -c 0` makes it one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> str:
    """The processor's own name and what it can do, where Linux tells it."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line] if info.exists() else []
    fields = {name.strip(): value.strip() for name, value in lines}
    name = fields.get("model name", "an unknown CPU")
    family = f", family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else ""
    known = (fields.get("flags") or fields.get("Features") or "").split()
    return f"{cores()} cores of {name}{family} ({' '.join(i for i in INSTRUCTIONS if i in known) or 'unknown'})"


def ceilings() -> dict[str, float]:
    """Operations a second of one core, by path, measured now; none without a compiler."""
    return {name: rate for name, rate in _rates().items() if name != "clock"}


def clock() -> float | None:
    """Cycles a second of one core that is busy, measured now; None without a compiler."""
    return _rates().get("clock")


def _rates() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "ceiling")
        try:
            subprocess.run([os.environ.get("CXX", "g++"), "-O2", "-std=c++17", CEILING, "-o", program], check=True)
        except (OSError, subprocess.CalledProcessError):
            return {}
        lines = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
    return {name: float(rate) for name, rate in (line.split() for line in lines if line)}


@contextlib.contextmanager
def taking(path: str | None) -> Iterator[None]:
    """Within it, `"simd"` takes this path and not the fastest: to measure what another processor would run."""
    if path is None:
        yield
        return
    if path not in _native.paths():
        raise SystemExit(f"this processor has the paths {', '.join(_native.paths()) or 'none'}, and not {path}")
    with mock.patch.object(_native, "paths", lambda: (path,)):
        yield
