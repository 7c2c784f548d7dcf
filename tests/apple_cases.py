"""Every public function of jbnn as the audit for Apple's plugins sees it: on which arguments, in which forms.

Arguments are shapes; nothing is computed.
"""

import types
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct as Array

import jbnn
from jbnn import activations, convolution, interchange, mps, quantizers


class Case(NamedTuple):
    id: str  # begins with the public name
    function: Callable
    args: tuple
    wrt: tuple = ()  # the arguments that it is differentiated in


def public_names(module=jbnn, prefix=""):
    """The names of jbnn and of its public modules, as a user writes them after `jbnn.`."""
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, types.ModuleType):
            yield from public_names(thing, f"{prefix}{name}.")
        else:
            yield prefix + name


NOT_A_COMPUTATION = {
    "Threshold": "two arrays",
    "convolution.ConvGradient": "holds results",
    "implementations": "says what can run here",
    "sign_threshold": "computed in NumPy, before anything is deployed",
    "mps.padding_policy": "computes numbers in Python",
    **{f"mps.{name}": "describes a layer" for name, value in vars(mps).items() if isinstance(value, type)},
    "summary": "counts what a function does, without running it",
}


def f32(*shape):
    return Array(shape, jnp.float32)


def words(*shape):
    return Array(shape, jnp.uint32)


X, W = f32(2, 5, 4, 33), f32(3, 3, 33, 5)
X_WORDS, W_WORDS = words(2, 5, 4, 2), words(3, 3, 2, 5)
TERMS = {"input_bias": f32(33), "input_scale": f32(33), "scale": f32(5), "bias": f32(5)}


def conv(note, x=X, w=W, **options):
    return Case(
        f"binary_conv: {note}", partial(jbnn.binary_conv, **options), (x, w), (0, 1)[: 1 + (w.dtype == x.dtype)]
    )


def with_terms(function, **options):
    return lambda x, w, terms: function(x, w, **terms, **options)


def transpose(note, x=X, w=W, **options):
    options = {"window_strides": 2, **options}
    return Case(f"binary_conv_transpose: {note}", partial(jbnn.binary_conv_transpose, **options), (x, w), (0, 1))


def packed(note, x=X_WORDS, w=W_WORDS, **options):
    return Case(f"packed_conv: {note}", partial(jbnn.packed_conv, **options), (x, w))


def threshold(features):
    return jbnn.Threshold(Array((features,), jnp.int32), Array((features,), jnp.bool_))


def packed_to_words(note, x=X_WORDS, w=W_WORDS, **options):
    def function(x, w, threshold):
        return jbnn.packed_conv(x, w, threshold=threshold, **options)

    return Case(f"packed_conv: to words, {note}", function, (x, w, threshold(w.shape[-1])))


def of_norm(mean, variance, gamma, beta):
    return jnp.stack(jbnn.fold_batch_norm(mean, variance, gamma, beta, epsilon=1e-3))


OPERATORS = [
    conv("xnor"),
    conv("pad_value -1, strides, dilation", pad_value=-1, window_strides=2, rhs_dilation=2),
    conv("and", mode="and", pad_value=1, input_quantizer=quantizers.ste_heaviside),
    conv("binary_weights", mode="binary_weights", pad_value=0.5),
    conv("packed kernel", w=W_WORDS),
    conv("unpacked", implementation="unpacked", window_strides=2),
    conv("bfloat16", Array(X.shape, jnp.bfloat16), Array(W.shape, jnp.bfloat16)),
    conv("float16", Array(X.shape, jnp.float16), Array(W.shape, jnp.float16)),
    conv("groups", f32(2, 5, 4, 66), feature_group_count=2, w=f32(3, 3, 33, 4)),
    conv("depthwise", f32(2, 5, 4, 33), feature_group_count=33, w=f32(3, 3, 1, 66)),
    conv("cropped", padding=((-1, 2), (3, -2))),
    conv("cropped past the image, padded after it", f32(1, 3, 4, 33), f32(2, 2, 33, 3), padding=((-4, 4), (1, 1))),
    conv("1-D", f32(2, 9, 70), f32(3, 70, 4)),
    conv("3-D", f32(1, 3, 4, 5, 33), f32(2, 3, 1, 33, 4)),
    conv("3-D, groups", f32(1, 3, 4, 5, 12), f32(2, 3, 1, 4, 6), feature_group_count=3),
    conv("deep", f32(1, 6, 7, 400), f32(3, 4, 400, 4)),
    conv("beta", beta_scaling=True, window_strides=2),
    conv("beta, 1-D, one window", f32(2, 5, 33), f32(5, 33, 3), beta_scaling=True, padding="VALID"),
    conv("beta, 3-D", f32(1, 3, 4, 5, 33), f32(2, 3, 1, 33, 4), beta_scaling=True),
    conv("empty batch", f32(0, 5, 4, 33)),
    Case("binary_conv: terms", with_terms(jbnn.binary_conv, activation=activations.relu), (X, W, TERMS), (0, 1, 2)),
    transpose("xnor"),
    transpose("pad_value 1", pad_value=1, rhs_dilation=2),
    transpose("binary_weights", mode="binary_weights"),
    transpose("beta", beta_scaling=True),
    Case("binary_dense: xnor", jbnn.binary_dense, (f32(6, 33), f32(33, 5)), (0, 1)),
    Case("binary_dense: and", partial(jbnn.binary_dense, mode="and"), (f32(6, 33), f32(33, 5)), (0, 1)),
    Case(
        "binary_dense: binary_weights, terms, beta",
        with_terms(jbnn.binary_dense, mode="binary_weights", beta_scaling=True),
        (f32(2, 6, 33), f32(33, 5), TERMS),
        (0, 1, 2),
    ),
    packed("xnor"),
    packed("and", mode="and", pad_value=1, channels=33),
    packed("groups", words(2, 5, 4, 4), channels=66, feature_group_count=2, w=words(3, 3, 2, 4)),
    packed("deep", words(1, 6, 7, 13), words(3, 4, 13, 4), pad_value=-1),
    packed("1-D", words(2, 9, 3), words(3, 3, 4)),
    packed("3-D", words(1, 3, 4, 5, 2), words(2, 3, 1, 2, 4)),
    packed("unpacked", implementation="unpacked"),
    Case("packed_dense: xnor", jbnn.packed_dense, (words(6, 2), words(2, 5))),
    Case(
        "packed_dense: deep, unpacked",
        partial(jbnn.packed_dense, implementation="unpacked"),
        (words(6, 2), words(2, 5)),
    ),
    Case("packed_dense: deep", jbnn.packed_dense, (words(6, 40), words(40, 5))),
    packed_to_words("O = 5"),
    packed_to_words("O = 64, groups, deep", words(1, 6, 7, 26), words(3, 4, 13, 64), feature_group_count=2),
    packed_to_words("unpacked", implementation="unpacked"),
    Case(
        "packed_dense: to words",
        lambda x, w, threshold: jbnn.packed_dense(x, w, threshold=threshold),
        (words(6, 2), words(2, 5), threshold(5)),
    ),
    Case("packed_max_pool", partial(jbnn.packed_max_pool, window=2), (X_WORDS,)),
    Case(
        "packed_max_pool: flip",
        lambda x, flip: jbnn.packed_max_pool(x, 3, window_strides=2, padding="SAME", flip=flip),
        (X_WORDS, Array((33,), jnp.bool_)),
    ),
    Case("packed_max_pool: 1-D, long", partial(jbnn.packed_max_pool, window=37, padding="SAME"), (words(2, 40, 2),)),
    Case(
        "packed_max_pool: 3-D",
        partial(jbnn.packed_max_pool, window=(1, 2, 3), padding=((1, 0), (-1, 0), (0, 0))),
        (words(1, 3, 4, 5, 2),),
    ),
    Case("fold_batch_norm", of_norm, (f32(5),) * 4, (0, 1, 2, 3)),
    Case("pack_kernels", partial(jbnn.pack_kernels, where=lambda path, leaf: leaf.ndim > 1), ({"w": W},)),
    Case("alpha", jbnn.alpha, (W,), (0,)),
]


def ordinary(name, note, *args, wrt=(0, 1), **options):
    return Case(f"convolution.{name}: {note}", partial(getattr(convolution, name), **options), args, wrt)


def its_gradient(name, note, x, w, g, **options):
    return ordinary(f"{name}_gradient", note, x, w, g, wrt=(), **options)


FLOAT_X, FLOAT_W, HALF = f32(2, 5, 4, 6), f32(3, 3, 6, 4), jnp.bfloat16
ORDINARY = [
    ordinary("conv", "plain", FLOAT_X, FLOAT_W, bias=0.5, activation=activations.relu),
    ordinary("conv", "strides, dilation, groups", FLOAT_X, f32(3, 3, 2, 6), window_strides=2, feature_group_count=3),
    *(
        ordinary("conv", mode, FLOAT_X, FLOAT_W, edge_mode=mode, pad_value=mode == "constant", rhs_dilation=2)
        for mode in ("clamp", "mirror", "mirror_with_edge", "constant")
    ),
    ordinary("conv", "bfloat16", Array(FLOAT_X.shape, HALF), Array(FLOAT_W.shape, HALF)),
    ordinary(
        "conv",
        "bfloat16 summed in float32",
        Array(FLOAT_X.shape, HALF),
        Array(FLOAT_W.shape, HALF),
        preferred_element_type=jnp.float32,
    ),
    ordinary("conv", "1-D", f32(2, 9, 3), f32(3, 3, 4), edge_mode="mirror"),
    ordinary("conv", "3-D", f32(1, 3, 4, 5, 3), f32(2, 3, 1, 3, 4), edge_mode="clamp"),
    ordinary("depthwise_conv", "multiplier 2", FLOAT_X, f32(3, 3, 6, 2), window_strides=2),
    ordinary("conv_transpose", "groups", FLOAT_X, f32(3, 3, 2, 6), window_strides=2, feature_group_count=3),
    ordinary("conv_transpose", "output size", FLOAT_X, FLOAT_W, window_strides=2, output_size=(11, 9)),
    ordinary("dense", "rows", f32(2, 3, 6), f32(6, 4)),
    its_gradient("conv", "strides", FLOAT_X, FLOAT_W, f32(2, 3, 2, 4), window_strides=2),
    its_gradient("conv", "transposed", FLOAT_X, FLOAT_W, f32(2, 10, 8, 4), window_strides=2, transposed=True),
    its_gradient("dense", "rows", f32(2, 3, 6), f32(6, 4), f32(2, 3, 4)),
    its_gradient("binary_conv", "beta", FLOAT_X, FLOAT_W, f32(2, 5, 4, 4), beta_scaling=True),
    *(
        ordinary(name, order, f32(2, 6, 4, 12), wrt=(0,), block=2, order=order)
        for name in ("depth_to_space", "space_to_depth")
        for order in ("dcr", "crd")
    ),
    ordinary("transpose_kernel", "groups", FLOAT_W, wrt=(0,), feature_group_count=2),
    ordinary("cross_channel_normalization", "5 of 33", f32(2, 5, 4, 33), wrt=(0,)),
    ordinary("cross_channel_normalization", "float16", Array((6, 9), jnp.float16), wrt=(0,), kernel_size=4),
    ordinary("dequantize_linear", "ranges", Array((3, 3, 6, 4), jnp.uint8), f32(4), f32(4), wrt=(1, 2)),
    ordinary("dequantize_lookup", "table", Array((3, 3, 6, 4), jnp.uint8), f32(256), wrt=(1,)),
]
BYTES = Array((99,), jnp.uint8)
INTERCHANGE = [
    Case("interchange.to_larq", partial(interchange.to_larq, channels=33), (W_WORDS,)),
    Case("interchange.from_larq", interchange.from_larq, (Array((5, 3, 3, 2), jnp.int32),)),
    Case("interchange.to_openvino", partial(interchange.to_openvino, channels=33), (W_WORDS,)),
    Case("interchange.from_openvino", partial(interchange.from_openvino, shape=(6, 11, 4, 3)), (BYTES,)),
]


def described(inputs=33, outputs=4, **options):
    return mps.ConvolutionDescriptor(input_feature_channels=inputs, output_feature_channels=outputs, **options)


def layer(name, note, source, *rest, wrt, **options):
    function = getattr(mps, name)
    return Case(f"mps.{name}: {note}", lambda *args: function(*args, **options), (X, source, *rest), wrt)


def door(name, note, source, **options):
    """A binary layer of the door, with the four terms as arguments."""
    function = getattr(mps, name)
    x = f32(2, 3, 3, 33) if name == "binary_fully_connected" else X
    terms = {
        "output_bias_terms": f32(4),
        "output_scale_terms": f32(4),
        "input_bias_terms": f32(33),
        "input_scale_terms": f32(33),
    }

    def run(x, source, terms):
        return function(x, source, **terms, **options)

    return Case(f"mps.{name}: {note}", run, (x, source, terms), (0, 1, 2) if floating(source) else (0, 2))


def floating(source):
    return source.data_type != mps.DataType.UINT32


def stored(data_type, shape, dtype, *rest, **options):
    d = described(**options)
    return mps.ArrayDataSource(d, data_type, Array(getattr(d, shape), dtype), *rest)


BLOB = stored(mps.DataType.UINT32, "words_shape", jnp.uint32)
LATENT = stored(mps.DataType.FLOAT32, "weights_shape", jnp.float32)
REAL = stored(mps.DataType.FLOAT32, "weights_shape", jnp.float32, f32(4), stride_in_pixels_x=2)
NORM = mps.BatchNormalization(mean=[0.5] * 4, variance=[2.0] * 4, epsilon=1e-3)
QUANTIZED = stored(
    mps.DataType.UINT8, "weights_shape", jnp.uint8, f32(4), mps.WeightsQuantizationType.LINEAR, f32(4, 2)
)
DOOR = [
    door("binary_convolution", "XNOR, words, beta", BLOB, type=1, flags=1),
    door("binary_convolution", "AND, latent, clamp", LATENT, type=2, edge_mode=1),
    door("binary_convolution", "binary weights, rectangle", LATENT, type=0, offset=(2, -4), clip=((0, 0), (3, 2))),
    door("binary_fully_connected", "XNOR, latent, beta", LATENT, type=1, flags=1),
    layer("convolution", "bias", REAL, wrt=(0, 1)),
    layer("convolution", "destination", REAL, wrt=(0,), destination=jnp.zeros((2, 6, 4, 4)), clip=((1, 0), (4, 4))),
    layer(
        "convolution",
        "batch normalization, sub-pixels",
        stored(
            mps.DataType.FLOAT32,
            "weights_shape",
            jnp.float32,
            f32(4),
            batch_normalization=NORM,
            sub_pixel_scale_factor=2,
        ),
        wrt=(0, 1),
    ),
    layer("convolution", "bytes", QUANTIZED, wrt=(0,)),
    layer("convolution_transpose", "output size", REAL, wrt=(0, 1), output_size=(5, 8)),
    layer("convolution_gradient", "everything", REAL, f32(2, 5, 2, 4), wrt=()),
    Case("mps.pack_weights", mps.pack_weights, (f32(3, 3, 33, 4),)),
    Case("mps.unpack_weights", lambda blob: mps.unpack_weights(blob, described()), (words(4, 3, 3, 2),)),
    Case("mps.kernel_from_weights", lambda w: mps.kernel_from_weights(w, described()), (f32(4, 3, 3, 33),), (0,)),
    Case("mps.weights_from_kernel", mps.weights_from_kernel, (f32(3, 3, 33, 4),), (0,)),
    Case("mps.dense_words", lambda blob: mps.dense_words(blob, described()), (words(4, 3, 3, 2),)),
    Case("mps.weights_from_dense_words", lambda w: mps.weights_from_dense_words(w, described()), (words(10, 4),)),
]

BITS = [
    *(Case(f"sign: {d}", jbnn.sign, (Array((3, 33), d),), (0,)) for d in ("float32", "bfloat16", "float16")),
    *(Case(f"sign: {d}", jbnn.sign, (Array((3, 33), d),)) for d in ("int8", "int32")),
    *(Case(f"pack: {d}", jbnn.pack, (Array((3, 33), d),)) for d in ("float32", "bfloat16", "float16", "int8", "bool")),
    Case("pack: kernel", partial(jbnn.pack, axis=-2), (W,)),
    Case("pack: groups", partial(jbnn.pack, groups=3), (f32(2, 99),)),
    *(
        Case(f"unpack: {d}", partial(jbnn.unpack, size=33, dtype=d), (words(3, 2),))
        for d in ("float32", "bfloat16", "int8")
    ),
    Case("unpack: kernel", partial(jbnn.unpack, size=33, axis=-2), (W_WORDS,)),
    Case("unpack: groups", partial(jbnn.unpack, size=99, groups=3), (words(2, 6),)),
    *(
        Case(f"population_count: {d}", jbnn.population_count, (Array((3, 7), d),))
        for d in ("uint8", "uint16", "uint32")
    ),
]


def of_floats(module, name, note="", dtype=jnp.float32, **options):
    short = module.__name__.removeprefix("jbnn.")
    function = partial(getattr(module, name), **options)
    return Case(f"{short}.{name}{note and f': {note}'}", function, (Array((6, 33), dtype),), (0,))


QUANTIZERS = [
    *(of_floats(quantizers, name) for name in quantizers.__all__),
    *(of_floats(quantizers, name, "bfloat16", jnp.bfloat16) for name in quantizers.__all__),
    of_floats(quantizers, "ste_sign", "no clip", clip=None),
    of_floats(quantizers, "ste_tern", "ternary weight networks", ternary_weight_networks=True),
    of_floats(quantizers, "dorefa", "weights", mode="weights"),
]

PARAMETERS = {"linear": {"a": 2.0, "b": 1.0}, "relun": {"a": 0.1}, "power": {"a": 2.0, "b": 1.0, "c": 2.0}}
ACTIVATIONS = [
    *(
        of_floats(activations, name, note, dtype, **PARAMETERS.get(name, {}))
        for name in activations.__all__
        if name != "prelu"
        for note, dtype in (("", jnp.float32), ("float16", jnp.float16))
    ),
    Case("activations.prelu", activations.prelu, (f32(6, 33), f32(33)), (0, 1)),
    of_floats(activations, "exponential", "base 2", c=2.0),
    of_floats(activations, "logarithm", "base 10", c=10.0),
]

CASES = [*OPERATORS, *ORDINARY, *INTERCHANGE, *DOOR, *BITS, *QUANTIZERS, *ACTIVATIONS]


def gradient(case):
    def total(*args):
        y = case.function(*args).astype(jnp.float32)
        return (y * y).sum()  # so that what arrives at y varies with the arguments, and is batched with them

    return jax.grad(total, case.wrt)


def batched(args):
    return jax.tree.map(lambda arg: Array((3, *arg.shape), arg.dtype), args)


def forms(case):
    """The function, its gradient, and both of a batch in every argument: (function, arguments) by name."""
    yield "forward", (case.function, case.args)
    yield "vmap", (jax.vmap(case.function), batched(case.args))
    if case.wrt:
        yield "gradient", (gradient(case), case.args)
        yield "vmap of gradient", (jax.vmap(gradient(case)), batched(case.args))
