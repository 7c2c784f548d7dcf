"""`MPSCNNConvolutionDescriptor` as a frozen, hashable value: what a layer is, without its weights.

A descriptor is checked when it is made, and is static under `jit`: equal descriptors never retrace. Arrays that MPS
keeps in its descriptors (PReLU's slopes, batch normalisation) are therefore tuples of floats here.
"""

import dataclasses

from jbnn._bits import words_per_group
from jbnn.mps._fields import as_count, python_float, python_floats, set_field
from jbnn.mps._neuron import NO_NEURON, NeuronDescriptor


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
                set_field(self, name, python_floats(name, value))
                if len(getattr(self, name)) != len(self.mean):
                    raise ValueError(
                        f"`{name}` must have one value for each of the {len(self.mean)} of `mean`, "
                        f"but has {len(getattr(self, name))}"
                    )
            elif name in ("mean", "variance"):
                raise ValueError(f"`{name}` must be given, but was None")
        set_field(self, "epsilon", python_float("epsilon", self.epsilon))


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
    fused_neuron: NeuronDescriptor = NO_NEURON
    batch_normalization: BatchNormalization | None = None
    channel_multiplier: int = 0
    sub_pixel_scale_factor: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type is int:
                least = 0 if field.name == "channel_multiplier" else 1
                set_field(self, field.name, as_count(least, field.name, getattr(self, field.name)))
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
