"""Filters and their terms in the order in which a block copies them to shared memory: one run of words a set.

Of NumPy's arrays it is done in NumPy, so that a kernel that is a constant of the program is arranged while the program
is made; of others by XLA, beside the call.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jbnn._hopper.formula import MAGIC_FLOAT, Formula
from jbnn._hopper.plan import LANES, Plan, channel_of, of_filters, of_loads

Array = jax.Array | np.ndarray


def filters(plan: Plan, formula: Formula, w: Array) -> Array:
    """Words (taps·W, O) to int32 (groups·sets, words): columns of 16 bytes for each half of a step, then the loads.

    A column that counts is all ones in the used bits; one behind the group's last channel is 0.
    """
    rows, used = of_filters(plan)
    column = np.arange(plan.filters)
    order = channel_of(column % 8 // 2, column // 8 * 2 + column % 2, plan.filters, formula.bytes)
    chosen = _take(_take(w, rows.ravel(), 0), _channels(plan, order), 1)  # (halves·lanes, groups·sets·filters)
    sets = plan.geometry.groups * plan.sets
    chosen = chosen.reshape(*rows.shape, sets, plan.filters).transpose(2, 0, 3, 1)
    chosen = chosen & (used[None, :, None] * _valid(plan, order).reshape(sets, 1, plan.filters, 1))
    xp = _module(w)
    counting = np.broadcast_to(used[None, :, None], (sets, len(rows), plan.columns - plan.filters, LANES))
    columns = xp.concatenate([chosen, counting], axis=2).reshape(sets, -1)
    loads = np.broadcast_to(of_loads(plan).view(np.uint32).reshape(1, -1), (sets, len(plan.loads) * LANES * 2))
    return _as_int(xp.concatenate([columns, loads], axis=1))


def table(plan: Plan, formula: Formula, c: Array, more: list[Array]) -> Array:
    """c (classes, O) and rows (O,), `more`, as the end of the formula reads them: int32 (groups·sets, words).

    Of words, c is that less the threshold, and `more` is what is flipped, as words.
    """
    xp = _module(c, *more)
    sets, n = plan.geometry.groups * plan.sets, plan.filters
    width = 8 if formula.in_halves else 4
    place = np.arange(n)
    order = channel_of(place // width % LANES, place // (width * LANES) * width + place % width, n, formula.bytes)
    if formula.by_magic:
        c = _as_int(c.astype(np.float32) - np.float32(MAGIC_FLOAT))
    elif formula.in_halves:
        c = c >> np.int32(formula.shift)
    # Behind the last channel u - t is negative, and no bit is 1.
    behind = np.int32(-1 if formula.in_halves else -(2**30))
    c = xp.where(_valid(plan, order)[None], _take(c, _channels(plan, order), 1), behind)
    c = xp.moveaxis(c.reshape(plan.classes, sets, n), 1, 0)
    if formula.in_halves:
        low, high = c[..., ::2] + np.int32(2**15), c[..., 1::2] + np.int32(2**15)
        c = low | high << np.int32(16)
    parts = [c.reshape(sets, -1)]
    if formula.leaves == "words":
        group, of_group = np.divmod(np.arange(sets), plan.sets)
        first = group * (plan.geometry.features // plan.geometry.groups // 32) + of_group * (n // 32)
        words = np.minimum(first[:, None] + np.arange(n // 32), len(more[0]) - 1)
        flips = _as_int(_take(more[0], words.ravel(), 0)).reshape(sets, n // 32)
        parts.append(xp.pad(flips, [(0, 0), (0, -(n // 32) % 4)]))
    else:
        parts += [_as_int(_take(row, _channels(plan, order), 0)).reshape(sets, n) for row in more]
    return xp.concatenate(parts, axis=1)


def _channels(plan: Plan, order: np.ndarray) -> np.ndarray:
    """For every set its channels in that order, the last one for those that are behind it."""
    of_group = plan.geometry.features // plan.geometry.groups
    inner = np.minimum(np.arange(plan.sets)[:, None] * plan.filters + order, of_group - 1)
    return (np.arange(plan.geometry.groups)[:, None, None] * of_group + inner).ravel()


def _valid(plan: Plan, order: np.ndarray) -> np.ndarray:
    of_group = plan.geometry.features // plan.geometry.groups
    valid = np.arange(plan.sets)[:, None] * plan.filters + order < of_group
    return np.broadcast_to(valid, (plan.geometry.groups, *valid.shape)).ravel()


def _take(array: Array, indices: np.ndarray, axis: int) -> Array:
    if isinstance(array, np.ndarray):
        return np.take(array, indices, axis)
    return jnp.take(array, indices, axis, mode="clip")


def _module(*arrays: Array) -> Any:
    return np if all(isinstance(array, np.ndarray) for array in arrays) else jnp


def _as_int(array: Array) -> Array:
    """The same bits."""
    return array.view(np.int32) if isinstance(array, np.ndarray) else lax.bitcast_convert_type(array, np.int32)
