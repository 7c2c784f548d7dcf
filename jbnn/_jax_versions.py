"""What differs between the versions of JAX that jbnn supports, 0.4.34 to the newest; no other file asks for one."""

from collections.abc import Callable
from typing import Any

import jax
from jax import export
from jax.sharding import NamedSharding, PartitionSpec

HAS_EXPLICIT_MESHES = hasattr(jax, "set_mesh")
"""Whether there are meshes of explicit axes, where a sharding is part of an array's type."""

DIFFERENTIATES_WIDER_CONVOLUTIONS = jax.__version_info__ >= (0, 10)
"""Whether a convolution has a gradient in JAX if `preferred_element_type` is not the dtype of its operands."""


def conv_out_sharding(image: jax.Array, kernel: jax.Array) -> dict[str, Any]:
    """The sharding of a convolution's result, as an argument for lax, on a mesh of explicit axes; else no argument.

    JAX derives it itself only where the kernel is not sharded. The batch and the pixels are the image's, the output
    channels the kernel's.
    """
    if not HAS_EXPLICIT_MESHES:
        return {}
    types: list[Any] = [jax.typeof(array) for array in (image, kernel)]
    of_image, of_kernel = (type_.sharding for type_ in types)
    if jax.sharding.AxisType.Explicit not in of_image.mesh.axis_types:
        return {}
    return {"out_sharding": NamedSharding(of_image.mesh, PartitionSpec(*of_image.spec[:-1], of_kernel.spec[-1]))}


def register_for_export(cls: type) -> None:
    """Lets exported programs that take or give this NamedTuple be stored; jax 0.4.34 can store none."""
    if hasattr(export, "register_namedtuple_serialization"):
        export.register_namedtuple_serialization(cls, serialized_name=f"jbnn.{cls.__name__}")


def register_static_fields_for_export(
    cls: type, dump: Callable[[Any], bytes], load: Callable[[bytes | bytearray], Any]
) -> None:
    """The same for a dataclass that is a pytree: its static fields, a tuple in their order, as bytes and back."""
    if hasattr(export, "register_pytree_node_serialization"):
        export.register_pytree_node_serialization(
            cls, serialized_name=f"jbnn.{cls.__name__}", serialize_auxdata=dump, deserialize_auxdata=load
        )
