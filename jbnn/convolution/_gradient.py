"""The gradients of ordinary layers as explicit functions, for code that keeps its own backward pass.

u = correlation of x with w is linear in x and linear in w, so each gradient is one linear map, transposed by JAX:

    input   x ↦ u at w          kernel   w ↦ u at x          bias   b ↦ b in every position

The operands of a transposed map need shapes only, so nothing forward is computed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_float, as_index, check_groups
from jbnn._shapes import Operand, Padding, Sizes, conv_geometry, dense_geometry, per_axis, transpose_geometry
from jbnn.convolution._cotangent import (
    EVERYTHING,
    ConvGradient,
    Wrt,
    bias_gradient,
    check_cotangent,
    check_sizes,
    dtype_of_operands,
    parts_of,
    refuse_output_size,
    smallest_operands,
)
from jbnn.convolution._edges import EdgeMode
from jbnn.convolution._layer import Layer, Precision, correlate


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
    parts, g = parts_of(wrt), as_float("g", g)
    _check_given(x, w, parts)
    if not 3 <= g.ndim <= 5:
        raise ValueError(f"`g` must have shape (N, *S', O) with one to three spatial axes, but has shape {g.shape}")
    rank, groups = g.ndim - 2, as_index("feature_group_count", feature_group_count)
    of_bias = parts == {"bias"} and (x is None or w is None)
    if of_bias:
        image, kernel = smallest_operands(g, groups, preferred_element_type)
        check_sizes(rank, input_size=input_size, window=window, output_size=output_size)
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
        refuse_output_size(output_size)
    layer = Layer(geometry, edge_mode, pad_value, precision, preferred_element_type)
    result = _result(layer, image, kernel)
    check_cotangent(g, g.shape if of_bias else result.shape, result.dtype)
    return ConvGradient(*_transposed(layer, image, kernel, g, parts), bias_gradient(g) if "bias" in parts else None)


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
    parts, g = parts_of(wrt), as_float("g", g)
    _check_given(x, w, parts)
    if g.ndim < 1:
        raise ValueError(f"`g` must have shape (…, O), but has shape {g.shape}")
    image, kernel = _shaped("x", x), _shaped("w", w)
    if image is None and kernel is None:
        image = jax.ShapeDtypeStruct((*g.shape[:-1], 1), dtype_of_operands(g, preferred_element_type))
    if image is None:
        image = jax.ShapeDtypeStruct((*g.shape[:-1], *kernel.shape[:1]), kernel.dtype)
    if kernel is None:
        kernel = jax.ShapeDtypeStruct((*image.shape[-1:], *g.shape[-1:]), image.dtype)
    layer = Layer(dense_geometry(image, kernel), precision=precision, preferred_element_type=preferred_element_type)
    *lead, channels = image.shape
    rows = math.prod(lead)
    flat = jax.ShapeDtypeStruct((rows, channels), image.dtype) if x is None else image.reshape(rows, channels)
    check_cotangent(g, (*lead, kernel.shape[-1]), _result(layer, flat, kernel).dtype)
    by_input, by_kernel = _transposed(layer, flat, kernel, g.reshape(rows, kernel.shape[-1]), parts)
    return ConvGradient(
        None if by_input is None else by_input.reshape(image.shape),
        by_kernel,
        bias_gradient(g) if "bias" in parts else None,
    )


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


def _shaped(name: str, operand: ArrayLike | None) -> Any:
    return None if operand is None else as_float(name, operand)
