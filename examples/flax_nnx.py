"""Binary convolutions in Flax NNX: a module of our own, and a function that Flax's `nnx.Conv` calls.

    python -m examples.flax_nnx

Both are trained on handwritten digits for a few steps, then run on packed kernels.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax import lax

import jbnn
from examples.digits import data


class Words(nnx.Variable):
    """A packed kernel. It is not an `nnx.Param`, so gradients and optimisers leave it alone."""


class BinaryConv(nnx.Module):
    """A binary convolution with a latent kernel, or after `pack` a packed one."""

    def __init__(self, in_features: int, out_features: int, kernel_size: Sequence[int] = (3, 3), *, rngs: nnx.Rngs):
        shape = (*kernel_size, in_features, out_features)
        self.kernel = nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-0.1, maxval=0.1))
        self.scale = nnx.Param(jnp.full(out_features, math.prod(shape[:-1]) ** -0.5))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jbnn.binary_conv(x, self.kernel[...], scale=self.scale[...])


def binary_conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    /,  # as Flax's `Conv` calls it. Linen's `ConvLocal` does not, and would compute with floats after all.
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    **options: Any,
) -> jax.Array:
    """`jbnn.binary_conv` with the signature of `lax.conv_general_dilated`; refuses what it cannot do.

    Args:
      options: passed on to `jbnn.binary_conv`, from a `functools.partial`.
    """
    spatial = "DHW"[5 - lhs.ndim :]
    channels_last = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    wanted, given = (lax.conv_dimension_numbers(lhs.shape, rhs.shape, d) for d in (channels_last, dimension_numbers))
    if given != wanted:
        raise NotImplementedError(f"`dimension_numbers` must be {channels_last}, but was {dimension_numbers}")
    if any(d != 1 for d in lhs_dilation or ()):
        raise NotImplementedError(f"`lhs_dilation` must be 1, but was {lhs_dilation}: see `binary_conv_transpose`")
    if batch_group_count != 1:
        raise NotImplementedError(f"`batch_group_count` must be 1, but was {batch_group_count}")
    if preferred_element_type not in (None, lhs.dtype):
        raise NotImplementedError(f"the result has the dtype of the input, not {preferred_element_type}")
    for name, value in (("precision", precision), ("out_sharding", out_sharding)):
        if value is not None:
            raise NotImplementedError(f"`{name}` must be None, but was {value}")
    return jbnn.binary_conv(
        lhs,
        rhs,
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation or 1,
        feature_group_count=feature_group_count,
        **options,
    )


def keep_words(arrays: Sequence[jax.Array | None], *, dtype: Any = None) -> Sequence[jax.Array | None]:
    """Flax's `promote_dtype`, which would turn a packed kernel into floats, for all but the kernel."""
    inputs, kernel, *bias = arrays
    inputs, *bias = promote_dtype((inputs, *bias), dtype=dtype)
    return inputs, kernel, *bias


injected_conv = functools.partial(
    nnx.Conv,
    kernel_size=(3, 3),
    use_bias=False,
    conv_general_dilated=binary_conv_general_dilated,
    promote_dtype=keep_words,
)


class Network(nnx.Module):
    """A real convolution, two binary ones past which a shortcut carries real values, and a real dense layer."""

    def __init__(self, conv: Callable[..., nnx.Module], width: int, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.convs = nnx.List([conv(width, width, rngs=rngs) for _ in range(2)])
        self.norms = nnx.List([nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.stem(images)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + norm(conv(x))
        return self.head(x.mean(axis=(1, 2)))


@nnx.jit
def train_step(model: Network, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array) -> jax.Array:
    def loss(model: Network) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    for conv in model.convs:  # outside [-1, 1] the surrogate gradient of a latent weight is zero
        conv.kernel[...] = jnp.clip(conv.kernel[...], -1, 1)
    return value


def train(conv: Callable[..., nnx.Module], steps: int) -> tuple[Network, list[float]]:
    training, _ = data.load()
    model = Network(conv, 32, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(5e-3), wrt=nnx.Param)
    batches = np.random.default_rng(0).integers(len(training.labels), size=(steps, 64))
    losses = [train_step(model, optimizer, training.images[i], training.labels[i]) for i in batches]
    model.eval()
    return model, [float(loss) for loss in losses]


def pack(model: Network) -> None:
    """Replaces latent kernels by words: the model is then 1/32 as large there, and gives the same results."""
    for conv in model.convs:
        conv.kernel = Words(jbnn.pack(conv.kernel[...], axis=-2))


def main() -> None:
    _, test = data.load()
    for name, conv in (("BinaryConv", BinaryConv), ("nnx.Conv, injected", injected_conv)):
        model, losses = train(conv, steps=100)
        latent = model(test.images)
        pack(model)
        packed = model(test.images)
        accuracy = float(np.mean(packed.argmax(-1) == test.labels))
        print(f"{name}: loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps, test accuracy {accuracy:.0%},")
        print(f"    packed and latent kernels give the same scores: {bool((packed == latent).all())}")


if __name__ == "__main__":
    main()
