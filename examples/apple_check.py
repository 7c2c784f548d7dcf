"""Runs all of jbnn on JAX's default device, compares it with the CPU, and prints a report to send to us.

    python -m examples.apple_check

Meant for Apple's GPU, which nobody at jbnn has run it on; docs/apple.md says how to install a plugin and where to send
the report. Bits and int32 results must equal the CPU's exactly, everything else to a thousandth of its largest value
(a hundredth in half precision). The exit code is 1 if a check fails.
"""

import importlib.metadata
import itertools
import platform
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jbnn
from examples.benchmarks.timing import best_medians
from jbnn import activations, convolution, interchange, quantizers

LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512))
NOT_A_COMPUTATION = {"implementations", "convolution.ConvGradient"}
PARAMETERS = {"linear": {"a": 2.0, "b": 1.0}, "relun": {"a": 0.1}, "power": {"a": 2.0, "b": 3.0, "c": 2.0}}

RNG = np.random.default_rng(0)


class Check(NamedTuple):
    """A function of arrays; its name begins with a public name. Gradients are taken in the first `wrt` arguments."""

    name: str
    function: Callable
    args: tuple
    wrt: int = 0
    exact: bool = True


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(jnp.dtype(dtype))


def words(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2**32, shape, np.uint32)


def corners(dtype: str) -> np.ndarray:
    """Numbers whose sign is a decision: zeros, NaN, infinities and subnormals among ordinary ones."""
    tiny = float(jnp.finfo(dtype).tiny) / 4
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, tiny, -tiny]
    return np.concatenate([np.array(special * 3, jnp.dtype(dtype)), normal(45, dtype=dtype)]).reshape(2, 33)


def bit_checks(dtypes: list[str]) -> Iterator[Check]:
    for dtype in dtypes:
        yield Check(f"sign, {dtype}", jbnn.sign, (corners(dtype),))
        yield Check(f"pack, {dtype}", jbnn.pack, (corners(dtype),))
        yield Check(f"unpack, {dtype}", lambda w, d=dtype: jbnn.unpack(w, 33, dtype=d), (words(2, 2),))
    yield Check("pack, kernel", partial(jbnn.pack, axis=-2), (normal(3, 3, 33, 5),))
    yield Check("pack, groups", partial(jbnn.pack, groups=3), (normal(2, 99),))
    for dtype in ("uint8", "uint16", "uint32"):
        yield Check(f"population_count, {dtype}", jbnn.population_count, (words(40).astype(dtype),))


def operator_checks(dtypes: list[str]) -> Iterator[Check]:
    terms = normal(33), normal(33), normal(6), normal(6)
    x, w = normal(2, 6, 5, 33), normal(3, 3, 33, 6)

    def with_terms(function: Callable) -> Callable:
        names = "input_bias", "input_scale", "scale", "bias"
        return lambda x, w, *terms: function(x, w, beta_scaling=True, **dict(zip(names, terms, strict=True)))

    x_words, w_words = words(2, 6, 5, 2), words(3, 3, 2, 6)
    for mode, implementation in itertools.product(("xnor", "and"), ("popcount", "unpacked")):
        options, note = {"mode": mode, "channels": 33, "implementation": implementation}, f"{mode}, {implementation}"
        yield Check(f"packed_conv, {note}", partial(jbnn.packed_conv, **options), (x_words, w_words))
        yield Check(f"packed_dense, {note}", partial(jbnn.packed_dense, **options), (words(7, 2), words(2, 6)))
    yield Check("packed_conv, deep", jbnn.packed_conv, (words(1, 6, 7, 13), words(3, 4, 13, 5)))
    yield Check("packed_conv, 1-D", jbnn.packed_conv, (words(2, 9, 3), words(3, 3, 4)))
    yield Check("packed_conv, 3-D", jbnn.packed_conv, (words(1, 3, 4, 5, 2), words(2, 3, 1, 2, 4)))
    for dtype in dtypes:
        arrays = x.astype(jnp.dtype(dtype)), w.astype(jnp.dtype(dtype))
        yield Check(f"binary_conv, {dtype}", jbnn.binary_conv, arrays, 2)
    strided = {"pad_value": -1, "window_strides": 2, "rhs_dilation": 2}
    yield Check("binary_conv, pad_value -1, strided", partial(jbnn.binary_conv, **strided), (x, w), 2)
    grouped = normal(2, 6, 5, 66), normal(3, 3, 33, 4)
    yield Check("binary_conv, groups", partial(jbnn.binary_conv, feature_group_count=2), grouped, 2)
    yield Check("binary_conv, and", partial(jbnn.binary_conv, mode="and"), (x, w), 2)
    yield Check("binary_conv, packed kernel", jbnn.binary_conv, (x, w_words), 1)
    yield Check("binary_conv, terms, beta", with_terms(jbnn.binary_conv), (x, w, *terms), 6, exact=False)
    weights = partial(jbnn.binary_conv, mode="binary_weights")
    yield Check("binary_conv, binary_weights", weights, (x, w), 2, exact=False)
    transposed = partial(jbnn.binary_conv_transpose, window_strides=2)
    yield Check("binary_conv_transpose", transposed, (x, w), 2)
    yield Check("binary_dense", jbnn.binary_dense, (normal(7, 33), normal(33, 6)), 2)
    dense = normal(7, 33), normal(33, 6), *terms
    yield Check("binary_dense, terms, beta", with_terms(jbnn.binary_dense), dense, 6, exact=False)
    yield Check("alpha", jbnn.alpha, (w,), 1, exact=False)


def convolution_checks() -> Iterator[Check]:
    x, w, table = normal(2, 6, 5, 8), normal(3, 3, 8, 6), normal(256)
    g, bytes_ = normal(2, 6, 5, 6), RNG.integers(0, 256, w.shape, np.uint8)

    def check(name: str, *args: np.ndarray, wrt: int = 0, note: str = "", exact: bool = False, **options) -> Check:
        function = partial(getattr(convolution, name), **options)
        return Check(f"convolution.{name}{note and f', {note}'}", function, args, wrt, exact)

    for mode in "zero", "clamp", "mirror", "mirror_with_edge":
        yield check("conv", x, w, wrt=2, note=mode, edge_mode=mode, window_strides=2)
    yield check("conv", x, w[:, :, :4], wrt=2, note="groups", feature_group_count=2)
    yield check("depthwise_conv", x, w, wrt=2)
    yield check("conv_transpose", x, w, wrt=2, window_strides=2, output_size=(13, 11))
    yield check("dense", x, w[0, 0], wrt=2)
    yield check("conv_gradient", x, w, g)
    yield check("conv_gradient", x, w, normal(2, 12, 10, 6), note="transposed", transposed=True, window_strides=2)
    yield check("dense_gradient", x, w[0, 0], g)
    yield check("binary_conv_gradient", x, w, g, beta_scaling=True)
    yield check("cross_channel_normalization", x, wrt=1)
    yield check("dequantize_linear", bytes_, -g[0, 0, 0], g[0, 0, 0])
    yield check("dequantize_lookup", bytes_, table)
    yield check("depth_to_space", x, wrt=1, exact=True, block=2)
    yield check("space_to_depth", x, wrt=1, exact=True, block=(2, 5))
    yield check("transpose_kernel", w, wrt=1, exact=True)


def interchange_checks() -> Iterator[Check]:
    w, data = words(3, 3, 2, 5), RNG.integers(0, 256, 99, np.uint8)
    yield Check("interchange.to_larq", partial(interchange.to_larq, channels=33), (w,))
    yield Check("interchange.from_larq", partial(interchange.from_larq, channels=150), (w.view(np.int32),))
    yield Check("interchange.to_openvino", partial(interchange.to_openvino, channels=33), (w,))
    yield Check("interchange.from_openvino", partial(interchange.from_openvino, shape=(6, 11, 4, 3)), (data,))


def elementwise_checks() -> Iterator[Check]:
    for name in quantizers.__all__:
        yield Check(f"quantizers.{name}", getattr(quantizers, name), (normal(7, 33),), 1, exact=False)
    for name in activations.__all__:
        function = partial(getattr(activations, name), **PARAMETERS.get(name, {}))
        x = abs(normal(7, 33)) + np.float32(0.125) if name == "logarithm" else normal(7, 33)
        args = (x, normal(33)) if name == "prelu" else (x,)
        yield Check(f"activations.{name}", function, args, len(args), exact=False)


def is_available(dtype: str) -> bool:
    try:
        jax.block_until_ready(jnp.ones(2, dtype) + jnp.ones(2, dtype))
    except Exception as error:
        print(f"{dtype} is not available on this device: {type(error).__name__}\n")
        return False
    return True


def public_names(module: types.ModuleType = jbnn, prefix: str = "") -> Iterator[str]:
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, types.ModuleType):
            yield from public_names(thing, f"{prefix}{name}.")
        elif prefix + name not in NOT_A_COMPUTATION:
            yield prefix + name


def gradient(check: Check) -> Callable:
    def total(*args: jax.Array) -> jax.Array:
        y = check.function(*args).astype(jnp.float32)
        return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()

    return jax.grad(total, tuple(range(check.wrt)))


def difference(function: Callable, args: tuple, exact: bool) -> str | None:
    """What is wrong with the default device's results, or None."""
    function = jax.jit(function)
    here = jax.tree.leaves(function(*args))
    there = jax.tree.leaves(function(*jax.device_put(args, jax.devices("cpu")[0])))
    for ours, expected in zip(here, there, strict=True):
        if (ours.shape, ours.dtype) != (expected.shape, expected.dtype):
            return f"{ours.dtype}{ours.shape} instead of {expected.dtype}{expected.shape}"
        half = expected.dtype in (jnp.float16, jnp.bfloat16)
        ours, expected = (np.asarray(a).astype(np.float64) for a in (ours, expected))
        if exact and not np.array_equal(ours, expected):
            return f"{np.sum(ours != expected)} of {ours.size} numbers differ"
        error = np.max(np.abs(ours - expected), initial=0) / max(np.max(np.abs(expected), initial=0), 1e-30)
        if not error <= (1e-2 if half else 1e-3):
            return f"off by {error:.1e} of the largest value"
    return None


def run(checks: list[Check]) -> tuple[int, int]:
    """Prints a line for each function and gradient; how many passed, and how many failed."""
    passed = failed = 0
    for check in checks:
        forms = [("", check.function, check.exact)]
        if check.wrt:
            forms.append((", gradient", gradient(check), False))
        for form, function, exact in forms:
            print(f"  {check.name + form:52}", end="", flush=True)  # first, in case that the plugin ends the process
            try:
                problem = difference(function, check.args, exact)
            except Exception as error:  # whatever a plugin raises is what the report is for
                problem = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
            print("ok" if problem is None else f"FAILED: {problem}", flush=True)
            passed, failed = passed + (problem is None), failed + (problem is not None)
    return passed, failed


def time_layers() -> None:
    """Milliseconds for the four layers, beside the same device's own float32 convolution."""

    @jax.jit
    def float_conv(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    packed, whole = jax.jit(jbnn.packed_conv), jax.jit(jbnn.binary_conv)
    print("\nmilliseconds, batch 1, 3x3      float32   packed_conv   binary_conv   packed kernel")
    for size, channels in LAYERS:
        x, w = jnp.asarray(normal(1, size, size, channels)), jnp.asarray(normal(3, 3, channels, channels))
        x_words, w_words = jbnn.pack(x), jbnn.pack(w, axis=-2)
        calls = (
            partial(float_conv, x, w),
            partial(packed, x_words, w_words),
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
    dtypes = ["float32", *filter(is_available, ("float16", "bfloat16"))]
    checks = [
        *bit_checks(dtypes),
        *operator_checks(dtypes),
        *convolution_checks(),
        *interchange_checks(),
        *elementwise_checks(),
    ]
    passed, failed = run(checks)
    unchecked = set(public_names()) - {check.name.split(",")[0] for check in checks}
    for name in sorted(unchecked):
        print(f"  {name:52}FAILED: this program does not know it")
    failed += len(unchecked)
    try:
        time_layers()
    except Exception as error:
        print(f"  FAILED: {type(error).__name__}: {error}")
        failed += 1
    print(f"\n{passed} checks passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
