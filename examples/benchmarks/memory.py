"""Bytes kept for the backward pass of one binary convolution, against the float32 expression.

    python -m examples.benchmarks.memory

Forward and backward are compiled as two programs, so what the first hands to the second is what training has to keep
in memory; the sizes are those of the compiled program's outputs.
"""

import jax
import jax.numpy as jnp
from jax import lax

import jbnn
from examples.benchmarks.resnet_layers import LAYERS

BATCH = 8


@jax.custom_vjp
def float_sign(x: jax.Array) -> jax.Array:
    """The straight-through sign as it is usually written: its backward pass keeps x."""
    return jnp.where(x < 0, -1.0, 1.0)


float_sign.defvjp(lambda x: (float_sign(x), x), lambda x, g: (jnp.where(jnp.abs(x) <= 1, g, 0.0),))


@jax.custom_vjp
def lean_float_sign(x: jax.Array) -> jax.Array:
    """The same with a Boolean mask, a byte an element, in place of x."""
    return jnp.where(x < 0, -1.0, 1.0)


lean_float_sign.defvjp(lambda x: (lean_float_sign(x), jnp.abs(x) <= 1), lambda mask, g: (jnp.where(mask, g, 0.0),))


def float_conv(sign, x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(sign(x), sign(w), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def kept_bytes(conv, x: jax.Array, w: jax.Array) -> int:
    """Bytes of the compiled forward program's outputs, the result itself left out."""
    forward = jax.jit(lambda x, w: jax.vjp(conv, x, w))
    result = jax.eval_shape(conv, x, w)
    compiled = forward.lower(x, w).compile()
    return compiled.memory_analysis().output_size_in_bytes - result.size * result.dtype.itemsize


def main() -> None:
    print(f"jax {jax.__version__}, batch {BATCH}: bytes kept for the gradient of x and w\n")
    print("layer           float32   with Boolean masks       jbnn   float32 / jbnn   masks / jbnn")
    for size, channels in LAYERS:
        x = jax.random.normal(jax.random.key(0), (BATCH, size, size, channels))
        w = jax.random.normal(jax.random.key(1), (3, 3, channels, channels))
        plain = kept_bytes(lambda x, w: float_conv(float_sign, x, w), x, w)
        lean = kept_bytes(lambda x, w: float_conv(lean_float_sign, x, w), x, w)
        ours = kept_bytes(jbnn.binary_conv, x, w)
        print(
            f"{f'{size}x{size}x{channels}':10s} {plain:12,d} {lean:20,d} {ours:10,d} {plain / ours:16.1f} "
            f"{lean / ours:14.1f}"
        )


if __name__ == "__main__":
    main()
