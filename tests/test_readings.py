"""Every pair of readings of the two sides, as a kernel is asked for them: no mode names the mixed ones yet.

Through the primitive itself, so that nothing but the kernels is in between, on the whole table of geometries, forward
and transposed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CASES, table
from numpy.testing import assert_array_equal
from test_transpose import CASES as TRANSPOSED

from jbnn._kernels.case import BITS, SIGNS, Case
from jbnn._kernels.primitive import correlate_words

# Left, right, and what the outside may read: what a bit on the left stands for, or the 0 that adds nothing.
MIXED = [(BITS, SIGNS, 0), (BITS, SIGNS, 1), (SIGNS, BITS, 0), (SIGNS, BITS, 1), (SIGNS, BITS, -1)]


def numbers(x, reading):
    return np.where(oracle.sign(x) > 0, reading.one, reading.zero)


@functools.cache
def drawn(case):
    """Words with noise in their unused bits, and the exact sums of each pair: for all implementations once."""
    x, w = case.draw()
    groups = case.feature_group_count
    words = oracle.pack(x, groups=groups), oracle.pack(w, axis=-2)
    noisy = oracle.with_garbage(words[0], case.channels, groups=groups), oracle.with_garbage(words[1], w.shape[-2], -2)
    transposed = case in TRANSPOSED
    geometry = {"feature_group_count": groups}
    names = ("window_strides", "padding", "rhs_dilation")
    options = {name: case.geometry[name] for name in names}
    geometry |= oracle.transposed(x, w, **options) if transposed else options
    sums = [
        oracle.correlate(numbers(x, left), numbers(w, right), pad_value=outside, **geometry)
        for left, right, outside in MIXED
    ]
    return noisy, sums


@pytest.mark.parametrize("case", table([*CASES, *TRANSPOSED], "33 channels", "stride 2", "deep"))
def test_mixed_readings(case, implementation):
    geometry = case.canonical(transposed=case in TRANSPOSED)
    words, expected = drawn(case)

    @jax.jit
    def every_pair(x, w):
        cases = [Case(geometry, left, right, outside) for left, right, outside in MIXED]
        return [correlate_words(x, w, each, implementation=implementation) for each in cases]

    for pair, u, sums in zip(MIXED, every_pair(*words), expected, strict=True):
        assert u.dtype == jnp.int32
        assert_array_equal(u, sums, err_msg=str(pair))


@pytest.mark.parametrize("left, right, outside", MIXED)
def test_worked_by_hand(left, right, outside, implementation):
    """Bits 1, 0, 1 against a window of bits 1, 0 with one tap outside on the left."""
    x, w = jnp.uint32([[[1], [0], [1]]]), jnp.uint32([[[1]], [[0]]])
    a, b = [outside, left.one, left.zero, left.one], [right.one, right.zero]
    case = CASES[0]._replace(image=(1, 3, 1), window=(2, 1), padding=((1, 0),)).canonical()
    u = correlate_words(x, w, Case(case, left, right, outside), implementation=implementation)
    assert_array_equal(u.ravel(), [a[i] * b[0] + a[i + 1] * b[1] for i in range(3)])
