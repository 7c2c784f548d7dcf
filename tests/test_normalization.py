"""Cross-channel normalization against its formula in NumPy, and its gradient against differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import assert_close

from jbnn.convolution import cross_channel_normalization


def by_the_formula(x, alpha=1.0, beta=5.0, delta=1.0, kernel_size=5):
    """L[…, k] = delta + alpha / N·Σ x[…, q]², q from max(0, k - N // 2) to min(C - 1, k + (N - 1) // 2)."""
    y, channels = np.empty(np.shape(x)), np.shape(x)[-1]
    for k in range(channels):
        neighbours = oracle.real(x)[
            ..., max(0, k - kernel_size // 2) : min(channels - 1, k + (kernel_size - 1) // 2) + 1
        ]
        strength = delta + alpha / kernel_size * (neighbours**2).sum(-1)
        y[..., k] = oracle.real(x)[..., k] / strength**beta
    return y


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_size": 1},
        {"kernel_size": 2, "beta": 0.75},
        {"kernel_size": 4, "alpha": 1e-2},
        {"kernel_size": 20, "delta": 2.0, "beta": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (5,), (3, 1), (0, 4)], ids=str)
def test_formula(shape, options):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert_close(cross_channel_normalization(x, **options), by_the_formula(x, **options))


@pytest.mark.parametrize("size", [8, 9, 16, 31, 32, 100, 10**9])
def test_wide_windows(size):
    """They are made of a few sums, whatever their width, and reach from one end to the other."""
    x = np.random.default_rng(0).standard_normal((2, 37)).astype(np.float32)
    assert_close(cross_channel_normalization(x, kernel_size=size), by_the_formula(x, kernel_size=size))
    program = jax.make_jaxpr(lambda x: cross_channel_normalization(x, kernel_size=size))(x)
    assert len(program.eqns) < 50
    assert cross_channel_normalization(x[:, :0], kernel_size=size).shape == (2, 0)


def test_nothing_spreads_beyond_its_window():
    x = jnp.ones(40).at[0].set(jnp.nan).at[39].set(jnp.inf)
    y = cross_channel_normalization(x, kernel_size=20)
    assert bool(jnp.isfinite(y[11:30]).all())


def test_wide_integers_do_not_wrap():
    y = cross_channel_normalization(jnp.ones(1), alpha=0, beta=1, delta=np.int64(2**32 + 7))
    np.testing.assert_array_equal(y, np.float32([1 / (2**32 + 7)]))


def test_the_window_leans_to_the_lower_channels():
    """Of four neighbours two are below, one is above, and none is wrapped around."""
    x = jnp.zeros(6).at[3].set(2.0)
    y = cross_channel_normalization(x + 1e-30, alpha=4.0, beta=1.0, kernel_size=4) / 1e-30
    strengths = 1 / y.at[3].set(1.0)
    np.testing.assert_allclose(strengths, [1, 1, 5, 1, 5, 5], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_types_are_evaluated_in_float32(dtype):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 8)) * 20, dtype)
    y = cross_channel_normalization(x, beta=0.75)
    assert y.dtype == dtype
    expected = by_the_formula(x, beta=0.75)
    assert_close(y, expected, dtype, float(jnp.finfo(dtype).eps))


def test_gradient():
    """In x and in the three numbers, against central differences of the formula in float64."""
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    c = np.random.default_rng(1).standard_normal((2, 6)).astype(np.float32)
    numbers = {"alpha": 0.5, "beta": 0.75, "delta": 1.5}

    def ours(x, numbers):
        return (c * cross_channel_normalization(x, **numbers, kernel_size=3)).sum()

    def theirs(x, numbers):
        return (c * by_the_formula(x, **numbers, kernel_size=3)).sum()

    def difference(f, step=1e-4):
        return (f(step) - f(-step)) / (2 * step)

    by_x, by_numbers = jax.jit(jax.grad(ours, (0, 1)))(x, jax.tree.map(jnp.float32, numbers))
    for place in np.ndindex(x.shape):
        one = np.zeros(x.shape)
        one[place] = 1
        expected = difference(lambda step, one=one: theirs(x + step * one, numbers))
        np.testing.assert_allclose(by_x[place], expected, rtol=1e-4, atol=1e-5)
    for name, value in numbers.items():
        expected = difference(lambda step, n=name, v=value: theirs(x, {**numbers, n: v + step}))
        np.testing.assert_allclose(by_numbers[name], expected, rtol=1e-4)
    chex.assert_tree_all_finite(jax.grad(ours)(jnp.zeros_like(x), numbers))
