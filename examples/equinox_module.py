"""A binary convolution as an Equinox module.

    python -m examples.equinox_module

It is trained on handwritten digits for a few steps, then runs on packed kernels.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jbnn
from examples.digits import data


class BinaryConv(eqx.Module):
    """A binary convolution of one image (H, W, C); `jax.vmap` of it is one convolution of the batch."""

    kernel: jax.Array  # latent (K, K, C, O), or words (K, K, ceil(C / 32), O)
    scale: jax.Array
    bias: jax.Array
    strides: int = eqx.field(static=True)

    def __init__(self, channels: int, features: int, size: int = 3, strides: int = 1, *, key: jax.Array):
        self.kernel = jax.random.uniform(key, (size, size, channels, features), minval=-0.1, maxval=0.1)
        self.scale = jnp.full(features, (size * size * channels) ** -0.5)
        self.bias = jnp.zeros(features)
        self.strides = strides

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jbnn.binary_conv(x[None], self.kernel, window_strides=self.strides, scale=self.scale, bias=self.bias)
        return y[0]


class Network(eqx.Module):
    """A real convolution, two binary ones past which a shortcut carries real values, and a real dense layer."""

    stem: eqx.nn.Conv2d
    convs: list[BinaryConv]
    head: eqx.nn.Linear

    def __init__(self, width: int, *, key: jax.Array):
        stem_key, head_key, *conv_keys = jax.random.split(key, 4)
        self.stem = eqx.nn.Conv2d(1, width, 3, padding=1, key=stem_key)
        self.convs = [BinaryConv(width, width, key=key) for key in conv_keys]
        self.head = eqx.nn.Linear(width, 10, key=head_key)

    def __call__(self, image: jax.Array) -> jax.Array:
        x = self.stem(jnp.moveaxis(image, -1, 0))  # Equinox has channels first, jbnn last
        x = jnp.moveaxis(x, 0, -1)
        for conv in self.convs:
            x = x + conv(x)
        return self.head(x.mean(axis=(0, 1)))


def kernels(model: Network) -> list[jax.Array]:
    return [conv.kernel for conv in model.convs]


@eqx.filter_value_and_grad
def loss(model: Network, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = jax.vmap(model)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(steps: int) -> tuple[Network, list[float]]:
    training, _ = data.load()
    model = Network(32, key=jax.random.key(0))
    optimizer = optax.adam(5e-3)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model: Network, state: optax.OptState, images: jax.Array, labels: jax.Array):
        value, gradient = loss(model, images, labels)
        updates, state = optimizer.update(gradient, state)
        model = eqx.apply_updates(model, updates)
        # Outside [-1, 1] the surrogate gradient of a latent weight is zero.
        return eqx.tree_at(kernels, model, replace_fn=lambda w: jnp.clip(w, -1, 1)), state, value

    losses = []
    for i in np.random.default_rng(0).integers(len(training.labels), size=(steps, 64)):
        model, state, value = step(model, state, training.images[i], training.labels[i])
        losses.append(float(value))
    return model, losses


def pack(model: Network) -> Network:
    """The model with words for latent kernels: 1/32 as large there, and with the same results."""
    return eqx.tree_at(kernels, model, replace_fn=lambda w: jbnn.pack(w, axis=-2))


def main() -> None:
    _, test = data.load()
    model, losses = train(steps=100)
    latent, packed = (jax.vmap(m)(test.images) for m in (model, pack(model)))
    accuracy = float(np.mean(packed.argmax(-1) == test.labels))
    print(f"BinaryConv: loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps, test accuracy {accuracy:.0%},")
    print(f"    packed and latent kernels give the same scores: {bool((packed == latent).all())}")


if __name__ == "__main__":
    main()
