"""The layers: floats in, floats out, one call of lax each."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

import math

import jax
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_float
from jbnn._options import Activation
from jbnn._shapes import Padding, Sizes, check_image, conv_geometry, dense_geometry, transpose_geometry
from jbnn.convolution._edges import EdgeMode
from jbnn.convolution._layer import Layer, Precision


def conv(
    x: ArrayLike,
    w: ArrayLike,
    *,
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
    feature_group_count: int = 1,
    edge_mode: EdgeMode = "zero",
    pad_value: float = 0,
    bias: ArrayLike | None = None,
    activation: Activation = None,
    precision: Precision = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """An ordinary convolution in one to three dimensions.

        out = activation(u + bias),   u = correlation of x with w, as `lax.conv_general_dilated` computes it

    Args:
      x: (N, *S, C), with one, two or three spatial axes; float32, bfloat16 or float16 (float64 under x64).
      w: kernel (*K, C/G, O), in the dtype of x.
      window_strides: an integer, or one for each spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID" or a pair (low, high) for each spatial axis; negative values crop.
      rhs_dilation: dilation of the window; an integer, or one for each spatial axis.
      feature_group_count: G, any divisor of C and of O.
      edge_mode: what a tap outside the image reads. "zero"; "clamp": the nearest pixel; "mirror": the image mirrored at
        its outermost pixel, which is not repeated; "mirror_with_edge": mirrored beyond it, so that it is; "constant":
        `pad_value`. Rows are cropped after the image was continued.
      pad_value: a Python number, for `edge_mode="constant"`.
      bias: scalar or (O,).
      activation: any function of the result, for instance from `jbnn.activations`.
      precision: as in `lax`: of the products of float32 on a GPU or TPU.
      preferred_element_type: as in `lax`: the dtype of u, which sums of narrower x and w are accumulated in.

    Returns:
      (N, *S', O) in `preferred_element_type`, or else the dtype of x. Bias and activation are evaluated in float32
      (float64 if u is) and cast once.

    Raises:
      TypeError: a dtype is not one of the above, or those of x and w differ.
      ValueError: shapes do not match; unknown option; an image without pixels is continued.

    Gradient: JAX's own, of any order and in both modes; `conv_gradient` is the same as an explicit function.

    Example:
      >>> x, w = jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((3, 1, 1))
      >>> for edge_mode in "zero", "clamp", "mirror", "mirror_with_edge":
      ...     print(jbnn.convolution.conv(x, w, edge_mode=edge_mode)[0, :, 0])
      [1. 3. 6. 5.]
      [1. 3. 6. 8.]
      [2. 3. 6. 7.]
      [1. 3. 6. 8.]

    References:
      `MPSCNNConvolution`, https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolution
    """
    x, w = as_float("x", x), as_float("w", w)
    geometry = conv_geometry(
        x,
        w,
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
    )
    return Layer(geometry, edge_mode, pad_value, precision, preferred_element_type).apply(x, w, bias, activation)


def depthwise_conv(
    x: ArrayLike,
    w: ArrayLike,
    *,
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
    edge_mode: EdgeMode = "zero",
    pad_value: float = 0,
    bias: ArrayLike | None = None,
    activation: Activation = None,
    precision: Precision = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """A depthwise convolution: M output channels of every input channel.

        out[…, k·M + q] = activation(correlation of x[…, k] with w[…, k, q] + bias[k·M + q])

    The same as `conv` with `feature_group_count=C` and the kernel `w.reshape(*K, 1, C·M)`.

    Args:
      x: (N, *S, C), as in `conv`.
      w: kernel (*K, C, M), in the dtype of x; M is the channel multiplier.
      window_strides: as in `conv`.
      padding: as in `conv`.
      rhs_dilation: as in `conv`.
      edge_mode: as in `conv`.
      pad_value: as in `conv`.
      bias: scalar or (C·M,).
      activation: as in `conv`.
      precision: as in `conv`.
      preferred_element_type: as in `conv`.

    Returns:
      (N, *S', C·M), as in `conv`.

    Raises:
      TypeError: as in `conv`.
      ValueError: as in `conv`.

    Gradient: as in `conv`.

    Example:
      >>> x = jnp.array([[[1.0, 10.0], [2.0, 20.0]]])
      >>> w = jnp.array([[[1.0, -1.0], [1.0, -1.0]]])  # one tap, C = M = 2
      >>> print(jbnn.convolution.depthwise_conv(x, w)[0])
      [[  1.  -1.  10. -10.]
       [  2.  -2.  20. -20.]]
    """
    x, w = as_float("x", x), as_float("w", w)
    check_image("x", x)
    if w.ndim != x.ndim or w.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"`w` must have shape (*K, C, M) with {x.ndim - 2} window axes and C = {x.shape[-1]} channels, "
            f"but has shape {w.shape} where `x` has {x.shape}"
        )
    *window, channels, multiplier = w.shape
    return conv(
        x,
        w.reshape(*window, 1, channels * multiplier),
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        feature_group_count=channels,
        edge_mode=edge_mode,
        pad_value=pad_value,
        bias=bias,
        activation=activation,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    *,
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
    feature_group_count: int = 1,
    output_size: Sizes | None = None,
    bias: ArrayLike | None = None,
    activation: Activation = None,
    precision: Precision = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """A transposed convolution, unrotated as MPS's and as `lax.conv_transpose(transpose_kernel=False)`.

    The image is dilated with `window_strides` - 1 zeros between pixels, padded with zeros, and correlated with unit
    stride. Libraries that define it as the gradient of a convolution rotate the kernel; `transpose_kernel` converts
    theirs. PyTorch's padding p is then the pair ((k - 1)·d - p, (k - 1)·d - p) here, and its `output_padding` what
    `output_size` adds.

    Args:
      x: (N, *S, C), as in `conv`.
      w: kernel (*K, C/G, O), in the dtype of x.
      window_strides: s, the step between pixels in the output; an integer, or one for each spatial axis.
      padding: with K = (k - 1)·d + 1, "SAME" gives n·s rows and "VALID" n·s + max(K - s, 0); pairs pad the dilated
        image. An axis without pixels gives as many rows as in lax, all of them zeros before the bias: s - 1 with
        "SAME", max(K, s) - 1 with "VALID".
      rhs_dilation: d, dilation of the window; an integer, or one for each spatial axis.
      feature_group_count: G, any divisor of C and of O.
      output_size: rows of the output, from those that `padding` gives to s - 1 more, which are added at the high end;
        an integer, or one for each spatial axis. It tells apart the sizes that a strided convolution maps to one.
      bias: scalar or (O,).
      activation: as in `conv`.
      precision: as in `conv`.
      preferred_element_type: as in `conv`.

    Returns:
      (N, *S', O), as in `conv`.

    Raises:
      TypeError: as in `conv`.
      ValueError: as in `conv`, or `output_size` lies outside its range.

    Gradient: as in `conv`; explicit, `conv_gradient` with `transposed=True`.

    Example:
      >>> x, w = jnp.array([[[1.0], [2.0]]]), jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
      >>> print(jbnn.convolution.conv_transpose(x, w, window_strides=2, padding="VALID")[0, :, 0])
      [100.  10. 201.  20.   2.]

    References:
      `MPSCNNConvolutionTranspose`,
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolutiontranspose
    """
    x, w = as_float("x", x), as_float("w", w)
    geometry = transpose_geometry(
        x,
        w,
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
        output_size=output_size,
    )
    layer = Layer(geometry, precision=precision, preferred_element_type=preferred_element_type)
    return layer.apply(x, w, bias, activation)


def dense(
    x: ArrayLike,
    w: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    activation: Activation = None,
    precision: Precision = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """A dense layer: `conv` without spatial axes.

        out = activation(x·w + bias)

    Args:
      x: (…, C), as in `conv`.
      w: kernel (C, O), in the dtype of x.
      bias: scalar or (O,).
      activation: as in `conv`.
      precision: as in `conv`.
      preferred_element_type: as in `conv`.

    Returns:
      (…, O), as in `conv`.

    Raises:
      TypeError: as in `conv`.
      ValueError: as in `conv`.

    Gradient: as in `conv`; explicit, `dense_gradient`.

    Example:
      >>> print(jbnn.convolution.dense(jnp.array([1.0, 2.0]), jnp.eye(2), bias=jnp.array([0.0, 10.0])))
      [ 1. 12.]
    """
    x, w = as_float("x", x), as_float("w", w)
    geometry = dense_geometry(x, w)
    layer = Layer(geometry, precision=precision, preferred_element_type=preferred_element_type)
    y = layer.apply(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), w, bias, activation)
    return y.reshape(*x.shape[:-1], w.shape[-1])
