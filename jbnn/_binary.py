"""The operator: floats in, floats out, bits between; trained and deployed by the same call."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

import jax
from jax.typing import ArrayLike

from jbnn._arguments import as_image, as_kernel
from jbnn._operator import apply
from jbnn._options import Activation, Mode, Quantizer, formula
from jbnn._shapes import Padding, Sizes, conv_geometry, dense_geometry, transpose_geometry
from jbnn.quantizers import ste_sign


def binary_conv(
    x: ArrayLike,
    w: ArrayLike,
    *,
    mode: Mode = "xnor",
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
    feature_group_count: int = 1,
    pad_value: float = 0,
    input_bias: ArrayLike | None = None,
    input_scale: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    beta_scaling: bool = False,
    activation: Activation = None,
    input_quantizer: Quantizer = ste_sign,
    kernel_quantizer: Quantizer = ste_sign,
    implementation: str | None = None,
) -> jax.Array:
    """A binary convolution that trains on float kernels and deploys on packed ones.

        z   = (x + input_bias)·input_scale
        a   = input_quantizer(z) in {-1, +1}           under xnor
              (input_quantizer(z) + 1)/2 in {0, 1}     under and
              z                                        under binary_weights
        B   = kernel_quantizer(w) in {-1, +1}          under xnor and binary_weights
              (kernel_quantizer(w) + 1)/2 in {0, 1}    under and
        u   = correlation of a with B
        out = activation(u·scale·beta + bias)

    Under xnor and `and` a and B become words of 32 bits, and u is an exact integer, the same on every implementation.

    Args:
      x: (N, *S, C), with one, two or three spatial axes; float32, bfloat16 or float16 (float64 under x64). Under
        binary_weights also uint8 or int8: pixels, whose sums are exact.
      w: a latent kernel (*K, C/G, O) of such a dtype, or `uint32` words (*K, ceil(C/G/32), O) from
        `pack(w, axis=-2)`, which `kernel_quantizer` leaves alone and which have no gradient.
      mode: "xnor", "and" or "binary_weights".
      window_strides: an integer, or one for each spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID" or a pair (low, high) for each spatial axis; negative values crop.
      rhs_dilation: dilation of the window; an integer, or one for each spatial axis.
      feature_group_count: G, a divisor of C and of O.
      pad_value: what a tap outside the image holds after quantization. xnor: 0 (contributes nothing), +1 or -1.
        and: 0 or 1. binary_weights: the value of z there.
      input_bias: scalar or (C,), added first. Where a device flushes a tiny z to 0, its sign is +1.
      input_scale: scalar or (C,), multiplied second.
      scale: scalar or (O,); XNOR-Net's is `alpha(w)`.
      bias: scalar or (O,); neither scaled nor multiplied with beta.
      beta_scaling: multiply with XNOR-Net's beta, the mean of |z| over channels and window; zeros outside the image,
        and always divided by the full window.
      activation: any function of the result, for instance from `jbnn.activations`.
      input_quantizer: a function to ±1 with a surrogate gradient; `ste_heaviside` under `and`, where its value is a.
      kernel_quantizer: the same for w.
      implementation: None picks what is fastest where the program will run. A name is used or refused.

    Returns:
      (N, *S', O) in the dtype of x. Everything but u is computed in float32 (float64 if x is), and cast once. Of
      8-bit x int32 sums, or float32 where scale, bias or activation follow.

    Raises:
      TypeError: a dtype is not one of the above, as the caller gave it: a NumPy array of float64 is one of them only
        under x64; forward-mode or second derivatives are asked for; 8-bit x with an input affine or beta.
      ValueError: shapes do not match; unknown option; a quantizer that is known not to give ±1.
      NotImplementedError: the named implementation cannot do this case; the message says why.

    Gradient: in x, float w, input_bias, input_scale, scale and bias, that of the float expression above with the
    quantizers' surrogates. What is kept for it are bits: under xnor with `ste_sign`, two for each element of x and w.
    An activation and a differentiated `scale`, `input_scale` or beta keep the floats that their own gradients need.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (1, 8, 8, 64))
      >>> w = jax.random.normal(jax.random.key(1), (3, 3, 64, 32))
      >>> y = jbnn.binary_conv(x, w, scale=jbnn.alpha(w))
      >>> deployed = jbnn.binary_conv(x, jbnn.pack(w, axis=-2), scale=jbnn.alpha(w))
      >>> print(y.shape, bool((y == deployed).all()))
      (1, 8, 8, 32) True

    References:
      Rastegari et al., XNOR-Net, 2016, section 3. https://arxiv.org/abs/1603.05279
      `MPSCNNBinaryConvolution`, whose formula this is.
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnbinaryconvolution
    """
    x, w = as_image(x, pixels=mode == "binary_weights"), as_kernel(w)
    geometry = conv_geometry(
        x,
        w,
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
    )
    f = formula(
        x,
        geometry,
        mode=mode,
        pad_value=pad_value,
        input_bias=input_bias,
        input_scale=input_scale,
        scale=scale,
        bias=bias,
        beta_scaling=beta_scaling,
        activation=activation,
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        implementation=implementation,
    )
    return apply(x, w, f)


def binary_conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    *,
    mode: Mode = "xnor",
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
    feature_group_count: int = 1,
    output_size: Sizes | None = None,
    pad_value: float = 0,
    input_bias: ArrayLike | None = None,
    input_scale: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    beta_scaling: bool = False,
    activation: Activation = None,
    input_quantizer: Quantizer = ste_sign,
    kernel_quantizer: Quantizer = ste_sign,
    implementation: str | None = None,
) -> jax.Array:
    """A transposed binary convolution, unrotated as `lax.conv_transpose(transpose_kernel=False)`.

    The image is dilated with `window_strides` - 1 zeros between pixels, padded, and correlated with unit stride. The
    zeros between pixels contribute nothing in every mode; `pad_value` holds outside the image only.

    Args:
      x: (N, *S, C), as in `binary_conv`.
      w: (*K, C/G, O), as in `binary_conv`.
      mode: as in `binary_conv`.
      window_strides: s, the step between pixels in the output; an integer, or one for each spatial axis.
      padding: "SAME" gives n·s rows, "VALID" n·s + max((k - 1)·d + 1 - s, 0); pairs pad the dilated image.
      rhs_dilation: d, dilation of the window; an integer, or one for each spatial axis.
      feature_group_count: G, a divisor of C and of O.
      output_size: rows of the output, from those that `padding` gives to s - 1 more, which are added at the high end;
        an integer, or one for each spatial axis.
      pad_value: as in `binary_conv`.
      input_bias: as in `binary_conv`.
      input_scale: as in `binary_conv`.
      scale: as in `binary_conv`.
      bias: as in `binary_conv`.
      beta_scaling: as in `binary_conv`, of the dilated image.
      activation: as in `binary_conv`.
      input_quantizer: as in `binary_conv`.
      kernel_quantizer: as in `binary_conv`.
      implementation: as in `binary_conv`.

    Returns:
      (N, *S', O) in the dtype of x.

    Raises:
      TypeError: as in `binary_conv`.
      ValueError: as in `binary_conv`, or `output_size` lies outside its range.
      NotImplementedError: as in `binary_conv`.

    Gradient: as in `binary_conv`.

    Example:
      >>> x, w = jnp.ones((1, 2, 2, 8)), jnp.ones((2, 2, 8, 4))
      >>> print(jbnn.binary_conv_transpose(x, w, window_strides=2)[0, :, :, 0])
      [[8. 8. 8. 8.]
       [8. 8. 8. 8.]
       [8. 8. 8. 8.]
       [8. 8. 8. 8.]]
    """
    x, w = as_image(x, pixels=mode == "binary_weights"), as_kernel(w)
    geometry = transpose_geometry(
        x,
        w,
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
        output_size=output_size,
    )
    f = formula(
        x,
        geometry,
        mode=mode,
        pad_value=pad_value,
        input_bias=input_bias,
        input_scale=input_scale,
        scale=scale,
        bias=bias,
        beta_scaling=beta_scaling,
        activation=activation,
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        implementation=implementation,
    )
    return apply(x, w, f)


def binary_dense(
    x: ArrayLike,
    w: ArrayLike,
    *,
    mode: Mode = "xnor",
    input_bias: ArrayLike | None = None,
    input_scale: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    beta_scaling: bool = False,
    activation: Activation = None,
    input_quantizer: Quantizer = ste_sign,
    kernel_quantizer: Quantizer = ste_sign,
    implementation: str | None = None,
) -> jax.Array:
    """A binary dense layer: `binary_conv` without spatial axes.

    Args:
      x: (…, C), as in `binary_conv`.
      w: a latent kernel (C, O), or `uint32` words (ceil(C/32), O) from `pack(w, axis=-2)`.
      mode: as in `binary_conv`.
      input_bias: as in `binary_conv`.
      input_scale: as in `binary_conv`.
      scale: as in `binary_conv`.
      bias: as in `binary_conv`.
      beta_scaling: multiply with the mean of |z| over the channels.
      activation: as in `binary_conv`.
      input_quantizer: as in `binary_conv`.
      kernel_quantizer: as in `binary_conv`.
      implementation: as in `binary_conv`.

    Returns:
      (…, O) in the dtype of x.

    Raises:
      TypeError: as in `binary_conv`.
      ValueError: as in `binary_conv`.
      NotImplementedError: as in `binary_conv`.

    Gradient: as in `binary_conv`.

    Example:
      >>> x = jnp.array([[0.5, -2.0, 0.0]])
      >>> w = jnp.array([[1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])
      >>> print(jbnn.binary_dense(x, w, bias=jnp.array([10.0, 0.0])))
      [[11.  1.]]
    """
    x, w = as_image(x, pixels=mode == "binary_weights"), as_kernel(w)
    geometry = dense_geometry(x, w)
    f = formula(
        x,
        geometry,
        mode=mode,
        pad_value=0,
        input_bias=input_bias,
        input_scale=input_scale,
        scale=scale,
        bias=bias,
        beta_scaling=beta_scaling,
        activation=activation,
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        implementation=implementation,
    )
    return apply(x, w, f)
