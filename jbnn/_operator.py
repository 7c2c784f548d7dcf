"""The operator's expression, in the order of its formula, and the checks that come before it.

    z = (x + input_bias)·input_scale,   a = quantized z,   B = quantized w,
    u = correlation of a with B,        out = activation(u·scale·beta + bias)

Everything here is plain JAX around u, so JAX differentiates it. Where nothing is being differentiated and the end of
the formula is simple enough, u and that end go to the kernel as one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike, DTypeLike

from jbnn import activations, quantizers
from jbnn._beta import beta
from jbnn._checks import check_kernel_words, check_pad_value, of_float, per_channel
from jbnn._gradient import correlate, image_words, kernel_words
from jbnn._kernels.choose import check_case
from jbnn._kernels.correlation import Clamp, Correlation, Epilogue
from jbnn._kernels.primitive import correlate_words

Quantizer = Callable[[jax.Array], jax.Array]
Activation = Callable[[jax.Array], jax.Array] | None

# The activations that an `Epilogue` can express, recognised by identity, as (low, high).
_CLAMPS: tuple[tuple[Activation, Clamp], ...] = (
    (None, (None, None)),
    (activations.none, (None, None)),
    (activations.relu, (0.0, None)),
    (jax.nn.relu, (0.0, None)),
    (jax.nn.relu6, (0.0, 6.0)),
)


def apply(
    x: jax.Array,
    w: jax.Array,
    correlation: Correlation,
    *,
    batch: tuple[int, ...] | None = None,
    input_bias: ArrayLike | None,
    input_scale: ArrayLike | None,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    beta_scaling: bool,
    activation: Activation,
    input_quantizer: Quantizer,
    kernel_quantizer: Quantizer,
    implementation: str | None,
) -> jax.Array:
    """The operator of x (N, *S, C) and w; `batch`, if given, is the shape that N stands for in the result."""
    g = correlation.geometry
    _check(correlation, w, input_quantizer, kernel_quantizer, activation, implementation)
    batch = x.shape[:1] if batch is None else batch
    dtype = at_least_float32(x.dtype)
    input_bias = _term("input_bias", input_bias, g.channels, "C", dtype)
    input_scale = _term("input_scale", input_scale, g.channels, "C", dtype)
    scale = _term("scale", scale, g.features, "O", dtype)
    bias = _term("bias", bias, g.features, "O", dtype)

    z = x.astype(dtype)
    if input_bias is not None:
        z = z + last_axis(input_bias, z)
    if input_scale is not None:
        z = z * last_axis(input_scale, z)
    a = z if correlation.mode == "binary_weights" else _quantize("input_quantizer", z, input_quantizer, correlation)
    b = w
    if w.dtype != jnp.uint32:
        wide = w.astype(at_least_float32(w.dtype))  # rounding first could turn a tiny -w into 0, whose sign is +1
        b = _quantize("kernel_quantizer", wide, kernel_quantizer, correlation).astype(dtype)

    fusible = not beta_scaling and dtype == jnp.float32 and correlation.mode != "binary_weights"
    if fusible and any(activation is known for known, _ in _CLAMPS):
        y = _correlate_and_finish(a, b, scale, bias, correlation, implementation, activation, x.dtype)
        return y.reshape(*batch, *y.shape[1:])
    u = correlate(a, b, correlation, implementation)
    v = _finish(u, scale, bias, beta(z, g) if beta_scaling else None)
    v = v.reshape(*batch, *v.shape[1:])
    return (v if activation is None else activation(v)).astype(x.dtype)


def _finish(u: jax.Array, scale: jax.Array | None, bias: jax.Array | None, beta: jax.Array | None) -> jax.Array:
    if scale is not None:
        u = u * last_axis(scale, u)
    if beta is not None:
        u = u * beta
    return u if bias is None else u + last_axis(bias, u)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _correlate_and_finish(
    a: jax.Array,
    b: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    correlation: Correlation,
    implementation: str | None,
    activation: Activation,
    dtype: DTypeLike,
) -> jax.Array:
    """The formula from u on, by one kernel. Its gradient is that of the same formula written out."""
    features = (correlation.geometry.features,)
    scale, bias = jax.tree.map(lambda term: jnp.broadcast_to(term, features), (scale, bias))
    clamp = next(clamp for known, clamp in _CLAMPS if known is activation)
    epilogue = Epilogue(scale=scale, bias=bias, clamp=clamp, dtype=dtype)
    x, w = image_words(a, correlation), kernel_words(b, correlation)
    return correlate_words(x, w, correlation, epilogue=epilogue, implementation=implementation)


def _correlate_and_finish_fwd(
    a: Any,
    b: Any,
    scale: Any,
    bias: Any,
    correlation: Correlation,
    implementation: str | None,
    activation: Activation,
    dtype: DTypeLike,
) -> tuple[jax.Array, Any]:
    # Arguments that do not vary are closed over: nothing is then kept for the gradient of, say, a constant scale.
    arguments = (a, b, scale, bias)
    varying = [i for i, argument in enumerate(arguments) if argument is not None and argument.perturbed]
    values = [None if argument is None else argument.value for argument in arguments]

    def written_out(*replaced: jax.Array) -> jax.Array:
        known = dict(enumerate(values)) | dict(zip(varying, replaced, strict=True))
        v = _finish(correlate(known[0], known[1], correlation, implementation), known[2], known[3], None)
        return (v if activation is None else activation(v)).astype(dtype)

    y, pull_back = jax.vjp(written_out, *(values[i] for i in varying))
    # Residuals are arrays; which arguments varied is carried by their structure, () or None.
    varied = tuple(() if i in varying else None for i in range(len(arguments)))
    return y, (pull_back, varied)


def _correlate_and_finish_bwd(
    correlation: Correlation,
    implementation: str | None,
    activation: Activation,
    dtype: DTypeLike,
    residuals: Any,
    g: Any,
) -> tuple[jax.Array | None, ...]:
    pull_back, varied = residuals
    gradients = iter(pull_back(jnp.zeros(g.shape, g.dtype) if isinstance(g, SymbolicZero) else g))
    return tuple(None if v is None else next(gradients) for v in varied)


_correlate_and_finish.defvjp(_correlate_and_finish_fwd, _correlate_and_finish_bwd, symbolic_zeros=True)


def _quantize(name: str, x: jax.Array, quantizer: Quantizer, correlation: Correlation) -> jax.Array:
    q = quantizer(x)
    if q.shape != x.shape:
        raise ValueError(f"`{name}` must keep the shape of its argument, {x.shape}, but returned shape {q.shape}")
    q = q.astype(x.dtype)
    if correlation.mode != "and" or _function(quantizer) is quantizers.ste_heaviside:
        return q
    return (q + 1) / 2


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def last_axis(value: jax.Array, like: jax.Array) -> jax.Array:
    """A scalar or (C,) as an array that multiplies (…, C)."""
    return value.reshape((1,) * (like.ndim - value.ndim) + value.shape)


def _term(name: str, value: ArrayLike | None, size: int, letter: str, dtype: DTypeLike) -> jax.Array | None:
    return None if value is None else per_channel(name, value, size, letter, dtype)


def as_image(x: ArrayLike) -> jax.Array:
    """x as an array of a dtype that the operator takes."""
    return of_float("x", jnp.asarray(x))


def as_kernel(w: ArrayLike) -> jax.Array:
    """w as a latent kernel or words."""
    w = jnp.asarray(w)
    return w if w.dtype == jnp.uint32 else of_float("w", w, " or, packed, uint32")


def _check(
    correlation: Correlation,
    w: jax.Array,
    input_quantizer: Quantizer,
    kernel_quantizer: Quantizer,
    activation: Activation,
    implementation: str | None,
) -> None:
    g, mode = correlation.geometry, correlation.mode
    if mode not in ("xnor", "and", "binary_weights"):
        raise ValueError(f'`mode` must be "xnor", "and" or "binary_weights", but was {mode!r}')
    if w.dtype == jnp.uint32:
        check_kernel_words(w, g)
    elif w.shape[-2] != g.channels_per_group:
        raise ValueError(f"`w` must have C / groups = {g.channels_per_group} input channels, but has shape {w.shape}")
    check_pad_value(mode, correlation.pad_value)
    if mode != "binary_weights":
        _check_quantizer("input_quantizer", input_quantizer, mode)
    _check_quantizer("kernel_quantizer", kernel_quantizer, mode)
    if not (activation is None or callable(activation)):
        raise TypeError(f"`activation` must be a function or None, but was {activation!r}")
    check_case(implementation, correlation)


_WAY_OUT = (
    (quantizers.dorefa, "it has more than one bit, or values in [0, 1]"),
    (quantizers.ste_tern, "it has three values"),
    (quantizers.magnitude_aware_sign, "use `ste_sign` and `scale=jax.lax.stop_gradient(jbnn.alpha(w))`"),
    (quantizers.ste_heaviside, 'its values are 0 and 1, which are for mode="and"'),
)


def _check_quantizer(name: str, quantizer: Quantizer, mode: str) -> None:
    function = _function(quantizer)
    if not callable(function):
        raise TypeError(f"`{name}` must be a function to ±1, but was {quantizer!r}")
    for refused, way_out in _WAY_OUT:
        if function is refused and not (refused is quantizers.ste_heaviside and mode == "and"):
            raise ValueError(f"`{name}` must return ±1, but was {refused.__name__}: {way_out}")


def _function(quantizer: Quantizer) -> Quantizer:
    """What a `functools.partial` calls in the end."""
    while isinstance(quantizer, functools.partial):
        quantizer = quantizer.func
    return quantizer
