"""MPS's ordinary layers over `jbnn.convolution`: `MPSCNNConvolution`, its transpose, and its gradient."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_array, as_float, at_least_float32
from jbnn._shapes import conv_geometry
from jbnn.convolution import ConvGradient, conv, conv_gradient, conv_transpose
from jbnn.mps._borders import edge_name
from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._destination import Position, Rectangle, as_destination, into
from jbnn.mps._enums import AccumulatorPrecision, DataType, EdgeMode, GradientOption, as_member
from jbnn.mps._finish import folded, from_pixels, to_pixels
from jbnn.mps._placement import Padding, Placement, place, place_transposed
from jbnn.mps._source import DataSource, bias, check_source, real_kernel


def convolution(
    x: ArrayLike,
    source: DataSource,
    *,
    padding: Padding | None = None,
    offset: Position | None = None,
    clip: Rectangle | None = None,
    destination: ArrayLike | None = None,
    edge_mode: EdgeMode | int = EdgeMode.ZERO,
    accumulator_precision: AccumulatorPrecision | int = AccumulatorPrecision.FLOAT,
) -> jax.Array:
    """`MPSCNNConvolution`, grouped, depthwise or sub-pixel as the descriptor says.

        out[n, y, x, o] = neuron(sum over p, q, c of in[n, S·y + offset - (K >> 1) + D·p, …, c]·W[o, p, q, c] + b[o])

    with K = (k - 1)·D + 1. Batch normalisation is folded into W and b first.

    Args:
      x: (N, H, W, C), floating.
      source: descriptor, real or uint8 weights, and bias terms.
      padding: as in `binary_convolution`.
      offset: as in `binary_convolution`.
      clip: as in `binary_convolution`.
      destination: as in `binary_convolution`.
      edge_mode: ZERO, CLAMP, MIRROR or MIRROR_WITH_EDGE; MPS defines the first two.
      accumulator_precision: FLOAT computes in float32 (float64 if x is) and rounds once. HALF computes in float16; x
        and the weights must have that dtype.

    Returns:
      The rectangle (N, *size, channels), or all of the destination with it written, as in `binary_convolution`.

    Raises:
      TypeError: a dtype is wrong, or `source.weights` are not what `source.data_type` declares.
      ValueError: the source contradicts its descriptor; positions, as in `binary_convolution`.

    Gradient: in x, the weights and the bias terms, that of JAX; with a fused neuron, batch normalisation and sub-pixels
    too, where MPS has none.

    Example:
      >>> mps = jbnn.mps
      >>> d = mps.ConvolutionDescriptor(input_feature_channels=1, output_feature_channels=1)
      >>> source = mps.ArrayDataSource(d, mps.DataType.FLOAT32, jnp.ones((1, 3, 3, 1)), jnp.array([0.5]))
      >>> print(mps.convolution(jnp.ones((1, 3, 3, 1)), source)[0, :, :, 0])
      [[4.5 6.5 4.5]
       [6.5 9.5 6.5]
       [4.5 6.5 4.5]]

    References:
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolution
    """
    x = as_float("x", x)
    descriptor = check_source(source, x.shape)
    target = as_destination(destination, x, descriptor)
    placement = place(x.shape[1:3], descriptor, padding=padding, offset=offset, clip=clip, destination=target)
    dtype = _computed_in(x, source, accumulator_precision)
    w, b = _parameters(source, at_least_float32(x.dtype))
    y = conv(
        x.astype(dtype),
        w.astype(dtype),
        window_strides=descriptor.window_strides,
        padding=placement.pairs,
        rhs_dilation=descriptor.rhs_dilation,
        feature_group_count=descriptor.feature_group_count,
        edge_mode=edge_name(edge_mode),
        bias=b,
        activation=descriptor.fused_neuron.activation,
    )
    return into(target, to_pixels(y.astype(x.dtype), descriptor), placement.origin)


def convolution_transpose(
    x: ArrayLike,
    source: DataSource,
    *,
    padding: Padding | None = None,
    output_size: Sequence[int] | None = None,
    offset: Position | None = None,
    kernel_offset: Position | None = None,
    clip: Rectangle | None = None,
    destination: ArrayLike | None = None,
    accumulator_precision: AccumulatorPrecision | int = AccumulatorPrecision.FLOAT,
) -> jax.Array:
    """`MPSCNNConvolutionTranspose`: a correlation of unit stride over the image with S - 1 zeros between its pixels.

        out[n, y, x, o] = neuron(sum over p, q, c of E[n, y + t - (K >> 1) + D·p, …, c]·W[o, p, q, c] + b[o])

    E is the image with its zeros, and t = offset·S + kernel_offset. The kernel is not rotated;
    `jbnn.convolution.transpose_kernel` converts those of PyTorch and TensorFlow.

    Args:
      x: (N, H, W, C), floating.
      source: as in `convolution`.
      padding: a `PaddingMethod`, SIZE_SAME by default: s·(K - 1) rows more than E has, s = -1, 0, +1 for valid, same
        and full. E has (n - 1)·S + 1 rows, and none if x has none. A transpose that undoes a valid convolution is
        full, and the reverse. Or pairs that pad E.
      output_size: rows and columns of the result before sub-pixels, what MPS passes in its `MPSImageSizeEncodingState`:
        up to S - 1 more than `padding` gives. The result then has the place of the image of which the convolution with
        that policy (valid for full, full for valid) makes x: it is the transpose of that convolution.
      offset: as (row, column), in pixels of x; (0, 0) if only one of the following is given.
      kernel_offset: (row, column), in pixels of the result.
      clip: as in `binary_convolution`; by default SIZE_SAME's size.
      destination: as in `binary_convolution`.
      accumulator_precision: as in `convolution`.

    Returns:
      The rectangle (N, *size, channels), or all of the destination with it written, as in `binary_convolution`.

    Raises:
      TypeError: as in `convolution`.
      ValueError: as in `convolution`; no convolution with that policy makes x of an image of `output_size`.

    Gradient: as in `convolution`.

    Example:
      >>> mps = jbnn.mps
      >>> d = mps.ConvolutionDescriptor(
      ...     input_feature_channels=1, output_feature_channels=1, stride_in_pixels_x=2, stride_in_pixels_y=2
      ... )
      >>> source = mps.ArrayDataSource(d, mps.DataType.FLOAT32, jnp.ones((1, 3, 3, 1)))
      >>> x = jnp.ones((1, 2, 2, 1))
      >>> y, larger = mps.convolution_transpose(x, source), mps.convolution_transpose(x, source, output_size=(4, 4))
      >>> print(y.shape, larger.shape)
      (1, 3, 3, 1) (1, 4, 4, 1)

    References:
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolutiontranspose
    """
    x = as_float("x", x)
    descriptor = check_source(source, x.shape)
    target = as_destination(destination, x, descriptor)
    placement = place_transposed(
        x.shape[1:3],
        descriptor,
        padding=padding,
        output_size=output_size,
        offset=offset,
        kernel_offset=kernel_offset,
        clip=clip,
        destination=target,
    )
    dtype = _computed_in(x, source, accumulator_precision)
    w, b = _parameters(source, at_least_float32(x.dtype))
    y = conv_transpose(
        x.astype(dtype),
        w.astype(dtype),
        window_strides=descriptor.window_strides,
        padding=placement.pairs,
        rhs_dilation=descriptor.rhs_dilation,
        feature_group_count=descriptor.feature_group_count,
        bias=b,
        activation=descriptor.fused_neuron.activation,
    )
    return into(target, to_pixels(y.astype(x.dtype), descriptor), placement.origin)


def convolution_gradient(
    x: ArrayLike,
    source: DataSource,
    g: ArrayLike,
    *,
    option: GradientOption | int = GradientOption.ALL,
    padding: Padding | None = None,
    offset: Position | None = None,
    clip: Rectangle | None = None,
    edge_mode: EdgeMode | int = EdgeMode.ZERO,
) -> ConvGradient:
    """`MPSCNNConvolutionGradient`: the gradient of `convolution` before its neuron, as a function.

        kernel[o, p, q, c] = sum over n, y, x of g[n, y, x, o]·in[n, S·y + offset - (K >> 1) + D·p, …, c]
        bias[o]            = sum over n, y, x of g[n, y, x, o]

    Where JAX may differentiate, `jax.grad` of `convolution` does the same, and passes through the neuron.

    Args:
      x: (N, H, W, C), as in the forward call.
      source: as in the forward call; its bias terms and neuron have no influence. No batch normalisation.
      g: (N, *size, channels), the gradient in the forward result before the neuron, in the dtype of x.
      option: WITH_DATA, WITH_WEIGHTS_AND_BIAS or ALL.
      padding: as in the forward call.
      offset: as in the forward call.
      clip: as in the forward call.
      edge_mode: as in the forward call.

    Returns:
      `ConvGradient(input, kernel, bias)`, None where not asked for. The kernel's is in MPS's layout, (O, kH, kW, C/G),
      and in the dtype of real weights, float32 of uint8 ones; kernel and bias are summed over the batch.

    Raises:
      TypeError: as in `convolution`; g has another dtype than x.
      ValueError: as in `convolution`; g has another shape than the result; the descriptor has batch normalisation.

    Example:
      >>> mps = jbnn.mps
      >>> d = mps.ConvolutionDescriptor(input_feature_channels=1, output_feature_channels=1)
      >>> source = mps.ArrayDataSource(d, mps.DataType.FLOAT32, jnp.ones((1, 3, 3, 1)))
      >>> gradient = mps.convolution_gradient(jnp.ones((1, 3, 3, 1)), source, jnp.ones((1, 3, 3, 1)))
      >>> print(gradient.kernel[0, :, :, 0], gradient.bias)
      [[4. 6. 4.]
       [6. 9. 6.]
       [4. 6. 4.]] [9.]

    References:
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolutiongradient
    """
    x = as_float("x", x)
    g = as_array("g", g, lambda dtype: dtype == x.dtype, f"have the dtype of `x`, {x.dtype}")
    descriptor = check_source(source, x.shape)
    option = as_member("option", option, GradientOption)
    if descriptor.batch_normalization is not None:
        raise ValueError(
            "`source.descriptor` must be without batch normalisation in `convolution_gradient`: "
            "take `jax.grad` of `convolution`"
        )
    placement = place(x.shape[1:3], descriptor, padding=padding, offset=offset, clip=clip, destination=None)
    w, b = _parameters(source, at_least_float32(x.dtype))
    shape = _result_shape(x, descriptor, placement)
    if g.shape != shape:
        raise ValueError(f"`g` must have shape {shape}, as the layer's result, but has shape {g.shape}")
    dtype = _computed_in(x, source)
    parts = [
        *(["input"] if option & GradientOption.WITH_DATA else []),
        *(["kernel", "bias"] if option & GradientOption.WITH_WEIGHTS_AND_BIAS else []),
    ]
    by_input, by_kernel, by_bias = conv_gradient(
        x.astype(dtype),
        w.astype(dtype),
        from_pixels(g.astype(dtype), descriptor),
        wrt=parts,  # type: ignore[arg-type]  # mypy takes these literals for any strings
        window_strides=descriptor.window_strides,
        padding=placement.pairs,
        rhs_dilation=descriptor.rhs_dilation,
        feature_group_count=descriptor.feature_group_count,
        edge_mode=edge_name(edge_mode),
    )
    return ConvGradient(
        None if by_input is None else by_input.astype(x.dtype),
        None if by_kernel is None else jnp.moveaxis(by_kernel, -1, 0).astype(w.dtype),
        None if by_bias is None else by_bias.astype(w.dtype if b is None else b.dtype),
    )


def _result_shape(x: jax.Array, descriptor: ConvolutionDescriptor, placement: Placement) -> tuple[int, ...]:
    """The shape of a convolution's result, sub-pixels included."""
    depth = descriptor.input_feature_channels // descriptor.feature_group_count
    geometry = conv_geometry(
        x,
        jax.ShapeDtypeStruct((*descriptor.window, depth, descriptor.output_feature_channels), x.dtype),
        window_strides=descriptor.window_strides,
        padding=placement.pairs,
        rhs_dilation=descriptor.rhs_dilation,
        feature_group_count=descriptor.feature_group_count,
    )
    factor = descriptor.sub_pixel_scale_factor
    return (x.shape[0], *(n * factor for n in geometry.output), geometry.features // factor**2)


def _parameters(source: DataSource, dtype: DTypeLike) -> tuple[jax.Array, jax.Array | None]:
    """Kernel and bias, with the batch normalisation in them, evaluated in `dtype` at least: W·I and b·I + J."""
    w, b = real_kernel(source), bias(source)
    norm = source.descriptor.batch_normalization
    if norm is None:
        return w, b
    scale, b = folded(norm, None, b, dtype)
    return w.astype(scale.dtype) * scale.reshape(1, 1, 1, -1), b


def _computed_in(
    x: jax.Array, source: DataSource, accumulator_precision: AccumulatorPrecision | int = AccumulatorPrecision.FLOAT
) -> DTypeLike:
    """The dtype of products and sums."""
    option = as_member("accumulator_precision", accumulator_precision, AccumulatorPrecision)
    if option == AccumulatorPrecision.FLOAT:
        return at_least_float32(x.dtype)
    if x.dtype != jnp.float16:
        raise TypeError(f"`x` must have dtype float16 with accumulator_precision=HALF, but has dtype {x.dtype}")
    data_type = as_member("source.data_type", source.data_type, DataType)
    if data_type != DataType.FLOAT16:
        raise TypeError(
            "`source.weights` must have dtype float16 with accumulator_precision=HALF, "
            f"but `source.data_type` was {data_type.name}"
        )
    return jnp.float16
