"""The oracle against JAX's float convolutions, on values they add up exactly, and against vectors worked by hand."""

import jax
import numpy as np
import oracle
import pytest
from cases import CASES, Case, named
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = pytest.mark.usefixtures("on_cpu")  # where JAX adds small integers in floats exactly
CROPPED = named("cropped to nothing", "cropped beyond nothing")
LETTERS = {3: "NWC", 4: "NHWC", 5: "NDHWC"}
KERNEL_LETTERS = {3: "WIO", 4: "HWIO", 5: "DHWIO"}


def dimension_numbers(x):
    return LETTERS[x.ndim], KERNEL_LETTERS[x.ndim], LETTERS[x.ndim]


def float_convolution(a, b, case, pad_value):
    """Pads by hand, then convolves what is there."""
    rank = a.ndim - 2
    strides, dilation = oracle.per_axis(case.window_strides, rank), oracle.per_axis(case.rhs_dilation, rank)
    padding = case.padding
    if isinstance(padding, str):
        spans = [oracle.extent(k, d) for k, d in zip(b.shape[:-2], dilation, strict=True)]
        padding = lax.padtype_to_pads(a.shape[1:-1], spans, strides, padding)
    pairs = [(0, 0, 0), *((int(lo), int(hi), 0) for lo, hi in padding), (0, 0, 0)]
    return lax.conv_general_dilated(
        lax.pad(np.float32(a), np.float32(pad_value), pairs),
        np.float32(b),
        strides,
        "VALID",
        rhs_dilation=dilation,
        dimension_numbers=dimension_numbers(a),
        feature_group_count=case.feature_group_count,
    )


@pytest.mark.parametrize("case", [case for case in CASES if case not in CROPPED], ids=lambda case: case.id)
def test_correlation_is_jax_s(case):
    a, b = map(oracle.sign, case.draw())
    for pad_value in (0, -1):
        u = oracle.correlate(a, b, pad_value=pad_value, **case.geometry)
        assert_array_equal(u, float_convolution(a, b, case, pad_value))


@pytest.mark.parametrize("case", CROPPED, ids=lambda case: case.id)
def test_an_image_cropped_away_has_no_results(case):
    u = oracle.accumulate(*case.draw(), **case.geometry)
    assert u.shape[1] == 0 and u.shape[-1] == 3


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 3))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_transposed_correlation_is_jax_s(padding, strides, dilation):
    x, w = Case("transposed", (2, 3, 4, 5), (3, 2, 4)).draw()
    expected = lax.conv_transpose(
        np.float32(oracle.sign(x)),
        np.float32(oracle.sign(w)),
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=dimension_numbers(x),
    )
    u = oracle.binary_conv_transpose(x, w, window_strides=strides, padding=padding, rhs_dilation=dilation)
    assert_array_equal(u, expected)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 70])
def test_words_are_numpy_s_little_endian_bytes(size):
    x = np.random.default_rng(size).standard_normal((3, size))
    bits = np.pad(x >= 0, [(0, 0), (0, -size % 32)])
    words = oracle.pack(x)
    assert_array_equal(words, np.packbits(bits, -1, bitorder="little").view("<u4"))
    assert_array_equal(oracle.unpack(words, size), oracle.sign(x))


def test_the_operator_by_hand():
    x, w = np.array([[[0.0, -0.5, 2.0]]]), np.array([[[1.0], [1.0], [-1.0]]])
    for mode, u in [("xnor", -1), ("and", 1), ("binary_weights", -2.5)]:
        assert_allclose(oracle.binary_conv(x, w, mode=mode), [[[u]]])
    # z = [-1, -0.5, -3]: the bias comes first, then the scale, and the bias of the result is not scaled
    y = oracle.binary_conv(x, w, input_bias=1.0, input_scale=-1.0, scale=2.0, bias=0.5, beta_scaling=True)
    assert_allclose(y, [[[-1 * 2.0 * (1 + 0.5 + 3) / 3 + 0.5]]])


def test_the_border_by_hand():
    ones, window = np.ones((1, 3, 1)), np.ones((3, 1, 1))
    for pad_value, u in [(0, [2, 3, 2]), (1, [3, 3, 3]), (-1, [1, 3, 1])]:
        assert_array_equal(oracle.accumulate(ones, window, pad_value=pad_value).ravel(), u)
    assert_allclose(oracle.beta_image(ones, (3,)).ravel(), [2 / 3, 1, 2 / 3])


def test_beta_is_an_average_pool():
    x = np.abs(np.random.default_rng(0).standard_normal((2, 6, 5, 3))).astype(np.float32)
    pooled = lax.reduce_window(x.mean(-1), 0.0, lax.add, (1, 3, 2), (1, 2, 1), "SAME", window_dilation=(1, 1, 2)) / 6
    beta = oracle.beta_image(x, (3, 2), window_strides=(2, 1), rhs_dilation=(1, 2))
    assert_allclose(beta[..., 0], jax.device_get(pooled), rtol=1e-6)
