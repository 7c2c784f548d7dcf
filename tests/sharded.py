"""Programs on a mesh of host devices, each compared with the same program on one; prints what happened as JSON.

XLA is told the number of host devices before JAX starts, so this runs as a process of its own: `sharded.py <devices>`.
Every mesh has two axes, so that what is sharded over one is replicated over the other, where partitioners err.
"""

import contextlib
import functools
import json
import os
import re
import sys

if __name__ == "__main__":
    # What is looked at is how programs are partitioned, so LLVM may take its ease.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sys.argv[1]} --xla_backend_optimization_level=0"

import jax
import jax.numpy as jnp
import numpy as np
import oracle
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jax_versions import HAS_EXPLICIT_MESHES, shard_map

import jbnn

AXES = "batch", "model"
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def words(x, w):
    return oracle.pack(x), oracle.pack(w, axis=-2)


# Four words of channels and four of outputs, which the two devices of an axis share out whole.
X, W, DEEP = normal(8, 4, 4, 128), normal(3, 3, 128, 128), normal(5, 5, 128, 128)
VECTORS, MATRIX, TERMS = normal(8, 128), normal(128, 128), (normal(128), normal(128))
THRESHOLD = RNG.integers(-40, 40, 128, np.int32), RNG.random(128) < 0.5


def conv(x, w, scale, bias):
    return jbnn.binary_conv(x, w, scale=scale, bias=bias, beta_scaling=True)


def packed_conv(x, w, **options):
    """Of whole words; in `shard_map` a device may have some of them only."""
    return jbnn.packed_conv(x, w, channels=32 * x.shape[-1], **options)


def to_words(x, w, value, flip):
    return packed_conv(x, w, threshold=jbnn.Threshold(value, flip))


def deployed(x, w, scale, bias):
    return jbnn.binary_conv(x, w, scale=scale, bias=bias, window_strides=2, activation=jbnn.activations.relu)


def scaled(x, w):
    return jbnn.binary_conv(x, w, scale=jbnn.alpha(w), window_strides=2, pad_value=-1)


def grouped(x, w, scale, bias):
    return jbnn.binary_conv(x, w, scale=scale, bias=bias, feature_group_count=4)


def gradient(function):
    """In every argument, of a loss whose slope differs from output to output."""

    def loss(*args):
        return jnp.sum(jnp.sin(function(*args)))

    return lambda *args: jax.grad(loss, argnums=tuple(range(len(args))))(*args)


PROGRAMS = {
    "packed_conv": (packed_conv, *words(X, W)),
    "packed_conv, unpacked": (functools.partial(packed_conv, implementation="unpacked"), *words(X, W)),
    "packed_conv, 100 words": (packed_conv, *words(X, DEEP)),
    "packed_conv, to words": (to_words, *words(X, W), *THRESHOLD),
    "conv": (conv, X, W, *TERMS),
    "conv, deployed": (deployed, X, words(X, W)[1], *TERMS),
    "gradient of conv": (gradient(conv), X, W, *TERMS),
    "gradient of bare conv": (gradient(jbnn.binary_conv), X, W),
    "gradient of conv, scaled": (gradient(scaled), X, W),
    "gradient of conv, grouped": (gradient(grouped), X, W[:, :, :32], *TERMS),
    "gradient of dense": (gradient(jbnn.binary_dense), VECTORS, MATRIX),
}
CORE = "packed_conv", "conv", "gradient of conv"
LAYOUTS = "batch", "rows", "outputs", "words"


def placed(layout, x, w, *terms):
    """How the arguments are sharded: images over one axis; rows, output channels or words over the other."""
    rows, outputs, channels = ("model" if layout == name else None for name in LAYOUTS[1:])
    rest = (None,) * (x.ndim - 3)
    of_x = P("batch", rows, *rest, channels) if x.ndim > 2 else P("batch", channels)
    return of_x, P(*(None,) * (w.ndim - 2), channels, outputs), *(P(outputs) for _ in terms)


def of_result(name, layout, arguments):
    """How the results must be: a gradient as its argument, and a convolution as its images and output channels."""
    specs = placed(layout, *arguments)
    if name.startswith("gradient"):
        return specs
    return (P(*specs[0][:-1], specs[1][-1]),)


def mesh_of(kind, devices):
    if kind == "explicit":
        return jax.make_mesh((devices // 2, 2), AXES, axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    return Mesh(np.array(jax.devices()).reshape(devices // 2, 2), AXES)


def mapped(function, mesh, layout, arguments):
    """One device's part written by hand; of the words, each device sums what it has."""

    def local(*args):
        u = function(*args)
        return lax.psum(u, "model") if layout == "words" else u

    specs = placed(layout, *arguments)
    (out,) = of_result("", layout, arguments)
    return shard_map(local, mesh=mesh, in_specs=specs, out_specs=out)


MAPPED = {
    "packed_conv": (packed_conv, *words(X, W)),
    "packed_conv, 100 words": (packed_conv, *words(X, DEEP)),
    "gradient of bare conv": (jbnn.binary_conv, X, W),
}


def cases(devices):
    """What runs on so many devices: (kind of mesh, program, layout)."""
    names = PROGRAMS if devices == 4 else CORE
    kinds = ["auto", "explicit"] if HAS_EXPLICIT_MESHES else ["auto"]
    partitioned = [(kind, name, layout) for kind in kinds for name in names for layout in LAYOUTS]
    by_hand = [("shard_map", name, layout) for name in MAPPED for layout in LAYOUTS if name in names]
    return [case for case in partitioned + by_hand if _has_sense(*case)]


def _has_sense(kind, name, layout):
    if layout == "rows":
        return kind != "shard_map" and name in CORE
    if "grouped" in name:  # shared outputs are shared groups: the images' gradient is then gathered
        return layout == "batch"
    if "bare" in name:
        return kind == "shard_map"
    if kind == "explicit":  # what JAX decides from types, it decides alike for programs of the same operations
        return name in CORE or (layout != "words" and name not in ("conv, deployed", "gradient of conv, scaled"))
    return True


@functools.cache
def on_one_device(name):
    function, *arguments = PROGRAMS[name]
    return jax.tree.leaves(jax.jit(function)(*arguments))


def agree(results, expected):
    for y, e in zip(results, expected, strict=True):
        if np.issubdtype(e.dtype, np.integer):
            np.testing.assert_array_equal(y, e)
        else:
            np.testing.assert_allclose(y, e, rtol=1e-5, atol=1e-5 * np.abs(e).max())


def collectives(text):
    """Every collective of a compiled program, as "op type" for each of its results on one device."""
    ops = "all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|ragged-all-to-all|reduce-scatter"
    found = re.findall(rf"= (.*?) ({ops})(?:-start)?\(", text)
    return sorted({f"{op} {type_}" for types, op in found for type_ in re.findall(r"\w+\[[\d,]*\]", types)})


def run(kind, name, layout, devices):
    report = {"refused": None, "disagreement": None, "misplaced": [], "collectives": []}
    mesh = mesh_of(kind, devices)
    function, *arguments = (MAPPED if kind == "shard_map" else PROGRAMS)[name]
    with jax.set_mesh(mesh) if kind == "explicit" else contextlib.nullcontext():
        specs = placed(layout, *arguments)
        shards = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arguments, specs, strict=True)]
        if kind == "shard_map":
            function = mapped(function, mesh, layout, arguments)
            function = gradient(function) if name.startswith("gradient") else function
        try:
            compiled = jax.jit(function).lower(*shards).compile()
        except Exception as error:  # what JAX refuses is part of the report
            return report | {"refused": f"{type(error).__name__}: {error}"}
        results = jax.tree.leaves(compiled(*shards))
    report["collectives"] = collectives(compiled.as_text())
    wanted = [NamedSharding(mesh, spec) for spec in of_result(name, layout, arguments)]
    report["misplaced"] = [
        f"{y.sharding.spec} and not {w.spec}"
        for y, w in zip(results, wanted, strict=True)
        if not y.sharding.is_equivalent_to(w, y.ndim)
    ]
    try:
        agree(results, on_one_device(name))
    except AssertionError as error:
        report["disagreement"] = str(error)
    return report


OUTPUTS = 8, 32, 40, 96
"""Output channels of which two devices have no whole words each."""


def uneven(devices):
    """On a mesh of explicit axes: shares that are no whole words, and rows that devices divide only before padding.

    The error of each program, or what it disagrees in, or None. `lax` takes the same shardings.
    """
    mesh = mesh_of("explicit", devices)
    both = P("batch", None, None, None), P(None, None, None, "model")
    rows = P(None, ("batch", "model")), P()
    image = X.reshape(1, 8, 16, 128)
    programs = {}
    for outputs in OUTPUTS:
        w = W[..., :outputs]
        value, flip = (jnp.asarray(term[:outputs]) for term in THRESHOLD)
        programs |= {
            f"gradient, {outputs} outputs": (gradient(jbnn.binary_conv), both, X, w),
            f"ste_sign, {outputs} outputs": (gradient(jbnn.quantizers.ste_sign), both[1:], w),
            f"to words, {outputs} outputs": (functools.partial(to_words, value=value, flip=flip), both, *words(X, w)),
        }
    programs |= {
        "rows": (jbnn.binary_conv, rows, image, W),
        "gradient of rows": (gradient(jbnn.binary_conv), rows, image, W),
        "rows, pooled": (pooled, rows[:1], oracle.pack(image)),
    }
    reports = {}
    for name, (function, specs, *arguments) in programs.items():
        expected = jax.tree.leaves(jax.jit(function)(*arguments))
        try:
            with jax.set_mesh(mesh):
                shards = [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(arguments, specs, strict=True)]
                agree(jax.tree.leaves(jax.jit(function)(*shards)), expected)
            reports[name] = None
        except Exception as error:
            reports[name] = f"{type(error).__name__}: {error}"
    return reports


def pooled(x):
    return jbnn.packed_max_pool(x, 3, window_strides=1, padding="SAME")


def excess_of_xla(devices):
    """How much too large JAX's own gradient is, in the kernel of its own convolution of rows that an axis shares."""

    def loss(x, w):
        return jnp.sum(lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) ** 2)

    mesh = mesh_of("auto", devices)
    rows, whole = (NamedSharding(mesh, spec) for spec in (P(None, "model"), P()))
    slope = jax.jit(jax.grad(loss, argnums=1))
    sharded, alone = slope(jax.device_put(X, rows), jax.device_put(W, whole)), slope(X, W)
    return float(np.vdot(sharded, alone) / np.vdot(alone, alone))


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    count = int(sys.argv[1])
    assert jax.device_count() == count
    reports = {" | ".join(case): run(*case, count) for case in cases(count)}
    uneven_shares = uneven(count) if HAS_EXPLICIT_MESHES and count == 4 else {}
    print(json.dumps({"cases": reports, "uneven": uneven_shares, "excess of XLA": excess_of_xla(count)}))
