"""The native code for CPUs, on every path that this processor can run: exact on every geometry, whatever leaves it."""

import dataclasses
import functools
import re
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CASES, named
from jax import export
from numpy.testing import assert_array_equal
from oracle import assert_close
from test_readings import MIXED, drawn
from test_transpose import CASES as TRANSPOSED

import jbnn
from jbnn import _native
from jbnn._geometry import Geometry
from jbnn._kernels import simd
from jbnn._kernels.case import BITS, SIGNS, Affine, Bits, Case, Place, Reading

pytestmark = [
    # Without the compiled part, or with jax older than 0.5.0, there is nothing here to test.
    pytest.mark.skipif(_native.why_not() is not None, reason=str(_native.why_not())),
    pytest.mark.usefixtures("on_cpu"),
]
PATHS = _native.paths()
EVERY = [case for case in [*CASES, *TRANSPOSED] if case.channels and not case.canonical().is_empty(case.image[0])]
FLOATS, BFLOATS = np.dtype(np.float32), np.dtype(jnp.bfloat16)
RNG = np.random.default_rng(0)

on_every_path = pytest.mark.parametrize("path", PATHS)


def on_path(path, case, x, w, *terms):
    return jax.jit(lambda x, w, *terms: simd.conv_by(path, x, w, case, terms))(x, w, *terms)


def words(*shape):
    return RNG.integers(0, 2**32, shape, np.uint32)


def dense(channels, features, left=SIGNS, **options):
    return Case(Geometry((), (), channels, features, 1, (), (), (), ()), left, SIGNS, 0, **options)


def test_what_ran(record_property):
    record_property("paths", ", ".join(PATHS))
    assert PATHS[-1] == "portable"


@on_every_path
@pytest.mark.parametrize("case", EVERY, ids=[case.id for case in EVERY])
def test_every_geometry(case, path):
    geometry = case.canonical(transposed=case in TRANSPOSED)
    arrays, sums = drawn(case)

    @jax.jit
    def every_pair(x, w):
        return [simd.conv_by(path, x, w, Case(geometry, *pair), ()) for pair in MIXED]

    for pair, u, expected in zip(MIXED, every_pair(*arrays), sums, strict=True):
        assert_array_equal(u, expected, err_msg=str(pair))


@functools.cache
def reals(case):
    """Integers as reals, and the exact sums of each border: what floats and bytes must both give."""
    x, w = case.draw()
    x = np.round(40 * np.abs(x)).astype(np.float32)
    geometry = {name: case.geometry[name] for name in ("window_strides", "padding", "rhs_dilation")}
    if case in TRANSPOSED:
        geometry = oracle.transposed(x, w, **geometry)
    geometry["feature_group_count"] = case.feature_group_count
    sums = [oracle.correlate(x, oracle.sign(w), pad_value=outside, **geometry) for outside in (0, 2)]
    return x, oracle.with_garbage(oracle.pack(w, axis=-2), w.shape[-2], axis=-2), sums


@on_every_path
@pytest.mark.parametrize("case", EVERY, ids=[case.id for case in EVERY])
def test_reals_on_every_geometry(case, path):
    geometry = case.canonical(transposed=case in TRANSPOSED)
    x, w, sums = reals(case)
    types = (np.float32, jnp.bfloat16, np.float16, np.int8, np.uint8)

    @jax.jit
    def every_type(x, w):
        cases = [Case(geometry, np.dtype(t), SIGNS, outside) for t in types for outside in (0, 2)]
        return [simd.conv_by(path, x.astype(case.left), w, case, ()) for case in cases]

    for i, u in enumerate(every_type(np.minimum(x, 127), w)):
        assert u.dtype == (np.float32 if i < 6 else np.int32)
        if x.max() <= 127:
            assert_array_equal(u, sums[i % 2], err_msg=str(i))


LEAVING = named("17 outputs", "130 outputs", "64 channels", "2 groups of 33", "deep", "3-D, everything")
STRANGE = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 3e38, 1e-30], np.float32)


def strange(size):
    """Floats, every third of them one that rounds to nothing, to infinity, or is no number."""
    values = RNG.standard_normal(size).astype(np.float32)
    values[::3] = np.resize(STRANGE, values[::3].shape)
    return RNG.permutation(values)


@on_every_path
@pytest.mark.parametrize("case", LEAVING, ids=lambda case: case.id)
@pytest.mark.parametrize("dtype", [FLOATS, BFLOATS], ids=str)
def test_floats_leave_with_two_roundings(case, dtype, path):
    """To the bit as NumPy computes them, one operation after the other."""
    geometry = case.canonical()
    (x, w), sums = drawn(case)
    scale, bias = strange(geometry.features), strange(geometry.features)
    for terms, clamp in [
        ((scale, bias), (None, None)),
        ((scale, None), (0.0, None)),
        ((None, bias), (-20.5, 6.0)),
        ((None, None), (None, 30.0)),
    ]:
        with np.errstate(all="ignore"):
            y = sums[0].astype(np.float32)
            y = y if terms[0] is None else y * terms[0]
            y = y if terms[1] is None else y + terms[1]
            y = y if clamp[0] is None else np.where(y < np.float32(clamp[0]), np.float32(clamp[0]), y)
            y = y if clamp[1] is None else np.where(y > np.float32(clamp[1]), np.float32(clamp[1]), y)
            expected = y.astype(dtype)
        each = Case(geometry, *MIXED[0], Affine(dtype, clamp))
        given = jax.jit(lambda x, w, terms, each=each: simd.conv_by(path, x, w, each, terms))(x, w, terms)
        assert given.dtype == dtype
        assert_array_equal(np.asarray(given).astype(np.float32), expected.astype(np.float32))


@on_every_path
@pytest.mark.parametrize("case", LEAVING, ids=lambda case: case.id)
def test_bits_leave(case, path):
    geometry = case.canonical()
    (x, w), sums = drawn(case)
    value = RNG.integers(sums[0].min() - 1, sums[0].max() + 2, geometry.features, np.int32)
    value[::4] = np.resize([np.iinfo(np.int32).min, np.iinfo(np.int32).max], value[::4].shape)
    flip = RNG.random(geometry.features) < 0.5
    given = on_path(path, Case(geometry, *MIXED[0], Bits()), x, w, value, flip)
    assert_array_equal(given, oracle.pack(np.where((sums[0] >= value) != flip, 1, -1)))


@on_every_path
@pytest.mark.parametrize("size", [320 * 32, 321 * 32, 5000 * 32 - 7], ids=str)
def test_deep_windows(size, path):
    """More words than counters of 16 bits hold, and than a path keeps at a time."""
    x, w = words(3, -(-size // 32)), words(-(-size // 32), 70)
    a, b = (np.where(oracle.unpack(v, size, axis=axis) > 0, 1, -1) for v, axis in ((x, -1), (w, -2)))
    assert_array_equal(on_path(path, dense(size, 70), x, w), a @ b)
    pixels = np.full((2, size), 255, np.uint8)
    pixels[1] = RNG.integers(0, 256, size, np.uint8)
    assert_array_equal(on_path(path, dense(size, 70, np.dtype(np.uint8)), pixels, w), pixels.astype(np.int64) @ b)
    signed = np.where(b[:, 0] > 0, -128, 127).astype(np.int8)[None]
    assert_array_equal(on_path(path, dense(size, 70, np.dtype(np.int8)), signed, w), signed.astype(np.int64) @ b)


@on_every_path
def test_real_rows(path):
    """Of floats, and of values that are none."""
    x, w = RNG.standard_normal((7, 1000)).astype(np.float32), words(32, 600)
    b = oracle.unpack(w, 1000, axis=-2)
    assert_close(on_path(path, dense(1000, 600, FLOATS), x, w), x.astype(np.float64) @ b)
    x[1, 5], x[2, 6], x[3, 7], x[3, 8] = np.inf, np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = x.astype(np.float64) @ b
    u = np.asarray(on_path(path, dense(1000, 600, FLOATS), x, w))
    assert_array_equal(np.isnan(u), np.isnan(expected))
    assert_close(u[[0, 4, 5, 6]], expected[[0, 4, 5, 6]])
    assert_array_equal(u[1], expected[1])


@on_every_path
@pytest.mark.parametrize("size", [1, 7, 33, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.int8], ids=lambda dtype: dtype.__name__)
def test_reals_meet_no_spare_bit(dtype, size, path):
    """To the bit, also zeros, infinities, and what is no number."""
    w = words(-(-size // 32), 40)
    used = oracle.pack(np.ones(size))[:, None]
    x = strange(5 * size).reshape(5, size) if dtype == np.float32 else RNG.integers(-128, 128, (5, size), dtype)
    x[0] = -0.0
    given = [np.asarray(on_path(path, dense(size, 40, np.dtype(dtype)), x, each)) for each in (w | ~used, w & used)]
    assert_array_equal(*(u.view(np.int32) for u in given))


@on_every_path
@pytest.mark.parametrize("case", named("17 outputs", "130 outputs", "2 groups of 33", "deep"), ids=lambda case: case.id)
def test_a_constant_kernel(case, path):
    """It is given as an array of NumPy, and prepared while the program is made."""
    (x, w), sums = drawn(case)
    each = Case(case.canonical(), *MIXED[0])
    assert_array_equal(jax.jit(lambda x: simd.conv_by(path, x, np.asarray(w), each, ()))(x), sums[0])


@on_every_path
def test_what_is_prepared(path, monkeypatch):
    """Of a kernel that a jitted function closes over: planes of nibbles for look-ups; what counts takes words."""
    monkeypatch.setattr(_native, "paths", lambda: (path,))
    x, w = words(1, 8, 8, 2), words(3, 3, 2, 64)
    image, latent = (RNG.standard_normal(shape).astype(np.float32) for shape in ((1, 8, 8, 64), (3, 3, 64, 64)))
    planes = _native.prepared(path, w.reshape(-1, 64), 1, most=simd.MOST_PREPARED).size
    assert (planes > 0) is (path == "avx2")

    def conv(x, w):
        return jbnn.packed_conv(x, w, channels=64, implementation="simd")

    def bytes_prepared(function, *args):
        """The last operand of the one call in the program."""
        (size,) = re.findall(r"tensor<(\d+)xui8>\) -> ", jax.jit(function).lower(*args).as_text())
        return int(size)

    for known in (w, jnp.asarray(w), np.zeros_like(w)):
        assert bytes_prepared(lambda x, w=known: conv(x, w), x) == planes
    assert bytes_prepared(lambda x: jbnn.binary_conv(x, latent, implementation="simd"), image) == planes
    assert bytes_prepared(conv, x, w) == 0
    monkeypatch.setattr(simd, "MOST_PREPARED", planes - 1)
    assert bytes_prepared(lambda x: conv(x, w), x) == 0


@on_every_path
def test_many_callers(path):
    """Eight Python threads at once, with work that each would share out."""
    w = words(3, 3, 4, 128)
    ones, pads = (1, 1), ((1, 1),) * 2
    geometry = Geometry((28, 28), (3, 3), 128, 128, 1, ones, pads, ones, ones)
    case = Case(geometry, SIGNS, SIGNS, 0)
    compiled = jax.jit(lambda x, w: simd.conv_by(path, x, w, case, ()))
    images = [words(4, 28, 28, 4) for _ in range(8)]

    def call(x):
        with jax.default_device(jax.devices("cpu")[0]):  # which each thread has its own of
            return np.asarray(compiled(x, w))

    alone = [call(x) for x in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for u, expected in zip(pool.map(call, images), alone, strict=True):
                assert_array_equal(u, expected)


@pytest.mark.parametrize(("mode", "portable"), [("xnor", "popcount"), ("binary_weights", "unpacked")])
@pytest.mark.parametrize(("rows", "inner"), [(3, 3), (1, 4)])
def test_a_small_product_feeds_it(rows, inner, mode, portable):
    """XLA of jaxlib 0.5.0 aborts where a native call that has attributes reads one."""
    a, b = (RNG.integers(-9, 10, shape).astype(np.float32) for shape in ((rows, inner), (inner, 64)))
    w = RNG.standard_normal((64, 40)).astype(np.float32)

    def layer(implementation):
        return jax.jit(lambda a, b, w: jbnn.binary_dense(a @ b, w, mode=mode, implementation=implementation))

    assert_array_equal(layer("simd")(a, b, w), layer(portable)(a, b, w))


def test_what_none_picks():
    here = Place(("cpu",), "cpu")
    fast = PATHS[0] != "portable"
    case = dataclasses.replace(dense(64, 64), place=here)
    assert simd.why_not(case) is None
    assert simd.faster(case) is fast
    assert not simd.faster(dataclasses.replace(case, split=True))


def test_what_it_refuses():
    here = Place(("cpu",), "cpu")
    for changes, reason in [
        ({"place": Place(("cuda",))}, "CPUs only"),
        ({"place": Place(("cpu", "cuda"))}, "CPUs only"),
        ({"place": Place(("cpu",), exported=True)}, "leave the choice to None"),
        ({"left": Reading(0, 3), "place": here}, "steps make 6"),
        ({"left": np.dtype(np.float64), "place": here}, "float64"),
        ({"left": FLOATS, "right": BITS, "place": here}, "not for 0 and 1"),
        ({"geometry": dense(2**29, 1).geometry}, "on the way"),
    ]:
        assert reason in simd.why_not(dataclasses.replace(dense(64, 64), **changes))


def test_export_takes_the_portable_form():
    x, w = words(2, 8, 8, 2), words(3, 3, 2, 64)
    program = export.export(jax.jit(lambda x: jbnn.packed_conv(x, w, channels=64)), platforms=("cpu",))(x)
    assert "custom_call" not in program.mlir_module()
    assert_array_equal(program.call(x), jbnn.packed_conv(x, w, channels=64))
    named = jax.jit(lambda x: jbnn.packed_conv(x, w, channels=64, implementation="simd"))
    with pytest.raises(NotImplementedError, match="leave the choice to None"):
        export.export(named, platforms=("cpu",))(x)
