"""What the audit finds and we accept, with the reason. An exception that is no longer found fails the tests."""

from typing import NamedTuple

from jax_versions import METAL_RUNS_HERE, MPS_RUNS_HERE

EVERY_FORM = "forward", "vmap", "gradient", "vmap of gradient"


class Accepted(NamedTuple):
    plugin: str
    case: str
    forms: tuple
    offence: str
    reason: str


GROUPS = "stablehlo.convolution in 3-D with groups"
MLX = "MLX has grouped convolutions in 1-D and 2-D only; the forward pass counts bits and needs none"
BATCHED = f"{MLX}. A batch of kernels, each with its images, is as many groups"
CROPS = "more cropped on one side than the image has, and padded on the other: not worth a workaround"
ERFC = "jaxlib writes erfc out in StableHLO for a plugin, and that form, which is audited too, has nothing to object to"

_METAL = [
    Accepted("jax-metal", "activations.gelu", EVERY_FORM, "chlo.erfc", ERFC),
    Accepted("jax-metal", "activations.gelu: float16", EVERY_FORM, "chlo.erfc", ERFC),
]
_MPS = [
    Accepted("jax-mps", "binary_conv: 3-D", EVERY_FORM[3:], GROUPS, BATCHED),
    Accepted("jax-mps", "binary_conv: beta, 3-D", EVERY_FORM[3:], GROUPS, BATCHED),
    Accepted("jax-mps", "convolution.conv: 3-D", EVERY_FORM[1::2], GROUPS, BATCHED),
    *(
        Accepted("jax-mps", "binary_conv: cropped past the image, padded after it", forms, offence, CROPS)
        for forms, offence in (
            (EVERY_FORM, "stablehlo.pad that crops more than there is"),
            (EVERY_FORM[2:], "stablehlo.convolution that crops more than there is"),
        )
    ),
]
EXCEPTIONS = [*(_METAL if METAL_RUNS_HERE else []), *(_MPS if MPS_RUNS_HERE else [])]


def expected(plugin, case, form):
    """The offences that are accepted there."""
    return sorted(e.offence for e in EXCEPTIONS if (e.plugin, e.case) == (plugin, case) and form in e.forms)
