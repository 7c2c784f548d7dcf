"""BinaryNet for CIFAR-10: every layer is binary, and deployed not one float lies between the first and the last.

    128C3 - 128C3 - MP2 - 256C3 - 256C3 - MP2 - 512C3 - 512C3 - MP2 - 1024FC - 1024FC - 10FC

Each layer is a binary convolution or product, 2x2 max pooling where the plan says so, a batch norm and, but for the
last, a sign. Pixels enter as the odd integers 2·p - 255, so that the first layer's sums are exact integers too; the
batch norm after it takes up their scale.

`apply` trains latent kernels, and runs what `deploy` makes of them: words, and one comparison of integers in place of
each batch norm and sign.

References: Courbariaux et al., Binarized Neural Networks, 2016, section 2.3. https://arxiv.org/abs/1602.02830
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jbnn
from examples.models import layers
from examples.models.layers import Affine, Moments, Norm, Part

CONV_WIDTHS = (128, 128, 256, 256, 512, 512)  # every second one is pooled
DENSE_WIDTHS = (1024, 1024)
CLASSES = 10
SIZE = 32  # of the images
EPSILON = 1e-4


class Layer(NamedTuple):
    kernel: jax.Array  # latent (3, 3, C, O) or (C, O), or their words
    norm: Norm | jbnn.Threshold | Affine  # deployed a threshold, in the last layer an affine


Params = tuple[Layer, ...]
State = tuple[Moments | None, ...]


def init(
    key: jax.Array,
    *,
    conv_widths: tuple[int, ...] = CONV_WIDTHS,
    dense_widths: tuple[int, ...] = DENSE_WIDTHS,
    classes: int = CLASSES,
    size: int = SIZE,
) -> tuple[Params, State]:
    pixels = (size >> len(conv_widths) // 2) ** 2
    shapes = [(3, 3, c, o) for c, o in itertools.pairwise((3, *conv_widths))]
    shapes += itertools.pairwise((pixels * conv_widths[-1], *dense_widths, classes))

    def layer(key: jax.Array, shape: tuple[int, ...]) -> Layer:
        # Only the sign of a latent weight counts; its size is how long it withstands the updates against it.
        return Layer(jax.random.uniform(key, shape, minval=-1, maxval=1), layers.init_norm(shape[-1]))

    params = tuple(map(layer, jax.random.split(key, len(shapes)), shapes))
    return params, tuple(layers.init_moments(shape[-1]) for shape in shapes)


def apply(
    params: Params,
    state: State,
    images: jax.Array,
    *,
    train: bool = False,
    binary_layer: Callable[..., jax.Array] = layers.binary_layer,
) -> tuple[jax.Array, State]:
    """Scores (N, classes) of uint8 images (N, 32, 32, 3), and the next state."""
    return layers.run(parts(params, state, train=train, binary_layer=binary_layer), images)


def parts(
    params: Params,
    state: State,
    *,
    train: bool = False,
    binary_layer: Callable[..., jax.Array] = layers.binary_layer,
) -> Iterator[Part]:
    """The network layer by layer: between two of them are real numbers, or, in a deployed network, words of bits."""
    for index, (layer, moments) in enumerate(zip(params, state, strict=True)):
        pooled = layer.kernel.ndim == 4 and index % 2 == 1
        binary = "binary dense" if layer.kernel.ndim == 2 else "binary conv, pooled" if pooled else "binary conv"
        kind = "first layer" if index == 0 else binary
        function = functools.partial(_layer, first=index == 0, pooled=pooled, train=train, binary_layer=binary_layer)
        yield Part(kind, function, layer, moments)


def _layer(
    p: Layer,
    moments: Moments | None,
    x: jax.Array,
    *,
    first: bool,
    pooled: bool,
    train: bool,
    binary_layer: Callable[..., jax.Array],
) -> tuple[jax.Array, Moments | None]:
    """What the next layer takes the sign of; or the bits that it reads, where there is a threshold."""
    options = {}
    if first:
        x, options = 2.0 * x.astype(jnp.float32) - 255.0, {"mode": "binary_weights"}
    elif p.kernel.ndim == 2:
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))  # the batch may be empty
    if isinstance(p.norm, jbnn.Threshold):
        return _bits(p, x, first, pooled), None
    u = (
        jbnn.packed_dense(x, p.kernel, channels=32 * x.shape[-1]).astype(jnp.float32)
        if x.dtype == jnp.uint32
        else binary_layer(x, p.kernel, **options)
    )
    u = layers.max_pool(u, 2, 2) if pooled else u
    return layers.batch_norm(u, p.norm, moments, train=train, epsilon=EPSILON)


def _bits(p: Layer, x: jax.Array, first: bool, pooled: bool) -> jax.Array:
    if first:
        # Rounded, because a GPU may convolve through transforms, which leave errors far below one half.
        u = jnp.round(jbnn.binary_conv(x, p.kernel, mode="binary_weights")).astype(jnp.int32)
        value, flip = (term[None, None, None] for term in p.norm)
        bits = jbnn.pack((u >= value) != flip)
    else:
        layer = jbnn.packed_conv if p.kernel.ndim == 4 else jbnn.packed_dense
        bits = layer(x, p.kernel, channels=32 * x.shape[-1], threshold=p.norm)  # widths are multiples of 32
    return jbnn.packed_max_pool(bits, 2, flip=p.norm.flip) if pooled else bits


def deploy(params: Params, state: State, *, packed: bool = True) -> tuple[Params, State]:
    """The network to run: kernels as words, and thresholds; the last layer keeps the affine of its scores.

    With `packed=False` kernels are ±1 floats and every layer keeps its affine, for `binary_layer=layers.float_layer`.
    """
    kernels = [layer.kernel for layer in layers.deployed_kernels(params, packed=packed)]
    norms = [layers.fold(p.norm, m, epsilon=EPSILON) for p, m in zip(params, state, strict=True)]
    if packed:
        norms = [*(jbnn.sign_threshold(*terms) for terms in norms[:-1]), norms[-1]]
    return tuple(map(Layer, kernels, norms)), layers.folded(state)
