"""Dense layers: a window of one tap, with any axes in front."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_close

import jbnn

SHAPES = [
    ((), 1, 1),
    ((), 70, 5),
    ((4,), 31, 7),
    ((4,), 32, 1),
    ((3,), 1000, 130),
    ((2,), 3000, 5),
    ((2, 3), 33, 6),
    ((2, 1, 3), 64, 4),
    ((0,), 40, 3),
    ((2, 0), 100, 3),
]

shapes = pytest.mark.parametrize("lead, channels, outputs", SHAPES, ids=str)


def draw(lead, channels, outputs):
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((*lead, channels)).astype(np.float32)
    w = rng.standard_normal((channels, outputs)).astype(np.float32)
    terms = {"input_bias": channels, "input_scale": channels, "scale": outputs, "bias": outputs}
    return x, w, {name: rng.standard_normal(size).astype(np.float32) for name, size in terms.items()}


@shapes
def test_packed_dense(lead, channels, outputs, implementation):
    x, w, _ = draw(lead, channels, outputs)
    words = oracle.pack(x), oracle.pack(w, axis=-2)
    foreign = oracle.with_garbage(words[0], channels), oracle.with_garbage(words[1], channels, axis=-2)
    dense = functools.partial(jbnn.packed_dense, channels=channels, implementation=implementation)
    both_modes = jax.jit(lambda x, w: {mode: dense(x, w, mode=mode) for mode in ("xnor", "and")})
    for mode, u in both_modes(*words).items():
        expected = oracle.binary_dense(x, w, mode=mode)
        assert u.dtype == jnp.int32
        assert_array_equal(u, expected, err_msg=mode)
        assert_array_equal(both_modes(*foreign)[mode], expected, err_msg=f"{mode}, garbage in the unused bits")


def test_packed_dense_eagerly(implementation):
    x, w, _ = draw((2, 3), 64, 5)
    u = jbnn.packed_dense(oracle.pack(x), oracle.pack(w, axis=-2), channels=64, implementation=implementation)
    assert_array_equal(u, oracle.binary_dense(x, w))


@shapes
def test_binary_dense(lead, channels, outputs, implementation):
    """The bare sum, and with every option, from a latent kernel and from its bits."""
    x, w, terms = draw(lead, channels, outputs)

    @jax.jit
    def apply(x, w, terms):
        def one(mode):
            dense = functools.partial(jbnn.binary_dense, x, w, mode=mode, implementation=implementation)
            return dense(), dense(**terms, beta_scaling=True, activation=jnp.square)

        return {mode: one(mode) for mode in ("xnor", "and")}

    latent = apply(x, w, terms)
    chex.assert_trees_all_equal(latent, apply(x, oracle.pack(w, axis=-2), terms))
    for mode, (counts, squared) in latent.items():
        assert counts.dtype == jnp.float32
        assert_array_equal(counts, oracle.binary_dense(x, w, mode=mode))
        expected = oracle.binary_dense(x, w, mode=mode, **terms, beta_scaling=True, activation=np.square)
        assert_close(squared, expected)


@shapes
def test_binary_weights(lead, channels, outputs, implementation_of_reals):
    x, w, terms = draw(lead, channels, outputs)
    options = {"mode": "binary_weights", "beta_scaling": True}
    dense = functools.partial(jbnn.binary_dense, implementation=implementation_of_reals, **options)
    apply = jax.jit(lambda x, w, terms: dense(x, w, **terms))
    for kernel in (w, oracle.pack(w, axis=-2)):
        assert_close(apply(x, kernel, terms), oracle.binary_dense(x, w, **options, **terms))


def test_dense_is_a_convolution_with_one_tap():
    x, w, terms = draw((4,), 33, 6)
    options = {**terms, "beta_scaling": True, "activation": jax.nn.relu}
    dense = jax.jit(lambda x, w: jbnn.binary_dense(x, w, **options))(x, w)
    conv = jax.jit(lambda x, w: jbnn.binary_conv(x, w, **options))(x[:, None], w[None])
    assert_allclose(dense, conv[:, 0], rtol=1e-6)


@pytest.mark.parametrize("mode", ["xnor", "and", "binary_weights"])
def test_of_no_channels_there_is_nothing_to_add(mode):
    x, w = np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32)
    words = oracle.pack(w, axis=-2)
    for kernel in (w, words):
        assert_array_equal(jbnn.binary_dense(x, kernel, mode=mode), np.zeros((2, 3)))
        assert_array_equal(jbnn.binary_dense(x, kernel, mode=mode, bias=1.5), np.full((2, 3), 1.5))
    if mode != "binary_weights":
        u = jbnn.packed_dense(oracle.pack(x), words, channels=0, mode=mode)
        assert u.dtype == jnp.int32
        assert_array_equal(u, np.zeros((2, 3)))
