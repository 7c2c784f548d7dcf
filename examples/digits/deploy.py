"""Deployment: the trained network as a program of bits in a file, held against the same network on floats.

The program holds its parameters and needs JAX to run, but neither jbnn nor this code. Its opponent is a fair one: its
batch norms are folded and its kernels are ±1 floats already, so that only activations still need their sign taken
before JAX's own convolution.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import export

from examples.benchmarks.timing import medians
from examples.digits import model
from examples.digits.data import Digits
from examples.models import layers

CALLS = 50


class Measured(NamedTuple):
    """One network, in numbers."""

    accuracy: float
    kernel_bytes: int  # of the binary layers
    model_bytes: int
    between_bytes: int  # of an image's activations between the blocks
    seconds: float  # an image, when all test images go through at once
    seconds_alone: float  # an image that goes through alone


def save(path: Path, params: model.Params, state: model.State) -> None:
    """Exports a deployed network, for any number of images and for several platforms, to a file."""
    (batch,) = export.symbolic_shape("batch")
    program = jax.jit(lambda images: model.apply(params, state, images)[0])
    exported = export.export(program, platforms=("cpu", "cuda", "tpu"))(
        jax.ShapeDtypeStruct((batch, 8, 8, 1), np.float32)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(exported.serialize())


def compare(
    params: model.Params, state: model.State, program: Path, test: Digits
) -> tuple[Measured, Measured, np.ndarray]:
    """The float network and the program measured, and the digits that the program reads."""
    floats, folded = model.deploy(params, state, packed=False)
    packed, _ = model.deploy(params, state)
    as_trained = jax.jit(lambda images: model.apply(params, state, images)[0])
    float_network = jax.jit(
        lambda params, images: model.apply(params, folded, images, binary_layer=layers.float_layer)[0]
    )
    in_floats = functools.partial(float_network, floats)
    reloaded = jax.jit(export.deserialize(bytearray(program.read_bytes())).call)

    read_by = [np.asarray(run(test.images)).argmax(axis=-1) for run in (as_trained, in_floats, reloaded)]
    predictions = read_by[-1]
    if not all(np.array_equal(other, predictions) for other in read_by):
        raise RuntimeError("deployment must not change a prediction, but did")
    accuracy = float(np.mean(predictions == test.labels))

    together = _median_seconds((in_floats, reloaded), test.images)
    alone = _median_seconds((in_floats, reloaded), test.images[:1])
    activations = sum(size**2 * width for size, width in zip((8, 4), model.WIDTHS[1:-1], strict=True))
    sizes = [(_bytes([b.kernel for b in p.blocks]), _bytes(p)) for p in (floats, packed)]
    float_measured, packed_measured = (
        Measured(accuracy, *sizes[i], activations * bits // 8, together[i] / len(test.labels), alone[i])
        for i, bits in enumerate((32, 1))
    )
    return float_measured, packed_measured, predictions


def _bytes(tree: object) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _median_seconds(runs: tuple, images: np.ndarray) -> list[float]:
    images = jax.device_put(images)
    return np.median(medians([functools.partial(run, images) for run in runs], CALLS, calls=1), axis=0).tolist()
