"""A binary residual network in pure functions, which trains on latent kernels and deploys on packed ones.

    stem    real 3x3 convolution
    block   x + batch_norm(binary 3x3 convolution of sign(x + shift)),  max pooling before the later blocks
    head    mean over the image, real dense layer

The shortcut carries real values past every sign [1], and a learned shift decides where each channel's sign changes [2].

[1] Liu et al., Bi-Real Net, 2018. https://arxiv.org/abs/1808.00278
[2] Liu et al., ReActNet, 2020, section 4.2. https://arxiv.org/abs/2003.03488
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jbnn

WIDTHS = (64, 64, 128, 128)  # channels after the stem and after each block: multiples of 32 fill their words
POOLED = (False, True, False)  # whether a block halves the image first
CLASSES = 10

MOMENTUM = 0.9
EPSILON = 1e-5


class Norm(NamedTuple):
    """What batch normalisation learns. Its gamma is also the learned scale of the binary convolution before it."""

    gamma: jax.Array
    beta: jax.Array


class Moments(NamedTuple):
    """What batch normalisation remembers: running averages over the training batches."""

    mean: jax.Array
    variance: jax.Array


class Block(NamedTuple):
    kernel: jax.Array  # latent (3, 3, C, O), or words (3, 3, C / 32, O)
    shift: jax.Array
    norm: Norm


class Params(NamedTuple):
    stem: jax.Array
    stem_norm: Norm
    blocks: tuple[Block, ...]
    head: jax.Array
    head_bias: jax.Array


State = tuple[Moments, ...]  # of the stem, then of each block


def init(key: jax.Array) -> tuple[Params, State]:
    stem_key, head_key, *block_keys = jax.random.split(key, 2 + len(POOLED))
    he = jax.nn.initializers.he_normal()

    def block(key: jax.Array, channels: int, features: int) -> Block:
        # Only the sign of a latent weight counts; its size is how many steps against it the weight can withstand.
        kernel = jax.random.uniform(key, (3, 3, channels, features), minval=-0.1, maxval=0.1)
        return Block(kernel, shift=jnp.zeros(channels), norm=_init_norm(features))

    params = Params(
        stem=he(stem_key, (3, 3, 1, WIDTHS[0])),
        stem_norm=_init_norm(WIDTHS[0]),
        blocks=tuple(map(block, block_keys, WIDTHS[:-1], WIDTHS[1:])),
        head=he(head_key, (WIDTHS[-1], CLASSES)),
        head_bias=jnp.zeros(CLASSES),
    )
    return params, tuple(Moments(jnp.zeros(width), jnp.ones(width)) for width in WIDTHS)


def apply(
    params: Params,
    state: State,
    images: jax.Array,
    *,
    train: bool = False,
    binary_conv: Callable[..., jax.Array] = jbnn.binary_conv,
) -> tuple[jax.Array, State]:
    """Logits (N, 10) and the next state, from latent and from packed kernels alike."""
    x = lax.conv_general_dilated(images, params.stem, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x, moments = _batch_norm(x, params.stem_norm, state[0], train)
    next_state = [moments]
    for block, moments, pooled in zip(params.blocks, state[1:], POOLED, strict=True):
        x = _max_pool(x) if pooled else x
        y = binary_conv(x, block.kernel, input_bias=block.shift)
        y, moments = _batch_norm(y, block.norm, moments, train)
        x = jnp.tile(x, y.shape[-1] // x.shape[-1]) + y  # a block that widens repeats its input
        next_state.append(moments)
    return x.mean(axis=(1, 2)) @ params.head + params.head_bias, tuple(next_state)


def map_kernels(function: Callable[[jax.Array], jax.Array], params: Params) -> Params:
    """The same parameters with `function` of each binary layer's kernel."""
    return params._replace(blocks=tuple(block._replace(kernel=function(block.kernel)) for block in params.blocks))


def pack(params: Params) -> Params:
    """The same parameters with one bit for each weight of the binary layers."""
    return map_kernels(functools.partial(jbnn.pack, axis=-2), params)


def _init_norm(width: int) -> Norm:
    return Norm(gamma=jnp.ones(width), beta=jnp.zeros(width))


def _batch_norm(x: jax.Array, norm: Norm, moments: Moments, train: bool) -> tuple[jax.Array, Moments]:
    """Normalises with the batch's own moments in training, and with the running ones otherwise."""
    if train:
        batch = Moments(x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2)))
        running = jax.tree.map(lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, moments, batch)
    else:
        batch = running = moments
    scale = norm.gamma * lax.rsqrt(batch.variance + EPSILON)
    return x * scale + (norm.beta - batch.mean * scale), running


def _max_pool(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
