"""The ordinary family, kernels for and from other libraries, and the door for code from Metal Performance Shaders."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from examples.calls.call import Call, floats, integers, words
from jbnn import activations, convolution, interchange, mps

X, W = floats(2, 5, 4, 6), floats(3, 3, 6, 4)
HALVES = X.astype(jnp.bfloat16), W.astype(jnp.bfloat16)


def ordinary(
    name: str, note: str, *args: Any, wrt: tuple[int, ...] = (0, 1), exact: bool = False, **options: Any
) -> Call:
    return Call(f"convolution.{name}: {note}", partial(getattr(convolution, name), **options), args, wrt, exact)


def its_gradient(name: str, note: str, x: Any, w: Any, g: Any, **options: Any) -> Call:
    return ordinary(f"{name}_gradient", note, x, w, g, wrt=(), **options)


ORDINARY = [
    ordinary("conv", "plain", X, W, bias=0.5, activation=activations.relu),
    ordinary("conv", "strides, dilation, groups", X, floats(3, 3, 2, 6), window_strides=2, feature_group_count=3),
    *(
        ordinary("conv", mode, X, W, edge_mode=mode, pad_value=mode == "constant", rhs_dilation=2)
        for mode in ("clamp", "mirror", "mirror_with_edge", "constant")
    ),
    ordinary("conv", "bfloat16", *HALVES),
    ordinary("conv", "bfloat16 summed in float32", *HALVES, preferred_element_type=jnp.float32),
    ordinary("conv", "1-D", floats(2, 9, 3), floats(3, 3, 4), edge_mode="mirror"),
    ordinary("conv", "3-D", floats(1, 3, 4, 5, 3), floats(2, 3, 1, 3, 4), edge_mode="clamp"),
    ordinary("depthwise_conv", "multiplier 2", X, floats(3, 3, 6, 2), window_strides=2),
    ordinary("conv_transpose", "groups", X, floats(3, 3, 2, 6), window_strides=2, feature_group_count=3),
    ordinary("conv_transpose", "output size", X, W, window_strides=2, output_size=(11, 9)),
    ordinary("dense", "rows", floats(2, 3, 6), floats(6, 4)),
    its_gradient("conv", "strides", X, W, floats(2, 3, 2, 4), window_strides=2),
    its_gradient("conv", "transposed", X, W, floats(2, 10, 8, 4), window_strides=2, transposed=True),
    its_gradient("dense", "rows", floats(2, 3, 6), floats(6, 4), floats(2, 3, 4)),
    its_gradient("binary_conv", "beta", X, W, floats(2, 5, 4, 4), beta_scaling=True),
    *(
        ordinary(name, order, floats(2, 6, 4, 12), wrt=(0,), exact=True, block=2, order=order)
        for name in ("depth_to_space", "space_to_depth")
        for order in ("dcr", "crd")
    ),
    ordinary("transpose_kernel", "groups", W, wrt=(0,), exact=True, feature_group_count=2),
    ordinary("cross_channel_normalization", "5 of 33", floats(2, 5, 4, 33), wrt=(0,)),
    ordinary("cross_channel_normalization", "float16", floats(6, 9, dtype="float16"), wrt=(0,), kernel_size=4),
    ordinary("dequantize_linear", "ranges", integers(3, 3, 6, 4, dtype="uint8"), -floats(4), floats(4), wrt=(1, 2)),
    ordinary("dequantize_lookup", "table", integers(3, 3, 6, 4, dtype="uint8"), floats(256), wrt=(1,)),
]

INTERCHANGE = [
    Call("interchange.to_larq", partial(interchange.to_larq, channels=33), (words(3, 3, 2, 5),)),
    Call("interchange.from_larq", partial(interchange.from_larq, channels=33), (integers(5, 3, 3, 2),)),
    Call("interchange.to_openvino", partial(interchange.to_openvino, channels=33), (words(3, 3, 2, 5),)),
    Call(
        "interchange.from_openvino",
        partial(interchange.from_openvino, shape=(6, 11, 4, 3)),
        (integers(99, dtype="uint8"),),
    ),
]


def described(**options: Any) -> mps.ConvolutionDescriptor:
    return mps.ConvolutionDescriptor(input_feature_channels=33, output_feature_channels=4, **options)


def stored(dtype: str, *rest: Any, **options: Any) -> mps.ArrayDataSource:
    """Weights as MPS keeps them, (O, kH, kW, C), or words (O, kH, kW, W)."""
    d = described(**options)
    shape = d.words_shape if dtype == "uint32" else d.weights_shape
    draw = {"uint32": words, "float32": floats, "uint8": partial(integers, dtype="uint8")}[dtype]
    return mps.ArrayDataSource(d, mps.DataType[dtype.upper()], draw(*shape), *rest)


IMAGE = floats(2, 5, 4, 33)
DOOR_TERMS = {
    "output_bias_terms": floats(4),
    "output_scale_terms": floats(4),
    "input_bias_terms": floats(33),
    "input_scale_terms": floats(33),
}


def door(name: str, note: str, source: mps.ArrayDataSource, **options: Any) -> Call:
    """A binary layer of the door, with the four terms as arguments."""
    function = getattr(mps, name)
    x = floats(2, 3, 3, 33) if name == "binary_fully_connected" else IMAGE
    wrt = (0, 2) if source.data_type == mps.DataType.UINT32 else (0, 1, 2)
    return Call(
        f"mps.{name}: {note}", lambda x, s, terms: function(x, s, **terms, **options), (x, source, DOOR_TERMS), wrt
    )


def layer(name: str, note: str, source: mps.ArrayDataSource, *rest: Any, wrt: tuple[int, ...], **options: Any) -> Call:
    function = getattr(mps, name)
    return Call(f"mps.{name}: {note}", lambda *args: function(*args, **options), (IMAGE, source, *rest), wrt)


BLOB, LATENT = stored("uint32"), stored("float32")
REAL = stored("float32", floats(4), stride_in_pixels_x=2)
NORM = mps.BatchNormalization(mean=[0.5] * 4, variance=[2.0] * 4, epsilon=1e-3)
RANGES = floats(4, 2)
DOOR = [
    door("binary_convolution", "XNOR, words, beta", BLOB, type=1, flags=1),
    door("binary_convolution", "AND, latent, clamp", LATENT, type=2, edge_mode=1),
    door("binary_convolution", "binary weights, rectangle", LATENT, type=0, offset=(2, -4), clip=((0, 0), (3, 2))),
    door("binary_fully_connected", "XNOR, latent, beta", LATENT, type=1, flags=1),
    door("binary_fully_connected", "AND, words", BLOB, type=2),
    layer("convolution", "bias", REAL, wrt=(0, 1)),
    layer(
        "convolution",
        "destination",
        REAL,
        wrt=(0,),
        destination=np.zeros((2, 6, 4, 4), np.float32),
        clip=((1, 0), (4, 4)),
    ),
    layer(
        "convolution",
        "batch normalization, sub-pixels",
        stored("float32", floats(4), batch_normalization=NORM, sub_pixel_scale_factor=2),
        wrt=(0, 1),
    ),
    layer("convolution", "bytes", stored("uint8", floats(4), mps.WeightsQuantizationType.LINEAR, RANGES), wrt=(0,)),
    layer("convolution_transpose", "output size", REAL, wrt=(0, 1), output_size=(5, 8)),
    layer("convolution_gradient", "everything", REAL, floats(2, 5, 2, 4), wrt=()),
    Call("mps.pack_weights", mps.pack_weights, (floats(3, 3, 33, 4),)),
    Call("mps.unpack_weights", lambda blob: mps.unpack_weights(blob, described()), (words(4, 3, 3, 2),)),
    Call("mps.kernel_from_weights", lambda w: mps.kernel_from_weights(w, described()), (floats(4, 3, 3, 33),), (0,)),
    Call("mps.weights_from_kernel", mps.weights_from_kernel, (floats(3, 3, 33, 4),), (0,)),
    Call("mps.dense_words", lambda blob: mps.dense_words(blob, described()), (words(4, 3, 3, 2),)),
    Call("mps.weights_from_dense_words", lambda w: mps.weights_from_dense_words(w, described()), (words(10, 4),)),
]
