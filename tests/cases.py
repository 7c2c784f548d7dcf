"""The geometries that every implementation is tested on."""

import zlib
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jbnn._shapes import conv_geometry, transpose_geometry

BORDERS = {"xnor": (0, 1, -1), "and": (0, 1)}
"""The values that an out-of-image tap can hold, in each mode that works on bits."""


class Case(NamedTuple):
    """One geometry: an image (N, *S, C), a window (*K, O), and the options as a caller writes them."""

    id: str
    image: tuple
    window: tuple
    window_strides: int | tuple = 1
    padding: str | tuple = "SAME"
    rhs_dilation: int | tuple = 1
    feature_group_count: int = 1

    @property
    def channels(self):
        return self.image[-1]

    @property
    def kernel(self):
        return (*self.window[:-1], self.channels // self.feature_group_count, self.window[-1])

    @property
    def geometry(self):
        names = "window_strides", "padding", "rhs_dilation", "feature_group_count"
        return {name: getattr(self, name) for name in names}

    def canonical(self, *, transposed=False):
        """The geometry as a kernel is given it."""
        x, w = (jax.ShapeDtypeStruct(shape, np.float32) for shape in (self.image, self.kernel))
        if transposed:
            return transpose_geometry(x, w, output_size=None, **self.geometry)
        return conv_geometry(x, w, **self.geometry)

    def draw(self):
        """Activations and a latent kernel, the same at every call, with zeros of both signs among them."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))

        def values(shape):
            normal, zero = rng.standard_normal(shape), rng.random(shape) < 0.1
            return np.where(zero, np.copysign(0, normal), normal).astype(np.float32)

        return values(self.image), values(self.kernel)

    def draw_terms(self):
        """The numbers of z = (x + input_bias) * input_scale and out = u * scale * beta + bias, of either sign."""
        rng = np.random.default_rng(0)
        inward = {name: rng.standard_normal(self.channels) for name in ("input_bias", "input_scale")}
        outward = {name: rng.standard_normal(self.window[-1]) for name in ("scale", "bias")}
        return {name: values.astype(np.float32) for name, values in {**inward, **outward}.items()}


CASES = [
    # the channel axis: less than a word, a whole one, one channel more
    Case("one channel", (2, 5, 4, 1), (3, 3, 2)),
    Case("31 channels", (2, 5, 4, 31), (3, 3, 3)),
    Case("32 channels", (2, 5, 4, 32), (3, 3, 4)),
    Case("33 channels", (2, 5, 4, 33), (3, 3, 5)),
    Case("64 channels", (2, 5, 4, 64), (3, 3, 6), padding="VALID"),
    Case("100 channels", (2, 5, 4, 100), (3, 3, 7), padding="VALID"),
    Case("1000 channels", (1, 2, 3, 1000), (2, 2, 3)),
    # outputs
    Case("one output", (2, 4, 5, 40), (3, 2, 1)),
    Case("17 outputs", (1, 4, 5, 64), (2, 3, 17)),
    Case("130 outputs", (1, 3, 4, 33), (2, 2, 130)),
    # windows
    Case("1x1", (3, 4, 5, 33), (1, 1, 7)),
    Case("2x2 window, SAME", (2, 5, 4, 32), (2, 2, 3)),
    Case("4x4 window, SAME, stride 2", (2, 7, 6, 35), (4, 4, 3), window_strides=2),
    Case("7x7 window of 64 channels", (1, 8, 8, 64), (7, 7, 2), padding="VALID"),
    Case("window larger than the image, SAME", (2, 2, 3, 33), (5, 5, 3)),
    Case("window larger than the image, VALID", (2, 3, 3, 32), (5, 5, 3), padding="VALID"),
    Case("window larger than the image in one axis", (2, 3, 6, 32), (5, 2, 3), padding="VALID"),
    # strides and dilation
    Case("strides 2 and 1", (2, 7, 5, 33), (3, 3, 4), window_strides=(2, 1)),
    Case("stride larger than the window", (2, 9, 8, 33), (2, 1, 4), window_strides=(3, 4)),
    Case("stride larger than the window, VALID", (2, 9, 8, 33), (1, 2, 4), window_strides=3, padding="VALID"),
    Case("dilation", (2, 8, 9, 32), (3, 2, 3), rhs_dilation=(2, 3)),
    Case("dilation and stride", (2, 9, 9, 31), (3, 3, 3), window_strides=2, rhs_dilation=2),
    Case("dilated window larger than the image", (2, 4, 7, 33), (3, 3, 2), padding="VALID", rhs_dilation=(2, 3)),
    # padding
    Case("asymmetric padding", (2, 4, 5, 33), (3, 3, 3), padding=((0, 3), (2, 1))),
    Case("windows wholly outside", (1, 3, 4, 40), (2, 2, 3), padding=((4, 0), (0, 5))),
    Case("cropped", (2, 6, 7, 33), (3, 2, 3), padding=((-1, -1), (-2, 0))),
    Case("cropped here, padded there", (2, 6, 5, 32), (3, 3, 3), window_strides=2, padding=((-1, 2), (3, -2))),
    Case("cropped past the image, padded after it", (1, 3, 4, 33), (2, 2, 3), padding=((-4, 4), (1, 1))),
    Case("cropped to nothing", (2, 4, 5, 32), (1, 1, 3), padding=((-2, -2), (0, 0))),
    Case("cropped beyond nothing", (2, 5, 5, 33), (3, 3, 3), padding=((-3, -3), (1, 1))),
    # groups
    Case("2 groups of a word", (2, 4, 5, 64), (3, 3, 6), feature_group_count=2),
    Case("2 groups of 33", (2, 4, 5, 66), (2, 2, 4), feature_group_count=2),
    Case("4 groups of 25, strided", (2, 6, 5, 100), (3, 3, 8), window_strides=2, feature_group_count=4),
    Case("a group for each output", (1, 4, 4, 120), (2, 2, 3), padding="VALID", feature_group_count=3),
    Case("depthwise", (2, 5, 4, 33), (3, 3, 33), feature_group_count=33),
    Case("depthwise with multiplier 2", (2, 5, 4, 5), (3, 3, 10), rhs_dilation=2, feature_group_count=5),
    # ranks
    Case("1-D", (3, 9, 70), (3, 4)),
    Case("1-D, even, dilated, padded", (2, 17, 31), (4, 5), 2, ((2, 5),), 3),
    Case("1-D, groups", (2, 7, 34), (2, 4), padding="VALID", feature_group_count=2),
    Case("3-D", (1, 3, 4, 5, 33), (2, 3, 1, 4)),
    Case("3-D, everything", (2, 4, 5, 6, 12), (2, 3, 2, 6), (1, 2, 2), ((0, 1), (-1, 2), (1, 0)), (2, 1, 3), 3),
    # windows of many words
    Case("deep", (1, 6, 7, 400), (3, 4, 4), (2, 1), ((2, 1), (-1, 3)), (1, 2), 2),
    Case("deep, 1-D", (2, 11, 260), (9, 3)),
    Case("deep, 3-D", (1, 3, 4, 3, 70), (3, 3, 3, 2)),
    # batches
    Case("empty batch", (0, 5, 4, 33), (3, 3, 4)),
    Case("batch of 9", (9, 3, 3, 32), (2, 2, 3)),
]


def table(cases, *everywhere):
    """The cases as a test's parameters: those of these names on every JAX, all the others on one."""
    assert {*everywhere} <= {case.id for case in cases}
    marks = {True: (), False: pytest.mark.once}
    return [pytest.param(case, id=case.id, marks=marks[case.id in everywhere]) for case in cases]


def named(*ids):
    """The cases of these names, for tests too dear to run on all."""
    table = {case.id: case for case in CASES}
    return [table[id] for id in ids]
