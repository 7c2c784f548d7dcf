"""Bits: what a sign is, how 32 of them share a word, and how to count them.

The whole package rests on four decisions made here, the order in a word also in `_words`, and nowhere else:

* `sign` is -1 where x < 0 and +1 everywhere else, so 0, -0.0 and NaN are +1.
* A bit is 1 for +1.
* Channel c is bit c % 32, least significant first, of `uint32` word c // 32; each group starts a new word.
* Unused bits are written 0, and ignored on reading.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import (
    array_in_shape,
    as_array,
    as_dtype,
    as_index,
    as_signed,
    as_words,
    at_least_float32,
    check_groups,
)
from jbnn._eager import run_as_program
from jbnn._jax_versions import in_whole_parts
from jbnn._words import words_of

WORD = 32
ALL_ONES = np.uint32(0xFFFFFFFF)


def words_per_group(channels: int) -> int:
    """Words that `channels` bits of one group fill."""
    return -(-channels // WORD)


def used_bits(channels: int, groups: int = 1) -> np.ndarray:
    """One `uint32` mask a word, shape (G·ceil(C/G/32),): 1 where the bit holds a channel."""
    per_group = channels // groups
    bits = np.arange(words_per_group(per_group) * WORD) < per_group
    words = np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)
    return np.tile(words, groups)


def _is_negative(x: jax.Array) -> jax.Array:
    """x < 0, decided on the float's bits: a comparison of values would flush subnormals on some devices.

    As unsigned integers the negative floats are the interval from just above -0.0 up to -inf; NaNs lie outside.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x < 0
    unsigned = np.dtype(f"uint{8 * x.dtype.itemsize}")
    minus_zero, minus_infinity = (np.array(v, x.dtype).view(unsigned)[()] for v in (-0.0, -np.inf))
    bits = lax.bitcast_convert_type(x, unsigned)
    return (bits > minus_zero) & (bits <= minus_infinity)


def sign(x: ArrayLike) -> jax.Array:
    """The sign of x as ±1, with +1 for zero.

        sign(x) = -1 where x < 0, else +1

    So 0, -0.0 and NaN give +1, and a negative subnormal gives -1, on every device. Unlike `jnp.sign` it is never 0.

    Args:
      x: array of any shape; float32, bfloat16, float16, float64 or a signed integer.

    Returns:
      ±1 in the shape and dtype of x.

    Raises:
      TypeError: x is of another dtype: floats of 8 bits, some of which have no -0 or no NaN, are. Or of one that JAX
        would narrow, float64 or int64 without x64: -1e-60 would become 0, whose sign is +1.

    Gradient: zero, as for `jnp.sign`; `jbnn.quantizers` holds the surrogate gradients.

    Example:
      >>> print(jbnn.sign(jnp.array([-2.0, -0.0, 0.0, 3.0])))
      [-1.  1.  1.  1.]
    """
    return _sign(as_signed("x", x))


@jax.jit  # so that the constants are the program's, and not sent to the device at every call
def _sign(x: jax.Array) -> jax.Array:
    return jnp.where(_is_negative(x), jnp.array(-1, x.dtype), jnp.array(1, x.dtype))


@jax.custom_jvp
def _without_derivative(x: jax.Array) -> jax.Array:
    """x, of which no derivative may be asked: that of words would be 0, and a network trained so stands still."""
    return x


@functools.partial(_without_derivative.defjvp, symbolic_zeros=True)
def _refuse_derivative(primals: tuple[jax.Array], tangents: tuple[Any]) -> tuple[jax.Array, Any]:
    (x,), (tangent,) = primals, tangents
    if not isinstance(tangent, SymbolicZero):  # which is what a value has that does not vary, or was stopped
        raise TypeError(
            "`pack` has no derivative, because words are integers: train with `jbnn.binary_conv` or "
            "`jbnn.binary_dense`, or stop the derivative before, as in `pack(jax.lax.stop_gradient(x))`"
        )
    return x, tangent


def _canonical_axis(axis: int, ndim: int) -> int:
    axis = as_index("axis", axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"`axis` must lie in [-{ndim}, {ndim}) for an array of {ndim} axes, but was {axis}")
    return axis % ndim


def pack(
    x: ArrayLike, *, axis: int = -1, groups: int = 1, quantizer: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """Packs the signs along one axis into words of 32 bits.

    Channel c of a group is bit c % 32, least significant first, of that group's word c // 32. A bit is 1 where
    `sign(x)` is +1, or where the value of a quantizer is positive; of a bool it is the value. Unused bits of a group's
    last word are 0.

    Zeros and ones as numbers are signs too, and 0 is +1: bits are given as bool, such as `x > 0`.

    Args:
      x: array of shape (…, C, …); float32, bfloat16, float16, float64, a signed integer, or bool.
      axis: the axis of the C channels. Images (N, *S, C) pack with -1; kernels, (*K, C/G, O) of a convolution or
        (C, O) of a dense layer, with `axis=-2`. Words along another axis are refused where their number tells, which
        it does not where C/G is 1.
      groups: G, a divisor of C. Each group's C/G channels start a new word. A kernel has the channels of one group on
        its axis -2, and packs with 1.
      quantizer: whose values are stored; None is `sign`. To ±1, such as `jbnn.quantizers.ste_sign` of a kernel less
        its mean, or to {0, 1}, such as `ste_heaviside`. As in `binary_conv` it is called with x in float32 at least,
        and the words are those that `binary_conv` would make with it. It sees the whole of x: of kernels that are
        stacked, a quantizer that takes a mean goes in as `jax.vmap(quantizer)`.

    Returns:
      `uint32` of shape (…, G·ceil(C/G/32), …).

    Raises:
      TypeError: x is unsigned or complex (its sign would be meaningless), a float of 8 bits, or of a dtype that JAX
        would narrow; or a derivative in x is asked for.
      ValueError: `groups` does not divide C, or there is no such axis; or the quantizer returns another shape or
        values that are neither ±1 nor {0, 1}. Under `jit` its values are not known: a third one is then stored as the
        bit value > 0.

    Gradient: none, and asking for it is a `TypeError`: words are integers. `jbnn.binary_conv` differentiates through
    them. A value that `jax.lax.stop_gradient` stopped before may be packed anywhere.

    Example:
      >>> print(jbnn.pack(jnp.array([1.0, -1.0, 1.0, 1.0])))
      [13]
      >>> print(jbnn.pack(jnp.array([1.0, 0.0, -1.0]), quantizer=jbnn.quantizers.ste_heaviside))
      [1]
    """
    x = as_signed("x", x, boolean=True)
    axis, groups = _canonical_axis(axis, x.ndim), as_index("groups", groups)
    check_groups("groups", groups, x.shape[axis])
    if quantizer is None:
        return pack_bits(x, axis=axis, groups=groups)
    return pack_bits(_quantized(x, quantizer), axis=axis, groups=groups, positive=True)


def _quantized(x: jax.Array, quantizer: Callable[[jax.Array], jax.Array]) -> jax.Array:
    if not callable(quantizer):
        raise TypeError(f"`quantizer` must be a function to ±1 or {{0, 1}}, or None, but was {quantizer!r}")
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = _without_derivative(x.astype(at_least_float32(x.dtype)))
    q = as_signed("quantizer(x)", array_in_shape("quantizer", quantizer, x), boolean=True)
    if not isinstance(q, jax.core.Tracer) and q.is_fully_addressable and q.dtype != jnp.bool_:
        values = np.unique(jax.device_get(q).astype(np.float64))
        if not any(np.isin(values, two).all() for two in ((-1, 1), (0, 1))):
            some = ", ".join(map(str, values[:4]))
            raise ValueError(f"`quantizer` must return ±1, or 0 and 1, but returned {some}")
    return q


@functools.partial(jax.jit, static_argnames=("axis", "groups", "positive"))
def pack_bits(x: jax.Array, *, axis: int = -1, groups: int = 1, positive: bool = False) -> jax.Array:
    """`pack` of what was checked: bool as it is, and of numbers the signs or, if `positive`, whether they exceed 0."""
    axis %= x.ndim
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = _without_derivative(x)
    bits = x if x.dtype == jnp.bool_ else x > 0 if positive else ~_is_negative(x)
    before, channels, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    per_group = channels // groups
    words = words_per_group(per_group)
    bits = in_whole_parts(bits, axis, WORD if groups == 1 else per_group)
    if unused := words * WORD - per_group:
        if groups > 1:
            bits = bits.reshape(*before, groups, per_group, *after)
        widths = [(0, 0, 0)] * bits.ndim
        widths[bits.ndim - len(after) - 1] = (0, unused, 0)
        bits = lax.pad(bits, np.False_, widths)
    return words_of(bits.reshape(*before, groups * words, WORD, *after), axis + 1)


def unpack(
    words: ArrayLike, size: int, *, axis: int = -1, groups: int = 1, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Unpacks words into ±1, the inverse of `pack` on signs.

    Args:
      words: `uint32` of shape (…, G·ceil(C/G/32), …). Unused bits may hold anything.
      size: C, the number of channels over all groups.
      axis: the axis of the words.
      groups: G, a divisor of C.
      dtype: of the result; float32, bfloat16, float16, float64 or a signed integer.

    Returns:
      ±1 of shape (…, C, …).

    Raises:
      TypeError: `words` are not `uint32`, or `dtype` is another one, or one that JAX would narrow.
      ValueError: the number of words is not that of `size` and `groups`, or there is no such axis.

    Example:
      >>> print(jbnn.unpack(jnp.array([13], jnp.uint32), 4))
      [ 1. -1.  1.  1.]
    """
    words = as_words("words", words)
    dtype = as_dtype("dtype", dtype)
    axis, size, groups = _canonical_axis(axis, words.ndim), as_index("size", size), as_index("groups", groups)
    if size < 0:
        raise ValueError(f"`size` must not be negative, but was {size}")
    check_groups("groups", groups, size)
    expected = groups * words_per_group(size // groups)
    if words.shape[axis] != expected:
        raise ValueError(
            f"`words` must have {expected} words on axis {axis} for {size} channels in {groups} groups, "
            f"but has shape {words.shape}"
        )
    return _unpack(words, size=size, axis=axis, groups=groups, dtype=dtype)


@functools.partial(jax.jit, static_argnames=("size", "axis", "groups", "dtype"))
def _unpack(words: jax.Array, *, size: int, axis: int, groups: int, dtype: DTypeLike) -> jax.Array:
    bits = unpack_bits(words, size, axis=axis, groups=groups)
    return jnp.where(bits, jnp.array(1, dtype), jnp.array(-1, dtype))


def unpack_bits(words: jax.Array, size: int, *, axis: int, groups: int) -> jax.Array:
    """The bits themselves as bool, (…, C, …)."""
    before, after = words.shape[:axis], words.shape[axis + 1 :]
    place = np.arange(WORD, dtype=np.uint32).reshape(WORD, *(1 for _ in after))
    spread = lax.expand_dims(words, (axis + 1,))
    bits = (spread >> lax.broadcast_to_rank(place, spread.ndim)) & np.uint32(1)
    count = words.shape[axis]
    if groups == 1:
        bits = bits.reshape(*before, count * WORD, *after)
        return lax.slice_in_dim(bits, 0, size, axis=axis) != 0
    # Each reshape splits or merges neighbours only, which is what JAX allows of a sharded array.
    bits = bits.reshape(*before, groups, count // groups, WORD, *after)
    bits = bits.reshape(*before, groups, count // groups * WORD, *after)
    bits = lax.slice_in_dim(bits, 0, size // groups, axis=axis + 1)
    return bits.reshape(*before, size, *after) != 0


def population_count(words: ArrayLike) -> jax.Array:
    """The number of 1 bits of each word.

    One instruction where XLA has one (CPU, NVIDIA, AMD, TPU), and shifts and additions everywhere else: Apple's
    plugins receive no popcount, which jax-metal cannot compile.

    Args:
      words: `uint8`, `uint16` or `uint32`, of any shape.

    Returns:
      The counts, in the shape and dtype of `words`.

    Raises:
      TypeError: `words` are of another dtype.

    Example:
      >>> print(jbnn.population_count(jnp.array([0, 13, 0xFFFFFFFF], jnp.uint32)))
      [ 0  3 32]
    """
    counted = (jnp.uint8, jnp.uint16, jnp.uint32)
    return _population_count_p.bind(
        as_array("words", words, lambda dtype: dtype in counted, "have dtype uint8, uint16 or uint32")
    )


def _shift_and_add(words: jax.Array) -> jax.Array:
    """Counts in pairs, then in nibbles, bytes and halves: only shift, and, add, as Apple's plugins compile them."""
    x = words.astype(jnp.uint32)
    pairs, nibbles, bytes_ = np.uint32(0x55555555), np.uint32(0x33333333), np.uint32(0x0F0F0F0F)
    x = (x & pairs) + ((x >> np.uint32(1)) & pairs)
    x = (x & nibbles) + ((x >> np.uint32(2)) & nibbles)
    x = (x + (x >> np.uint32(4))) & bytes_
    x = x + (x >> np.uint32(8))
    x = x + (x >> np.uint32(16))
    return (x & np.uint32(0x3F)).astype(words.dtype)


_population_count_p = Primitive("jbnn_population_count")
run_as_program(_population_count_p)
_population_count_p.def_abstract_eval(lambda words: words)
batching.defvectorized(_population_count_p)
mlir.register_lowering(_population_count_p, mlir.lower_fun(_shift_and_add, multiple_results=False))
for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(
        _population_count_p, mlir.lower_fun(lax.population_count, multiple_results=False), platform=_platform
    )
