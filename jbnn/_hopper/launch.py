"""Kernels as functions of JAX, through Pallas: all that depends on JAX's version is here."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jbnn._hopper.arrange import Array
from jbnn._hopper.few_rows import WARPS, Layout, terms as terms_of_rows
from jbnn._hopper.formula import Formula
from jbnn._hopper.plan import Plan, of_outputs, shared_shapes
from jbnn._jax_versions import HAS_MOSAIC_GPU

PROCESSORS = 132


def why_not() -> str | None:
    """Pallas has this interface from jax 0.10.2 on, as far as it was tried."""
    if not HAS_MOSAIC_GPU:
        return f"it needs jax 0.10.2 or newer, and this is {jax.__version__}"
    if importlib.util.find_spec("absl") is None:
        return "Pallas needs absl-py, which is not installed: pip install absl-py"
    return None


def processors() -> int:
    """Streaming multiprocessors of the GPU that is here; of an H100 where none is."""
    try:
        return int(jax.local_devices(backend="gpu")[0].core_count)
    except RuntimeError:
        return PROCESSORS


def correlate(
    plan: Plan, formula: Formula, x: jax.Array, filters: Array, table: Array, out: jax.ShapeDtypeStruct
) -> jax.Array:
    """Words x (N, *S, G·W), filters and table as they were arranged, int32 all, to what leaves."""

    def emit(*addresses: Any) -> None:
        from jbnn._hopper import body

        body.run(plan, formula, body.Memory(*addresses))

    outputs = of_outputs(plan) if plan.geometry.rank else np.zeros((1, 2), np.int32)
    shapes = shared_shapes(plan, formula)
    return _call(emit, [x, filters, table, outputs], out, shapes, plan.blocks, plan.warpgroups)


def multiply_rows(layout: Layout, x: jax.Array, w: Array) -> jax.Array:
    """bfloat16 (rows, K) times words (depth, features) as int32: float32 (rows, features)."""

    def emit(*addresses: Any) -> None:
        from jbnn._hopper import few_rows_body

        few_rows_body.run(layout, *addresses)

    out = jax.ShapeDtypeStruct((layout.rows, layout.features), np.float32)
    blocks = layout.channel_blocks * layout.row_blocks
    return _call(emit, [terms_of_rows(x, layout), w], out, [layout.shared], blocks, WARPS // 4)


def _call(
    emit: Callable[..., None],
    operands: Sequence[Array],
    out: jax.ShapeDtypeStruct,
    shared: Sequence[tuple[int, ...]],
    blocks: int,
    warpgroups: int,
) -> jax.Array:
    """A kernel that is given the addresses of its operands, its result and what a block shares."""
    import jax.experimental.pallas.mosaic_gpu as plgpu
    from jax.experimental.mosaic.gpu import utils
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import llvm

    from jbnn._hopper.ptx import Int

    def address(ref: Any, bits: int) -> Int:
        return Int(llvm.ptrtoint(ir.IntegerType.get_signless(bits), utils.memref_ptr(ref)))

    def kernel(*refs: Any) -> None:
        @plgpu.inline_mgpu(arg_types=(plgpu.RefType(),) * len(refs))
        def inside(context: Any, *refs: Any) -> None:
            bits = [64] * (len(operands) + 1) + [32] * len(shared)
            emit(*map(address, refs, bits))

        inside(*refs)

    call = plgpu.kernel(
        kernel,
        out_type=out,
        scratch_types=[plgpu.SMEM(shape, jnp.int32) for shape in shared],
        grid=(blocks,),
        grid_names=("block",),
        num_threads=warpgroups,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
    )
    return call(*operands)
