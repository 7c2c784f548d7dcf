"""Bi-Real Net with 18 layers: a ResNet in which every 3x3 convolution but the first is binary and has its own shortcut.

    stem    7x7 convolution by 2, 3x3 max pooling by 2
    block   shortcut(x) + batch_norm(binary 3x3 convolution of sign(x)), borders 0
            the first block of sections 2 to 4 strides by 2 and doubles the channels; its shortcut is mean pooling,
            a pointwise convolution and a batch norm
    head    mean over the image, dense layer

The kernels' magnitude-aware sign, s·sign(w) with s the mean |w|, is written as the scale of the convolution, so that
deployment folds it into the batch norm. `apply` trains latent kernels, and runs what `deploy` makes of them.

References: Liu et al., Bi-Real Net, 2018. https://arxiv.org/abs/1808.00278
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jbnn
from examples.models import layers
from examples.models.layers import Affine, Moments, Norm

WIDTHS = (64, 128, 256, 512)
BLOCKS = 4  # of each width
CLASSES = 1000
NORM = {"momentum": 0.8, "epsilon": 1e-3}


class Shortcut(NamedTuple):
    pointwise: jax.Array  # (C, 2·C)
    norm: Norm | Affine


class Block(NamedTuple):
    kernel: jax.Array  # latent (3, 3, C, O), or words (3, 3, C/32, O)
    norm: Norm | Affine
    shortcut: Shortcut | None


class Params(NamedTuple):
    stem: jax.Array
    stem_norm: Norm | Affine
    blocks: tuple[Block, ...]
    head: jax.Array
    head_bias: jax.Array


class State(NamedTuple):
    """The moments of each batch norm; None where it is folded, or where there is none."""

    stem: Moments | None
    blocks: tuple[tuple[Moments | None, Moments | None], ...]  # of the block, of its shortcut


def init(
    key: jax.Array, *, widths: tuple[int, ...] = WIDTHS, blocks: int = BLOCKS, classes: int = CLASSES
) -> tuple[Params, State]:
    glorot = jax.nn.initializers.glorot_normal()
    stem_key, head_key, *block_keys = jax.random.split(key, 2 + blocks * len(widths))
    features = [width for width in widths for _ in range(blocks)]
    channels = [widths[0], *features[:-1]]

    def block(key: jax.Array, c: int, o: int) -> tuple[Block, tuple[Moments | None, Moments | None]]:
        kernel_key, shortcut_key = jax.random.split(key)
        shortcut = None if c == o else Shortcut(glorot(shortcut_key, (c, o)), layers.init_norm(o))
        moments = layers.init_moments(o), None if c == o else layers.init_moments(o)
        return Block(glorot(kernel_key, (3, 3, c, o)), layers.init_norm(o), shortcut), moments

    network, moments = zip(*map(block, block_keys, channels, features), strict=True)
    params = Params(
        stem=glorot(stem_key, (7, 7, 3, widths[0])),
        stem_norm=layers.init_norm(widths[0]),
        blocks=network,
        head=glorot(head_key, (widths[-1], classes)),
        head_bias=jnp.zeros(classes),
    )
    return params, State(layers.init_moments(widths[0]), moments)


def apply(
    params: Params,
    state: State,
    images: jax.Array,
    *,
    train: bool = False,
    binary_conv: Callable[..., jax.Array] = jbnn.binary_conv,
) -> tuple[jax.Array, State]:
    """Logits (N, classes) of images (N, H, W, 3), 224 by 224 as published, and the next state."""
    x = layers.conv(images, params.stem, 2)
    x, stem = layers.batch_norm(x, params.stem_norm, state.stem, train=train, **NORM)
    x = layers.max_pool(x, 3, 2, "SAME")
    moments = []
    for block, old in zip(params.blocks, state.blocks, strict=True):
        x, new = _block(block, old, x, train, binary_conv)
        moments.append(new)
    return x.mean(axis=(1, 2)) @ params.head + params.head_bias[None], State(stem, tuple(moments))


def _block(p: Block, moments, x: jax.Array, train: bool, binary_conv: Callable):
    shortcut, of_shortcut = x, None
    if p.shortcut is not None:
        shortcut = layers.pointwise(layers.mean_pool(x, 2), p.shortcut.pointwise)
        shortcut, of_shortcut = layers.batch_norm(shortcut, p.shortcut.norm, moments[1], train=train, **NORM)
    y = binary_conv(
        x,
        p.kernel,
        window_strides=1 if p.shortcut is None else 2,
        input_quantizer=jbnn.quantizers.approx_sign,
        **({} if isinstance(p.norm, Affine) else {"scale": _magnitude(p.kernel)}),
    )
    y, of_block = layers.batch_norm(y, p.norm, moments[0], train=train, **NORM)
    return shortcut + y, (of_block, of_shortcut)


def _magnitude(kernel: jax.Array) -> jax.Array:
    return lax.stop_gradient(jbnn.alpha(kernel))


def deploy(params: Params, state: State) -> tuple[Params, State]:
    """The network to run: binary kernels as words, batch norms folded, into float convolutions where one is before."""
    packed = jbnn.pack_kernels(params, layers.is_kernel)
    epsilon = NORM["epsilon"]
    blocks = []
    for latent, block, (moments, of_shortcut) in zip(params.blocks, packed.blocks, state.blocks, strict=True):
        scale, bias = jbnn.fold_batch_norm(*moments, *block.norm, epsilon=epsilon, scale=_magnitude(latent.kernel))
        shortcut = block.shortcut
        if shortcut is not None:
            norm = layers.fold(shortcut.norm, of_shortcut, epsilon=epsilon)
            shortcut = Shortcut(*layers.fold_into_kernel(shortcut.pointwise, norm))
        blocks.append(Block(block.kernel, Affine(scale, bias), shortcut))
    norm = layers.fold(params.stem_norm, state.stem, epsilon=epsilon)
    stem, stem_norm = layers.fold_into_kernel(params.stem, norm)
    return packed._replace(stem=stem, stem_norm=stem_norm, blocks=tuple(blocks)), layers.folded(state)
