"""Hopper's binary tensor cores, and what None picks on a GPU, against bfloat16 of the same GPU in the same run.

    python -m examples.benchmarks.gpu [--only layers shapes dense rows network training devices] [--batches 1 32 256]

Every result is compared with a float convolution's or product's before anything is timed. Times are microseconds of
the GPU's own, added up over the kernels of a call (by JAX's profiler), kernels of layers being constants of the
program; networks and steps are timed with calls in flight, gaps between kernels included.
"""

import argparse
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jbnn
from examples.benchmarks.device_time import device_seconds, seconds_in_flight
from examples.benchmarks.resnet_layers import LAYERS
from examples.benchmarks.timing import geometric_mean
from examples.models import binarynet, birealnet18, layers
from jbnn._geometry import Geometry
from jbnn._kernels.case import SIGNS, Affine, Case
from jbnn._kernels.primitive import correlate_words
from jbnn._shapes import conv_geometry, dense_geometry

BF16 = jnp.bfloat16
TURNS = 64
CEILING = 15.6e15
"""Operations a second of binary products on Hopper, 2 a multiply-accumulate; see docs/performance.md."""


def signs(key: int, shape: tuple[int, ...]) -> jax.Array:
    return jnp.where(jax.random.bernoulli(jax.random.key(key), 0.5, shape), 1, -1).astype(BF16)


def float_conv(x: jax.Array, w: jax.Array, strides: int = 1, dilation: int = 1, **options: Any) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        (strides,) * 2,
        "SAME",
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **options,
    )


def rounded_sums(x: jax.Array, w: jax.Array, strides: int = 1, dilation: int = 1) -> jax.Array:
    """int32 (N, *S', O), image by image: a convolution through transforms is not exact, and float32 takes memory."""
    x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    one = functools.partial(float_conv, strides=strides, dilation=dilation, precision=lax.Precision.HIGHEST)
    parts = [jnp.round(one(part, w)).astype(jnp.int32) for part in jnp.array_split(x, max(x.shape[0] // 32, 1))]
    return jnp.concatenate(parts)


def check(name: str, given: jax.Array, expected: jax.Array) -> None:
    if not bool(jnp.array_equal(given, expected)):
        raise RuntimeError(f"{name} is wrong in {float(jnp.mean(given != expected)):.1%} of its elements")


def columns(times: dict[str, float], against: str) -> str:
    return " | ".join(f"{name} {1e6 * t:7.1f} {times[against] / t:5.2f}x" for name, t in times.items())


def to_bfloat16(x: jax.Array, w: Any, g: Geometry, scale: Any = None, bias: Any = None) -> jax.Array:
    """What `binary_conv` does with the words that it has packed."""
    return correlate_words(x, w, Case(g, SIGNS, SIGNS, 0, Affine(np.dtype(BF16))), (scale, bias))


def conv_times(
    batch: int, size: int, channels: int, features: int, window: int = 3, strides: int = 1, dilation: int = 1
) -> dict[str, float]:
    """Seconds of cuDNN's convolution of ±1, and of ours to words, to bfloat16, to int32, and from bfloat16 to it."""
    x, w = signs(0, (batch, size, size, channels)), signs(1, (window, window, channels, features))
    rng = np.random.default_rng(0)
    threshold = jbnn.Threshold(rng.integers(-40, 41, features).astype(np.int32), rng.random(features) < 0.5)
    scale = (2.0 ** rng.integers(-3, 3, features)).astype(np.float32)
    bias = (rng.integers(-64, 64, features) / 8).astype(np.float32)
    options = {"window_strides": strides, "rhs_dilation": dilation}
    x_words, w_words = jbnn.pack(x), np.asarray(jbnn.pack(w, axis=-2))
    packed = functools.partial(jbnn.packed_conv, w=w_words, channels=channels, **options)
    affine = functools.partial(jbnn.binary_conv, w=w_words, scale=scale, bias=bias, **options)
    g = conv_geometry(x, w, window_strides=strides, padding="SAME", rhs_dilation=dilation, feature_group_count=1)
    calls = {
        "words": (jax.jit(lambda x: packed(x, threshold=threshold)), x_words),
        "int32": (jax.jit(packed), x_words),
        "bf16": (jax.jit(lambda x: to_bfloat16(x, w_words, g, scale, bias)), x_words),
        "bf16 to bf16": (jax.jit(affine), x),
    }
    u = rounded_sums(x, w, strides, dilation)
    expected = {
        "int32": u,
        "words": jbnn.pack(jnp.where((u >= threshold.value) != threshold.flip, 1.0, -1.0)),
        "bf16": (u.astype(jnp.float32) * scale + bias).astype(BF16),
    }
    expected["bf16 to bf16"] = expected["bf16"]
    del u
    for name, (call, given) in calls.items():
        check(name, call(given), expected[name])
    expected.clear()
    # A float network scales what a convolution of ±1 gives; cuDNN does not, and so is not slowed down by it.
    floats = jax.jit(functools.partial(float_conv, strides=strides, dilation=dilation))
    times = {"cuDNN bf16": device_seconds(lambda: floats(x, w))}
    times |= {name: device_seconds(functools.partial(call, given)) for name, (call, given) in calls.items()}
    return times


def of_layers(batches: list[int]) -> None:
    for batch in batches:
        found = []
        for size, channels in LAYERS:
            times = conv_times(batch, size, channels, channels)
            share = 2 * 9 * channels**2 * size**2 * batch / times["words"] / CEILING
            print(
                f"{batch:5d} {f'{size}x{size}x{channels}':10s} {columns(times, 'cuDNN bf16')} | of ceiling {share:.0%}"
            )
            found.append(times)
        for name in list(found[0])[1:]:
            ratios = [times["cuDNN bf16"] / times[name] for times in found]
            print(f"      {name}: {geometric_mean(ratios):.2f}x geometric mean, {min(ratios):.2f}x least")


def of_shapes(batch: int = 256) -> None:
    for name, shape in {
        "stride 2": (56, 64, 128, 3, 2, 1),
        "1x1": (14, 1024, 256, 1, 1, 1),
        "1x1, 128": (28, 128, 128, 1, 1, 1),
        "5x5": (28, 128, 128, 5, 1, 1),
        "dilated": (28, 128, 128, 3, 1, 2),
        "C = 100": (28, 100, 100, 3, 1, 1),
    }.items():
        print(f"{name:10s} {columns(conv_times(batch, *shape), 'cuDNN bf16')}", flush=True)


def of_dense(rows: int = 16384, channels: int = 8192, features: int = 8192) -> None:
    x, w = signs(0, (rows, channels)), signs(1, (channels, features))
    x_words, w_words = jbnn.pack(x), jbnn.pack(w, axis=0)
    floats = jax.jit(lambda x, w: jnp.matmul(x, w, preferred_element_type=jnp.float32).astype(BF16))
    g = dense_geometry(x, w)
    calls = {
        "int32": jax.jit(lambda x, w: jbnn.packed_dense(x, w, channels=channels)),
        "bf16": jax.jit(lambda x, w: to_bfloat16(x, w, g)),
    }
    expected = jnp.matmul(x, w, preferred_element_type=jnp.float32)
    for name, call in calls.items():
        check(name, call(x_words, w_words), expected.astype(jnp.int32 if name == "int32" else BF16))
    times = {"jnp.matmul bf16": device_seconds(lambda: floats(x, w), 3)}
    times |= {name: device_seconds(lambda call=call: call(x_words, w_words), 3) for name, call in calls.items()}
    rates = ", ".join(f"{name} {2 * rows * channels * features / t / 1e15:.2f}" for name, t in times.items())
    print(f"{rows} x {channels} x {features}: {columns(times, 'jnp.matmul bf16')}; POP/s: {rates}", flush=True)


def of_rows(channels: int = 8192, features: int = 28672) -> None:
    w = signs(1, (channels, features))
    w_words = jbnn.pack(w, axis=0)
    floats = jax.jit(lambda x, w: jnp.matmul(x, w, preferred_element_type=jnp.float32).astype(BF16))
    xnor = jax.jit(lambda x, w: jbnn.packed_dense(x, w, channels=channels))
    reals = jax.jit(lambda x, w: jbnn.binary_dense(x, w, mode="binary_weights"))
    for rows in (1, 4, 16, 64):
        x = signs(rows, (rows, channels))
        x_words = jbnn.pack(x)
        expected = jnp.matmul(x, w, preferred_element_type=jnp.float32)
        check("xnor", xnor(x_words, w_words), expected.astype(jnp.int32))
        check("binary_weights", reals(x, w_words), expected.astype(BF16))
        times = {
            "jnp.matmul bf16": device_seconds(lambda x=x: floats(x, w)),
            "xnor": device_seconds(lambda x=x_words: xnor(x, w_words)),
            "binary_weights": device_seconds(lambda x=x: reals(x, w_words)),
        }
        memory = [f.lower(a, w_words).compile().memory_analysis() for f, a in ((xnor, x_words), (reals, x))]
        used = ", ".join(f"{each.temp_size_in_bytes / 1e6:.1f}" for each in memory)
        print(f"{rows:3d} rows: {columns(times, 'jnp.matmul bf16')}; temporary MB {used}", flush=True)


def of_network(batch: int = 256) -> None:
    """BinaryNet, deployed: bits from end to end, against bfloat16 convolutions of ±1."""
    params, state = jax.jit(binarynet.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    moments = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32), state)
    packed, floats = (binarynet.deploy(params, moments, packed=packed) for packed in (True, False))
    images = jnp.asarray(rng.integers(0, 256, (batch, *(32, 32, 3)), np.uint8))
    half = jax.tree.map(lambda leaf: leaf.astype(BF16) if leaf.ndim > 1 else leaf, floats[0])

    def half_layer(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
        return layers.float_layer(x.astype(BF16), kernel, **options).astype(jnp.float32)

    ours = jax.jit(lambda images: binarynet.apply(*packed, images)[0])
    theirs = jax.jit(lambda images: binarynet.apply(half, floats[1], images, binary_layer=half_layer)[0])
    exact = jax.jit(lambda images: binarynet.apply(*floats, images, binary_layer=layers.float_layer)[0])
    with jax.default_matmul_precision("highest"):
        answers = exact(images).argmax(-1)
    agree = [float(jnp.mean(each(images).argmax(-1) == answers)) for each in (ours, theirs)]
    if agree[0] < 0.99:
        raise RuntimeError(f"BinaryNet: only {agree[0]:.0%} of the answers are those of float32")
    times = {"bf16": seconds_in_flight(lambda: theirs(images)), "words": seconds_in_flight(lambda: ours(images))}
    same = "answers as in float32: words {:.1%}, bf16 {:.1%}".format(*agree)
    print(f"BinaryNet, batch {batch}: {columns(times, 'bf16')}; {same}", flush=True)


def of_training() -> None:
    """A step of gradient descent, against the same network with float convolutions of straight-through signs."""
    for name, module, batch, size in (("BinaryNet", binarynet, 256, 32), ("Bi-Real-18", birealnet18, 128, 224)):
        params, state = jax.jit(module.init)(jax.random.key(0))
        pixels = jax.random.randint(jax.random.key(1), (batch, size, size, 3), 0, 256)
        images = pixels.astype(jnp.uint8) if module is binarynet else pixels.astype(jnp.float32) / 64 - 2
        labels = jax.random.randint(jax.random.key(2), (batch,), 0, 10)
        calls = {
            each: functools.partial(training_step(module, layer), params, state, images, labels)
            for each, layer in (("floats", straight_through_layer), ("jbnn", layers.binary_layer))
        }
        losses = ", ".join(f"{float(call()[-1]):.4f}" for call in calls.values())
        times = {each: seconds_in_flight(call, 5) for each, call in calls.items()}
        print(f"{name}, batch {batch}: {columns(times, 'floats')}; losses {losses}", flush=True)


def training_step(module: ModuleType, binary_layer: Callable[..., jax.Array]) -> Callable[..., Any]:
    def loss(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        scores, state = module.apply(params, state, images, train=True, binary_layer=binary_layer)
        return -jnp.mean(jax.nn.log_softmax(scores)[jnp.arange(len(labels)), labels]), state

    @jax.jit
    def step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params, state, images, labels)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient), state, value

    return step


def straight_through_layer(
    x: jax.Array,
    kernel: jax.Array,
    *,
    mode: str = "xnor",
    window_strides: int = 1,
    scale: jax.Array | None = None,
    input_quantizer: Callable[[jax.Array], jax.Array] = jbnn.quantizers.ste_sign,
) -> jax.Array:
    """The binary layer of latent kernels in floats, with jbnn's quantizers."""
    a = x if mode == "binary_weights" else input_quantizer(x)
    b = jbnn.quantizers.ste_sign(kernel)
    y = a @ b if kernel.ndim == 2 else layers.conv(a, b, window_strides)
    return y if scale is None else y * jnp.broadcast_to(scale, y.shape)


def of_devices(batch: int = 4096) -> None:
    """The four layers one after the other on one GPU and on all, images shared out."""
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices), "n")
    for size, channels in LAYERS:
        x = jax.random.bits(jax.random.key(0), (batch, size, size, channels // 32), jnp.uint32)
        w = np.asarray(jax.random.bits(jax.random.key(1), (3, 3, channels // 32, channels), jnp.uint32))
        value = np.zeros(channels, np.int32), np.zeros(channels, bool)
        layer = functools.partial(jbnn.packed_conv, w=w, channels=channels, threshold=jbnn.Threshold(*value))
        # Many layers in one program: what it takes to start one on two devices is no part of the question.
        call = jax.jit(lambda x, layer=layer: lax.fori_loop(0, TURNS, lambda _, x: layer(x), x))
        shared = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("n")))
        check("shared", call(shared), call(x))
        if "all-gather" in call.lower(shared).compile().as_text():
            raise RuntimeError("images are gathered, and not left where they are")
        one, all_ = (seconds_in_flight(functools.partial(call, each)) / TURNS for each in (x, shared))
        print(f"{size}x{size}x{channels}: one {1e6 * one:.1f}, {len(devices)} {1e6 * all_:.1f}, {one / all_:.2f}x")


PARTS = {
    "layers": of_layers,
    "shapes": of_shapes,
    "dense": of_dense,
    "rows": of_rows,
    "network": of_network,
    "training": of_training,
    "devices": of_devices,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256, 1024], help="of the layers")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[part for part in PARTS if part != "devices"])
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; microseconds, ratio to bfloat16's")
    for part in args.only:
        print(f"\n{part}")
        PARTS[part](*([args.batches] if part == "layers" else []))


if __name__ == "__main__":
    main()
