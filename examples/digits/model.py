"""A binary network in pure functions, which trains on latent kernels and is deployed with bits from layer to layer.

    stem    real 3x3 convolution, batch norm
    block   binary 3x3 convolution of the signs, 2x2 max pooling in the second block, batch norm
    head    mean over the image, real dense layer

Deployed, a block whose result is only asked for its sign is one comparison of integers: its batch norm is a threshold,
and words go in and out. The last block is followed by a mean, so it keeps its batch norm, as scale and bias.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jbnn
from examples.models import layers
from examples.models.layers import Affine, Moments, Norm

WIDTHS = (64, 64, 128, 128)  # channels after the stem and after each block: multiples of 32 fill their words
POOLED = (False, True, False)  # whether a block halves the image
CLASSES = 10


class Block(NamedTuple):
    kernel: jax.Array  # latent (3, 3, C, O), or words (3, 3, C / 32, O)
    norm: Norm | jbnn.Threshold | Affine


class Params(NamedTuple):
    stem: jax.Array
    stem_norm: Norm | Affine
    blocks: tuple[Block, ...]
    head: jax.Array
    head_bias: jax.Array


State = tuple[Moments | None, ...]  # of the stem, then of each block; None in a deployed network


def init(key: jax.Array) -> tuple[Params, State]:
    stem_key, head_key, *block_keys = jax.random.split(key, 2 + len(POOLED))
    he = jax.nn.initializers.he_normal()

    def block(key: jax.Array, channels: int, features: int) -> Block:
        # Only the sign of a latent weight counts; its size is how many steps against it the weight can withstand.
        kernel = jax.random.uniform(key, (3, 3, channels, features), minval=-0.1, maxval=0.1)
        return Block(kernel, layers.init_norm(features))

    params = Params(
        stem=he(stem_key, (3, 3, 1, WIDTHS[0])),
        stem_norm=layers.init_norm(WIDTHS[0]),
        blocks=tuple(map(block, block_keys, WIDTHS[:-1], WIDTHS[1:])),
        head=he(head_key, (WIDTHS[-1], CLASSES)),
        head_bias=jnp.zeros(CLASSES),
    )
    return params, tuple(map(layers.init_moments, WIDTHS))


def apply(
    params: Params,
    state: State,
    images: jax.Array,
    *,
    train: bool = False,
    binary_layer: Callable[..., jax.Array] = layers.binary_layer,
) -> tuple[jax.Array, State]:
    """Logits (N, 10) and the next state, of the network in training and of the deployed one alike."""
    x, moments = layers.batch_norm(layers.conv(images, params.stem), params.stem_norm, state[0], train=train)
    next_state = [moments]
    for block, moments, pooled in zip(params.blocks, state[1:], POOLED, strict=True):
        if isinstance(block.norm, jbnn.Threshold):
            x = _bits(x, block, pooled)
        else:
            u = _sums(x, block.kernel, binary_layer)
            u = layers.max_pool(u, 2, 2) if pooled else u
            x, moments = layers.batch_norm(u, block.norm, moments, train=train)
        next_state.append(moments)
    return x.mean(axis=(1, 2)) @ params.head + params.head_bias[None], tuple(next_state)


def _sums(x: jax.Array, kernel: jax.Array, binary_layer: Callable[..., jax.Array]) -> jax.Array:
    if x.dtype == jnp.uint32:
        return jbnn.packed_conv(x, kernel, channels=32 * x.shape[-1]).astype(jnp.float32)
    return binary_layer(x, kernel)


def _bits(x: jax.Array, block: Block, pooled: bool) -> jax.Array:
    """A block that hands on signs: words of them, from words, or after the stem from floats."""
    words = x if x.dtype == jnp.uint32 else jbnn.pack(x)
    words = jbnn.packed_conv(words, block.kernel, channels=32 * words.shape[-1], threshold=block.norm)
    # Pooled before the batch norm: where that one's slope is negative, the largest sum has the smallest bit.
    return jbnn.packed_max_pool(words, 2, flip=block.norm.flip) if pooled else words


def deploy(params: Params, state: State, *, packed: bool = True) -> tuple[Params, State]:
    """The network to run: one bit for each binary weight, thresholds, and one bit for each activation between blocks.

    With `packed=False` binary kernels are ±1 floats, for `binary_layer=layers.float_layer`.
    """
    kernels = [block.kernel for block in layers.deployed_kernels(params, packed=packed).blocks]
    stem, *norms = (layers.fold(*pair) for pair in zip(_norms(params), state, strict=True))
    if packed:
        norms[:-1] = (jbnn.sign_threshold(*terms) for terms in norms[:-1])
    blocks = tuple(map(Block, kernels, norms))
    return params._replace(stem_norm=stem, blocks=blocks), layers.folded(state)


def map_kernels(function: Callable[[jax.Array], jax.Array], params: Params) -> Params:
    """The same parameters with `function` of each binary layer's kernel."""
    return params._replace(blocks=tuple(block._replace(kernel=function(block.kernel)) for block in params.blocks))


def _norms(params: Params) -> list[Norm]:
    return [params.stem_norm, *(block.norm for block in params.blocks)]
