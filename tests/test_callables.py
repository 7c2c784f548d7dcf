"""Quantizers and activations of the user's own: what they may be, and what they may not do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbnn
from jbnn.quantizers import ste_sign

X = jax.random.normal(jax.random.key(0), (2, 5, 5, 33))
W = jax.random.normal(jax.random.key(1), (3, 3, 33, 8))


@dataclasses.dataclass
class Unhashable:
    """A callable that has `==` and therefore no hash."""

    clip: float

    def __call__(self, x):
        return ste_sign(x, self.clip)


def test_a_callable_needs_no_hash():
    ours = jbnn.binary_conv(X, W, input_quantizer=Unhashable(1.0), activation=Unhashable(1.0))
    np.testing.assert_array_equal(ours, ste_sign(jbnn.binary_conv(X, W)))


def test_a_quantizer_keeps_the_shape():
    with pytest.raises(
        ValueError, match=r"`input_quantizer` must keep the shape .* \(2, 5, 5, 33\), but returned shape"
    ):
        jbnn.binary_conv(X, W, input_quantizer=lambda z: ste_sign(z)[..., :5])
    with pytest.raises(ValueError, match=r"`kernel_quantizer` must keep the shape .* but returned shape \(3, 33, 8\)"):
        jbnn.binary_conv(X, W, kernel_quantizer=lambda w: ste_sign(w).sum(0))


@pytest.mark.parametrize(
    "options", [{}, {"beta_scaling": True}, {"activation": jnp.negative}], ids=["plain", "beta", "activation"]
)
def test_the_dtype_of_a_quantizer_does_not_leak(options):
    def narrow(z):
        return jbnn.sign(z).astype(jnp.int8)  # which would wrap at 127, below the 297 terms of a sum

    x, w = jnp.ones_like(X), jnp.ones_like(W)
    ours = jbnn.binary_conv(x, w, input_quantizer=narrow, **options)
    np.testing.assert_array_equal(ours, jbnn.binary_conv(x, w, **options))


def test_an_activation_is_a_function():
    with pytest.raises(TypeError, match="`activation` must be a function or None, but was 'relu'"):
        jbnn.binary_conv(X, W, activation="relu")


def test_integers_of_any_kind_are_options():
    x = jnp.ones((1, 4, 4, 64))
    w = jnp.ones((3, 3, 32, 2))
    ours = jbnn.binary_conv(x, w, feature_group_count=np.int64(2), window_strides=np.array([1, 2]))
    np.testing.assert_array_equal(ours, jbnn.binary_conv(x, w, feature_group_count=2, window_strides=(1, 2)))


def test_everything_runs_with_jit_disabled():
    expected = jbnn.binary_conv(X, W)
    with jax.disable_jit():
        np.testing.assert_array_equal(jbnn.binary_conv(X, W), expected)
        np.testing.assert_array_equal(jbnn.population_count(jnp.uint32([0, 13])), [0, 3])


def test_a_batch_of_no_convolutions_is_empty():
    none = jax.vmap(lambda x, w: jbnn.binary_conv(x, w))(X[:0, None], jnp.zeros((0, 3, 3, 33, 8)))
    assert none.shape == (0, 1, 5, 5, 8)
