"""32 bits to a word, the first of them the lowest: by native code where it is and will run, else by XLA.

XLA's own loop takes several times as long on a CPU.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from jbnn import _native
from jbnn._eager import run_as_program
from jbnn._jax_versions import is_explicit, is_shared_out, pass_through_shard_map, require_devices


def words_of(lanes: jax.Array, axis: int) -> jax.Array:
    """Each 32 bools along an axis as one `uint32`."""
    if axis == lanes.ndim - 1 and _native.why_not() is None and not is_explicit(lanes):
        return _pack_p.bind(lanes)
    return _sum_of_places(lanes, axis)


def _sum_of_places(lanes: jax.Array, axis: int) -> jax.Array:
    places = np.uint32(1) << np.arange(lanes.shape[axis], dtype=np.uint32)
    place = lax.broadcast_in_dim(places, lanes.shape, (axis,))
    return jnp.sum(jnp.where(lanes, place, np.uint32(0)), axis=axis, dtype=jnp.uint32)


# Lanes (…, W, 32) to words (…, W).
_pack_p = Primitive("jbnn_pack")
run_as_program(_pack_p)


def _in_lax(lanes: jax.Array) -> jax.Array:
    return _sum_of_places(lanes, lanes.ndim - 1)


def _in_native_code(lanes: jax.Array) -> jax.Array:
    # In rows as long as they were: XLA's comparison that makes the lanes would take rows of 32, for twice as long.
    bits = lanes.reshape(*lanes.shape[:-2], lanes.shape[-2] * lanes.shape[-1])
    return jax.ffi.ffi_call("jbnn_pack", jax.ShapeDtypeStruct(lanes.shape[:-1], np.uint32))(bits)


def _lower(ctx: Any, lanes: Any) -> Any:
    alone = not ctx.module_context.lowering_parameters.for_export and not is_shared_out(ctx)
    on_cpu = tuple(ctx.module_context.platforms) == ("cpu",)
    native = alone and on_cpu and 0 not in ctx.avals_in[0].shape
    return mlir.lower_fun(_in_native_code if native else _in_lax, multiple_results=False)(ctx, lanes)


def _batch(args: Any, dims: Any) -> tuple[jax.Array, int]:
    return _pack_p.bind(jnp.moveaxis(args[0], dims[0], 0)), 0


_pack_p.def_abstract_eval(lambda lanes: jax.make_jaxpr(_in_lax)(lanes).out_avals[0])
batching.primitive_batchers[_pack_p] = _batch
mlir.register_lowering(_pack_p, _lower)
require_devices(_pack_p)
pass_through_shard_map(_pack_p)
