"""What is wrong with a port is said before anything is computed: each error by its message."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from mps_cases import BETA, FLOAT32, UINT32, XNOR, descriptor, real_source, source_of

from jbnn import mps

X = np.zeros((2, 5, 4, 33), np.float32)
W = np.ones((3, 3, 33, 4), np.float32)
D = descriptor()
WORDS, REALS = np.zeros(D.words_shape, np.uint32), np.zeros(D.weights_shape, np.float32)
UINT8 = mps.DataType.UINT8


def binary(x=X, source=None, **options):
    return mps.binary_convolution(x, source_of(W) if source is None else source, **{"type": XNOR, **options})


def source(data_type=UINT32, weights=WORDS, *rest, of=D, **options):
    return mps.ArrayDataSource(of, data_type, weights, *rest, **options)


def real(x=X, source=None, **options):
    return mps.convolution(x, real_source(W) if source is None else source, **options)


def transpose(**options):
    return mps.convolution_transpose(X, real_source(W, stride_in_pixels_x=2), **options)


def neuron(*args, **options):
    return mps.NeuronDescriptor(*args, **options)


def symbolic():
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape("1, h, w, 33"), jnp.float32)


def norm(**options):
    return mps.BatchNormalization(**{"mean": [0.0] * 4, "variance": [1.0] * 4, "epsilon": 0.1, **options})


BYTES = np.zeros(D.weights_shape, np.uint8)

VALUE_ERRORS = {
    # blobs
    "short blob": (
        lambda: binary(source=source(weights=WORDS.reshape(-1)[1:])),
        "`source.weights` must have 72 elements, flat or in the shape (O, kH, kW, depth) = (4, 3, 3, 2) that the "
        "descriptor says, but has shape (71,)",
    ),
    "blob of other channels": (
        lambda: binary(source=source(weights=np.zeros((4, 3, 3, 3), np.uint32))),
        "= (4, 3, 3, 2) that the descriptor says, but has shape (4, 3, 3, 3)",
    ),
    "blob that is not OHWI": (
        lambda: real(source=source(FLOAT32, np.moveaxis(REALS, 0, -1))),
        "= (4, 3, 3, 33) that the descriptor says, but has shape (3, 3, 33, 4)",
    ),
    "blob of another descriptor": (
        lambda: mps.unpack_weights(WORDS, descriptor(65)),
        "`weights` must have 108 elements",
    ),
    "kernel of three axes": (
        lambda: mps.pack_weights(W[0]),
        "`w` must have shape (kH, kW, C / groups, O), but has shape (3, 33, 4)",
    ),
    "words of a dense layer": (
        lambda: mps.weights_from_dense_words(np.zeros((2, 4), np.uint32), D),
        "`words` must have shape (ceil(H·W·C/32), O) = (10, 4) as the descriptor says, but has shape (2, 4)",
    ),
    "dense layer of groups": (
        lambda: mps.dense_words(WORDS, descriptor(66, groups=2)),
        "`descriptor` must be of one group in a fully connected layer, but has 2",
    ),
    # sources that contradict their descriptors
    "bias of another length": (
        lambda: binary(source=source_of(W, np.zeros(5, np.float32)), scale_value=1.0),
        "`source.bias_terms` must have shape (output_feature_channels,) = (4,), but has shape (5,)",
    ),
    "image of other channels": (
        lambda: real(X[..., :3]),
        "`x` must have `input_feature_channels` = 33 channels, but has shape (2, 5, 4, 3)",
    ),
    "image without a batch": (lambda: binary(X[0]), "`x` must have shape (N, H, W, C), but has shape (5, 4, 33)"),
    "bytes without a meaning": (
        lambda: real(source=source(UINT8, BYTES)),
        "`source` must have either `ranges`, with LINEAR, or `lookup_table`, with LOOKUP_TABLE, for UINT8 weights, but "
        "has `weights_quantization_type` = NONE, `ranges` is None and `lookup_table` is None",
    ),
    "bytes with two meanings": (
        lambda: real(source=source(UINT8, BYTES, None, 1, np.zeros((4, 2)), np.zeros(256))),
        "`ranges` is given and `lookup_table` is given",
    ),
    "bytes with another meaning": (
        lambda: real(source=source(UINT8, BYTES, None, 2, np.zeros((4, 2)))),
        "`source.lookup_table` must be given with LOOKUP_TABLE, but was None",
    ),
    "bytes with no ranges": (
        lambda: real(source=source(UINT8, BYTES, None, 1, lookup_table=np.zeros(256))),
        "`source.ranges` must be given with LINEAR, but was None",
    ),
    "ranges of another shape": (
        lambda: real(source=source(UINT8, BYTES, None, 1, np.zeros((2, 4)))),
        "`source.ranges` must have shape (O, 2) = (4, 2), but has shape (2, 4)",
    ),
    "quantized words": (
        lambda: binary(source=source(UINT32, WORDS, None, 1)),
        "`source.weights_quantization_type` must be NONE of weights of UINT32, but was LINEAR",
    ),
    "quantized floats": (
        lambda: real(source=source(FLOAT32, REALS, None, 1)),
        "`source.weights_quantization_type` must be NONE of weights of FLOAT32, but was LINEAR",
    ),
    "ranges of floats": (
        lambda: real(source=source(FLOAT32, REALS, ranges=np.zeros((4, 2)), lookup_table=np.zeros(256))),
        ("`source` must have neither `ranges` nor `lookup_table`", "FLOAT32", "`ranges` is given"),
    ),
    "table of words": (
        lambda: binary(source=source(lookup_table=np.zeros(256))),
        ("`source` must have neither `ranges` nor `lookup_table`", "UINT32", "`lookup_table` is given"),
    ),
    "base of another sign": (lambda: neuron(13, c=-2.0), ("`c`", "EXPONENTIAL", "positive", "-2.0")),
    "base of nothing": (lambda: neuron(14, c=0), ("`c`", "LOGARITHM", "positive", "0.0")),
    "base that is NaN": (lambda: neuron(14, c=np.nan), ("`c`", "LOGARITHM", "positive", "nan")),
    "rows of no known size": (
        lambda: jax.export.export(jax.jit(real))(symbolic()),
        ("`x` must have rows and columns", "(h, w)"),
    ),
    "rows of no known size, transposed": (
        lambda: jax.export.export(jax.jit(lambda x: mps.convolution_transpose(x, real_source(W), offset=(0, 0))))(
            symbolic()
        ),
        ("`x` must have rows and columns", "(h, w)"),
    ),
    "rows of no known size, binary": (
        lambda: jax.export.export(jax.jit(lambda x: binary(x, padding=((1, 1), (1, 1)))))(symbolic()),
        ("`x` must have rows and columns", "(h, w)"),
    ),
    "unknown data type": (
        lambda: binary(source=source(7)),
        "`source.data_type` must be one of DataType (UINT8 = 8, UINT32 = 32, FLOAT16 = 268435472, FLOAT32 = 268435488)"
        ", but was 7",
    ),
    # descriptors
    "groups that do not divide": (
        lambda: descriptor(33, groups=2),
        "`groups` must divide `input_feature_channels` = 33, but was 2",
    ),
    "groups that do not divide the outputs": (
        lambda: descriptor(33, 4, groups=3),
        "`groups` must divide `output_feature_channels` = 4, but was 3",
    ),
    "no stride": (lambda: descriptor(stride_in_pixels_x=0), "`stride_in_pixels_x` must be at least 1, but was 0"),
    "no channels": (lambda: descriptor(0), "`input_feature_channels` must be at least 1, but was 0"),
    "depthwise with groups": (
        lambda: descriptor(4, 4, channel_multiplier=1, groups=2),
        "`groups` must be 1 in a depthwise convolution, but was 2",
    ),
    "depthwise of other outputs": (
        lambda: descriptor(4, 4, channel_multiplier=2),
        "`output_feature_channels` must be `input_feature_channels` * `channel_multiplier` = 8 in a depthwise",
    ),
    "sub-pixel of other outputs": (
        lambda: descriptor(4, 6, sub_pixel_scale_factor=2),
        "`output_feature_channels` must be a multiple of `sub_pixel_scale_factor`² = 4, but was 6",
    ),
    "slopes of another length": (
        lambda: descriptor(fused_neuron=neuron(10, prelu=[0.1] * 3)),
        "`fused_neuron` must have one slope for each of the `output_feature_channels` = 4, but has 3",
    ),
    "moments of another length": (
        lambda: descriptor(3, 5, batch_normalization=norm()),
        "`batch_normalization` must have one mean for each of the `output_feature_channels` = 5, but has 4",
    ),
    "moments that differ": (
        lambda: norm(gamma=[1.0]),
        "`gamma` must have one value for each of the 4 of `mean`, but has 1",
    ),
    "unknown neuron": (lambda: neuron(16), "`type` must be one of NeuronType (NONE = 0, RELU = 1, "),
    "missing parameter": (lambda: neuron(2, a=1.0), "`b` must be given for a LINEAR neuron, but was None"),
    "foreign parameter": (
        lambda: neuron(3, a=1.0),
        "`a` must be None for a SIGMOID neuron, which has none, but was 1.0",
    ),
    "PReLU without slopes": (lambda: neuron(10), "`prelu` must be given for a PRELU neuron, but was None"),
    "slopes without PReLU": (
        lambda: neuron(1, prelu=[1.0]),
        "`prelu` must be None for a RELU neuron, but was [1.0]",
    ),
    # initialisers
    "both initialisers": (
        lambda: binary(scale_value=1.0, input_bias_terms=np.zeros(33, np.float32)),
        ("`input_bias_terms` must be None", "`scale_value`"),
    ),
    "terms of another length": (
        lambda: binary(input_scale_terms=np.zeros(4, np.float32)),
        "`input_scale_terms` must have shape (C,) = (33,), but has shape (4,)",
    ),
    "a term that is a scalar": (
        lambda: binary(output_bias_terms=0.5),
        "`output_bias_terms` must have shape (O,) = (4,), but has shape ()",
    ),
    "scale values": (
        lambda: binary(scale_value=np.zeros(4, np.float32)),
        "`scale_value` must be a scalar, but has shape (4,)",
    ),
    "unknown type": (
        lambda: binary(type=3),
        "`type` must be one of BinaryConvolutionType (BINARY_WEIGHTS = 0, XNOR = 1, AND = 2), but was 3",
    ),
    "type that is a fraction": (lambda: binary(type=1.0), "`type` must be one of BinaryConvolutionType ("),
    "types": (lambda: binary(type=np.array([0, 1])), "`type` must be one of BinaryConvolutionType ("),
    "type that is traced": (
        lambda: jax.jit(lambda type: binary(type=type))(1),
        "`type` must be one of BinaryConvolutionType (",
    ),
    "unknown flag": (
        lambda: binary(flags=2),
        "`flags` must be one of BinaryConvolutionFlags (NONE = 0, USE_BETA_SCALING = 1), but was 2",
    ),
    # positions
    "padding of lax": (
        lambda: binary(padding="SAME"),
        "`padding` must be a PaddingMethod or two pairs of integers, but was 'SAME': MPS's policies differ",
    ),
    "padding of one pair": (
        lambda: real(padding=((0, 0),)),
        "`padding` must be a PaddingMethod or two pairs of integers, but was ((0, 0),)",
    ),
    "padding of pooling": (
        lambda: real(padding=mps.PaddingMethod.EXCLUDE_EDGES),
        "EXCLUDE_EDGES is for pooling",
    ),
    "reserved size": (
        lambda: mps.padding_policy(3 << 4, (5, 5), (3, 3)),
        "`method` must be one of ALIGN, one of ADD_REMAINDER and one of SIZE, joined, but was 48",
    ),
    "reserved alignment": (lambda: mps.padding_policy(3, (5, 5), (3, 3)), "but was 3"),
    "window of nothing": (
        lambda: mps.padding_policy(0, (5, 5), (0, 3)),
        ("`window` must be", "at least 1", "(0, 3)"),
    ),
    "padding and offset": (
        lambda: binary(padding=1 << 4, offset=(0, 0)),
        "`padding` must be None where an offset, `clip` or `destination` say where to read and write, but was 16",
    ),
    "offset of one number": (
        lambda: real(offset=1),
        "`offset` must hold (rows, columns), two integers each, but was 1",
    ),
    "rectangle without an origin": (
        lambda: real(clip=((0, 0),)),
        "`clip` must be (origin, size), each (rows, columns)",
    ),
    "rectangle of negative size": (
        lambda: real(clip=((0, 0), (3, -1))),
        "`clip` must have an origin and a size that are not negative, but was ((0, 0), (3, -1))",
    ),
    "rectangle outside": (
        lambda: real(clip=((1, 0), (5, 4)), destination=np.zeros((2, 5, 4, 4), np.float32)),
        "`clip` must lie in `destination`, which has 5 rows and 4 columns, but was ((1, 0), (5, 4))",
    ),
    "destination of other channels": (
        lambda: real(destination=np.zeros((2, 5, 4, 5), np.float32)),
        "`destination` must have shape (N, H, W, channels) with N = 2 and 4 channels, but has shape (2, 5, 4, 5)",
    ),
    "half a pixel": (
        lambda: real(source=real_source(W, sub_pixel_scale_factor=2), clip=((0, 0), (3, 4))),
        "`clip` or `destination` must have a size that `sub_pixel_scale_factor` = 2 divides, but it was (3, 4)",
    ),
    "unknown edge mode": (lambda: binary(edge_mode=5), "`edge_mode` must be one of EdgeMode (ZERO = 0, CLAMP = 1, "),
    "nothing to clamp": (lambda: binary(X[:, :0], edge_mode=1, clip=((0, 0), (2, 2))), "must have a pixel to continue"),
    "fully connected to a larger image": (
        lambda: mps.binary_fully_connected(X, source_of(W), type=XNOR),
        "`x` must have the size of the window, (3, 3), in a fully connected layer, but has shape (2, 5, 4, 33)",
    ),
    "fully connected with strides": (
        lambda: mps.binary_fully_connected(X[:, :3, :3], source_of(W, stride_in_pixels_x=2), type=XNOR),
        "`stride_in_pixels_x` of the descriptor must be 1 in a fully connected layer, but was 2",
    ),
    "fully connected, depthwise": (
        lambda: mps.binary_fully_connected(
            X[:, :3, :3, :4], source(of=descriptor(4, 4, channel_multiplier=1)), type=XNOR
        ),
        "the descriptor of a fully connected layer must be neither depthwise nor sub-pixel",
    ),
    "impossible output size": (
        lambda: transpose(output_size=(5, 9)),
        ("`output_size` must have", "rows in [5, 5]", "columns in [7, 8]", "(5, 9)", "5 rows and 4 columns"),
    ),
    "output size of pairs": (
        lambda: transpose(output_size=(5, 8), padding=((1, 1), (1, 1))),
        "`padding` must be a PaddingMethod with `output_size`, but was ((1, 1), (1, 1))",
    ),
    "output size and offset": (
        lambda: transpose(output_size=(5, 8), kernel_offset=(0, 0)),
        "`output_size` must be None where an offset, `clip` or `destination` say where",
    ),
    # gradients
    "gradient of another size": (
        lambda: mps.convolution_gradient(X, real_source(W), X),
        "`g` must have shape (2, 5, 4, 4), as the layer's result, but has shape (2, 5, 4, 33)",
    ),
    "gradient of another size, of sub-pixels": (
        lambda: mps.convolution_gradient(X, real_source(W, sub_pixel_scale_factor=2), X[:, :, :, :1]),
        "`g` must have shape (2, 10, 8, 1), as the layer's result, but has shape (2, 5, 4, 1)",
    ),
    "gradient of nothing": (
        lambda: mps.convolution_gradient(X, real_source(W), X, option=0),
        "`option` must be one of GradientOption (WITH_DATA = 1, WITH_WEIGHTS_AND_BIAS = 2, ALL = 3), but was 0",
    ),
    "gradient through batch normalization": (
        lambda: mps.convolution_gradient(X, real_source(W, batch_normalization=norm()), X),
        "`source.descriptor` must be without batch normalisation in `convolution_gradient`",
    ),
}

TYPE_ERRORS = {
    # words and floats of 64 bits, judged before JAX makes 32 of them
    "wide words": (lambda: mps.unpack_weights(WORDS.astype(np.uint64), D), ("`weights` must hold words", "uint64")),
    "wide words of a source": (
        lambda: binary(source=source(weights=WORDS.astype(np.uint64))),
        ("`source.weights` must hold words of dtype uint32", "UINT32", "uint64"),
    ),
    "wide words of a dense layer": (
        lambda: mps.weights_from_dense_words(np.zeros((10, 4), np.uint64), D),
        ("`words` must hold words of dtype uint32", "uint64"),
    ),
    "wide floats of a source": (
        lambda: real(source=source(FLOAT32, REALS.astype(np.float64))),
        ("`source.weights` must have dtype float32", "FLOAT32", "float64"),
    ),
    "wide kernel": (lambda: mps.pack_weights(W.astype(np.float64)), ("`w` must have dtype", "float64")),
    "kernel of floats of 8 bits": (
        lambda: mps.pack_weights(jnp.asarray(W, jnp.float8_e4m3fnuz)),
        ("`w` must have dtype", "float8_e4m3fnuz"),
    ),
    "wide gradient": (
        lambda: mps.convolution_gradient(X, real_source(W), np.zeros((2, 5, 4, 4))),
        ("`g` must have the dtype of `x`, float32", "float64"),
    ),
    "no source": (lambda: mps.binary_convolution(X, None, type=XNOR), ("`source` must be a DataSource", "None")),
    "no source of blobs": (
        lambda: mps.unpack_weights(WORDS, None),
        ("`descriptor` must be a ConvolutionDescriptor", "None"),
    ),
    "parameter that is a string": (lambda: neuron(1, a="0.5"), ("`a` must be a number", "'0.5'")),
    "parameter too large": (lambda: neuron(1, a=10**400), ("`a` must be a number", "1000")),
    "half precision of bytes": (
        lambda: real(X.astype(np.float16), source(UINT8, BYTES, None, 1, np.zeros((4, 2))), accumulator_precision=0),
        ("`source.weights` must have dtype float16", "accumulator_precision=HALF", "UINT8"),
    ),
    "floats where words are declared": (
        lambda: binary(source=source(weights=REALS)),
        "`source.weights` must hold words of dtype uint32, as `source.data_type` = UINT32 declares, but has dtype "
        "float32",
    ),
    "words where floats are declared": (
        lambda: binary(source=source(FLOAT32)),
        "`source.weights` must have dtype float32, as `source.data_type` = FLOAT32 declares, but has dtype uint32",
    ),
    "float32 where float16 is declared": (
        lambda: real(source=source(mps.DataType.FLOAT16, REALS)),
        "`source.weights` must have dtype float16, as `source.data_type` = FLOAT16 declares, but has dtype float32",
    ),
    "words in a real layer": (
        lambda: real(source=source()),
        "`source.data_type` must be FLOAT32, FLOAT16 or UINT8 in a layer of real weights, but was UINT32",
    ),
    "bytes in a binary layer": (
        lambda: binary(source=source(UINT8, BYTES)),
        "`source.data_type` must be UINT32, or FLOAT32 or FLOAT16 for latent weights, in a binary layer, but was UINT8",
    ),
    "floats where bytes are declared": (
        lambda: real(source=source(UINT8, REALS, None, 1, np.zeros((4, 2)))),
        "`source.weights` must have dtype uint8, as `source.data_type` = UINT8 declares, but has dtype float32",
    ),
    "signed words": (
        lambda: mps.unpack_weights(WORDS.astype(np.int32), D),
        "`weights` must hold words of dtype uint32, but has dtype int32",
    ),
    "signed words of a dense layer": (
        lambda: mps.weights_from_dense_words(np.zeros((10, 4), np.int32), D),
        "`words` must hold words of dtype uint32, but has dtype int32",
    ),
    "kernel of integers": (
        lambda: mps.pack_weights(W.astype(np.int32)),
        ("`w` must have dtype float32, bfloat16, float16 or float64", "uint32", "but has dtype int32"),
    ),
    "unpacked to integers": (
        lambda: mps.unpack_weights(WORDS, D, dtype=jnp.int32),
        "`dtype` must be floating or uint32, but was int32",
    ),
    "bias of integers": (
        lambda: real(source=real_source(W, np.zeros(4, np.int32))),
        "`source.bias_terms` must have a floating dtype, but has dtype int32",
    ),
    "terms of integers": (
        lambda: binary(output_scale_terms=np.zeros(4, np.int32)),
        "`output_scale_terms` must have a floating dtype, but has dtype int32",
    ),
    "no descriptor": (
        lambda: binary(source=source(of={"kernelWidth": 3})),
        "`source.descriptor` must be a ConvolutionDescriptor, but was {'kernelWidth': 3}",
    ),
    "fraction of a stride": (
        lambda: descriptor(stride_in_pixels_y=1.5),
        "`stride_in_pixels_y` must be an integer, but was 1.5",
    ),
    "neuron that is a number": (lambda: descriptor(fused_neuron=1), "`fused_neuron` must be a NeuronDescriptor"),
    "normalization that is a tuple": (
        lambda: descriptor(batch_normalization=(0, 1)),
        "`batch_normalization` must be a BatchNormalization",
    ),
    "parameter that is no number": (lambda: neuron(1, a="steep"), "`a` must be a number, but was 'steep'"),
    "moments that are a table": (
        lambda: norm(mean=np.zeros((2, 2))),
        "`mean` must be one row of numbers, but has shape (2, 2) and dtype float64",
    ),
    "moments that are traced": (
        lambda: jax.jit(lambda m: norm(mean=m).epsilon)(jnp.zeros(4)),
        "`mean` must be known while tracing",
    ),
    "destination of another dtype": (
        lambda: real(destination=np.zeros((2, 5, 4, 4), np.float16)),
        "`destination` must have the dtype of `x`, float32, but has dtype float16",
    ),
    "half precision of float32": (
        lambda: real(accumulator_precision=0),
        "`x` must have dtype float16 with accumulator_precision=HALF, but has dtype float32",
    ),
    "gradient of another dtype": (
        lambda: mps.convolution_gradient(X, real_source(W), np.zeros((2, 5, 4, 4), np.float16)),
        "`g` must have the dtype of `x`, float32, but has dtype float16",
    ),
    "padding that is a fraction": (
        lambda: mps.padding_policy(0.5, (5, 5), (3, 3)),
        "`method` must be a PaddingMethod, but was 0.5",
    ),
    "size that is a fraction": (
        lambda: mps.padding_policy(0, (5.0, 5), (3, 3)),
        ("`size` must be an integer or 2 integers", "(5.0, 5)"),
    ),
}


@pytest.mark.parametrize("call, message", VALUE_ERRORS.values(), ids=VALUE_ERRORS)
def test_value_error(call, message):
    with pytest.raises(ValueError) as error:
        call()
    for fact in (message,) if isinstance(message, str) else message:
        assert fact in str(error.value)


@pytest.mark.parametrize("call, message", TYPE_ERRORS.values(), ids=TYPE_ERRORS)
def test_type_error(call, message):
    with pytest.raises(TypeError) as error:
        call()
    for fact in (message,) if isinstance(message, str) else message:
        assert fact in str(error.value)


def test_words_have_no_gradient():
    """Latent floats train; words do not."""
    words = source_of(W)
    gradient = jax.grad(lambda source: binary(source=source, flags=BETA).sum(), allow_int=True)(words)
    assert gradient.weights.dtype == jax.dtypes.float0
