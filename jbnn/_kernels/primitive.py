"""The one operation behind every binary convolution; which kernel it becomes is decided while it is lowered.

Only then is it known where the program will run and whether it is exported, which is why this is a primitive of our
own and not a plain function. It has no derivative: `jbnn._gradient` sits above it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from jbnn._geometry import pad_image
from jbnn._kernels.choose import choose
from jbnn._kernels.correlation import Correlation, Epilogue, result
from jbnn._kernels.fold import fold_images, fold_kernels, fold_pairs


def correlate_words(
    x: jax.Array,
    w: jax.Array,
    correlation: Correlation,
    *,
    epilogue: Epilogue | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Words x (N, *S, G·W) and w (*K, W, O) to int32 (N, *S', O), or to what the epilogue makes of it."""
    if 0 in (x.shape[0], correlation.geometry.features, *correlation.geometry.output):
        last, dtype = result(correlation.geometry, epilogue)
        return jnp.zeros((x.shape[0], *correlation.geometry.output, last), dtype)
    leaves, tree = jax.tree.flatten(epilogue)
    return _correlate_p.bind(x, w, *leaves, correlation=correlation, implementation=implementation, epilogue=tree)


_correlate_p = Primitive("jbnn_correlate")
_jitted = jax.jit(
    lambda *args, **params: _correlate_p.bind(*args, **params),
    static_argnames=("correlation", "implementation", "epilogue"),
)


@_correlate_p.def_impl
def _correlate_now(*args: jax.Array, **params: Any) -> jax.Array:
    with jax.disable_jit(False):  # else the jitted call would come back here
        return _jitted(*args, **params)


def _abstract(x: Any, w: Any, *leaves: Any, correlation: Correlation, implementation: str | None, epilogue: Any) -> Any:
    """Shape, sharding and varying axes are those of any one term of the sum, so JAX is asked about one."""
    g = correlation.geometry

    def one_term(x: jax.Array, w: jax.Array, *leaves: jax.Array) -> jax.Array:
        image = lax.slice_in_dim(pad_image(x, 0, g), 0, 1, axis=-1)
        limits = [(n - 1) * s + 1 for n, s in zip(g.output, g.strides, strict=True)]
        image = lax.slice(image, (0,) * image.ndim, (x.shape[0], *limits, 1), (1, *g.strides, 1))
        term = (image ^ lax.expand_dims(w[(0,) * (g.rank + 1)], range(image.ndim - 1))).astype(jnp.int32)
        finish = jax.tree.unflatten(epilogue, leaves)
        return term if finish is None else finish(term)

    (out,) = jax.make_jaxpr(one_term)(x, w, *leaves).out_avals
    return out


_correlate_p.def_abstract_eval(_abstract)


def _lower(
    ctx: Any, x: Any, w: Any, *leaves: Any, correlation: Correlation, implementation: str | None, epilogue: Any
) -> Any:
    module = ctx.module_context
    kernel = choose(
        implementation,
        correlation,
        platforms=tuple(module.platforms),
        exported=bool(module.lowering_parameters.for_export),
    )

    def run(x: jax.Array, w: jax.Array, *leaves: jax.Array) -> jax.Array:
        return kernel.conv(x, w, correlation, jax.tree.unflatten(epilogue, leaves))

    return mlir.lower_fun(run, multiple_results=False)(ctx, x, w, *leaves)


mlir.register_lowering(_correlate_p, _lower)


def _batch(
    args: Any, dims: Any, *, correlation: Correlation, implementation: str | None, epilogue: Any
) -> tuple[jax.Array, int]:
    (x, w, *leaves), (x_dim, w_dim, *leaf_dims) = args, dims
    mapped = [dim is not None for dim in dims]
    if leaves and any(mapped[1:]):
        # An epilogue for each output channel does not follow the channels as they are regrouped, so it comes after.
        def bare(x: jax.Array, w: jax.Array) -> jax.Array:
            return correlate_words(x, w, correlation, implementation=implementation)

        u = jax.vmap(bare, (x_dim, w_dim))(x, w) if any(mapped[:2]) else bare(x, w)
        in_axes = (0 if any(mapped[:2]) else None, *leaf_dims)
        return jax.vmap(lambda u, *leaves: jax.tree.unflatten(epilogue, leaves)(u), in_axes)(u, *leaves), 0
    x = jnp.moveaxis(x, x_dim, 0) if mapped[0] else x
    w = jnp.moveaxis(w, w_dim, 0) if mapped[1] else w
    if 0 in (x.shape[0], w.shape[0]):
        images = x.shape[1] if mapped[0] else x.shape[0]
        last, dtype = result(correlation.geometry, jax.tree.unflatten(epilogue, leaves))
        return jnp.zeros((0, images, *correlation.geometry.output, last), dtype), 0
    fold = fold_pairs if all(mapped[:2]) else fold_images if mapped[0] else fold_kernels
    x, w, geometry, unfold = fold(x, w, correlation.geometry)
    correlation = dataclasses.replace(correlation, geometry=geometry)
    y = _correlate_p.bind(x, w, *leaves, correlation=correlation, implementation=implementation, epilogue=epilogue)
    return unfold(y), 0


batching.primitive_batchers[_correlate_p] = _batch
