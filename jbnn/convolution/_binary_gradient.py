"""The gradient of binary convolutions as an explicit function, for code that keeps its own backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._arguments import as_float, as_image, as_index, as_kernel
from jbnn._binary import binary_conv, binary_conv_transpose
from jbnn._numbers import as_real
from jbnn._options import Mode, Quantizer
from jbnn._shapes import Padding, Sizes
from jbnn.convolution._cotangent import (
    EVERYTHING,
    ConvGradient,
    Wrt,
    bias_gradient,
    check_cotangent,
    check_sizes,
    parts_of,
    refuse_output_size,
    smallest_operands,
)
from jbnn.quantizers import ste_sign


def binary_conv_gradient(
    x: ArrayLike | None,
    w: ArrayLike | None,
    g: ArrayLike,
    *,
    wrt: Wrt | Sequence[Wrt] = EVERYTHING,
    transposed: bool = False,
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
    beta_scaling: bool = False,
    input_quantizer: Quantizer = ste_sign,
    kernel_quantizer: Quantizer = ste_sign,
) -> ConvGradient:
    """The gradient of `jbnn.binary_conv` or, with `transposed=True`, of `jbnn.binary_conv_transpose`.

    Equal to `jax.vjp` of them, through the quantizers' surrogates and beta. MPS has no such function. Options are those
    of the forward call; those of its terms that have a gradient too get it from `jax.vjp`.

    Args:
      x: (N, *S, C), as in `jbnn.binary_conv`; None where only the bias is asked for: it is then unused.
      w: a latent kernel (*K, C/G, O) or, where "kernel" is not in `wrt`, words; None as for x.
      g: (N, *S', O), the gradient in v = u·scale·beta + bias, before the activation; in the dtype of x.
      wrt: what to differentiate in: one or more of "input", "kernel" and "bias"; by default all three.
      transposed: whether the layer is a `jbnn.binary_conv_transpose`.
      mode: as in the forward call.
      window_strides: as in the forward call.
      padding: as in the forward call.
      rhs_dilation: as in the forward call.
      feature_group_count: as in the forward call.
      output_size: as in `jbnn.binary_conv_transpose`; only of a transposed layer.
      pad_value: as in the forward call.
      input_bias: as in the forward call.
      input_scale: as in the forward call.
      scale: as in the forward call.
      beta_scaling: as in the forward call.
      input_quantizer: as in the forward call.
      kernel_quantizer: as in the forward call.

    Returns:
      `ConvGradient(input, kernel, bias)`, with None where not in `wrt`. Kernel and bias are summed over the batch.
      Each has its operand's dtype; the bias that of g.

    Raises:
      TypeError: as in `jbnn.binary_conv`; the kernel's gradient is asked for, and w is words; second derivatives.
      ValueError: as in `jbnn.binary_conv`; a needed operand is None; g has another shape.

    Example:
      >>> x, w = jnp.array([[[0.5], [-2.0], [0.1]]]), jnp.array([[[0.3]]])
      >>> gradient = jbnn.convolution.binary_conv_gradient(x, w, jnp.ones((1, 3, 1)))
      >>> print(gradient.input[0, :, 0], gradient.kernel[0, 0], gradient.bias)
      [1. 0. 1.] [1.] [3.]
    """
    parts, g = parts_of(wrt), as_float("g", g)
    of_bias = parts == {"bias"} and (x is None or w is None)
    if of_bias:
        image, kernel = smallest_operands(g, as_index("feature_group_count", feature_group_count), None)
        for name, term in (("input_bias", input_bias), ("input_scale", input_scale)):
            if term is not None:
                as_real(name, term, jnp.float32)  # how many channels it must have is not known here
        input_bias = input_scale = None
        check_sizes(g.ndim - 2, output_size=output_size)
    elif x is None or w is None:
        raise ValueError(f'`{"x" if x is None else "w"}` must be given unless `wrt` is "bias" alone, but was None')
    else:
        image, kernel = as_image(x, pixels=mode == "binary_weights"), as_kernel(w)
        if "kernel" in parts and kernel.dtype == jnp.uint32:
            raise TypeError('`w` must be a latent kernel where "kernel" is in `wrt`, but has dtype uint32')
    options: dict[str, Any] = {
        "mode": mode,
        "window_strides": window_strides,
        "padding": padding,
        "rhs_dilation": rhs_dilation,
        "feature_group_count": feature_group_count,
        "pad_value": pad_value,
        "input_bias": input_bias,
        "input_scale": input_scale,
        "scale": scale,
        "beta_scaling": beta_scaling,
        "input_quantizer": input_quantizer,
        "kernel_quantizer": kernel_quantizer,
    }
    if transposed:
        options["output_size"] = None if of_bias else output_size
    else:
        refuse_output_size(output_size)
    forward: Callable[..., jax.Array] = binary_conv_transpose if transposed else binary_conv
    given: dict[str, Any] = {"x": image, "w": kernel}
    result = jax.eval_shape(functools.partial(forward, **options), **given)
    check_cotangent(g, g.shape if of_bias else result.shape, result.dtype)
    if of_bias:
        return ConvGradient(None, None, bias_gradient(g))
    varying = {name: given[name] for name, part in (("x", "input"), ("w", "kernel")) if part in parts}
    _, pull_back = jax.vjp(lambda varying: forward(**{**given, **varying}, **options), varying)
    (gradient,) = pull_back(g)
    return ConvGradient(gradient.get("x"), gradient.get("w"), bias_gradient(g) if "bias" in parts else None)
