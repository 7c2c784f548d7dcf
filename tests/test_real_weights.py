"""Binary weights from words, for each way in which rows of reals meet them: real activations times ±1."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CASES, table
from jax import export, lax
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_close

import jbnn
from jbnn._geometry import Geometry
from jbnn._kernels.case import BITS, SIGNS, Case, Place
from jbnn._kernels.choose import KERNELS, first
from jbnn.quantizers import ste_sign

# Shapes of x and w (a dense layer's have two axes), and options: each way to multiply, with whole and half-used words.
FORMS = {
    "one row": ((1, 70), (70, 9), {}),
    "few rows, a word to spare": ((5, 70), (70, 17), {}),
    "few windows": ((1, 2, 3, 40), (2, 2, 40, 8), {"pad_value": 0.75}),
    "few windows in groups": ((2, 3, 66), (3, 33, 16), {"feature_group_count": 2}),
    "few rows, few outputs": ((3, 64), (64, 2), {}),
    "blocks, a word to spare": ((9, 3232), (3232, 200), {}),
    "blocks of groups": ((1, 9, 66), (2, 33, 4), {"feature_group_count": 2, "padding": "VALID"}),
    "blocks of many windows": ((1, 21, 21, 33), (2, 2, 33, 9), {"pad_value": -2}),
}
form = pytest.mark.parametrize(("x_shape", "w_shape", "options"), FORMS.values(), ids=FORMS)


def draw(x_shape, w_shape, dtype=np.float32):
    rng = np.random.default_rng(sum(x_shape))
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, x_shape, dtype, endpoint=True)
    else:
        x = rng.standard_normal(x_shape).astype(dtype)
    return x, rng.choice([-1, 1], w_shape)


def operator(x_shape, options, implementation="sign_flip"):
    op = jbnn.binary_dense if len(x_shape) == 2 else jbnn.binary_conv
    return functools.partial(op, mode="binary_weights", implementation=implementation, **options)


def expected(x, w, options):
    if x.ndim == 2:
        return x @ w
    return oracle.correlate(x, w, **options)


@form
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_floats(x_shape, w_shape, options, dtype):
    x, w = draw(x_shape, w_shape, dtype)
    words = oracle.with_garbage(oracle.pack(w, axis=-2), w_shape[-2], axis=-2)
    y = jax.jit(operator(x_shape, options))(x, words)
    tolerance = max(2e-6, float(jnp.finfo(dtype).eps))
    assert_close(y, expected(oracle.real(x), w, options), dtype, tolerance)


@pytest.mark.usefixtures("x64")
@form
def test_double_precision(x_shape, w_shape, options):
    x, w = draw(x_shape, w_shape, np.float64)
    y = jax.jit(operator(x_shape, options))(x, oracle.pack(w, axis=-2))
    assert_close(y, expected(x, w, options), np.float64, 1e-14)


@form
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_pixels_are_exact(x_shape, w_shape, options, dtype):
    options = {**options, **({"pad_value": 7} if "pad_value" in options else {})}
    words = oracle.with_garbage(oracle.pack(np.ones(w_shape), axis=-2), w_shape[-2], axis=-2)
    convolve = jax.jit(operator(x_shape, options))
    for value in np.iinfo(dtype).min, np.iinfo(dtype).max:
        x = np.full(x_shape, value, dtype)
        y = convolve(x, words)
        assert y.dtype == jnp.int32
        assert_array_equal(y, expected(x.astype(np.int64), np.ones(w_shape, np.int64), options))
    x, w = draw(x_shape, w_shape, dtype)
    assert_array_equal(convolve(x, oracle.pack(w, axis=-2)), expected(x.astype(np.int64), w, options))


@pytest.mark.parametrize(("rows", "outputs"), [(1, 8), (9, 8), (9, 1)])
def test_pixels_are_exact_beyond_the_integers_of_float32(rows, outputs):
    """Sums past 2^24 that are odd: "unpacked" refuses them, and None finds the kernel that does not."""
    x, w = np.full((rows, 2**17 + 1), 255, np.uint8), np.ones((2**17 + 1, outputs), np.int32)
    words = oracle.pack(w, axis=-2)
    y = jbnn.binary_dense(x, words, mode="binary_weights")
    assert_array_equal(y, np.full((rows, outputs), 255 * (2**17 + 1)))
    with pytest.raises(NotImplementedError, match=r"unpacked.*33423615"):
        jbnn.binary_dense(x, words, mode="binary_weights", implementation="unpacked")


@pytest.mark.parametrize(
    "case", table(CASES, "33 channels", "dilation and stride", "4 groups of 25, strided", "3-D, everything", "deep")
)
def test_every_geometry(case):
    x, w = case.draw()
    words = oracle.with_garbage(oracle.pack(w, axis=-2), w.shape[-2], axis=-2)
    options = {"mode": "binary_weights", "pad_value": 0.75, **case.geometry}
    y = jax.jit(functools.partial(jbnn.binary_conv, implementation="sign_flip", **options))(x, words)
    assert_close(y, oracle.binary_conv(x, w, **options))


@pytest.mark.parametrize("implementation", ["sign_flip", None])
def test_transposed(implementation):
    x, w = draw((2, 3, 4, 40), (3, 3, 40, 5))
    options = {"window_strides": 2, "pad_value": 0.5, "mode": "binary_weights"}
    y = jbnn.binary_conv_transpose(x, oracle.pack(w, axis=-2), implementation=implementation, **options)
    assert_close(y, oracle.binary_conv_transpose(x, w, **options))


HOSTILE = (np.nan, np.inf, -np.inf, -0.0, 1e-45, -1e-39)


@pytest.mark.parametrize("rows", [1, 3, 12])
def test_hostile_values_do_what_their_products_do(rows):
    """One of them among zeros, two of them, and both beside ordinary numbers."""
    x, w = draw((rows, 70), (70, 16))
    words = oracle.pack(w, axis=-2)
    flip, floats = (jax.jit(operator(x.shape, {}, name)) for name in ("sign_flip", "unpacked"))
    for value, around, places in itertools.product(HOSTILE, (np.zeros_like(x), x), ([3], [3, 65])):
        hostile = around.copy()
        hostile[:, places] = value
        # Subnormal results may be flushed to zero, or not.
        assert_allclose(flip(hostile, words), floats(hostile, words), rtol=1e-5, atol=1e-5 if around is x else 1.2e-38)


@form
def test_gradients_are_those_of_the_float_expression(x_shape, w_shape, options):
    x, _ = draw(x_shape, w_shape)
    latent = np.random.default_rng(1).uniform(-1.5, 1.5, w_shape).astype(np.float32)
    convolve = operator(x_shape, options)
    shape = jax.eval_shape(convolve, x, latent)
    g = np.random.default_rng(2).standard_normal(shape.shape).astype(np.float32)

    def floats(x, w):
        options_ = dict(options)
        pad_value, b = np.float32(options_.pop("pad_value", 0)), ste_sign(w)
        if x.ndim == 2:
            return x @ b
        spatial = "HW"[: x.ndim - 2]
        numbers = f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
        # Of x - p, whose outside is zero, and p everywhere.
        conv = functools.partial(
            lax.conv_general_dilated, window_strides=(1,) * len(spatial), **{"padding": "SAME"} | options_
        )
        inside = conv(x - pad_value, b, dimension_numbers=numbers)
        return inside + pad_value * lax.expand_dims(b.sum(range(b.ndim - 1)), range(b.ndim - 1))

    _, pull_back = jax.vjp(convolve, x, latent)
    _, pull_back_floats = jax.vjp(floats, x, latent)
    for ours, theirs in zip(pull_back(g), pull_back_floats(g), strict=True):
        assert_close(ours, oracle.real(theirs))
    words = oracle.pack(latent, axis=-2)
    _, pull_back_x = jax.vjp(lambda x: convolve(x, words), x)
    assert_array_equal(pull_back_x(g)[0], pull_back(g)[0])


@pytest.mark.parametrize("rows", [1, 16])
def test_vmap(rows):
    x = np.random.default_rng(0).standard_normal((3, rows, 70)).astype(np.float32)
    w = np.random.default_rng(1).standard_normal((3, 70, 16)).astype(np.float32)
    words = oracle.pack(w, axis=-2)
    for x_axis, w_axis in ((0, None), (None, 0), (0, 0)):
        xs, ws = x if x_axis == 0 else x[0], words if w_axis == 0 else words[0]
        y = jax.vmap(operator((1, 1), {}), (x_axis, w_axis))(xs, ws)
        left, right = x if x_axis == 0 else x[:1], w if w_axis == 0 else w[:1]
        assert_close(y, oracle.real(left) @ oracle.sign(right))


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda")], ids=str)
@pytest.mark.parametrize("implementation", ["sign_flip", None])
@pytest.mark.parametrize(
    ("x_shape", "w_shape"), [((3, 70), (70, 16)), ((3, 2, 2, 40), (3, 3, 40, 64))], ids=["rows", "3x3"]
)
def test_export_with_a_batch_of_any_size(x_shape, w_shape, implementation, platforms):
    """By name windows are laid out, however many there will be; None unpacks the kernel for them."""
    x, w = draw(x_shape, w_shape)
    words = jnp.asarray(oracle.pack(w, axis=-2))
    (n,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((n, *x_shape[1:]), jnp.float32)
    function = jax.jit(operator(x_shape, {}, implementation))
    program = export.export(function, platforms=platforms)(images, words)
    if x.ndim > 2:
        assert ("stablehlo.convolution" in program.mlir_module()) is (implementation is None)
    assert_close(program.call(x, words), expected(oracle.real(x), w, {}))


def test_a_symbolic_image_is_left_to_floats():
    x, w = draw((1, 5, 6, 40), (3, 3, 40, 8))
    words = jnp.asarray(oracle.pack(w, axis=-2))
    image = jax.ShapeDtypeStruct(export.symbolic_shape("1, h, w, 40"), jnp.float32)
    program = export.export(jax.jit(operator(x.shape, {}, None)))(image, words)
    assert_close(program.call(x, words), oracle.correlate(oracle.real(x), w))
    with pytest.raises(NotImplementedError, match=r"sign_flip.*rows must be known"):
        export.export(jax.jit(operator(x.shape, {})))(image, words)


FLOAT32, UINT8 = np.dtype(np.float32), np.dtype(np.uint8)


def dense(channels, features, left=FLOAT32, **changes):
    geometry = Geometry((), (), channels, features, 1, (), (), (), ())
    case = Case(geometry, left, SIGNS, 0, place=Place(("cpu",)))
    return dataclasses.replace(case, **changes)


def layer(size, channels, features=None, window=3, images=1):
    lo = (window - 1) // 2
    ones, pads = (1, 1), ((lo, window - 1 - lo),) * 2
    geometry = Geometry((size,) * 2, (window,) * 2, channels, features or channels, 1, ones, pads, ones, ones)
    return Case(geometry, FLOAT32, SIGNS, 0, place=Place(("cpu",)), images=images)


@pytest.mark.usefixtures("portable")
def test_what_none_picks():
    assert first(dense(4096, 4096)) == first(layer(7, 512)) == "sign_flip"
    # 9 images have 441 windows, which are too many to lay out, and of None nobody knows how many they have.
    assert first(layer(7, 512, images=9)) == first(layer(7, 512, images=None)) == "unpacked"
    assert first(layer(56, 64)) == first(layer(14, 256)) == first(dense(4096, 4)) == "unpacked"
    assert first(layer(1, 3, 64, 7)) == "unpacked"  # 29 of a word's 32 bits would be multiplied in vain
    for platforms in (("cuda",), ("METAL",), ("cpu", "cuda")):
        assert first(dense(4096, 4096, place=Place(platforms))) == "unpacked"
    assert first(dense(2**17, 4, UINT8, place=Place(("cuda",)))) == "sign_flip"


@pytest.mark.usefixtures("on_cpu", "portable")
@pytest.mark.parametrize("mapped", [False, True], ids=["one batch", "vmap over images"])
def test_a_program_is_made_for_its_batch(mapped):
    """The windows of 8 images are laid out, and for those of 9 the kernel is unpacked; `vmap` adds to them."""
    words = np.zeros((3, 3, 2, 512), np.uint32)
    convolve = functools.partial(jbnn.binary_conv, mode="binary_weights")
    for images, whole in ((8, False), (9, True)):
        x = np.ones((images, 1, 7, 7, 64) if mapped else (images, 7, 7, 64), np.float32)
        program = jax.jit(jax.vmap(convolve, (0, None)) if mapped else convolve)
        assert ("stablehlo.convolution" in program.lower(x, words).as_text()) is whole


def test_what_it_refuses():
    why_not = KERNELS["sign_flip"].why_not
    assert why_not(dense(64, 64)) is None
    assert "counted" in why_not(dense(64, 64, SIGNS))
    assert "0 and 1" in why_not(dense(64, 64, right=BITS))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reads the memory of a program of XLA's CPU compiler")
@pytest.mark.parametrize(("rows", "most"), [(1, 2**15), (16, 2**22)])
def test_no_float_kernel_is_written(rows, most):
    """4096x4096 floats are 2^26 bytes, and a block of them 2^21."""
    x, words = np.ones((rows, 4096), np.float32), np.zeros((128, 4096), np.uint32)
    program = jax.jit(operator(x.shape, {}, None)).lower(x, words).compile()
    assert program.memory_analysis().temp_size_in_bytes <= most
