"""Speed of the portable kernels on a GPU, against its own bfloat16 convolution, in the same run.

    python -m examples.benchmarks.gpu [--batches 1 32 256] [--ceiling TFLOPS]

Four 3x3 layers of a ResNet, each 0.2312 GOP an image (2 operations a multiply-accumulate), from words to int32.
A call is timed with others in flight, as in a program: what Python needs to start one is not waited for. Every result
is compared with the float32 convolution's before anything is timed.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jbnn
from examples.benchmarks.conv import float_conv
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import geometric_mean

H200_BF16 = 989.0
"""TFLOP/s of dense bfloat16 products, by NVIDIA's data sheet."""


def seconds_in_flight(call: Callable[[], jax.Array], calls: int = 200, rounds: int = 7) -> float:
    """Of one call among many, the median over rounds."""
    jax.block_until_ready(call())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready([call() for _ in range(calls)])
        times.append((time.perf_counter() - start) / calls)
    return float(np.median(times))


def layer(size: int, channels: int, batch: int) -> dict[str, float]:
    """Checks and times one layer: seconds a call."""
    keys = jax.random.split(jax.random.key(size), 2)
    x = jbnn.sign(jax.random.normal(keys[0], (batch, size, size, channels)))
    w = jbnn.sign(jax.random.normal(keys[1], (3, 3, channels, channels)))
    x_words, w_words = jbnn.pack(x), jbnn.pack(w, axis=-2)
    x_half, w_half = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    truth = np.rint(np.asarray(float_conv(x, w))).astype(np.int32)

    calls = {"bfloat16": lambda: float_conv(x_half, w_half)}
    for name in ("popcount", "unpacked", None):
        packed = jax.jit(lambda x, w, name=name: jbnn.packed_conv(x, w, channels=channels, implementation=name))
        np.testing.assert_array_equal(packed(x_words, w_words), truth)
        calls[str(name)] = lambda packed=packed: packed(x_words, w_words)
    return {name: seconds_in_flight(call) for name, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--ceiling", type=float, default=H200_BF16, help="TFLOP/s of bfloat16")
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; microseconds a call, ratio to bfloat16's\n")
    print("batch layer      bfloat16  of ceiling |  popcount  ratio |  unpacked  ratio |      None  ratio")
    ratios = []
    for batch in args.batches:
        for size, channels in LAYERS:
            t = layer(size, channels, batch)
            floats = t.pop("bfloat16")
            ratios.append(floats / t["None"])
            share = 2 * 9 * channels**2 * size**2 * batch / floats / (1e12 * args.ceiling)
            columns = [f"{1e6 * seconds:9.1f} {floats / seconds:5.2f}x" for seconds in t.values()]
            shape = f"{size}x{size}x{channels}"
            print(f"{batch:5d} {shape:10s} {1e6 * floats:8.1f} {share:10.1%} | " + " | ".join(columns))
    print(f"\nNone against bfloat16: {geometric_mean(ratios):.2f}x geometric mean, {min(ratios):.2f}x least")


if __name__ == "__main__":
    main()
