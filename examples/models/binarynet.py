"""BinaryNet for CIFAR-10: every layer binary, and in deployment not one float between the first layer and the last.

    128C3 - 128C3 - MP2 - 256C3 - 256C3 - MP2 - 512C3 - 512C3 - MP2 - 1024FC - 1024FC - 10FC

Each layer is a binary convolution or product, 2x2 max pooling where the plan says so, a batch norm and, but for the last,
a sign. Pixels enter as the odd integers 2·p - 255, so that the first layer's sums are integers too, and exact; the batch
norm after it takes up their scale.

`apply` trains latent kernels, and runs what `deploy` makes of them: words, and one comparison of integers in place of
each batch norm and sign.

References: Courbariaux et al., Binarized Neural Networks, 2016, section 2.3. https://arxiv.org/abs/1602.02830
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jbnn
from examples.models import layers
from examples.models.layers import Affine, Moments, Norm

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


def apply(params: Params, state: State, images: jax.Array, *, train: bool = False) -> tuple[jax.Array, State]:
    """Scores (N, classes) of uint8 images (N, 32, 32, 3), and the next state."""
    x, moments = images, []
    for index, (layer, old) in enumerate(zip(params, state, strict=True)):
        x, new = apply_layer(layer, old, x, index=index, train=train)
        moments.append(new)
    return x, tuple(moments)


def apply_layer(p: Layer, moments: Moments | None, x: jax.Array, *, index: int, train: bool = False):
    """What the next layer binarises; deployed, what it reads: bits. The last layer's scores are real either way."""
    pooled = p.kernel.ndim == 4 and index % 2 == 1
    if p.kernel.ndim == 2:
        x = x.reshape(x.shape[0], -1)
    if not isinstance(p.norm, jbnn.Threshold):
        u = _sums(x, p.kernel, index)
        return layers.batch_norm(layers.max_pool(u, 2, 2) if pooled else u, p.norm, moments, train=train, epsilon=EPSILON)
    if index == 0:
        u = _sums(x, p.kernel, index).astype(jnp.int32)
        bits = jbnn.pack((u >= p.norm.value) != p.norm.flip)
    elif p.kernel.ndim == 4:
        bits = jbnn.packed_conv(x, p.kernel, threshold=p.norm)
    else:
        bits = jbnn.packed_dense(x, p.kernel, threshold=p.norm)
    return jbnn.packed_max_pool(bits, 2, flip=p.norm.flip) if pooled else bits, None


def _sums(x: jax.Array, kernel: jax.Array, index: int) -> jax.Array:
    """Exact sums as floats: of ±1, or in the first layer of pixels."""
    if index == 0:
        x = 2.0 * x.astype(jnp.float32) - 255.0
        return jbnn.binary_conv(x, kernel, mode="binary_weights")
    if x.dtype == jnp.uint32:
        return jbnn.packed_dense(x, kernel).astype(jnp.float32)
    return (jbnn.binary_conv if kernel.ndim == 4 else jbnn.binary_dense)(x, kernel)


def deploy(params: Params, state: State) -> tuple[Params, State]:
    """The network to run: kernels as words, and thresholds; the last layer keeps the affine of its scores."""
    packed = jbnn.pack_kernels(params, layers.is_kernel)
    affines = [layers.fold(p.norm, m, epsilon=EPSILON) for p, m in zip(params, state, strict=True)]
    norms = [*(jbnn.sign_threshold(*terms) for terms in affines[:-1]), affines[-1]]
    return tuple(map(Layer, (p.kernel for p in packed), norms)), layers.folded(state)
