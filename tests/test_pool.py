"""Max pooling of bits: that of the floats that they stand for, under thresholds that rise or fall."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax import export
from numpy.testing import assert_array_equal

import jbnn

RNG = np.random.default_rng(0)

# image, window, window_strides, padding
CASES = {
    "2x2": ((2, 6, 5, 40), 2, None, "VALID"),
    "3x3, stride 2, SAME": ((2, 7, 6, 33), 3, 2, "SAME"),
    "overlapping, uneven": ((1, 7, 6, 64), (3, 5), (2, 1), ((1, 2), (-1, 3))),
    "window of 1, strides": ((2, 5, 4, 31), 1, (2, 3), "VALID"),
    "1-D, long window": ((1, 40, 33), 37, 1, "SAME"),
    "3-D": ((1, 5, 4, 6, 33), (2, 3, 4), (1, 2, 2), "SAME"),
    "windows wholly outside": ((1, 3, 4, 40), 2, 1, ((4, 0), (0, 5))),
    "cropped": ((2, 6, 7, 40), 2, 1, ((-1, -1), (-2, 1))),
    "cropped to nothing": ((2, 4, 5, 32), 2, 2, ((-2, -2), (0, 0))),
    "window larger than the image": ((2, 4, 5, 32), 6, 1, "VALID"),
    "empty batch": ((0, 4, 5, 32), 2, 2, "VALID"),
    "one channel": ((3, 4, 4, 1), 2, 1, "VALID"),
}

each_case = pytest.mark.parametrize("image, window, strides, padding", CASES.values(), ids=CASES)


def pooled(x, window, strides, padding, flip=None):
    """The signs of the maximum of x, or of its minimum."""
    rising = np.where(False if flip is None else flip, -x, x)
    top = oracle.max_pool(rising, window, window_strides=strides, padding=padding)
    return top >= 0 if flip is None else np.where(flip, -top, top) >= 0


@each_case
def test_words_pool_as_what_they_stand_for(image, window, strides, padding):
    x = RNG.standard_normal(image).astype(np.float32)
    flip = RNG.random(image[-1]) < 0.5
    words = oracle.pack(x)
    y = jbnn.packed_max_pool(words, window, window_strides=strides, padding=padding)
    assert y.dtype == jnp.uint32
    assert_array_equal(y, oracle.pack(pooled(x, window, strides, padding)))
    y = jbnn.packed_max_pool(
        oracle.with_garbage(words, image[-1]), window, window_strides=strides, padding=padding, flip=flip
    )
    assert_array_equal(y, oracle.pack(pooled(x, window, strides, padding, flip)))


def test_foreign_bits_stay_in_their_places():
    words = oracle.with_garbage(oracle.pack(RNG.standard_normal((1, 4, 4, 40))), 40)
    used = oracle.pack(np.ones(40, bool))
    assert_array_equal(np.asarray(jbnn.packed_max_pool(words, 2)) & used, jbnn.packed_max_pool(words & used, 2))


def terms(kind, channels):
    """An affine for each channel: rising and falling, ties at whole numbers, dead ones, and ones beyond the floats."""
    scale = RNG.standard_normal(channels)
    bias = 4 * RNG.standard_normal(channels)
    if kind == "ties":
        scale, bias = np.sign(scale) * 2.0 ** RNG.integers(-3, 3, channels), RNG.integers(-9, 9, channels)
        bias = bias * scale
    if kind == "special":
        scale = RNG.choice([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan, 3e38, -3e38], channels)
        bias = RNG.choice([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan], channels)
    return scale.astype(np.float32), bias.astype(np.float32)


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 1), (0, 2))])
@pytest.mark.parametrize("kind", ["normal", "ties", "special"])
def test_convolution_pool_norm_sign(kind, padding):
    """The whole layer in floats, in the order in which it is trained, against words that are pooled last."""
    x, w = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 7, 6, 20), (3, 3, 20, 70)))
    scale, bias = terms(kind, 70)
    top = oracle.max_pool(oracle.real(oracle.accumulate(x, w)), 3, window_strides=2, padding=padding)
    expected = oracle.pack(oracle.is_positive(top, scale, bias))

    threshold = jbnn.sign_threshold(scale, bias)
    words = jbnn.packed_conv(jbnn.pack(x), jbnn.pack(w, axis=-2), channels=20, threshold=threshold)
    y = jbnn.packed_max_pool(words, 3, window_strides=2, padding=padding, flip=threshold.flip)
    assert_array_equal(y, expected)

    first = oracle.is_positive(oracle.accumulate(x, w), scale, bias)  # a pool after the sign knows no slopes
    assert_array_equal(jbnn.packed_max_pool(words, 3), oracle.pack(pooled(2.0 * first - 1, 3, None, "VALID")))


def test_under_jit_vmap_and_export():
    x = RNG.standard_normal((3, 2, 6, 5, 40)).astype(np.float32)
    flip = RNG.random((3, 40)) < 0.5
    words = oracle.pack(x)

    def pool(words, flip):
        return jbnn.packed_max_pool(words, (2, 3), padding="SAME", flip=flip)

    expected = np.stack([pool(w, f) for w, f in zip(words, flip, strict=True)])
    assert_array_equal(jax.vmap(pool)(words, flip), expected)
    assert_array_equal(jax.vmap(pool, (0, None))(words, flip[1])[1], expected[1])
    exported = export.export(jax.jit(pool))(words[0], flip[0])
    assert_array_equal(export.deserialize(exported.serialize()).call(words[0], flip[0]), expected[0])


def test_a_flip_for_all_channels():
    """A scalar, such as that of a threshold of scalars, or Python's own truth values."""
    x = RNG.standard_normal((2, 5, 4, 64)).astype(np.float32)
    words = oracle.pack(x)
    falling = jbnn.packed_max_pool(words, 2, flip=np.ones(64, bool))
    for flip in (True, [True] * 64, np.True_, jnp.array(True), jbnn.sign_threshold(-1.0, 0.0).flip):
        assert_array_equal(jbnn.packed_max_pool(words, 2, flip=flip), falling)
    assert_array_equal(jbnn.packed_max_pool(words, 2, flip=False), jbnn.packed_max_pool(words, 2))
    narrow = oracle.pack(x[..., :40])
    assert_array_equal(jbnn.unpack(jbnn.packed_max_pool(narrow, 2, flip=True), 40), jbnn.unpack(falling, 64)[..., :40])


@pytest.mark.parametrize("flip", [np.ones(64, np.int64), [1] * 64, 1, "yes"], ids=str)
def test_a_flip_is_of_truth_values(flip):
    with pytest.raises(TypeError, match="`flip` must"):
        jbnn.packed_max_pool(np.ones((1, 4, 2), np.uint32), 2, flip=flip)


def test_words_of_64_bits_are_refused():
    with pytest.raises(TypeError, match="`words` must hold words of dtype uint32, but has dtype uint64"):
        jbnn.packed_max_pool(np.array([[[1 << 40], [0]]], np.uint64), 2)
