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

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jbnn
from examples.models import layers
from examples.models.layers import Affine, Moments, Norm, Part

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


State = tuple  # the moments of the stem, of each block with its shortcut's, and None of the head; None where folded


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
    return params, (layers.init_moments(widths[0]), *moments, None)


def apply(
    params: Params,
    state: State,
    images: jax.Array,
    *,
    train: bool = False,
    binary_layer: Callable[..., jax.Array] = layers.binary_layer,
) -> tuple[jax.Array, State]:
    """Logits (N, classes) of images (N, H, W, 3), 224 by 224 as published, and the next state."""
    return layers.run(parts(params, state, train=train, binary_layer=binary_layer), images)


def parts(
    params: Params,
    state: State,
    *,
    train: bool = False,
    binary_layer: Callable[..., jax.Array] = layers.binary_layer,
) -> Iterator[Part]:
    """The network step by step."""
    stem, *blocks, head = state
    yield Part("stem", functools.partial(_stem, train=train), (params.stem, params.stem_norm), stem)
    for block, moments in zip(params.blocks, blocks, strict=True):
        kind = "binary block" if block.shortcut is None else "binary block by 2"
        yield Part(kind, functools.partial(_block, train=train, binary_layer=binary_layer), block, moments)
    yield Part("head", _head, (params.head, params.head_bias), head)


def _stem(p: tuple, moments: Any, images: jax.Array, train: bool) -> tuple[jax.Array, Any]:
    kernel, norm = p
    x, moments = layers.batch_norm(layers.conv(images, kernel, 2), norm, moments, train=train, **NORM)
    return layers.max_pool(x, 3, 2, "SAME"), moments


def _block(
    p: Block, moments: Any, x: jax.Array, train: bool, binary_layer: Callable[..., jax.Array]
) -> tuple[jax.Array, Any]:
    shortcut, of_shortcut = x, None
    if p.shortcut is not None:
        shortcut = layers.pointwise(layers.mean_pool(x, 2), p.shortcut.pointwise)
        shortcut, of_shortcut = layers.batch_norm(shortcut, p.shortcut.norm, moments[1], train=train, **NORM)
    y = binary_layer(
        x,
        p.kernel,
        window_strides=1 if p.shortcut is None else 2,
        input_quantizer=jbnn.quantizers.approx_sign,
        **({} if isinstance(p.norm, Affine) else {"scale": _magnitude(p.kernel)}),
    )
    y, of_block = layers.batch_norm(y, p.norm, moments[0], train=train, **NORM)
    return shortcut + y, (of_block, of_shortcut)


def _head(p: tuple[jax.Array, jax.Array], moments: None, x: jax.Array) -> tuple[jax.Array, None]:
    kernel, bias = p
    return x.mean(axis=(1, 2)) @ kernel + bias[None], None


def _magnitude(kernel: jax.Array) -> jax.Array:
    return lax.stop_gradient(jbnn.alpha(kernel))


def deploy(params: Params, state: State, *, packed: bool = True) -> tuple[Params, State]:
    """The network to run: binary kernels as words, batch norms folded, into float convolutions where one is before.

    With `packed=False` binary kernels are ±1 floats, for `binary_layer=layers.float_layer`.
    """
    kernels = layers.deployed_kernels(params, packed=packed)
    epsilon = NORM["epsilon"]
    stem_moments, *moments, _ = state
    stem, stem_norm = layers.fold_into_kernel(params.stem, layers.fold(params.stem_norm, stem_moments, epsilon=epsilon))

    def block(latent: Block, p: Block, moments: tuple[Moments, Moments | None]) -> Block:
        of_block, of_shortcut = moments
        norm = jbnn.fold_batch_norm(*of_block, *p.norm, epsilon=epsilon, scale=_magnitude(latent.kernel))
        shortcut = p.shortcut
        if shortcut is not None:
            folded = layers.fold(shortcut.norm, of_shortcut, epsilon=epsilon)
            shortcut = Shortcut(*layers.fold_into_kernel(shortcut.pointwise, folded))
        return Block(p.kernel, Affine(*norm), shortcut)

    blocks = tuple(map(block, params.blocks, kernels.blocks, moments))
    return kernels._replace(stem=stem, stem_norm=stem_norm, blocks=blocks), layers.folded(state)
