"""What `examples.apple_check` runs: every public function of jbnn, on arrays that decide something."""

import itertools
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import jbnn
from jbnn import activations, convolution, interchange, mps, quantizers

# Functions of Python's own numbers, and containers. `sign_threshold` and `summary` compute without a device.
NOT_A_COMPUTATION = {"implementations", "Threshold", "sign_threshold", "summary", "convolution.ConvGradient"}
NOT_A_COMPUTATION |= {"mps.padding_policy", *(f"mps.{name}" for name in mps.__all__ if name[0].isupper())}
PARAMETERS = {"linear": {"a": 2.0, "b": 1.0}, "relun": {"a": 0.1}, "power": {"a": 2.0, "b": 3.0, "c": 2.0}}

RNG = np.random.default_rng(0)


class Check(NamedTuple):
    """A function of arrays; its name begins with a public name. Gradients are taken in the first `wrt` arguments."""

    name: str
    function: Callable
    args: tuple
    wrt: int = 0
    exact: bool = True


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(jnp.dtype(dtype))


def words(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2**32, shape, np.uint32)


def corners(dtype: str) -> np.ndarray:
    """Numbers whose sign is a decision: zeros, NaN, infinities and subnormals among ordinary ones."""
    tiny = float(jnp.finfo(dtype).tiny) / 4
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, tiny, -tiny]
    return np.concatenate([np.array(special * 3, jnp.dtype(dtype)), normal(45, dtype=dtype)]).reshape(2, 33)


def bit_checks(dtypes: list[str]) -> Iterator[Check]:
    for dtype in dtypes:
        yield Check(f"sign, {dtype}", jbnn.sign, (corners(dtype),))
        yield Check(f"pack, {dtype}", jbnn.pack, (corners(dtype),))
        yield Check(f"unpack, {dtype}", lambda w, d=dtype: jbnn.unpack(w, 33, dtype=d), (words(2, 2),))
    yield Check("pack, kernel", partial(jbnn.pack, axis=-2), (normal(3, 3, 33, 5),))
    yield Check("pack, groups", partial(jbnn.pack, groups=3), (normal(2, 99),))
    for dtype in ("uint8", "uint16", "uint32"):
        yield Check(f"population_count, {dtype}", jbnn.population_count, (words(40).astype(dtype),))


def operator_checks(dtypes: list[str]) -> Iterator[Check]:
    terms = normal(33), normal(33), normal(6), normal(6)
    x, w = normal(2, 6, 5, 33), normal(3, 3, 33, 6)

    def with_terms(function: Callable) -> Callable:
        names = "input_bias", "input_scale", "scale", "bias"
        return lambda x, w, *terms: function(x, w, beta_scaling=True, **dict(zip(names, terms, strict=True)))

    x_words, w_words = words(2, 6, 5, 2), words(3, 3, 2, 6)
    for mode, implementation in itertools.product(("xnor", "and"), ("popcount", "unpacked")):
        options, note = {"mode": mode, "channels": 33, "implementation": implementation}, f"{mode}, {implementation}"
        yield Check(f"packed_conv, {note}", partial(jbnn.packed_conv, **options), (x_words, w_words))
        yield Check(f"packed_dense, {note}", partial(jbnn.packed_dense, **options), (words(7, 2), words(2, 6)))
    yield Check("packed_conv, deep", jbnn.packed_conv, (words(1, 6, 7, 13), words(3, 4, 13, 5)))
    yield Check("packed_conv, 1-D", jbnn.packed_conv, (words(2, 9, 3), words(3, 3, 4)))
    yield Check("packed_conv, 3-D", jbnn.packed_conv, (words(1, 3, 4, 5, 2), words(2, 3, 1, 2, 4)))
    for dtype in dtypes:
        arrays = x.astype(jnp.dtype(dtype)), w.astype(jnp.dtype(dtype))
        yield Check(f"binary_conv, {dtype}", jbnn.binary_conv, arrays, 2)
    strided = {"pad_value": -1, "window_strides": 2, "rhs_dilation": 2}
    yield Check("binary_conv, pad_value -1, strided", partial(jbnn.binary_conv, **strided), (x, w), 2)
    grouped = normal(2, 6, 5, 66), normal(3, 3, 33, 4)
    yield Check("binary_conv, groups", partial(jbnn.binary_conv, feature_group_count=2), grouped, 2)
    yield Check("binary_conv, and", partial(jbnn.binary_conv, mode="and"), (x, w), 2)
    yield Check("binary_conv, packed kernel", jbnn.binary_conv, (x, w_words), 1)
    yield Check("binary_conv, terms, beta", with_terms(jbnn.binary_conv), (x, w, *terms), 6, exact=False)
    weights = partial(jbnn.binary_conv, mode="binary_weights")
    yield Check("binary_conv, binary_weights", weights, (x, w), 2, exact=False)
    transposed = partial(jbnn.binary_conv_transpose, window_strides=2)
    yield Check("binary_conv_transpose", transposed, (x, w), 2)
    yield Check("binary_dense", jbnn.binary_dense, (normal(7, 33), normal(33, 6)), 2)
    dense = normal(7, 33), normal(33, 6), *terms
    yield Check("binary_dense, terms, beta", with_terms(jbnn.binary_dense), dense, 6, exact=False)
    yield Check("alpha", jbnn.alpha, (w,), 1, exact=False)


def deployment_checks() -> Iterator[Check]:
    x_words, w_words = words(2, 6, 5, 2), words(3, 3, 2, 33)
    limits, falls = RNG.integers(-40, 40, 33, np.int32), RNG.integers(0, 2, 33).astype(bool)

    def to_words(function: Callable) -> Callable:
        return lambda x, w, value, flip: function(x, w, threshold=jbnn.Threshold(value, flip))

    def where(path: tuple, leaf: np.ndarray) -> bool:
        return leaf.ndim == 4

    yield Check("packed_conv, to words", to_words(jbnn.packed_conv), (x_words, w_words, limits, falls))
    yield Check("packed_dense, to words", to_words(jbnn.packed_dense), (words(7, 2), words(2, 33), limits, falls))
    yield Check("packed_max_pool", partial(jbnn.packed_max_pool, window=2), (x_words,))
    pool = partial(jbnn.packed_max_pool, window=3, window_strides=2, padding="SAME")
    yield Check("packed_max_pool, flip", lambda x, flip: pool(x, flip=flip), (x_words, falls))
    yield Check("pack_kernels", lambda w: jbnn.pack_kernels({"w": w}, where), (normal(3, 3, 33, 5),))
    statistics = normal(33), abs(normal(33)), normal(33), normal(33)
    yield Check("fold_batch_norm", partial(jbnn.fold_batch_norm, epsilon=1e-3), statistics, exact=False)


def door_checks() -> Iterator[Check]:
    """MPS's weights are (O, kH, kW, C), and its words (O, kH, kW, W)."""
    described = mps.ConvolutionDescriptor(input_feature_channels=33, output_feature_channels=4)
    x, weights, bias, w_words = normal(2, 6, 5, 33), normal(4, 3, 3, 33), normal(4), words(4, 3, 3, 2)

    def layer(name: str, note: str, data_type: mps.DataType, **options: object) -> Callable:
        def run(x: np.ndarray, weights: np.ndarray, bias: np.ndarray):
            return getattr(mps, name)(x, mps.ArrayDataSource(described, data_type, weights, bias), **options)

        return run

    for name, size in ("binary_convolution", 6), ("binary_fully_connected", 3):
        image = x[:, :size, :size]
        for kind in mps.BinaryConvolutionType:
            run = layer(name, kind.name, mps.DataType.FLOAT32, type=kind, flags=1, scale_value=0.5)
            yield Check(f"mps.{name}, {kind.name}", run, (image, weights, bias), 3, exact=False)
        run = layer(name, "words", mps.DataType.UINT32, type=1, scale_value=0.5)
        yield Check(f"mps.{name}, words", run, (image, w_words, bias), 1)
    for name in "convolution", "convolution_transpose":
        run = layer(name, "", mps.DataType.FLOAT32)
        yield Check(f"mps.{name}", run, (x, weights, bias), 3, exact=False)
    source = partial(mps.ArrayDataSource, described, mps.DataType.FLOAT32)
    yield Check(
        "mps.convolution_gradient",
        lambda x, w, g: mps.convolution_gradient(x, source(w), g),
        (x, weights, normal(2, 6, 5, 4)),
        exact=False,
    )
    yield Check("mps.pack_weights", mps.pack_weights, (normal(3, 3, 33, 4),))
    yield Check("mps.unpack_weights", lambda w: mps.unpack_weights(w, described), (w_words,))
    yield Check("mps.kernel_from_weights", lambda w: mps.kernel_from_weights(w, described), (weights,))
    yield Check("mps.weights_from_kernel", mps.weights_from_kernel, (normal(3, 3, 33, 4),))
    yield Check("mps.dense_words", lambda w: mps.dense_words(w, described), (w_words,))
    yield Check("mps.weights_from_dense_words", lambda w: mps.weights_from_dense_words(w, described), (words(10, 4),))


def convolution_checks() -> Iterator[Check]:
    x, w, table = normal(2, 6, 5, 8), normal(3, 3, 8, 6), normal(256)
    g, bytes_ = normal(2, 6, 5, 6), RNG.integers(0, 256, w.shape, np.uint8)

    def check(name: str, *args: np.ndarray, wrt: int = 0, note: str = "", exact: bool = False, **options) -> Check:
        function = partial(getattr(convolution, name), **options)
        return Check(f"convolution.{name}{note and f', {note}'}", function, args, wrt, exact)

    for mode in "zero", "clamp", "mirror", "mirror_with_edge":
        yield check("conv", x, w, wrt=2, note=mode, edge_mode=mode, window_strides=2)
    yield check("conv", x, w[:, :, :4], wrt=2, note="groups", feature_group_count=2)
    yield check("depthwise_conv", x, w, wrt=2)
    yield check("conv_transpose", x, w, wrt=2, window_strides=2, output_size=(13, 11))
    yield check("dense", x, w[0, 0], wrt=2)
    yield check("conv_gradient", x, w, g)
    yield check("conv_gradient", x, w, normal(2, 12, 10, 6), note="transposed", transposed=True, window_strides=2)
    yield check("dense_gradient", x, w[0, 0], g)
    yield check("binary_conv_gradient", x, w, g, beta_scaling=True)
    yield check("cross_channel_normalization", x, wrt=1)
    yield check("dequantize_linear", bytes_, -g[0, 0, 0], g[0, 0, 0])
    yield check("dequantize_lookup", bytes_, table)
    yield check("depth_to_space", x, wrt=1, exact=True, block=2)
    yield check("space_to_depth", x, wrt=1, exact=True, block=(2, 5))
    yield check("transpose_kernel", w, wrt=1, exact=True)


def interchange_checks() -> Iterator[Check]:
    w, data = words(3, 3, 2, 5), RNG.integers(0, 256, 99, np.uint8)
    yield Check("interchange.to_larq", partial(interchange.to_larq, channels=33), (w,))
    yield Check("interchange.from_larq", partial(interchange.from_larq, channels=150), (w.view(np.int32),))
    yield Check("interchange.to_openvino", partial(interchange.to_openvino, channels=33), (w,))
    yield Check("interchange.from_openvino", partial(interchange.from_openvino, shape=(6, 11, 4, 3)), (data,))


def elementwise_checks() -> Iterator[Check]:
    for name in quantizers.__all__:
        yield Check(f"quantizers.{name}", getattr(quantizers, name), (normal(7, 33),), 1, exact=False)
    for name in activations.__all__:
        function = partial(getattr(activations, name), **PARAMETERS.get(name, {}))
        x = abs(normal(7, 33)) + np.float32(0.125) if name == "logarithm" else normal(7, 33)
        args = (x, normal(33)) if name == "prelu" else (x,)
        yield Check(f"activations.{name}", function, args, len(args), exact=False)


def checks_of(dtypes: list[str]) -> list[Check]:
    """Every check, the first ones in each of these dtypes."""
    return [
        *bit_checks(dtypes),
        *operator_checks(dtypes),
        *deployment_checks(),
        *convolution_checks(),
        *door_checks(),
        *interchange_checks(),
        *elementwise_checks(),
    ]


def public_names(module: types.ModuleType = jbnn, prefix: str = "") -> Iterator[str]:
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, types.ModuleType):
            yield from public_names(thing, f"{prefix}{name}.")
        elif prefix + name not in NOT_A_COMPUTATION:
            yield prefix + name
