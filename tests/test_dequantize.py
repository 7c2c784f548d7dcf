"""MPS's kernels of bytes: a range for each output channel, or a table."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from jbnn.convolution import dequantize_linear, dequantize_lookup

BYTES = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5), np.uint8)


def test_ranges():
    low, high = np.float32([-1, 0, -0.5, 2, 1]), np.float32([1, 255, 0.5, 3, -1])
    w = jax.jit(dequantize_linear)(BYTES, low, high)
    assert w.dtype == jnp.float32
    expected = BYTES.astype(np.float64) / 255 * (high - low.astype(np.float64)) + low
    assert_allclose(w, expected, rtol=1e-6, atol=1e-6)
    ends = dequantize_linear(np.array([[0] * 5, [255] * 5], np.uint8), low, high)
    assert_allclose(ends, [low, high], rtol=2e-7)  # a GPU multiplies with a rounded 1/255
    assert_allclose(dequantize_linear(BYTES, 0, 255), BYTES, rtol=2e-7)


def test_wide_integers_do_not_wrap():
    w = dequantize_linear(np.array([[255]], np.uint8), np.array([0]), np.array([2**32 + 7]))
    assert_array_equal(w, np.float32([[2**32 + 7]]))
    assert_array_equal(dequantize_linear(np.array([[0]], np.uint8), -(2**40), np.uint64(1)), np.float32([[-(2**40)]]))


def test_a_range_can_be_trained():
    _, pull_back = jax.vjp(lambda low, high: dequantize_linear(BYTES, low, high), jnp.zeros(5), jnp.ones(5))
    by_low, by_high = pull_back(jnp.ones(BYTES.shape))
    fraction = (BYTES / 255).sum((0, 1, 2))
    assert_allclose(by_high, fraction, rtol=1e-5)
    assert_allclose(by_low, 24 - fraction, rtol=1e-5)


def test_a_table():
    table = np.random.default_rng(1).standard_normal(256).astype(np.float32)
    w = jax.jit(dequantize_lookup)(BYTES, table)
    assert w.dtype == jnp.float32
    assert_array_equal(w, table[BYTES])
    assert dequantize_lookup(BYTES, table.astype(np.float16)).dtype == jnp.float32
    counts = jax.grad(lambda table: dequantize_lookup(BYTES, table).sum())(jnp.asarray(table))
    assert_array_equal(counts, np.bincount(BYTES.ravel(), minlength=256))
