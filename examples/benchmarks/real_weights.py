"""Speed of real activations times ±1 kernels, from words, against the float kernel and against unpacking the words.

    python -m examples.benchmarks.real_weights [--path avx2] [--rounds 9] [--calls 3]

Dense layers of 4096 channels in and out, for 1 to 256 rows of float32 and of uint8 pixels, and four 3x3 layers of a
ResNet at batch 1 and 8. *Floats* is XLA's own product or convolution with the ±1 kernel as a float32 array, *unpacked*
makes that array of the words in each call, *words* is what jbnn chooses. Results are compared before anything is timed;
ratios are medians over the rounds of the ratio within a round.

`taskset -c 0` in front measures one core. There the last column is printed too: the cycles of the core in which *words*
does a row times 32 weights, by the clock measured just before. It is timed once more for them, without the others,
which leave little of the words in the caches: a row's milliseconds may be twice its cycles. A pixel's row is its
window, with the taps outside the image. `--path` takes instructions that this processor would not choose.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jbnn
from examples.benchmarks import machine
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import geometric_mean, medians
from jbnn import _native

ROWS = 1, 4, 16, 256
SIZE = 4096

Ratios = list[tuple[float, float]]


def float_dense(x: jax.Array, w: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) @ w


def float_conv(x: jax.Array, w: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x.astype(jnp.float32), w, (1, 1), "SAME", dimension_numbers=numbers)


def compare(
    name: str,
    x: jax.Array,
    latent: jax.Array,
    floats: Callable,
    words: Callable,
    rounds: int,
    calls: int,
    clock: float | None,
) -> tuple[float, float]:
    """Prints a line, and gives the ratios of *floats* and of *unpacked* to *words*."""
    w = jbnn.pack(latent, axis=-2)

    def from_words(implementation: str | None) -> Callable:
        return lambda x, w: words(x, w, mode="binary_weights", implementation=implementation)

    contenders = [(floats, jbnn.sign(latent)), (from_words("unpacked"), w), (from_words(None), w)]
    compiled = [jax.jit(function).lower(x, kernel).compile() for function, kernel in contenders]
    expected = compiled[0](x, contenders[0][1])
    for program in compiled[1:]:
        result = program(x, w)
        if result.dtype == jnp.int32:
            np.testing.assert_array_equal(result, expected)
        else:
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5 * latent[..., 0].size ** 0.5)
    times = medians([lambda p=p, k=k: p(x, k) for p, (_, k) in zip(compiled, contenders, strict=True)], rounds, calls)
    temporary = [program.memory_analysis().temp_size_in_bytes for program in compiled]
    ratios = [float(np.median(times[:, other] / times[:, 2])) for other in (0, 1)]
    columns = [f"{1e3 * t:9.3f} {b:12,d}" for t, b in zip(np.median(times, axis=0), temporary, strict=True)]
    cycles = ""
    if clock:
        alone = float(np.median(medians([lambda: compiled[2](x, w)], rounds, calls)))
        cycles = f" {alone * clock / (x.size / x.shape[-1] * latent.size / 32):14.2f}"
    print(f"{name:20s}" + " |".join(columns) + f" | {ratios[0]:7.2f}x {ratios[1]:8.2f}x{cycles}", flush=True)
    return ratios[0], ratios[1]


def measure(rounds: int, calls: int) -> None:
    path = next(iter(_native.paths()), None)
    clock = machine.clock() if machine.cores() == 1 else None  # of several cores it is not known which were at work
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {machine.description()}")
    print(f"path {path}" + (f", clock {clock / 1e9:.2f} GHz" if clock else ""))
    print("milliseconds a call, and temporary bytes\n")
    last = "floats / unpacked / words, cycles" if clock else "floats / unpacked / words"
    print(f"{'':20s}{'floats':>22s} |{'unpacked':>22s} |{'words':>22s} | {last}")
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.standard_normal((SIZE, SIZE), np.float32))
    found: Ratios = []
    for rows in ROWS:
        x = jnp.asarray(rng.standard_normal((rows, SIZE), np.float32))
        pixels = jnp.asarray(rng.integers(0, 256, (rows, SIZE), np.uint8))
        for image, kind in ((x, "float32"), (pixels, "uint8")):
            name = f"{rows:3d} rows, {kind}"
            found.append(compare(name, image, kernel, float_dense, jbnn.binary_dense, rounds, calls, clock))
    for batch in (1, 8):
        for size, channels in LAYERS:
            x = jnp.asarray(rng.standard_normal((batch, size, size, channels), np.float32))
            latent = jnp.asarray(rng.standard_normal((3, 3, channels, channels), np.float32))
            name = f"{batch} x {size}x{size}x{channels}"
            found.append(compare(name, x, latent, float_conv, jbnn.binary_conv, rounds, calls, clock))
    for name, ratios in zip(("floats", "unpacked"), zip(*found, strict=True), strict=True):
        print(f"\nto {name}: {geometric_mean(ratios):.2f}x geometric mean, {min(ratios):.2f}x least", end="")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", choices=_native.PATHS, help="of simd")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=3)
    args = parser.parse_args()

    with machine.taking(args.path):
        measure(args.rounds, args.calls)


if __name__ == "__main__":
    main()
