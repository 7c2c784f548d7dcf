"""jbnn against Larq Compute Engine: sums, and convolutions and max pools whose activations stay bits, over a grid.

    python tests/peers/compare_lce.py

LCE has no thresholds that fall: its converter turns the kernel of such a channel around instead. So does this
comparison, while jbnn keeps the kernel and sets `flip`. What both are compared with is a sign of floats in NumPy.
The filters of the sums are stored by `jbnn.interchange.to_larq`, and read back by `from_larq`.
"""

import itertools
import sys
from pathlib import Path

import lce
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import oracle

import jbnn

RNG = np.random.default_rng(0)


def signs(*shape):
    return RNG.choice(np.float32([-1, 1]), shape)


def affine(features, products):
    """Scales of both signs, zeros among them, and biases about as large as the sums, so that some sums meet them."""
    scale = RNG.standard_normal(features) * (RNG.random(features) > 0.1)
    bias = -scale * RNG.integers(-2 * products**0.5, 2 * products**0.5 + 1, features)
    bias += (RNG.random(features) > 0.5) * RNG.standard_normal(features)
    return scale.astype(np.float32), bias.astype(np.float32)


def lce_thresholds(threshold, products):
    """The largest number of -1 among the products with which the bit is still +1; and which kernels to turn around.

    With p of n products -1, u = n - 2p. Rising: u >= v where p <= (n - v)/2. Falling: u < v is -u >= 1 - v, and -u is
    the sum of the kernel turned around.
    """
    value, flip = np.asarray(threshold.value).astype(np.int64), np.asarray(threshold.flip)
    least = np.where(flip, 1 - value, value)
    return np.clip((products - least) // 2, -1, products), np.where(flip, -1, 1)


def layer(channels, features, window, strides, dilation, padding, groups):
    """One convolution with a threshold: for jbnn, for LCE, and in floats, as functions of bits."""
    w = signs(*window, channels // groups, features)
    products = w[..., 0].size
    scale, bias = affine(features, products)
    threshold = jbnn.sign_threshold(scale, bias)
    options = {
        "window_strides": strides,
        "rhs_dilation": dilation,
        "padding": padding,
        "feature_group_count": groups,
        "pad_value": 1,
    }

    def ours(words):
        kernel = jbnn.pack(w, axis=-2)
        return jbnn.packed_conv(words, kernel, channels=channels, threshold=threshold, **options)

    def in_floats(bits):
        return oracle.is_positive(oracle.accumulate(2.0 * bits - 1, w, **options), scale, bias)

    most, turn = lce_thresholds(threshold, products)
    theirs = lce.Conv(np.moveaxis(w * turn, -1, 0), channels, most, strides, dilation, padding)
    return ours, theirs, in_floats


def wrong_sums(x, w, border, **options):
    """Who differs from the sums of floats, where kernels go from jbnn to LCE and back."""
    channels = w.shape[2]
    stored = np.asarray(jbnn.interchange.to_larq(jbnn.pack(w, axis=-2), channels=channels))
    kernel = jbnn.interchange.from_larq(stored, channels=channels)
    groups = x.shape[-1] // channels
    expected = oracle.accumulate(x, w, pad_value=border, feature_group_count=groups, **options)
    u = jbnn.packed_conv(
        jbnn.pack(x, groups=groups),
        kernel,
        channels=x.shape[-1],
        pad_value=border,
        feature_group_count=groups,
        **options,
    )
    layer = lce.Sums(
        stored, x.shape[-1], options["window_strides"], options["rhs_dilation"], options["padding"], border
    )
    kernels = [kernel for kernel in lce.KERNELS if not refused(kernel, w, groups, border, options["padding"])]
    theirs = {kernel: lce.sums(x, layer, kernel) for kernel in kernels}
    return [name for name, y in {"jbnn": u, **theirs}.items() if not np.array_equal(y, expected)]


def refused(kernel, w, groups, border, padding):
    """LCE's bgemm has no groups; its reference has zeros outside the image for even channel counts only."""
    zeros = border == 0 and padding == "SAME"
    return (kernel == "bgemm" and groups > 1) or (kernel == "reference" and zeros and w.shape[2] * groups % 2 == 1)


def sums():
    shapes = [*itertools.product((1, 33, 96), (5, 64), (1,)), (64, 6, 2), (96, 9, 3)]
    borders = ("VALID", 0), ("SAME", 0), ("SAME", 1)
    geometries = itertools.product(((1, 1), (3, 3), (2, 3)), ((1, 1), (2, 3)), ((1, 1), (3, 2)))
    for (window, strides, dilation), (channels, features, groups) in itertools.product(geometries, shapes):
        for padding, border in borders:
            if fits((8, 5), window, dilation):  # where not, LCE's optimized kernels are wrong with zeros outside
                x, w = signs(1, 8, 5, channels), signs(*window, channels // groups, features)
                yield wrong_sums(x, w, border, window_strides=strides, rhs_dilation=dilation, padding=padding)


def pool(channels, window, strides, padding):
    options = {"window_strides": strides, "padding": padding}
    return (
        lambda words: jbnn.packed_max_pool(words, window, **options),
        lce.MaxPool(window, strides, padding, channels),
        lambda bits: oracle.max_pool(bits.astype(np.float32), window, **options) > 0,
    )


def disagreements(x, layers, kernels):
    """Who differs from the floats: a list of names, of which jbnn may be one."""
    words, bits = jbnn.pack(x), x >= 0
    for ours, _, in_floats in layers:
        words, bits = ours(words), in_floats(bits)
    wrong = [] if np.array_equal(words, oracle.pack(bits)) else ["jbnn"]
    theirs = [layer for _, layer, _ in layers]
    return wrong + [kernel for kernel in kernels if not np.array_equal(lce.run(x, theirs, kernel), bits)]


def fits(image, window, dilation):
    return all((k - 1) * d < n for n, k, d in zip(image, window, dilation, strict=True))


def single_layers():
    images, windows = ((4, 4), (8, 5)), ((1, 1), (3, 3), (2, 3))
    grid = itertools.product(images, (1, 4, 33, 96), windows, (1, 32, 70), ((1, 1), (2, 3)), ((1, 1), (3, 2)))
    for image, channels, window, features, strides, dilation in grid:
        for padding in ("VALID", "SAME"):
            if padding == "SAME" or fits(image, window, dilation):
                yield (*image, channels), [layer(channels, features, window, strides, dilation, padding, 1)]


def grouped_layers():
    for groups, deep, wide, padding in itertools.product((2, 3), (32, 64), (4, 33), ("VALID", "SAME")):
        channels, features = groups * deep, groups * wide
        yield (5, 6, channels), [layer(channels, features, (3, 2), (1, 1), (1, 1), padding, groups)]


def pools():
    for channels, window, strides, padding in itertools.product(
        (1, 33, 64), ((2, 2), (3, 2)), ((1, 1), (2, 2), (3, 1)), ("VALID", "SAME")
    ):
        yield (7, 6, channels), [pool(channels, window, strides, padding)]


def chains():
    """Bits from layer to layer: two convolutions with a pool between."""
    for first, second, third in itertools.product((3, 64), (33, 64, 70), (10, 32)):
        yield (
            (9, 8, first),
            [
                layer(first, second, (3, 3), (1, 1), (1, 1), "SAME", 1),
                pool(second, (2, 2), (2, 2), "VALID"),
                layer(second, third, (3, 3), (1, 1), (1, 1), "VALID", 1),
            ],
        )


def main():
    results = list(sums())
    print(f"sums: {sum(not wrong for wrong in results)} of {len(results)} agree ({', '.join(lce.KERNELS)})", flush=True)
    for name in ("jbnn", *lce.KERNELS):
        if count := sum(name in wrong for wrong in results):
            print(f"    {name} differs from floats {count} times")
    failed = any(results)
    for cases in (single_layers, grouped_layers, pools, chains):
        kernels = list(lce.KERNELS)
        if cases is grouped_layers:
            kernels.remove("bgemm")  # which refuses groups
        results = [disagreements(signs(1, *image), layers, kernels) for image, layers in cases()]
        agreed = sum(not wrong for wrong in results)
        print(
            f"{cases.__name__.replace('_', ' ')}: {agreed} of {len(results)} agree ({', '.join(kernels)})", flush=True
        )
        for name in ("jbnn", *kernels):
            if count := sum(name in wrong for wrong in results):
                print(f"    {name} differs from floats {count} times")
        failed |= agreed < len(results)
    sys.exit(failed)


if __name__ == "__main__":
    main()
