"""Speed of a binary layer that gives the next layer's words, against the affine and sign that its threshold replaces.

    python -m examples.benchmarks.thresholds [--implementation popcount]

Four 3x3 layers of a ResNet, words in and words out, at batch 1 and 8. Each side is one compiled program, and their
words are compared before anything is timed.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jbnn
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import best_medians, geometric_mean


def layer(size: int, channels: int, batch: int, implementation: str | None) -> list[float]:
    """Seconds an image: to int32, to words by a threshold, and to words by floats."""
    keys = jax.random.split(jax.random.key(size), 4)
    x = jbnn.pack(jax.random.normal(keys[0], (batch, size, size, channels)))
    w = jbnn.pack(jax.random.normal(keys[1], (3, 3, channels, channels)), axis=-2)
    scale = jax.random.normal(keys[2], (channels,))
    # Halves keep the affine away from 0, where XLA may round it otherwise than NumPy does.
    bias = scale * (jnp.round(jax.random.normal(keys[3], (channels,)) * channels**0.5) + 0.5)
    threshold = jbnn.sign_threshold(scale, bias)

    @jax.jit
    def to_int32(x, w):
        return jbnn.packed_conv(x, w, channels=channels, implementation=implementation)

    @jax.jit
    def to_words(x, w, threshold):
        return jbnn.packed_conv(x, w, channels=channels, threshold=threshold, implementation=implementation)

    @jax.jit
    def through_floats(x, w, scale, bias):
        return jbnn.pack(to_int32(x, w).astype(jnp.float32) * scale + bias)

    np.testing.assert_array_equal(to_words(x, w, threshold), through_floats(x, w, scale, bias))
    seconds = best_medians(
        [lambda: to_int32(x, w), lambda: to_words(x, w, threshold), lambda: through_floats(x, w, scale, bias)]
    )
    return [s / batch for s in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--implementation", default="popcount", help='a name, or "none" for jbnn\'s own choice')
    args = parser.parse_args()
    implementation = None if args.implementation == "none" else args.implementation

    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, implementation {implementation!r}")
    print("milliseconds an image\n")
    print("batch layer      to int32 | to words  through floats  ratio")
    ratios = []
    for batch in (1, 8):
        for size, channels in LAYERS:
            plain, words, floats = (1e3 * s for s in layer(size, channels, batch, implementation))
            ratios.append(floats / words)
            name = f"{size}x{size}x{channels}"
            print(f"{batch:5d} {name:9s} {plain:9.3f} | {words:8.3f} {floats:15.3f} {ratios[-1]:5.2f}x", flush=True)
    print(f"\n{geometric_mean(ratios):.2f}x geometric mean, {min(ratios):.2f}x least")


if __name__ == "__main__":
    main()
