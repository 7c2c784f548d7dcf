"""Speed of `pack` by native code, of XLA's own loop, and of `x + 1`, in the same run.

    taskset -c 0 python -m examples.benchmarks.pack

The images of a ResNet's layers, at batch 1 and 8. The contenders take turns; times and ratios are medians over the
rounds, ratios within a round, in brackets the first and the last tenth of them. Some 20 microseconds of a call on one
core are its launch.
"""

from unittest import mock

import jax
import numpy as np

import jbnn
from examples.benchmarks import machine
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import medians
from jbnn import _native


def lowered(x: jax.Array) -> jax.stages.Lowered:
    jax.clear_caches()  # or the choice of an earlier lowering stays
    return jax.jit(lambda x: jbnn.pack(x)).lower(x)


def spread(ratios: np.ndarray) -> str:
    return "{1:5.2f} ({0:.2f} to {2:.2f})".format(*np.quantile(ratios, (0.1, 0.5, 0.9)))


def main() -> None:
    print(f"jax {jax.__version__}, {machine.description()}; microseconds a call\n")
    print("image              native  XLA's  x + 1 | native / (x + 1)      | XLA's / native")
    for batch in (1, 8):
        for size, channels in LAYERS:
            x = jax.random.normal(jax.random.key(size), (batch, size, size, channels))
            native = lowered(x)
            with mock.patch.object(_native, "why_not", lambda: "not wanted"):
                loop = lowered(x)
            if "custom_call" not in native.as_text() or "custom_call" in loop.as_text():
                raise SystemExit("there is no native code here to compare with")
            programs = native.compile(), loop.compile(), jax.jit(lambda x: x + 1).lower(x).compile()
            np.testing.assert_array_equal(programs[0](x), programs[1](x))
            seconds = medians([lambda p=p, x=x: p(x) for p in programs], 31, 31)
            times = " ".join(f"{1e6 * s:6.0f}" for s in np.median(seconds, axis=0))
            ours, theirs = spread(seconds[:, 0] / seconds[:, 2]), spread(seconds[:, 1] / seconds[:, 0])
            print(f"{f'{batch} x {size}x{size}x{channels}':18s} {times} | {ours:21s} | {theirs}", flush=True)


if __name__ == "__main__":
    main()
