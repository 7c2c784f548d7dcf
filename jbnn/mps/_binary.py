"""`MPSCNNBinaryConvolution` and `MPSCNNBinaryFullyConnected`, which train here."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._arguments import as_float, at_least_float32
from jbnn._binary import binary_conv
from jbnn._options import Mode, Quantizer
from jbnn.mps._borders import with_borders
from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._destination import Position, Rectangle, as_destination, into
from jbnn.mps._enums import BinaryConvolutionFlags, BinaryConvolutionType, EdgeMode, as_member
from jbnn.mps._finish import folded, to_pixels
from jbnn.mps._placement import Padding, Placement, place
from jbnn.mps._source import DataSource, bias, binary_kernel, check_source
from jbnn.quantizers import ste_sign

_MODES: dict[BinaryConvolutionType, Mode] = {
    BinaryConvolutionType.BINARY_WEIGHTS: "binary_weights",
    BinaryConvolutionType.XNOR: "xnor",
    BinaryConvolutionType.AND: "and",
}


def binary_convolution(
    x: ArrayLike,
    source: DataSource,
    *,
    type: BinaryConvolutionType | int,
    flags: BinaryConvolutionFlags | int = BinaryConvolutionFlags.NONE,
    scale_value: ArrayLike | None = None,
    output_bias_terms: ArrayLike | None = None,
    output_scale_terms: ArrayLike | None = None,
    input_bias_terms: ArrayLike | None = None,
    input_scale_terms: ArrayLike | None = None,
    padding: Padding | None = None,
    offset: Position | None = None,
    clip: Rectangle | None = None,
    destination: ArrayLike | None = None,
    edge_mode: EdgeMode | int = EdgeMode.ZERO,
    input_quantizer: Quantizer = ste_sign,
    kernel_quantizer: Quantizer = ste_sign,
    implementation: str | None = None,
) -> jax.Array:
    """`MPSCNNBinaryConvolution`: its arithmetic, and a gradient, which MPS has not.

        z    = (x + input_bias_terms)·input_scale_terms      x with its border
        a, B = the signs of z and of the weights, ±1, or bits under AND; BINARY_WEIGHTS: a = z
        out  = neuron(correlation of a with B · scale · beta + bias)

    The two initialisers: with `scale_value` that is the scale, the bias is the source's, and there are no input terms.
    Without, the four terms hold, None being 0 or 1, and the source's bias is not used.

    The border is literal: a tap outside the image is 0 (or the nearest pixel, CLAMP) before the input terms, so under
    XNOR it is ±1, and +1 without input terms; beta takes its mean from the same bordered image. That is a reading of
    Apple's pages, which leave it open; it was not compared with a Mac. `jbnn.binary_conv` has borders that contribute
    nothing.

    Where it reads and writes: by `padding`; or as MPS's kernels do, by `offset`, `clip` and `destination`. Given
    neither, as MPS's default policy, `PaddingMethod.SIZE_SAME`.

    Args:
      x: (N, H, W, C), floating.
      source: descriptor and weights. Words, or floats as latent weights, which can be trained.
      type: BINARY_WEIGHTS, XNOR or AND.
      flags: USE_BETA_SCALING multiplies with beta, the mean of |z| over channels and window.
      scale_value: a scalar; the first initialiser.
      output_bias_terms: (O,); None is 0.
      output_scale_terms: (O,); None is 1.
      input_bias_terms: (C,), added first; None is 0.
      input_scale_terms: (C,), multiplied second; None is 1.
      padding: a `PaddingMethod`, or pairs ((low, high), (low, high)) for rows and columns as in `lax`.
      offset: the (row, column) of the image that the window of the first output is centred on; window columns from
        -(k // 2) to (k - 1) // 2. (0, 0) if only `clip` or `destination` are given. MPS's offsets name x first.
      clip: (origin, size), each (rows, columns): the rectangle of the destination that is written. By default all of
        it, or, without a destination, as many rows and columns as SIZE_SAME gives. As in MPS the origin has no
        influence on what is read.
      destination: (N, H', W', channels), which the result is written into, at `clip`.
      edge_mode: ZERO, CLAMP, MIRROR or MIRROR_WITH_EDGE; MPS defines the first two.
      input_quantizer: gives the surrogate gradient of the sign of z, as in `jbnn.binary_conv`.
      kernel_quantizer: the same for latent weights.
      implementation: as in `jbnn.binary_conv`.

    Returns:
      The rectangle (N, *size, channels), or all of the destination with it written. O channels, or O / r² with a
      sub-pixel factor r; in the dtype of x.

    Raises:
      TypeError: a dtype is wrong, or `source.weights` are not what `source.data_type` declares.
      ValueError: the source contradicts its descriptor; terms of the wrong length; both initialisers at once;
        `padding` together with `offset`, `clip` or `destination`; a rectangle outside the destination.
      NotImplementedError: as in `jbnn.binary_conv`.

    Gradient: in x, latent weights, the bias and all terms, as in `jbnn.binary_conv`; through border and beta too.

    Example:
      >>> mps = jbnn.mps
      >>> d = mps.ConvolutionDescriptor(
      ...     kernel_width=1, kernel_height=1, input_feature_channels=3, output_feature_channels=1
      ... )
      >>> word, bias = jnp.array([3], jnp.uint32), jnp.array([0.5])
      >>> source = mps.ArrayDataSource(d, mps.DataType.UINT32, word, bias)
      >>> x = jnp.array([0.0, -0.5, 2.0]).reshape(1, 1, 1, 3)
      >>> xnor, beta = mps.BinaryConvolutionType.XNOR, mps.BinaryConvolutionFlags.USE_BETA_SCALING
      >>> y = mps.binary_convolution(x, source, type=xnor, flags=beta, scale_value=2.0)
      >>> print(y.reshape(()))
      -1.1666667

    References:
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnbinaryconvolution
    """
    x = as_float("x", x)
    descriptor = check_source(x, source)
    target = as_destination(destination, x, descriptor)
    placement = place(x.shape[1:3], descriptor, padding=padding, offset=offset, clip=clip, destination=target)
    return _binary(
        x,
        source,
        placement,
        target,
        edge_mode,
        type=type,
        flags=flags,
        scale_value=scale_value,
        terms=(output_bias_terms, output_scale_terms, input_bias_terms, input_scale_terms),
        quantizers=(input_quantizer, kernel_quantizer),
        implementation=implementation,
    )


def binary_fully_connected(
    x: ArrayLike,
    source: DataSource,
    *,
    type: BinaryConvolutionType | int,
    flags: BinaryConvolutionFlags | int = BinaryConvolutionFlags.NONE,
    scale_value: ArrayLike | None = None,
    output_bias_terms: ArrayLike | None = None,
    output_scale_terms: ArrayLike | None = None,
    input_bias_terms: ArrayLike | None = None,
    input_scale_terms: ArrayLike | None = None,
    input_quantizer: Quantizer = ste_sign,
    kernel_quantizer: Quantizer = ste_sign,
    implementation: str | None = None,
) -> jax.Array:
    """`MPSCNNBinaryFullyConnected`: a binary convolution whose window is the image.

    The weights have a new word at each pixel; `dense_words` makes the words of a plain dense layer of them.

    Args:
      x: (N, kH, kW, C), floating.
      source: as in `binary_convolution`; strides, dilation and groups are 1.
      type: as in `binary_convolution`.
      flags: USE_BETA_SCALING multiplies with the mean of |z| over the image.
      scale_value: as in `binary_convolution`.
      output_bias_terms: as in `binary_convolution`.
      output_scale_terms: as in `binary_convolution`.
      input_bias_terms: (C,), as in `binary_convolution`.
      input_scale_terms: (C,), as in `binary_convolution`.
      input_quantizer: as in `binary_convolution`.
      kernel_quantizer: as in `binary_convolution`.
      implementation: as in `binary_convolution`.

    Returns:
      (N, 1, 1, O) in the dtype of x.

    Raises:
      TypeError: as in `binary_convolution`.
      ValueError: as in `binary_convolution`; the image is not the window; the descriptor has strides, dilation, groups
        or a sub-pixel factor.
      NotImplementedError: as in `jbnn.binary_conv`.

    Gradient: as in `binary_convolution`.

    Example:
      >>> mps = jbnn.mps
      >>> d = mps.ConvolutionDescriptor(
      ...     kernel_width=2, kernel_height=2, input_feature_channels=40, output_feature_channels=3
      ... )
      >>> blob = mps.pack_weights(jnp.ones((2, 2, 40, 3)))
      >>> source = mps.ArrayDataSource(d, mps.DataType.UINT32, blob)
      >>> x = jnp.ones((1, 2, 2, 40))
      >>> print(mps.binary_fully_connected(x, source, type=mps.BinaryConvolutionType.AND))
      [[[[160. 160. 160.]]]]

    References:
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnbinaryfullyconnected
    """
    x = as_float("x", x)
    descriptor = check_source(x, source)
    _check_fully_connected(x, descriptor)
    return _binary(
        x,
        source,
        Placement(((0, 0), (0, 0))),
        None,
        EdgeMode.ZERO,
        type=type,
        flags=flags,
        scale_value=scale_value,
        terms=(output_bias_terms, output_scale_terms, input_bias_terms, input_scale_terms),
        quantizers=(input_quantizer, kernel_quantizer),
        implementation=implementation,
    )


def _binary(
    x: jax.Array,
    source: DataSource,
    placement: Placement,
    destination: jax.Array | None,
    edge_mode: EdgeMode | int,
    *,
    type: BinaryConvolutionType | int,
    flags: BinaryConvolutionFlags | int,
    scale_value: ArrayLike | None,
    terms: tuple[ArrayLike | None, ...],
    quantizers: tuple[Quantizer, Quantizer],
    implementation: str | None,
) -> jax.Array:
    descriptor = source.descriptor
    mode = _MODES[as_member("type", type, BinaryConvolutionType)]
    flags = as_member("flags", flags, BinaryConvolutionFlags)
    w = binary_kernel(source)
    scale, output_bias, input_bias, input_scale = _initialised(source, scale_value, *terms)
    if descriptor.batch_normalization is not None:
        dtype = at_least_float32(x.dtype)
        scale, output_bias = folded(descriptor.batch_normalization, scale, output_bias, dtype)
    y = binary_conv(
        with_borders(x, placement.pairs, edge_mode),
        w,
        mode=mode,
        window_strides=descriptor.window_strides,
        padding="VALID",
        rhs_dilation=descriptor.rhs_dilation,
        feature_group_count=descriptor.feature_group_count,
        input_bias=input_bias,
        input_scale=input_scale,
        scale=scale,
        bias=output_bias,
        beta_scaling=bool(flags & BinaryConvolutionFlags.USE_BETA_SCALING),
        activation=descriptor.fused_neuron.activation,
        input_quantizer=quantizers[0],
        kernel_quantizer=quantizers[1],
        implementation=implementation,
    )
    return into(destination, to_pixels(y, descriptor), placement.origin)


def _initialised(
    source: DataSource,
    scale_value: ArrayLike | None,
    output_bias: ArrayLike | None,
    output_scale: ArrayLike | None,
    input_bias: ArrayLike | None,
    input_scale: ArrayLike | None,
) -> tuple[jax.Array | None, ...]:
    """Scale, bias, input bias and input scale by one of MPS's two initialisers."""
    inputs, outputs = source.descriptor.input_feature_channels, source.descriptor.output_feature_channels
    terms = {
        "output_scale_terms": _terms("output_scale_terms", output_scale, outputs, "O"),
        "output_bias_terms": _terms("output_bias_terms", output_bias, outputs, "O"),
        "input_bias_terms": _terms("input_bias_terms", input_bias, inputs, "C"),
        "input_scale_terms": _terms("input_scale_terms", input_scale, inputs, "C"),
    }
    if scale_value is None:
        return tuple(terms.values())
    for name, value in terms.items():
        if value is not None:
            raise ValueError(f"`{name}` must be None with `scale_value`: they belong to two initialisers")
    scale = jnp.asarray(scale_value)
    if scale.shape != ():
        raise ValueError(f"`scale_value` must be a scalar, but has shape {scale.shape}")
    return scale, bias(source), None, None


def _terms(name: str, value: ArrayLike | None, size: int, letter: str) -> jax.Array | None:
    if value is None:
        return None
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"`{name}` must have a floating dtype, but has dtype {value.dtype}")
    if value.shape != (size,):
        raise ValueError(f"`{name}` must have shape ({letter},) = ({size},), but has shape {value.shape}")
    return value


def _check_fully_connected(x: jax.Array, descriptor: ConvolutionDescriptor) -> None:
    """A fully connected layer has a window that is the image, and nothing else."""
    if x.shape[1:3] != descriptor.window:
        raise ValueError(
            f"`x` must have the size of the window, {descriptor.window}, in a fully connected layer, "
            f"but has shape {x.shape}"
        )
    for name in ("stride_in_pixels_x", "stride_in_pixels_y", "dilation_rate_x", "dilation_rate_y", "groups"):
        if getattr(descriptor, name) != 1:
            raise ValueError(
                f"`{name}` of the descriptor must be 1 in a fully connected layer, but was {getattr(descriptor, name)}"
            )
    if descriptor.channel_multiplier or descriptor.sub_pixel_scale_factor != 1:
        raise ValueError("the descriptor of a fully connected layer must be neither depthwise nor sub-pixel")
