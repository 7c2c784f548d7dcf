"""The rows of the table in docs/mps.md that are not binary alone: each test has the name of its row."""

import jax
import jax.numpy as jnp
import mps_oracle
import numpy as np
import oracle
import pytest
from mps_cases import FLOAT32, RNG, TERMS, UINT32, XNOR, W, X, descriptor, normal, real_source, source_of
from numpy.testing import assert_array_equal

from jbnn import activations, convolution, mps


def test_row_tensor_layout():
    kernel = mps.kernel_from_weights(np.arange(2 * 3 * 3 * 5, dtype=np.float32), descriptor(5, 2))
    assert kernel.shape == (3, 3, 5, 2)
    assert kernel[1, 2, 3, 1] == ((1 * 3 + 1) * 3 + 2) * 5 + 3
    assert mps.pack_weights(W).shape == (4, 3, 3, 2)
    assert mps.binary_convolution(X, source_of(W), type=XNOR).shape == (2, 5, 4, 4)


def test_row_padding_policy():
    """`tensorFlowSame` is not "SAME" in 8 of 156 cases, and valid is not "VALID" in 31."""
    bottom_right = mps.PaddingMethod.ADD_REMAINDER_TO_BOTTOM_RIGHT
    differ, cases = {"SAME": 0, "VALID": 0}, 0
    for n in range(4, 12):
        for k in range(1, min(n, 5) + 1):
            for s in range(1, 5):
                cases += 1
                for name, size in (("SAME", mps.PaddingMethod.SIZE_SAME), ("VALID", mps.PaddingMethod.SIZE_VALID_ONLY)):
                    ours = mps.padding_policy(bottom_right | size, (n, n), (k, k), window_strides=s)
                    theirs = oracle.explicit_padding(name, [n], [k], [s], [1])[0]
                    assert ours[0] == ours[1]
                    assert (n + sum(ours[0]) - k) // s == (n + sum(theirs) - k) // s
                    differ[name] += ours[0][0] != theirs[0]
                for style, size in ((-1, 0), (0, 1 << 4), (1, 2 << 4)):
                    for to_low, remainder in ((1, 0), (0, 3 << 2)):
                        m, offset = mps_oracle.policy(n, k, s, style, to_low)
                        low = k // 2 - offset
                        pair = mps.padding_policy(size | remainder, (n, n), (k, k), window_strides=s)[0]
                        assert pair == (low, (m - 1) * s + k - n - low)
    assert (cases, differ) == (156, {"SAME": 8, "VALID": 31})


def test_each_axis_has_its_remainder_and_alignment():
    """Three extra rows and columns: a window of 4, same. Rows ask for top or bottom, columns for left or right."""
    method = mps.PaddingMethod
    for remainder, expected in (
        (method.ADD_REMAINDER_TO_TOP_LEFT, ((2, 1), (2, 1))),
        (method.ADD_REMAINDER_TO_TOP_RIGHT, ((2, 1), (1, 2))),
        (method.ADD_REMAINDER_TO_BOTTOM_LEFT, ((1, 2), (2, 1))),
        (method.ADD_REMAINDER_TO_BOTTOM_RIGHT, ((1, 2), (1, 2))),
        (method.ALIGN_TOP_LEFT, ((3, 0), (3, 0))),
        (method.ALIGN_BOTTOM_RIGHT, ((0, 3), (0, 3))),
    ):
        assert mps.padding_policy(method.SIZE_SAME | remainder, (6, 6), (4, 4)) == expected
    assert mps.padding_policy(method.SIZE_FULL, (6, 5), (3, 2), rhs_dilation=(1, 2)) == ((2, 2), (2, 2))
    assert mps.padding_policy(method.SIZE_FULL, (6, 5), (3, 2), window_strides=2, transposed=True) == ((2, 2), (1, 1))


def test_a_padding_policy_places_a_layer():
    x, source = X[:, :, :, :1], real_source(normal(2, 2, 1, 1), stride_in_pixels_x=2)
    for method in (0, 1 << 4, 2 << 4, 3 << 2 | 1 << 4, 1 << 2 | 2 << 4):
        pairs = mps.padding_policy(method, (5, 4), (2, 2), window_strides=(1, 2))
        y = mps.convolution(x, source, padding=method)
        assert_array_equal(y, mps.convolution(x, source, padding=pairs))
        offset = [1 - low for low, _ in pairs]
        assert_array_equal(y, mps.convolution(x, source, offset=offset, clip=((0, 0), y.shape[1:3])))


def test_row_default_padding():
    """Same for convolutions, centred, the odd row at the top left; a fully connected layer reads the image once."""
    x, source = X[:, :, :, :1], real_source(normal(2, 2, 1, 1), stride_in_pixels_x=3)
    same = mps.PaddingMethod.SIZE_SAME | mps.PaddingMethod.ADD_REMAINDER_TO_TOP_LEFT | mps.PaddingMethod.ALIGN_CENTERED
    y = mps.convolution(x, source)
    assert y.shape == (2, 5, 2, 1)
    assert_array_equal(y, mps.convolution(x, source, padding=same))


def test_row_accumulation():
    """Binary sums are int32: exact past 2048 in any dtype of x. Real ones are float32, or float16 if asked for."""
    x, w = jnp.ones((1, 3, 3, 300), jnp.float16), jnp.ones((3, 3, 300, 1), jnp.float32)
    exact = mps.binary_convolution(x, source_of(w), type=XNOR, output_scale_terms=jnp.float32([1 / 2700]))
    assert exact[0, 1, 1, 0] == 1
    halves = mps.ArrayDataSource(descriptor(300, 1), mps.DataType.FLOAT16, jnp.full(2700, 0.1, jnp.float16))
    y = mps.convolution(x, halves)
    assert y.dtype == jnp.float16
    assert y[0, 1, 1, 0] == np.float16(2700 * np.float64(np.float16(0.1)))
    half = mps.convolution(x, halves, accumulator_precision=mps.AccumulatorPrecision.HALF)
    assert half.dtype == jnp.float16
    fine = np.where(np.arange(300) % 2, -1, 1 + 2.0**-12).astype(np.float32)  # in float16 they would cancel
    cancelling = real_source(np.broadcast_to(fine[:, None], (3, 3, 300, 1)))
    assert mps.convolution(x, cancelling)[0, 1, 1, 0] == np.float16(1350 * 2.0**-12)
    with pytest.raises(TypeError, match=r"`source.weights` must have dtype float16 with accumulator_precision=HALF"):
        mps.convolution(x, real_source(w), accumulator_precision=0)


NEURONS = {
    "NONE": (activations.none, {}),
    "RELU": (activations.relu, {"a": 0.25}),
    "LINEAR": (activations.linear, {"a": 2.0, "b": -1.0}),
    "SIGMOID": (activations.sigmoid, {}),
    "HARD_SIGMOID": (activations.hard_sigmoid, {"a": 0.3, "b": 0.4}),
    "TANH": (activations.tanh, {"a": 2.0, "b": 0.5}),
    "ABSOLUTE": (activations.absolute, {}),
    "SOFT_PLUS": (activations.soft_plus, {"a": 2.0, "b": 0.5}),
    "SOFT_SIGN": (activations.soft_sign, {}),
    "ELU": (activations.elu, {"a": 2.0}),
    "RELUN": (activations.relun, {"a": 0.0, "b": 6.0}),
    "POWER": (activations.power, {"a": 2.0, "b": 1.0, "c": 2.0}),
    "EXPONENTIAL": (activations.exponential, {"a": 0.1, "b": 1.0, "c": 2.0}),
    "LOGARITHM": (activations.logarithm, {"a": 0.1, "b": 30.0, "c": 2.0}),
    "GELU": (activations.gelu, {}),
}


def test_row_fused_neuron():
    """Every neuron, last, of a binary and of a real layer; the raw values are the order of the enumeration."""
    y = normal(1, 2, 2, 4) * 3
    for name, (function, parameters) in NEURONS.items():
        neuron = mps.NeuronDescriptor(mps.NeuronType[name], **parameters)
        assert_array_equal(neuron.activation(y), function(y, **parameters))
    slopes = normal(4)
    prelu = mps.NeuronDescriptor(mps.NeuronType.PRELU, prelu=slopes)
    assert_array_equal(prelu.activation(y), activations.prelu(y, slopes))
    assert {*NEURONS, "PRELU"} == set(mps.NeuronType.__members__)
    assert [mps.NeuronType(i).name for i in (0, 1, 10, 15)] == ["NONE", "RELU", "PRELU", "GELU"]
    source, fused = source_of(W), source_of(W, fused_neuron=prelu)
    assert_array_equal(
        mps.binary_convolution(X, fused, type=XNOR),
        activations.prelu(mps.binary_convolution(X, source, type=XNOR), slopes),
    )
    elu = mps.NeuronDescriptor(mps.NeuronType.ELU)
    assert_array_equal(
        mps.convolution(X, real_source(W, fused_neuron=elu)), activations.elu(mps.convolution(X, real_source(W)))
    )


@pytest.mark.parametrize("multiplier", [1, 2])
def test_row_depthwise(multiplier):
    """Output channel k·m + q reads input channel k, from weights (C, m, kH, kW)."""
    channels = 5
    d = descriptor(channels, channels * multiplier, channel_multiplier=multiplier)
    x, weights = normal(1, 4, 3, channels), normal(channels, multiplier, 3, 3)
    real = mps.ArrayDataSource(d, FLOAT32, weights.reshape(-1))
    signs = jnp.moveaxis(weights.reshape(-1, 3, 3, 1), 0, -1)
    binary = mps.ArrayDataSource(d, UINT32, mps.pack_weights(signs))
    y, u = mps.convolution(x, real), mps.binary_convolution(x, binary, type=XNOR)
    for k in range(channels):
        one = x[..., k : k + 1]
        for q in range(multiplier):
            expected = mps_oracle.convolution(one, weights[k, q].reshape(1, 3, 3, 1), size=(4, 3))
            oracle.assert_close(y[..., k * multiplier + q : k * multiplier + q + 1], expected)
            bits = (weights[k, q].reshape(1, 3, 3, 1) >= 0).astype(int)
            exact = mps_oracle.binary_convolution(one, bits, type=1, size=(4, 3))
            assert_array_equal(u[..., k * multiplier + q : k * multiplier + q + 1], exact)


def test_row_sub_pixel():
    """MPS's order, written out; of a real and of a binary layer, written into a rectangle of the result's pixels."""
    w = normal(3, 3, 3, 12)
    x = normal(2, 3, 4, 3)
    plain = mps.convolution(x, real_source(w))
    y = mps.convolution(x, real_source(w, sub_pixel_scale_factor=2))
    assert y.shape == (2, 6, 8, 3)
    assert_array_equal(y, mps_oracle.sub_pixel(np.asarray(plain), 2))
    binary = mps.binary_convolution(x, source_of(w, sub_pixel_scale_factor=2), type=XNOR)
    assert_array_equal(binary, mps_oracle.sub_pixel(np.asarray(mps.binary_convolution(x, source_of(w), type=XNOR)), 2))
    target = jnp.zeros((2, 8, 8, 3))
    placed = mps.convolution(
        x, real_source(w, sub_pixel_scale_factor=2), destination=target, clip=((2, 0), (6, 8)), offset=(0, 0)
    )
    assert_array_equal(placed[:, 2:], y)
    assert not placed[:, :2].any()


def test_row_uint8_weights():
    """Per output channel a range, or a table of 256, in float32."""
    blob = RNG.integers(0, 256, (4, 3, 3, 33), dtype=np.uint8)
    ranges = np.sort(normal(4, 2), -1)
    table = normal(256)
    linear = mps.ArrayDataSource(descriptor(), mps.DataType.UINT8, blob, None, 1, ranges=ranges)
    lookup = mps.ArrayDataSource(descriptor(), mps.DataType.UINT8, blob.reshape(-1), None, 2, lookup_table=table)
    low, high = ranges[:, 0, None, None, None], ranges[:, 1, None, None, None]
    for source, weights in ((linear, blob / np.float32(255) * (high - low) + low), (lookup, table[blob])):
        oracle.assert_close(mps.convolution(X, source), mps_oracle.convolution(X, weights, size=(5, 4)))


def test_row_weights_export_and_reload():
    """Weights are arrays in and arrays out: blob to kernel to blob is the identity, through bytes too."""
    source = source_of(W)
    blob = np.asarray(source.weights)
    file = np.frombuffer(blob.tobytes(), "<u4")
    assert_array_equal(mps.pack_weights(mps.unpack_weights(file, source.descriptor)), blob)
    words = mps.unpack_weights(file, source.descriptor, dtype=jnp.uint32)
    assert_array_equal(mps.pack_weights(words), blob)
    real = np.asarray(mps.weights_from_kernel(W))
    assert_array_equal(mps.kernel_from_weights(real.reshape(-1), source.descriptor), W)
    leaves, structure = jax.tree.flatten(source)
    again = jax.tree.unflatten(structure, leaves)
    assert_array_equal(mps.binary_convolution(X, again, type=XNOR), mps.binary_convolution(X, source, type=XNOR))


def test_row_transpose():
    """Unrotated, over the image with zeros between its pixels; the sizes of the three policies."""
    w, x = normal(3, 3, 2, 4), normal(1, 3, 4, 2)
    source = real_source(w, normal(4), stride_in_pixels_x=2, stride_in_pixels_y=3)
    weights = np.asarray(source.weights)
    for style, size in ((-1, 0), (0, 1 << 4), (1, 2 << 4)):
        y = mps.convolution_transpose(x, source, padding=size)
        height, width = 2 * 3 + 1 + 2 * style, 3 * 2 + 1 + 2 * style
        assert y.shape == (1, height, width, 4)
        offset = (-style, -style)  # a window of 3, centred
        expected = mps_oracle.convolution_transpose(
            x, weights, stride=(3, 2), size=(height, width), kernel_offset=offset, bias=source.bias_terms
        )
        oracle.assert_close(y, expected)
    impulse = jnp.ones((1, 1, 1, 1))
    kernel = jnp.arange(3.0).reshape(1, 3, 1, 1)
    d = mps.ConvolutionDescriptor(kernel_height=1, input_feature_channels=1, output_feature_channels=1)
    one = mps.ArrayDataSource(d, FLOAT32, mps.weights_from_kernel(kernel))
    # Correlated, not painted: the last tap comes first. PyTorch and TensorFlow paint; `transpose_kernel` turns theirs.
    assert_array_equal(mps.convolution_transpose(impulse, one, padding=2 << 4)[0, 0, :, 0], [2, 1, 0])
    turned = mps.ArrayDataSource(d, FLOAT32, mps.weights_from_kernel(convolution.transpose_kernel(kernel)))
    assert_array_equal(mps.convolution_transpose(impulse, turned, padding=2 << 4)[0, 0, :, 0], [0, 1, 2])


@pytest.mark.parametrize("k", [2, 3])
def test_row_size_encoding_state(k):
    """Four sizes that a stride of (2, 2) maps to one: with `output_size`, each transpose is that convolution's own."""
    w = normal(k, k, 1, 2)
    options = {"stride_in_pixels_x": 2, "stride_in_pixels_y": 2}
    forward = real_source(w, **options)
    backward = real_source(np.asarray(convolution.transpose_kernel(w)), **options)
    full = {mps.PaddingMethod.SIZE_VALID_ONLY: mps.PaddingMethod.SIZE_FULL}
    for policy, size in ((1 << 4, (5, 6)), (1 << 4 | 3 << 2, (6, 5)), (0, (7, 8))):
        x, pull_back = jax.vjp(
            lambda x, policy=policy: mps.convolution(x, forward, padding=policy), normal(1, *size, 1)
        )
        opposite = policy | full.get(policy, 0)
        (expected,) = pull_back(x)
        y = mps.convolution_transpose(x, backward, padding=opposite, output_size=size)
        assert y.shape == (1, *size, 1)
        oracle.assert_close(y, np.asarray(expected))


def test_row_convolution_gradient():
    """Each part as asked for, equal to JAX's own, in MPS's layout; sub-pixels and multipliers too."""
    x = normal(2, 5, 4, 3)
    options = {"channel_multiplier": 4, "sub_pixel_scale_factor": 2, "stride_in_pixels_x": 2}
    d = descriptor(3, 12, **options)
    weights, bias = normal(12, 3, 3, 1), normal(12)

    def forward(x, weights, bias):
        return mps.convolution(x, mps.ArrayDataSource(d, FLOAT32, weights, bias))

    y, pull_back = jax.vjp(forward, x, weights, bias)
    g = normal(*y.shape)
    source = mps.ArrayDataSource(d, FLOAT32, weights, bias)
    every = mps.convolution_gradient(x, source, g)
    for ours, expected in zip(every, pull_back(g), strict=True):
        oracle.assert_close(ours, np.asarray(expected))
    data = mps.convolution_gradient(x, source, g, option=mps.GradientOption.WITH_DATA)
    assert data.kernel is None and data.bias is None
    assert_array_equal(data.input, every.input)
    weights_only = mps.convolution_gradient(x, source, g, option=2)
    assert weights_only.input is None
    assert_array_equal(weights_only.kernel, every.kernel)


def test_row_neuron_in_a_gradient():
    """`convolution_gradient` takes the gradient before the neuron; `jax.grad` goes through it."""
    neuron = mps.NeuronDescriptor(mps.NeuronType.SIGMOID)
    fused, plain = real_source(W, fused_neuron=neuron), real_source(W)
    v, after = jax.vjp(activations.sigmoid, mps.convolution(X, plain))
    g = normal(*v.shape)
    _, pull_back = jax.vjp(lambda x: mps.convolution(x, fused), X)
    before = mps.convolution_gradient(X, fused, *after(g))
    oracle.assert_close(before.input, np.asarray(pull_back(g)[0]))


def test_row_edge_modes_mirror_and_constant():
    """Made before the input terms; a constant is padded by the caller."""
    inward = {name: TERMS[name] for name in ("input_bias_terms", "input_scale_terms")}
    for mode, name in ((mps.EdgeMode.MIRROR, "reflect"), (mps.EdgeMode.MIRROR_WITH_EDGE, "symmetric")):
        padded = np.pad(X, [(0, 0), (1, 1), (1, 1), (0, 0)], mode=name)
        for layer, source, options in (
            (mps.binary_convolution, source_of(W), {"type": XNOR, **inward}),
            (mps.convolution, real_source(W), {}),
        ):
            expected = layer(padded, source, padding=((0, 0), (0, 0)), **options)
            assert_array_equal(layer(X, source, edge_mode=mode, **options), expected)
    with pytest.raises(ValueError, match="`edge_mode` must be ZERO, CLAMP, MIRROR or MIRROR_WITH_EDGE, but was CONSTA"):
        mps.convolution(X, real_source(W), edge_mode=mps.EdgeMode.CONSTANT)


def test_row_offset_clip_rectangle_channel_offsets():
    """The offset places the rectangle's first output on the image; its origin places it in the destination."""
    source = real_source(W)
    whole = mps.convolution(X, source)
    part = mps.convolution(X, source, offset=(2, 1), clip=((3, 0), (2, 3)))
    oracle.assert_close(part, np.asarray(whole[:, 2:4, 1:4]))  # another shape may be summed in another order
    target = normal(2, 6, 4, 4)
    written = mps.convolution(X, source, offset=(2, 1), clip=((3, 0), (2, 3)), destination=target)
    expected = target.copy()
    expected[:, 3:5, 0:3] = part
    assert_array_equal(written, expected)
    assert_array_equal(mps.convolution(X, source, offset=(0, 0)), whole)
    assert_array_equal(mps.convolution(X, source, destination=np.zeros_like(whole)), whole)
    # A source's channel offset is a slice of it.
    wide = np.concatenate([normal(2, 5, 4, 3), X], -1)
    assert_array_equal(mps.convolution(wide[..., 3:], source), whole)


def test_row_cross_channel_normalization():
    x = normal(1, 2, 2, 7)
    k = np.arange(7)
    sums = [(x[..., max(0, i - 2) : min(6, i + 2) + 1] ** 2).sum(-1) for i in k]
    expected = x / (1 + np.stack(sums, -1) / 5) ** 5
    oracle.assert_close(convolution.cross_channel_normalization(x), expected)
