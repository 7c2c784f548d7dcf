"""The binary operators, from floats and from words, and what deploys them. The first of each name says most."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

import jbnn
from examples.calls.call import Call, bools, floats, integers, positive, words
from jbnn import activations, quantizers

X, W = floats(2, 5, 4, 33), floats(3, 3, 33, 5)
X_WORDS, W_WORDS = words(2, 5, 4, 2), words(3, 3, 2, 5)
ROWS, MATRIX = floats(2, 6, 33), floats(33, 5)
ROW_WORDS, MATRIX_WORDS = words(6, 2), words(2, 5)
TERMS = {"input_bias": floats(33), "input_scale": floats(33), "scale": floats(5), "bias": floats(5)}


def operator(
    note: str, x: Any = X, w: Any = W, *, name: str = "binary_conv", exact: bool = True, **options: Any
) -> Call:
    """A binary operator of floats; its sums alone are the same on every device."""
    wrt = (0,) if w.dtype == np.uint32 else (0, 1)
    return Call(f"{name}: {note}", partial(getattr(jbnn, name), **options), (x, w), wrt, exact)


def with_terms(name: str, x: Any, w: Any, **options: Any) -> Call:
    function = getattr(jbnn, name)
    return Call(
        f"{name}: terms, beta",
        lambda x, w, t: function(x, w, beta_scaling=True, **t, **options),
        (x, w, TERMS),
        (0, 1, 2),
    )


def packed(
    note: str, x: Any = X_WORDS, w: Any = W_WORDS, *, name: str = "packed_conv", channels: int = 33, **options: Any
) -> Call:
    return Call(f"{name}: {note}", partial(getattr(jbnn, name), channels=channels, **options), (x, w))


def to_words(
    note: str, x: Any = X_WORDS, w: Any = W_WORDS, *, name: str = "packed_conv", channels: int = 33, **options: Any
) -> Call:
    function, features = partial(getattr(jbnn, name), channels=channels, **options), w.shape[-1]
    threshold = jbnn.Threshold(integers(features) - 50, bools(features))
    return Call(
        f"{name}: to words, {note}", lambda x, w, threshold: function(x, w, threshold=threshold), (x, w, threshold)
    )


def transposed(note: str, **options: Any) -> Call:
    return operator(note, name="binary_conv_transpose", **{"window_strides": 2, **options})


def of_norm(*statistics: Any) -> Any:
    return jnp.stack(jbnn.fold_batch_norm(*statistics, epsilon=1e-3))


def is_matrix(path: Any, leaf: Any) -> bool:
    return leaf.ndim > 1


HALVES: list[tuple[str, Callable]] = [
    (dtype, lambda a, d=dtype: a.astype(jnp.dtype(d))) for dtype in ("bfloat16", "float16")
]
EVERY_KERNEL = list(itertools.product(("xnor", "and"), ("popcount", "unpacked")))
DEEP_WORDS = words(1, 6, 7, 13), words(3, 4, 13, 5)

OPERATORS = [
    with_terms("binary_conv", X, W, activation=activations.relu),
    operator("xnor"),
    operator("pad_value -1, strides, dilation", pad_value=-1, window_strides=2, rhs_dilation=2),
    operator("and", mode="and", pad_value=1, input_quantizer=quantizers.ste_heaviside),
    operator("binary_weights", mode="binary_weights", pad_value=0.5, exact=False),
    operator("packed kernel", w=W_WORDS),
    operator("unpacked", implementation="unpacked", window_strides=2),
    *(operator(dtype, half(X), half(W)) for dtype, half in HALVES),
    operator("groups", floats(2, 5, 4, 66), floats(3, 3, 33, 4), feature_group_count=2),
    operator("depthwise", floats(2, 5, 4, 33), floats(3, 3, 1, 66), feature_group_count=33),
    operator("cropped", padding=((-1, 2), (3, -2))),
    operator(
        "cropped past the image, padded after it", floats(1, 3, 4, 33), floats(2, 2, 33, 3), padding=((-4, 4), (1, 1))
    ),
    operator("1-D", floats(2, 9, 70), floats(3, 70, 4)),
    operator("3-D", floats(1, 3, 4, 5, 33), floats(2, 3, 1, 33, 4)),
    operator("3-D, groups", floats(1, 3, 4, 5, 12), floats(2, 3, 1, 4, 6), feature_group_count=3),
    operator("deep", floats(1, 6, 7, 400), floats(3, 4, 400, 4)),
    operator("beta", beta_scaling=True, window_strides=2, exact=False),
    operator(
        "beta, 1-D, one window", floats(2, 5, 33), floats(5, 33, 3), beta_scaling=True, padding="VALID", exact=False
    ),
    operator("beta, 3-D", floats(1, 3, 4, 5, 33), floats(2, 3, 1, 33, 4), beta_scaling=True, exact=False),
    operator("empty batch", floats(0, 5, 4, 33)),
    transposed("xnor"),
    transposed("pad_value 1", pad_value=1, rhs_dilation=2),
    transposed("binary_weights", mode="binary_weights", exact=False),
    transposed("beta", beta_scaling=True, exact=False),
    with_terms("binary_dense", ROWS, MATRIX),
    operator("xnor", ROWS, MATRIX, name="binary_dense"),
    operator("and", ROWS, MATRIX, name="binary_dense", mode="and"),
    Call(
        "binary_dense: binary_weights, terms, beta",
        lambda x, w, t: jbnn.binary_dense(x, w, mode="binary_weights", beta_scaling=True, **t),
        (ROWS, MATRIX, TERMS),
        (0, 1, 2),
    ),
    packed("strides", window_strides=(2, 1)),
    *(packed(f"{mode}, {name}", mode=mode, pad_value=1, implementation=name) for mode, name in EVERY_KERNEL),
    packed("groups", words(2, 5, 4, 4), words(3, 3, 2, 4), channels=66, feature_group_count=2),
    packed("deep", *DEEP_WORDS, channels=416, pad_value=-1),
    packed("1-D", words(2, 9, 3), words(3, 3, 4), channels=96),
    packed("3-D", words(1, 3, 4, 5, 2), words(2, 3, 1, 2, 4), channels=64),
    *(
        packed(f"{mode}, {name}", ROW_WORDS, MATRIX_WORDS, name="packed_dense", mode=mode, implementation=name)
        for mode, name in EVERY_KERNEL
    ),
    packed("deep", words(6, 40), words(40, 5), name="packed_dense", channels=1280),
    to_words("O = 5"),
    to_words("O = 64, groups, deep", words(1, 6, 7, 26), words(3, 4, 13, 64), channels=832, feature_group_count=2),
    to_words("unpacked", implementation="unpacked"),
    to_words("rows", ROW_WORDS, MATRIX_WORDS, name="packed_dense"),
    Call(
        "packed_max_pool: flip",
        lambda x, flip: jbnn.packed_max_pool(x, 3, window_strides=2, padding="SAME", flip=flip),
        (X_WORDS, bools(33)),
    ),
    Call("packed_max_pool", partial(jbnn.packed_max_pool, window=2), (X_WORDS,)),
    Call("packed_max_pool: 1-D, long", partial(jbnn.packed_max_pool, window=37, padding="SAME"), (words(2, 40, 2),)),
    Call(
        "packed_max_pool: 3-D",
        partial(jbnn.packed_max_pool, window=(1, 2, 3), padding=((1, 0), (-1, 0), (0, 0))),
        (words(1, 3, 4, 5, 2),),
    ),
    Call("fold_batch_norm", of_norm, (floats(5), positive(5), floats(5), floats(5)), (0, 1, 2, 3)),
    Call("pack_kernels", partial(jbnn.pack_kernels, where=is_matrix), ({"w": W},)),
    Call("alpha", jbnn.alpha, (W,), (0,)),
]
