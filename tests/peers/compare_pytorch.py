"""jbnn's ordinary convolutions against PyTorch on the CPU: random layers, forward and all three gradients.

    python tests/peers/compare_pytorch.py [layers of each kind]

Differences are relative to the largest element of PyTorch's result, in float32 on both sides.
"""

import functools
import sys

import jax
import numpy as np
import torch
from torch.nn import functional

from jbnn import convolution

LIMIT = 1e-5
RNG = np.random.default_rng(0)
EDGES = {"mirror": "reflect", "clamp": "replicate", "zero": "constant"}


def draw(*choices):
    return [int(RNG.choice(c)) for c in choices]


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def channels_last(x):
    """(N, C, *S) to (N, *S, C)."""
    return np.moveaxis(x, 1, -1)


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def hwio(w):
    """(O, C/G, *K) to (*K, C/G, O)."""
    return np.moveaxis(w, (0, 1), (-1, -2))


def oihw(w):
    return np.moveaxis(np.asarray(w), (-1, -2), (0, 1))


def theirs(function, g, *operands):
    """PyTorch's result, and its gradients in every operand."""
    leaves = [torch.tensor(operand, requires_grad=True) for operand in operands]
    y = function(*leaves)
    y.backward(torch.tensor(g(tuple(y.shape))))
    return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


def ours(function, gradient, x, w, b, g):
    """jbnn's result, and the gradients of its explicit functions, which must be those of `jax.vjp` to the bit."""

    @jax.jit
    def both(x, w, b, g):
        y, pull_back = jax.vjp(function, x, w, b)
        return y, pull_back(g)

    y, expected = both(x, w, b, g)
    explicit = jax.jit(gradient)(x, w, g)
    for part, by_vjp in zip(explicit, expected, strict=True):
        assert np.array_equal(part, by_vjp), "an explicit gradient differs from jax.vjp"
    return [y, *explicit]


def layer():
    """Rank, batch, image, window, strides, dilation, groups, channels and outputs of a random layer."""
    (rank, batch, groups) = draw((1, 2, 2, 3), (1, 2, 5), (1, 1, 2, 3, 4))
    per_axis = [draw(range(3, 10), range(1, 5), (1, 1, 2, 3), (1, 1, 2)) for _ in range(rank)]
    image, window, strides, dilation = map(list, zip(*per_axis, strict=True))
    channels, outputs = (groups * size for size in draw(range(1, 6), range(1, 6)))
    return rank, batch, image, window, strides, dilation, groups, channels, outputs


def convolutions():
    while True:
        rank, batch, image, window, strides, dilation, groups, channels, outputs = layer()
        padding = draw(*[range(4)] * rank)
        edge = str(RNG.choice(list(EDGES)))
        spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        if any(n + 2 * p < span for n, p, span in zip(image, padding, spans, strict=True)):
            continue  # PyTorch refuses a window larger than the image
        if edge == "mirror" and any(p >= n for n, p in zip(image, padding, strict=True)):
            continue  # PyTorch mirrors at most once
        break
    x, w, b = normal(batch, channels, *image), normal(outputs, channels // groups, *window), normal(outputs)

    def forward(x, w, b):
        x = functional.pad(x, [p for p in reversed(padding) for _ in range(2)], mode=EDGES[edge])
        conv = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
        return conv(x, w, b, stride=strides, dilation=dilation, groups=groups)

    options = {
        "window_strides": strides,
        "padding": [(p, p) for p in padding],
        "rhs_dilation": dilation,
        "feature_group_count": groups,
        "edge_mode": edge,
    }
    return forward, convolution.conv, options, (x, w, b), hwio(w), oihw


def transposed():
    rank, batch, image, window, strides, dilation, groups, channels, outputs = layer()
    image = [min(n, 6) for n in image]
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    # PyTorch takes no more padding than leaves a pixel, and less extra than a stride.
    padding = [int(RNG.integers(0, span)) for span in spans]
    extra = [int(RNG.integers(0, s)) for s in strides]
    size = [
        (n - 1) * s + span - 2 * p + e for n, s, span, p, e in zip(image, strides, spans, padding, extra, strict=True)
    ]
    if min(size) < 1:
        return transposed()
    x, w, b = normal(batch, channels, *image), normal(channels, outputs // groups, *window), normal(outputs)

    def forward(x, w, b):
        conv = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
        return conv(x, w, b, strides, padding, extra, groups, dilation)

    options = {
        "window_strides": strides,
        "padding": [(span - 1 - p, span - 1 - p) for span, p in zip(spans, padding, strict=True)],
        "rhs_dilation": dilation,
        "feature_group_count": groups,
        "output_size": size,
    }
    # hwio of (C, O/G, *K) is the (*K, O/G, C) that `transpose_kernel` takes.
    kernel = convolution.transpose_kernel(hwio(w), feature_group_count=groups)
    back = functools.partial(convolution.transpose_kernel, feature_group_count=groups)
    return forward, convolution.conv_transpose, options, (x, w, b), kernel, lambda dw: oihw(back(dw))


def error(y, expected):
    if np.shape(y) != expected.shape:
        return np.inf
    return np.max(np.abs(y - expected), initial=0) / max(np.max(np.abs(expected), initial=0), 1e-30)


def compare(kind):
    """The largest relative difference of y, dx, dw, db over one random layer."""
    forward, function, options, (x, w, b), kernel, stored = kind()
    cotangents = []

    def g(shape):
        cotangents.append(normal(*shape))
        return cotangents[0]

    expected = theirs(forward, g, x, w, b)

    def with_bias(x, w, b):
        return function(x, w, bias=b, **options)

    gradient = functools.partial(convolution.conv_gradient, transposed=kind is transposed, **options)
    y, dx, dw, db = ours(with_bias, gradient, channels_last(x), kernel, b, channels_last(cotangents[0]))
    results = [channels_first(y), channels_first(dx), stored(dw), np.asarray(db)]
    return [error(result, e) for result, e in zip(results, expected, strict=True)]


def others():
    """Sub-pixels and cross-channel normalization, which PyTorch has in its own order and under another name."""
    x = normal(2, 12, 5, 4)
    shuffled = convolution.depth_to_space(channels_last(x), 2, order="crd")
    yield "sub-pixels", error(channels_first(shuffled), functional.pixel_shuffle(torch.tensor(x), 2).numpy())
    for size in (1, 2, 5, 8):
        expected = functional.local_response_norm(torch.tensor(x), size, alpha=0.5, beta=0.75, k=2.0).numpy()
        y = convolution.cross_channel_normalization(channels_last(x), alpha=0.5, beta=0.75, delta=2.0, kernel_size=size)
        yield f"normalization over {size} channels", error(channels_first(y), expected)


def main(count):
    torch.set_num_threads(2)
    worst = 0.0
    for kind in (convolutions, transposed):
        errors = np.array([compare(kind) for _ in range(count)])
        found = ", ".join(f"{name} {e:.1e}" for name, e in zip(("y", "dx", "dw", "db"), errors.max(0), strict=True))
        print(f"{kind.__name__}: {count} random layers; largest relative differences: {found}", flush=True)
        worst = max(worst, errors.max())
    for name, difference in others():
        print(f"{name}: {difference:.1e}")
        worst = max(worst, difference)
    print("all below" if worst < LIMIT else "NOT all below", LIMIT)
    sys.exit(not worst < LIMIT)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
