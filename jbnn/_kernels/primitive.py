"""The one operation behind every binary convolution; which kernel it becomes is decided while it is lowered.

Only then is it known where the program will run and whether it is exported, which is why this is a primitive of our
own and not a plain function. It has no derivative: `jbnn._gradient` sits above it.
"""

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from jbnn._bits import WORD
from jbnn._eager import run_as_program
from jbnn._float_conv import float_conv
from jbnn._jax_versions import constant, is_shared_out, is_split, register_own_lowering, require_devices
from jbnn._kernels.case import Bits, Case, Place
from jbnn._kernels.choose import choose, device_kind
from jbnn._kernels.fold import fold_images, fold_kernels, fold_pairs
from jbnn._partition import Dimension, Rule, on_shares
from jbnn._scopes import layer_scope


def correlate_words(
    x: jax.Array, w: jax.Array, case: Case, terms: Any = (), *, implementation: str | None = None
) -> jax.Array:
    """x (N, *S, G·W) or, real, (N, *S, C) and words w (*K, W, O) to what leaves the case: by default u (N, *S', O)."""
    g = case.geometry
    if g.is_empty(x.shape[0]):
        return jnp.zeros((x.shape[0], *g.output, case.last_axis), case.dtype)
    if g.channels == 0:
        return case.finish(jnp.zeros((x.shape[0], *g.output, g.features), case.sums), terms)
    leaves, tree = jax.tree.flatten(terms)
    return _correlate_p.bind(x, w, *leaves, case=case, terms=tree, implementation=implementation)


_correlate_p = Primitive("jbnn_correlate")
run_as_program(_correlate_p)


def _abstract(x: Any, w: Any, *leaves: Any, case: Case, terms: Any, implementation: str | None) -> Any:
    """Shape, sharding and varying axes are those of a convolution of one channel, so JAX is asked about one."""
    g = case.geometry

    def one_term(x: jax.Array, w: jax.Array, *leaves: jax.Array) -> jax.Array:
        image = lax.slice_in_dim(x, 0, 1, axis=-1).astype(jnp.float32)
        row = lax.slice_in_dim(w, 0, 1, axis=-2).astype(jnp.float32)
        once = dataclasses.replace(g, channels=1, groups=1)
        return case.finish(float_conv(image, row, once).astype(case.sums), jax.tree.unflatten(terms, leaves))

    (out,) = jax.make_jaxpr(one_term)(x, w, *leaves).out_avals
    return out


_correlate_p.def_abstract_eval(_abstract)


def _lower(ctx: Any, x: Any, w: Any, *leaves: Any, case: Case, terms: Any, implementation: str | None) -> Any:
    module = ctx.module_context
    platforms, exported = tuple(module.platforms), bool(module.lowering_parameters.for_export)
    device = device_kind(platforms[0]) if len(platforms) == 1 and not exported else None
    image = ctx.avals_in[0]
    case = dataclasses.replace(
        case,
        place=Place(platforms, device, exported),
        images=_images(image),
        split=is_split(image, range(1, 1 + case.geometry.rank)),
    )
    kernel = choose(implementation, case)
    known = constant(w, ctx.avals_in[1]) if kernel.OPAQUE else None

    def run(axes: Any, x: jax.Array, w: jax.Array | np.ndarray, *leaves: jax.Array) -> jax.Array:
        geometry = dataclasses.replace(case.geometry, features=w.shape[-1])
        share = dataclasses.replace(case, geometry=geometry, images=_images(x))
        return kernel.conv(x, w, share, jax.tree.unflatten(terms, leaves))

    def whole(x: jax.Array, w: jax.Array, *leaves: jax.Array) -> jax.Array:
        return run({}, x, w if known is None else known, *leaves)

    if not kernel.OPAQUE:
        return mlir.lower_fun(whole, multiple_results=False)(ctx, x, w, *leaves)
    # An opaque kernel is traced with shapes and dtypes alone: it can have no opinion on where its operands lie.
    ctx = ctx.replace(avals_in=[jax.core.ShapedArray(aval.shape, aval.dtype) for aval in ctx.avals_in])
    shared = is_shared_out(ctx) and not exported
    call = on_shares(run, _split_by(kernel, case, len(leaves))) if shared else whole
    return mlir.lower_fun(call, multiple_results=False)(ctx, x, w, *leaves)


def _images(x: Any) -> int | None:
    """N, unless it is a symbol."""
    return x.shape[0] if isinstance(x.shape[0], int) else None


def _split_by(kernel: ModuleType, case: Case, terms: int) -> Rule:
    """Images and output channels are shared out; pixels, words and taps are whole on every device.

    Either are shared out if the kernel takes the case with as many of them as a device would have. Output channels that
    leave as words are shared out word by word. Groups go with the channels of the image, which are whole.
    """
    g = case.geometry
    bits = WORD if isinstance(case.result, Bits) else 1
    together = g.groups == 1 and g.features % bits == 0 and g.features > bits

    def takes_outputs(steps: int) -> bool:
        return kernel.why_not(dataclasses.replace(case, geometry=dataclasses.replace(g, features=steps * bits))) is None

    def takes_images(images: int) -> bool:
        return kernel.why_not(dataclasses.replace(case, images=images)) is None

    splits: dict[str, Callable[[int], bool]] = {"n": takes_images}
    if together:
        splits["o"] = takes_outputs
    axes = range(g.rank)
    of_features = Dimension("o", bits if together else 1)
    image = *(Dimension(f"s{axis}") for axis in axes), Dimension("c")
    window = *(Dimension(f"k{axis}") for axis in axes), Dimension("w"), of_features
    result = *(Dimension(f"p{axis}") for axis in axes), Dimension("o" if together else "y")
    n = Dimension("n")
    return Rule(((n, *image), window, *((of_features,) for _ in range(terms))), (n, *result), splits)


register_own_lowering(_correlate_p, _lower)  # a kernel that is a constant is prepared
require_devices(_correlate_p)  # for opaque kernels, and for the float convolution of "unpacked"


def _batch(args: Any, dims: Any, *, case: Case, terms: Any, implementation: str | None) -> tuple[jax.Array, int]:
    images = args[0].shape[1 if dims[0] == 0 else 0]
    with layer_scope(images, case.geometry, case.dtype):
        return _fold(args, dims, case, terms, implementation)


def _fold(args: Any, dims: Any, case: Case, terms: Any, implementation: str | None) -> tuple[jax.Array, int]:
    (x, w, *leaves), (x_dim, w_dim, *leaf_dims) = args, dims
    mapped = [dim is not None for dim in dims]
    if leaves and any(mapped[1:]):
        # Terms for each output channel do not follow the channels as they are regrouped, so they come after.
        bare = dataclasses.replace(case, result=None)

        def sums(x: jax.Array, w: jax.Array) -> jax.Array:
            return correlate_words(x, w, bare, implementation=implementation)

        u = jax.vmap(sums, (x_dim, w_dim))(x, w) if any(mapped[:2]) else sums(x, w)
        in_axes = (0 if any(mapped[:2]) else None, *leaf_dims)
        return jax.vmap(lambda u, *leaves: case.finish(u, jax.tree.unflatten(terms, leaves)), in_axes)(u, *leaves), 0
    x = jnp.moveaxis(x, x_dim, 0) if mapped[0] else x
    w = jnp.moveaxis(w, w_dim, 0) if mapped[1] else w
    if 0 in (x.shape[0], w.shape[0]):
        images = x.shape[1] if mapped[0] else x.shape[0]
        return jnp.zeros((0, images, *case.geometry.output, case.last_axis), case.dtype), 0
    fold = fold_pairs if all(mapped[:2]) else fold_images if mapped[0] else fold_kernels
    x, w, geometry, unfold = fold(x, w, case.geometry)
    case = dataclasses.replace(case, geometry=geometry)
    return unfold(_correlate_p.bind(x, w, *leaves, case=case, terms=terms, implementation=implementation)), 0


batching.primitive_batchers[_correlate_p] = _batch
