"""An affine and a sign as a comparison of integers: the same for every int32, and in every implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import BORDERS
from jax import export
from numpy.testing import assert_array_equal

import jbnn

INT32 = np.iinfo(np.int32)
RNG = np.random.default_rng(0)
TINY, LARGE = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max

# Every kind of float: the ends of its range, where products overflow at some u, and where all of them vanish.
KINDS = np.array(
    [0, 1, 3, 0.1, 1e-30, 1e30, TINY, 7 * TINY, 2**-126, LARGE, LARGE / 2**31, LARGE / 2**24, 2**-31, np.inf, np.nan],
    np.float32,
)
SPECIAL = np.stack(np.meshgrid(np.concatenate([KINDS, -KINDS]), np.concatenate([KINDS, -KINDS])), -1).reshape(-1, 2)


def ties():
    """u * scale = -bias at some u, exactly or but for a rounding, and bias one float above and below."""
    scale = np.concatenate([RNG.standard_normal(300), np.exp2(RNG.integers(-149, 100, 300))]).astype(np.float32)
    scale *= RNG.choice([-1, 1], scale.shape).astype(np.float32)
    bias = -scale * RNG.integers(-4608, 4609, scale.shape).astype(np.float32)
    around = [bias, np.nextafter(bias, np.float32(np.inf)), np.nextafter(bias, np.float32(-np.inf))]
    return np.stack([np.tile(scale, 3), np.concatenate(around)], -1)


def ordinary():
    return np.stack([RNG.standard_normal(1500), 100 * RNG.standard_normal(1500)], -1).astype(np.float32)


def any_bits():
    """Floats drawn by their bits: every exponent, NaNs among them."""
    return RNG.integers(0, 2**32, (1500, 2), np.uint32).view(np.float32)


def bits(u, threshold):
    return (u >= np.asarray(threshold.value)) != np.asarray(threshold.flip)


@pytest.mark.parametrize("pairs", [SPECIAL, ties(), ordinary(), any_bits()], ids=["special", "ties", "normal", "any"])
def test_a_threshold_decides_as_the_affine_does(pairs):
    scale, bias = pairs.T
    threshold = jbnn.sign_threshold(scale, bias)
    value = np.asarray(threshold.value).astype(np.int64)
    assert threshold.value.dtype == jnp.int32 and threshold.flip.dtype == jnp.bool_
    powers = np.concatenate([2 ** np.arange(31) + d for d in (-1, 0, 1)])
    far = np.concatenate([powers, -powers, [INT32.min, INT32.max - 1, INT32.max], RNG.integers(-(2**31), 2**31, 200)])
    near = np.arange(-4608, 4609)[:, None]
    around = np.clip(value + np.arange(-2, 3)[:, None], INT32.min, INT32.max)
    for u in (*np.array_split(near, 16), far[:, None].clip(INT32.min, INT32.max), around):
        assert_array_equal(bits(u, threshold), oracle.is_positive(u, scale, bias))


def test_what_every_kind_of_threshold_looks_like():
    scale, bias = np.array([[0.5, 1], [-0.5, 1], [0, -1], [0, 0], [-0.0, -0.0], [np.nan, -1], [1, -np.inf]]).T
    value, flip = jbnn.sign_threshold(np.float32(scale), np.float32(bias))
    assert_array_equal(value, [-2, 3, INT32.min, INT32.min, INT32.min, INT32.min, INT32.min])
    assert_array_equal(flip, [False, True, True, False, False, False, True])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_scalars_and_short_floats(dtype):
    scale, bias = jnp.array([0.25, -3.5], dtype), jnp.array(7.0, dtype)
    threshold = jbnn.sign_threshold(scale, bias)
    assert_array_equal(threshold.value, [-28, 3])
    for again in (jbnn.sign_threshold(scale, 7), jbnn.sign_threshold(np.asarray(scale), 7.0)):
        jax.tree.map(assert_array_equal, again, threshold)
    assert jbnn.sign_threshold(1, 0).value.shape == ()


def test_it_is_made_of_concrete_arrays_only():
    one = jnp.ones(3)
    for name, function in [
        ("scale", lambda s: jbnn.sign_threshold(s, one)),
        ("bias", lambda b: jbnn.sign_threshold(1.0, b)),
    ]:
        for transform in (jax.jit, jax.vmap):
            with pytest.raises(TypeError, match=rf"`{name}` must be a concrete array, but was traced"):
                transform(function)(one)
    jax.tree.map(assert_array_equal, jax.jit(lambda: jbnn.sign_threshold(one, one))(), jbnn.sign_threshold(one, one))


@pytest.mark.parametrize(
    "scale, bias, message",
    [
        (np.ones(3), 0.0, "`scale` must have dtype float32, bfloat16 or float16, but has dtype float64"),
        (0.5, np.float64(1), "`bias` must have dtype float32, bfloat16 or float16, but has dtype float64"),
        (np.ones(3, np.int32), 0.0, "`scale` must have dtype float32, bfloat16 or float16, but has dtype int32"),
        ([np.float64(1)], 0.0, "`scale` must have dtype float32, bfloat16 or float16, but has dtype float64"),
        (np.ones(2, ">f4"), 1.0, "`scale` must have this machine's byte order, but has dtype '>f4'"),
        (10**400, 1.0, "`scale` must be numbers that a float can hold, but was 1000"),
        ([[1.0], [1.0, 2.0]], 1.0, "`scale` must be numbers"),
        (None, 1.0, "`scale` must be an array of numbers that JAX can hold, but was None"),
        (True, 0.0, "`scale` must have dtype float32, bfloat16 or float16, but has dtype bool"),
    ],
)
def test_what_would_be_rounded_is_refused(scale, bias, message):
    with pytest.raises(TypeError, match=message):
        jbnn.sign_threshold(scale, bias)


@pytest.mark.parametrize(
    "scale, bias, message",
    [
        (np.ones(3), np.ones(4), r"`bias` must be a scalar or have shape \(O,\) = \(3,\), but has shape \(4,\)"),
        (np.ones((3, 1)), np.ones(3), r"`scale` .*, but has shape \(3, 1\)|`bias` .*, but has shape \(3,\)"),
        (np.ones((2, 3)), np.ones((3, 3)), r"`scale` .*\(3, 3\), but has shape \(2, 3\)|`bias` .* shape \(3, 3\)"),
    ],
)
def test_wrong_shapes_are_refused(scale, bias, message):
    with pytest.raises(ValueError, match=message):
        jbnn.sign_threshold(np.float32(scale), np.float32(bias))


def test_lists_are_numbers_as_python_s_own_are():
    jax.tree.map(assert_array_equal, jbnn.sign_threshold([0.5, -3], 1), jbnn.sign_threshold(np.float32([0.5, -3]), 1.0))
    jax.tree.map(assert_array_equal, jbnn.sign_threshold([0.1], [0.3]), jbnn.sign_threshold(np.float32([0.1]), 0.3))


def test_thresholds_of_stacked_layers():
    scale, bias = RNG.standard_normal((2, 3, 2, 5)).astype(np.float32)
    stacked = jbnn.sign_threshold(scale, bias)
    assert stacked.value.shape == stacked.flip.shape == (3, 2, 5)
    for i in np.ndindex(3, 2):
        jax.tree.map(assert_array_equal, pick(stacked, i), jbnn.sign_threshold(scale[i], bias[i]))
    shared = jbnn.sign_threshold(scale, bias[0, 0])
    jax.tree.map(assert_array_equal, pick(shared, (2, 1)), jbnn.sign_threshold(scale[2, 1], bias[0, 0]))


def test_equality_and_hash():
    """Of arrays, so without a raw "truth value of an array", and as arrays have no hash."""
    a, b, c = (jbnn.sign_threshold(np.float32([s, 1]), 1.0) for s in (0.5, 0.5, 0.25))
    assert [a == b, a != b, a == c, a != c] == [True, False, False, True]
    assert a != pick(a, 0) and a != (1, 2) and a != 3 and a is not None
    with pytest.raises(TypeError, match="`Threshold` has no hash"):
        hash(a)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda t: t == a)(a)


def dense(threshold):
    """u = 4 for both of two channels, and its bits."""
    words = np.uint32([[15]]), np.uint32([[15, 15]])
    return jbnn.packed_dense(*words, channels=4, threshold=threshold)


@pytest.mark.parametrize(
    "value, flip, bits",
    [
        (4, False, 3),
        (5, False, 0),
        (5, True, 3),
        ([4, 5], [False, False], 1),
        ([5, 4], np.True_, 1),
        (-(2**31), True, 0),
    ],
)
def test_a_threshold_of_python_s_own_numbers(value, flip, bits):
    assert_array_equal(dense(jbnn.Threshold(value, flip)), [[bits]])
    if not isinstance(value, list) and value > 0:
        assert_array_equal(jax.jit(dense)(jbnn.Threshold(value, flip)), [[bits]])


@pytest.mark.parametrize(
    "value, flip, message",
    [
        (2**31, False, "`threshold.value` must fit in int32, but was 2147483648"),
        ([0, -(2**31) - 1], False, "`threshold.value` must fit in int32, but was -2147483649"),
        (np.int64(3), False, "`threshold.value` must have dtype int32, but has dtype int64"),
        (np.array([3, 3]), False, "`threshold.value` must have dtype int32, but has dtype int64"),
        (np.zeros(2, ">i4"), False, "`threshold.value` must have this machine's byte order, but has dtype '>i4'"),
        (3.0, False, "`threshold.value` must have dtype int32, but has dtype float32"),
        (True, False, "`threshold.value` must have dtype int32, but has dtype bool"),
        (None, False, "`threshold.value` must be an array of numbers that JAX can hold, but was None"),
        (0, 0, "`threshold.flip` must have dtype bool, but has dtype int32"),
        (0, [0, 1], "`threshold.flip` must have dtype bool, but has dtype int32"),
    ],
)
def test_what_is_not_exactly_int32_or_bool_is_refused(value, flip, message):
    with pytest.raises(TypeError, match=message):
        dense(jbnn.Threshold(value, flip))


# implementations

WIDTHS = [(1, 1), (1, 31), (1, 32), (1, 33), (1, 70), (2, 32), (2, 70), (33, 33)]


def layer(channels, groups, features, image=(2, 4, 3), window=(2, 2)):
    """Words x and w with noise in their unused bits, what they stand for, and a threshold near the sums."""
    rng = np.random.default_rng(features)
    x = rng.standard_normal((*image, channels)).astype(np.float32)
    w = rng.standard_normal((*window, channels // groups, features)).astype(np.float32)
    noisy = (
        oracle.with_garbage(oracle.pack(x, groups=groups), channels, groups=groups),
        oracle.with_garbage(oracle.pack(w, axis=-2), channels // groups, axis=-2),
    )
    spread = (channels // groups * len(window)) ** 0.5
    terms = rng.standard_normal(features), spread * rng.standard_normal(features)
    return (x, w), noisy, tuple(map(np.float32, terms))


@pytest.mark.parametrize("groups, features", WIDTHS)
@pytest.mark.parametrize("mode", BORDERS)
def test_words_out_of_every_implementation(mode, groups, features, implementation):
    channels = 66 if groups == 2 else 33
    (x, w), words, terms = layer(channels, groups, features)
    options = {"mode": mode, "feature_group_count": groups, "pad_value": 1}
    y = jbnn.packed_conv(
        *words, channels=channels, threshold=jbnn.sign_threshold(*terms), implementation=implementation, **options
    )
    assert y.dtype == jnp.uint32
    assert_array_equal(y, oracle.pack(oracle.is_positive(oracle.accumulate(x, w, **options), *terms)))


@pytest.mark.parametrize("image, window", [((2, 5), (3,)), ((1, 2, 3, 4), (2, 1, 2)), ((1, 4, 4), (4, 4))])
def test_words_out_of_every_rank_and_of_deep_windows(image, window, implementation):
    channels = 200 if window == (4, 4) else 33
    (x, w), words, terms = layer(channels, 1, 40, image, window)
    threshold = jbnn.sign_threshold(*terms)
    y = jbnn.packed_conv(*words, channels=channels, threshold=threshold, implementation=implementation)
    assert_array_equal(y, oracle.pack(oracle.is_positive(oracle.accumulate(x, w), *terms)))


@pytest.mark.parametrize("mode", BORDERS)
def test_words_out_of_a_dense_layer(mode, implementation):
    (x, w), words, terms = layer(70, 1, 40, image=(2, 3), window=())
    threshold = jbnn.sign_threshold(*terms)
    y = jbnn.packed_dense(*words, channels=70, mode=mode, threshold=threshold, implementation=implementation)
    a, b = oracle.operands(x, w, mode)
    assert_array_equal(y, oracle.pack(oracle.is_positive(a @ b, *terms)))


def test_a_scalar_threshold_is_of_every_channel():
    (x, w), words, _ = layer(33, 1, 40)
    y = jbnn.packed_conv(*words, channels=33, threshold=jbnn.sign_threshold(1.0, -2.0))
    assert_array_equal(y, oracle.pack(oracle.accumulate(x, w) >= 2))


@pytest.mark.parametrize("image, features", [((0, 4, 3), 33), ((2, 0, 3), 33), ((2, 4, 3), 0)])
def test_nothing_gives_no_words(image, features):
    x, w = jnp.ones((*image, 2), jnp.uint32), jnp.ones((1, 1, 2, features), jnp.uint32)
    threshold = jbnn.Threshold(jnp.zeros(features, jnp.int32), jnp.zeros(features, bool))
    assert jbnn.packed_conv(x, w, channels=64, threshold=threshold).shape == (*image, -(-features // 32))


# transformations


def conv(x, w, threshold):
    return jbnn.packed_conv(x, w, channels=33, threshold=threshold)


def test_a_traced_threshold():
    _, (x, w), terms = layer(33, 1, 40)
    threshold = jbnn.sign_threshold(*terms)
    expected = conv(x, w, threshold)
    assert_array_equal(jax.jit(conv)(x, w, threshold), expected)
    exported = export.export(jax.jit(conv))(x, w, threshold)
    if hasattr(export, "register_namedtuple_serialization"):
        exported = export.deserialize(exported.serialize())
    assert_array_equal(exported.call(x, w, threshold), expected)


def pick(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, 0), (0, None, 0)])
def test_vmap(axes):
    _, words, (scale, bias) = layer(33, 1, 40)
    many = [np.stack([np.roll(array, i, axis=0) for i in range(3)]) for array in words]
    thresholds = [jbnn.sign_threshold(scale * s, bias) for s in (1, -1, 0)]
    many.append(jax.tree.map(lambda *leaves: np.stack(leaves), *thresholds))
    args = [arg if axis == 0 else pick(arg, 0) for arg, axis in zip(many, axes, strict=True)]
    for i, y in enumerate(jax.vmap(conv, axes)(*args)):
        one = [arg if axis is None else pick(arg, i) for arg, axis in zip(args, axes, strict=True)]
        assert_array_equal(y, conv(*one))


# batch norm


NORM = "mean", "variance", "gamma", "beta", "scale", "bias"


def norms(size=6):
    """A batch norm's parameters, with gammas of both signs and a dead channel, and the affine of the layer before."""
    values = dict(zip(NORM, RNG.standard_normal((len(NORM), size)).astype(np.float32), strict=True))
    values["variance"] **= 2
    values["gamma"][0] = values["variance"][1] = 0
    return values


def normalised(u, *, mean, variance, gamma=1.0, beta=0.0, epsilon, scale=1.0, bias=0.0):
    return gamma * (u * scale + bias - mean) / (variance + epsilon) ** 0.5 + beta


@pytest.mark.parametrize("left_out", [(), *((name,) for name in NORM[2:]), NORM[2:]])
def test_a_batch_norm_folds_into_an_affine(left_out):
    given = {name: value for name, value in norms().items() if name not in left_out}
    scale, bias = jbnn.fold_batch_norm(**given, epsilon=1e-3)
    assert scale.shape == bias.shape == (6,) and scale.dtype == bias.dtype == jnp.float32
    u = np.arange(-50, 51)[:, None]
    expected = normalised(u, **{name: oracle.real(value) for name, value in given.items()}, epsilon=1e-3)
    oracle.assert_close((u * np.asarray(scale) + np.asarray(bias)).astype(np.float32), expected)


@pytest.mark.parametrize("wide", [np.array([2**32 + 7]), [2**32 + 7], [np.int64(2**32 + 7)], np.uint64([2**32 + 7])])
def test_a_fold_of_wide_integers_does_not_wrap(wide):
    _, bias = jbnn.fold_batch_norm(wide, 0, epsilon=1.0)
    assert_array_equal(bias, np.float32([-(2**32 + 7)]))
    (bias,) = jbnn.fold_batch_norm(0.0, 0.0, beta=wide, gamma=2**32, epsilon=1)[1]
    assert float(bias) == 2**32
    assert float(jbnn.fold_batch_norm(0.0, 0.0, gamma=2**32, epsilon=1)[0]) == 2**32


def test_a_fold_of_stacked_layers():
    values = {name: np.stack([value, 2 * value, 3 * value]) for name, value in norms().items()}
    values["beta"] = values["beta"][0]
    scale, bias = jbnn.fold_batch_norm(**values, epsilon=1e-3)
    assert scale.shape == bias.shape == (3, 6)
    for i in range(3):
        one = {name: value if value.ndim == 1 else value[i] for name, value in values.items()}
        jax.tree.map(assert_array_equal, (scale[i], bias[i]), jbnn.fold_batch_norm(**one, epsilon=1e-3))
    with pytest.raises(ValueError, match=r"`scale` .*\(6,\).* but has shape \(6, 1\)"):
        jbnn.fold_batch_norm(values["beta"], 1.0, scale=values["beta"][:, None], epsilon=1e-3)


def test_no_constant_is_sent_to_the_device():
    terms, epsilon = jnp.ones(5), jnp.float32(1e-3)
    with jax.transfer_guard("disallow"):
        scale, bias = jbnn.fold_batch_norm(terms, terms, epsilon=epsilon)
        jbnn.fold_batch_norm(terms, epsilon, terms, terms, epsilon=epsilon, scale=terms, bias=terms)
        assert jbnn.sign_threshold(scale, bias).value.shape == (5,)


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_a_fold_needs_statistics(name):
    with pytest.raises(TypeError, match=f"`{name}` must be real, but was None"):
        jbnn.fold_batch_norm(**{"mean": 0.0, "variance": 1.0, "epsilon": 1e-3, name: None})


@pytest.mark.parametrize("name", ["mean", "gamma", "epsilon"])
def test_a_fold_wants_real_numbers(name):
    with pytest.raises(TypeError, match=f"`{name}` must be real, but has dtype complex64"):
        jbnn.fold_batch_norm(**{"mean": 0.0, "variance": 1.0, "epsilon": 1e-3, name: jnp.complex64(1j)})


def test_a_fold_of_scalars_and_of_short_floats():
    scale, bias = jax.jit(lambda v: jbnn.fold_batch_norm(0.5, v, gamma=jnp.ones(3, jnp.bfloat16), epsilon=0))(4)
    assert scale.dtype == bias.dtype == jnp.float32
    assert_array_equal(scale, [0.5, 0.5, 0.5])
    assert_array_equal(bias, [-0.25, -0.25, -0.25])
    assert jbnn.fold_batch_norm(1.0, 1.0, epsilon=1e-3)[0].shape == ()


def test_the_gradient_of_a_fold_is_that_of_the_formula():
    values = {name: value + 3 * (name == "variance") for name, value in norms().items()}
    u = RNG.standard_normal((4, 6)).astype(np.float32)

    def folded(values):
        scale, bias = jbnn.fold_batch_norm(**values, epsilon=1e-3)
        return jnp.sum(jnp.cos(u * scale[None] + bias[None]))

    def written_out(values):
        rows = {name: jnp.broadcast_to(value, u.shape) for name, value in values.items()}
        return jnp.sum(jnp.cos(normalised(u, **rows, epsilon=1e-3)))

    ours, theirs = jax.grad(folded)(values), jax.grad(written_out)(values)
    for name in values:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_fold_in_float64(x64):
    values = {name: jnp.asarray(value, jnp.float64) for name, value in norms().items()}
    scale, bias = jbnn.fold_batch_norm(**values, epsilon=1e-3)
    assert scale.dtype == bias.dtype == jnp.float64
    one = jnp.ones(3, jnp.float32)
    assert jbnn.fold_batch_norm(one, one, gamma=2.0, bias=1, epsilon=1e-3)[0].dtype == jnp.float32
    with pytest.raises(TypeError, match="`scale` must have dtype float32, bfloat16 or float16, but has dtype float64"):
        jbnn.sign_threshold(scale, bias)
