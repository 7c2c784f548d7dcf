"""Layers inside larger programs, stacked, recomputed, accumulated, donated: each the same as the plain program."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from float_expression import round_numbers
from jax import lax
from numpy.testing import assert_array_equal

import jbnn

DEPTH, CHANNELS = 3, 33
IMAGES = round_numbers((8, 4, 3, CHANNELS), 0)
LATENT = round_numbers((DEPTH, 3, 2, CHANNELS, CHANNELS), 1, (-2, -1, -0.5, 0.5, 1, 2))
# Powers of two, so that sums stay exact; small ones, so that layers pass on values within the clip, where slopes are.
SCALES = round_numbers((DEPTH, CHANNELS), 2, (1 / 16, -1 / 8))
WORDS = oracle.pack(LATENT, axis=-2)


def layer(x, w, scale):
    return x + jbnn.binary_conv(x, w, scale=scale, pad_value=1)


def unrolled(x, kernels, scales):
    for w, scale in zip(kernels, scales, strict=True):
        x = layer(x, w, scale)
    return x


def scanned(x, kernels, scales, wrap=lambda step: step):
    def step(x, parameters):
        return layer(x, *parameters), None

    return lax.scan(wrap(step), x, (kernels, scales))[0]


def slopes(function):
    """In images, kernels and scales, of a loss whose cotangents are small integers."""

    def loss(*args):
        y = function(*args)
        return jnp.vdot(y, round_numbers(y.shape, 3, (-2, -1, 0, 1, 2)))

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))


@pytest.fixture(scope="module")
def expected():
    of_all = slopes(unrolled)(IMAGES, LATENT, SCALES)
    assert all(np.any(layer != 0) for of_one in of_all for layer in of_one)
    return of_all


@pytest.mark.parametrize("kernels", [LATENT, WORDS], ids=["latent", "packed"])
def test_scan_over_stacked_layers(kernels):
    """Trained and deployed, one body compiled for all of them."""
    result = jax.jit(scanned)(IMAGES, kernels, SCALES)
    assert_array_equal(result, jax.jit(unrolled)(IMAGES, LATENT, SCALES))


POLICIES = {
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "products": jax.checkpoint_policies.dots_saveable,
    "everything": jax.checkpoint_policies.everything_saveable,
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("over", ["one layer", "all layers"])
def test_checkpoint(over, policy, expected):
    """Whatever is kept and whatever is computed again."""
    checkpoint = functools.partial(jax.checkpoint, policy=policy)
    function = functools.partial(scanned, wrap=checkpoint) if over == "one layer" else checkpoint(unrolled)
    chex.assert_trees_all_equal(slopes(function)(IMAGES, LATENT, SCALES), expected)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_lax_map(batch_size):
    """One image at a time, and three at a time with two left over."""

    def one(x):
        return layer(x[None], WORDS[0], SCALES[0])[0]

    mapped = jax.jit(lambda x: lax.map(one, x, batch_size=batch_size))
    assert_array_equal(mapped(IMAGES), layer(IMAGES, LATENT[0], SCALES[0]))


def test_lax_map_over_kernels():
    def one(parameters):
        return jbnn.packed_conv(oracle.pack(IMAGES), parameters, channels=CHANNELS)

    expected = [oracle.accumulate(IMAGES, w) for w in LATENT]
    assert_array_equal(jax.jit(lambda w: lax.map(one, w))(WORDS), expected)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["NumPy's", "JAX's"])
def test_a_kernel_that_is_closed_over_is_packed_while_tracing(array):
    """XLA would otherwise fold the packing while it compiles, and take seconds."""
    w, scale = array(LATENT[0]), jnp.asarray(SCALES[0])

    def deployed(x):
        return jbnn.binary_conv(x, w, scale=scale)

    # The scale is a constant of the program too, and numbers may be; what is asked is the form of the kernel.
    arrays = [
        const for const in jax.make_jaxpr(deployed)(IMAGES).consts if np.shape(const) not in ((), SCALES[0].shape)
    ]
    assert [(const.dtype, const.shape) for const in arrays] == [(np.uint32, WORDS[0].shape)]
    assert_array_equal(jax.jit(deployed)(IMAGES), jbnn.binary_conv(IMAGES, LATENT[0], scale=SCALES[0]))


def halves(x):
    return x.reshape(2, -1, *x.shape[1:])


@pytest.mark.parametrize("loop", ["scan", "fori_loop"])
def test_gradients_accumulated_over_parts_of_a_batch(loop):
    """A batch that does not fit, in two parts."""

    def loss(parameters, x):
        return scanned(x, *parameters).sum()

    def add(total, x):
        return jax.tree.map(jnp.add, total, jax.grad(loss)(parameters, x))

    parameters = LATENT, SCALES
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    if loop == "scan":
        accumulated = jax.jit(lambda x: lax.scan(lambda total, x: (add(total, x), None), zeros, x)[0])
    else:
        accumulated = jax.jit(lambda x: lax.fori_loop(0, 2, lambda i, total: add(total, x[i]), zeros))
    whole = jax.jit(jax.grad(loss))(parameters, IMAGES)
    assert all(np.any(leaf) for leaf in whole)
    chex.assert_trees_all_equal(accumulated(halves(IMAGES)), whole)


@pytest.mark.parametrize("kernels", [LATENT, WORDS], ids=["latent", "packed"])
def test_donated_images(kernels):
    """The result takes the place of the images, which are gone."""
    donating = jax.jit(layer, donate_argnums=0)
    x = jnp.array(IMAGES)
    y = donating(x, kernels[0], SCALES[0])
    assert x.is_deleted()
    assert_array_equal(y, layer(IMAGES, kernels[0], SCALES[0]))


def test_donated_parameters():
    """A training loop that holds one copy of what it trains."""

    def loss(parameters):
        return scanned(IMAGES, *parameters).sum()

    def step(parameters):
        return jax.tree.map(lambda p, slope: p - 2.0**-10 * slope, parameters, jax.grad(loss)(parameters))

    given = parameters = jax.tree.map(jnp.array, (LATENT, SCALES))
    donating = jax.jit(step, donate_argnums=0)
    for _ in range(2):
        parameters = donating(parameters)
    assert all(p.is_deleted() for p in given)
    plain = jax.jit(step)
    chex.assert_trees_all_close(parameters, plain(plain((LATENT, SCALES))), rtol=1e-6)


@pytest.mark.parametrize("argument", ["images", "kernel", "scale"])
def test_linearize_is_refused(argument):
    """What it returns goes forward, and through bits only the way back is defined."""
    arguments = {"images": IMAGES, "kernel": LATENT[0], "scale": SCALES[0]}

    def varied(value):
        return layer(*(arguments | {argument: value}).values())

    value = arguments[argument]
    _, forward = jax.linearize(varied, value)
    with pytest.raises(TypeError, match="forward-mode"):
        forward(value)
