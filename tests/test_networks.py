"""The example networks: their sizes are the published ones, they train, and packed they compute what floats compute.

Small networks here; the full ones are only counted.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from networks import each_network, shapes, small

import jbnn
from examples.models import binarynet, birealnet18, layers, quicknet

RNG = np.random.default_rng(0)


def numbers(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def binary_weights(params):
    kernels = jax.tree.map(lambda leaf: leaf.size, params)
    chosen = jax.tree_util.tree_map_with_path(lambda path, n: n if layers.is_kernel(path, None) else 0, kernels)
    return sum(jax.tree.leaves(chosen))


def size_in_bytes(params, state, *, of_a_norm):
    """One bit for a binary weight and 32 for any other number, of which a batch norm has 4 a channel, or folded 2."""
    binary = binary_weights(params)
    norms = sum(numbers(node) for node in jax.tree.leaves(params, is_leaf=is_norm) if is_norm(node))
    channels = numbers(state) // 2  # each has a mean and a variance
    return binary / 8 + 4 * (numbers(params) - binary - norms + of_a_norm * channels)


def is_norm(node):
    return isinstance(node, layers.Norm)


# From Larq Zoo's documentation, in millions and in MB, by which it means 2^20 bytes. The figures are those of deployed
# networks: batch norms folded to two numbers a channel. The blur's weights, constants here, count as parameters there.
@pytest.mark.parametrize(
    "options, millions, megabytes",
    [(quicknet.SMALL, 12.66, 4.00), (quicknet.NORMAL, 13.23, 4.17), (quicknet.LARGE, 23.34, 5.40)],
    ids=["small", "normal", "large"],
)
def test_quicknet_has_the_published_size(options, millions, megabytes):
    params, state = shapes(functools.partial(quicknet.init, **options))
    blurs = sum(9 * block.pointwise.shape[0] for block in params.blocks if isinstance(block, quicknet.Transition))
    binary, size = binary_weights(params), size_in_bytes(params, state, of_a_norm=2) + 4 * blurs
    assert round((binary + (size - binary / 8) / 4) / 1e6, 2) == millions
    assert round(size / 2**20, 2) == megabytes


def test_birealnet18_has_the_published_size():
    params, state = shapes(birealnet18.init)
    assert numbers(params) + numbers(state) == 11_699_112
    assert size_in_bytes(params, state, of_a_norm=4) == 4_227_744


def test_binarynet_has_the_published_layers():
    params, _ = shapes(binarynet.init)
    assert [layer.kernel.shape for layer in params] == [
        (3, 3, 3, 128),
        (3, 3, 128, 128),
        (3, 3, 128, 256),
        (3, 3, 256, 256),
        (3, 3, 256, 512),
        (3, 3, 512, 512),
        (8192, 1024),
        (1024, 1024),
        (1024, 10),
    ]


def size_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def deployed_shapes(module, params, state):
    """What `deploy` returns, for shapes. Thresholds want known numbers, so here they are made of zeros."""
    if module is not binarynet:
        return jax.eval_shape(module.deploy, params, state)
    kernels = jax.eval_shape(functools.partial(layers.deployed_kernels, packed=True), params)
    thresholds = [
        jbnn.Threshold(np.zeros(moments.mean.shape, np.int32), np.zeros(moments.mean.shape, bool)) for moments in state
    ]
    return [layer.kernel for layer in kernels], thresholds


@pytest.mark.parametrize(
    "module, options, ratio",
    [
        (birealnet18, {}, 11),
        (quicknet, quicknet.SMALL, 12),
        (quicknet, quicknet.NORMAL, 12),
        (quicknet, quicknet.LARGE, 16),
        (binarynet, {}, 25),
    ],
    ids=["birealnet18", "quicknet small", "quicknet", "quicknet large", "binarynet"],
)
def test_deployed_parameters_are_small(module, options, ratio):
    params, state = shapes(functools.partial(module.init, **options))
    assert size_of((params, state)) >= ratio * size_of(deployed_shapes(module, params, state))


@pytest.mark.parametrize("module", [quicknet, birealnet18], ids=["quicknet", "birealnet18"])
def test_packed_parts_equal_float_parts(module):
    """Run eagerly where bits are involved: compiled together, XLA may fuse a product and a sum into one rounding."""
    params, state, images = small(module)
    packed = module.parts(*module.deploy(params, state))
    floats = module.parts(*module.deploy(params, state, packed=False), binary_layer=layers.float_layer)
    x = y = images
    for index, (bits, real) in enumerate(zip(packed, floats, strict=True)):
        if bits.kind.startswith("binary"):
            x, _ = bits.function(bits.params, bits.moments, x)
            y, _ = real.function(real.params, real.moments, y)
        else:
            x, y = (jax.jit(part.function)(part.params, part.moments, z)[0] for part, z in ((bits, x), (real, y)))
        np.testing.assert_array_equal(x, y, err_msg=f"part {index}, {bits.kind}")
        assert len(np.unique(x)) > 10
    assert x.shape == (len(images), 10)


def test_binarynet_is_bits_from_layer_to_layer():
    """At every boundary those of NumPy's floats, ties and dead channels included, and no float between."""
    params, state, images = small(binarynet)
    for layer, moments in zip(params, state, strict=True):
        layer.norm.beta[::2] = 0  # then a sum that equals its mean, an integer, is a tie: exactly 0 after the norm
        layer.norm.gamma[3] = moments.variance[4] = layer.norm.gamma[5] = moments.variance[5] = 0
    deployed, folded = binarynet.deploy(params, state)
    x = y = images
    ties = 0
    for index, part in enumerate(binarynet.parts(deployed, folded)):
        x, _ = part.function(part.params, None, x)
        y, tie = in_numpy(params[index], state[index], y, index, last=index == len(params) - 1)
        ties += tie
        if index < len(params) - 1:
            assert x.dtype == jnp.uint32
            np.testing.assert_array_equal(x, oracle.pack(y), err_msg=f"layer {index}, {part.kind}")
        else:
            np.testing.assert_array_equal(x, y)
    assert ties > 20


def in_numpy(layer, moments, x, index, *, last):
    """One layer in NumPy: exact sums, pooling, two float32 roundings, sign. Also how many of its values are ties."""
    b = oracle.sign(np.asarray(layer.kernel)).astype(np.float64)
    a = 2.0 * x - 255 if index == 0 else oracle.sign(x).astype(np.float64)
    if b.ndim == 2:
        u = a.reshape(len(a), -1) @ b
    else:
        n, h, w, _ = a.shape
        a = np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)))
        u = sum(a[:, i : i + h, j : j + w] @ b[i, j] for i in range(3) for j in range(3))
        if index % 2:
            u = u.reshape(n, h // 2, 2, w // 2, 2, -1).max(axis=(2, 4))
    scale, bias = map(np.asarray, layers.fold(layer.norm, moments, epsilon=binarynet.EPSILON))
    v = u.astype(np.float32) * scale + bias
    return v if last else oracle.sign(v), np.count_nonzero(v[..., (scale != 0) & (bias != 0)] == 0)


def test_pooling_after_the_norm():
    """Convolution, batch norm, pooling, sign: the threshold's bits are pooled as they are, whatever the slopes."""
    x, w = RNG.standard_normal((2, 6, 6, 33)), RNG.standard_normal((3, 3, 33, 40))
    scale, bias = (RNG.uniform(-1, 1, 40).astype(np.float32) for _ in range(2))
    v = oracle.accumulate(x, w, padding="SAME", pad_value=0).astype(np.float32) * scale + bias
    expected = v.reshape(2, 3, 2, 3, 2, 40).max(axis=(2, 4))
    threshold = jbnn.sign_threshold(scale, bias)
    bits = jbnn.packed_conv(oracle.pack(x), oracle.pack(w, axis=-2), channels=33, threshold=threshold)
    assert threshold.flip.any() and not threshold.flip.all()
    np.testing.assert_array_equal(jbnn.packed_max_pool(bits, 2), oracle.pack(oracle.sign(expected)))


@each_network
def test_a_step_of_training(module):
    """Gradients reach every parameter, the moments move, and the next scores are those of the moved network."""
    params, state, images = small(module)

    @jax.jit
    def step(params, state):
        def loss(params):
            scores, new = module.apply(params, state, images, train=True)
            return -jnp.mean(jax.nn.log_softmax(scores / 8)[:, 0]), new

        (value, new), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        return value, slopes, new

    value, slopes, new = step(params, state)
    assert np.isfinite(value)
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(slope).all() and np.any(slope != 0), jax.tree_util.keystr(path)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert before.shape == after.shape and np.any(before != after)


@each_network
def test_no_images_give_no_scores(module):
    params, state, images = small(module)
    assert module.apply(*module.deploy(params, state), images[:0])[0].shape == (0, 10)
    assert jax.eval_shape(module.apply, params, state, images[:0])[0].shape == (0, 10)


@each_network
def test_deployed_networks_do_not_train(module):
    params, state, images = small(module)
    with pytest.raises(ValueError, match="`train` must be False for a deployed network"):
        jax.eval_shape(functools.partial(module.apply, train=True), *module.deploy(params, state), images)


@each_network
def test_a_network_is_packed_once(module):
    params, state, _ = small(module)
    with pytest.raises(TypeError, match="it is packed already"):
        jbnn.pack_kernels(module.deploy(params, state)[0], layers.is_kernel)
