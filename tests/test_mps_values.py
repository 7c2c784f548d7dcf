"""Descriptors and sources as values: equality, numbers as they were given, and programs that are stored with them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from mps_cases import UINT32, XNOR, W, X, descriptor, normal, real_source, source_of
from numpy.testing import assert_array_equal

from jbnn import convolution, mps


def test_a_neuron_with_nan_equals_itself():
    """Else each call with it would be traced again."""

    def neuron():
        return mps.NeuronDescriptor(mps.NeuronType.TANH, a=float("nan"), b=1.0)

    assert neuron() == neuron() and hash(neuron()) == hash(neuron())
    assert descriptor(fused_neuron=neuron()) == descriptor(fused_neuron=neuron())
    assert neuron() != mps.NeuronDescriptor(mps.NeuronType.TANH, b=1.0)
    slopes = [mps.NeuronDescriptor(mps.NeuronType.PRELU, prelu=[0.5, float("nan")]) for _ in range(2)]
    assert slopes[0] == slopes[1]
    norms = [mps.BatchNormalization(mean=[float("nan")], variance=[1.0], epsilon=0.1) for _ in range(2)]
    assert norms[0] == norms[1]


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), jnp.float32(0.5)], ids=lambda v: str(type(v)))
def test_numbers_of_every_kind(value):
    assert mps.NeuronDescriptor(mps.NeuronType.RELU, a=value) == mps.NeuronDescriptor(mps.NeuronType.RELU, a=0.5)


def test_a_source_equals_itself_alone():
    source = source_of(W)
    assert source == source and source in {source}
    assert source != mps.ArrayDataSource(source.descriptor, UINT32, source.weights)


def test_wide_integers_do_not_wrap():
    x, one = jnp.ones((1, 1, 1, 1)), mps.ArrayDataSource(descriptor(1, 1, 1), UINT32, np.uint32([1]))
    y = mps.binary_convolution(x, one, type=XNOR, scale_value=np.int64(2**32 + 2**10))
    assert_array_equal(y, np.full((1, 1, 1, 1), 2**32 + 2**10, np.float32))
    options = {"weights_quantization_type": 1, "ranges": np.array([[0, 2**32 + 7]])}
    of_bytes = mps.ArrayDataSource(descriptor(1, 1, 1), mps.DataType.UINT8, np.uint8([255]), **options)
    assert_array_equal(mps.convolution(x, of_bytes), np.full((1, 1, 1, 1), 2**32 + 7, np.float32))


def test_an_image_without_rows_has_an_empty_transpose():
    """s·(K - 1) rows, from a policy as from an offset."""
    x, source = jnp.ones((1, 0, 2, 33)), real_source(W, stride_in_pixels_x=2, stride_in_pixels_y=2)
    for policy, rows in ((0, 0), (1 << 4, 0), (2 << 4, 2)):
        assert mps.convolution_transpose(x, source, padding=policy).shape[1] == rows
    assert mps.convolution_transpose(x, source, offset=(0, 0)).shape[1] == 0


stores = pytest.mark.skipif(
    not hasattr(export, "register_pytree_node_serialization"), reason="this JAX stores no structure but its own"
)


def stored(function, *args):
    return export.deserialize(export.export(jax.jit(function))(*args).serialize())


@stores
def test_a_program_of_a_source_is_stored():
    options = {
        "fused_neuron": mps.NeuronDescriptor(mps.NeuronType.PRELU, prelu=[0.1, 1 / 3, math.inf, math.nan]),
        "batch_normalization": mps.BatchNormalization(mean=[0.3] * 4, variance=[math.pi] * 4, epsilon=1e-3),
        "stride_in_pixels_x": 2,
    }
    source = source_of(W, normal(4), **options)

    def layer(source, x):
        return mps.binary_convolution(x, source, type=XNOR, scale_value=2.0)

    again = stored(layer, source, X)
    assert_array_equal(again.call(source, X), jax.jit(layer)(source, X))
    (read, _), _ = jax.tree.unflatten(again.in_tree, range(3))
    assert read.descriptor == source.descriptor


@stores
def test_a_program_that_gives_gradients_is_stored():
    x, w, g = jnp.ones((1, 4, 2)), jnp.ones((3, 2, 3)), jnp.ones((1, 4, 3))
    gradient = stored(convolution.conv_gradient, x, w, g).call(x, w, g)
    assert isinstance(gradient, convolution.ConvGradient)
    for ours, expected in zip(gradient, convolution.conv_gradient(x, w, g), strict=True):
        assert_array_equal(ours, expected)
