"""Every implementation against the definition, on every geometry: whole numbers, so nothing is approximate."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import BORDERS, CASES, named, table
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_close

import jbnn
from jbnn.quantizers import identity, ste_heaviside

EVERY_BORDER = [(mode, value) for mode, values in BORDERS.items() for value in values]
EAGER = named("33 channels", "dilation and stride", "cropped here, padded there", "3-D, everything", "empty batch")

OPERATOR = named(
    "one channel",
    "4x4 window, SAME, stride 2",
    "window larger than the image, SAME",
    "dilation and stride",
    "asymmetric padding",
    "cropped here, padded there",
    "cropped beyond nothing",
    "4 groups of 25, strided",
    "depthwise with multiplier 2",
    "1-D, even, dilated, padded",
    "3-D, everything",
    "empty batch",
)


def pack(case, x, w):
    return oracle.pack(x, groups=case.feature_group_count), oracle.pack(w, axis=-2)


def packed_conv(case, implementation, **options):
    return functools.partial(
        jbnn.packed_conv, channels=case.channels, implementation=implementation, **case.geometry, **options
    )


@functools.cache
def drawn(case):
    """Words, the same with noise in their unused bits, and the exact sums of every mode and border: once for all."""
    x, w = case.draw()
    words = pack(case, x, w)
    foreign = (
        oracle.with_garbage(words[0], case.channels, groups=case.feature_group_count),
        oracle.with_garbage(words[1], w.shape[-2], axis=-2),
    )
    sums = [oracle.accumulate(x, w, mode=mode, pad_value=value, **case.geometry) for mode, value in EVERY_BORDER]
    return words, foreign, sums


@pytest.mark.parametrize("case", table(CASES, *(case.id for case in EAGER), "deep", "depthwise"))
def test_packed_conv(case, implementation):
    words, foreign, sums = drawn(case)

    @jax.jit
    def every_border(x, w):
        return [packed_conv(case, implementation, mode=mode, pad_value=value)(x, w) for mode, value in EVERY_BORDER]

    for border, u, same, expected in zip(EVERY_BORDER, every_border(*words), every_border(*foreign), sums, strict=True):
        assert u.dtype == jnp.int32
        assert_array_equal(u, expected, err_msg=str(border))
        assert_array_equal(same, expected, err_msg=f"{border}, noise in the unused bits")


@pytest.mark.parametrize("mode, pad_value", [("xnor", 0), ("xnor", -1), ("and", 1)])
@pytest.mark.parametrize("case", EAGER, ids=lambda case: case.id)
def test_packed_conv_eagerly(case, mode, pad_value, implementation):
    x, w = case.draw()
    u = packed_conv(case, implementation, mode=mode, pad_value=pad_value)(*pack(case, x, w))
    assert u.dtype == jnp.int32
    assert_array_equal(u, oracle.accumulate(x, w, mode=mode, pad_value=pad_value, **case.geometry))


@pytest.mark.parametrize("case", named("33 channels", "4x4 window, SAME, stride 2"), ids=lambda case: case.id)
def test_same_lower_puts_the_odd_row_at_the_low_end(case):
    """As in lax."""
    x, w = case.draw()
    strides = oracle.per_axis(case.window_strides, 2)
    pairs = lax.padtype_to_pads(case.image[1:-1], case.window[:-1], strides, "SAME_LOWER")
    expected = oracle.accumulate(x, w, **{**case.geometry, "padding": pairs})
    lower = {**case.geometry, "padding": "SAME_LOWER"}
    assert_array_equal(jbnn.packed_conv(*pack(case, x, w), channels=case.channels, **lower), expected)
    assert_array_equal(jbnn.binary_conv(x, w, **lower), expected)


@pytest.mark.parametrize("mode", [*BORDERS, "binary_weights"])
def test_of_no_channels_there_is_nothing_to_add(mode):
    """As in lax: zeros, and the bias."""
    x, w = np.zeros((2, 4, 3, 0), np.float32), np.zeros((3, 3, 0, 5), np.float32)
    bias = np.arange(5, dtype=np.float32)
    assert_array_equal(jbnn.binary_conv(x, w, mode=mode), np.zeros((2, 4, 3, 5)))
    assert_array_equal(jbnn.binary_conv(x, w, mode=mode, bias=bias), np.broadcast_to(bias, (2, 4, 3, 5)))
    assert_array_equal(jbnn.binary_conv(x, oracle.pack(w, axis=-2), mode=mode), np.zeros((2, 4, 3, 5)))
    gradient = jax.grad(lambda bias: jbnn.binary_conv(x, w, mode=mode, bias=bias).sum())(bias)
    assert_array_equal(gradient, np.full(5, 24))
    if mode != "binary_weights":
        u = jbnn.packed_conv(jbnn.pack(x), oracle.pack(w, axis=-2), channels=0, mode=mode)
        assert u.dtype == jnp.int32
        assert_array_equal(u, np.zeros((2, 4, 3, 5)))


@pytest.mark.parametrize("mode", BORDERS)
@pytest.mark.parametrize(
    "case", table(OPERATOR, "dilation and stride", "4 groups of 25, strided", "1-D, even, dilated, padded")
)
def test_binary_conv(case, mode, implementation):
    """The bare sum, and with every option, from a latent kernel and from its bits."""
    x, w = case.draw()
    terms = case.draw_terms()
    border = {"mode": mode, "pad_value": BORDERS[mode][-1], **case.geometry}

    @jax.jit
    def convolve(x, w, terms):
        conv = functools.partial(jbnn.binary_conv, x, w, implementation=implementation, **border)
        return conv(), conv(**terms, beta_scaling=True, activation=jnp.square), conv(**terms, activation=jax.nn.relu)

    counts, squared, rectified = latent = convolve(x, w, terms)
    chex.assert_trees_all_equal(latent, convolve(x, oracle.pack(w, axis=-2), terms))
    assert counts.dtype == jnp.float32
    assert_array_equal(counts, oracle.binary_conv(x, w, **border))
    assert_close(squared, oracle.binary_conv(x, w, **border, **terms, beta_scaling=True, activation=np.square))
    assert_close(rectified, np.maximum(oracle.binary_conv(x, w, **border, **terms), 0))


@pytest.mark.parametrize("pad_value", [0.0, 0.75])
@pytest.mark.parametrize(
    "case", table(OPERATOR, "dilation and stride", "4 groups of 25, strided", "1-D, even, dilated, padded")
)
def test_binary_weights(case, pad_value, implementation_of_reals):
    x, w = case.draw()
    terms = case.draw_terms()
    border = {"mode": "binary_weights", "pad_value": pad_value, **case.geometry}

    @jax.jit
    def convolve(x, w, terms):
        conv = functools.partial(jbnn.binary_conv, x, w, implementation=implementation_of_reals, **border)
        return conv(), conv(**terms, beta_scaling=True)

    for kernel in (w, oracle.pack(w, axis=-2)):
        plain, scaled = convolve(x, kernel, terms)
        assert_close(plain, oracle.binary_conv(x, w, **border))
        assert_close(scaled, oracle.binary_conv(x, w, **border, **terms, beta_scaling=True))


@pytest.mark.parametrize("scalar", [float, np.float32, jnp.bfloat16], ids=lambda scalar: scalar.__name__)
def test_scalar_terms(scalar):
    (case,) = named("33 channels")
    x, w = case.draw()
    terms = {"input_bias": 0.25, "input_scale": -2.0, "scale": 0.5, "bias": -1.5}
    y = jbnn.binary_conv(x, w, beta_scaling=True, **{name: scalar(value) for name, value in terms.items()})
    assert_close(y, oracle.binary_conv(x, w, beta_scaling=True, **terms))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_half_precision_is_rounded_once(dtype, implementation):
    """576 taps are more than bfloat16 counts exactly; the terms keep the float32 result exact."""
    x, w = (v.astype(dtype) for v in named("64 channels")[0].draw())
    terms = {"scale": np.float32([0.75, -0.5, 1, 0.25, 2, 3]), "bias": np.float32([0.3125, 0, -7, 1, 0.5, 2])}
    y = jbnn.binary_conv(x, w, padding="VALID", implementation=implementation, **terms)
    assert y.dtype == dtype
    assert_array_equal(y, oracle.binary_conv(x, w, padding="VALID", **terms).astype(dtype))
    y = jbnn.binary_conv(x, w, padding="VALID", implementation=implementation, beta_scaling=True)
    expected = oracle.binary_conv(x, w, padding="VALID", beta_scaling=True)
    assert_close(y, expected, dtype, float(jnp.finfo(dtype).eps))


def test_the_input_affine_is_not_rounded_to_half_precision():
    x, w = jnp.ones((1, 1, 1), jnp.bfloat16), jnp.ones((1, 1, 1), jnp.bfloat16)
    assert jbnn.binary_conv(x, w, input_bias=np.float32(-1 - 2**-20)) == -1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_negative_subnormals_are_negative(dtype, implementation):
    tiny = jnp.finfo(dtype).smallest_subnormal.reshape(1, 1, 1)
    one = np.ones((1, 1, 1), dtype)
    conv = jax.jit(functools.partial(jbnn.binary_conv, implementation=implementation))
    assert conv(-tiny, one) == -1 and conv(one, -tiny) == -1 and conv(tiny, one) == 1


def test_nan_and_infinity_reach_beta_but_not_the_bits(implementation):
    x, w = jnp.array([[[1.0], [jnp.nan], [-jnp.inf], [-1.0], [2.0]]]), jnp.ones((1, 1, 1))
    conv = functools.partial(jbnn.binary_conv, x, w, implementation=implementation)
    assert_array_equal(conv().ravel(), [1, 1, -1, -1, 1])
    assert_array_equal(conv(beta_scaling=True).ravel(), [1, np.nan, -np.inf, -1, 2])


@pytest.mark.usefixtures("x64")
def test_double_precision(implementation):
    x, w = (v.astype(np.float64) for v in named("33 channels")[0].draw())
    terms = {"input_bias": 0.1, "scale": 1 / 3, "bias": np.linspace(-1, 1, 5), "beta_scaling": True}
    y = jbnn.binary_conv(x, w, implementation=implementation, **terms)
    assert_close(y, oracle.binary_conv(x, w, **terms), jnp.float64, 1e-13)
    almost = jbnn.binary_conv(np.ones((1, 1, 1)), np.ones((1, 1, 1)), input_bias=-1 - 2.0**-40)
    assert almost == -1


def test_values_worked_by_hand():
    x, w = jnp.array([[[0.0, -0.5, 2.0]]]), jnp.array([[[1.0], [1.0], [-1.0]]])
    for kernel in (w, jnp.uint32([[[0b011]]]), jnp.uint32([[[0xFFFFFFFB]]])):
        for mode, u in [("xnor", -1), ("and", 1), ("binary_weights", -2.5)]:
            assert jbnn.binary_conv(x, kernel, mode=mode).item() == u
        assert jbnn.binary_conv(x, kernel, scale=2, bias=0.5).item() == -1 * 2 + 0.5
        scaled = jbnn.binary_conv(x, kernel, scale=2, bias=0.5, beta_scaling=True)
        assert_allclose(scaled.item(), -1 * 2 * (0 + 0.5 + 2) / 3 + 0.5, rtol=1e-6)
        # z = [-1, -0.5, -3]; the other order of bias and scale would give [1, 1.5, -1]
        assert jbnn.binary_conv(x, kernel, input_bias=1, input_scale=-1).item() == -1 - 1 + 1


def test_borders_worked_by_hand(implementation):
    ones, window = jnp.ones((1, 3, 1)), jnp.ones((3, 1, 1))
    conv = functools.partial(jbnn.binary_conv, ones, window, implementation=implementation)
    for pad_value, u in [(0, [2, 3, 2]), (1, [3, 3, 3]), (-1, [1, 3, 1])]:
        assert_array_equal(conv(pad_value=pad_value).ravel(), u)
    for pad_value, u in [(0, [2, 3, 2]), (1, [3, 3, 3])]:
        assert_array_equal(conv(mode="and", pad_value=pad_value).ravel(), u)
    assert_allclose(conv(pad_value=1, beta_scaling=True).ravel(), [3 * 2 / 3, 3 * 1, 3 * 2 / 3], rtol=1e-6)


def test_quantizers_that_are_not_sign(implementation):
    x = jnp.array([[[0.0], [-1.0], [0.5]]])
    w = jnp.ones((1, 1, 1))
    conv = functools.partial(jbnn.binary_conv, implementation=implementation)
    assert_array_equal(conv(x, w, mode="and").ravel(), [1, 0, 1])
    assert_array_equal(conv(x, w, mode="and", input_quantizer=ste_heaviside).ravel(), [0, 0, 1])
    a, b = jbnn.sign(x), jbnn.sign(w)
    assert_array_equal(conv(a, b, input_quantizer=identity, kernel_quantizer=identity).ravel(), [1, -1, 1])


def test_alpha_is_the_mean_magnitude_of_each_output():
    _, w = named("33 channels")[0].draw()
    assert_allclose(jbnn.alpha(w), np.abs(w).mean((0, 1, 2)), rtol=1e-6)
    with pytest.raises(TypeError):
        jbnn.alpha(jbnn.pack(w, axis=-2))
