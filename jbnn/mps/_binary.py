"""`MPSCNNBinaryConvolution` and `MPSCNNBinaryFullyConnected`, which train here."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

from typing import Any

import jax
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_float, at_least_float32
from jbnn._binary import binary_conv
from jbnn._numbers import real_scalar
from jbnn._options import Mode, Quantizer
from jbnn.mps._borders import edge_name, with_borders
from jbnn.mps._descriptor import ConvolutionDescriptor
from jbnn.mps._destination import Position, Rectangle, as_destination, into
from jbnn.mps._enums import BinaryConvolutionFlags, BinaryConvolutionType, EdgeMode, as_member
from jbnn.mps._finish import folded, to_pixels
from jbnn.mps._padding import check_known
from jbnn.mps._placement import Padding, place
from jbnn.mps._source import DataSource, bias, binary_kernel, check_source, floats, own_dtype
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

        z   = (x + input_bias_terms)·input_scale_terms, where x has a border
        a   = sign(z) in {-1, +1}               under XNOR
              (sign(z) + 1)/2 in {0, 1}         under AND
              z                                 under BINARY_WEIGHTS
        B   = the weights, in {0, 1} under AND, else in {-1, +1}
        u   = correlation of a with B
        out = neuron(u·scale·beta + bias)

    MPS makes such a layer in one of two ways. Given `scale_value`, that number is the scale, the bias is the source's,
    and there are no input terms. Else scale, bias and the input's are the four arrays of terms, where None stands for
    1 in a scale and for 0 in a bias, and the source's bias is ignored.

    The border is pixels of value 0 around x (or copies of the nearest pixel, with CLAMP). They go through the input
    terms and the sign like others, so under XNOR a tap outside the image reads +1 or -1, and without input terms +1;
    beta averages over them too. Apple's pages leave this open, and no Mac was at hand to compare with. The border of
    `jbnn.binary_conv` contributes nothing instead.

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
        `padding` together with `offset`, `clip` or `destination`; a rectangle outside the destination; an image whose
        rows or columns are symbols.
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
    descriptor = check_source(source, x.shape)
    check_known(x.shape[1:3])
    target = as_destination(destination, x, descriptor)
    placement = place(x.shape[1:3], descriptor, padding=padding, offset=offset, clip=clip, destination=target)
    options = _options(
        source,
        at_least_float32(x.dtype),
        type,
        flags,
        scale_value,
        output_bias_terms=output_bias_terms,
        output_scale_terms=output_scale_terms,
        input_bias_terms=input_bias_terms,
        input_scale_terms=input_scale_terms,
    )
    y = binary_conv(
        with_borders(x, placement.pairs, edge_name(edge_mode)),
        binary_kernel(source),
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        implementation=implementation,
        **options,
    )
    return into(target, to_pixels(y, descriptor), placement.origin)


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
    _check_fully_connected(x.shape, check_source(source, x.shape))
    options = _options(
        source,
        at_least_float32(x.dtype),
        type,
        flags,
        scale_value,
        output_bias_terms=output_bias_terms,
        output_scale_terms=output_scale_terms,
        input_bias_terms=input_bias_terms,
        input_scale_terms=input_scale_terms,
    )
    return binary_conv(
        x,
        binary_kernel(source),
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        implementation=implementation,
        **options,
    )


def _options(
    source: DataSource,
    dtype: DTypeLike,
    type: BinaryConvolutionType | int,
    flags: BinaryConvolutionFlags | int,
    scale_value: ArrayLike | None,
    **terms: ArrayLike | None,
) -> dict[str, Any]:
    """What `binary_conv` is asked for, of an image whose border is made."""
    d = source.descriptor
    mode = _MODES[as_member("type", type, BinaryConvolutionType)]
    flags = as_member("flags", flags, BinaryConvolutionFlags)
    scale, output_bias, input_bias, input_scale = _affines(source, dtype, scale_value, terms)
    if d.batch_normalization is not None:
        scale, output_bias = folded(d.batch_normalization, scale, output_bias, dtype)
    return {
        "mode": mode,
        "window_strides": d.window_strides,
        "padding": "VALID",
        "rhs_dilation": d.rhs_dilation,
        "feature_group_count": d.feature_group_count,
        "input_bias": input_bias,
        "input_scale": input_scale,
        "scale": scale,
        "bias": output_bias,
        "beta_scaling": bool(flags & BinaryConvolutionFlags.USE_BETA_SCALING),
        "activation": d.fused_neuron.activation,
    }


def _affines(
    source: DataSource, dtype: DTypeLike, scale_value: ArrayLike | None, terms: dict[str, ArrayLike | None]
) -> tuple[jax.Array | None, ...]:
    """Scale, bias, input bias and input scale, in one of MPS's two ways."""
    inputs, outputs = source.descriptor.input_feature_channels, source.descriptor.output_feature_channels

    def term(name: str, size: int, letter: str) -> jax.Array | None:
        value = terms[name]
        return None if value is None else floats(name, value, size, letter)

    given = {
        "output_scale_terms": term("output_scale_terms", outputs, "O"),
        "output_bias_terms": term("output_bias_terms", outputs, "O"),
        "input_bias_terms": term("input_bias_terms", inputs, "C"),
        "input_scale_terms": term("input_scale_terms", inputs, "C"),
    }
    if scale_value is None:
        return tuple(given.values())
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`{name}` must be None where `scale_value` is given, and the other way round")
    return real_scalar("scale_value", scale_value, own_dtype(scale_value, dtype)), bias(source), None, None


def _check_fully_connected(image: tuple[int, ...], descriptor: ConvolutionDescriptor) -> None:
    """A fully connected layer has a window that is the image, and nothing else."""
    if image[1:3] != descriptor.window:
        raise ValueError(
            f"`x` must have the size of the window, {descriptor.window}, in a fully connected layer, "
            f"but has shape {image}"
        )
    for name in ("stride_in_pixels_x", "stride_in_pixels_y", "dilation_rate_x", "dilation_rate_y", "groups"):
        if getattr(descriptor, name) != 1:
            raise ValueError(
                f"`{name}` of the descriptor must be 1 in a fully connected layer, but was {getattr(descriptor, name)}"
            )
    if descriptor.channel_multiplier or descriptor.sub_pixel_scale_factor != 1:
        raise ValueError("the descriptor of a fully connected layer must be neither depthwise nor sub-pixel")
