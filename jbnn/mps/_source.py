"""Where a layer's weights come from: a protocol with MPS's names, the plain value that fulfils it, and reading it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jbnn._arguments import as_array
from jbnn._jax_versions import register_static_fields_for_export
from jbnn._numbers import as_real
from jbnn.convolution import dequantize_linear, dequantize_lookup
from jbnn.mps._blobs import shaped
from jbnn.mps._descriptor import ConvolutionDescriptor, check_descriptor
from jbnn.mps._enums import DataType, WeightsQuantizationType, as_member
from jbnn.mps._storage import dump, load


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
@dataclasses.dataclass(frozen=True, eq=False)
class ArrayDataSource:
    """A `DataSource` of arrays: immutable, and a pytree, so that `jit`, `grad` and optimisers take it.

    It is checked where a layer reads it, since transformations put other things than arrays into pytrees. Two are
    equal if they are one object, as arrays are neither equal nor hashable as a whole; compare leaves by `jax.tree.map`.

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


register_static_fields_for_export(ArrayDataSource, dump, load)

_FLOATS = {DataType.FLOAT32: jnp.float32, DataType.FLOAT16: jnp.float16}


def check_source(source: DataSource, image: tuple[int, ...]) -> ConvolutionDescriptor:
    """The descriptor of a source that fits an image of that shape."""
    if not hasattr(source, "descriptor"):
        raise TypeError(f"`source` must be a DataSource, such as an ArrayDataSource, but was {source!r}")
    descriptor = check_descriptor("source.descriptor", source.descriptor)
    if len(image) != 4:
        raise ValueError(f"`x` must have shape (N, H, W, C), but has shape {image}")
    if image[-1] != descriptor.input_feature_channels:
        raise ValueError(
            f"`x` must have `input_feature_channels` = {descriptor.input_feature_channels} channels, "
            f"but has shape {image}"
        )
    return descriptor


def binary_kernel(source: DataSource) -> jax.Array:
    """A packed kernel of words, or a latent kernel of floats."""
    data_type = as_member("source.data_type", source.data_type, DataType)
    if data_type == DataType.UINT32:
        # Unused bits may stay: the operator ignores them.
        return _plain_kernel(source, data_type, jnp.uint32, "hold words of", source.descriptor.words_shape)
    if data_type in _FLOATS:
        return _float_kernel(source, data_type)
    raise TypeError(
        f"`source.data_type` must be UINT32, or FLOAT32 or FLOAT16 for latent weights, in a binary layer, "
        f"but was {data_type.name}"
    )


def real_kernel(source: DataSource) -> jax.Array:
    """A real kernel, float16 or float32, with bytes decoded."""
    data_type = as_member("source.data_type", source.data_type, DataType)
    if data_type in _FLOATS:
        return _float_kernel(source, data_type)
    if data_type != DataType.UINT8:
        raise TypeError(
            f"`source.data_type` must be FLOAT32, FLOAT16 or UINT8 in a layer of real weights, but was {data_type.name}"
        )
    w = _kernel(source, data_type, jnp.uint8, "have", source.descriptor.weights_shape)
    kind, ranges, table = _quantization(source), source.ranges, source.lookup_table
    if kind == WeightsQuantizationType.NONE or (ranges is None) == (table is None):
        raise ValueError(
            "`source` must have either `ranges`, with LINEAR, or `lookup_table`, with LOOKUP_TABLE, for UINT8 weights, "
            f"but has {_meaning(source)}"
        )
    if kind == WeightsQuantizationType.LOOKUP_TABLE:
        if table is None:
            raise ValueError("`source.lookup_table` must be given with LOOKUP_TABLE, but was None")
        return dequantize_lookup(w, table)
    if ranges is None:
        raise ValueError("`source.ranges` must be given with LINEAR, but was None")
    ranges = as_real("source.ranges", ranges, jnp.float32)
    if ranges.shape != (w.shape[-1], 2):
        raise ValueError(f"`source.ranges` must have shape (O, 2) = ({w.shape[-1]}, 2), but has shape {ranges.shape}")
    return dequantize_linear(w, *(lax.index_in_dim(ranges, i, axis=1, keepdims=False) for i in (0, 1)))


def bias(source: DataSource) -> jax.Array | None:
    """The bias terms, checked."""
    if source.bias_terms is None:
        return None
    outputs = source.descriptor.output_feature_channels
    return floats("source.bias_terms", source.bias_terms, outputs, "output_feature_channels")


def floats(name: str, value: ArrayLike, size: int, letter: str) -> jax.Array:
    """One float for each channel, in the dtype that they have; float64 is rounded where JAX has none."""
    dtype = own_dtype(value, jnp.result_type(float))
    if hasattr(value, "dtype") and not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"`{name}` must have a floating dtype, but has dtype {value.dtype}")
    terms = as_real(name, value, dtype)
    if terms.shape != (size,):
        raise ValueError(f"`{name}` must have shape ({letter},) = ({size},), but has shape {terms.shape}")
    return terms


def own_dtype(value: Any, otherwise: Any) -> Any:
    """The dtype in which JAX holds a floating array; `otherwise` that of integers, and of what has no dtype."""
    dtype = getattr(value, "dtype", None)
    return jnp.result_type(dtype) if dtype is not None and jnp.issubdtype(dtype, jnp.floating) else otherwise


def _float_kernel(source: DataSource, data_type: DataType) -> jax.Array:
    return _plain_kernel(source, data_type, _FLOATS[data_type], "have", source.descriptor.weights_shape)


def _plain_kernel(source: DataSource, data_type: DataType, *args: Any) -> jax.Array:
    """A kernel whose weights stand for nothing but themselves, as all do but bytes."""
    w = _kernel(source, data_type, *args)
    kind = _quantization(source)
    if kind != WeightsQuantizationType.NONE:
        raise ValueError(
            f"`source.weights_quantization_type` must be NONE of weights of {data_type.name}, but was {kind.name}"
        )
    if source.ranges is not None or source.lookup_table is not None:
        raise ValueError(
            f"`source` must have neither `ranges` nor `lookup_table` for {data_type.name} weights, "
            f"but has {_meaning(source)}"
        )
    return w


def _kernel(source: DataSource, data_type: DataType, dtype: Any, verb: str, shape: tuple[int, ...]) -> jax.Array:
    """The weights, of the dtype that is declared, with the outputs on the last axis."""
    must = f"{verb} dtype {jnp.dtype(dtype)}, as `source.data_type` = {data_type.name} declares"
    weights = as_array("source.weights", source.weights, lambda given: given == dtype, must)
    return jnp.moveaxis(shaped("source.weights", weights, shape), 0, -1)


def _quantization(source: DataSource) -> WeightsQuantizationType:
    name = "source.weights_quantization_type"
    return as_member(name, source.weights_quantization_type, WeightsQuantizationType)


def _meaning(source: DataSource) -> str:
    """What a source says of what bytes stand for."""
    given = {name: "is None" if getattr(source, name) is None else "is given" for name in ("ranges", "lookup_table")}
    return (
        f"`weights_quantization_type` = {_quantization(source).name}, `ranges` {given['ranges']} and `lookup_table` "
        f"{given['lookup_table']}"
    )
