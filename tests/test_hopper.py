"""What Hopper's tensor cores compute: exact on every geometry, whatever leaves them. Nothing of it runs without one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from conftest import HERE
from numpy.testing import assert_array_equal
from oracle import assert_close
from test_readings import MIXED, drawn
from test_simd import LEAVING, strange
from test_wgmma import BFLOATS, EVERY, FLOATS, asked, dense, words

import jbnn
from jbnn._kernels import wgmma
from jbnn._kernels.case import Affine, Bits, Place

GPU = Place(("cuda",), HERE.device)
RNG = np.random.default_rng(0)

# There is nothing to test where no Hopper is: decisions and tables are tested everywhere, by test_wgmma.
pytestmark = pytest.mark.skipif(
    HERE.platforms != ("cuda",) or not any(name in str(HERE.device) for name in wgmma.HOPPER), reason="no Hopper here"
)


def run(case, x, w, *terms):
    return jax.jit(lambda x, w, *terms: wgmma.conv(x, w, case, terms))(x, w, *terms)


def test_what_ran(record_property):
    record_property("device", HERE.device)
    assert jbnn.implementations()["wgmma"] is None


@pytest.mark.parametrize("case", EVERY, ids=[case.id for case in EVERY])
def test_every_geometry(case):
    (x, w), sums = drawn(case)
    for pair, expected in zip(MIXED, sums, strict=True):
        assert_array_equal(run(asked(case, pair, place=GPU), x, w), expected, err_msg=str(pair))


@pytest.mark.parametrize("case", LEAVING, ids=lambda case: case.id)
@pytest.mark.parametrize("dtype", [FLOATS, BFLOATS], ids=str)
def test_floats_leave_with_two_roundings(case, dtype):
    """To the bit as NumPy computes them, one operation after the other."""
    (x, w), sums = drawn(case)
    features = sums[0].shape[-1]
    scale, bias = strange(features), strange(features)
    for terms, clamp in [
        ((scale, bias), (None, None)),
        ((scale, None), (0.0, None)),
        ((None, bias), (-20.5, 6.0)),
        ((None, None), (None, 30.0)),
    ]:
        with np.errstate(all="ignore"):
            y = sums[0].astype(np.float32)
            y = y if terms[0] is None else y * terms[0]
            y = y if terms[1] is None else y + terms[1]
            y = y if clamp[0] is None else np.where(y < np.float32(clamp[0]), np.float32(clamp[0]), y)
            y = y if clamp[1] is None else np.where(y > np.float32(clamp[1]), np.float32(clamp[1]), y)
            expected = y.astype(dtype)
        given = run(asked(case, MIXED[0], result=Affine(dtype, clamp), place=GPU), x, w, *terms)
        assert given.dtype == dtype
        assert_array_equal(np.asarray(given).astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("case", LEAVING, ids=lambda case: case.id)
def test_bits_leave(case):
    (x, w), sums = drawn(case)
    features = sums[0].shape[-1]
    value = RNG.integers(sums[0].min() - 1, sums[0].max() + 2, features, np.int32)
    value[::4] = np.resize([np.iinfo(np.int32).min, np.iinfo(np.int32).max], value[::4].shape)
    flip = RNG.random(features) < 0.5
    given = run(asked(case, MIXED[0], result=Bits(), place=GPU), x, w, value, flip)
    assert_array_equal(given, oracle.pack(np.where((sums[0] >= value) != flip, 1, -1)))


@pytest.mark.parametrize(
    "rows, channels, features",
    [(2048, 2048, 200), (100, 4100, 100), (300, 33000, 33), (70, 64, 130), (3000, 4096, 1100)],
    ids=str,
)
def test_deep_rows(rows, channels, features):
    """Of odd length, and deeper than 16 bits hold; to sums and to words."""
    x, w = words(rows, -(-channels // 32)), words(-(-channels // 32), features)
    a, b = (np.where(oracle.unpack(v, channels, axis=axis) > 0, 1, -1) for v, axis in ((x, -1), (w, -2)))
    u = (a.astype(np.float32) @ b.astype(np.float32)).astype(np.int32)
    case = dense(channels, features, rows=rows, place=GPU)
    assert_array_equal(run(case, x, w), u)
    for dtype in (FLOATS, BFLOATS):
        given = run(dataclasses.replace(case, result=Affine(dtype)), x, w, None, None)
        assert_array_equal(given, u.astype(np.float32).astype(dtype))
    value, flip = RNG.integers(-99, 99, features, np.int32), RNG.random(features) < 0.5
    given = run(dataclasses.replace(case, result=Bits()), x, w, value, flip)
    assert_array_equal(given, oracle.pack(np.where((u >= value) != flip, 1, -1)))


@pytest.mark.parametrize(
    "case", [case for case in EVERY if case.feature_group_count == 1][::3], ids=lambda case: case.id
)
def test_a_constant_kernel(case):
    """It is given as an array of NumPy, and arranged while the program is made."""
    (x, w), sums = drawn(case)
    each = asked(case, MIXED[0], place=GPU)
    assert_array_equal(jax.jit(lambda x: wgmma.conv(x, np.asarray(w), each, ()))(x), sums[0])


@pytest.mark.parametrize("rows", [1, 7, 8, 33, 100])
@pytest.mark.parametrize(
    "dtype", [np.float32, jnp.bfloat16, np.float16, np.int8, np.uint8], ids=lambda t: np.dtype(t).name
)
def test_real_rows(dtype, rows):
    channels, features = 1000, 72
    x, w = RNG.standard_normal((rows, channels)), words(32, features)
    x = (RNG.integers(0, 256, x.shape) if np.issubdtype(dtype, np.integer) else x).astype(dtype)
    b = np.where(oracle.unpack(w, channels, axis=-2) > 0, 1, -1)
    u = run(dense(channels, features, rows=rows, left=np.dtype(dtype), place=GPU), x, w)
    exact = x.astype(np.float64) @ b
    assert_array_equal(u, exact) if np.issubdtype(dtype, np.integer) else assert_close(u, exact)


def test_reals_that_are_no_numbers():
    x, w = RNG.standard_normal((6, 640)).astype(np.float32), words(20, 64)
    b = np.where(oracle.unpack(w, 640, axis=-2) > 0, 1.0, -1.0)
    x[1, 5], x[2, 6], x[3, 7], x[3, 8], x[4, 9] = np.inf, np.nan, np.inf, -np.inf, 3e38
    x[5] = 2.0 ** RNG.integers(-149, -120, 640)
    u = np.asarray(run(dense(640, 64, rows=6, left=FLOATS, place=GPU), x, w))
    with np.errstate(invalid="ignore"):
        expected = x.astype(np.float64) @ b
    assert_array_equal(np.isnan(u), np.isnan(expected))
    assert_array_equal(u[1], expected[1])
    assert_close(u[[0, 4]], expected[[0, 4]])


def test_gradients_and_batches():
    """Through the public function: the same result and gradients as in floats, and `vmap` over images."""
    x, w = (jnp.asarray(RNG.standard_normal(shape), jnp.float32) for shape in ((3, 2, 9, 9, 64), (3, 3, 64, 96)))

    def loss(implementation):
        conv = jax.vmap(lambda x: jbnn.binary_conv(x, w, implementation=implementation))
        return lambda x: jnp.sum(jnp.sin(conv(x)))

    value, gradient = jax.value_and_grad(loss("wgmma"))(x)
    expected = jax.value_and_grad(loss("unpacked"))(x)
    assert_array_equal(value, expected[0])
    assert_close(gradient, expected[1])  # a float convolution's, which a GPU adds up in any order
