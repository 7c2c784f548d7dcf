"""What a training step keeps: bits, under a name, not unpacked before the backward pass needs them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import Mesh, PartitionSpec
from jax_versions import HAS_EXPLICIT_MESHES, HOLDS_BITS, shard_map
from numpy.testing import assert_allclose, assert_array_equal

import jbnn
from jbnn import quantizers
from jbnn._residuals import NAME, keep_mask, recall, recall_mask

X = jax.random.normal(jax.random.key(0), (2, 8, 8, 64))
W = jax.random.normal(jax.random.key(1), (2, 3, 3, 64, 64))


def block(x, w):
    return x + 0.04 * jbnn.binary_conv(x, w)


def float_block(x, w):
    a, b = quantizers.ste_sign(x), quantizers.ste_sign(w)
    return x + 0.04 * lax.conv_general_dilated(a, b, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def loss(block, x, ws):
    for w in ws:
        x = block(x, w)
    return jnp.square(x).mean()


@pytest.mark.usefixtures("on_cpu")
def test_a_training_step_holds_bits():
    """XLA would unpack the bits of all layers right behind the packing, and hold floats: 1 float a layer at least."""
    layers, x = 8, jax.ShapeDtypeStruct((64, 14, 14, 64), jnp.float32)
    ws = jax.ShapeDtypeStruct((layers, 3, 3, 64, 64), jnp.float32)

    def temporary(block):
        step = jax.jit(jax.grad(partial(loss, block), argnums=1)).lower(x, ws).compile()
        return step.memory_analysis().temp_size_in_bytes

    ours, floats = temporary(block), temporary(float_block)
    activations = layers * x.size * 4
    assert ours < floats
    if HOLDS_BITS:
        assert ours < 0.9 * activations < floats


def test_checkpoint_keeps_them_by_name():
    policy = jax.checkpoint_policies.save_only_these_names("jbnn_bits")
    assert NAME == "jbnn_bits"

    def layer(x, w):
        return jnp.tanh(jbnn.binary_conv(jnp.sin(x), w))

    kept = jax.checkpoint(layer, policy=policy)
    x, w = X[:1, :3, :3], W[0, :, :, :, :8]
    _, pull_back = jax.vjp(kept, x, w)
    arrays = [leaf for leaf in jax.tree.leaves(pull_back) if leaf.size > 1]
    words = [array for array in arrays if array.dtype == jnp.uint32]
    # A sign and a mask for each element of x and of w, whose words are along C and along O.
    assert sum(array.size for array in words) == 2 * x.size // 32 + w.size // 32 + w.size // 8
    assert {array.shape for array in arrays if array.dtype != jnp.uint32} <= {x.shape, w.shape}  # the arguments

    def gradient(f):
        return jax.jit(jax.grad(lambda x, w: f(x, w).sum(), (0, 1)))(x, w)

    jax.tree.map(assert_array_equal, gradient(kept), gradient(layer))


SHAPES = [(), (5,), (3, 33), (2, 0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_mask_comes_back(shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    g = jnp.ones(shape)
    for run in (lambda f: f, jax.jit):
        again, cotangent = run(lambda mask, g: recall_mask(keep_mask(mask), g))(mask, g)
        assert_array_equal(again, mask)
        assert_array_equal(cotangent, g)


def test_of_a_batch_of_cotangents_the_words_stay_one():
    mask = jnp.array([True, False, True])
    words = keep_mask(mask)
    g = jnp.arange(6.0).reshape(2, 3)
    again, cotangent = jax.jit(jax.vmap(lambda g: recall_mask(words, g), out_axes=(None, 0)))(g)
    assert_array_equal(again, mask)
    assert_array_equal(cotangent, g)
    rows = jax.vmap(jax.vjp(quantizers.ste_sign, jnp.array([0.5, 2.0, -1.0]))[1])(g)[0]
    assert_array_equal(rows, g * np.float32([[1, 0, 1]]))


def test_cotangents_that_are_differentiated_pass():
    words = keep_mask(jnp.array([True, False]))

    def masked(g):
        mask, g = recall_mask(words, g)
        return jnp.where(mask, g, 0)

    value, slope = jax.jvp(masked, (jnp.array([3.0, 4.0]),), (jnp.array([1.0, 1.0]),))
    assert_array_equal(value, [3, 0])
    assert_array_equal(slope, [1, 0])
    assert_array_equal(jax.grad(lambda g: masked(g).sum())(jnp.array([3.0, 4.0])), [1, 0])


def gradient_of_layers(ws, x):
    def step(x, w):
        return block(x, w), None

    return jax.grad(lambda ws: jnp.square(lax.scan(step, x, ws)[0]).mean())(ws)


def test_under_scan_and_checkpoint_gradients_are_the_same():
    x, ws = X[:1, :4, :4], W[:2]
    unrolled = jax.jit(jax.grad(partial(loss, block), argnums=1))(x, ws)
    # The same sums in another order: they are floats.
    assert_allclose(jax.jit(gradient_of_layers)(ws, x), unrolled, rtol=0, atol=1e-8)
    checkpointed = jax.jit(jax.grad(partial(loss, jax.checkpoint(block)), argnums=1))(x, ws)
    assert_allclose(checkpointed, unrolled, rtol=0, atol=1e-8)


def test_under_shard_map():
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    x, w = X[:2, :3, :3], W[0, ..., :8]

    def gradient(x, w):
        return jax.grad(lambda x: jnp.square(jbnn.binary_conv(x, w, beta_scaling=True)).sum())(x)

    spec = PartitionSpec("batch")
    split = shard_map(gradient, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
    assert_array_equal(jax.jit(split)(x, w), jax.jit(gradient)(x, w))

    layer = shard_map(jbnn.binary_conv, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
    outside = jax.jit(jax.grad(lambda x: jnp.square(layer(x, w)).sum()))(x)
    assert_array_equal(outside, jax.jit(jax.grad(lambda x: jnp.square(jbnn.binary_conv(x, w)).sum()))(x))


@pytest.mark.skipif(not HAS_EXPLICIT_MESHES, reason="this JAX has no explicit meshes")
def test_on_an_explicit_mesh_types_are_kept():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X[:2, :3, :3], PartitionSpec("batch"))
        gradient = jax.jit(jax.grad(lambda x: jnp.square(jbnn.binary_conv(x, W[0])).sum()))(x)
    assert gradient.sharding.spec[0] == "batch"


@pytest.mark.parametrize("platforms", [("cpu",), ("cuda",), ("cpu", "cuda", "tpu")], ids=",".join)
def test_programs_for_other_platforms(platforms):
    """A barrier on a GPU, a loop of no turns on a CPU; one program may hold both."""
    gradient = jax.jit(jax.grad(lambda x: (quantizers.ste_sign(x) * 3).sum()))
    exported = export.export(gradient, platforms=platforms)(jnp.ones(5))
    module = exported.mlir_module()
    assert ("stablehlo.while" in module) == ("cpu" in platforms)
    assert "optimization_barrier" in module
    if "cpu" in platforms and jax.default_backend() == "cpu":
        assert_array_equal(exported.call(jnp.array([0.5, 2.0, 0.0, -1.0, -7.0])), [3, 0, 3, 3, 0])


def test_recalled_eagerly_nothing_changes():
    words, g = jnp.array([5], jnp.uint32), jnp.ones(3)
    (again,), cotangent = recall((words,), g)
    assert again is words
    assert cotangent is g
