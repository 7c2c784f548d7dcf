"""Speed of the binary convolution against XLA's own float32 convolution, in the same run.

    python -m examples.benchmarks.conv [--implementation popcount] [--path avx2] [--peers] [--more]

Four 3x3 layers of a ResNet, each 0.2312 GOP an image (2 operations a multiply-accumulate), at batch 1 and 8; with
`--more` strided, dilated, grouped, 1x1 and odd ones. Every result is compared with the float32 convolution's before
anything is timed. The ceiling is that of the instructions that the path counts with, measured on this machine just
before; taps outside the image are counted as operations, also where a kernel does not visit them.

`taskset -c 0` in front measures one core. `--path` takes instructions that this processor would not choose. `--peers`
compares with OpenVINO and PyTorch, which are to be installed beside jbnn (`examples/benchmarks/requirements.txt`).
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jbnn
from examples.benchmarks import machine
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import best_medians, geometric_mean
from jbnn import _native

MORE: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "28x28x128, stride 2": (28, 3, 128, {"window_strides": 2}),
    "28x28x128, dilation 2": (28, 3, 128, {"rhs_dilation": 2}),
    "28x28x128, 2 groups": (28, 3, 128, {"feature_group_count": 2}),
    "28x28x128, 4 groups": (28, 3, 128, {"feature_group_count": 4}),
    "28x28x128, 1x1": (28, 1, 128, {}),
    "28x28x512, 1x1": (28, 1, 512, {}),
    "28x28x100": (28, 3, 100, {}),
}
"""Rows, window and channels, and options."""


def float_conv(x: jax.Array, w: jax.Array, **options: Any) -> jax.Array:
    strides, dilation = ((options.get(name, 1),) * 2 for name in ("window_strides", "rhs_dilation"))
    numbers, groups = ("NHWC", "HWIO", "NHWC"), options.get("feature_group_count", 1)
    return lax.conv_general_dilated(
        x, w, strides, "SAME", rhs_dilation=dilation, dimension_numbers=numbers, feature_group_count=groups
    )


def draw(
    size: int, window: int, channels: int, batch: int, feature_group_count: int = 1, **_: Any
) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(size), 2)
    x = jax.random.normal(keys[0], (batch, size, size, channels))
    return x, jax.random.normal(keys[1], (window, window, channels // feature_group_count, channels))


def operations(size: int, window: int, channels: int, options: dict[str, Any]) -> float:
    rows = -(-size // options.get("window_strides", 1))
    return 2 * window**2 * channels * channels / options.get("feature_group_count", 1) * rows**2


def layer(size: int, channels: int, batch: int, implementation: str | None) -> dict[str, float]:
    """Checks and times one layer: seconds an image, and bytes."""
    x, w = draw(size, 3, channels, batch)
    x_words, w_words = jbnn.pack(x), jbnn.pack(w, axis=-2)
    x_sign, w_sign = jbnn.sign(x), jbnn.sign(w)
    threshold = jbnn.Threshold(jnp.zeros(channels, jnp.int32), jnp.zeros(channels, bool))

    floats = jax.jit(float_conv)
    packed = jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=channels, implementation=implementation))
    bits = jax.jit(
        lambda x, w: jbnn.packed_conv(x, w, channels=channels, threshold=threshold, implementation=implementation)
    )
    whole = jax.jit(lambda x: jbnn.binary_conv(x, w_words, implementation=implementation))
    latent = jax.jit(lambda x, w: jbnn.binary_conv(x, w, implementation=implementation))
    pack = jax.jit(jbnn.pack)
    copy = jax.jit(lambda x: x + 1)

    truth = np.asarray(floats(x_sign, w_sign))
    start = time.perf_counter()
    compiled = packed.lower(x_words, w_words).compile()
    compile_time = time.perf_counter() - start
    np.testing.assert_array_equal(packed(x_words, w_words), truth.astype(np.int32))
    np.testing.assert_array_equal(bits(x_words, w_words), jbnn.pack(jnp.asarray(truth)))
    np.testing.assert_array_equal(whole(x), truth)
    np.testing.assert_array_equal(latent(x, w), truth)

    names = ("float32", "packed", "bits", "whole", "latent", "pack", "x + 1")
    seconds = best_medians(
        [
            lambda: floats(x_sign, w_sign),
            lambda: packed(x_words, w_words),
            lambda: bits(x_words, w_words),
            lambda: whole(x),
            lambda: latent(x, w),
            lambda: pack(x),
            lambda: copy(x),
        ]
    )
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return dict(zip(names, (s / batch for s in seconds), strict=True)) | {
        "operations": operations(size, 3, channels, {}),
        "temporary": memory.temp_size_in_bytes / held,
        "compile": compile_time,
    }


def print_layers(implementation: str | None, ceiling: float | None) -> None:
    print(
        "batch layer        float32 | packed -> int32  ratio  TOP/s ceiling  -> words "
        "| float -> float  ratio  latent w | pack / (x+1)  temp / held  compile"
    )
    for batch in (1, 8):
        packed, whole, shares = [], [], []
        for size, channels in LAYERS:
            t = layer(size, channels, batch, implementation)
            packed.append(t["float32"] / t["packed"])
            whole.append(t["float32"] / t["whole"])
            rate = t["operations"] / t["packed"]
            shares.append(rate / ceiling if ceiling else float("nan"))
            print(
                f"{batch:5d} {f'{size}x{size}x{channels}':10s} {1e3 * t['float32']:9.3f} "
                f"| {1e3 * t['packed']:15.3f} {packed[-1]:5.1f}x {rate / 1e12:6.2f} {shares[-1]:7.0%} "
                f"{1e3 * t['bits']:9.3f} | {1e3 * t['whole']:14.3f} {whole[-1]:5.1f}x "
                f"{t['float32'] / t['latent']:8.1f}x "
                f"| {t['pack'] / t['x + 1']:12.2f} {t['temporary']:12.2f} {t['compile']:6.2f} s",
                flush=True,
            )
        print(
            f"batch {batch}, geometric mean: packed {geometric_mean(packed):.1f}x (least {min(packed):.1f}x), "
            f"{geometric_mean(shares):.0%} of the ceiling (least {min(shares):.0%}); "
            f"float to float {geometric_mean(whole):.1f}x (least {min(whole):.1f}x)"
        )


def print_more(implementation: str | None, ceiling: float | None) -> None:
    """Layers of other kinds, packed to int32, at batch 8."""
    print("\nbatch 8                 float32 | packed -> int32  ratio  TOP/s ceiling")
    for name, (size, window, channels, options) in MORE.items():
        x, w = draw(size, window, channels, 8, **options)
        groups = options.get("feature_group_count", 1)
        x_words, w_words = jbnn.pack(x, groups=groups), jbnn.pack(w, axis=-2)
        x_sign, w_sign = jbnn.sign(x), jbnn.sign(w)
        floats = jax.jit(lambda x, w, options=options: float_conv(x, w, **options))
        packed = jax.jit(
            lambda x, w, channels=channels, options=options: jbnn.packed_conv(
                x, w, channels=channels, implementation=implementation, **options
            )
        )
        np.testing.assert_array_equal(packed(x_words, w_words), floats(x_sign, w_sign))
        contenders = [
            lambda f=floats, x=x_sign, w=w_sign: f(x, w),
            lambda f=packed, x=x_words, w=w_words: f(x, w),
        ]
        theirs, ours = (seconds / 8 for seconds in best_medians(contenders))
        rate = operations(size, window, channels, options) / ours
        share = rate / ceiling if ceiling else float("nan")
        print(
            f"{name:22s} {1e3 * theirs:8.3f} | {1e3 * ours:15.3f} {theirs / ours:5.1f}x {rate / 1e12:6.2f} {share:7.0%}"
        )


def print_peers(implementation: str | None, threads: int) -> None:
    """Batch 1, from float32 to float32 with a constant kernel, and the binary operation alone."""
    from examples.benchmarks import conv_peers as peers

    print(
        "\nbatch 1      binary_conv  packed | OpenVINO   ratio    node   ratio "
        "| PyTorch float32   ratio  bfloat16   ratio"
    )
    ratios: list[list[float]] = []
    for size, channels in LAYERS:
        x, w = (jbnn.sign(array) for array in draw(size, 3, channels, 1))
        words = jbnn.pack(x), jbnn.pack(w, axis=-2)
        whole = jax.jit(lambda x, w=words[1]: jbnn.binary_conv(x, w, implementation=implementation))
        packed = jax.jit(lambda x, w, c=channels: jbnn.packed_conv(x, w, channels=c, implementation=implementation))
        numbers = np.asarray(x), np.asarray(w)
        theirs, node = peers.openvino_conv(*numbers, threads)
        np.testing.assert_array_equal(whole(x), peers.torch_reference(*numbers))
        others = [peers.torch_conv(*numbers, threads, dtype) for dtype in (peers.torch.float32, peers.torch.bfloat16)]
        contenders = [lambda f=whole, x=x: f(x), lambda f=packed, words=words: f(*words), theirs, *others]
        ours, of_words, call, float32, bfloat16 = (1e3 * s for s in best_medians(contenders))
        alone = 1e3 * node()
        ratios.append([call / ours, alone / of_words, float32 / of_words, bfloat16 / of_words])
        r = ratios[-1]
        print(
            f"{f'{size}x{size}x{channels}':12s} {ours:11.3f} {of_words:7.3f} "
            f"| {call:8.3f} {r[0]:6.2f}x {alone:7.3f} {r[1]:6.2f}x "
            f"| {float32:15.3f} {r[2]:6.1f}x {bfloat16:9.3f} {r[3]:6.1f}x",
            flush=True,
        )
    means = [geometric_mean(column) for column in zip(*ratios, strict=True)]
    print(
        f"geometric mean: {means[0]:.2f}x OpenVINO's call, packed {means[1]:.2f}x its node, "
        f"{means[2]:.1f}x PyTorch's float32, {means[3]:.1f}x its bfloat16"
    )


def deep_window_compile_time(implementation: str | None) -> float:
    x, w = jnp.zeros((1, 14, 14, 32), jnp.uint32), jnp.zeros((7, 7, 32, 1024), jnp.uint32)
    start = time.perf_counter()
    jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=1024, implementation=implementation)).lower(x, w).compile()
    return time.perf_counter() - start


def dense_rate(implementation: str | None) -> float:
    """Operations a second of 64 rows of 4096 channels to 4096."""
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.integers(0, 2**32, shape, np.uint32)) for shape in ((64, 128), (128, 4096)))
    dense = jax.jit(lambda x, w: jbnn.packed_dense(x, w, channels=4096, implementation=implementation))
    np.testing.assert_array_equal(dense(x, w), jbnn.packed_dense(x, w, channels=4096, implementation="unpacked"))
    return 2 * 64 * 4096**2 / best_medians([lambda: dense(x, w)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--implementation", default="none", help='a name; by default jbnn\'s own choice, "none"')
    parser.add_argument("--path", choices=_native.PATHS, help="of simd")
    parser.add_argument("--peers", action="store_true", help="compare with OpenVINO and PyTorch")
    parser.add_argument("--more", action="store_true", help="layers of other kinds")
    args = parser.parse_args()
    implementation = None if args.implementation == "none" else args.implementation

    with machine.taking(args.path):
        path = next(iter(_native.paths()), None)
        core = machine.ceilings().get(path or "")
        ceiling = core and core * machine.cores()
        limit = f"{ceiling / 1e12:.2f} TOP/s by {path}" if ceiling else "unknown"
        print(f"jax {jax.__version__}, {machine.description()}")
        print(f"implementation {implementation!r}, path {path}, ceiling {limit}")
        print("milliseconds an image; ratios to XLA's float32 convolution\n")
        print_layers(implementation, ceiling)
        print(f"packed_dense, 64 x 4096 x 4096: {dense_rate(implementation) / 1e12:.2f} TOP/s")
        print(f"compile time of a 7x7 window over 1024 channels: {deep_window_compile_time(implementation):.2f} s")
        if args.more:
            print_more(implementation, ceiling)
        if args.peers:
            print_peers(implementation, machine.cores())


if __name__ == "__main__":
    main()
