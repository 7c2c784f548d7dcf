"""The door's layers against the formulas that Apple documents, on geometries that nobody chose."""

import jax
import mps_oracle
import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal

from jbnn import mps

EDGES = ("zero", "clamp")


def draw(seed):
    """A descriptor and what places it: strides, dilation, even and odd windows, offsets and rectangles anywhere."""
    rng = np.random.default_rng(seed)

    def pair(low, high):
        return tuple(map(int, rng.integers(low, high, 2)))

    window, stride, dilation = pair(1, 5), pair(1, 4), pair(1, 3)
    groups = 1 + seed % 2
    descriptor = mps.ConvolutionDescriptor(
        kernel_height=window[0],
        kernel_width=window[1],
        input_feature_channels=groups * (3, 33)[seed % 4 // 2],
        output_feature_channels=groups * 2,
        stride_in_pixels_y=stride[0],
        stride_in_pixels_x=stride[1],
        dilation_rate_y=dilation[0],
        dilation_rate_x=dilation[1],
        groups=groups,
    )
    placed = {"size": pair(1, 5), "offset": pair(-6, 7)}
    geometry = {"stride": stride, "dilation": dilation, "groups": groups, **placed}
    x = rng.standard_normal((2, 5, 4, descriptor.input_feature_channels)).astype(np.float32)
    return rng, descriptor, geometry, x


def position(geometry):
    return {"offset": geometry["offset"], "clip": ((1, 2), geometry["size"])}


@pytest.mark.parametrize("seed", range(8))
def test_binary_convolution(seed):
    rng, descriptor, geometry, x = draw(seed)
    words = rng.integers(0, 2**32, descriptor.words_shape, dtype=np.uint32)  # noise in the unused bits too
    bits = mps_oracle.bits_of(words, descriptor.weights_shape[-1])
    edge = seed // 2 % 2
    inward = rng.standard_normal((2, x.shape[-1])).astype(np.float32)
    outward = rng.standard_normal((2, descriptor.output_feature_channels)).astype(np.float32)
    named = {
        "input_bias_terms": inward[0],
        "input_scale_terms": inward[1],
        "output_bias_terms": outward[0],
        "output_scale_terms": outward[1],
    }

    @jax.jit
    def run(x, words, terms):
        source = mps.ArrayDataSource(descriptor, mps.DataType.UINT32, words)
        options = {"edge_mode": edge, **position(geometry)}
        bare = [mps.binary_convolution(x, source, type=type, **options) for type in (1, 2)]
        full = [mps.binary_convolution(x, source, type=type, flags=1, **options, **terms) for type in (0, 1, 2)]
        return bare, full

    bare, full = run(x, words, named)
    for type, y in zip((1, 2), bare, strict=True):
        exact = mps_oracle.binary_convolution(x, bits, type=type, edge=EDGES[edge], **geometry)
        assert_array_equal(y, exact)
    terms = dict(zip(("input_bias", "input_scale", "bias", "scale"), (*inward, *outward), strict=True))
    for type, y in enumerate(full):
        expected = mps_oracle.binary_convolution(
            x, bits, type=type, edge=EDGES[edge], beta_scaling=True, **terms, **geometry
        )
        oracle.assert_close(y, expected)


@pytest.mark.parametrize("seed", range(8, 13))
def test_convolution_and_its_gradient(seed):
    rng, descriptor, geometry, x = draw(seed)
    weights = rng.standard_normal(descriptor.weights_shape).astype(np.float32)
    bias = rng.standard_normal(descriptor.output_feature_channels).astype(np.float32)
    g = rng.standard_normal((2, *geometry["size"], len(bias))).astype(np.float32)

    @jax.jit
    def run(x, weights, bias, g):
        source = mps.ArrayDataSource(descriptor, mps.DataType.FLOAT32, weights, bias)
        placed = position(geometry)
        return (
            [mps.convolution(x, source, edge_mode=edge, **placed) for edge in (0, 1)],
            mps.convolution_gradient(x, source, g, **placed),
        )

    forward, gradient = run(x, weights, bias, g)
    for edge, y in zip(EDGES, forward, strict=True):
        oracle.assert_close(y, mps_oracle.convolution(x, weights, bias=bias, edge=edge, **geometry))
    placed = {name: value for name, value in geometry.items() if name != "size"}
    for ours, expected in zip(gradient, mps_oracle.gradient(x, weights, g, **placed), strict=True):
        oracle.assert_close(ours, expected)


@pytest.mark.parametrize("seed", range(13, 17))
def test_convolution_transpose(seed):
    rng, descriptor, geometry, x = draw(seed)
    weights = rng.standard_normal(descriptor.weights_shape).astype(np.float32)
    bias = rng.standard_normal(descriptor.output_feature_channels).astype(np.float32)
    kernel_offset = tuple(map(int, rng.integers(-3, 4, 2)))

    @jax.jit
    def run(x, weights, bias):
        source = mps.ArrayDataSource(descriptor, mps.DataType.FLOAT32, weights, bias)
        return mps.convolution_transpose(x, source, kernel_offset=kernel_offset, **position(geometry))

    expected = mps_oracle.convolution_transpose(x, weights, kernel_offset=kernel_offset, bias=bias, **geometry)
    oracle.assert_close(run(x, weights, bias), expected)
