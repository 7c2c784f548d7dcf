"""What a caller gives, checked and converted to what the rest of the package works with.

Every refusal names the argument, what it must be and what it was. Dtypes are judged as they were given: without x64,
`jnp.asarray` would first make words of 64 bits words of 32, and -1e-60 a zero, whose sign is +1.
"""

import contextlib
import numbers
import operator
from array import array as Buffer
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.typing import ArrayLike, DTypeLike

from jbnn._jax_versions import known_now

FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64)
SIGNED = (jnp.int4, jnp.int8, jnp.int16, jnp.int32, jnp.int64)
WHICH_FLOATS = "; floats are float32, bfloat16, float16 or float64"
"""The end of an error. Floats of 8 bits are refused: some have no -0, or no infinity, or no sign at all."""


def as_index(name: str, value: Any) -> int:
    """An integer of any kind as Python's."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, but was {value!r}") from None


def check_groups(name: str, groups: int, channels: int) -> None:
    """Groups share the channels evenly."""
    if groups < 1 or channels % groups:
        raise ValueError(f"`{name}` must be positive and divide the {channels} channels, but was {groups}")


def as_array(
    name: str, value: ArrayLike, accepted: Callable[[np.dtype], bool], must: str, way_out: str = ""
) -> jax.Array:
    """An array whose dtype, as it was given, is `accepted`; else an error that says what it `must` be, and a way out.

    A dtype that JAX would narrow is refused too. Python's numbers, and lists of them, have no dtype: they take JAX's.
    """
    given = given_array(name, value)
    if not accepted(given.dtype):
        raise TypeError(f"`{name}` must {must}, but has dtype {given.dtype}{way_out}")
    if dtypes.canonicalize_dtype(given.dtype) != given.dtype:
        raise TypeError(
            f"`{name}` must {must}, but has dtype {given.dtype}, which JAX narrows: cast it, or enable `jax_enable_x64`"
        )
    return jnp.asarray(given)


def given_array(name: str, value: Any) -> jax.Array | np.ndarray:
    """The array that was given, in the dtype in which it was given."""
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):
        return given_array(name, value.__jax_array__())
    if isinstance(value, np.generic | memoryview | Buffer) or hasattr(value, "__array__"):
        given = np.asarray(value)
        if not given.dtype.isnative:
            raise TypeError(
                f"`{name}` must have this machine's byte order, but has dtype {given.dtype.str!r}: "
                "cast it with `astype(dtype.newbyteorder('='))`"
            )
        return given
    leaves = leaves_of(value)
    wide = [leaf for leaf in leaves if hasattr(leaf, "dtype") and dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype]
    if wide and any(isinstance(leaf, jax.Array) for leaf in leaves):
        raise TypeError(f"`{name}` must not mix arrays of JAX with others of dtype {wide[0].dtype}, which JAX narrows")
    smallest = float(np.finfo(dtypes.canonicalize_dtype(float)).smallest_subnormal)
    for leaf in leaves:
        if type(leaf) is float and 0 < abs(leaf) < smallest:
            raise TypeError(f"`{name}` must hold numbers that JAX does not round to 0, but one of them was {leaf!r}")
    try:
        if any(leaf is None for leaf in leaves):  # older versions of JAX take it for NaN
            raise TypeError
        return np.asarray(value) if wide else jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"`{name}` must be an array of numbers that JAX can hold, but was {value!r}") from None


def leaves_of(value: Any) -> list[Any]:
    """What lists of lists hold in the end; of anything else, itself."""
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves_of(part)]
    return [value]


def as_float(name: str, value: ArrayLike, otherwise: str = "", *others: DTypeLike) -> jax.Array:
    """A floating array of a dtype that the operators take, or one of the `others`, which errors name `otherwise`."""
    accepted = [jnp.dtype(dtype) for dtype in (*FLOATS, *others)]
    must = f"have dtype float32, bfloat16, float16 or float64{otherwise}"
    return as_array(name, value, lambda dtype: dtype in accepted, must)


def as_image(value: ArrayLike, *, pixels: bool) -> jax.Array:
    """`x` in a dtype that the operators take; where it is not quantized, 8-bit pixels too."""
    if pixels:
        return as_float("x", value, ", uint8 or int8", jnp.uint8, jnp.int8)
    return as_float("x", value)


def as_signed(name: str, value: ArrayLike, *, boolean: bool = False) -> jax.Array:
    """An array whose elements have a sign; or are, if `boolean`, a bit already."""
    accepted = [jnp.dtype(dtype) for dtype in (*FLOATS, *SIGNED, *([jnp.bool_] if boolean else []))]
    kinds = "floating, signed integer or bool" if boolean else "floating or signed integer"
    return as_array(name, value, lambda dtype: dtype in accepted, f"have a {kinds} dtype", WHICH_FLOATS)


def as_words(name: str, value: ArrayLike) -> jax.Array:
    """Words of 32 bits."""
    way_out = ": `jbnn.pack` makes words, and `view` or `astype` makes them of other integers"
    return as_array(name, value, lambda dtype: dtype == jnp.uint32, "hold words of dtype uint32", way_out)


def as_kernel(value: ArrayLike) -> jax.Array:
    """`w` as a latent kernel or words; of NumPy it is known while tracing too."""
    with known_now() if isinstance(value, np.ndarray) else contextlib.nullcontext():
        return as_float("w", value, " or, packed, uint32", jnp.uint32)


def as_exactly(name: str, value: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """An array of dtype int32 or bool; or Python's own integers or truth values, which have no dtype, and fit."""
    dtype, leaves = np.dtype(dtype), leaves_of(value)
    kind = bool if dtype == np.bool_ else int
    if leaves and all(type(leaf) is kind for leaf in leaves):
        if kind is int:
            info = np.iinfo(dtype)
            for leaf in leaves:
                if not info.min <= leaf <= info.max:
                    raise TypeError(f"`{name}` must fit in {dtype}, but was {leaf!r}")
        return jnp.asarray(value, dtype)
    return as_array(name, value, lambda given: given == dtype, f"have dtype {dtype}")


def as_dtype(name: str, dtype: DTypeLike) -> np.dtype:
    """A dtype of numbers with a sign, which JAX does not narrow. Python's `float` and `int` are JAX's own."""
    must = "be floating or signed integer"
    try:
        given = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"`{name}` must {must}, but was {dtype!r}") from None
    given = dtypes.canonicalize_dtype(given) if dtype in (float, int) else given
    if given not in [np.dtype(each) for each in (*FLOATS, *SIGNED)]:
        raise TypeError(f"`{name}` must {must}, but was {given}{WHICH_FLOATS}")
    if dtypes.canonicalize_dtype(given) != given:
        raise TypeError(f"`{name}` must {must}, but was {given}, which JAX narrows unless `jax_enable_x64` is enabled")
    return given


def check_number(name: str, value: Any) -> None:
    """A number that is known while tracing."""
    if isinstance(value, jax.Array) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a Python number, but was {value!r}")


def check_flag(name: str, value: Any) -> None:
    """A truth value that is known while tracing."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, but was {value!r}")


def check_activation(activation: Any) -> None:
    """A function of the result, or none."""
    if not (activation is None or callable(activation)):
        raise TypeError(f"`activation` must be a function or None, but was {activation!r}")


def array_from(name: str, result: Any) -> jax.Array:
    """What a function that the caller gave has returned."""
    if not isinstance(result, jax.Array | np.ndarray | np.generic | int | float):
        raise TypeError(f"`{name}` must return an array, but returned {result!r}")
    given = given_array(name, result)
    if given.dtype in (np.int64, np.uint64) and dtypes.canonicalize_dtype(given.dtype) != given.dtype:
        raise TypeError(f"`{name}` must return floats, but returned dtype {given.dtype}, which JAX narrows")
    return jnp.asarray(given)


def array_in_shape(name: str, function: Callable[[jax.Array], Any], x: jax.Array) -> jax.Array:
    """What a quantizer that the caller gave makes of x, in its shape."""
    q = array_from(name, function(x))
    if q.shape != x.shape:
        raise ValueError(f"`{name}` must keep the shape of its argument, {x.shape}, but returned shape {q.shape}")
    return q


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    """What affines, beta and activations of an array of `dtype` are evaluated in."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def last_axis(value: jax.Array, like: jax.Array) -> jax.Array:
    """A scalar or (C,) as an array that multiplies (…, C)."""
    return value.reshape((1,) * (like.ndim - value.ndim) + value.shape)
