"""The program that a plugin would be given, read operation by operation."""

import re
from typing import NamedTuple

import jax
from jax import export
from jax.interpreters.mlir import make_ir_context
from jax_versions import METAL_RUNS_HERE
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

OLDEST = "1.7.0"
"""StableHLO's version of the weeks before jax-metal was released; the plugin states none."""


class Operation(NamedTuple):
    name: str
    operands: list[str]  # types, such as "tensor<2x3xf32>"
    results: list[str]
    attributes: dict[str, str]
    body: list[str]  # the operations of its regions, without their returns

    def numbers(self, attribute, default):
        """The integers of an attribute; one stands for all."""
        text = self.attributes.get(attribute)
        if text is None:
            return default
        found = [int(n) for n in re.findall(r"-?\d+", re.sub(r"i64|tensor<.*>", "", text))]
        return found * len(default) if len(found) == 1 else found

    @property
    def element(self):
        """The element type of the first operand, such as f32, ui32 or i1."""
        return element(self.operands[0])

    @property
    def shape(self):
        """The shape of the first operand."""
        return [int(n) for n in re.findall(r"(\d+)x", self.operands[0])]


def element(type_):
    tensor = re.fullmatch(r"tensor<(?:\d+x)*(.+)>", type_)
    return tensor[1] if tensor else type_


def operations(module):
    """Every operation of a module, those in regions too."""

    def names(attributes):  # a later jaxlib iterates over names, an earlier one over pairs
        return [getattr(item, "name", item) for item in attributes]

    def walk(operation):
        inner = [op.operation for region in operation.regions for block in region for op in block]
        yield Operation(
            operation.name,
            [str(operand.type) for operand in operation.operands],
            [str(result.type) for result in operation.results],
            {name: str(operation.attributes[name]) for name in names(operation.attributes) if name != "value"},
            [op.name for op in inner if op.name != "stablehlo.return"],
        )
        for op in inner:
            yield from walk(op)

    return list(walk(module.operation))


def lowered(function, args, platform):
    """As JAX lowers it."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).compiler_ir("stablehlo")


def exported(function, args, platform):
    """As JAX exports it: what CHLO says is written out in StableHLO, as it is on its way to a plugin."""
    program = export.export(jax.jit(function), platforms=(platform,))(*args)
    return ir.Module.parse(program.mlir_module(), make_ir_context())


def received(function, args, platform):
    """The forms in which a plugin may see the function."""
    if platform != "METAL":
        return [exported(function, args, platform)]
    # jaxlib may hand CHLO to jax-metal as it is, or written out. No JAX later than 0.5.0 hands it anything.
    module = lowered(function, args, platform)
    if not has_chlo(module):
        return [module]
    written_out = exported(function, args, platform)
    return [module, written_out] if METAL_RUNS_HERE else [written_out]


def has_chlo(module):
    return any(op.name.startswith("chlo.") for op in operations(module))


def serialises(module, version=OLDEST):
    """Whether that version of StableHLO can hold a program. CHLO is held by none, and goes to jax-metal otherwise."""
    if has_chlo(module):
        return True
    copy = ir.Module.parse(str(module), module.context)  # which is consumed
    try:
        return bool(stablehlo.serialize_portable_artifact(copy, version))
    except (ValueError, SystemError):  # SystemError: jaxlib 0.4.34
        return False
