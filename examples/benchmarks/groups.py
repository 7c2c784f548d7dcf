"""Speed of grouped float convolutions, which a product for each tap computes, against XLA's own grouped convolution.

    python -m examples.benchmarks.groups

The layers are those that the gradient of a grouped binary convolution is taken through: 28x28 pixels, 128 channels, 3x3
windows, batch 8. Results and gradients are compared before anything is timed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from examples.benchmarks.timing import best_medians
from jbnn.convolution import conv

GROUPS = 2, 8, 32, 128
SIZE, CHANNELS, BATCH = 28, 128, 8


def xla(x: jax.Array, w: jax.Array, feature_group_count: int) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=feature_group_count
    )


def main() -> None:
    x = jax.random.normal(jax.random.key(0), (BATCH, SIZE, SIZE, CHANNELS))
    g = jax.random.normal(jax.random.key(1), x.shape)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; milliseconds a call\n")
    print("groups  forward: XLA     jbnn   ratio | gradient in x and w: XLA     jbnn   ratio")
    for groups in GROUPS:
        w = jax.random.normal(jax.random.key(2), (3, 3, CHANNELS // groups, CHANNELS))
        calls = []
        for function in (xla, conv):
            forward = functools.partial(function, feature_group_count=groups)
            calls.append(functools.partial(jax.jit(forward), x, w))
            calls.append(functools.partial(jax.jit(lambda x, w, g, f=forward: jax.vjp(f, x, w)[1](g)), x, w, g))
        theirs, ours = (jax.tree.leaves((f(), b())) for f, b in (calls[:2], calls[2:]))
        for expected, result in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * float(jnp.abs(expected).max()))
        f0, b0, f1, b1 = (1e3 * t for t in best_medians(calls, rounds=3, calls=3))
        print(f"{groups:6d} {f0:13.2f} {f1:8.2f} {f0 / f1:6.1f}x | {b0:24.1f} {b1:8.1f} {b0 / b1:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
