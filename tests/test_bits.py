"""The bit convention: what is +1, and which bit of which word it goes to."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracle
import pytest
from jax import export
from numpy.testing import assert_array_equal

import jbnn
from jbnn.quantizers import ste_heaviside, ste_sign

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


# operands, judged as they were given


class Converts:
    """An object with `__array__` and no dtype of its own."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class ConvertsToJax:
    def __init__(self, values):
        self.values = values

    def __jax_array__(self):
        return self.values


WIDE_WORDS = np.array([1 << 40], np.uint64)
WAYS_IN = {
    "array": lambda array: array,
    "scalar": lambda array: array[0],
    "list of scalars": list,
    "list of arrays": lambda array: [array],
    "buffer": lambda array: memoryview(array),
    "object": Converts,
    "JAX's object": ConvertsToJax,
}
each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)


@each_way
@pytest.mark.parametrize(
    "call, name",
    [
        (jbnn.population_count, "words"),
        (lambda words: jbnn.unpack(words, 4), "words"),
        (lambda words: jbnn.packed_dense(words, np.ones((1, 1), np.uint32), channels=4), "x"),
        (lambda words: jbnn.packed_dense(np.ones((1, 1), np.uint32), words, channels=4), "w"),
    ],
)
def test_words_of_64_bits_are_refused(call, name, way):
    with pytest.raises(TypeError, match=f"`{name}` must .*uint32, but has dtype uint64"):
        call(way(WIDE_WORDS))


@each_way
@pytest.mark.parametrize("call", [jbnn.sign, jbnn.pack, jbnn.quantizers.ste_sign], ids=lambda call: call.__name__)
@pytest.mark.parametrize("values", [np.array([2**31, -(2**32)]), np.array([-1e-60])], ids=str)
def test_what_jax_narrows_has_no_sign_yet(values, call, way):
    with pytest.raises(TypeError, match=f"`x` must .*, but has dtype {values.dtype}"):
        call(way(values))


@pytest.mark.parametrize("values", [np.array([2**31, -(2**32), 0]), np.array([1e-60, -1e-60, -0.0])], ids=str)
def test_wide_numbers_keep_their_signs_where_jax_keeps_them(values, x64):
    assert_array_equal(jbnn.sign(values), [1, -1, 1])
    assert_array_equal(jbnn.pack(values), [0b101])


@pytest.mark.parametrize("x", [-1e-60, [1.0, -1e-60], [[np.float32(1)], [-1e-60]]], ids=str)
def test_a_number_that_becomes_0_is_refused(x):
    with pytest.raises(
        TypeError, match="`x` must hold numbers that JAX does not round to 0, but one of them was -1e-60"
    ):
        jbnn.sign(x)


@pytest.mark.parametrize(
    "x", [2**40, [1, 2**40], None, "one", b"1", [[1], [1, 2]], object()], ids=lambda x: type(x).__name__
)
@pytest.mark.parametrize("call", [jbnn.sign, jbnn.pack], ids=lambda call: call.__name__)
def test_what_is_no_array_is_named(call, x):
    with pytest.raises(TypeError, match="`x` must "):
        call(x)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: jbnn.sign(np.ones(3, ">f4")), "x"),
        (lambda: jbnn.pack(np.ones(3, ">f4")), "x"),
        (lambda: jbnn.unpack(np.ones(1, ">u4"), 3), "words"),
        (lambda: jbnn.population_count(np.ones(1, ">u4")), "words"),
    ],
)
def test_another_byte_order_is_refused(call, name):
    with pytest.raises(TypeError, match=f"`{name}` must have this machine's byte order, but has dtype '>.4'"):
        call()


def test_lists_of_jax_s_arrays_are_arrays():
    x = [jnp.float32(-2.0), 1.0, np.float32(-1)]
    assert_array_equal(jbnn.sign(x), [-1, 1, -1])
    assert_array_equal(jax.jit(lambda a: jbnn.pack([a, 1.0, -a]))(2.0), [0b011])
    with pytest.raises(TypeError, match=r"`x` must not mix .* float64"):
        jbnn.sign([jnp.float32(1), np.float64(1)])


SHORT = [name for name in dir(ml_dtypes) if name.startswith(("float8_", "float6_", "float4_"))]
NARROWER = [getattr(ml_dtypes, name) for name in SHORT if hasattr(jnp, name)]


@pytest.mark.parametrize("dtype", NARROWER, ids=lambda dtype: dtype.__name__)
def test_floats_of_8_bits_are_refused(dtype):
    """Where there is no -0, their signs came out inverted; and one of their NaNs was negative."""
    x, name = np.ones((2, 3), dtype), dtype.__name__
    quantizers = [
        getattr(jbnn.quantizers, each) for each in jbnn.quantizers.__all__ if each not in ("identity", "dorefa")
    ]
    for call in (jbnn.sign, jbnn.pack, *quantizers):
        with pytest.raises(TypeError, match=rf"`x` must .*but has dtype {name}\b"):
            call(x)
    with pytest.raises(
        TypeError, match=f"`dtype` must be floating or signed integer, but was {name}; floats are float32"
    ):
        jbnn.unpack(np.uint32([1]), 3, dtype=dtype)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bool_, jnp.complex64, "foo", np.float64, None, 3], ids=str)
def test_unpack_into_what_cannot_hold_a_sign(dtype):
    with pytest.raises(TypeError, match="`dtype` must be floating or signed integer, but was"):
        jbnn.unpack(np.uint32([1]), 3, dtype=dtype)


def test_python_s_own_dtypes_are_jax_s():
    assert jbnn.unpack(np.uint32([1]), 3, dtype=float).dtype == jnp.float32
    assert jbnn.unpack(np.uint32([1]), 3, dtype=int).dtype == jnp.int32


# quantizers


def centred(w):
    return ste_sign(w - w.mean(0, keepdims=True))


@pytest.mark.parametrize(
    "quantizer, mode",
    [(ste_sign, "xnor"), (jbnn.sign, "and"), (ste_heaviside, "and"), (centred, "xnor"), (centred, "and")],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_packing_with_a_quantizer_keeps_the_result(quantizer, mode, dtype, transform):
    """Whatever binary_conv makes of a kernel, for zeros and NaN too, its words made with that quantizer give."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 8)), rng.standard_normal((8, 5)) + 1
    w[0, :4], w[1, :3] = 0, -0.0
    if quantizer is not centred:
        w[2] = np.nan
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    options = {"mode": mode, "input_quantizer": ste_sign, "kernel_quantizer": quantizer}
    words = transform(lambda w: jbnn.pack(w, axis=-2, quantizer=quantizer))(w)
    trained = jbnn.binary_dense(x, w, **options)
    assert_array_equal(jbnn.binary_dense(x, words, **options), trained)


def test_a_quantizer_is_called_in_float32_at_least():
    """As binary_conv calls it: in bfloat16 the mean, 1 + 2**-9, would be 1, and three signs others."""
    w = jnp.array([[1], [1], [1], [1 + 2**-7]], jnp.bfloat16)
    assert_array_equal(jbnn.pack(w, axis=-2, quantizer=centred), [[0b1000]])
    assert jbnn.binary_dense(jnp.ones((1, 4)), w, kernel_quantizer=centred) == -2


def test_packing_zeros_after_a_relu():
    z = jnp.zeros((1, 4))
    words = jbnn.pack(z, quantizer=ste_heaviside), jbnn.pack(jnp.ones((4, 1)), axis=-2)
    assert_array_equal(jbnn.packed_dense(*words, channels=4, mode="and"), [[0]])


def test_a_quantizer_s_integers_and_bools():
    x = jnp.array([2.0, -1.0, 0.0, 0.5])
    for quantizer in (lambda x: x > 0, lambda x: (x > 0).astype(jnp.int32), lambda x: np.asarray(x > 0, np.float32)):
        assert_array_equal(jbnn.pack(x, quantizer=quantizer), [0b1001])
    assert_array_equal(jbnn.pack(jnp.array([2, -1]), quantizer=jbnn.sign), [1])


@pytest.mark.parametrize(
    "quantizer, error, facts",
    [
        (jbnn.quantizers.ste_tern, ValueError, ("±1, or 0 and 1", "-1.0, 0.0, 1.0")),
        (jbnn.quantizers.magnitude_aware_sign, ValueError, ("±1, or 0 and 1", "1.25")),
        (lambda x: x * jnp.nan, ValueError, ("±1, or 0 and 1", "nan")),
        (lambda x: x[:2], ValueError, ("(3,)", "(2,)")),
        (lambda x: None, TypeError, ("array", "None")),
        (lambda x: jbnn.sign(x).astype(jnp.complex64), TypeError, ("`quantizer(x)`", "complex64")),
        ("sign", TypeError, ("function", "'sign'")),
    ],
)
def test_what_a_quantizer_must_return(quantizer, error, facts):
    with pytest.raises(error) as caught:
        jbnn.pack(jnp.array([1.25, -1.0, 0.0]), quantizer=quantizer)
    for fact in ("`quantizer", *facts):
        assert fact in str(caught.value)


# derivatives

ROW, KERNEL = jnp.linspace(-1.0, 1.0, 40), np.full((2, 3), 7, np.uint32)


def through_words(x, pack=jbnn.pack):
    return jbnn.packed_dense(pack(x), KERNEL, channels=40).astype(jnp.float32).sum()


def scanned(f):
    return lambda x: jax.lax.scan(lambda c, x: (c + f(x), None), 0.0, x[None])[0]


UNDER = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda x: jax.vmap(f)(x[None]).sum(),
    "scan": scanned,
    "cond": lambda f: lambda x: jax.lax.cond(x.sum() < 9, f, f, x),
}
each_transform = pytest.mark.parametrize("under", UNDER.values(), ids=UNDER)


@each_transform
def test_words_have_no_derivative(under):
    f = under(through_words)
    assert f(ROW) == through_words(ROW)
    for derivative in (jax.grad(f), lambda x: jax.jvp(f, (x,), (x,)), jax.grad(lambda x: f(ste_sign(x)))):
        with pytest.raises(TypeError, match=r"`pack` has no derivative.*stop_gradient"):
            derivative(ROW)


@pytest.mark.parametrize("quantizer", [ste_sign, jbnn.sign, lambda x: x > 0], ids=["ste_sign", "sign", "comparison"])
def test_words_of_a_quantizer_have_no_derivative(quantizer):
    with pytest.raises(TypeError, match="`pack` has no derivative"):
        jax.grad(lambda x: through_words(x, lambda x: jbnn.pack(x, quantizer=quantizer)))(ROW)


@each_transform
def test_what_was_stopped_may_be_packed(under):
    f = under(lambda x: x.sum() * through_words(jax.lax.stop_gradient(x)))
    assert_array_equal(jax.grad(f)(ROW), np.full(40, through_words(ROW)))


@each_transform
def test_an_argument_that_is_not_packed_has_its_derivative(under):
    words = through_words(ROW)
    f = under(lambda s: (s * through_words(ROW)).sum())
    assert_array_equal(jax.grad(f)(jnp.ones(3)), np.full(3, words))
    two = jax.jit(lambda s, x: s * through_words(x))
    assert jax.grad(two)(2.0, ROW) == words
    assert_array_equal(jax.grad(lambda x: jbnn.pack(x < 2).astype(jnp.float32).sum() * x.sum())(ROW[:3]), [7, 7, 7])


def test_a_quantizer_s_own_parameter_has_no_derivative_either():
    def shifted(shift):
        return jbnn.pack(ROW, quantizer=lambda x: ste_sign(x - shift)).astype(jnp.float32).sum()

    with pytest.raises(TypeError, match="`pack` has no derivative"):
        jax.grad(shifted)(0.5)


def test_no_constant_is_sent_to_the_device():
    floats, integers, bools = jnp.ones((3, 40)), jnp.ones((3, 40), jnp.int16), jnp.ones((3, 40), bool)
    with jax.transfer_guard("disallow"):
        for x in (floats, integers):
            assert jbnn.sign(x).dtype == x.dtype
        for x in (floats, integers, bools):
            words = jbnn.pack(x, axis=0)
        assert jbnn.pack(floats, quantizer=ste_sign, groups=2).shape == (3, 2)
        assert jbnn.unpack(words, 3, axis=0).shape == (3, 40)
        assert jbnn.population_count(words).shape == (1, 40)
