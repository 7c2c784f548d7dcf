"""Words in, int32 or words out: the deployed operators, without a float between."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

import math

import jax
from jax.typing import ArrayLike

from jbnn._arguments import as_index, as_words
from jbnn._geometry import Geometry
from jbnn._kernels.case import Bits, Case
from jbnn._kernels.choose import check_case
from jbnn._kernels.primitive import correlate_words
from jbnn._options import BitMode, check_pad_value, readings
from jbnn._shapes import Padding, Sizes, conv_geometry, dense_geometry
from jbnn._threshold import Threshold, as_threshold


def packed_conv(
    x: ArrayLike,
    w: ArrayLike,
    *,
    channels: int,
    mode: BitMode = "xnor",
    window_strides: Sizes = 1,
    padding: Padding = "SAME",
    rhs_dilation: Sizes = 1,
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
      channels: C, all groups together, which the words do not tell: C = 33 to 64 fill two. No default: 32·W would be
        a guess, and a wrong one counts the unused bits.
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
      >>> print(jbnn.packed_conv(x, w, channels=64)[0, :, :, 0])
      [[256 384 256]
       [384 576 384]
       [256 384 256]]
      >>> threshold = jbnn.sign_threshold(scale=jnp.array([0.5]), bias=jnp.array([-200.0]))
      >>> print(jbnn.packed_conv(x, w, channels=64, threshold=threshold)[0, :, :, 0])
      [[0 0 0]
       [0 1 0]
       [0 0 0]]

    References:
      Rastegari et al., XNOR-Net, 2016, section 3.2. https://arxiv.org/abs/1603.05279
      `MPSCNNBinaryConvolutionType`: XNOR and AND.
    """
    x, w = as_words("x", x), as_words("w", w)
    geometry = conv_geometry(
        x,
        w,
        channels=as_index("channels", channels),
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
    channels: int,
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
      channels: C, which the words do not tell; no default, as in `packed_conv`.
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
    geometry = dense_geometry(x, w, channels=as_index("channels", channels))
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = _correlate(rows, w, geometry, mode, 0, threshold, implementation)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _correlate(
    x: jax.Array,
    w: jax.Array,
    geometry: Geometry,
    mode: BitMode,
    pad_value: int,
    threshold: Threshold | None,
    implementation: str | None,
) -> jax.Array:
    left, right = readings(mode, ("xnor", "and"))
    assert left is not None
    check_pad_value(pad_value, mode)
    terms = () if threshold is None else as_threshold(threshold, geometry.features)
    case = Case(geometry, left, right, pad_value, None if threshold is None else Bits())
    check_case(implementation, case)
    return correlate_words(x, w, case, terms, implementation=implementation)
