"""What a GPU takes for a call."""

import collections
import glob
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np


def device_seconds(call: Callable[[], object], calls: int = 10) -> float:
    """Seconds of the kernels of one call by JAX's profiler, the median of each: nothing of Python's, and no gaps."""
    for _ in range(3):
        jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready([call() for _ in range(calls)])
        (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        durations = collections.defaultdict(list)
        for plane in jax.profiler.ProfileData.from_file(file).planes:
            for line in plane.lines if "GPU" in plane.name else ():
                for event in line.events if "Stream" in line.name else ():
                    durations[event.name].append(event.duration_ns * 1e-9)
    return sum(float(np.median(times)) * len(times) / calls for times in durations.values())


def seconds_in_flight(call: Callable[[], object], calls: int = 20, rounds: int = 7) -> float:
    """Seconds of one call among many that are under way at once, the gaps between kernels included: the median."""
    jax.block_until_ready(call())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready([call() for _ in range(calls)])
        times.append((time.perf_counter() - start) / calls)
    return float(np.median(times))
