"""What is refused, before anything is computed, and how: the argument, what it must be, and what it was."""

import functools
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from errors import every_way, refuses, several

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

DTYPES = "float32", "bfloat16", "float16", "float64"
LATENT = *DTYPES, "uint32"
IMAGE = "(N, *S, C)"
PER_INPUT, PER_OUTPUT = "(C,) = (64,)", "(O,) = (6,)"
IN_GROUPS = "divide the 64 channels"
TWO_INTEGERS = "integer or 2 integers"
EACH_POSITIVE = "2 integers, each at least 1"
PADDINGS = '"SAME"', '"SAME_LOWER"', '"VALID"', "2 pairs"
MODES, BIT_MODES = ('"xnor"', '"and"', '"binary_weights"'), ('"xnor"', '"and"')
BORDERS = "(0, 1, -1)", '"xnor"'
THRESHOLD = [X_WORDS, W_WORDS]
NAMES = tuple(f'"{name}"' for name in jbnn.implementations())

OPERATORS = (conv, W), (transpose, W), (dense, W[0, 0])

# A call, the argument that is wrong, what it must be, and what it was.

WRONG_DTYPE = [
    (conv, [floats(1, 5, 4, 64, dtype=np.int32), W], {}, "x", DTYPES, "int32"),
    (conv, [X_WORDS, W_WORDS], {}, "x", DTYPES, "uint32"),
    (conv, [floats(1, 5, 4, 64, dtype=bool), W], {}, "x", DTYPES, "bool"),
    (conv, [floats(1, 5, 4, 64, dtype=np.uint8), W], {}, "x", DTYPES, "uint8"),
    (conv, [floats(1, 5, 4, 64, dtype=np.int16), W], {"mode": "binary_weights"}, "x", (*DTYPES, "int8"), "int16"),
    (conv, [X, floats(3, 3, 64, 6, dtype=np.int8)], {}, "w", LATENT, "int8"),
    (conv, [X, floats(3, 3, 64, 6, dtype=np.complex64)], {}, "w", LATENT, "complex64"),
    (transpose, [X_WORDS, W], {}, "x", DTYPES, "uint32"),
    (dense, [words(2, 2), words(2, 6)], {}, "x", DTYPES, "uint32"),
    (dense, [floats(2, 64), floats(64, 6, dtype=np.uint8)], {}, "w", LATENT, "uint8"),
    (packed, [X, W_WORDS], {}, "x", "uint32", "float32"),
    (packed, [X_WORDS, W], {}, "w", "uint32", "float32"),
    (packed, [X_WORDS.astype(np.int32), W_WORDS], {}, "x", "uint32", " int32"),
    (packed_dense, [floats(2, 64), words(2, 6)], {}, "x", "uint32", "float32"),
    (packed_dense, [words(2, 2), floats(64, 6)], {}, "w", "uint32", "float32"),
    (conv, [X, W], {"scale": floats(6, dtype=np.complex64)}, "scale", "real", "complex64"),
    (conv, [X, W], {"input_bias": floats(64, dtype=bool)}, "input_bias", "real", "bool"),
    (conv, [X, W], {"window_strides": 1.5}, "window_strides", TWO_INTEGERS, 1.5),
    (conv, [X, W], {"rhs_dilation": (1, 2.0)}, "rhs_dilation", TWO_INTEGERS, (1, 2.0)),
    (conv, [X, W], {"window_strides": "2"}, "window_strides", TWO_INTEGERS, "'2'"),
    (conv, [X, W], {"feature_group_count": 2.0}, "feature_group_count", "integer", 2.0),
    (transpose, [X, W], {"output_size": 5.0}, "output_size", TWO_INTEGERS, 5.0),
    (conv, [X, W], {"pad_value": "zero"}, "pad_value", "number", "'zero'"),
    (conv, [X, W], {"pad_value": jnp.array(1.0)}, "pad_value", "number", "Array"),
    (conv, [X, W], {"beta_scaling": "no"}, "beta_scaling", ("True", "False"), "'no'"),
    (dense, [X, W[0, 0]], {"beta_scaling": 1}, "beta_scaling", ("True", "False"), 1),
    (conv, [X, W], {"activation": "relu"}, "activation", "function", "'relu'"),
    (conv, [X, W], {"input_quantizer": "ste_sign"}, "input_quantizer", "function", "'ste_sign'"),
    *(
        (
            operator,
            [X, w],
            {"mode": "binary_weights", "input_quantizer": "nonsense"},
            "input_quantizer",
            "function",
            "'nonsense'",
        )
        for operator, w in OPERATORS
    ),
    (conv, [X, W], {"kernel_quantizer": None}, "kernel_quantizer", "function", "None"),
    (packed, [X_WORDS, W_WORDS], {"channels": 64.0}, "channels", "integer", 64.0),
    (packed, [X_WORDS, W_WORDS], {"channels": None}, "channels", "integer", "None"),
    (packed, THRESHOLD, {"threshold": (ints(6), FLIP)}, "threshold", "Threshold", "Array"),
    (packed, THRESHOLD, {"threshold": 3}, "threshold", "Threshold", 3),
    (packed, THRESHOLD, {"threshold": Threshold(floats(6), FLIP)}, "threshold.value", "int32", "float32"),
    (packed, THRESHOLD, {"threshold": Threshold(np.arange(6), FLIP)}, "threshold.value", "int32", "int64"),
    (packed_dense, DENSE, {"threshold": Threshold(ints(6), ints(6))}, "threshold.flip", "bool", "int32"),
    (pool, [X], {"window": 2}, "words", "uint32", "float32"),
    (pool, [X_WORDS], {"window": 2.0}, "window", TWO_INTEGERS, 2.0),
    (pool, [X_WORDS], {"window": 2, "flip": ints(64)}, "flip", "bool", "int32"),
    (fold, [FLIP, floats(6)], {"epsilon": 0.1}, "mean", "real", "bool"),
    (jbnn.sign, [X_WORDS], {}, "x", ("float", "signed"), "uint32"),
    (jbnn.sign, [floats(3, dtype=bool)], {}, "x", ("float", "signed"), "bool"),
    (jbnn.pack, [X_WORDS], {}, "x", ("float", "signed", "bool"), "uint32"),
    (jbnn.unpack, [X], {"size": 64}, "words", "uint32", "float32"),
    (jbnn.unpack, [X_WORDS], {"size": 64, "dtype": np.uint8}, "dtype", ("float", "signed"), "uint8"),
    (jbnn.unpack, [X_WORDS], {"size": 64, "dtype": bool}, "dtype", ("float", "signed"), "bool"),
    (jbnn.population_count, [X], {}, "words", ("uint8", "uint16", "uint32"), "float32"),
    (jbnn.population_count, [floats(3, dtype=np.int32)], {}, "words", ("uint8", "uint16", "uint32"), " int32"),
    (jbnn.alpha, [W_WORDS], {}, "w", ("float", "before packing"), "uint32"),
    (jbnn.alpha, [floats(3, dtype=np.int32)], {}, "w", "float", "int32"),
]

WRONG_SHAPE = [
    (conv, [floats(4, 64), W], {}, "x", IMAGE, (4, 64)),
    (conv, [floats(1, 2, 2, 2, 2, 64), W], {}, "x", IMAGE, (1, 2, 2, 2, 2, 64)),
    (conv, [X, floats(3, 64, 6)], {}, "w", "4 axes", ((3, 64, 6), X.shape)),
    (conv, [X, floats(3, 3, 16, 6)], {}, "w", "C / groups = 64", ((3, 3, 16, 6), X.shape)),
    (conv, [X, W], {"feature_group_count": 2}, "w", "C / groups = 32", (W.shape, X.shape)),
    (conv, [X, words(3, 3, 1, 6)], {}, "w", ("2 words", "C / groups = 64"), ((3, 3, 1, 6), X.shape)),
    (conv, [X, floats(0, 3, 64, 6)], {}, "w", "at least one tap", (0, 3, 64, 6)),
    (conv, [X, W], {"feature_group_count": 3}, "feature_group_count", IN_GROUPS, (3, X.shape, W.shape)),
    (conv, [X, W], {"feature_group_count": 0}, "feature_group_count", ("positive", IN_GROUPS), 0),
    (conv, [X, W], {"feature_group_count": -2}, "feature_group_count", ("positive", IN_GROUPS), -2),
    (conv, [X, floats(3, 3, 16, 6)], {"feature_group_count": 4}, "w", "`feature_group_count` = 4", (3, 3, 16, 6)),
    (conv, [X, W], {"input_bias": floats(6)}, "input_bias", ("scalar", PER_INPUT), (6,)),
    (conv, [X, W], {"input_scale": floats(1)}, "input_scale", ("scalar", PER_INPUT), (1,)),
    (conv, [X, W], {"scale": floats(64)}, "scale", ("scalar", PER_OUTPUT), (64,)),
    (conv, [X, W], {"bias": floats(1, 6)}, "bias", ("scalar", PER_OUTPUT), (1, 6)),
    (dense, [X, floats(64, 6)], {"scale": floats(4, 6)}, "scale", ("scalar", PER_OUTPUT), (4, 6)),
    (dense, [floats(), floats(64, 6)], {}, "x", "(…, C)", "()"),
    (dense, [X, W], {}, "w", "(C, O)", (W.shape, X.shape)),
    (dense, [X, floats(6, 64)], {}, "w", "64 input channels", ((6, 64), X.shape)),
    (transpose, [X, floats(3, 3, 32, 6)], {}, "w", "C / groups = 64", ((3, 3, 32, 6), X.shape)),
    (packed, [words(4, 2), W_WORDS], {}, "x", "(N, *S, W)", (4, 2)),
    (packed, [X_WORDS, words(3, 2, 6)], {}, "w", "4 axes", ((3, 2, 6), X_WORDS.shape)),
    (packed, [X_WORDS, words(3, 3, 1, 6)], {}, "w", ("2 words", "C / groups = 64"), ((3, 3, 1, 6), X_WORDS.shape)),
    (packed, [X_WORDS, W_WORDS], {"channels": 65}, "x", ("3 words", "65 channels"), (X_WORDS.shape, W_WORDS.shape)),
    (packed, [X_WORDS, W_WORDS], {"channels": 32}, "x", ("1 words", "32 channels"), (X_WORDS.shape, W_WORDS.shape)),
    (packed, THRESHOLD, {"channels": 66, "feature_group_count": 2}, "x", ("4 words", "2 groups"), X_WORDS.shape),
    (packed, [X_WORDS, W_WORDS], {"channels": -1}, "channels", "negative", -1),
    (packed, [X_WORDS, W_WORDS], {"channels": 0}, "x", "0 words", X_WORDS.shape),
    (packed_dense, [words(2, 2), words(1, 6)], {}, "w", ("2 words", "64"), ((1, 6), (2, 2))),
    (packed_dense, [words(2, 2), words(2, 2, 6)], {}, "w", "(C, O)", ((2, 2, 6), (2, 2))),
    (packed_dense, [words(2, 2), words(2, 6)], {"channels": 10}, "x", ("1 words", "10 channels"), (2, 2)),
    (packed, THRESHOLD, {"threshold": Threshold(ints(5), FLIP)}, "threshold.value", PER_OUTPUT, (5,)),
    (packed, THRESHOLD, {"threshold": Threshold(ints(6, 1), FLIP)}, "threshold.value", PER_OUTPUT, (6, 1)),
    (packed_dense, DENSE, {"threshold": Threshold(ints(6), FLIP[:1])}, "threshold.flip", PER_OUTPUT, (1,)),
    (pool, [words(4, 2)], {"window": 2}, "words", "(N, *S, W)", (4, 2)),
    (pool, [X_WORDS], {"window": 2, "flip": bools(65)}, "flip", ("2 words", "33 to 64"), (65,)),
    (pool, [X_WORDS], {"window": 2, "flip": bools(32)}, "flip", ("2 words", "33 to 64"), (32,)),
    (pool, [X_WORDS], {"window": 2, "flip": bools(1, 64)}, "flip", "(C,)", (1, 64)),
    (fold, [floats(6), floats(5)], {"epsilon": 0.1}, "variance", PER_OUTPUT, (5,)),
    (fold, [floats(6), floats(6)], {"epsilon": 0.1, "scale": floats(6, 1)}, "scale", PER_OUTPUT, (6, 1)),
    (fold, [floats(6), floats(6)], {"epsilon": floats(6)}, "epsilon", "scalar", (6,)),
    (jbnn.pack, [X], {"groups": 3}, "groups", IN_GROUPS, 3),
    (jbnn.pack, [X], {"groups": 0}, "groups", "positive", 0),
    (jbnn.pack, [X], {"axis": 4}, "axis", "[-4, 4)", 4),
    (jbnn.pack, [floats()], {}, "axis", "0 axes", -1),
    (jbnn.unpack, [X_WORDS], {"size": 65}, "words", ("3 words", "axis 3", "65 channels"), 2),
    (jbnn.unpack, [X_WORDS], {"size": 32}, "words", ("1 words", "axis 3", "32 channels"), 2),
    (jbnn.unpack, [X_WORDS], {"size": 66, "groups": 2}, "words", ("4 words", "axis 3", "66 channels"), 2),
    (jbnn.unpack, [X_WORDS], {"size": -1}, "size", "negative", -1),
    (jbnn.unpack, [X_WORDS], {"size": 64, "groups": 3}, "groups", IN_GROUPS, 3),
    (jbnn.unpack, [X_WORDS], {"size": 64, "axis": -5}, "axis", "[-4, 4)", -5),
    (jbnn.alpha, [floats()], {}, "w", "at least one axis", "()"),
]

WRONG_OPTION = [
    (conv, [X, W], {"window_strides": 0}, "window_strides", EACH_POSITIVE, 0),
    (conv, [X, W], {"window_strides": (1, 1, 1)}, "window_strides", EACH_POSITIVE, (1, 1, 1)),
    (transpose, [X, W], {"window_strides": (2, -1)}, "window_strides", EACH_POSITIVE, (2, -1)),
    (conv, [X, W], {"rhs_dilation": 0}, "rhs_dilation", EACH_POSITIVE, 0),
    (packed, [X_WORDS, W_WORDS], {"rhs_dilation": (1,)}, "rhs_dilation", EACH_POSITIVE, (1,)),
    (pool, [X_WORDS], {"window": 0}, "window", EACH_POSITIVE, 0),
    (pool, [X_WORDS], {"window": (2, 2, 2)}, "window", EACH_POSITIVE, (2, 2, 2)),
    (pool, [X_WORDS], {"window": 2, "window_strides": 0}, "window_strides", EACH_POSITIVE, 0),
    (pool, [X_WORDS], {"window": 2, "padding": "same"}, "padding", PADDINGS, "'same'"),
    (transpose, [X, W], {"output_size": (5,)}, "output_size", TWO_INTEGERS, (5,)),
    (transpose, [X, W], {"output_size": (5, 5)}, "output_size", ("[5, 5]", "[4, 4]"), (5, 5)),
    (transpose, [X, W], {"padding": "SAME_LOWER"}, "padding", ('"SAME"', '"VALID"'), "'SAME_LOWER'"),
    *(
        (function, args, {"padding": padding}, "padding", ('"SAME"', '"VALID"', "2 pairs"), repr(padding))
        for function, args in [(conv, [X, W]), (transpose, [X, W]), (packed, [X_WORDS, W_WORDS])]
        for padding in ("same", "", None, 1, (1, 1), ((1, 1),), ((1, 1),) * 3, ((1,), (1,)), ((0.5, 1), (1, 1)))
    ),
    (conv, [X, W], {"pad_value": 2}, "pad_value", BORDERS, 2),
    (conv, [X, W], {"pad_value": 0.5}, "pad_value", BORDERS, 0.5),
    (conv, [X, W], {"pad_value": -1, "mode": "and"}, "pad_value", ("(0, 1)", '"and"'), -1),
    (transpose, [X, W], {"pad_value": -1, "mode": "and"}, "pad_value", ("(0, 1)", '"and"'), -1),
    (packed, [X_WORDS, W_WORDS], {"pad_value": 3}, "pad_value", BORDERS, 3),
    (conv, [X, W], {"pad_value": 10**400, "mode": "binary_weights"}, "pad_value", "float can hold", 10**400),
    (conv, [X, W], {"mode": "XNOR"}, "mode", MODES, "'XNOR'"),
    (dense, [X, floats(64, 6)], {"mode": None}, "mode", MODES, "None"),
    (packed, [X_WORDS, W_WORDS], {"mode": "binary_weights"}, "mode", BIT_MODES, "'binary_weights'"),
    (packed_dense, [words(2, 2), words(2, 6)], {"mode": "or"}, "mode", BIT_MODES, "'or'"),
    (conv, [X, W], {"input_quantizer": dorefa}, "input_quantizer", "±1", "dorefa"),
    (conv, [X, W], {"kernel_quantizer": ste_tern}, "kernel_quantizer", "±1", "ste_tern"),
    (conv, [X, W], {"kernel_quantizer": ste_heaviside}, "kernel_quantizer", "±1", "ste_heaviside"),
    (dense, [X, floats(64, 6)], {"input_quantizer": ste_heaviside}, "input_quantizer", "±1", "ste_heaviside"),
    (
        transpose,
        [X, W],
        {"kernel_quantizer": magnitude_aware_sign},
        "kernel_quantizer",
        ("±1", "`scale=jax.lax.stop_gradient(jbnn.alpha(w))`"),
        "magnitude_aware_sign",
    ),
    (conv, [X, W], {"input_quantizer": partial(dorefa, k=1)}, "input_quantizer", "±1", "dorefa"),
    (
        conv,
        [X, W],
        {"input_quantizer": partial(partial(dorefa, k=1), mode="weights"), "mode": "and"},
        "input_quantizer",
        "±1",
        "dorefa",
    ),
    (
        conv,
        [X, W],
        {"kernel_quantizer": partial(ste_heaviside), "mode": "binary_weights"},
        "kernel_quantizer",
        "±1",
        "ste_heaviside",
    ),
    (conv, [X, W], {"implementation": "nonesuch"}, "implementation", ("None", *NAMES), "'nonesuch'"),
    (dense, [X, floats(64, 6)], {"implementation": ""}, "implementation", ("None", *NAMES), "''"),
    (packed, [X_WORDS, W_WORDS], {"implementation": "Popcount"}, "implementation", ("None", *NAMES), "'Popcount'"),
    (packed_dense, DENSE, {"implementation": "cuda"}, "implementation", ("None", *NAMES), "'cuda'"),
]


def described(row):
    function, _, _, argument, _, was = row
    return f"{function.__name__}: {argument}, {'; '.join(map(str, several(was)))[:40]}"


def check(error, function, args, options, argument, must, was):
    if function in (packed, packed_dense):
        options = {"channels": 64, **options}
    for call in every_way(function, *args, **options):
        refuses(call, error, argument, must=must, was=was)


@pytest.mark.parametrize("row", WRONG_DTYPE, ids=described)
def test_wrong_dtype(row):
    check(TypeError, *row)


@pytest.mark.parametrize("row", WRONG_SHAPE, ids=described)
def test_wrong_shape(row):
    check(ValueError, *row)


@pytest.mark.parametrize("row", WRONG_OPTION, ids=described)
def test_wrong_option(row):
    check(ValueError, *row)


@pytest.mark.parametrize("operator, w", OPERATORS)
def test_real_activations_are_no_bits_to_count(operator, w):
    for call in every_way(operator, X, w, mode="binary_weights", implementation="popcount"):
        with pytest.raises(NotImplementedError, match=r'"popcount".*"binary_weights"'):
            call()


LIKELY_CAUSES = {
    "NCHW": (conv, floats(1, 64, 8, 8), floats(3, 3, 64, 32), "(N, C, *S)"),
    "OIHW": (conv, floats(1, 8, 8, 64), floats(32, 64, 3, 3), "(O, C, *K)"),
    "NCHW of a transposed convolution": (transpose, floats(1, 64, 8, 9), floats(3, 3, 64, 32), "(N, C, *S)"),
    "a kernel packed along the wrong axis": (conv, floats(1, 8, 8, 64), words(3, 3, 64, 1), "pack(w, axis=-2)"),
    "words and a kernel packed along the wrong axis": (
        packed,
        words(1, 8, 8, 2),
        words(3, 3, 64, 1),
        "pack(w, axis=-2)",
    ),
    "a dense kernel packed along the wrong axis": (dense, floats(8, 64), words(64, 1), "pack(w, axis=-2)"),
    "no batch": (conv, floats(8, 8, 64), floats(3, 3, 64, 32), "batch"),
    "words without a batch": (packed, words(8, 8, 2), words(3, 3, 2, 32), "batch"),
    "the channels of x": (conv, floats(1, 8, 8, 3), floats(3, 3, 64, 32), "C / groups = 3"),
}


@pytest.mark.parametrize("function, x, w, cause", LIKELY_CAUSES.values(), ids=LIKELY_CAUSES)
def test_shapes_are_both_shown_with_the_likely_cause(function, x, w, cause):
    check(ValueError, function, [x, w], {}, "w", cause, (x.shape, w.shape))


def test_words_do_not_tell_their_channels():
    """32·W would be a guess: 20 channels would be taken for 32."""
    for function, args in ((packed, [X_WORDS, W_WORDS]), (packed_dense, DENSE)):
        with pytest.raises(TypeError, match="channels"):
            function(*args)
        assert inspect.signature(function).parameters["channels"].default is inspect.Parameter.empty


def test_sums_that_int32_cannot_hold_are_refused():
    """Of no memory: 2^31 terms and more, and of pixels, whose terms are as large as 255, a 255th of that."""
    x, w = (jax.ShapeDtypeStruct(shape, jnp.uint32) for shape in ((1, 2**26), (2**26, 1)))
    refuses(
        lambda: jax.eval_shape(partial(packed_dense, channels=2**31), x, w), ValueError, "w", must="int32", was=2**31
    )
    assert jax.eval_shape(partial(packed_dense, channels=2**31 - 1), x, w).dtype == jnp.int32
    pixels, w = jax.ShapeDtypeStruct((1, 2**24), jnp.uint8), jax.ShapeDtypeStruct((2**19, 1), jnp.uint32)
    call = partial(jax.eval_shape, partial(dense, mode="binary_weights"), pixels, w)
    refuses(call, ValueError, "w", must="int32", was=2**24 * 255)


def explode(x):
    raise AssertionError("computed before everything was checked")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": floats(7)}, "`scale`"),
        ({"bias": floats(7)}, "`bias`"),
        ({"implementation": "nonesuch"}, "`implementation`"),
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
    for padding in ("SAME_LOWER", [(1, 0), [0, 2]]):
        jax.eval_shape(partial(conv, padding=padding), X, W)
        jax.eval_shape(partial(packed, padding=padding, channels=np.int64(33)), X_WORDS, W_WORDS)
    jax.eval_shape(partial(pool, window=2, padding="SAME_LOWER"), X_WORDS)


@pytest.mark.parametrize("function", [conv, transpose, dense, packed, packed_dense], ids=lambda f: f.__name__)
def test_options_are_keywords(function):
    (x, w, *options) = inspect.signature(function).parameters.values()
    assert (x.name, w.name) == ("x", "w")
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    required = [option.name for option in options if option.default is option.empty]
    assert required == (["channels"] if function in (packed, packed_dense) else [])
