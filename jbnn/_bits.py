"""Bits: what a sign is, how 32 of them share a word, and how to count them.

The whole package rests on four decisions made here and nowhere else:

* `sign` is -1 where x < 0 and +1 everywhere else, so 0, -0.0 and NaN are +1.
* A bit is 1 for +1.
* Channel c is bit c % 32, least significant first, of `uint32` word c // 32; each group starts a new word.
* Unused bits are written 0, and ignored on reading.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.typing import ArrayLike, DTypeLike

from jbnn._arguments import as_index, as_words, check_groups
from jbnn._jax_versions import in_whole_parts

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


def _as_signed(name: str, x: ArrayLike, *, boolean: bool = False) -> jax.Array:
    x = jnp.asarray(x)
    accepted = jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.signedinteger)
    if not (accepted or (boolean and x.dtype == jnp.bool_)):
        kinds = "floating, signed integer or bool" if boolean else "floating or signed integer"
        raise TypeError(f"`{name}` must have a {kinds} dtype, but has dtype {x.dtype}")
    return x


def as_floating(x: ArrayLike) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"`x` must have a floating dtype, but has dtype {x.dtype}")
    return x


def sign(x: ArrayLike) -> jax.Array:
    """The sign of x as ±1, with +1 for zero.

        sign(x) = -1 where x < 0, else +1

    So 0, -0.0 and NaN give +1, and a negative subnormal gives -1, on every device. Unlike `jnp.sign` it is never 0.

    Args:
      x: array of any shape; floating or signed integer.

    Returns:
      ±1 in the shape and dtype of x.

    Raises:
      TypeError: x is of another dtype.

    Gradient: zero, as for `jnp.sign`; `jbnn.quantizers` holds the surrogate gradients.

    Example:
      >>> print(jbnn.sign(jnp.array([-2.0, -0.0, 0.0, 3.0])))
      [-1.  1.  1.  1.]
    """
    x = _as_signed("x", x)
    return jnp.where(_is_negative(x), jnp.array(-1, x.dtype), jnp.array(1, x.dtype))


def _canonical_axis(axis: int, ndim: int) -> int:
    axis = as_index("axis", axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"`axis` must lie in [-{ndim}, {ndim}) for an array of {ndim} axes, but was {axis}")
    return axis % ndim


def pack(x: ArrayLike, *, axis: int = -1, groups: int = 1) -> jax.Array:
    """Packs the signs along one axis into words of 32 bits.

    Channel c of a group is bit c % 32, least significant first, of that group's word c // 32. A bit is 1 where
    `sign(x)` is +1; of a bool it is the value. Unused bits of a group's last word are 0.

    Args:
      x: array of shape (…, C, …); floating, signed integer or bool.
      axis: the axis of the C channels. A convolution's kernel (*K, C/G, O) packs with `axis=-2`.
      groups: G, a divisor of C. Each group's C/G channels start a new word.

    Returns:
      `uint32` of shape (…, G·ceil(C/G/32), …).

    Raises:
      TypeError: x is unsigned or complex (its sign would be meaningless).
      ValueError: `groups` does not divide C, or there is no such axis.

    Gradient: none; words are integers. `jbnn.binary_conv` differentiates through them.

    Example:
      >>> print(jbnn.pack(jnp.array([1.0, -1.0, 1.0, 1.0])))
      [13]
    """
    x = _as_signed("x", x, boolean=True)
    axis, groups = _canonical_axis(axis, x.ndim), as_index("groups", groups)
    check_groups("groups", groups, x.shape[axis])
    return _pack(x, axis=axis, groups=groups)


@functools.partial(jax.jit, static_argnames=("axis", "groups"))
def _pack(x: jax.Array, *, axis: int, groups: int) -> jax.Array:
    bits = x if x.dtype == jnp.bool_ else ~_is_negative(x)
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
    lanes = bits.reshape(*before, groups * words, WORD, *after)
    place = lax.broadcast_in_dim(np.uint32(1) << np.arange(WORD, dtype=np.uint32), lanes.shape, (axis + 1,))
    return jnp.sum(jnp.where(lanes, place, np.uint32(0)), axis=axis + 1, dtype=jnp.uint32)


def unpack(
    words: ArrayLike, size: int, *, axis: int = -1, groups: int = 1, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Unpacks words into ±1, the inverse of `pack` on signs.

    Args:
      words: `uint32` of shape (…, G·ceil(C/G/32), …). Unused bits may hold anything.
      size: C, the number of channels over all groups.
      axis: the axis of the words.
      groups: G, a divisor of C.
      dtype: of the result; floating or signed integer.

    Returns:
      ±1 of shape (…, C, …).

    Raises:
      TypeError: `words` are not `uint32`, or `dtype` cannot hold -1.
      ValueError: the number of words is not that of `size` and `groups`, or there is no such axis.

    Example:
      >>> print(jbnn.unpack(jnp.array([13], jnp.uint32), 4))
      [ 1. -1.  1.  1.]
    """
    words, dtype = as_words("words", words), jnp.dtype(dtype)
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.signedinteger)):
        raise TypeError(f"`dtype` must be floating or signed integer, but was {dtype}")
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
    words = jnp.asarray(words)
    if words.dtype not in (jnp.uint8, jnp.uint16, jnp.uint32):
        raise TypeError(f"`words` must have dtype uint8, uint16 or uint32, but has dtype {words.dtype}")
    return _population_count_p.bind(words)


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
_jitted = jax.jit(lambda words: _population_count_p.bind(words))


@_population_count_p.def_impl
def _population_count_now(words: jax.Array) -> jax.Array:
    with jax.disable_jit(False):  # else the jitted call would come back here
        return _jitted(words)


_population_count_p.def_abstract_eval(lambda words: words)
batching.defvectorized(_population_count_p)
mlir.register_lowering(_population_count_p, mlir.lower_fun(_shift_and_add, multiple_results=False))
for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(
        _population_count_p, mlir.lower_fun(lax.population_count, multiple_results=False), platform=_platform
    )
