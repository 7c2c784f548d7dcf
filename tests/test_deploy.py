"""A network's parameters, packed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracle
import pytest
from jax.tree_util import DictKey, GetAttrKey, keystr
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
    "leaf, error, must, was",
    [
        (
            np.ones((2, 4), np.uint32),
            TypeError,
            "a floating latent kernel",
            "dtype uint32: if it holds words, it is packed",
        ),
        (np.ones((2, 4), np.int8), TypeError, "a floating latent kernel", "dtype int8"),
        (np.ones((2, 4), ml_dtypes.float8_e4m3fnuz), TypeError, "a floating latent kernel", "dtype float8_e4m3fnuz"),
        (np.ones((2, 4)), TypeError, "a floating latent kernel", "dtype float64, which JAX narrows"),
        (np.ones((2, 4), ">f4"), TypeError, "this machine's byte order", "'>f4'"),
        ("relu", TypeError, "an array", "'relu'"),
        (jax.ShapeDtypeStruct((4, 4), jnp.float32), TypeError, "an array", "ShapeDtypeStruct"),
        (np.ones(4, np.float32), ValueError, "at least two axes", "shape (4,)"),
        (1.0, ValueError, "at least two axes", "shape ()"),
    ],
    ids=str,
)
def test_a_wrong_leaf_is_named(leaf, error, must, was):
    with pytest.raises(error) as caught:
        jbnn.pack_kernels({"w": leaf}, lambda path, leaf: True)
    for fact in ("`params['w']`", must, was):
        assert fact in str(caught.value)


def test_a_network_is_packed_once():
    packed = jbnn.pack_kernels(parameters(), binary)
    with pytest.raises(TypeError, match=r"`params\['blocks'\]\[0\]\['kernel'\]` .* packed already"):
        jbnn.pack_kernels(packed, binary)


class Block(NamedTuple):
    kernel: np.ndarray
    bias: np.ndarray


@pytest.mark.parametrize(
    "where",
    [
        lambda path, leaf: path[-1] == "kernel",
        lambda path, leaf: "kernel" in path,
        lambda path, leaf: path[-1] in {"kernel", "w"},
        lambda path, leaf: path[0] == 0 and path[-1] != "bias",
        lambda path, leaf: path == (0, "kernel"),
        lambda path, leaf: path[-1] == GetAttrKey("kernel"),
        lambda path, leaf: path[-1] != DictKey("kernel") and leaf.ndim == 2,
        lambda path, leaf: isinstance(path[-1], GetAttrKey) and path[-1].name == "kernel",
        lambda path, leaf: keystr(path) == "[0].kernel",
    ],
)
def test_a_path_compares_as_it_is_written(where):
    packed = jbnn.pack_kernels([Block(np.ones((33, 4), np.float32), np.ones(4, np.float32))], where)
    assert packed[0].kernel.dtype == jnp.uint32 and packed[0].bias.dtype == np.float32


def test_a_predicate_that_selects_nothing_is_an_error():
    params = {"stem": np.ones((3, 3, 1, 8), np.float32), "blocks": [{"kernel": np.ones((4, 4), np.float32)}]}
    with pytest.raises(ValueError, match="`where` must select a leaf") as caught:
        jbnn.pack_kernels(params, lambda path, leaf: path[-1] == "kernels")
    for path in ("`params['stem']`", "`params['blocks'][0]['kernel']`"):
        assert path in str(caught.value)
    with pytest.raises(ValueError, match="no leaf"):
        jbnn.pack_kernels({}, lambda path, leaf: True)
    with pytest.raises(ValueError, match="and 480 more"):
        jbnn.pack_kernels([0.0] * 500, lambda path, leaf: False)


@pytest.mark.parametrize("answer", [np.ones((4, 4), bool), "no", None, 1], ids=str)
def test_where_answers_true_or_false(answer):
    with pytest.raises(TypeError, match=r"`where\(path, leaf\)` of `params\['w'\]` must be True or False"):
        jbnn.pack_kernels({"w": np.ones((4, 4), np.float32)}, lambda path, leaf: answer)


def test_kernels_of_another_quantizer():
    """Packed with it, a kernel gives what it gave in training; that of `sign` would give something else."""

    def centred(w):
        return jbnn.quantizers.ste_sign(w - w.mean(0, keepdims=True))

    x = jnp.ones((1, 4))
    w = {"w": jnp.array([[0.5, -1], [0.6, -2], [0.7, -3], [0.8, -4]])}
    packed = jbnn.pack_kernels(w, lambda path, leaf: True, quantizer=centred)
    trained = jbnn.binary_dense(x, w["w"], kernel_quantizer=centred)
    assert_array_equal(jbnn.binary_dense(x, packed["w"], kernel_quantizer=centred), trained)
    assert_array_equal(trained, [[0, 0]])
    stacked = jnp.stack([w["w"], 1 - w["w"]])
    words = jbnn.pack_kernels([stacked], lambda path, leaf: True, quantizer=jax.vmap(centred))[0]
    assert_array_equal(words, jnp.stack([jbnn.pack(w, axis=-2, quantizer=centred) for w in stacked]))


# XNOR-Net's scale


def test_alpha_of_stacked_kernels_keeps_the_stack():
    w = RNG.standard_normal((5, 2, 3, 3, 4, 6)).astype(np.float32)
    assert jbnn.alpha(w).shape == (6,)
    for stacked in range(5):
        kept = tuple(range(stacked, 5))
        np.testing.assert_allclose(jbnn.alpha(w, stacked=stacked), np.abs(w).mean(kept), rtol=1e-5)
    ensemble = np.stack([np.ones((3, 3, 4, 2)), 10 * np.ones((3, 3, 4, 2))]).astype(np.float32)
    assert_array_equal(jbnn.alpha(ensemble, stacked=1), [[1, 1], [10, 10]])
    assert_array_equal(jbnn.alpha(ensemble, stacked=1), jax.vmap(jbnn.alpha)(ensemble))


@pytest.mark.parametrize("stacked", [-1, 2, 3])
def test_alpha_needs_an_axis_beside_the_stack(stacked):
    with pytest.raises(ValueError, match=rf"`stacked` must .* shape \(3, 4\), but was {stacked}"):
        jbnn.alpha(np.ones((3, 4), np.float32), stacked=stacked)


@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.float8_e5m2, np.int32, np.uint32], ids=lambda d: d.__name__)
def test_alpha_is_of_a_latent_kernel(dtype):
    with pytest.raises(TypeError, match=f"`w` must be a floating latent kernel, but has dtype {np.dtype(dtype).name}"):
        jbnn.alpha(np.ones((3, 4), dtype))


def test_no_constant_is_sent_to_the_device():
    w = jnp.ones((2, 3, 3, 40, 4))
    with jax.transfer_guard("disallow"):
        assert jbnn.alpha(w).shape == (4,) and jbnn.alpha(w, stacked=1).shape == (2, 4)
        assert jbnn.pack_kernels([w], lambda path, leaf: True)[0].dtype == jnp.uint32


def test_where_is_a_function():
    with pytest.raises(TypeError, match="`where` must be a function of a path and a leaf, but was 'kernel'"):
        jbnn.pack_kernels(parameters(), "kernel")
