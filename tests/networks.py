"""The example networks, small, with random parameters."""

import functools

import jax
import numpy as np
import pytest

from examples.models import binarynet, birealnet18, quicknet

RNG = np.random.default_rng(0)


def shapes(init):
    return jax.eval_shape(init, jax.random.key(0))


def random_like(tree):
    """Kernels, and batch norms as training leaves them: slopes of either sign, moments of sums of some hundred."""

    def leaf(path, value):
        random = {
            ".gamma": RNG.uniform(-2, 2, value.shape),
            ".beta": RNG.uniform(-1, 1, value.shape),
            ".mean": RNG.integers(-8, 8, value.shape),
            ".variance": RNG.uniform(0.5, 9, value.shape) ** 2,
        }.get(jax.tree_util.keystr(path[-1:]), RNG.uniform(-1, 1, value.shape))
        return random.astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, tree)


SMALL = {
    quicknet: ({"widths": (32, 64), "blocks": (1, 2), "classes": 10}, (2, 17, 16, 3)),
    birealnet18: ({"widths": (32, 64), "blocks": 2, "classes": 10}, (2, 16, 16, 3)),
    binarynet: (
        {"conv_widths": (32, 32, 64, 64), "dense_widths": (64, 96), "classes": 10, "size": 8},
        (3, 8, 8, 3),
    ),
}
each_network = pytest.mark.parametrize("module", SMALL, ids=lambda module: module.__name__.split(".")[-1])


def small(module):
    options, shape = SMALL[module]
    params, state = random_like(shapes(functools.partial(module.init, **options)))
    images = RNG.integers(0, 256, shape).astype(np.uint8)
    return params, state, images if module is binarynet else (images / 64 - 2).astype(np.float32)
