"""Where a layer's weights come from: a protocol with MPS's names, the plain value that fulfils it, and reading it."""

import dataclasses
import functools
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn.convolution import dequantize_linear, dequantize_lookup
from jbnn.mps._blobs import shaped
from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._enums import DataType, WeightsQuantizationType, as_member


class DataSource(Protocol):
    """What `MPSCNNConvolutionDataSource` tells of a layer. Anything with these attributes is one.

    Attributes:
      descriptor: the layer's shape.
      data_type: what `weights` hold. UINT32: the words of binary weights. FLOAT32, FLOAT16: real weights, or the
        latent weights of a binary layer, which can be trained. UINT8: quantized real weights.
      weights: (O, kH, kW, C/G), of words (O, kH, kW, ceil(C/G/32)); or the same flat.
      bias_terms: (O,), or None.
      weights_quantization_type: what UINT8 weights stand for.
      ranges: (O, 2), the least and largest weight of each output channel, for LINEAR; else None.
      lookup_table: (256,), the weights themselves, for LOOKUP_TABLE; else None.
    """

    @property
    def descriptor(self) -> ConvolutionDescriptor:
        """The layer's shape."""

    @property
    def data_type(self) -> DataType:
        """What `weights` hold."""

    @property
    def weights(self) -> ArrayLike:
        """(O, kH, kW, depth), or flat."""

    @property
    def bias_terms(self) -> ArrayLike | None:
        """(O,), or None."""

    @property
    def weights_quantization_type(self) -> WeightsQuantizationType:
        """What UINT8 weights stand for."""

    @property
    def ranges(self) -> ArrayLike | None:
        """(O, 2), for LINEAR."""

    @property
    def lookup_table(self) -> ArrayLike | None:
        """(256,), for LOOKUP_TABLE."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "bias_terms", "ranges", "lookup_table"],
    meta_fields=["descriptor", "data_type", "weights_quantization_type"],
)
@dataclasses.dataclass(frozen=True)
class ArrayDataSource:
    """A `DataSource` of arrays: immutable, and a pytree, so that `jit`, `grad` and optimisers take it.

    It is checked where a layer reads it, since transformations put other things than arrays into pytrees.

    Args:
      descriptor: the layer's shape.
      data_type: what `weights` hold.
      weights: (O, kH, kW, C/G), of words (O, kH, kW, ceil(C/G/32)); or the same flat.
      bias_terms: (O,), or None.
      weights_quantization_type: what UINT8 weights stand for.
      ranges: (O, 2), for LINEAR.
      lookup_table: (256,), for LOOKUP_TABLE.

    Example:
      >>> d = jbnn.mps.ConvolutionDescriptor(input_feature_channels=64, output_feature_channels=8)
      >>> words = jbnn.mps.pack_weights(jnp.ones((3, 3, 64, 8)))
      >>> source = jbnn.mps.ArrayDataSource(d, jbnn.mps.DataType.UINT32, words)
      >>> y = jbnn.mps.binary_convolution(jnp.ones((1, 8, 8, 64)), source, type=jbnn.mps.BinaryConvolutionType.XNOR)
      >>> print(y[0, :2, :2, 0])
      [[576. 576.]
       [576. 576.]]
    """

    descriptor: ConvolutionDescriptor
    data_type: DataType
    weights: ArrayLike
    bias_terms: ArrayLike | None = None
    weights_quantization_type: WeightsQuantizationType = WeightsQuantizationType.NONE
    ranges: ArrayLike | None = None
    lookup_table: ArrayLike | None = None


_FLOATS = {DataType.FLOAT32: jnp.float32, DataType.FLOAT16: jnp.float16}


def check_source(x: jax.Array, source: DataSource) -> ConvolutionDescriptor:
    """The descriptor of a source that fits the image x."""
    descriptor = source.descriptor
    if not isinstance(descriptor, ConvolutionDescriptor):
        raise TypeError(f"`source.descriptor` must be a ConvolutionDescriptor, but was {descriptor!r}")
    if x.ndim != 4:
        raise ValueError(f"`x` must have shape (N, H, W, C), but has shape {x.shape}")
    if x.shape[-1] != descriptor.input_feature_channels:
        raise ValueError(
            f"`x` must have `input_feature_channels` = {descriptor.input_feature_channels} channels, "
            f"but has shape {x.shape}"
        )
    return descriptor


def binary_kernel(source: DataSource) -> jax.Array:
    """A packed kernel of words, or a latent kernel of floats."""
    data_type = as_member("source.data_type", source.data_type, DataType)
    weights = jnp.asarray(source.weights)
    if data_type == DataType.UINT32:
        if weights.dtype != jnp.uint32:
            raise TypeError(
                f"`source.weights` must hold words of dtype uint32, as `source.data_type` = UINT32 declares, "
                f"but has dtype {weights.dtype}"
            )
        _check_not_quantized(source, data_type)
        # Unused bits may stay: the operator ignores them.
        return _outputs_last(weights, source.descriptor.words_shape)
    if data_type in _FLOATS:
        return _float_kernel(weights, data_type, source)
    raise TypeError(
        f"`source.data_type` must be UINT32, or FLOAT32 or FLOAT16 for latent weights, in a binary layer, "
        f"but was {data_type.name}"
    )


def bias(source: DataSource) -> jax.Array | None:
    """The bias terms, checked."""
    if source.bias_terms is None:
        return None
    terms = jnp.asarray(source.bias_terms)
    outputs = source.descriptor.output_feature_channels
    if not jnp.issubdtype(terms.dtype, jnp.floating):
        raise TypeError(f"`source.bias_terms` must have a floating dtype, but has dtype {terms.dtype}")
    if terms.shape != (outputs,):
        raise ValueError(
            f"`source.bias_terms` must have shape (output_feature_channels,) = ({outputs},), "
            f"but has shape {terms.shape}"
        )
    return terms


def real_kernel(source: DataSource) -> jax.Array:
    """A real kernel, float16 or float32, with bytes decoded."""
    data_type = as_member("source.data_type", source.data_type, DataType)
    weights = jnp.asarray(source.weights)
    if data_type in _FLOATS:
        return _float_kernel(weights, data_type, source)
    if data_type != DataType.UINT8:
        raise TypeError(
            f"`source.data_type` must be FLOAT32, FLOAT16 or UINT8 in a layer of real weights, but was {data_type.name}"
        )
    if weights.dtype != jnp.uint8:
        raise TypeError(
            f"`source.weights` must have dtype uint8, as `source.data_type` = UINT8 declares, "
            f"but has dtype {weights.dtype}"
        )
    w = _outputs_last(weights, source.descriptor.weights_shape)
    kind = _quantization(source)
    ranges, table = source.ranges, source.lookup_table
    if kind == WeightsQuantizationType.NONE or (ranges is None) == (table is None):
        raise ValueError(
            "`source` must have either `ranges`, with LINEAR, or `lookup_table`, with LOOKUP_TABLE, for UINT8 weights, "
            f"but has `weights_quantization_type` = {kind.name}, `ranges` {_given(ranges)} and `lookup_table` "
            f"{_given(table)}"
        )
    if kind == WeightsQuantizationType.LOOKUP_TABLE:
        if table is None:
            raise ValueError("`source.lookup_table` must be given with LOOKUP_TABLE, but was None")
        return dequantize_lookup(w, table)
    if ranges is None:
        raise ValueError("`source.ranges` must be given with LINEAR, but was None")
    ranges = jnp.asarray(ranges)
    if ranges.shape != (w.shape[-1], 2):
        raise ValueError(f"`source.ranges` must have shape (O, 2) = ({w.shape[-1]}, 2), but has shape {ranges.shape}")
    return dequantize_linear(w, ranges[:, 0], ranges[:, 1])


def _float_kernel(weights: jax.Array, data_type: DataType, source: DataSource) -> jax.Array:
    if weights.dtype != _FLOATS[data_type]:
        raise TypeError(
            f"`source.weights` must have dtype {jnp.dtype(_FLOATS[data_type])}, as `source.data_type` = "
            f"{data_type.name} declares, but has dtype {weights.dtype}"
        )
    _check_not_quantized(source, data_type)
    return _outputs_last(weights, source.descriptor.weights_shape)


def _quantization(source: DataSource) -> WeightsQuantizationType:
    name = "source.weights_quantization_type"
    return as_member(name, source.weights_quantization_type, WeightsQuantizationType)


def _check_not_quantized(source: DataSource, data_type: DataType) -> None:
    """Only bytes stand for other numbers."""
    kind = _quantization(source)
    if kind != WeightsQuantizationType.NONE:
        raise ValueError(
            f"`source.weights_quantization_type` must be NONE of weights of {data_type.name}, but was {kind.name}"
        )


def _outputs_last(weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.moveaxis(shaped("source.weights", weights, shape), 0, -1)


def _given(value: object) -> str:
    return "is None" if value is None else "is given"
