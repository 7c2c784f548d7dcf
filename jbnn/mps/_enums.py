"""MPS's enumerations with its raw values, so that a number read from Objective-C or Swift code means the same here."""

import enum
import operator
from typing import TypeVar

Enumeration = TypeVar("Enumeration", bound=enum.Enum)


class BinaryConvolutionType(enum.IntEnum):
    """`MPSCNNBinaryConvolutionType`: what is multiplied.

    BINARY_WEIGHTS: real activations and weights in {-1, +1}; `mode="binary_weights"`.
    XNOR: activations and weights in {-1, +1}; `mode="xnor"`.
    AND: activations and weights in {0, 1}; `mode="and"`.
    """

    BINARY_WEIGHTS = 0
    XNOR = 1
    AND = 2


class BinaryConvolutionFlags(enum.IntFlag):
    """`MPSCNNBinaryConvolutionFlags`: whether the result is multiplied with beta, the mean magnitude of the input."""

    NONE = 0
    USE_BETA_SCALING = 1


class NeuronType(enum.IntEnum):
    """`MPSCNNNeuronType`: the activations, each of which is a function of `jbnn.activations`."""

    NONE = 0
    RELU = 1
    LINEAR = 2
    SIGMOID = 3
    HARD_SIGMOID = 4
    TANH = 5
    ABSOLUTE = 6
    SOFT_PLUS = 7
    SOFT_SIGN = 8
    ELU = 9
    PRELU = 10
    RELUN = 11
    POWER = 12
    EXPONENTIAL = 13
    LOGARITHM = 14
    GELU = 15


class EdgeMode(enum.IntEnum):
    """`MPSImageEdgeMode`: what a tap outside the image reads.

    ZERO and CLAMP are those that MPS defines for convolutions: 0, or the nearest pixel.
    """

    ZERO = 0
    CLAMP = 1
    MIRROR = 2
    MIRROR_WITH_EDGE = 3
    CONSTANT = 4


class PaddingMethod(enum.IntFlag):
    """`MPSNNPaddingMethod`: one of ALIGN, one of ADD_REMAINDER and one of SIZE, joined with `|`.

    SIZE says how large the result is, ALIGN where the region that is read lies in the image, and ADD_REMAINDER to which
    side the odd row goes when that region is centred.
    """

    ALIGN_CENTERED = 0
    ALIGN_TOP_LEFT = 1
    ALIGN_BOTTOM_RIGHT = 2
    ADD_REMAINDER_TO_TOP_LEFT = 0
    ADD_REMAINDER_TO_TOP_RIGHT = 1 << 2
    ADD_REMAINDER_TO_BOTTOM_LEFT = 2 << 2
    ADD_REMAINDER_TO_BOTTOM_RIGHT = 3 << 2
    SIZE_VALID_ONLY = 0
    SIZE_SAME = 1 << 4
    SIZE_FULL = 2 << 4
    CUSTOM_ALLOW_FOR_NODE_FUSION = 1 << 13
    CUSTOM = 1 << 14
    EXCLUDE_EDGES = 1 << 15


class WeightsQuantizationType(enum.IntEnum):
    """`MPSCNNWeightsQuantizationType`: what uint8 weights stand for."""

    NONE = 0
    LINEAR = 1
    LOOKUP_TABLE = 2


class AccumulatorPrecision(enum.IntEnum):
    """`MPSNNConvolutionAccumulatorPrecisionOption`: what a real-valued convolution sums in."""

    HALF = 0
    FLOAT = 1


class GradientOption(enum.IntFlag):
    """`MPSCNNConvolutionGradientOption`: which gradients `convolution_gradient` computes."""

    WITH_DATA = 1
    WITH_WEIGHTS_AND_BIAS = 2
    ALL = 3


class DataType(enum.IntEnum):
    """`MPSDataType`, those that weights can have: a float is its width with bit 28 set."""

    UINT8 = 8
    UINT32 = 32
    FLOAT16 = 1 << 28 | 16
    FLOAT32 = 1 << 28 | 32


def as_member(name: str, value: int, enumeration: type[Enumeration]) -> Enumeration:
    """The member that a raw value or a member names."""
    members = enumeration.__members__
    try:
        number = operator.index(value)
    except TypeError:  # a string, a fraction, an array of several, a tracer
        number = None
    for member in members.values():
        if member == number:
            return member
    listed = ", ".join(f"{key} = {member.value}" for key, member in members.items())
    raise ValueError(f"`{name}` must be one of {enumeration.__name__} ({listed}), but was {value!r}")
