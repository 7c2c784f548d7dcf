"""Fair timing on a shared machine: contenders take turns, and each is judged by its best round."""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np


def best_medians(contenders: Sequence[Callable[[], jax.Array]], rounds: int = 15, calls: int = 15) -> list[float]:
    """Seconds for each contender: the median of the calls of a round, and of those the best round.

    A neighbour's load slows whole rounds, and all contenders of a round alike. The best round is the one least
    disturbed, and every contender gets the same number of tries at it.
    """
    medians = np.empty((rounds, len(contenders)))
    for contender in contenders:
        jax.block_until_ready(contender())
    for r in range(rounds):
        for c, contender in enumerate(contenders):
            jax.block_until_ready(contender())
            medians[r, c] = np.median([_seconds(contender) for _ in range(calls)])
    return medians.min(0).tolist()


def _seconds(call: Callable[[], jax.Array]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
