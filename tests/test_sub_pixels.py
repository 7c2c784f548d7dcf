"""Channels as pixels: both orders by their elements, and the inverse that is the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jbnn.convolution import depth_to_space, space_to_depth

SHAPES = [
    ((2, 3, 2, 12), 2),
    ((1, 2, 3, 18), (2, 3)),
    ((1, 2, 3, 5), (1, 1)),
    ((2, 3, 8), 4),
    ((1, 2, 1, 2, 24), (2, 3, 2)),
    ((0, 2, 2, 4), 2),
]
each_shape = pytest.mark.parametrize("shape, block", SHAPES, ids=str)


def counted(shape):
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


@pytest.mark.parametrize("order", ["dcr", "crd"])
@each_shape
def test_every_element(shape, block, order):
    """out[n, y, x, c] of input pixel (y // r, x // r), which holds r² sub-pixels of C' channels, in either order."""
    x, rank = counted(shape), len(shape) - 2
    out = np.asarray(jax.jit(functools.partial(depth_to_space, block=block, order=order))(x))
    r = np.broadcast_to(block, rank)
    pieces = int(np.prod(r))
    depth = shape[-1] // pieces
    assert out.shape == (shape[0], *(n * b for n, b in zip(shape[1:-1], r, strict=True)), depth)
    for n, *place, c in np.ndindex(*out.shape):
        piece = int(np.ravel_multi_index([p % b for p, b in zip(place, r, strict=True)], r))
        channel = piece * depth + c if order == "dcr" else c * pieces + piece
        assert out[(n, *place, c)] == x[(n, *(p // b for p, b in zip(place, r, strict=True)), channel)]
    assert_array_equal(space_to_depth(out, block, order=order), x)


def test_the_formula_that_mps_documents():
    """dest[X][Y][c] = conv[X // r][Y // r][N / r²·(r·(Y mod r) + X mod r) + c]."""
    r, channels = 3, 18
    conv = counted((1, 2, 2, channels))
    dest = depth_to_space(conv, r)
    for y, x, c in np.ndindex(6, 6, channels // r**2):
        assert dest[0, y, x, c] == conv[0, y // r, x // r, channels // r**2 * (r * (y % r) + x % r) + c]


@pytest.mark.parametrize("order", ["dcr", "crd"])
@each_shape
def test_each_is_the_gradient_of_the_other(shape, block, order):
    x = jnp.asarray(counted(shape), jnp.float32)
    y, pull_back = jax.vjp(functools.partial(depth_to_space, block=block, order=order), x)
    g = jnp.asarray(counted(y.shape), jnp.float32)
    assert_array_equal(pull_back(g)[0], space_to_depth(g, block, order=order))
    _, pull_back = jax.vjp(functools.partial(space_to_depth, block=block, order=order), y)
    assert_array_equal(pull_back(x)[0], depth_to_space(x, block, order=order))


def test_words_move_too():
    """Whole words of a packed image are channels like any other, if each sub-pixel fills its own."""
    words = np.arange(16, dtype=np.uint32).reshape(1, 2, 2, 4)
    out = depth_to_space(words, 2)
    assert (out.dtype, out.shape) == (jnp.uint32, (1, 4, 4, 1))
