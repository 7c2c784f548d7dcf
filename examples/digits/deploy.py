"""Deployment: the trained network on packed bits, held against the same network on floats.

The opponent is a fair one: its kernels are ±1 floats already, and only its inputs still need their sign taken before
JAX's own convolution. (`implementation="unpacked"` would pack and unpack on top of that.)
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

import jbnn
from examples.digits import model
from examples.digits.data import Digits

CALLS = 50


class Measured(NamedTuple):
    """One network, in numbers."""

    accuracy: float
    kernel_bytes: int  # of the binary layers
    model_bytes: int
    seconds: float  # an image, when all test images go through at once
    seconds_alone: float  # an image that goes through alone


def compare(
    params: model.Params, packed: model.Params, state: model.State, test: Digits
) -> tuple[Measured, Measured, np.ndarray]:
    """Both networks measured, and the digits that the packed one reads."""
    signs = model.map_kernels(jbnn.sign, params)
    latent_run = functools.partial(jax.jit(model.apply), params, state)
    float_run = functools.partial(jax.jit(functools.partial(model.apply, binary_conv=_float_conv)), signs, state)
    packed_run = functools.partial(jax.jit(model.apply), packed, state)

    read_by = [np.asarray(run(test.images)[0]).argmax(axis=-1) for run in (latent_run, float_run, packed_run)]
    predictions = read_by[-1]
    assert all(np.array_equal(other, predictions) for other in read_by), "packing must not change a prediction"
    accuracy = float(np.mean(predictions == test.labels))

    together = _median_seconds([float_run, packed_run], test.images)
    alone = _median_seconds([float_run, packed_run], test.images[:1])
    sizes = [(_bytes([b.kernel for b in p.blocks]), _bytes((p, state))) for p in (params, packed)]
    float_measured, packed_measured = (
        Measured(accuracy, *sizes[i], together[i] / len(test.labels), alone[i]) for i in range(2)
    )
    return float_measured, packed_measured, predictions


def _float_conv(x: jax.Array, w: jax.Array, *, input_bias: jax.Array) -> jax.Array:
    """`jbnn.binary_conv` in floats, for kernels that are ±1 already."""
    a = jbnn.sign(x + input_bias)
    return lax.conv_general_dilated(a, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _bytes(tree: object) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _median_seconds(runs: list[Callable], images: np.ndarray) -> list[float]:
    """The median duration of each, called in turn so that whatever else the machine does disturbs all alike."""
    images = jax.device_put(images)
    durations = [[] for _ in runs]
    for call in range(CALLS + 1):
        for run, record in zip(runs, durations, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run(images))
            if call > 0:  # the first one compiles
                record.append(time.perf_counter() - start)
    return [float(np.median(record)) for record in durations]
