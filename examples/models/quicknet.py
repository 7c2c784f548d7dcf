"""QuickNet: a binary residual network made for fast inference.

    stem         3x3 convolution by 2, ReLU, 3x3 depthwise convolution by 2, pointwise convolution
    residual     x + batch_norm(relu(binary 3x3 convolution of sign(x))), borders +1
    transition   ReLU, max pooling, blur by 2, pointwise convolution to the next section's width
    head         ReLU, mean over the image, dense layer

A batch norm follows every convolution. `apply` trains latent kernels, and runs what `deploy` makes of them: words, the
scale and bias of the batch norms after binary convolutions, and the bias of those after float ones.

References: Bannink et al., Larq Compute Engine, 2021, section 4. https://arxiv.org/abs/2011.09398
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jbnn
from examples.models import layers
from examples.models.layers import Affine, Moments, Norm, Part

SMALL = {"widths": (32, 64, 256, 512), "blocks": (4, 4, 4, 4)}
NORMAL = {"widths": (64, 128, 256, 512), "blocks": (4, 4, 4, 4)}
LARGE = {"widths": (64, 128, 256, 512), "blocks": (6, 8, 12, 6)}
CLASSES = 1000
CLIP = 1.25  # where the sign's surrogate gradient ends; training keeps latent weights within it
STEM = {"momentum": 0.99, "epsilon": 1e-3}  # of its batch norms


class Stem(NamedTuple):
    conv: jax.Array  # (3, 3, 3, C/4)
    depthwise: jax.Array  # (3, 3, C/4)
    pointwise: jax.Array  # (C/4, C)
    norms: tuple[Norm | Affine, ...]  # one after each; that of `depthwise` learns nothing


class Transition(NamedTuple):
    pointwise: jax.Array  # (C, C')
    norm: Norm | Affine


class Residual(NamedTuple):
    kernel: jax.Array  # latent (3, 3, C, C), or words (3, 3, C/32, C)
    norm: Norm | Affine


class Params(NamedTuple):
    stem: Stem
    blocks: tuple[Transition | Residual, ...]
    head: jax.Array
    head_bias: jax.Array


State = tuple  # the moments of the stem, a tuple, of each block, and None of the head; None where they are folded


def init(
    key: jax.Array,
    *,
    widths: tuple[int, ...] = NORMAL["widths"],
    blocks: tuple[int, ...] = NORMAL["blocks"],
    classes: int = CLASSES,
) -> tuple[Params, State]:
    he, glorot = jax.nn.initializers.he_normal(), jax.nn.initializers.glorot_normal()
    stem_keys, head_key, block_key = jax.random.split(key, 3)
    block_keys = iter(jax.random.split(block_key, len(widths) + sum(blocks)))
    conv_key, depthwise_key, pointwise_key = jax.random.split(stem_keys, 3)
    before, narrow = widths[0], widths[0] // 4
    stem = Stem(
        conv=he(conv_key, (3, 3, 3, narrow)),
        depthwise=glorot(depthwise_key, (3, 3, 1, narrow))[:, :, 0],
        pointwise=he(pointwise_key, (narrow, before)),
        norms=(layers.init_norm(narrow), Norm(None, None), layers.init_norm(before)),
    )
    network: list[Transition | Residual] = []
    for width, count in zip(widths, blocks, strict=True):
        if width != before:
            network.append(Transition(glorot(next(block_keys), (before, width)), layers.init_norm(width)))
        for _ in range(count):
            network.append(Residual(glorot(next(block_keys), (3, 3, width, width)), layers.init_norm(width)))
        before = width
    params = Params(stem, tuple(network), glorot(head_key, (before, classes)), jnp.zeros(classes))
    moments = tuple(layers.init_moments(len(block.norm.gamma)) for block in network)
    return params, (tuple(map(layers.init_moments, (narrow, narrow, widths[0]))), *moments, None)


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
    yield Part("stem", functools.partial(_stem, train=train), params.stem, stem)
    for block, moments in zip(params.blocks, blocks, strict=True):
        if isinstance(block, Transition):
            yield Part("transition", functools.partial(_transition, train=train), block, moments)
        else:
            residual = functools.partial(_residual, train=train, binary_layer=binary_layer)
            yield Part("binary residual", residual, block, moments)
    yield Part("head", _head, (params.head, params.head_bias), head)


def _stem(p: Stem, moments: Any, images: jax.Array, train: bool) -> tuple[jax.Array, Any]:
    x, first = layers.batch_norm(layers.conv(images, p.conv, 2), p.norms[0], moments[0], train=train, **STEM)
    x = layers.depthwise(jax.nn.relu(x), p.depthwise, 2)
    x, second = layers.batch_norm(x, p.norms[1], moments[1], train=train, **STEM)
    x, third = layers.batch_norm(layers.pointwise(x, p.pointwise), p.norms[2], moments[2], train=train, **STEM)
    return x, (first, second, third)


def _residual(
    p: Residual, moments: Any, x: jax.Array, train: bool, binary_layer: Callable[..., jax.Array]
) -> tuple[jax.Array, Any]:
    y = binary_layer(
        x, p.kernel, pad_value=1, activation=jax.nn.relu, input_quantizer=ste_sign, kernel_quantizer=ste_sign
    )
    y, moments = layers.batch_norm(y, p.norm, moments, train=train)
    return x + y, moments


def _transition(p: Transition, moments: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
    x = layers.blur(layers.max_pool(jax.nn.relu(x), 2, 1), 2)
    return layers.batch_norm(layers.pointwise(x, p.pointwise), p.norm, moments, train=train)


def _head(p: tuple[jax.Array, jax.Array], moments: None, x: jax.Array) -> tuple[jax.Array, None]:
    kernel, bias = p
    return jax.nn.relu(x).mean(axis=(1, 2)) @ kernel + bias[None], None


ste_sign = functools.partial(jbnn.quantizers.ste_sign, clip=CLIP)


def deploy(params: Params, state: State, *, packed: bool = True) -> tuple[Params, State]:
    """The network to run: binary kernels as words, batch norms folded, into float convolutions where one is before.

    With `packed=False` binary kernels are ±1 floats, for `binary_layer=layers.float_layer`.
    """
    kernels = layers.deployed_kernels(params, packed=packed)
    stem, (stem_moments, *moments, _) = params.stem, state
    norms = [layers.fold(norm, m, epsilon=STEM["epsilon"]) for norm, m in zip(stem.norms, stem_moments, strict=True)]
    folded, norms = zip(*map(layers.fold_into_kernel, stem[:3], norms), strict=True)

    def block(p: Transition | Residual, moments: Moments) -> Transition | Residual:
        norm = layers.fold(p.norm, moments)
        if isinstance(p, Residual):
            return Residual(p.kernel, norm)
        return Transition(*layers.fold_into_kernel(p.pointwise, norm))

    blocks = tuple(map(block, kernels.blocks, moments))
    return kernels._replace(stem=Stem(*folded, norms), blocks=blocks), layers.folded(state)
