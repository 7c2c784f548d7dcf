"""The gradient convolutions as explicit functions, for code that keeps its own backward pass.

u = correlation of x with w is linear in x and linear in w, so each gradient is one linear map, transposed by JAX:

    input   x ↦ u at w          kernel   w ↦ u at x          bias   b ↦ b in every position

The operands of a transposed map need shapes only, so nothing forward is computed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_float, as_image, as_index, as_kernel, at_least_float32, check_groups
from jbnn._binary import binary_conv, binary_conv_transpose
from jbnn._jax_versions import register_for_export
from jbnn._numbers import as_real
from jbnn._options import Mode, Quantizer
from jbnn._shapes import Operand, Padding, Sizes, conv_geometry, dense_geometry, per_axis, transpose_geometry
from jbnn.convolution._edges import EdgeMode
from jbnn.convolution._layer import Layer, Precision, correlate
from jbnn.quantizers import ste_sign

Wrt = Literal["input", "kernel", "bias"]
EVERYTHING: tuple[Wrt, ...] = ("input", "kernel", "bias")


class ConvGradient(NamedTuple):
    """The gradient of a layer: each part an array, or None where it was not asked for.

    Args:
      input: the gradient in x, in its shape.
      kernel: the gradient in w, in its shape.
      bias: the gradient in the bias, (O,).
    """

    input: jax.Array | None
    kernel: jax.Array | None
    bias: jax.Array | None


register_for_export(ConvGradient)


def conv_gradient(
    x: ArrayLike | None,
    w: ArrayLike | None,
    g: ArrayLike,
    *,
    wrt: Wrt | Sequence[Wrt] = EVERYTHING,
    transposed: bool = False,
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
    feature_group_count: int = 1,
    output_size: Sizes | None = None,
    edge_mode: EdgeMode = "zero",
    pad_value: float = 0,
    precision: Precision = None,
    preferred_element_type: DTypeLike | None = None,
    input_size: Sizes | None = None,
    window: Sizes | None = None,
) -> ConvGradient:
    """The gradient of `conv` or, with `transposed=True`, of `conv_transpose`, equal to `jax.vjp` of them.

    Of a depthwise layer, take it with `feature_group_count=C` and the kernel `w.reshape(*K, 1, C·M)`; of a sub-pixel
    layer, with `space_to_depth(g, block)`. Options are those of the forward call.

    Args:
      x: (N, *S, C); None where "kernel" is not in `wrt`: it is then unused.
      w: (*K, C/G, O); None where "input" is not in `wrt`: it is then unused.
      g: (N, *S', O), the gradient in v = u + bias, before the activation; in the dtype of the forward result.
      wrt: what to differentiate in: one or more of "input", "kernel" and "bias"; by default all three.
      transposed: whether the layer is a `conv_transpose`.
      window_strides: as in the forward call.
      padding: as in the forward call.
      rhs_dilation: as in the forward call.
      feature_group_count: as in the forward call.
      output_size: as in `conv_transpose`; only of a transposed layer.
      edge_mode: as in `conv`; only of a layer that is not transposed.
      pad_value: as in `conv`.
      precision: as in the forward call.
      preferred_element_type: as in the forward call.
      input_size: *S, where x is None and "input" in `wrt`; an integer, or one for each spatial axis. A strided layer
        maps several sizes to one.
      window: *K, where w is None and "kernel" in `wrt`; an integer, or one for each spatial axis.

    Returns:
      `ConvGradient(input, kernel, bias)`, with None where not in `wrt`. Kernel and bias are summed over the batch.
      Each has its operand's dtype; the bias that of g.

    Raises:
      TypeError: a dtype is not floating, or does not match.
      ValueError: a needed operand or size is None; shapes do not match; unknown option.

    Gradient: JAX's own.

    Example:
      >>> x, w = jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((3, 1, 1))
      >>> gradient = jbnn.convolution.conv_gradient(x, w, jnp.ones((1, 4, 1)))
      >>> print(gradient.input[0, :, 0], gradient.kernel[:, 0, 0], gradient.bias)
      [2. 3. 3. 2.] [3. 6. 6.] [4.]

    References:
      `MPSCNNConvolutionGradient` and `MPSImageSizeEncodingState`,
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolutiongradient
    """
    parts, g = _parts(wrt), as_float("g", g)
    _check_given(x, w, parts)
    if not 3 <= g.ndim <= 5:
        raise ValueError(f"`g` must have shape (N, *S', O) with one to three spatial axes, but has shape {g.shape}")
    rank, groups = g.ndim - 2, as_index("feature_group_count", feature_group_count)
    of_bias = parts == {"bias"} and (x is None or w is None)
    if of_bias:
        image, kernel = _smallest_operands(g, groups, preferred_element_type)
        _check_sizes(rank, input_size=input_size, window=window, output_size=output_size)
    else:
        image, kernel = _operands(x, w, g, groups, input_size, window)
    options: dict[str, Any] = {
        "window_strides": window_strides,
        "padding": padding,
        "rhs_dilation": rhs_dilation,
        "feature_group_count": groups,
    }
    if transposed:
        geometry = transpose_geometry(image, kernel, output_size=None if of_bias else output_size, **options)
        if edge_mode != "zero":
            raise ValueError(f'`edge_mode` must be "zero" where `transposed` is True, but was {edge_mode!r}')
    else:
        geometry = conv_geometry(image, kernel, **options)
        _refuse_output_size(output_size)
    layer = Layer(geometry, edge_mode, pad_value, precision, preferred_element_type)
    result = _result(layer, image, kernel)
    _check_cotangent(g, g.shape if of_bias else result.shape, result.dtype)
    return ConvGradient(*_transposed(layer, image, kernel, g, parts), _bias_gradient(g) if "bias" in parts else None)


def dense_gradient(
    x: ArrayLike | None,
    w: ArrayLike | None,
    g: ArrayLike,
    *,
    wrt: Wrt | Sequence[Wrt] = EVERYTHING,
    precision: Precision = None,
    preferred_element_type: DTypeLike | None = None,
) -> ConvGradient:
    """The gradient of `dense`, equal to `jax.vjp` of it.

    Args:
      x: (…, C); None where "kernel" is not in `wrt`: it is then unused.
      w: (C, O); None where "input" is not in `wrt`: it is then unused.
      g: (…, O), the gradient in v = x·w + bias, before the activation; in the dtype of the forward result.
      wrt: what to differentiate in: one or more of "input", "kernel" and "bias"; by default all three.
      precision: as in `dense`.
      preferred_element_type: as in `dense`.

    Returns:
      `ConvGradient(input, kernel, bias)`, as in `conv_gradient`.

    Raises:
      TypeError: as in `conv_gradient`.
      ValueError: as in `conv_gradient`.

    Gradient: JAX's own.

    Example:
      >>> x, w, g = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([[10.0]])
      >>> gradient = jbnn.convolution.dense_gradient(x, w, g)
      >>> print(gradient.input[0], gradient.kernel[:, 0], gradient.bias)
      [30. 40.] [10. 20.] [10.]
    """
    parts, g = _parts(wrt), as_float("g", g)
    _check_given(x, w, parts)
    if g.ndim < 1:
        raise ValueError(f"`g` must have shape (…, O), but has shape {g.shape}")
    image, kernel = _shaped("x", x), _shaped("w", w)
    if image is None and kernel is None:
        image = jax.ShapeDtypeStruct((*g.shape[:-1], 1), _dtype_of_operands(g, preferred_element_type))
    if image is None:
        image = jax.ShapeDtypeStruct((*g.shape[:-1], *kernel.shape[:1]), kernel.dtype)
    if kernel is None:
        kernel = jax.ShapeDtypeStruct((*image.shape[-1:], *g.shape[-1:]), image.dtype)
    layer = Layer(
        dense_geometry(image, kernel),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    *lead, channels = image.shape
    rows = math.prod(lead)
    flat = jax.ShapeDtypeStruct((rows, channels), image.dtype) if x is None else image.reshape(rows, channels)
    _check_cotangent(g, (*lead, kernel.shape[-1]), _result(layer, flat, kernel).dtype)
    by_input, by_kernel = _transposed(layer, flat, kernel, g.reshape(rows, kernel.shape[-1]), parts)
    return ConvGradient(
        None if by_input is None else by_input.reshape(image.shape),
        by_kernel,
        _bias_gradient(g) if "bias" in parts else None,
    )


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
    parts, g = _parts(wrt), as_float("g", g)
    of_bias = parts == {"bias"} and (x is None or w is None)
    if of_bias:
        image, kernel = _smallest_operands(g, as_index("feature_group_count", feature_group_count), None)
        for name, term in (("input_bias", input_bias), ("input_scale", input_scale)):
            if term is not None:
                as_real(name, term, jnp.float32)  # how many channels it must have is not known here
        input_bias = input_scale = None
        _check_sizes(g.ndim - 2, output_size=output_size)
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
        _refuse_output_size(output_size)
    forward: Callable[..., jax.Array] = binary_conv_transpose if transposed else binary_conv
    given: dict[str, Any] = {"x": image, "w": kernel}
    result = jax.eval_shape(functools.partial(forward, **options), **given)
    _check_cotangent(g, g.shape if of_bias else result.shape, result.dtype)
    if of_bias:
        return ConvGradient(None, None, _bias_gradient(g))
    varying = {name: given[name] for name, part in (("x", "input"), ("w", "kernel")) if part in parts}
    _, pull_back = jax.vjp(lambda varying: forward(**{**given, **varying}, **options), varying)
    (gradient,) = pull_back(g)
    return ConvGradient(gradient.get("x"), gradient.get("w"), _bias_gradient(g) if "bias" in parts else None)


def _result(layer: Layer, x: Operand, w: Operand) -> jax.ShapeDtypeStruct:
    """The layer's result as a shape and dtype, once all options are right."""
    layer.result_type(x, w)
    return jax.eval_shape(lambda x, w: correlate(x, w, layer), x, w)


def _transposed(
    layer: Layer, x: Operand, w: Operand, g: jax.Array, parts: frozenset[Wrt]
) -> tuple[jax.Array | None, jax.Array | None]:
    """The gradients in x and w, each where it is asked for. Of an operand that is not given only the shape is read."""
    operands = {"x": x, "w": w}
    arrays = {name: operand for name, operand in operands.items() if isinstance(operand, jax.Array)}
    shapes = tuple((name, operand) for name, operand in operands.items() if name not in arrays)
    return _pulled_back(arrays, g, layer, shapes, parts)


@functools.partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _pulled_back(
    arrays: dict[str, jax.Array],
    g: jax.Array,
    layer: Layer,
    shapes: tuple[tuple[str, jax.ShapeDtypeStruct], ...],
    parts: frozenset[Wrt],
) -> tuple[jax.Array | None, jax.Array | None]:
    operands: dict[str, Any] = {**arrays, **dict(shapes)}
    x, w = operands["x"], operands["w"]
    by_input = by_kernel = None
    if "input" in parts:
        (by_input,) = jax.linear_transpose(lambda x: correlate(x, w, layer), x)(g)
    if "kernel" in parts:
        (by_kernel,) = jax.linear_transpose(lambda w: correlate(x, w, layer), w)(g)
    return by_input, by_kernel


def _bias_gradient(g: jax.Array) -> jax.Array:
    """The sum over all but the last axis, added up in the dtype in which the bias was added."""
    wide = at_least_float32(g.dtype)
    return jnp.sum(g.astype(wide), axis=range(g.ndim - 1)).astype(g.dtype)


def _parts(wrt: Wrt | Sequence[Wrt]) -> frozenset[Wrt]:
    parts = (wrt,) if isinstance(wrt, str) or not np.iterable(wrt) else tuple(wrt)
    if not parts or not all(part in EVERYTHING for part in parts):
        raise ValueError(f'`wrt` must be one or more of "input", "kernel", "bias", but was {wrt!r}')
    return frozenset(parts)


def _check_given(x: ArrayLike | None, w: ArrayLike | None, parts: frozenset[Wrt]) -> None:
    if "input" in parts and w is None:
        raise ValueError('`w` must be given where "input" is in `wrt`, but was None')
    if "kernel" in parts and x is None:
        raise ValueError('`x` must be given where "kernel" is in `wrt`, but was None')


def _operands(x: Any, w: Any, g: jax.Array, groups: int, input_size: Any, window: Any) -> tuple[Any, Any]:
    """x and w, or of one that is not given its shape."""
    image, kernel, rank = _shaped("x", x), _shaped("w", w), g.ndim - 2
    sizes = _stands_for("input_size", input_size, "x", image, rank)
    taps = _stands_for("window", window, "w", kernel, rank)
    if image is None:
        depth, dtype = (*kernel.shape, 0, 0)[rank], kernel.dtype
        image = jax.ShapeDtypeStruct((g.shape[0], *sizes, depth * groups), dtype)
    if kernel is None:
        check_groups("feature_group_count", groups, image.shape[-1])
        kernel = jax.ShapeDtypeStruct((*taps, image.shape[-1] // groups, g.shape[-1]), image.dtype)
    return image, kernel


def _stands_for(name: str, value: Any, operand_name: str, operand: Any, rank: int) -> tuple[int, ...]:
    """The sizes that are given where an operand is not, and only there."""
    if (operand is None) == (value is None):
        rule = "given where" if operand is None else "None unless"
        raise ValueError(f"`{name}` must be {rule} `{operand_name}` is None, but was {value}")
    return () if value is None else per_axis(name, value, rank, least=0)


def _smallest_operands(g: jax.Array, groups: int, preferred_element_type: Any) -> tuple[Operand, Operand]:
    """One pixel and one tap with the outputs of g: where operands are not needed, the options are checked on these."""
    check_groups("feature_group_count", groups, g.shape[-1])
    ones, dtype = (1,) * (g.ndim - 2), _dtype_of_operands(g, preferred_element_type)
    image = jax.ShapeDtypeStruct((1, *ones, groups), dtype)
    return image, jax.ShapeDtypeStruct((*ones, 1, g.shape[-1]), dtype)


def _dtype_of_operands(g: jax.Array, preferred_element_type: Any) -> Any:
    """A dtype that operands may have whose result is to have that of g."""
    known = preferred_element_type is not None and jnp.issubdtype(preferred_element_type, jnp.floating)
    return jnp.dtype(preferred_element_type) if known else g.dtype


def _check_sizes(rank: int, **sizes: Any) -> None:
    """Sizes that are not needed, which must be sizes all the same."""
    for name, value in sizes.items():
        if value is not None:
            per_axis(name, value, rank, least=0)


def _shaped(name: str, operand: ArrayLike | None) -> Any:
    return None if operand is None else as_float(name, operand)


def _check_cotangent(g: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    if g.shape != shape:
        raise ValueError(f"`g` must have shape {shape}, as the layer's result, but has shape {g.shape}")
    if g.dtype != dtype:
        raise TypeError(f"`g` must have dtype {dtype}, as the layer's result, but has dtype {g.dtype}")


def _refuse_output_size(output_size: Any) -> None:
    if output_size is not None:
        raise ValueError(f"`output_size` must be None unless `transposed` is True, but was {output_size}")
