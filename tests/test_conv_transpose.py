"""The ordinary transposed convolution: its sizes, its unrotated kernel, and kernels stored for the rotated one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import Case
from float_expression import round_numbers
from jax import lax
from numpy.testing import assert_array_equal

from jbnn import convolution

CASES = [
    Case("stride 1", (2, 4, 5, 3), (3, 3, 4)),
    Case("stride 2", (2, 4, 3, 2), (3, 3, 4), window_strides=2),
    Case("stride larger than the window", (2, 3, 4, 3), (2, 1, 3), window_strides=(3, 4)),
    Case("dilation, VALID", (1, 4, 3, 2), (2, 3, 3), window_strides=(1, 2), padding="VALID", rhs_dilation=2),
    Case("cropped", (2, 4, 5, 2), (2, 3, 3), window_strides=2, padding=((-1, 0), (2, -3))),
    Case("groups", (2, 3, 4, 6), (3, 2, 4), window_strides=2, feature_group_count=2),
    Case("depthwise", (1, 3, 3, 3), (3, 3, 6), window_strides=2, feature_group_count=3),
    Case("1-D", (2, 5, 3), (4, 3), window_strides=3),
    Case("3-D", (1, 2, 3, 2, 2), (2, 3, 2, 3), window_strides=(2, 1, 2), padding="VALID"),
    Case("empty batch", (0, 3, 4, 2), (3, 3, 2), window_strides=2),
]


def numbers(case):
    return round_numbers(case.image, 1), round_numbers(case.kernel, 2)


def grown(case, extra):
    """The smallest output and `extra` rows more, as far as the strides allow."""
    rank = len(case.window) - 1
    smallest = oracle.conv_transpose(*numbers(case), **case.geometry).shape[1:-1]
    return tuple(
        m + min(extra, s - 1) for m, s in zip(smallest, oracle.per_axis(case.window_strides, rank), strict=True)
    )


@pytest.mark.parametrize("extra", [None, 0, 1, 2])
def test_every_geometry_and_output_size(extra):
    operands = [numbers(case) for case in CASES]
    sizes = [None if extra is None else grown(case, extra) for case in CASES]

    @jax.jit
    def transpose(operands):
        return [
            convolution.conv_transpose(*args, output_size=size, **case.geometry)
            for args, size, case in zip(operands, sizes, CASES, strict=True)
        ]

    for case, args, size, y in zip(CASES, operands, sizes, transpose(operands), strict=True):
        assert size is None or y.shape[1:-1] == size
        assert_array_equal(y, oracle.conv_transpose(*args, output_size=size, **case.geometry), err_msg=case.id)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 3))], ids=str)
@pytest.mark.parametrize("rotated", [False, True])
def test_it_is_jax_s(padding, rotated):
    """Unrotated as it stands; rotated, of a kernel that `transpose_kernel` converts."""
    x, w = round_numbers((2, 3, 4, 5), 1), round_numbers((3, 2, 5, 6), 2)
    stored = round_numbers((3, 2, 6, 5), 2)
    options = {"rhs_dilation": (1, 2), "dimension_numbers": ("NHWC", "HWIO", "NHWC"), "transpose_kernel": rotated}
    expected = lax.conv_transpose(x, stored if rotated else w, (2, 3), padding, **options)
    kernel = convolution.transpose_kernel(stored) if rotated else w
    y = convolution.conv_transpose(x, kernel, window_strides=(2, 3), padding=padding, rhs_dilation=(1, 2))
    assert_array_equal(y, expected)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_an_axis_without_pixels_is_jax_s(padding):
    """s - 1 rows with "SAME", max(K, s) - 1 with "VALID", where n·s would be none."""
    x, w = jnp.ones((1, 0, 2)), jnp.ones((3, 2, 4))
    for s, same, valid in (1, 0, 2), (2, 1, 2), (5, 4, 4):
        y = convolution.conv_transpose(x, w, window_strides=s, padding=padding)
        dimensions = ("NHC", "HIO", "NHC")
        assert_array_equal(y, lax.conv_transpose(x, w, (s,), padding, dimension_numbers=dimensions))
        assert_array_equal(y, np.zeros((1, same if padding == "SAME" else valid, 4)))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_converted_kernel_gives_the_input_gradient(groups):
    """The transpose of a convolution from O to C channels, with that convolution's own kernel."""
    kernel, x = round_numbers((3, 4, 6 // groups, 12), 1), round_numbers((2, 7, 6, 6), 2)
    options = {"window_strides": (2, 3), "rhs_dilation": (2, 1), "feature_group_count": groups}
    forward = functools.partial(convolution.conv, w=kernel, padding=((1, 2), (0, 1)), **options)
    y, pull_back = jax.vjp(forward, jnp.asarray(x))
    (expected,) = pull_back(jnp.asarray(round_numbers(y.shape, 3)))
    # A tap p of window k that reads row i + lo of the padded image writes it: (k - 1)·d - lo rows to go on either side.
    pairs = [
        ((k - 1) * d - lo, (k - 1) * d - hi) for k, d, (lo, hi) in zip((3, 4), (2, 1), ((1, 2), (0, 1)), strict=True)
    ]
    transposed = convolution.transpose_kernel(kernel, feature_group_count=groups)
    ours = convolution.conv_transpose(
        round_numbers(y.shape, 3), transposed, padding=pairs, output_size=x.shape[1:-1], **options
    )
    assert_array_equal(ours, expected)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transpose_kernel_by_its_elements(rank, groups):
    """w[p, j, i] of each group is out[k - 1 - p, i, j]; twice is nothing."""
    window = (2, 3, 4)[:rank]
    w = round_numbers((*window, 2, 3 * groups), 1)
    out = np.asarray(convolution.transpose_kernel(w, feature_group_count=groups))
    assert out.shape == (*window, 3, 2 * groups)
    for p in np.ndindex(*window):
        for group, j, i in np.ndindex(groups, 2, 3):
            rotated = tuple(k - 1 - q for k, q in zip(window, p, strict=True))
            assert out[(*rotated, i, group * 2 + j)] == w[(*p, j, group * 3 + i)]
    assert_array_equal(convolution.transpose_kernel(out, feature_group_count=groups), w)


def test_pytorch_s_sizes():
    """(n - 1)·s - 2·p + d·(k - 1) + output_padding + 1 rows, with the pairs that the docstring names."""
    for n, k, s, p, d, extra in [(5, 3, 2, 1, 1, 1), (4, 3, 3, 0, 2, 2), (6, 2, 1, 1, 1, 0), (3, 4, 4, 2, 1, 3)]:
        size = (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        pair = (k - 1) * d - p
        y = jax.eval_shape(
            functools.partial(
                convolution.conv_transpose,
                window_strides=s,
                padding=[(pair, pair)],
                rhs_dilation=d,
                output_size=size,
            ),
            jax.ShapeDtypeStruct((1, n, 1), jnp.float32),
            jax.ShapeDtypeStruct((k, 1, 1), jnp.float32),
        )
        assert y.shape == (1, size, 1)
