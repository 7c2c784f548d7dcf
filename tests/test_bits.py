"""The bit convention: what is +1, and which bit of which word it goes to."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax import export
from numpy.testing import assert_array_equal

import jbnn

SIGNED = [jnp.int8, jnp.int16, jnp.int32]
WORDS = [np.uint8, np.uint16, np.uint32]


@pytest.fixture(params=[jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def float_dtype(request):
    if request.param == jnp.float64:
        request.getfixturevalue("x64")
    return request.param


@pytest.fixture(params=[lambda f: f, jax.jit], ids=["eager", "jitted"])
def transform(request):
    return request.param


def corner_floats(dtype):
    """Zero, subnormals, normals, infinity and NaNs of either sign, built from their bits, and the sign of each."""
    info = jnp.finfo(dtype)
    one = 1 << info.nmant
    infinity = ((1 << info.nexp) - 1) * one
    magnitudes = [0, 1, one - 1, one, infinity - 1, infinity, infinity + 1, infinity + one // 2]
    unsigned = np.dtype(f"u{info.bits // 8}")
    values = np.array(magnitudes + [m + (1 << info.bits - 1) for m in magnitudes], unsigned).view(dtype)
    signs = [1] * len(magnitudes) + [-1 if 0 < m <= infinity else 1 for m in magnitudes]
    return values, np.array(signs)


def test_sign_of_every_kind_of_float(float_dtype, transform):
    values, expected = corner_floats(float_dtype)
    result = transform(jbnn.sign)(jnp.asarray(values))
    assert result.dtype == float_dtype
    assert_array_equal(result.astype(jnp.float32), expected)


def test_pack_of_every_kind_of_float(float_dtype, transform):
    values, expected = corner_floats(float_dtype)
    words = transform(jbnn.pack)(jnp.asarray(values))
    assert_array_equal(words, np.uint32([sum(1 << i for i, s in enumerate(expected) if s > 0)]))


@pytest.mark.parametrize("dtype", SIGNED, ids=lambda dtype: dtype.__name__)
def test_signed_integers_pack_their_sign(dtype):
    info = jnp.iinfo(dtype)
    x = jnp.array([info.min, -1, 0, 1, info.max], dtype)
    assert_array_equal(jbnn.pack(x), np.uint32([0b11100]))


def test_booleans_pack_their_value():
    assert_array_equal(jbnn.pack(jnp.array([True, False, True, True])), np.uint32([0b1101]))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.uint32, jnp.complex64], ids=lambda dtype: dtype.__name__)
def test_what_has_no_sign_is_refused(dtype):
    with pytest.raises(TypeError, match="`x`"):
        jbnn.pack(jnp.ones(3, dtype))


def test_one_word_bit_by_bit():
    for channel in range(32):
        x = jnp.where(jnp.arange(32) == channel, 1.0, -1.0)
        assert_array_equal(jbnn.pack(x), np.uint32([1 << channel]))
    x = -np.ones(70, np.float32)
    x[[13, 32 + 1, 64 + 5]] = 1
    assert_array_equal(jbnn.pack(jnp.asarray(x)), np.uint32([1 << 13, 1 << 1, 1 << 5]))


def test_unused_bits_are_zero():
    assert_array_equal(jbnn.pack(jnp.ones(33)), np.uint32([0xFFFFFFFF, 1]))
    assert_array_equal(jbnn.pack(jnp.ones(3)), np.uint32([7]))


def test_groups_start_a_new_word():
    x = jnp.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])
    assert_array_equal(jbnn.pack(x, groups=2), np.uint32([0b101, 0b110]))
    assert_array_equal(jbnn.pack(jnp.ones(66), groups=2), np.uint32([0xFFFFFFFF, 1, 0xFFFFFFFF, 1]))


LAYOUTS = [
    ((1,), -1, 1),
    ((31,), 0, 1),
    ((3, 32), -1, 1),
    ((33, 2), 0, 1),
    ((2, 70, 3), 1, 1),
    ((2, 70, 3), -2, 2),
    ((2, 3, 99), 2, 3),
    ((5, 2, 3, 4), -4, 5),
    ((0, 40), -1, 2),
    ((2, 3, 128), -1, 4),
]


@pytest.mark.parametrize("shape, axis, groups", LAYOUTS, ids=str)
def test_words_and_back(shape, axis, groups, transform):
    x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
    size = shape[axis]

    @transform
    def there_and_back(x):
        words = jbnn.pack(x, axis=axis, groups=groups)
        return words, jbnn.unpack(words, size, axis=axis, groups=groups)

    words, signs = there_and_back(jnp.asarray(x))
    assert words.dtype == jnp.uint32 and signs.dtype == jnp.float32
    assert_array_equal(words, oracle.pack(x, axis, groups))
    assert_array_equal(signs, oracle.sign(x))
    dirty = jnp.asarray(oracle.with_garbage(words, size, axis, groups))
    assert_array_equal(jbnn.unpack(dirty, size, axis=axis, groups=groups), oracle.sign(x))


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_unpack_into_other_types(dtype):
    signs = jbnn.unpack(jnp.uint32([0b0110]), 4, dtype=dtype)
    assert signs.dtype == dtype
    assert_array_equal(signs.astype(jnp.float32), [-1, 1, 1, -1])


def corner_words(dtype):
    """Every value of a byte; of wider words every run of ones at every place, and its complement."""
    bits = np.iinfo(dtype).bits
    if bits == 8:
        return np.arange(256, dtype=dtype)
    runs = [((1 << length) - 1) << start for length in range(bits + 1) for start in range(bits - length + 1)]
    mask = (1 << bits) - 1
    return np.array(runs + [mask ^ run for run in runs] + [0xAAAAAAAA & mask, 0x12345678 & mask], dtype)


@pytest.mark.parametrize("dtype", WORDS, ids=lambda dtype: dtype.__name__)
def test_population_count(dtype, transform):
    words = corner_words(dtype)
    counts = transform(jbnn.population_count)(jnp.asarray(words))
    assert counts.dtype == dtype
    assert_array_equal(counts, oracle.population_count(words))


@pytest.mark.parametrize("dtype", WORDS, ids=lambda dtype: dtype.__name__)
def test_population_count_of_a_platform_without_one(dtype):
    words = corner_words(dtype)
    portable = export.export(
        jax.jit(jbnn.population_count),
        platforms=("METAL",),
        disabled_checks=[export.DisabledSafetyCheck.platform()],
    )(words)
    assert "popcnt" not in portable.mlir_module()
    assert_array_equal(portable.call(words), oracle.population_count(words))


def test_population_count_is_native_where_there_is_one():
    traced = jax.jit(jbnn.population_count).trace(jnp.zeros(4, jnp.uint32))
    assert "popcnt" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "popcnt" not in traced.lower(lowering_platforms=("METAL",)).as_text()
