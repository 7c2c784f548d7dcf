"""Words in, int32 or words out: the deployed operators, without a float between."""

import math
from collections.abc import Sequence
from typing import Literal

import jax
from jax.typing import ArrayLike

from jbnn._bits import WORD, as_index, as_words
from jbnn._checks import check_dense_ranks, check_kernel_words, check_pad_value, check_ranks
from jbnn._geometry import Geometry, Padding, conv_geometry, dense_geometry
from jbnn._kernels.choose import check_case
from jbnn._kernels.correlation import Correlation, Epilogue
from jbnn._kernels.primitive import correlate_words
from jbnn._threshold import Threshold, as_threshold

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
    threshold: Threshold | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Convolves packed images with packed kernels, exactly.

        u   = correlation of a with B          xnor: a, B in {-1, +1}          and: a, B in {0, 1}
        bit = (u >= threshold.value) != threshold.flip          given a threshold

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
      threshold: of (O,), as `sign_threshold` gives, or traced. The result is then the next layer's input.
      implementation: None picks what is fastest where the program will run. A name is used or refused.

    Returns:
      `int32` (N, *S', O), *S' as in `lax`. With a threshold `uint32` words (N, *S', ceil(O/32)) of its bits, as
      `pack(bits)` gives: unused bits are 0, and all O channels are one group, whatever G is here. Where the next
      layer's groups must start new words, pack its input from u: `pack((u >= value) != flip, groups=G)`.

    Raises:
      TypeError: x or w are not `uint32`; `threshold` is not a `Threshold` of `int32` and `bool`.
      ValueError: ranks, word counts, groups or the threshold's length do not match; unknown mode, padding, pad value
        or implementation.
      NotImplementedError: the named implementation cannot do this case; the message says why.

    Gradient: none; `binary_conv` trains.

    Example:
      >>> x = jbnn.pack(jnp.ones((1, 3, 3, 64)))
      >>> w = jbnn.pack(jnp.ones((3, 3, 64, 1)), axis=-2)
      >>> print(jbnn.packed_conv(x, w)[0, :, :, 0])
      [[256 384 256]
       [384 576 384]
       [256 384 256]]
      >>> threshold = jbnn.sign_threshold(scale=jnp.array([0.5]), bias=jnp.array([-200.0]))
      >>> print(jbnn.packed_conv(x, w, threshold=threshold)[0, :, :, 0])
      [[0 0 0]
       [0 1 0]
       [0 0 0]]

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
    return _correlate(x, w, geometry, mode, pad_value, threshold, implementation)


def packed_dense(
    x: ArrayLike,
    w: ArrayLike,
    *,
    channels: int | None = None,
    mode: BitMode = "xnor",
    threshold: Threshold | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Multiplies packed rows with a packed matrix, exactly.

        u   = a·B          xnor: a, B in {-1, +1}          and: a, B in {0, 1}
        bit = (u >= threshold.value) != threshold.flip          given a threshold

    Args:
      x: `uint32` (…, W), as `pack(a)` gives.
      w: `uint32` (W, O), as `pack(b, axis=-2)` gives. Unused bits of x and w may hold anything.
      channels: C; by default 32·W. Inside a word it cannot be checked.
      mode: "xnor" or "and".
      threshold: of (O,), as `sign_threshold` gives, or traced. The result is then the next layer's input.
      implementation: None picks what is fastest where the program will run. A name is used or refused.

    Returns:
      `int32` (…, O). With a threshold `uint32` words (…, ceil(O/32)) of its bits, unused ones 0.

    Raises:
      TypeError: x or w are not `uint32`; `threshold` is not a `Threshold` of `int32` and `bool`.
      ValueError: ranks, word counts or the threshold's length do not match; unknown mode or implementation.
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
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = _correlate(rows, w, geometry, mode, 0, threshold, implementation)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _channels(channels: int | None, x: jax.Array) -> int:
    if channels is None:
        return x.shape[-1] * WORD
    return as_index("channels", channels)


def _correlate(
    x: jax.Array,
    w: jax.Array,
    geometry: Geometry,
    mode: BitMode,
    pad_value: int,
    threshold: Threshold | None,
    implementation: str | None,
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
    epilogue = None if threshold is None else Epilogue(threshold=as_threshold(threshold, geometry.features))
    return correlate_words(x, w, correlation, epilogue=epilogue, implementation=implementation)
