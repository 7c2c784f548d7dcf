"""The transposed convolution: an unrotated correlation over the image with zeros between its pixels."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import BORDERS, Case, table
from jax import lax
from numpy.testing import assert_array_equal
from oracle import assert_close

import jbnn

EVERY_BORDER = [(mode, value) for mode, values in BORDERS.items() for value in values]

CASES = [
    Case("stride 1", (2, 4, 5, 33), (3, 3, 4)),
    Case("stride 2", (2, 4, 3, 32), (3, 3, 4), window_strides=2),
    Case("stride 2, even window", (2, 3, 4, 40), (4, 2, 3), window_strides=2, padding="VALID"),
    Case("stride larger than the window", (2, 3, 4, 31), (2, 1, 3), window_strides=(3, 4)),
    Case("stride larger than the window, VALID", (2, 3, 4, 31), (2, 1, 3), window_strides=3, padding="VALID"),
    Case("dilation", (1, 4, 3, 33), (3, 2, 3), window_strides=2, rhs_dilation=(2, 3)),
    Case("dilation, VALID", (1, 4, 3, 33), (2, 3, 3), window_strides=(1, 2), padding="VALID", rhs_dilation=2),
    Case("explicit padding", (2, 3, 4, 20), (3, 3, 3), window_strides=2, padding=((0, 3), (2, 1))),
    Case("cropped", (2, 4, 5, 20), (2, 3, 3), window_strides=2, padding=((-1, 0), (2, -3))),
    Case("groups", (2, 3, 4, 66), (3, 2, 4), window_strides=2, feature_group_count=2),
    Case("depthwise", (1, 3, 3, 6), (3, 3, 12), window_strides=2, feature_group_count=6),
    Case("one pixel, one channel", (2, 1, 1, 1), (3, 4, 1), window_strides=2),
    Case("1-D", (2, 5, 70), (4, 3), window_strides=3),
    Case("3-D", (1, 2, 3, 2, 35), (2, 3, 2, 3), window_strides=(2, 1, 2), padding="VALID"),
    Case("deep", (1, 3, 3, 270), (4, 4, 4), 2, ((1, 3), (4, -1)), (1, 2), 2),
    Case("empty batch", (0, 3, 4, 33), (3, 3, 2), window_strides=2),
]


@pytest.mark.parametrize("case", table(CASES, "dilation", "cropped", "groups", "1-D", "empty batch"))
def test_every_border(case, implementation):
    x, w = case.draw()

    @jax.jit
    def every_border(x, w):
        transpose = functools.partial(jbnn.binary_conv_transpose, x, w, implementation=implementation, **case.geometry)
        return [transpose(mode=mode, pad_value=value) for mode, value in EVERY_BORDER]

    latent, packed = every_border(x, w), every_border(x, oracle.pack(w, axis=-2))
    chex.assert_trees_all_equal(latent, packed)
    for (mode, pad_value), u in zip(EVERY_BORDER, latent, strict=True):
        expected = oracle.binary_conv_transpose(x, w, mode=mode, pad_value=pad_value, **case.geometry)
        assert_array_equal(u, expected, err_msg=f"{mode}, {pad_value}")


@pytest.mark.parametrize("case", table(CASES, "dilation", "cropped", "groups", "1-D", "empty batch"))
def test_every_option(case, implementation_of_reals):
    x, w = case.draw()
    terms = case.draw_terms()
    borders, names = {"xnor": -1, "binary_weights": 0.75}, {"xnor": None, "binary_weights": implementation_of_reals}

    @jax.jit
    def transpose(x, w, terms):
        options = {**terms, **case.geometry, "beta_scaling": True}
        return [
            jbnn.binary_conv_transpose(
                x, w, mode=mode, pad_value=value, activation=jnp.square, implementation=names[mode], **options
            )
            for mode, value in borders.items()
        ]

    for (mode, pad_value), y in zip(borders.items(), transpose(x, w, terms), strict=True):
        expected = oracle.binary_conv_transpose(
            x, w, mode=mode, pad_value=pad_value, beta_scaling=True, activation=np.square, **terms, **case.geometry
        )
        assert_close(y, expected)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 3))], ids=str)
@pytest.mark.parametrize("strides, dilation", [(1, 2), ((2, 3), 1), ((4, 2), (1, 2))], ids=str)
def test_it_is_jax_s_on_signs(padding, strides, dilation):
    x, w = Case("signs", (2, 3, 4, 33), (3, 2, 4)).draw()
    expected = lax.conv_transpose(
        np.float32(oracle.sign(x)),
        np.float32(oracle.sign(w)),
        oracle.per_axis(strides, 2),
        padding,
        rhs_dilation=oracle.per_axis(dilation, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=False,
    )
    u = jbnn.binary_conv_transpose(x, w, window_strides=strides, padding=padding, rhs_dilation=dilation)
    assert_array_equal(u, expected)


def size(padding, n=5, k=3, s=2, d=1, **options):
    shape = jax.eval_shape(
        functools.partial(jbnn.binary_conv_transpose, window_strides=s, padding=padding, rhs_dilation=d, **options),
        jax.ShapeDtypeStruct((1, n, 1), jnp.float32),
        jax.ShapeDtypeStruct((k, 1, 1), jnp.float32),
    ).shape
    return shape[1]


@pytest.mark.parametrize("n, k, s, d", [(5, 3, 2, 1), (5, 3, 2, 2), (4, 1, 3, 1), (4, 2, 3, 1), (1, 4, 1, 3)])
def test_sizes(n, k, s, d):
    extent = (k - 1) * d + 1
    assert size("SAME", n, k, s, d) == n * s
    assert size("VALID", n, k, s, d) == n * s + max(extent - s, 0)
    assert size([(extent, 1)], n, k, s, d) == (n - 1) * s + 1 + (extent + 1) - (extent - 1)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))], ids=str)
@pytest.mark.parametrize("mode, pad_value", [("xnor", -1), ("and", 1)])
def test_output_size_adds_rows_at_the_high_end(padding, mode, pad_value):
    x, w = Case("grown", (2, 3, 4, 33), (3, 2, 4)).draw()
    options = {"window_strides": (2, 3), "padding": padding, "mode": mode, "pad_value": pad_value}
    smallest = oracle.binary_conv_transpose(x, w, **options).shape[1:-1]
    for extra in [(0, 0), (1, 2)]:
        wanted = tuple(m + more for m, more in zip(smallest, extra, strict=True))
        y = jbnn.binary_conv_transpose(x, w, output_size=wanted, **options)
        assert y.shape[1:-1] == wanted
        assert_array_equal(y, oracle.binary_conv_transpose(x, w, output_size=wanted, **options))


@pytest.mark.parametrize("padding, smallest", [("SAME", 10), ("VALID", 11)])
def test_output_size_outside_its_range_is_refused(padding, smallest):
    for allowed in (smallest, smallest + 1):
        assert size(padding, output_size=(allowed,)) == allowed
    for wrong in (smallest - 1, smallest + 2):
        with pytest.raises(ValueError, match="`output_size`"):
            size(padding, output_size=(wrong,))
