"""What Apple documents of its convolutions, from the printed formulas, in NumPy. Nothing here comes from jbnn.

Images are (N, H, W, C), weights (O, kH, kW, C/G) as MPS stores them. Every tap of every output is read on its own: an
output row y, counted from the clip rectangle's origin, reads row S·y + offset - (K >> 1) + D·p, K = (k - 1)·D + 1.
"""

import itertools

import numpy as np


def real(x):
    return np.asarray(x).astype(np.float64)


def bits_of(words, channels):
    """The bits of uint32 (…, ceil(C/32)), channel 0 in the least significant bit of the first word."""
    words = np.asarray(words)
    return np.stack([words[..., c // 32] >> np.uint32(c % 32) & np.uint32(1) for c in range(channels)], -1).astype(int)


def tap(image, row, column, edge):
    """The pixels (N, C) at a position that may lie outside."""
    _, height, width, _ = image.shape
    if edge == "clamp":
        return image[:, min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    inside = 0 <= row < height and 0 <= column < width
    return image[:, row, column] if inside else np.zeros_like(image[:, 0, 0])


def windows(x, kernel, size, stride, dilation, offset, edge):
    """What each tap of each output reads: (N, size, kH, kW, C)."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = np.zeros((x.shape[0], *size, *kernel, x.shape[-1]))
    for y, q in itertools.product(itertools.product(*map(range, size)), itertools.product(*map(range, kernel))):
        row, column = (
            s * i + o - (k >> 1) + d * p for s, i, o, k, d, p in zip(stride, y, offset, spans, dilation, q, strict=True)
        )
        seen[:, y[0], y[1], q[0], q[1]] = tap(x, row, column, edge)
    return seen


def grouped_sum(seen, weights, groups):
    """The sum over taps and the channels of an output's group: (N, size, O)."""
    outputs, *_, depth = weights.shape
    u = np.zeros((*seen.shape[:3], outputs))
    for o in range(outputs):
        first = o // (outputs // groups) * depth
        u[..., o] = (seen[..., first : first + depth] * weights[o]).sum((-3, -2, -1))
    return u


def binary_convolution(
    x,
    bits,
    *,
    type,
    size,
    stride=(1, 1),
    dilation=(1, 1),
    offset=(0, 0),
    groups=1,
    edge="zero",
    beta_scaling=False,
    scale=1.0,
    bias=0.0,
    input_bias=0.0,
    input_scale=1.0,
    neuron=lambda v: v,
):
    """neuron(u·scale·beta + bias), with bits (O, kH, kW, C/G) and type 0 binaryWeights, 1 XNOR, 2 AND."""
    read = windows(real(x), bits.shape[1:3], size, stride, dilation, offset, edge)
    z = (read + real(input_bias)) * real(input_scale)
    a = [z, np.where(z < 0, -1, 1), np.where(z < 0, 0, 1)][type]
    b = bits if type == 2 else 2 * bits - 1
    u = grouped_sum(a, b, groups)
    beta = np.abs(z).mean(-1).mean((-2, -1))[..., None] if beta_scaling else 1.0
    return neuron(u * real(scale) * beta + real(bias))


def convolution(
    x,
    weights,
    *,
    size,
    stride=(1, 1),
    dilation=(1, 1),
    offset=(0, 0),
    groups=1,
    edge="zero",
    bias=0.0,
    neuron=lambda v: v,
):
    seen = windows(real(x), weights.shape[1:3], size, stride, dilation, offset, edge)
    return neuron(grouped_sum(seen, real(weights), groups) + real(bias))


def gradient(x, weights, g, *, stride=(1, 1), dilation=(1, 1), offset=(0, 0), groups=1):
    """dI, dW (O, kH, kW, C/G) and db, summed over the batch, as the gradient kernel's page has them.

    dW is a sum over the positions that a tap read; dI a correlation of unit stride of the zero-filled g with the
    weights rotated by half a turn, their inputs and outputs exchanged.
    """
    kernel = weights.shape[1:3]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = windows(real(x), kernel, g.shape[1:3], stride, dilation, offset, "zero")
    outputs, *_, depth = weights.shape
    dw = np.zeros(weights.shape)
    for o in range(outputs):
        first = o // (outputs // groups) * depth
        dw[o] = np.einsum("nij,nijpqc->pqc", real(g)[..., o], seen[..., first : first + depth])

    by_group = real(weights).reshape(groups, outputs // groups, *kernel, depth)
    rotated = np.moveaxis(by_group[:, :, ::-1, ::-1], -1, 1).reshape(groups * depth, outputs // groups, *kernel)
    rotated = np.moveaxis(rotated, 1, -1)
    kernel_offset = [-o + (1 - k % 2) for o, k in zip(offset, spans, strict=True)]
    wide = zero_filled(real(g), stride)
    dx = convolution(wide, rotated, size=x.shape[1:3], dilation=dilation, offset=kernel_offset, groups=groups)
    return dx, dw, real(g).sum((0, 1, 2))


def zero_filled(x, stride):
    """The image with stride - 1 zeros between its pixels."""
    wide = np.zeros((x.shape[0], *((n - 1) * s + 1 for n, s in zip(x.shape[1:3], stride, strict=True)), x.shape[3]))
    wide[:, :: stride[0], :: stride[1]] = x
    return wide


def convolution_transpose(
    x, weights, *, size, stride=(1, 1), dilation=(1, 1), offset=(0, 0), kernel_offset=(0, 0), bias=0.0, groups=1
):
    """An unrotated correlation of unit stride over the image with stride - 1 zeros between its pixels."""
    wide = zero_filled(real(x), stride)
    total = [o * s + k for o, s, k in zip(offset, stride, kernel_offset, strict=True)]
    return convolution(wide, weights, size=size, dilation=dilation, offset=total, groups=groups, bias=bias)


def sub_pixel(y, factor):
    """dest[X][Y][c] = conv[X // r][Y // r][(N/r²)·(r·(Y mod r) + (X mod r)) + c]."""
    n, height, width, channels = y.shape
    depth = channels // factor**2
    result = np.zeros((n, height * factor, width * factor, depth))
    for row, column, c in itertools.product(range(height * factor), range(width * factor), range(depth)):
        source = depth * (factor * (row % factor) + column % factor) + c
        result[:, row, column, c] = y[:, row // factor, column // factor, source]
    return result


def policy(n, window, stride, style, remainder_to_low):
    """The header's sample arithmetic: the result's size, and the offset of the window's centre. style: -1, 0, +1."""
    size = int(np.ceil((n + style * (window - 1)) / stride))
    extra = (size - 1) * stride + window - n
    left = int((extra + remainder_to_low) / 2)  # towards zero, as in C
    return size, window // 2 - left
