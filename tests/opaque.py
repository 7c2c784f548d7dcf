"""An opaque stand-in for a native kernel, and float convolutions, on a mesh of 2 x 2 host devices; prints JSON.

The stand-in counts bits as "popcount" does and sends its sums through LAPACK's triangular solve of the identity, a
custom call into which XLA cannot look.
"""

import contextlib
import dataclasses
import json
import os
import re
import types

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jax_versions import HAS_EXPLICIT_MESHES, shard_map

import jbnn
from jbnn._kernels import choose, popcount

LAYOUTS = {"batch": ("a", None), "outputs": (None, "b"), "both": ("a", "b")}
RESULTS = "sums", "affine", "words", "gradient"
KINDS = ["auto", "shard_map"] + (["explicit"] if HAS_EXPLICIT_MESHES else [])
CASES = [(kind, result, layout) for kind in KINDS for result in RESULTS for layout in LAYOUTS]
CASES = [case for case in CASES if case[0] != "shard_map" or case[1] != "gradient"]

FLOATS = "unpacked", "binary_weights", "convolution", "kernel's gradient", "image's gradient"
LAYOUTS_OF_FLOATS = {
    "rows and outputs": (P(None, "a"), P(None, None, None, "b")),
    "rows": (P(None, "a"), P()),
    "images and rows": (P("b", "a"), P(None, None, None, "b")),
    "batch": (P("a"), P()),
}
RNG = np.random.default_rng(0)
X, W = (RNG.standard_normal(shape).astype(np.float32) for shape in ((4, 8, 8, 40), (3, 3, 40, 64)))
TERMS = RNG.standard_normal(64).astype(np.float32)
VALUE, FLIP = RNG.integers(-40, 40, 64).astype(np.int32), RNG.random(64) < 0.5
SEEN = []


def conv(x, w, case, terms):
    """What the kernel was asked on one device."""
    assert case.images == x.shape[0]
    SEEN.append([x.shape[0], w.shape[-1], case.geometry.features, *(term.shape[0] for term in jax.tree.leaves(terms))])
    u = popcount.conv(x, w, dataclasses.replace(case, result=None), ())
    rows = u.reshape(-1, u.shape[-1]).astype(jnp.float32)
    through = lax.linalg.triangular_solve(jnp.eye(u.shape[-1], dtype=jnp.float32), rows)
    return case.finish(jnp.round(through).astype(jnp.int32).reshape(u.shape), terms)


def kernel(opaque):
    return types.SimpleNamespace(why_not=popcount.why_not, faster=lambda case: True, conv=conv, OPAQUE=opaque)


def share(kind, result, layout):
    """Images, output channels and terms of one device."""
    batch, outputs = LAYOUTS[layout]
    features = 32 if outputs else 64
    return [2 if batch else 4, features, features] + [features] * (2 if result in ("affine", "words") else 0)


def sums(x, w, name="stand-in"):
    return jbnn.packed_conv(jbnn.pack(x), jbnn.pack(w, axis=-2), channels=40, implementation=name)


def affine(x, w, scale, bias):
    return jbnn.binary_conv(x, w, scale=scale, bias=bias, implementation="stand-in")


def words(x, w, value, flip):
    threshold = jbnn.Threshold(value, flip)
    return jbnn.packed_conv(x, w, channels=40, threshold=threshold, implementation="stand-in")


def gradient(x, w):
    return jax.grad(lambda x, w: jnp.sum(jnp.sin(jbnn.binary_conv(x, w, implementation="stand-in"))), (0, 1))(x, w)


PACKED = np.asarray(jbnn.pack(X)), np.asarray(jbnn.pack(W, axis=-2))
PROGRAMS = {
    "sums": (sums, X, W),
    "affine": (affine, X, W, TERMS, TERMS),
    "words": (words, *PACKED, VALUE, FLIP),
    "gradient": (gradient, X, W),
}


def equal(y, e):
    pairs = list(zip(jax.tree.leaves(y), jax.tree.leaves(e), strict=True))
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max()) for a, b in pairs)


def run(kind, result, layout):
    function, *arguments = PROGRAMS[result]
    expected = jax.jit(function)(*arguments)
    explicit = kind == "explicit"
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Explicit,) * 2) if explicit else MESH
    batch, outputs = LAYOUTS[layout]
    specs = P(batch), P(None, None, None, outputs), *(P(outputs) for _ in arguments[2:])
    with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
        shards = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arguments, specs, strict=True)]
        if kind == "shard_map":
            function = shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(batch, None, None, outputs))
        SEEN.clear()
        compiled = jax.jit(function).lower(*shards).compile()
        y = compiled(*shards)
    gathered = re.findall(r"= (\S+) (?:all-gather|all-to-all|collective-permute)(?:-start)?\(", compiled.as_text())
    return {"equal": equal(y, expected), "gathered": gathered, "share": SEEN[-1]}


def on(mesh, function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled(*arguments), "all-gather" in compiled.as_text()


def put(array, *spec):
    return jax.device_put(array, NamedSharding(MESH, P(*spec)))


def elsewhere():
    expected = np.asarray(sums(X, W, "popcount"))
    both = put(X, "a"), put(W, None, None, None, "b")
    facts = {"not told": on(MESH, lambda x, w: sums(x, w, "not told"), *both)[1]}
    text = jax.jit(sums).lower(X, W).as_text()
    facts["one device"] = "CustomSPMDPartitioning" not in text
    module = export.export(jax.jit(sums), disabled_checks=[export.DisabledSafetyCheck.custom_call("blas_strsm")])
    facts["export"] = "Partitioning" not in str(module(X, W).mlir_module())
    y, gathers = on(MESH, jax.vmap(sums, (0, None)), put(X[None], None, "a"), both[1])
    facts["vmap"] = equal(y, expected[None])
    y, gathers = on(MESH, lambda x, w: jnp.sum(sums(x, w) * 2), *both)
    facts["larger program"] = int(y) == 2 * int(expected.sum()) and not gathers
    few = [a[..., :40] if a.ndim in (1, 4) and a.shape[-1] == 64 else a for a in PROGRAMS["words"][1:]]
    y, _ = on(MESH, words, put(few[0], "a"), put(few[1], None, None, None, "b"), *few[2:])
    facts["uneven words"] = bool(np.array_equal(y, words(*few)))

    def grouped(x, w):
        return jbnn.binary_conv(x, w, feature_group_count=2, implementation="stand-in")

    y, _ = on(MESH, grouped, put(X, "a"), put(W[:, :, :20], None, None, None, "b"))
    facts["groups"] = bool(np.array_equal(y, grouped(X, W[:, :, :20])))
    facts["rows"] = bool(np.array_equal(on(MESH, sums, put(X, None, "a"), both[1])[0], expected))
    return facts


def loss(x, w):
    return jnp.sum(jnp.cos(jbnn.binary_conv(x, w) * 0.1))


def floats():
    programs = {
        "unpacked": lambda x, w: jbnn.binary_conv(x, w, implementation="unpacked"),
        "binary_weights": lambda x, w: jbnn.binary_conv(x, w, mode="binary_weights"),
        "convolution": jbnn.convolution.conv,
        "kernel's gradient": jax.grad(loss, 1),
        "image's gradient": jax.grad(loss, 0),
    }
    for name, function in programs.items():
        expected = jax.jit(function)(X, W)
        for layout, specs in LAYOUTS_OF_FLOATS.items():
            yield f"{name} | {layout}", equal(jax.jit(function)(put(X, *specs[0]), put(W, *specs[1])), expected)


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    choose.KERNELS.update({"stand-in": kernel(True), "not told": kernel(False)})
    MESH = Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
    found = {" | ".join(case): run(*case) for case in CASES} | elsewhere() | dict(floats())
    print(json.dumps(found))
