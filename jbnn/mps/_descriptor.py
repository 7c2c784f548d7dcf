"""`MPSCNNConvolutionDescriptor` as a frozen, hashable value: what a layer is, without its weights.

A descriptor is checked when it is made, and is static under `jit`: equal descriptors never retrace. Arrays that MPS
keeps in its descriptors (PReLU's slopes, batch normalisation) are therefore tuples of floats here.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jbnn import activations
from jbnn._arguments import as_index
from jbnn._bits import words_per_group
from jbnn.mps._enums import NeuronType, as_member


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def constants(values: float | tuple[float, ...], dtype: DTypeLike) -> jax.Array:
    """Numbers of a descriptor as an array: constants of a program, so that nothing has to be moved to the device."""
    return jnp.asarray(values, dtype)


def _prelu(x: jax.Array, slopes: tuple[float, ...]) -> jax.Array:
    return activations.prelu(x, constants(slopes, x.dtype))


# The function of each neuron, and how MPS's parameters a, b and c are called there: by the same names.
_NEURONS: dict[NeuronType, tuple[Callable[..., jax.Array], str]] = {
    NeuronType.NONE: (activations.none, ""),
    NeuronType.RELU: (activations.relu, "a"),
    NeuronType.LINEAR: (activations.linear, "ab"),
    NeuronType.SIGMOID: (activations.sigmoid, ""),
    NeuronType.HARD_SIGMOID: (activations.hard_sigmoid, "ab"),
    NeuronType.TANH: (activations.tanh, "ab"),
    NeuronType.ABSOLUTE: (activations.absolute, ""),
    NeuronType.SOFT_PLUS: (activations.soft_plus, "ab"),
    NeuronType.SOFT_SIGN: (activations.soft_sign, ""),
    NeuronType.ELU: (activations.elu, "a"),
    NeuronType.PRELU: (_prelu, ""),
    NeuronType.RELUN: (activations.relun, "ab"),
    NeuronType.POWER: (activations.power, "abc"),
    NeuronType.EXPONENTIAL: (activations.exponential, "abc"),
    NeuronType.LOGARITHM: (activations.logarithm, "abc"),
    NeuronType.GELU: (activations.gelu, ""),
}
_REQUIRED = {NeuronType.LINEAR: "ab", NeuronType.RELUN: "a", NeuronType.POWER: "abc"}
_WITH_A_BASE = NeuronType.EXPONENTIAL, NeuronType.LOGARITHM


def _set(frozen: object, name: str, value: object) -> None:
    """What a frozen dataclass offers for making its fields canonical."""
    object.__setattr__(frozen, name, value)


def _at_least(least: int, name: str, value: int) -> int:
    value = as_index(name, value)
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, but was {value}")
    return value


def _real(name: str, value: object) -> float:
    """A number as Python's; every NaN as one object, which Python's tuples then hold to be equal to itself."""
    if not isinstance(value, numbers.Real):
        value = _known(name, value, 0, "a number")[()]
    try:
        number = float(value)
    except OverflowError:
        raise TypeError(f"`{name}` must be a number that a float can hold, but was {value!r}") from None
    return math.nan if math.isnan(number) else number


def _reals(name: str, values: object) -> tuple[float, ...]:
    return tuple(_real(name, float(value)) for value in _known(name, values, 1, "one row of numbers"))


def _known(name: str, value: object, ndim: int, what: str) -> np.ndarray:
    """An array of numbers, of so many axes, that is not traced."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"`{name}` must be known while tracing, but was {value!r}")
    array = np.asarray(value)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if array.ndim != ndim or not real:
        was = f"has shape {array.shape} and dtype {array.dtype}" if array.ndim else f"was {value!r}"
        raise TypeError(f"`{name}` must be {what}, but {was}")
    return array


@dataclasses.dataclass(frozen=True, eq=False)
class NeuronDescriptor:
    """`MPSNNNeuronDescriptor`: a neuron and its parameters.

    A parameter that is left out has the default of the function in `jbnn.activations`; where that has none (LINEAR,
    POWER, a of RELUN), it must be given. A parameter that the neuron does not have is refused.

    Args:
      type: the neuron, or its raw value.
      a: the first parameter.
      b: the second parameter.
      c: the third parameter.
      prelu: PReLU's slopes, one for each output channel of the convolution; kept as a tuple.

    Raises:
      TypeError: a parameter is not a number.
      ValueError: unknown neuron; a parameter is missing, or is none of this neuron's; c of EXPONENTIAL or LOGARITHM is
        neither positive nor -1.

    Example:
      >>> relu6 = jbnn.mps.NeuronDescriptor(jbnn.mps.NeuronType.RELUN, a=0.0, b=6.0)
      >>> print(relu6.activation(jnp.array([-1.0, 3.0, 8.0])))
      [0. 3. 6.]
    """

    type: NeuronType = NeuronType.NONE
    a: float | None = None
    b: float | None = None
    c: float | None = None
    prelu: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        kind = as_member("type", self.type, NeuronType)
        _, parameters = _NEURONS[kind]
        for name in "abc":
            value = getattr(self, name)
            if value is not None and name not in parameters:
                raise ValueError(f"`{name}` must be None for a {kind.name} neuron, which has none, but was {value!r}")
            if value is None and name in _REQUIRED.get(kind, ""):
                raise ValueError(f"`{name}` must be given for a {kind.name} neuron, but was None")
            if value is not None:
                _set(self, name, _real(name, value))
        if (self.prelu is None) == (kind == NeuronType.PRELU):
            what = "given for a PRELU neuron" if self.prelu is None else f"None for a {kind.name} neuron"
            raise ValueError(f"`prelu` must be {what}, but was {self.prelu!r}")
        if self.prelu is not None:
            _set(self, "prelu", _reals("prelu", self.prelu))
        if kind in _WITH_A_BASE and self.c is not None and not (self.c > 0 or self.c == -1):
            raise ValueError(f"`c` of a {kind.name} neuron must be a positive base, or -1 for e, but was {self.c!r}")
        _set(self, "type", kind)

    # As dataclasses have it, but of tuples on every version of Python: those find a NaN in the same place equal.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NeuronDescriptor):
            return NotImplemented
        return dataclasses.astuple(self) == dataclasses.astuple(other)

    def __hash__(self) -> int:
        return hash(dataclasses.astuple(self))

    @property
    def activation(self) -> Callable[[jax.Array], jax.Array]:
        """The function, of `jbnn.activations`."""
        if self.type == NeuronType.RELU and not self.a:
            return activations.relu  # known to the operator, which fuses it
        function, parameters = _NEURONS[self.type]
        given = {name: getattr(self, name) for name in parameters if getattr(self, name) is not None}
        if self.prelu is not None:
            given["slopes"] = self.prelu
        return functools.partial(function, **given) if given else function


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNormalization:
    """The parameters of `setBatchNormalizationParametersForInference`, which are folded into a layer.

    With I = gamma / √(variance + epsilon) and J = beta - I·mean, a real layer has the weights W·I and the bias b·I + J;
    a binary one has its scale and bias changed in the same way, and its bits left alone.

    Args:
      mean: one for each output channel; arrays are kept as tuples of floats.
      variance: one for each output channel.
      gamma: one for each output channel; None is 1.
      beta: one for each output channel; None is 0.
      epsilon: added to the variance.

    Raises:
      TypeError: a parameter does not hold numbers.
      ValueError: the parameters differ in length.
    """

    mean: tuple[float, ...]
    variance: tuple[float, ...]
    gamma: tuple[float, ...] | None = None
    beta: tuple[float, ...] | None = None
    epsilon: float

    def __post_init__(self) -> None:
        for name in ("mean", "variance", "gamma", "beta"):
            value = getattr(self, name)
            if value is not None:
                _set(self, name, _reals(name, value))
                if len(getattr(self, name)) != len(self.mean):
                    raise ValueError(
                        f"`{name}` must have one value for each of the {len(self.mean)} of `mean`, "
                        f"but has {len(getattr(self, name))}"
                    )
            elif name in ("mean", "variance"):
                raise ValueError(f"`{name}` must be given, but was None")
        _set(self, "epsilon", _real("epsilon", self.epsilon))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionDescriptor:
    """`MPSCNNConvolutionDescriptor`, and its depthwise and sub-pixel subclasses: the shape of a layer.

    Args:
      kernel_width: columns of the window, by default 3.
      kernel_height: rows of the window, by default 3.
      input_feature_channels: the input's channels C.
      output_feature_channels: O, before `sub_pixel_scale_factor` divides it.
      stride_in_pixels_x: step along the columns; like the numbers below, 1 unless given.
      stride_in_pixels_y: step along the rows.
      dilation_rate_x: dilation along the columns.
      dilation_rate_y: dilation along the rows.
      groups: G, a divisor of C and of O. MPS also wants C/G and O/G to be multiples of 4; here they need not be.
      fused_neuron: applied last; by default none.
      batch_normalization: folded into the layer, for inference.
      channel_multiplier: 0, the default, for an ordinary convolution; m for a depthwise one, whose output channel
        k·m + q reads input channel k. MPS has m = 1 only.
      sub_pixel_scale_factor: r, which makes r×r pixels of every pixel's channels, as `depth_to_space`.

    Raises:
      TypeError: a number is not an integer; the neuron or the normalisation is of another type.
      ValueError: a number is out of range, or two of them contradict each other.

    Example:
      >>> d = jbnn.mps.ConvolutionDescriptor(input_feature_channels=40, output_feature_channels=8, stride_in_pixels_x=2)
      >>> print(d.kernel_width, d.kernel_height, d.weights_shape, d.words_shape)
      3 3 (8, 3, 3, 40) (8, 3, 3, 2)
    """

    kernel_width: int = 3
    kernel_height: int = 3
    input_feature_channels: int
    output_feature_channels: int
    stride_in_pixels_x: int = 1
    stride_in_pixels_y: int = 1
    dilation_rate_x: int = 1
    dilation_rate_y: int = 1
    groups: int = 1
    fused_neuron: NeuronDescriptor = NeuronDescriptor()
    batch_normalization: BatchNormalization | None = None
    channel_multiplier: int = 0
    sub_pixel_scale_factor: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type is int:
                least = 0 if field.name == "channel_multiplier" else 1
                _set(self, field.name, _at_least(least, field.name, getattr(self, field.name)))
        if not isinstance(self.fused_neuron, NeuronDescriptor):
            raise TypeError(f"`fused_neuron` must be a NeuronDescriptor, but was {self.fused_neuron!r}")
        if not isinstance(self.batch_normalization, BatchNormalization | None):
            raise TypeError(f"`batch_normalization` must be a BatchNormalization, but was {self.batch_normalization!r}")
        self._check_channels()
        outputs = self.output_feature_channels
        prelu, norm = self.fused_neuron.prelu, self.batch_normalization
        if prelu is not None and len(prelu) != outputs:
            raise ValueError(
                f"`fused_neuron` must have one slope for each of the `output_feature_channels` = {outputs}, "
                f"but has {len(prelu)}"
            )
        if norm is not None and len(norm.mean) != outputs:
            raise ValueError(
                f"`batch_normalization` must have one mean for each of the `output_feature_channels` = {outputs}, "
                f"but has {len(norm.mean)}"
            )

    def _check_channels(self) -> None:
        inputs, outputs, groups = self.input_feature_channels, self.output_feature_channels, self.groups
        for name in ("input_feature_channels", "output_feature_channels"):
            if getattr(self, name) % groups:
                raise ValueError(f"`groups` must divide `{name}` = {getattr(self, name)}, but was {groups}")
        multiplier = self.channel_multiplier
        if multiplier and groups != 1:
            raise ValueError(f"`groups` must be 1 in a depthwise convolution, but was {groups}")
        if multiplier and outputs != inputs * multiplier:
            raise ValueError(
                f"`output_feature_channels` must be `input_feature_channels` * `channel_multiplier` = "
                f"{inputs * multiplier} in a depthwise convolution, but was {outputs}"
            )
        square = self.sub_pixel_scale_factor**2
        if outputs % square:
            raise ValueError(
                f"`output_feature_channels` must be a multiple of `sub_pixel_scale_factor`² = {square}, "
                f"but was {outputs}"
            )

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.kernel_height, self.kernel_width

    @property
    def window_strides(self) -> tuple[int, int]:
        """The strides, rows first."""
        return self.stride_in_pixels_y, self.stride_in_pixels_x

    @property
    def rhs_dilation(self) -> tuple[int, int]:
        """The dilation, rows first."""
        return self.dilation_rate_y, self.dilation_rate_x

    @property
    def feature_group_count(self) -> int:
        """G, or C in a depthwise convolution."""
        return self.input_feature_channels if self.channel_multiplier else self.groups

    @property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """(O, kH, kW, C/G), the shape of real weights."""
        depth = self.input_feature_channels // self.feature_group_count
        return self.output_feature_channels, *self.window, depth

    @property
    def words_shape(self) -> tuple[int, int, int, int]:
        """(O, kH, kW, ceil(C/G/32)), the shape of binary weights."""
        *shape, depth = self.weights_shape
        return *shape, words_per_group(depth)  # type: ignore[return-value]  # mypy loses the length of `*shape`


def check_descriptor(name: str, descriptor: object) -> ConvolutionDescriptor:
    """A descriptor, and nothing that merely stands where one should."""
    if not isinstance(descriptor, ConvolutionDescriptor):
        raise TypeError(f"`{name}` must be a ConvolutionDescriptor, but was {descriptor!r}")
    return descriptor
