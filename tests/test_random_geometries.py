"""Geometries nobody thought of, for every implementation."""

import jax
import jax.numpy as jnp
import oracle
from cases import Case
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_array_equal

import jbnn

BORDERS = [("xnor", 0), ("xnor", 1), ("xnor", -1), ("and", 0), ("and", 1)]


@st.composite
def geometries(draw):
    rank = draw(st.integers(1, 3))

    def per_axis(elements):
        return tuple(draw(st.lists(elements, min_size=rank, max_size=rank)))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * draw(st.sampled_from([1, 5, 31, 32, 33, 64, 70, 230]))
    outputs = groups * draw(st.integers(1, 5))
    crop_or_pad = st.integers(-3, 4)
    return Case(
        "random",
        (draw(st.integers(0, 3)), *per_axis(st.integers(1, 8 if rank < 3 else 5)), channels),
        (*per_axis(st.integers(1, 4 if rank < 3 else 3)), outputs),
        per_axis(st.integers(1, 3)),
        draw(st.sampled_from(["SAME", "VALID", None])) or per_axis(st.tuples(crop_or_pad, crop_or_pad)),
        per_axis(st.integers(1, 3)),
        groups,
    )


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(geometries(), st.sampled_from(BORDERS))
def test_packed_conv(implementation, case, border):
    mode, pad_value = border
    x, w = case.draw()

    @jax.jit
    def convolve(x, w):
        return jbnn.packed_conv(
            x,
            w,
            channels=case.channels,
            mode=mode,
            pad_value=pad_value,
            implementation=implementation,
            **case.geometry,
        )

    u = convolve(oracle.pack(x, groups=case.feature_group_count), oracle.pack(w, axis=-2))
    assert u.dtype == jnp.int32
    assert_array_equal(u, oracle.accumulate(x, w, mode=mode, pad_value=pad_value, **case.geometry))
