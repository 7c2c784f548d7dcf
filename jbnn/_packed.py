"""Words in, int32 out: the deployed operators, without a float between."""

import math
import numbers
from collections.abc import Sequence
from typing import Literal

import jax
from jax.typing import ArrayLike

from jbnn._bits import WORD, as_index, as_words
from jbnn._geometry import Geometry, Padding, conv_geometry, dense_geometry
from jbnn._kernels.choose import check_case
from jbnn._kernels.correlation import Correlation, Mode
from jbnn._kernels.primitive import correlate_words

BitMode = Literal["xnor", "and"]


def packed_conv(
    x: ArrayLike,
    w: ArrayLike,
    *,
    channels: int | None = None,
    mode: BitMode = "xnor",
    window_strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    rhs_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    pad_value: int = 0,
    implementation: str | None = None,
) -> jax.Array:
    """Convolves packed images with packed kernels, exactly.

        u = correlation of a with B          xnor: a, B in {-1, +1}          and: a, B in {0, 1}

    A correlation, as in `lax.conv_general_dilated`: the kernel is not flipped. Equal on every implementation, device
    and batch size.

    Args:
      x: `uint32` (N, *S, W), as `pack(a, groups=G)` gives; one, two or three spatial axes.
      w: `uint32` (*K, W/G, O), as `pack(b, axis=-2)` gives. Unused bits of x and w may hold anything.
      channels: C; by default 32·W. Inside a word it cannot be checked: with C = 33 to 64 two words are right.
      mode: "xnor" or "and".
      window_strides: an integer, or one for each spatial axis.
      padding: "SAME", "VALID" or a pair (low, high) for each spatial axis; negative values crop.
      rhs_dilation: dilation of the window; an integer, or one for each spatial axis.
      feature_group_count: G, a divisor of C and of O.
      pad_value: what a tap outside the image reads. xnor: 0 (contributes nothing), +1 or -1. and: 0 or 1.
      implementation: None picks what is fastest where the program will run. A name is used or refused.

    Returns:
      `int32` (N, *S', O), *S' as in `lax`.

    Raises:
      TypeError: x or w are not `uint32`.
      ValueError: ranks, word counts or groups do not match; unknown mode, padding, pad value or implementation.
      NotImplementedError: the named implementation cannot do this case; the message says why.

    Gradient: none; `binary_conv` trains.

    Example:
      >>> x = jbnn.pack(jnp.ones((1, 3, 3, 64)))
      >>> w = jbnn.pack(jnp.ones((3, 3, 64, 1)), axis=-2)
      >>> print(jbnn.packed_conv(x, w)[0, :, :, 0])
      [[256 384 256]
       [384 576 384]
       [256 384 256]]

    References:
      Rastegari et al., XNOR-Net, 2016, section 3.2. https://arxiv.org/abs/1603.05279
      `MPSCNNBinaryConvolutionType`: XNOR and AND.
    """
    x, w = as_words("x", x), as_words("w", w)
    check_ranks(x, w)
    geometry = conv_geometry(
        x.shape[1:-1],
        w.shape[:-2],
        channels=_channels(channels, x),
        features=w.shape[-1],
        window_strides=window_strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
    )
    return _correlate(x, w, geometry, mode, pad_value, implementation)


def packed_dense(
    x: ArrayLike,
    w: ArrayLike,
    *,
    channels: int | None = None,
    mode: BitMode = "xnor",
    implementation: str | None = None,
) -> jax.Array:
    """Multiplies packed rows with a packed matrix, exactly.

        u = a·B          xnor: a, B in {-1, +1}          and: a, B in {0, 1}

    Args:
      x: `uint32` (…, W), as `pack(a)` gives.
      w: `uint32` (W, O), as `pack(b, axis=-2)` gives. Unused bits of x and w may hold anything.
      channels: C; by default 32·W. Inside a word it cannot be checked.
      mode: "xnor" or "and".
      implementation: None picks what is fastest where the program will run. A name is used or refused.

    Returns:
      `int32` (…, O).

    Raises:
      TypeError: x or w are not `uint32`.
      ValueError: ranks or word counts do not match; unknown mode or implementation.
      NotImplementedError: the named implementation cannot do this case; the message says why.

    Gradient: none; `binary_dense` trains.

    Example:
      >>> x = jbnn.pack(jnp.array([1.0, -1.0, 1.0]))
      >>> w = jbnn.pack(jnp.array([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]), axis=-2)
      >>> print(jbnn.packed_dense(x, w, channels=3))
      [1 3]
    """
    x, w = as_words("x", x), as_words("w", w)
    check_dense_ranks(x, w)
    geometry = dense_geometry(channels=_channels(channels, x), features=w.shape[-1])
    u = _correlate(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), w, geometry, mode, 0, implementation)
    return u.reshape(*x.shape[:-1], w.shape[-1])


def _channels(channels: int | None, x: jax.Array) -> int:
    if channels is None:
        return x.shape[-1] * WORD
    return as_index("channels", channels)


def _correlate(
    x: jax.Array, w: jax.Array, geometry: Geometry, mode: BitMode, pad_value: int, implementation: str | None
) -> jax.Array:
    if mode not in ("xnor", "and"):
        raise ValueError(f'`mode` must be "xnor" or "and", but was {mode!r}')
    check_pad_value(mode, pad_value)
    expected = geometry.groups * geometry.words
    if x.shape[-1] != expected:
        raise ValueError(
            f"`x` must have {expected} words for {geometry.channels} channels in {geometry.groups} groups, "
            f"but has shape {x.shape}"
        )
    check_kernel_words(w, geometry)
    correlation = Correlation(geometry, mode, pad_value)
    check_case(implementation, correlation)
    return correlate_words(x, w, correlation, implementation=implementation)


def check_ranks(x: jax.Array, w: jax.Array) -> None:
    """A convolution has one to three spatial axes, and a kernel for each."""
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"`x` must have shape (N, *S, C) with one to three spatial axes, but has shape {x.shape}")
    if w.ndim != x.ndim:
        raise ValueError(f"`w` must have {x.ndim} axes, as `x` has, but has shape {w.shape}")


def check_dense_ranks(x: jax.Array, w: jax.Array) -> None:
    """A dense layer has rows of channels and a matrix."""
    if x.ndim < 1:
        raise ValueError(f"`x` must have shape (…, C), but has shape {x.shape}")
    if w.ndim != 2:
        raise ValueError(f"`w` must have 2 axes, but has shape {w.shape}")


def check_kernel_words(w: jax.Array, geometry: Geometry) -> None:
    """A packed kernel has the words of one group's channels."""
    if w.shape[-2] != geometry.words:
        raise ValueError(
            f"`w` must have {geometry.words} words for C / groups = {geometry.channels_per_group} input channels, "
            f"but has shape {w.shape}"
        )


def check_pad_value(mode: Mode, pad_value: float) -> None:
    """A tap outside the image reads what bits can stand for, or under xnor nothing; of real values, any."""
    if isinstance(pad_value, jax.Array) or not isinstance(pad_value, numbers.Real):
        raise TypeError(f"`pad_value` must be a Python number, but was {pad_value!r}")
    allowed = {"xnor": (0, 1, -1), "and": (0, 1)}.get(mode, (pad_value,))
    if pad_value not in allowed:
        raise ValueError(f'`pad_value` must be one of {allowed} with mode="{mode}", but was {pad_value!r}')
