"""The gradient keeps bits, is zero where there is nothing, and refuses what bits do not have: further derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import named
from float_expression import BORDERS, round_numbers
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal
from residuals import kept

import jbnn
from jbnn import quantizers

X, W = round_numbers((2, 8, 8, 64), 0), round_numbers((3, 3, 64, 32), 1)

OPERATORS = {
    "binary_conv": (jbnn.binary_conv, X[:1, :3, :3], W),
    "binary_dense": (jbnn.binary_dense, X[0, 0], W[0, 0]),
    "binary_conv_transpose": (jbnn.binary_conv_transpose, X[:1, :3, :3], W),
}

each_mode = pytest.mark.parametrize("mode", BORDERS)
each_operator = pytest.mark.parametrize("operator, x, w", OPERATORS.values(), ids=OPERATORS.keys())


def bits(arrays):
    """How many bits the arrays hold; that they are words."""
    assert all(array.dtype == jnp.uint32 for array in arrays)
    return sum(32 * array.size for array in arrays)


@pytest.mark.parametrize("mode", ["xnor", "and"])
@pytest.mark.parametrize(
    "options", [{}, {"scale": 0.5, "bias": 1.0}, {"activation": jnp.negative}], ids=["plain", "terms", "activation"]
)
def test_two_bits_an_element_are_kept(mode, options):
    """The sign, and whether the gradient passes."""
    assert bits(kept(partial(jbnn.binary_conv, mode=mode, **options), X, W)) == 2 * (X.size + W.size)
    assert bits(kept(jax.jit(partial(jbnn.binary_conv, mode=mode, **options)), X, W)) == 2 * (X.size + W.size)


def test_without_a_clip_it_is_one():
    unclipped = partial(quantizers.ste_sign, clip=None)
    conv = partial(jbnn.binary_conv, input_quantizer=unclipped, kernel_quantizer=unclipped)
    assert bits(kept(conv, X, W)) == X.size + W.size


def test_of_a_packed_kernel_its_words_are_kept():
    words = jbnn.pack(W, axis=-2)
    assert bits(kept(lambda x: jbnn.binary_conv(x, words), X)) == 2 * X.size + W.size


def test_of_real_activations_the_kernel_is_kept_as_bits():
    arrays = kept(partial(jbnn.binary_conv, mode="binary_weights"), X, W)
    words = [array for array in arrays if array.dtype == jnp.uint32]
    assert bits(words) == 2 * W.size
    assert all(array.shape == X.shape for array in arrays if array.dtype != jnp.uint32)


def test_beta_keeps_no_float_an_element():
    """Of z the sign and the zeros; floats are one a position, and u and beta themselves."""
    arrays = kept(partial(jbnn.binary_conv, beta_scaling=True), X, W)
    floats = [array for array in arrays if array.dtype != jnp.uint32]
    assert bits([array for array in arrays if array.dtype == jnp.uint32]) <= 2 * (X.size + W.size) + 2 * X.size
    assert sum(array.size for array in floats) <= 2 * 8 * 8 * (32 + 1) + 32


EMPTY = named(
    "window larger than the image, VALID",
    "cropped to nothing",
    "cropped beyond nothing",
    "empty batch",
)


@each_mode
@pytest.mark.parametrize("beta_scaling", [False, True], ids=["", "beta"])
@pytest.mark.parametrize("case", EMPTY, ids=lambda case: case.id)
def test_an_empty_result_has_zero_gradients(case, mode, beta_scaling):
    @jax.jit
    @partial(jax.grad, argnums=(0, 1, 2))
    def gradient(x, w, terms):
        options = {"mode": mode, "beta_scaling": beta_scaling, **case.geometry}
        return jbnn.binary_conv(x, w, **options, **terms).sum()

    for argument, of_it in zip((x_w_terms := (*case.draw(), case.draw_terms())), gradient(*x_w_terms), strict=True):
        jax.tree.map(lambda v, g: assert_array_equal(g, np.zeros_like(v)), argument, of_it)


ONCE = "can be differentiated once"
NOT_FORWARD = "forward-mode"


@each_mode
@each_operator
def test_second_derivatives_are_refused(operator, x, w, mode):
    def loss(x, w):
        return jnp.square(operator(x, w, mode=mode)).sum()

    def total(slope):
        return lambda x, w: slope(x, w).sum()

    for of in (0, 1):
        with pytest.raises(TypeError, match=ONCE):
            jax.grad(total(jax.grad(loss, of)), of)(x, w)
        with pytest.raises(TypeError, match=ONCE):
            jax.jit(jax.jacrev(jax.jit(jax.grad(loss, of)), of))(x, w)
    with pytest.raises(TypeError, match=f"{ONCE}|{NOT_FORWARD}"):
        jax.hessian(loss)(x, w)


def test_second_derivatives_through_beta_are_refused():
    """Where only beta would have one, and the quantizer's gradient is 0."""
    slope = jax.grad(lambda x: jnp.square(jbnn.binary_dense(x, W[0, 0], beta_scaling=True)).sum())
    with pytest.raises(TypeError, match=ONCE):
        jax.grad(lambda x: slope(x).sum())(X[0, 0, 0] + 9)


def identity(function):
    return function


META = {"plain": {}, "beta": {"beta_scaling": True}, "and": {"mode": "and"}, "reals": {"mode": "binary_weights"}}
META |= {"activation": {"activation": jnp.tanh}}


@pytest.mark.parametrize("transform", [identity, jax.jit, jax.checkpoint], ids=["eager", "jit", "checkpoint"])
@pytest.mark.parametrize("options", META.values(), ids=META.keys())
def test_a_gradient_that_is_stopped_is_a_constant(options, transform):
    """First-order meta-learning: no second derivative is used, although JAX meets one on its way."""
    x, w, y = X[0, 0, :, :8], W[0, 0, :8, :3] * 0.1, jnp.ones((8, 3))

    def loss(w):
        return jnp.square(jbnn.binary_dense(x, w, scale=0.3, **options) - y).sum()

    before = jax.grad(lambda w: loss(w - 0.05 * jax.grad(loss)(lax.stop_gradient(w))))(w)
    slope = transform(jax.grad(loss))
    after = transform(jax.grad(lambda w: loss(w - 0.05 * lax.stop_gradient(slope(w)))))(w)
    assert_allclose(after, before, rtol=1e-6)
    steps = jax.grad(lambda w: loss(lax.fori_loop(0, 2, lambda _, w: w - 0.05 * lax.stop_gradient(slope(w)), w)))(w)
    assert np.isfinite(steps).all()
    with pytest.raises(TypeError, match="stop_gradient"):  # the way out
        transform(jax.grad(lambda w: loss(w - 0.05 * slope(w))))(w)


def test_where_the_inner_gradient_does_not_depend_on_what_is_differentiated():
    """The outer derivative is of a factor of the cotangent alone: a first one."""
    w = W[0, 0]

    def slope(c):
        return jax.grad(lambda x: c * jbnn.binary_dense(x, w).sum())(X[0, 0]).sum()

    assert_allclose(jax.grad(slope)(2.0), slope(1.0), rtol=1e-6)


def test_the_value_of_a_quantizer_beside_its_gradient_has_a_first_derivative():
    value = jax.grad(lambda x: jax.value_and_grad(lambda x: quantizers.ste_sign(x).sum())(x)[0])
    assert_array_equal(value(jnp.array([0.5, -2.0])), [1, 0])


@pytest.mark.parametrize(
    "options", [{}, {"beta_scaling": True}, {"activation": jnp.square}], ids=["plain", "beta", "activation"]
)
@each_mode
@each_operator
def test_forward_mode_is_refused(operator, x, w, mode, options):
    function = partial(operator, mode=mode, **options)
    for forward in (
        lambda: jax.jvp(function, (x, w), (x, w)),
        lambda: jax.jvp(lambda w: function(x, w), (w,), (w,)),
        lambda: jax.jacfwd(jax.jit(function))(x, w),
    ):
        with pytest.raises(TypeError, match=NOT_FORWARD):
            forward()


@each_operator
def test_words_have_no_gradient(operator, x, w):
    with pytest.raises(TypeError, match="uint32"):
        jax.grad(lambda w: operator(x, w).sum())(jbnn.pack(w, axis=-2))
