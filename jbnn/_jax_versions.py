"""What differs between the versions of JAX that jbnn supports, 0.4.34 to the newest; no other file asks for one."""

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

HAS_EXPLICIT_MESHES = hasattr(jax, "set_mesh")
"""Whether there are meshes of explicit axes, where a sharding is part of an array's type."""

_NEED_DEVICES: set[Primitive] | None
"""A set that is JAX's own affair: if it goes, programs for several devices are left to XLA's partitioner."""
try:
    from jax._src.dispatch import prim_requires_devices_during_lowering as _NEED_DEVICES
except ImportError:
    _NEED_DEVICES = None

HAS_MOSAIC_GPU = jax.__version_info__ >= (0, 10, 2)
"""Pallas for NVIDIA GPUs, with the interface that it has now."""

DIFFERENTIATES_WIDER_CONVOLUTIONS = jax.__version_info__ >= (0, 10)
"""Whether a convolution has a gradient in JAX if `preferred_element_type` is not the dtype of its operands."""


def conv_out_sharding(image: jax.Array, kernel: jax.Array, output: tuple[int, ...]) -> dict[str, Any]:
    """The sharding of a convolution's result, as an argument for lax, on a mesh of explicit axes; else no argument.

    JAX derives it itself only where the kernel is not sharded. The batch and the pixels of the `output` are sharded as
    the image's, if the devices divide them, and the output channels as the kernel's.
    """
    if not is_explicit(image):
        return {}
    types: list[Any] = [jax.typeof(array) for array in (image, kernel)]
    of_image, of_kernel = (type_.sharding for type_ in types)
    mesh = of_image.mesh
    pixels = [
        axes if axes is None or size % math.prod(mesh.shape[name] for name in _names(axes)) == 0 else None
        for axes, size in zip(of_image.spec[1:-1], output, strict=True)
    ]
    spec = PartitionSpec(of_image.spec[0], *pixels, of_kernel.spec[-1])
    return {"out_sharding": NamedSharding(mesh, spec)}


def known_now() -> AbstractContextManager[Any]:
    """In it, what is computed of known arrays is known, also while a function is traced."""
    try:
        from jax._src.core import trace_state_clean
    except ImportError:
        return jax.ensure_compile_time_eval()
    # Where nothing is traced it would take programs apart into operations, and send the constants of each.
    return contextlib.nullcontext() if trace_state_clean() else jax.ensure_compile_time_eval()


def is_explicit(array: jax.Array) -> bool:
    """Whether the sharding of an array is part of its type."""
    if not HAS_EXPLICIT_MESHES:
        return False
    type_: Any = jax.typeof(array)
    return jax.sharding.AxisType.Explicit in type_.sharding.mesh.axis_types


def constant(value: Any, aval: Any) -> np.ndarray | None:
    """What a value of a program, of type `aval`, is if it was written into it."""
    owner = value.owner
    if getattr(owner, "name", None) != "stablehlo.constant":
        return None
    array = np.array(owner.attributes["value"])
    return array if (array.shape, array.dtype) == (aval.shape, aval.dtype) else None


def is_split(aval: Any, axes: Sequence[int]) -> bool:
    """Whether its type says that an array lies on several devices along one of the axes."""
    if not HAS_EXPLICIT_MESHES:
        return False
    mesh, spec = aval.sharding.mesh, aval.sharding.spec
    return any(math.prod(mesh.shape[name] for name in _names(spec[axis])) > 1 for axis in axes)


def in_whole_parts(array: jax.Array, axis: int, size: int) -> jax.Array:
    """The array, gathered along an axis unless every device has whole parts of that size.

    Only on a mesh of explicit axes: there JAX reshapes an axis into parts only where each part lies on one device.
    """
    return _gathered_unless(array, axis, lambda devices: array.shape[axis] % (devices * size) == 0)


def in_even_parts(array: jax.Array, axis: int, size: int) -> jax.Array:
    """The array, gathered along an axis unless the devices can share evenly what is made of it, of that size.

    Only on a mesh of explicit axes: there JAX refuses an axis that its devices do not divide.
    """
    return _gathered_unless(array, axis, lambda devices: size % devices == 0)


def sharded_as(like: jax.Array, array: jax.Array) -> jax.Array:
    """The array, of the shape of `like`, with its sharding on a mesh of explicit axes."""
    if not is_explicit(like):
        return array
    type_: Any = jax.typeof(like)
    return jax.sharding.reshard(array, type_.sharding)


def _gathered_unless(array: jax.Array, axis: int, fits: Callable[[int], bool]) -> jax.Array:
    if not is_explicit(array):
        return array
    type_: Any = jax.typeof(array)
    mesh, spec = type_.sharding.mesh, list(type_.sharding.spec)
    devices = math.prod(mesh.shape[name] for name in _names(spec[axis]))
    if devices == 1 or fits(devices):
        return array
    spec[axis] = None
    return jax.sharding.reshard(array, NamedSharding(mesh, PartitionSpec(*spec)))


def _names(axes: Any) -> tuple[str, ...]:
    """The mesh axes that one entry of a specification names."""
    return () if axes is None else axes if isinstance(axes, tuple) else (axes,)


def register_for_export(cls: type) -> None:
    """Lets exported programs that take or give this NamedTuple be stored; jax 0.4.34 can store none."""
    if hasattr(export, "register_namedtuple_serialization"):
        export.register_namedtuple_serialization(cls, serialized_name=f"jbnn.{cls.__name__}")


def register_static_fields_for_export(
    cls: type, dump: Callable[[Any], bytes], load: Callable[[bytes | bytearray], Any]
) -> None:
    """The same for a dataclass that is a pytree: `dump` writes its static fields, a tuple, and `load` reads them."""
    if hasattr(export, "register_pytree_node_serialization"):
        export.register_pytree_node_serialization(
            cls, serialized_name=f"jbnn.{cls.__name__}", serialize_auxdata=dump, deserialize_auxdata=load
        )


def register_own_lowering(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """Registers a lowering rule that asks what its operands are: newer JAX has a program's like calls share one.

    Their operands are then the parameters of a function, and no longer the constants that a call was given.
    """
    known = inspect.signature(mlir.register_lowering).parameters
    options: dict[str, Any] = {"cacheable": False} if "cacheable" in known else {}
    mlir.register_lowering(primitive, rule, **options)


def require_devices(primitive: Primitive) -> None:
    """Lets the lowering of a primitive know the devices of the program, which `call_on_shares` needs.

    JAX has no public way to say so. It then refuses programs that hold meshes of two shapes.
    """
    if _NEED_DEVICES is not None:
        _NEED_DEVICES.add(primitive)


def pass_through_shard_map(primitive: Primitive) -> None:
    """Lets `shard_map` check and differentiate a primitive that each device computes alone; newer JAX needs no rule."""
    if HAS_EXPLICIT_MESHES:
        return
    from jax.experimental import shard_map

    rules: Any = shard_map
    rules.register_standard_check(primitive)
    rules.register_standard_rewrite(primitive)


def is_shared_out(lowering: Any) -> bool:
    """Whether XLA will share out over devices what a lowering rule, whose context this is, puts into a program."""
    if _NEED_DEVICES is None:
        return False
    axes = lowering.module_context.axis_context
    if hasattr(axes, "manual_axes"):  # what is manual, `shard_map` has shared out
        return set(axes.manual_axes) != set(axes.mesh.axis_names)
    return getattr(axes, "num_devices", 1) > 1


def _beside_meshes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced as if no mesh of explicit axes were set: what one device computes has no sharding."""
    if not HAS_EXPLICIT_MESHES:
        return function

    def alone(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return function(*args)

    return alone


def call_on_shares(
    function: Callable[..., Any],
    on_each: Callable[[Mesh, Sequence[Any]], tuple[Callable[..., Any], tuple[NamedSharding, ...], NamedSharding]],
    rule: str,
    whole: tuple[str, ...],
    sizes: dict[str, int],
) -> Callable[..., Any]:
    """The function, of which each device computes what `on_each` says, given a mesh and sharded arguments.

    That is: what to call, and the shardings of its arguments and result. The older partitioner of XLA asks `on_each`
    where the result lies; the newer is told by a rule, of which letters are to be whole, and of the sizes in it.
    """
    from jax.experimental.custom_partitioning import custom_partitioning

    call = custom_partitioning(jax.jit(_beside_meshes(function)))  # a function of its own, whose constants are its own

    def infer(mesh: Mesh, arguments: Sequence[Any], result: Any) -> NamedSharding:
        return on_each(mesh, arguments)[2]

    def partition(mesh: Mesh, arguments: Sequence[Any], result: Any) -> tuple[Any, ...]:
        each, of_arguments, of_result = on_each(mesh, arguments)
        return mesh, jax.jit(_beside_meshes(each)), of_result, of_arguments

    options: dict[str, Any] = {}
    known = inspect.signature(call.def_partition).parameters
    if any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()
    ):  # first, a rule had no sizes
        options |= {"sharding_rule": rule, **sizes}
    if "need_replication_factors" in known:
        options["need_replication_factors"] = whole
    call.def_partition(partition, infer_sharding_from_operands=infer, **options)
    return call


def register_cpu_targets(handlers: dict[str, Any]) -> bool:
    """Lets programs for a CPU call C functions of XLA's foreign function interface; False where jax is too old."""
    if jax.__version_info__ < (0, 5, 0):
        return False
    for name, handler in handlers.items():
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
    return True
