"""Runs all of jbnn on JAX's default device, compares it with the CPU, and prints a report to send to us.

    python -m examples.apple_check             every call of examples/calls
    python -m examples.apple_check --firsts    one of each function, and no times

Meant for Apple's GPU, which nobody at jbnn has run it on; docs/apple.md says how to install a plugin and where to send
the report. Bits and int32 results must equal the CPU's exactly, everything else to a thousandth of its largest value
(a hundredth in half precision). The exit code is 1 if a check fails.
"""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jbnn
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import best_medians
from examples.calls import CALLS, Call, firsts
from examples.calls.call import floats


def is_available(dtype: str) -> bool:
    try:
        jax.block_until_ready(jnp.ones(2, dtype) + jnp.ones(2, dtype))
    except Exception as error:
        print(f"{dtype} is not available on this device: {type(error).__name__}\n")
        return False
    return True


def dtypes(call: Call) -> set[str]:
    return {leaf.dtype.name for leaf in jax.tree.leaves(call.args)}


def gradient(check: Call) -> Callable:
    def total(*args: jax.Array) -> jax.Array:
        y = check.function(*args).astype(jnp.float32)
        return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()

    return jax.grad(total, check.wrt)


def difference(function: Callable, args: tuple, exact: bool) -> str | None:
    """What is wrong with the default device's results, or None."""
    function = jax.jit(function)
    here = jax.tree.leaves(function(*args))
    there = jax.tree.leaves(function(*jax.device_put(args, jax.devices("cpu")[0])))
    for ours, expected in zip(here, there, strict=True):
        if (ours.shape, ours.dtype) != (expected.shape, expected.dtype):
            return f"{ours.dtype}{ours.shape} instead of {expected.dtype}{expected.shape}"
        whole = not jnp.issubdtype(expected.dtype, jnp.floating)
        half = expected.dtype in (jnp.float16, jnp.bfloat16)
        ours, expected = (np.asarray(a).astype(np.float64) for a in (ours, expected))
        if (exact or whole) and not np.array_equal(ours, expected, equal_nan=True):
            return f"{np.sum(ours != expected)} of {ours.size} numbers differ"
        error = np.max(np.abs(ours - expected), initial=0) / max(np.max(np.abs(expected), initial=0), 1e-30)
        if not error <= (1e-2 if half else 1e-3):
            return f"off by {error:.1e} of the largest value"
    return None


def run(checks: list[Call]) -> tuple[int, int]:
    """Prints a line for each function and gradient; how many passed, and how many failed."""
    passed = failed = 0
    for check in checks:
        forms = [("", check.function, check.exact)]
        if check.wrt:
            forms.append((", gradient", gradient(check), False))
        for form, function, exact in forms:
            print(f"  {check.id + form:58}", end="", flush=True)  # first, in case that the plugin ends the process
            try:
                problem = difference(function, check.args, exact)
            except Exception as error:  # whatever a plugin raises is what the report is for
                problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
            print("ok" if problem is None else f"FAILED: {problem}", flush=True)
            passed, failed = passed + (problem is None), failed + (problem is not None)
    return passed, failed


def time_layers() -> None:
    """Milliseconds for the four layers, beside the same device's own float32 convolution."""

    @jax.jit
    def float_conv(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    packed, whole = jax.jit(jbnn.packed_conv, static_argnames="channels"), jax.jit(jbnn.binary_conv)
    print("\nmilliseconds, batch 1, 3x3      float32   packed_conv   binary_conv   packed kernel")
    for size, channels in LAYERS:
        x, w = jnp.asarray(floats(1, size, size, channels)), jnp.asarray(floats(3, 3, channels, channels))
        x_words, w_words = jbnn.pack(x), jbnn.pack(w, axis=-2)
        calls = (
            partial(float_conv, x, w),
            partial(packed, x_words, w_words, channels=channels),
            partial(whole, x, w),
            partial(whole, x, w_words),
        )
        times = "".join(f"{1e3 * t:13.3f}" for t in best_medians(calls, rounds=5, calls=5))
        print(f"  {f'{size}x{size}x{channels}':24}{times}", flush=True)


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def main() -> None:
    print("jbnn on", jax.devices()[0].device_kind, f"({jax.default_backend()}), compared with the CPU")
    print(", ".join(f"{name} {version(name)}" for name in ("jbnn", "jax", "jaxlib", "jax-metal", "jax-mps", "numpy")))
    print(f"Python {platform.python_version()}, {platform.platform()}")
    print(f"implementations: {jbnn.implementations()}\n")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firsts", action="store_true")
    only_firsts = parser.parse_args().firsts
    missing = {dtype for dtype in ("float16", "bfloat16") if not is_available(dtype)}
    passed, failed = run([call for call in (firsts() if only_firsts else CALLS) if not missing & dtypes(call)])
    try:
        if not only_firsts:
            time_layers()
    except Exception as error:
        print(f"  FAILED: {type(error).__name__}: {error}")
        failed += 1
    print(f"\n{passed} checks passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
