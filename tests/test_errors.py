"""What is refused, before anything is computed, and how: the argument, what it must be, and what it was."""

import functools
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbnn
from jbnn.quantizers import dorefa, magnitude_aware_sign, ste_heaviside, ste_sign, ste_tern


def floats(*shape, dtype=np.float32):
    return jnp.ones(shape, dtype)


def words(*shape):
    return floats(*shape, dtype=np.uint32)


def ints(*shape):
    return floats(*shape, dtype=np.int32)


def bools(*shape):
    return floats(*shape, dtype=bool)


X, W = floats(1, 5, 4, 64), floats(3, 3, 64, 6)
X_WORDS, W_WORDS = words(1, 5, 4, 2), words(3, 3, 2, 6)

conv, transpose, dense = jbnn.binary_conv, jbnn.binary_conv_transpose, jbnn.binary_dense
packed, packed_dense, pool = jbnn.packed_conv, jbnn.packed_dense, jbnn.packed_max_pool
fold, Threshold = jbnn.fold_batch_norm, jbnn.Threshold

DENSE, FLIP = [words(2, 2), words(2, 6)], bools(6)

DTYPES = "must have dtype float32, bfloat16, float16 or float64"
LATENT = f"`w` {DTYPES} or, packed, uint32, but has dtype"
IMAGE = "`x` must have shape (N, *S, C) with one to three spatial axes, but has shape"
DEEP_32 = "`w` must have C / groups = 32 input channels, but has shape"
DEEP_64 = "`w` must have C / groups = 64 input channels, but has shape"
TWO_WORDS = "`w` must have 2 words for C / groups = 64 input channels, but has shape"
PER_INPUT = "must be a scalar or have shape (C,) = (64,), but has shape"
PER_OUTPUT = "must be a scalar or have shape (O,) = (6,), but has shape"
ZERO_ONE = '`pad_value` must be one of (0, 1) with mode="and", but was -1'
DIVIDE = "`feature_group_count` must be positive and divide the 64 channels, but was"
INTEGERS = "must be an integer or 2 integers, each at least 1, but was"
PADDING = '`padding` must be "SAME", "VALID" or 2 pairs of integers, but was'
PM1 = "must return ±1, but was"
UNKNOWN = "`implementation` must be None or one of"

WRONG_DTYPE = [
    (conv, [floats(1, 5, 4, 64, dtype=np.int32), W], {}, f"`x` {DTYPES}, but has dtype int32"),
    (conv, [X_WORDS, W_WORDS], {}, f"`x` {DTYPES}, but has dtype uint32"),
    (conv, [floats(1, 5, 4, 64, dtype=bool), W], {}, f"`x` {DTYPES}, but has dtype bool"),
    (conv, [X, floats(3, 3, 64, 6, dtype=np.int8)], {}, f"{LATENT} int8"),
    (conv, [X, floats(3, 3, 64, 6, dtype=np.complex64)], {}, f"{LATENT} complex64"),
    (transpose, [X_WORDS, W], {}, f"`x` {DTYPES}, but has dtype uint32"),
    (dense, [words(2, 2), words(2, 6)], {}, f"`x` {DTYPES}, but has dtype uint32"),
    (dense, [floats(2, 64), floats(64, 6, dtype=np.uint8)], {}, f"{LATENT} uint8"),
    (packed, [X, W_WORDS], {}, "`x` must hold words of dtype uint32, but has dtype float32"),
    (packed, [X_WORDS, W], {}, "`w` must hold words of dtype uint32, but has dtype float32"),
    (packed, [X_WORDS.astype(np.int32), W_WORDS], {}, "`x` must hold words of dtype uint32, but has dtype int32"),
    (packed_dense, [floats(2, 64), words(2, 6)], {}, "`x` must hold words of dtype uint32, but has dtype float32"),
    (packed_dense, [words(2, 2), floats(64, 6)], {}, "`w` must hold words of dtype uint32, but has dtype float32"),
    (conv, [X, W], {"scale": floats(6, dtype=np.complex64)}, "`scale` must be real, but has dtype complex64"),
    (conv, [X, W], {"input_bias": floats(64, dtype=bool)}, "`input_bias` must be real, but has dtype bool"),
    (conv, [X, W], {"window_strides": 1.5}, "`window_strides` must be an integer or 2 integers, but was 1.5"),
    (conv, [X, W], {"rhs_dilation": (1, 2.0)}, "`rhs_dilation` must be an integer or 2 integers, but was (1, 2.0)"),
    (conv, [X, W], {"window_strides": "2"}, "`window_strides` must be an integer or 2 integers, but was '2'"),
    (conv, [X, W], {"feature_group_count": 2.0}, "`feature_group_count` must be an integer, but was 2.0"),
    (transpose, [X, W], {"output_size": 5.0}, "`output_size` must be an integer or 2 integers, but was 5.0"),
    (conv, [X, W], {"pad_value": "zero"}, "`pad_value` must be a Python number, but was 'zero'"),
    (conv, [X, W], {"pad_value": jnp.array(1.0)}, "`pad_value` must be a Python number, but was"),
    (conv, [X, W], {"input_quantizer": "ste_sign"}, "`input_quantizer` must be a function to ±1, but was 'ste_sign'"),
    (conv, [X, W], {"kernel_quantizer": None}, "`kernel_quantizer` must be a function to ±1, but was None"),
    (packed, [X_WORDS, W_WORDS], {"channels": 64.0}, "`channels` must be an integer, but was 64.0"),
    (
        packed,
        [X_WORDS, W_WORDS],
        {"threshold": (ints(6), FLIP)},
        "`threshold` must be a `Threshold` or None, but was",
    ),
    (packed, [X_WORDS, W_WORDS], {"threshold": 3}, "`threshold` must be a `Threshold` or None, but was 3"),
    (packed, [X_WORDS, W_WORDS], {"threshold": Threshold(floats(6), FLIP)}, "`threshold.value` must have dtype int32"),
    (
        packed,
        [X_WORDS, W_WORDS],
        {"threshold": Threshold(np.arange(6), FLIP)},
        "must have dtype int32, but has dtype int64",
    ),
    (packed_dense, DENSE, {"threshold": Threshold(ints(6), ints(6))}, "`threshold.flip` must have dtype bool, but has"),
    (pool, [X], {"window": 2}, "`words` must hold words of dtype uint32, but has dtype float32"),
    (pool, [X_WORDS], {"window": 2.0}, "`window` must be an integer or 2 integers, but was 2.0"),
    (pool, [X_WORDS], {"window": 2, "flip": ints(64)}, "`flip` must have dtype bool, but has dtype int32"),
    (fold, [FLIP, floats(6)], {"epsilon": 0.1}, "`mean` must be real, but has dtype bool"),
    (jbnn.sign, [X_WORDS], {}, "`x` must have a floating or signed integer dtype, but has dtype uint32"),
    (jbnn.sign, [floats(3, dtype=bool)], {}, "`x` must have a floating or signed integer dtype, but has dtype bool"),
    (jbnn.pack, [X_WORDS], {}, "`x` must have a floating, signed integer or bool dtype, but has dtype uint32"),
    (jbnn.unpack, [X], {"size": 64}, "`words` must hold words of dtype uint32, but has dtype float32"),
    (jbnn.unpack, [X_WORDS], {"size": 64, "dtype": np.uint8}, "`dtype` must be floating or signed integer, but"),
    (jbnn.unpack, [X_WORDS], {"size": 64, "dtype": bool}, "`dtype` must be floating or signed integer, but was bool"),
    (jbnn.population_count, [X], {}, "`words` must have dtype uint8, uint16 or uint32, but has dtype float32"),
    (jbnn.population_count, [floats(3, dtype=np.int32)], {}, "`words` must have dtype uint8, uint16 or uint32, but"),
    (jbnn.alpha, [W_WORDS], {}, "`w` must be a floating latent kernel, but has dtype uint32; compute"),
    (jbnn.alpha, [floats(3, dtype=np.int32)], {}, "`w` must be a floating latent kernel, but has dtype int32"),
]

WRONG_SHAPE = [
    (conv, [floats(4, 64), W], {}, f"{IMAGE} (4, 64)"),
    (conv, [floats(1, 2, 2, 2, 2, 64), W], {}, f"{IMAGE} (1, 2, 2, 2, 2, 64)"),
    (conv, [X, floats(3, 64, 6)], {}, "`w` must have 4 axes, as `x` has, but has shape (3, 64, 6)"),
    (conv, [X, floats(3, 3, 16, 6)], {}, f"{DEEP_64} (3, 3, 16, 6)"),
    (conv, [X, W], {"feature_group_count": 2}, f"{DEEP_32} (3, 3, 64, 6)"),
    (conv, [X, words(3, 3, 1, 6)], {}, f"{TWO_WORDS} (3, 3, 1, 6)"),
    (conv, [X, floats(0, 3, 64, 6)], {}, "at least one tap on every axis, but its window is (0, 3)"),
    (conv, [floats(1, 5, 4, 0), floats(3, 3, 0, 6)], {}, "`x` must have at least one channel, but has 0"),
    (conv, [X, W], {"feature_group_count": 3}, f"{DIVIDE} 3"),
    (conv, [X, W], {"feature_group_count": 0}, f"{DIVIDE} 0"),
    (conv, [X, W], {"feature_group_count": -2}, f"{DIVIDE} -2"),
    (conv, [X, floats(3, 3, 16, 6)], {"feature_group_count": 4}, "`feature_group_count` = 4 divides, but has 6"),
    (conv, [X, W], {"input_bias": floats(6)}, f"`input_bias` {PER_INPUT} (6,)"),
    (conv, [X, W], {"input_scale": floats(1)}, f"`input_scale` {PER_INPUT} (1,)"),
    (conv, [X, W], {"scale": floats(64)}, f"`scale` {PER_OUTPUT} (64,)"),
    (conv, [X, W], {"bias": floats(1, 6)}, f"`bias` {PER_OUTPUT} (1, 6)"),
    (dense, [X, floats(64, 6)], {"scale": floats(4, 6)}, f"`scale` {PER_OUTPUT} (4, 6)"),
    (dense, [floats(), floats(64, 6)], {}, "`x` must have shape (…, C), but has shape ()"),
    (dense, [X, W], {}, "`w` must have 2 axes, but has shape (3, 3, 64, 6)"),
    (dense, [X, floats(6, 64)], {}, f"{DEEP_64} (6, 64)"),
    (transpose, [X, floats(3, 3, 32, 6)], {}, f"{DEEP_64} (3, 3, 32, 6)"),
    (packed, [words(4, 2), W_WORDS], {}, f"{IMAGE} (4, 2)"),
    (packed, [X_WORDS, words(3, 2, 6)], {}, "`w` must have 4 axes, as `x` has, but has shape (3, 2, 6)"),
    (packed, [X_WORDS, words(3, 3, 1, 6)], {}, TWO_WORDS),
    (packed, [X_WORDS, W_WORDS], {"channels": 65}, "`x` must have 3 words for 65 channels in 1 groups, but has shape"),
    (packed, [X_WORDS, W_WORDS], {"channels": 32}, "`x` must have 1 words for 32 channels in 1 groups, but has shape"),
    (packed, [X_WORDS, W_WORDS], {"channels": 66, "feature_group_count": 2}, "`x` must have 4 words for 66 channels"),
    (packed, [X_WORDS, W_WORDS], {"channels": 0}, "at least one channel, but"),
    (packed_dense, [words(2, 2), words(1, 6)], {}, TWO_WORDS),
    (packed_dense, [words(2, 2), words(2, 2, 6)], {}, "`w` must have 2 axes, but has shape (2, 2, 6)"),
    (packed_dense, [words(2, 2), words(2, 6)], {"channels": 10}, "`x` must have 1 words for 10 channels in 1 groups"),
    (packed, [X_WORDS, W_WORDS], {"threshold": Threshold(ints(5), FLIP)}, f"`threshold.value` {PER_OUTPUT} (5,)"),
    (packed, [X_WORDS, W_WORDS], {"threshold": Threshold(ints(6, 1), FLIP)}, f"`threshold.value` {PER_OUTPUT} (6, 1)"),
    (packed_dense, DENSE, {"threshold": Threshold(ints(6), FLIP[:1])}, f"`threshold.flip` {PER_OUTPUT} (1,)"),
    (pool, [words(4, 2)], {"window": 2}, "`words` must have shape (N, *S, W) with one to three spatial axes, but has"),
    (pool, [X_WORDS], {"window": 2, "flip": bools(65)}, "C channels in 2 words, 33 to 64, but has shape (65,)"),
    (pool, [X_WORDS], {"window": 2, "flip": bools(32)}, "C channels in 2 words, 33 to 64, but has shape (32,)"),
    (pool, [X_WORDS], {"window": 2, "flip": bools(1, 64)}, "`flip` must have shape (C,), with C channels"),
    (fold, [floats(6), floats(5)], {"epsilon": 0.1}, f"`variance` {PER_OUTPUT} (5,)"),
    (fold, [floats(6), floats(6)], {"epsilon": 0.1, "scale": floats(6, 1)}, f"`scale` {PER_OUTPUT} (6, 1)"),
    (fold, [floats(6), floats(6)], {"epsilon": floats(6)}, "`epsilon` must be a scalar, but has shape (6,)"),
    (jbnn.pack, [X], {"groups": 3}, "`groups` must be positive and divide the 64 channels, but was 3"),
    (jbnn.pack, [X], {"groups": 0}, "`groups` must be positive and divide the 64 channels, but was 0"),
    (jbnn.pack, [X], {"axis": 4}, "`axis` must lie in [-4, 4) for an array of 4 axes, but was 4"),
    (jbnn.pack, [floats()], {}, "`axis` must lie in [-0, 0) for an array of 0 axes, but was -1"),
    (jbnn.unpack, [X_WORDS], {"size": 65}, "`words` must have 3 words on axis 3 for 65 channels"),
    (jbnn.unpack, [X_WORDS], {"size": 32}, "`words` must have 1 words on axis 3 for 32 channels"),
    (jbnn.unpack, [X_WORDS], {"size": 66, "groups": 2}, "`words` must have 4 words on axis 3 for 66"),
    (jbnn.unpack, [X_WORDS], {"size": -1}, "`size` must not be negative, but was -1"),
    (jbnn.unpack, [X_WORDS], {"size": 64, "groups": 3}, "`groups` must be positive and divide the 64"),
    (jbnn.unpack, [X_WORDS], {"size": 64, "axis": -5}, "`axis` must lie in [-4, 4) for an array of 4 axes, but was -5"),
    (jbnn.alpha, [floats()], {}, "`w` must have at least one axis, its last the output channels, but has shape ()"),
]

WRONG_OPTION = [
    (conv, [X, W], {"window_strides": 0}, f"`window_strides` {INTEGERS} 0"),
    (conv, [X, W], {"window_strides": (1, 1, 1)}, f"`window_strides` {INTEGERS} (1, 1, 1)"),
    (transpose, [X, W], {"window_strides": (2, -1)}, f"`window_strides` {INTEGERS} (2, -1)"),
    (conv, [X, W], {"rhs_dilation": 0}, f"`rhs_dilation` {INTEGERS} 0"),
    (packed, [X_WORDS, W_WORDS], {"rhs_dilation": (1,)}, f"`rhs_dilation` {INTEGERS} (1,)"),
    (pool, [X_WORDS], {"window": 0}, f"`window` {INTEGERS} 0"),
    (pool, [X_WORDS], {"window": (2, 2, 2)}, f"`window` {INTEGERS} (2, 2, 2)"),
    (pool, [X_WORDS], {"window": 2, "window_strides": 0}, f"`window_strides` {INTEGERS} 0"),
    (pool, [X_WORDS], {"window": 2, "padding": "same"}, f"{PADDING} 'same'"),
    (transpose, [X, W], {"output_size": (5,)}, "`output_size` must be an integer or 2 integers, each"),
    (transpose, [X, W], {"output_size": (5, 5)}, "`output_size` must lie in [5, 5], [4, 4], but was (5, 5)"),
    *(
        (function, args, {"padding": padding}, f"{PADDING} {padding!r}")
        for function, args in [(conv, [X, W]), (transpose, [X, W]), (packed, [X_WORDS, W_WORDS])]
        for padding in (
            "same",
            "SAME_LOWER",
            "",
            None,
            1,
            (1, 1),
            ((1, 1),),
            ((1, 1),) * 3,
            ((1,), (1,)),
            ((0.5, 1), (1, 1)),
        )
    ),
    (conv, [X, W], {"pad_value": 2}, '`pad_value` must be one of (0, 1, -1) with mode="xnor", but was 2'),
    (conv, [X, W], {"pad_value": 0.5}, '`pad_value` must be one of (0, 1, -1) with mode="xnor", but was 0.5'),
    (conv, [X, W], {"pad_value": -1, "mode": "and"}, ZERO_ONE),
    (transpose, [X, W], {"pad_value": -1, "mode": "and"}, ZERO_ONE),
    (packed, [X_WORDS, W_WORDS], {"pad_value": 3}, '`pad_value` must be one of (0, 1, -1) with mode="xnor", but was 3'),
    (conv, [X, W], {"mode": "XNOR"}, '`mode` must be "xnor", "and" or "binary_weights", but was \'XNOR\''),
    (dense, [X, floats(64, 6)], {"mode": None}, '`mode` must be "xnor", "and" or "binary_weights", but was None'),
    (
        packed,
        [X_WORDS, W_WORDS],
        {"mode": "binary_weights"},
        '`mode` must be "xnor" or "and", but was \'binary_weights\'',
    ),
    (packed_dense, [words(2, 2), words(2, 6)], {"mode": "or"}, '`mode` must be "xnor" or "and", but was \'or\''),
    (conv, [X, W], {"input_quantizer": dorefa}, f"`input_quantizer` {PM1} dorefa"),
    (conv, [X, W], {"kernel_quantizer": ste_tern}, f"`kernel_quantizer` {PM1} ste_tern"),
    (conv, [X, W], {"kernel_quantizer": ste_heaviside}, f"`kernel_quantizer` {PM1} ste_heaviside"),
    (dense, [X, floats(64, 6)], {"input_quantizer": ste_heaviside}, f"`input_quantizer` {PM1} ste_heaviside"),
    (transpose, [X, W], {"kernel_quantizer": magnitude_aware_sign}, "`scale=jax.lax.stop_gradient(jbnn.alpha(w))`"),
    (conv, [X, W], {"input_quantizer": partial(dorefa, k=1)}, f"`input_quantizer` {PM1} dorefa"),
    (conv, [X, W], {"input_quantizer": partial(partial(dorefa, k=1), mode="weights"), "mode": "and"}, f"{PM1} dorefa"),
    (conv, [X, W], {"kernel_quantizer": partial(ste_heaviside), "mode": "binary_weights"}, f"{PM1} ste_heaviside"),
    (conv, [X, W], {"implementation": "abacus"}, UNKNOWN),
    (dense, [X, floats(64, 6)], {"implementation": ""}, UNKNOWN),
    (packed, [X_WORDS, W_WORDS], {"implementation": "Popcount"}, UNKNOWN),
    (packed_dense, [words(2, 2), words(2, 6)], {"implementation": "cuda"}, UNKNOWN),
]


def refuse(function, args, options):
    """Eagerly, and while only shapes are known."""
    yield lambda: function(*args, **options)
    yield lambda: jax.eval_shape(partial(function, **options), *args)
    yield lambda: jax.jit(partial(function, **options)).lower(*args)


def described(row):
    return f"{row[0].__name__}: {row[3]}" if isinstance(row, tuple) else ""


def check(error, function, args, options, message):
    for call in refuse(function, args, options):
        with pytest.raises(error, match=re.escape(message)):
            call()


@pytest.mark.parametrize("row", WRONG_DTYPE, ids=described)
def test_wrong_dtype(row):
    check(TypeError, *row)


@pytest.mark.parametrize("row", WRONG_SHAPE, ids=described)
def test_wrong_shape(row):
    check(ValueError, *row)


@pytest.mark.parametrize("row", WRONG_OPTION, ids=described)
def test_wrong_option(row):
    check(ValueError, *row)


@pytest.mark.parametrize("operator, x, w", [(conv, X, W), (transpose, X, W), (dense, X, W[0, 0])])
def test_real_activations_are_no_bits_to_count(operator, x, w):
    options = {"mode": "binary_weights", "implementation": "popcount"}
    check(
        NotImplementedError,
        operator,
        [x, w],
        options,
        'implementation="popcount" cannot do this: mode="binary_weights"',
    )


def explode(x):
    raise AssertionError("computed before everything was checked")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": floats(7)}, "`scale`"),
        ({"bias": floats(7)}, "`bias`"),
        ({"implementation": "abacus"}, "`implementation`"),
        ({"padding": "same"}, "`padding`"),
        ({"pad_value": 7}, "`pad_value`"),
        ({"kernel_quantizer": dorefa}, "`kernel_quantizer`"),
        ({"mode": "or"}, "`mode`"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_nothing_is_computed_before_everything_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        conv(X, W, **{"input_quantizer": explode, "kernel_quantizer": explode, "activation": explode, **options})


def test_good_neighbours_of_the_bad():
    """What stands next to a refused case, and is not refused."""
    for options in (
        {"mode": "and", "input_quantizer": partial(ste_heaviside, clip=2.0)},
        {"input_quantizer": partial(partial(ste_sign, clip=None), clip=2.0)},
        {"input_quantizer": jbnn.sign, "kernel_quantizer": lambda w: jbnn.sign(w)},
        {"window_strides": [1, 2], "padding": [[1, 1], (0, 2)], "rhs_dilation": np.int64(1)},
        {"pad_value": -1.0},
        {"mode": "binary_weights", "pad_value": -0.3, "implementation": "unpacked"},
        {"mode": "binary_weights", "input_quantizer": ste_tern},
    ):
        jax.eval_shape(functools.partial(conv, **options), X, W)
    jax.eval_shape(partial(packed, channels=np.int64(33)), X_WORDS, W_WORDS)


@pytest.mark.parametrize("function", [conv, transpose, dense, packed, packed_dense], ids=lambda f: f.__name__)
def test_options_are_keywords(function):
    (x, w, *options) = inspect.signature(function).parameters.values()
    assert (x.name, w.name) == ("x", "w")
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)
