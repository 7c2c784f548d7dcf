"""Binary layers of every kind that ordinary ones have: exact sums, and the gradients of their float expressions."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import oracle
import pytest
from cases import Case
from float_expression import (
    assert_same_gradients,
    expression,
    forward_geometry,
    round_numbers,
    transposed_geometry,
)
from numpy.testing import assert_array_equal

import jbnn
from jbnn.convolution import depth_to_space


class Member(NamedTuple):
    """A layer as its user writes it, of which kind it is, and what is done to its output."""

    case: Case
    transposed: bool = False
    grown: int = 0  # rows that `output_size` adds to each axis
    block: int = 1  # of a sub-pixel layer

    @property
    def function(self):
        function = jbnn.binary_conv_transpose if self.transposed else jbnn.binary_conv
        return functools.partial(function, **self.case.geometry, **self.size)

    @property
    def oracle(self):
        function = oracle.binary_conv_transpose if self.transposed else oracle.binary_conv
        return functools.partial(function, **self.case.geometry, **self.size)

    @property
    def size(self):
        if not self.grown:
            return {}
        sizes = oracle.binary_conv_transpose(*self.case.draw(), **self.case.geometry).shape[1:-1]
        return {"output_size": tuple(n + self.grown for n in sizes)}

    @property
    def float_geometry(self):
        return transposed_geometry(self.case, 0, self.grown) if self.transposed else forward_geometry(self.case, 0)


MEMBERS = [
    Member(Case("depthwise, multiplier 1", (2, 5, 4, 35), (3, 3, 35), feature_group_count=35)),
    Member(Case("depthwise, multiplier 3, strided", (2, 6, 5, 4), (3, 2, 12), 2, "SAME", 1, 4)),
    Member(Case("depthwise, 1-D, dilated", (2, 9, 5), (4, 10), 1, "VALID", 2, 5)),
    Member(Case("depthwise, 3-D", (1, 3, 4, 3, 3), (2, 3, 2, 6), (1, 2, 1), "SAME", 1, 3)),
    Member(Case("groups of 33 channels", (2, 4, 5, 66), (3, 3, 6), feature_group_count=2)),
    Member(Case("groups, 1-D", (2, 8, 12), (3, 6), 2, ((1, 2),), 1, 3)),
    Member(Case("groups, 3-D", (1, 3, 3, 4, 68), (2, 2, 2, 4), 1, "SAME", (1, 2, 1), 2)),
    Member(Case("transposed, output size", (2, 3, 4, 33), (3, 3, 4), 2), transposed=True, grown=1),
    Member(Case("transposed, depthwise, multiplier 2", (1, 3, 4, 5), (3, 2, 10), (2, 3), "VALID", 1, 5), True, 1),
    Member(Case("transposed, groups, 1-D", (2, 5, 66), (4, 4), 3, "SAME", 1, 2), transposed=True, grown=2),
    Member(Case("transposed, 3-D", (1, 2, 3, 2, 35), (2, 3, 2, 3), (2, 1, 2), "VALID", (1, 2, 1)), transposed=True),
    Member(Case("sub-pixel", (2, 3, 4, 40), (3, 3, 12)), block=2),
    Member(Case("sub-pixel, groups, 1-D", (2, 4, 66), (3, 12), feature_group_count=2), block=3),
    Member(Case("sub-pixel, 3-D", (1, 2, 3, 2, 35), (2, 2, 2, 16)), block=2),
]
BORDERS = [("xnor", 0), ("and", 1)]

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.case.id)


@each_member
def test_exact(member, implementation):
    """Packed kernels, in both modes of bits, with a border that counts for nothing and one of ones."""
    x, w = member.case.draw()

    @jax.jit
    def layers(x, w):
        every = functools.partial(member.function, x, w, implementation=implementation)
        return [depth_to_space(every(mode=mode, pad_value=border), member.block) for mode, border in BORDERS]

    for (mode, border), y in zip(BORDERS, layers(x, oracle.pack(w, axis=-2)), strict=True):
        u = member.oracle(x, w, mode=mode, pad_value=border).astype(np.float32)
        assert_array_equal(y, depth_to_space(u, member.block), err_msg=f"{mode}, {border}")


@each_member
def test_gradients(member):
    """Of round numbers, exactly those that JAX finds for the same layer written with floats."""
    case = member.case
    x, w, scale = (
        round_numbers(case.image, 1),
        round_numbers(case.kernel, 2),
        round_numbers(case.window[-1], 3, (-1, 0.5, 1, 2)),
    )

    def ours(x, w, scale):
        return depth_to_space(member.function(x, w, scale=scale), member.block)

    def floats(x, w, scale):
        return depth_to_space(expression(x, w, {"scale": scale}, member.float_geometry), member.block)

    assert_same_gradients(ours, floats, x, w, scale)


@pytest.mark.parametrize("multiplier", [1, 2, 5])
def test_the_channels_of_a_depthwise_layer(multiplier):
    """Output channel k·M + q reads input channel k alone, packed too: a word for each channel."""
    x, w = Case("depthwise", (2, 4, 5, 6), (3, 2, multiplier)).draw()[0], round_numbers((3, 2, 6, multiplier), 3)
    flat = w.reshape(3, 2, 1, 6 * multiplier)
    latent = jbnn.binary_conv(x, flat, feature_group_count=6)
    words = jbnn.packed_conv(jbnn.pack(x, groups=6), jbnn.pack(flat, axis=-2), channels=6, feature_group_count=6)
    for k in range(6):
        for q in range(multiplier):
            one = oracle.binary_conv(x[..., [k]], w[..., [k], q, None])[..., 0]
            assert_array_equal(latent[..., k * multiplier + q], one)
            assert_array_equal(words[..., k * multiplier + q], one)
