"""Fair timing on a shared machine: contenders take turns, so that whatever else runs there disturbs all alike."""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np


def medians(contenders: Sequence[Callable[[], object]], rounds: int = 15, calls: int = 15) -> np.ndarray:
    """Seconds (rounds, contenders): the median of the calls of each round, after one call that is not timed."""
    seconds = np.empty((rounds, len(contenders)))
    for contender in contenders:
        jax.block_until_ready(contender())
    for r in range(rounds):
        for c, contender in enumerate(contenders):
            jax.block_until_ready(contender())
            seconds[r, c] = np.median([_seconds(contender) for _ in range(calls)])
    return seconds


def best_medians(contenders: Sequence[Callable[[], object]], rounds: int = 15, calls: int = 15) -> list[float]:
    """Seconds for each contender, in its best round: the one least disturbed, of as many as any other had."""
    return medians(contenders, rounds, calls).min(0).tolist()


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
