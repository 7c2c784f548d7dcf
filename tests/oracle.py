"""What jbnn must compute, from its definition, in NumPy. Nothing here comes from jbnn.

Shapes are those of the public functions: images (N, *S, C), kernels (*K, C/G, O). Whole numbers stay whole numbers;
everything real is float64. Clarity first: the loops run over channels or window taps, NumPy does the rest.
"""

import itertools

import numpy as np
from numpy.testing import assert_allclose


def assert_close(y, expected, dtype=np.float32, tolerance=1e-5):
    """Close by the measure of the largest element: near zero a sum keeps no relative accuracy."""
    assert y.dtype == dtype
    assert_allclose(real(y), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(initial=1))


def real(x):
    return np.asarray(x).astype(np.float64)


def sign(x):
    return np.where(real(x) < 0, -1, 1)


def pack(x, axis=-1, groups=1):
    """Channel c of each group is bit c % 32 of the group's word c // 32."""
    x = np.asarray(x)
    bits = np.moveaxis(x if x.dtype == bool else sign(x) > 0, axis, -1)
    *lead, channels = bits.shape
    bits = bits.reshape(*lead, groups, channels // groups)
    words = np.zeros((*lead, groups, -(-bits.shape[-1] // 32)), np.uint32)
    for c in range(bits.shape[-1]):
        words[..., c // 32] |= bits[..., c].astype(np.uint32) << np.uint32(c % 32)
    return np.moveaxis(words.reshape(*lead, groups * words.shape[-1]), -1, axis)


def unpack(words, size, axis=-1, groups=1):
    words = np.moveaxis(np.asarray(words), axis, -1)
    *lead, count = words.shape
    words = words.reshape(*lead, groups, count // groups)
    bits = [words[..., c // 32] >> np.uint32(c % 32) & np.uint32(1) for c in range(size // groups)]
    return np.moveaxis(2 * np.stack(bits, -1).reshape(*lead, size).astype(np.int64) - 1, -1, axis)


def with_garbage(words, size, axis=-1, groups=1):
    """The same words with noise in the bits that no channel uses."""
    words = np.moveaxis(np.asarray(words), axis, -1)
    unused = ~pack(np.ones(size, bool), groups=groups)
    noise = np.random.default_rng(size).integers(0, 2**32, words.shape, np.uint32)
    return np.moveaxis(words | noise & unused, -1, axis)


def population_count(words):
    return np.vectorize(lambda word: int(word).bit_count(), otypes=[np.int64])(words)


def per_axis(value, rank):
    return [int(v) for v in np.broadcast_to(value, rank)]


def extent(window, dilation):
    return (window - 1) * dilation + 1


def explicit_padding(padding, sizes, window, strides, dilation):
    """XLA's rule: "SAME" gives ceil(n / stride) outputs and puts the odd row at the high end."""
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    if padding != "SAME":
        return [tuple(pair) for pair in padding]
    pairs = []
    for n, k, s, d in zip(sizes, window, strides, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + extent(k, d) - n, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs


def bordered(a, padding, value):
    """The image with its border: positive pairs add taps that hold `value`, negative ones crop."""
    grown = np.pad(a, [(0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in padding), (0, 0)], constant_values=value)
    kept = (slice(max(-lo, 0), max(n - max(-hi, 0), 0)) for n, (lo, hi) in zip(grown.shape[1:-1], padding, strict=True))
    return grown[(slice(None), *kept)]


def spread(a, step):
    """The image with step - 1 zeros between its pixels."""
    sizes = [extent(n, s) if n else 0 for n, s in zip(a.shape[1:-1], step, strict=True)]
    wide = np.zeros((a.shape[0], *sizes, a.shape[-1]), a.dtype)
    wide[(slice(None), *(slice(None, None, s) for s in step))] = a
    return wide


def correlate(
    a, b, *, window_strides=1, padding="SAME", lhs_dilation=1, rhs_dilation=1, feature_group_count=1, pad_value=0
):
    """u[n, y, o] = sum of a[n, y * stride + p * dilation - lo, c] * b[p, c, o] over taps p and channels c.

    The channels are those of o's group. Outside the image `a` holds `pad_value`; the zeros that `lhs_dilation`
    inserts are inside.
    """
    *window, depth, outputs = b.shape
    rank, groups = len(window), feature_group_count
    strides, dilation = per_axis(window_strides, rank), per_axis(rhs_dilation, rank)
    a = spread(a, per_axis(lhs_dilation, rank))
    a = bordered(a, explicit_padding(padding, a.shape[1:-1], window, strides, dilation), pad_value)
    axes = zip(a.shape[1:-1], window, strides, dilation, strict=True)
    sizes = [max((n - extent(k, d)) // s + 1, 0) for n, k, s, d in axes]

    a = a.reshape(*a.shape[:-1], groups, depth)
    b = b.reshape(*window, depth, groups, outputs // groups)
    u = np.zeros((a.shape[0], *sizes, groups, outputs // groups), np.result_type(a, b))
    for tap in itertools.product(*map(range, window)):
        seen = (slice(p * d, p * d + m * s, s) for p, d, m, s in zip(tap, dilation, sizes, strides, strict=True))
        u += np.einsum("...gc,cgo->...go", a[(slice(None), *seen)], b[tap])
    return u.reshape(*u.shape[:-2], outputs)


def operands(z, w, mode):
    """What is multiplied: ±1 and ±1, bits and bits, or real activations and ±1."""
    if mode == "xnor":
        return sign(z), sign(w)
    if mode == "and":
        return (sign(z) + 1) // 2, (sign(w) + 1) // 2
    return real(z), sign(w)


def accumulate(x, w, *, mode="xnor", **geometry):
    return correlate(*operands(x, w, mode), **geometry)


def beta_image(z, window, **geometry):
    """The box mean of the channel mean of |z|: zeros outside the image, divided by the whole window."""
    mean = np.abs(z).mean(-1, keepdims=True)
    box = np.full((*window, 1, 1), 1 / np.prod(window))
    return correlate(mean, box, **{**geometry, "feature_group_count": 1, "pad_value": 0})


def binary_conv(
    x,
    w,
    *,
    mode="xnor",
    input_bias=0.0,
    input_scale=1.0,
    scale=1.0,
    bias=0.0,
    beta_scaling=False,
    activation=lambda y: y,
    **geometry,
):
    z = (real(x) + real(input_bias)) * real(input_scale)
    u = accumulate(z, w, mode=mode, **geometry)
    beta = beta_image(z, w.shape[:-2], **geometry) if beta_scaling else 1.0
    return activation(u * real(scale) * beta + real(bias))


def transposed_padding(padding, window, strides, dilation):
    """lax.conv_transpose's: "SAME" gives n * s outputs, "VALID" n * s + max(extent - s, 0)."""
    if padding not in ("SAME", "VALID"):
        return [tuple(pair) for pair in padding]
    pairs = []
    for k, s, d in zip(window, strides, dilation, strict=True):
        k = extent(k, d)
        total = k + s - 2 + (max(k - s, 0) if padding == "VALID" else 0)
        low = k - 1 if padding == "VALID" or s > k - 1 else -(-total // 2)
        pairs.append((low, total - low))
    return pairs


def transposed(x, w, *, window_strides=1, padding="SAME", rhs_dilation=1, output_size=None):
    """How a transposed convolution is a correlation, not rotated, over the image with zeros between its pixels."""
    *window, _, _ = w.shape
    rank = len(window)
    strides, dilation = per_axis(window_strides, rank), per_axis(rhs_dilation, rank)
    pairs = transposed_padding(padding, window, strides, dilation)
    if output_size is not None:
        axes = zip(x.shape[1:-1], strides, pairs, window, dilation, strict=True)
        sizes = [extent(n, s) + lo + hi - extent(k, d) + 1 for n, s, (lo, hi), k, d in axes]
        pairs = [(lo, hi + wanted - m) for (lo, hi), wanted, m in zip(pairs, output_size, sizes, strict=True)]
    return {"padding": pairs, "lhs_dilation": strides, "rhs_dilation": dilation}


def conv_transpose(x, w, *, feature_group_count=1, **geometry):
    return correlate(x, w, feature_group_count=feature_group_count, **transposed(x, w, **geometry))


def binary_conv_transpose(x, w, *, window_strides=1, padding="SAME", rhs_dilation=1, output_size=None, **options):
    geometry = transposed(
        x, w, window_strides=window_strides, padding=padding, rhs_dilation=rhs_dilation, output_size=output_size
    )
    return binary_conv(x, w, **geometry, **options)


def binary_dense(
    x,
    w,
    *,
    mode="xnor",
    input_bias=0.0,
    input_scale=1.0,
    scale=1.0,
    bias=0.0,
    beta_scaling=False,
    activation=lambda y: y,
):
    z = (real(x) + real(input_bias)) * real(input_scale)
    a, b = operands(z, w, mode)
    beta = np.abs(z).mean(-1, keepdims=True) if beta_scaling else 1.0
    return activation((a @ b) * real(scale) * beta + real(bias))


def is_positive(u, scale, bias):
    """Whether sign(u * scale + bias) is +1, in float32 with one rounding for each operation, as a network computes."""
    with np.errstate(all="ignore"):
        return ~(np.asarray(u, np.float32) * np.asarray(scale, np.float32) + np.asarray(bias, np.float32) < 0)


def max_pool(x, window, *, window_strides=None, padding="VALID"):
    """The maximum of every window of real values; -inf outside the image, and of an empty window."""
    rank = x.ndim - 2
    window = per_axis(window, rank)
    strides = window if window_strides is None else per_axis(window_strides, rank)
    x = bordered(x, explicit_padding(padding, x.shape[1:-1], window, strides, [1] * rank), -np.inf)
    sizes = [max((n - k) // s + 1, 0) for n, k, s in zip(x.shape[1:-1], window, strides, strict=True)]
    y = np.full((x.shape[0], *sizes, x.shape[-1]), -np.inf, x.dtype)
    for tap in itertools.product(*map(range, window)):
        seen = (slice(p, p + m * s, s) for p, m, s in zip(tap, sizes, strides, strict=True))
        y = np.maximum(y, x[(slice(None), *seen)])
    return y
