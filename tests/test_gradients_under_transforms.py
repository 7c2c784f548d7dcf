"""Gradients compose with JAX's other transformations: each the same as a Python loop around plain `jax.grad`."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float_expression import round_numbers, round_terms
from jax import lax
from numpy.testing import assert_array_equal

import jbnn
from jbnn.activations import relu

X, W, TERMS = round_numbers((4, 5, 4, 33), 0), round_numbers((3, 2, 33, 6), 1), round_terms(33, 6)


def loss(x, w, terms):
    return jbnn.binary_conv(x, w, pad_value=-1, activation=relu, **terms).sum()


every_argument = jax.grad(loss, argnums=(0, 1, 2))


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@pytest.fixture(scope="module")
def expected():
    """One gradient for each image: its own, and what it adds to those of the shared arguments."""
    return stack([jax.jit(every_argument)(x[None], W, TERMS) for x in X])


def test_of_a_batch_is_the_sum_of_those_of_its_images(expected):
    of_x, *shared = expected
    total = of_x[:, 0], *jax.tree.map(lambda g: g.sum(0), shared)
    chex.assert_trees_all_equal(every_argument(X, W, TERMS), tuple(total))
    chex.assert_trees_all_equal(jax.jit(every_argument)(X, W, TERMS), tuple(total))


def test_vmap_of_grad(expected):
    """Per-example gradients."""
    per_example = jax.jit(jax.vmap(every_argument, in_axes=(0, None, None)))
    chex.assert_trees_all_equal(per_example(X[:, None], W, TERMS), expected)


def test_lax_map_of_grad(expected):
    chex.assert_trees_all_equal(lax.map(lambda x: every_argument(x[None], W, TERMS), X), expected)


def test_grad_of_vmap(expected):
    def of_all(x, w, terms):
        return jax.vmap(loss, in_axes=(0, None, None))(x, w, terms).sum()

    of_x, *shared = jax.jit(jax.grad(of_all, argnums=(0, 1, 2)))(X[:, None], W, TERMS)
    assert_array_equal(of_x, expected[0])
    chex.assert_trees_all_equal(shared, list(jax.tree.map(lambda g: g.sum(0), expected[1:])))


def test_vmap_over_kernels_and_terms():
    """An ensemble: as many models, one batch of images."""
    kernels = round_numbers((3, *W.shape), 2)
    terms = jax.tree.map(lambda *t: np.stack(t), *(round_terms(33, 6), round_terms(33, 6), TERMS))
    together = jax.jit(jax.vmap(every_argument, in_axes=(None, 0, 0)))(X, kernels, terms)
    one_by_one = [every_argument(X, kernels[i], jax.tree.map(lambda t, i=i: t[i], terms)) for i in range(3)]
    chex.assert_trees_all_equal(together, stack(one_by_one))


def test_vmap_over_everything():
    images, kernels = round_numbers((2, 1, 4, 4, 6), 3), round_numbers((2, 3, 3, 3, 4), 4)

    def of_groups(x, w):
        return jbnn.binary_conv(x, w, feature_group_count=2, beta_scaling=True, window_strides=2).sum()

    together = jax.jit(jax.vmap(jax.grad(of_groups, argnums=(0, 1))))(images, kernels)
    one_by_one = [jax.grad(of_groups, argnums=(0, 1))(*pair) for pair in zip(images, kernels, strict=True)]
    chex.assert_trees_all_close(together, stack(one_by_one), rtol=1e-5, atol=1e-5)


def test_remat(expected):
    """Forgetting the bits and computing them again."""
    again = jax.grad(jax.checkpoint(loss), argnums=(0, 1, 2))
    chex.assert_trees_all_equal(jax.jit(again)(X, W, TERMS), every_argument(X, W, TERMS))


LAYERS = round_numbers((5, 33, 33), 5), round_numbers((5, 33), 6, (0.5, -0.25, 1))


def layer(x, parameters):
    w, scale = parameters
    return jbnn.binary_dense(x, w, scale=scale, bias=0.5), None


@pytest.mark.parametrize("remat", [False, True], ids=["", "remat"])
def test_scan_over_layers(remat):
    x = round_numbers((7, 33), 7)

    def scanned(x, layers):
        step = jax.checkpoint(layer) if remat else layer
        return lax.scan(step, x, layers)[0].sum()

    def unrolled(x, layers):
        for parameters in zip(*layers, strict=True):
            x, _ = layer(x, parameters)
        return x.sum()

    gradients = [jax.jit(jax.grad(f, argnums=(0, 1)))(x, LAYERS) for f in (scanned, unrolled)]
    assert np.any(gradients[0][0])
    chex.assert_trees_all_equal(*gradients)


def test_jacobian_worked_by_hand():
    """Each output's slope in x is its column of signs, where |x| <= 1."""
    x, w = jnp.array([0.5, -1.0, 2.0]), jnp.array([[1.0, -1.0], [3.0, 1.0], [-1.0, 0.0]])
    assert_array_equal(jax.jacrev(jbnn.binary_dense)(x, w), [[1, 1, 0], [-1, 1, 0]])


def test_of_a_branch():
    gradient = jax.jit(
        jax.grad(lambda w, use: lax.cond(use, partial(loss, X, terms={}), lambda w: jnp.float32(0), w), argnums=0)
    )
    assert_array_equal(gradient(W, True), jax.grad(loss, argnums=1)(X, W, {}))
    assert_array_equal(gradient(W, False), np.zeros_like(W))


def test_training_takes_the_loss_down():
    """A dense layer learns the signs of another, by gradients alone."""
    x, wanted = round_numbers((64, 33), 8, (-1, 1)), round_numbers((33, 4), 9, (-1, 1))
    target = x @ wanted

    @jax.jit
    def step(w, _):
        value, slope = jax.value_and_grad(lambda w: jnp.square(jbnn.binary_dense(x, w) - target).mean())(w)
        return jnp.clip(w - 0.01 * slope, -1, 1), value

    w, losses = lax.scan(step, jnp.zeros((33, 4)), length=60)
    assert losses[0] > 10 and losses[-1] == 0
    assert_array_equal(jbnn.sign(w), wanted)
