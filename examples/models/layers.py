"""What the networks of this folder share: batch normalisation as a pure function, and layers between binary ones.

Pooling, blur and depthwise convolution are written as slices that are shifted against each other, which XLA fuses with
their neighbours. On a CPU its own window reductions and grouped convolutions do neither that nor vectorise.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jbnn


class Norm(NamedTuple):
    """What batch normalisation learns, (C,) each; None for one that learns nothing."""

    gamma: jax.Array | None
    beta: jax.Array | None


class Moments(NamedTuple):
    """What batch normalisation remembers: running averages over the training batches, (C,) each."""

    mean: jax.Array
    variance: jax.Array


class Affine(NamedTuple):
    """What is left of it in a deployed network: y = x·scale + bias, (C,) each; scale None is 1."""

    scale: jax.Array | None
    bias: jax.Array


class Part(NamedTuple):
    """A step of a network: `function(params, moments, x)` gives the next x and the next moments."""

    kind: str
    function: Callable
    params: Any
    moments: Any


def run(parts: Iterable[Part], x: jax.Array) -> tuple[jax.Array, tuple]:
    """A network's result, and its next state: the moments of each part."""
    state = []
    for part in parts:
        x, moments = part.function(part.params, part.moments, x)
        state.append(moments)
    return x, tuple(state)


def binary_layer(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    """The binary layer whose kernel this is, latent or packed."""
    return (jbnn.binary_conv if kernel.ndim == 4 else jbnn.binary_dense)(x, kernel, **options)


def float_layer(
    x: jax.Array,
    kernel: jax.Array,
    *,
    mode: str = "xnor",
    window_strides: int = 1,
    pad_value: int = 0,
    activation: Callable[[jax.Array], jax.Array] | None = None,
    input_quantizer: Callable | None = None,
    kernel_quantizer: Callable | None = None,
) -> jax.Array:
    """`binary_layer` in floats, for kernels of ±1: what the packed one is held against."""
    a = x if mode == "binary_weights" else jbnn.sign(x)
    if kernel.ndim == 2:
        y = a @ kernel
    elif pad_value == 0:
        y = conv(a, kernel, window_strides)
    else:  # the barriers keep XLA from computing the padded signs once for each tap
        a = _pad_same(lax.optimization_barrier(a), kernel.shape[:2], window_strides, pad_value)
        y = conv(lax.optimization_barrier(a), kernel, window_strides, "VALID")
    return y if activation is None else activation(y)


def deployed_kernels(params: Any, *, packed: bool) -> Any:
    """The parameters with the kernels of binary layers as words, or as ±1 floats."""
    if packed:
        return jbnn.pack_kernels(params, is_kernel)
    return jax.tree_util.tree_map_with_path(lambda path, x: jbnn.sign(x) if is_kernel(path, x) else x, params)


def is_kernel(path: tuple, leaf: Any) -> bool:
    """Whether a leaf of the parameters is the kernel of a binary layer: by the name of its field."""
    return path[-1] == jax.tree_util.GetAttrKey("kernel")


def init_norm(width: int, *, learned: bool = True) -> Norm:
    return Norm(jnp.ones(width), jnp.zeros(width)) if learned else Norm(None, None)


def init_moments(width: int) -> Moments:
    return Moments(jnp.zeros(width), jnp.ones(width))


def batch_norm(
    x: jax.Array,
    norm: Norm | Affine,
    moments: Moments | None,
    *,
    train: bool,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
) -> tuple[jax.Array, Moments | None]:
    """x (…, C) normalised, and the next moments: by the batch's own ones in training, else by the running ones."""
    if isinstance(norm, Affine):
        if train:
            raise ValueError("`train` must be False for a deployed network: its batch norms are folded")
        return affine(x, norm), None
    now = moments
    if train:
        axes = tuple(range(x.ndim - 1))
        now = Moments(x.mean(axis=axes), x.var(axis=axes))
        moments = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, moments, now)
    return affine(x, fold(norm, now, epsilon=epsilon)), moments


def fold(norm: Norm, moments: Moments, *, epsilon: float = 1e-5) -> Affine:
    return Affine(*jbnn.fold_batch_norm(*moments, *norm, epsilon=epsilon))


def folded(state: object) -> object:
    """The state of a deployed network: None for all moments."""
    return jax.tree.map(lambda _: None, state, is_leaf=lambda node: isinstance(node, Moments))


def fold_into_kernel(kernel: jax.Array, affine: Affine) -> tuple[jax.Array, Affine]:
    """A float convolution (…, O) takes over the scale of the batch norm that follows it."""
    return kernel * _last_axis(affine.scale, kernel), Affine(None, affine.bias)


def affine(x: jax.Array, terms: Affine) -> jax.Array:
    if terms.scale is not None:
        x = x * _last_axis(terms.scale, x)
    return x + _last_axis(terms.bias, x)


def conv(x: jax.Array, kernel: jax.Array, strides: int = 1, padding: str = "SAME") -> jax.Array:
    """A float convolution."""
    return lax.conv_general_dilated(x, kernel, (strides,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 1x1 convolution (C, O), which is a matrix product."""
    return jnp.einsum("nhwc,co->nhwo", x, kernel)


def depthwise(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    """A depthwise convolution (K, K, C) with "SAME" padding: a sum of shifted multiples."""
    rows, columns, channels = kernel.shape
    x = _pad_same(x, (rows, columns), strides, 0.0)
    terms = [
        _shift(_shift(x, 1, i, rows, strides), 2, j, columns, strides) * kernel[i, j].reshape(1, 1, 1, channels)
        for i in range(rows)
        for j in range(columns)
    ]
    return functools.reduce(lax.add, terms)


def blur(x: jax.Array, strides: int) -> jax.Array:
    """Antialiasing: each channel weighted with 1/4, 1/2, 1/4 along both axes, "SAME" padding.

    References: Zhang, Making Convolutional Networks Shift-Invariant Again, 2019. https://arxiv.org/abs/1904.11486
    """

    def weigh(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return 0.25 * (a + c) + 0.5 * b

    return _separable(_pad_same(x, (3, 3), strides, 0.0), 3, strides, lambda parts: weigh(*parts))


def max_pool(x: jax.Array, window: int, strides: int, padding: str = "VALID") -> jax.Array:
    if padding == "SAME":
        x = _pad_same(x, (window, window), strides, -jnp.inf)
    return _separable(x, window, strides, lambda parts: functools.reduce(lax.max, parts))


def mean_pool(x: jax.Array, window: int) -> jax.Array:
    """Means of windows side by side, which must fill the image."""
    return _separable(x, window, window, lambda parts: functools.reduce(lax.add, parts)) * (1 / window**2)


def _separable(
    x: jax.Array, window: int, strides: int, combine: Callable[[Sequence[jax.Array]], jax.Array]
) -> jax.Array:
    for axis in (1, 2):
        x = combine([_shift(x, axis, k, window, strides) for k in range(window)])
    return x


def _shift(x: jax.Array, axis: int, tap: int, window: int, strides: int) -> jax.Array:
    """What every window along an axis reads through one tap."""
    count = (x.shape[axis] - window) // strides + 1
    return lax.slice_in_dim(x, tap, tap + (count - 1) * strides + 1, strides, axis=axis)


def _pad_same(x: jax.Array, window: tuple[int, int], strides: int, value: float) -> jax.Array:
    pairs = lax.padtype_to_pads(x.shape[1:3], window, (strides, strides), "SAME")
    return lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pairs), (0, 0, 0)])


def _last_axis(value: jax.Array, like: jax.Array) -> jax.Array:
    return value.reshape((1,) * (like.ndim - 1) + value.shape)
