"""Quantizers and activations of the user's own: what they may be, and what they may not do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbnn
from jbnn import quantizers
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


def _in_a_rule(z):
    @jax.custom_vjp
    def rule(z):
        return quantizers.ste_heaviside(z)

    rule.defvjp(lambda z: (rule(z), None), lambda _, g: (g,))
    return rule(z)


step = quantizers.ste_heaviside
WRAPPED = {
    "bare": step,
    "lambda": lambda z: step(z - 0.1),
    "partial": functools.partial(lambda clip, z: step(z, clip), 1.0),
    "jit": jax.jit(step),
    "checkpoint": jax.checkpoint(step),
    "vmap": lambda z: jax.vmap(step, 1, 1)(z),
    "cast": lambda z: step(z.astype(jnp.bfloat16)).astype(z.dtype),
    "reshaped": lambda z: step(z.reshape(-1)).reshape(z.shape),
    "cond": lambda z: jax.lax.cond(z.sum() > 0, step, lambda z: step(z - 0.1), z),
    "where": lambda z: jnp.where(z > 9, step(z), step(z - 0.1)),
    "scan": lambda z: jax.lax.scan(lambda c, row: (c, step(row)), 0, z)[1],
    "rule": _in_a_rule,
    "all": jax.jit(jax.checkpoint(lambda z: jax.jit(lambda y: y)(step(z)))),
}
each_wrapping = pytest.mark.parametrize("quantizer", WRAPPED.values(), ids=WRAPPED.keys())


@each_wrapping
def test_a_step_is_recognised_inside(quantizer):
    """In `and` its value is a, and its gradient is not halved."""
    x, w = jnp.full((1, 4), 0.5), jnp.ones((4, 1))

    def total(x):
        return jbnn.binary_dense(x, w, mode="and", input_quantizer=quantizer).sum()

    assert total(x) == 4
    for gradient in (jax.grad(total), jax.jit(jax.grad(total)), jax.grad(jax.checkpoint(total))):
        np.testing.assert_array_equal(gradient(x), jnp.ones((1, 4)))
    np.testing.assert_array_equal(jax.vmap(jax.grad(total))(x[None]), jnp.ones((1, 1, 4)))


@each_wrapping
def test_and_refused_elsewhere(quantizer):
    with pytest.raises(ValueError, match=r"`input_quantizer` must return ±1, .*ste_heaviside"):
        jbnn.binary_dense(X[0, 0], W[0, 0], input_quantizer=quantizer)


def test_a_learned_shift_has_its_whole_gradient():
    def total(shift):
        return jbnn.binary_dense(
            jnp.full((1, 4), 0.5), jnp.ones((4, 1)), mode="and", input_quantizer=lambda z: step(z - shift[None])
        ).sum()

    for gradient in (jax.grad(total), jax.jit(jax.grad(total))):
        np.testing.assert_array_equal(gradient(jnp.full(4, 0.1)), -jnp.ones(4))


@pytest.mark.parametrize("name", ["ste_tern", "dorefa", "magnitude_aware_sign"])
@pytest.mark.parametrize("wrap", [jax.jit, lambda q: lambda z: q(z - 0.1)], ids=["jit", "lambda"])
def test_other_values_are_refused_inside(wrap, name):
    for options in ({}, {"mode": "and"}, {"mode": "binary_weights"}):
        with pytest.raises(ValueError, match=f"`kernel_quantizer` must return ±1, .*{name}"):
            jbnn.binary_dense(X[0, 0], W[0, 0], kernel_quantizer=wrap(getattr(quantizers, name)), **options)


def test_what_is_computed_from_known_values_is_the_callers():
    ours = jbnn.binary_dense(X[0, 0], W[0, 0], mode="and", input_quantizer=lambda z: 2 * step(z) - 1)
    np.testing.assert_array_equal(ours, jbnn.binary_dense(X[0, 0], W[0, 0], mode="and", input_quantizer=step))


def test_a_quantizer_may_need_more_than_shapes():
    def by_value(z):
        return ste_sign(z) if float(z.max()) > 0 else -ste_sign(z)

    ours = jbnn.binary_dense(X[0, 0], W[0, 0], input_quantizer=by_value)
    np.testing.assert_array_equal(ours, jbnn.binary_dense(X[0, 0], W[0, 0]))
