"""Speed of the binary convolution against XLA's own float32 convolution, in the same run.

    python -m examples.benchmarks.conv [--implementation popcount] [--ceiling TOPS]

Four 3x3 layers of a ResNet, each 0.2312 GOP an image (2 operations a multiply-accumulate), at batch 1 and 8. Every
result is compared with the float32 convolution's before anything is timed.
"""

import argparse
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jbnn
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import best_medians, geometric_mean

# xor, popcount and add on registers: 1.5 cycles for 512 bits on one core of AMD's Zen 4 with VPOPCNTDQ at 3.6 GHz.
ZEN4_CORE = 2.48


@jax.jit
def float_conv(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def layer(size: int, channels: int, batch: int, implementation: str | None) -> dict[str, float]:
    """Checks and times one layer: seconds an image, and bytes."""
    keys = jax.random.split(jax.random.key(size), 2)
    x = jax.random.normal(keys[0], (batch, size, size, channels))
    w = jax.random.normal(keys[1], (3, 3, channels, channels))
    x_words, w_words = jbnn.pack(x), jbnn.pack(w, axis=-2)
    x_sign, w_sign = jbnn.sign(x), jbnn.sign(w)

    packed = jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=channels, implementation=implementation))
    whole = jax.jit(lambda x, w: jbnn.binary_conv(x, w, implementation=implementation))
    pack = jax.jit(jbnn.pack)
    copy = jax.jit(lambda x: x + 1)

    truth = np.asarray(float_conv(x_sign, w_sign))
    start = time.perf_counter()
    compiled = packed.lower(x_words, w_words).compile()
    compile_time = time.perf_counter() - start
    np.testing.assert_array_equal(packed(x_words, w_words), truth.astype(np.int32))
    np.testing.assert_array_equal(whole(x, w_words), truth)
    np.testing.assert_array_equal(whole(x, w), truth)

    names = ("float32", "packed", "binary_conv", "latent", "pack", "x + 1")
    seconds = best_medians(
        [
            lambda: float_conv(x_sign, w_sign),
            lambda: packed(x_words, w_words),
            lambda: whole(x, w_words),
            lambda: whole(x, w),
            lambda: pack(x),
            lambda: copy(x),
        ]
    )
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return dict(zip(names, (s / batch for s in seconds), strict=True)) | {
        "operations": 2 * 9 * channels * channels * size * size,
        "temporary": memory.temp_size_in_bytes / held,
        "compile": compile_time,
    }


def deep_window_compile_time(implementation: str | None) -> float:
    x, w = jnp.zeros((1, 14, 14, 32), jnp.uint32), jnp.zeros((7, 7, 32, 1024), jnp.uint32)
    start = time.perf_counter()
    jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=1024, implementation=implementation)).lower(x, w).compile()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--implementation", default="popcount", help='a name, or "none" for jbnn\'s own choice')
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--ceiling", type=float, default=ZEN4_CORE * cores, help="TOP/s of the machine")
    args = parser.parse_args()
    implementation = None if args.implementation == "none" else args.implementation

    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind}, {cores} cores, implementation {implementation!r}")
    print(f"milliseconds an image; ratios to XLA's float32 convolution; ceiling {args.ceiling:.2f} TOP/s\n")
    print(
        "batch layer        float32 | packed -> int32  ratio  TOP/s ceiling | float -> float  ratio  latent w "
        "| pack / (x+1)  temp / held  compile"
    )
    packed_ratios, whole_ratios = [], []
    for batch in (1, 8):
        for size, channels in LAYERS:
            t = layer(size, channels, batch, implementation)
            packed_ratios.append(t["float32"] / t["packed"])
            whole_ratios.append(t["float32"] / t["binary_conv"])
            rate = t["operations"] / t["packed"] / 1e12
            print(
                f"{batch:5d} {f'{size}x{size}x{channels}':10s} {1e3 * t['float32']:9.3f} "
                f"| {1e3 * t['packed']:15.3f} {packed_ratios[-1]:5.1f}x {rate:6.2f} {rate / args.ceiling:7.0%} "
                f"| {1e3 * t['binary_conv']:14.3f} {whole_ratios[-1]:5.1f}x {t['float32'] / t['latent']:8.1f}x "
                f"| {t['pack'] / t['x + 1']:12.2f} {t['temporary']:12.2f} {t['compile']:6.2f} s",
                flush=True,
            )
    print(f"\npacked -> int32: {geometric_mean(packed_ratios):.1f}x geometric mean, {min(packed_ratios):.1f}x least")
    print(f"float -> float:  {geometric_mean(whole_ratios):.1f}x geometric mean, {min(whole_ratios):.1f}x least")
    print(f"compile time of a 7x7 window over 1024 channels: {deep_window_compile_time(implementation):.2f} s")


if __name__ == "__main__":
    main()
