"""A network's parameters, packed."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.tree_util import keystr
from numpy.testing import assert_array_equal

import jbnn

RNG = np.random.default_rng(0)


def parameters():
    def block(deep, wide):
        kernel = RNG.standard_normal((3, 3, deep, wide)).astype(np.float32)
        return {"kernel": kernel, "norm": (np.ones(wide, np.float32), np.zeros(wide, np.float32))}

    return {"stem": block(1, 33), "blocks": [block(33, 8), block(8, 4)], "head": RNG.standard_normal((4, 10))}


def binary(path, leaf):
    return keystr(path).startswith("['blocks']") and leaf.ndim == 4


def test_the_selected_leaves_become_words():
    params = parameters()
    packed = jbnn.pack_kernels(params, binary)
    for before, after in zip(params["blocks"], packed["blocks"], strict=True):
        assert after["kernel"].dtype == jnp.uint32
        assert_array_equal(after["kernel"], oracle.pack(before["kernel"], axis=-2))
        assert after["norm"][0] is before["norm"][0]
    assert packed["stem"]["kernel"] is params["stem"]["kernel"] and packed["head"] is params["head"]
    assert jax.tree.structure(packed) == jax.tree.structure(params)


def test_layers_of_one_shape_may_share_an_array():
    stacked = {"layers": RNG.standard_normal((5, 3, 3, 40, 8)).astype(np.float32)}
    words = jbnn.pack_kernels(stacked, lambda path, leaf: True)["layers"]
    assert_array_equal(words, np.stack([oracle.pack(w, axis=-2) for w in stacked["layers"]]))


def test_it_is_traceable():
    params = {"w": np.ones((33, 4), np.float32), "b": np.ones(4, np.float32)}
    shapes = jax.eval_shape(lambda p: jbnn.pack_kernels(p, lambda path, leaf: leaf.ndim == 2), params)
    assert shapes["w"].shape == (2, 4) and shapes["b"].dtype == jnp.float32


@pytest.mark.parametrize(
    "leaf, error, message",
    [
        (
            np.ones((2, 4), np.uint32),
            TypeError,
            "selects `params['w']`, which holds words of dtype uint32: it is packed",
        ),
        (np.ones((2, 4), np.int8), TypeError, "floating kernels, but selects `params['w']` of dtype int8"),
        (np.ones(4, np.float32), ValueError, "at least two axes, but selects `params['w']` of shape (4,)"),
        (1.0, ValueError, "at least two axes, but selects `params['w']` of shape ()"),
    ],
)
def test_a_wrong_leaf_is_named(leaf, error, message):
    with pytest.raises(error) as caught:
        jbnn.pack_kernels({"w": leaf}, lambda path, leaf: True)
    assert message in str(caught.value)


def test_a_network_is_packed_once():
    packed = jbnn.pack_kernels(parameters(), binary)
    with pytest.raises(TypeError, match=r"`params\['blocks'\]\[0\]\['kernel'\]`, which holds words .* packed already"):
        jbnn.pack_kernels(packed, binary)


def test_where_is_a_function():
    with pytest.raises(TypeError, match="`where` must be a function of a path and a leaf, but was 'kernel'"):
        jbnn.pack_kernels(parameters(), "kernel")
