"""The binary rows of the table in docs/mps.md: each test has the name of its row."""

import chex
import jax
import jax.numpy as jnp
import mps_oracle
import numpy as np
import oracle
import pytest
from mps_cases import (
    AND,
    BETA,
    BINARY_WEIGHTS,
    FLOAT32,
    TERMS,
    UINT32,
    XNOR,
    W,
    X,
    descriptor,
    normal,
    one_pixel,
    one_tap,
    real_source,
    row_of_three,
    source_of,
)
from numpy.testing import assert_allclose, assert_array_equal

import jbnn
from jbnn import mps


def test_row_type_binaryweights_xnor_and():
    """The hand-checked vector: x = [0, -0.5, 2] against the word 3, which is (+1, +1, -1)."""
    x = one_pixel([0.0, -0.5, 2.0])
    for word in (3, 0xFFFFFFFB):  # the bits above the third are nobody's
        results = [mps.binary_convolution(x, one_tap(word, 3), type=type).item() for type in (0, 1, 2)]
        assert results == [-2.5, -1.0, 1.0]
    assert jbnn.pack(x.reshape(3)) == 5


def test_row_sign_of_0_0_and_nan():
    x = one_pixel([0.0, -0.0, np.nan, -np.inf, -1e-45])
    for type, expected in ((XNOR, 3 - 2), (AND, 3)):
        assert mps.binary_convolution(x, one_tap(31, 5), type=type).item() == expected


def test_row_pre_affine():
    """Bias first: z = (x + 1)·(-1) = [-1, -0.5, -3] is the word 0; scale first it would be the word 3."""
    terms = {"input_bias_terms": jnp.ones(3), "input_scale_terms": -jnp.ones(3)}
    x = one_pixel([0.0, -0.5, 2.0])
    assert mps.binary_convolution(x, one_tap(7, 3), type=XNOR, **terms).item() == -3
    assert mps.binary_convolution(x, one_tap(7, 3), type=AND, **terms).item() == 0
    assert mps.binary_convolution(x, one_tap(7, 3), type=BINARY_WEIGHTS, **terms).item() == -4.5


def test_row_output_scale():
    x, source = one_pixel([1.0, 1.0]), one_tap(3, 2)
    assert mps.binary_convolution(x, source, type=XNOR).item() == 2
    assert mps.binary_convolution(x, source, type=XNOR, scale_value=3).item() == 6
    assert mps.binary_convolution(x, source, type=XNOR, output_scale_terms=jnp.float32([3])).item() == 6


def test_row_output_bias():
    """The scale-value initialiser takes the source's bias, the four-term one does not; no scale touches it."""
    x, source = one_pixel([1.0, 1.0]), one_tap(3, 2, bias=10.0)
    assert mps.binary_convolution(x, source, type=XNOR, scale_value=3.0).item() == 16
    assert mps.binary_convolution(x, source, type=XNOR).item() == 2
    own = {"output_bias_terms": jnp.float32([0.5]), "output_scale_terms": jnp.float32([3])}
    assert mps.binary_convolution(x, source, type=XNOR, **own).item() == 6.5


def test_row_order_of_the_formula():
    """neuron(u·scale·beta + bias): u = -1, scale 2, beta 2.5/3, bias 0.5."""
    x, source = one_pixel([0.0, -0.5, 2.0]), one_tap(3, 3, bias=0.5)
    plain = mps.binary_convolution(x, source, type=XNOR, scale_value=2.0)
    scaled = mps.binary_convolution(x, source, type=XNOR, flags=BETA, scale_value=2.0)
    assert_allclose([plain.item(), scaled.item()], [-1.5, -7 / 6], rtol=1e-6)
    neuron = mps.NeuronDescriptor(mps.NeuronType.ABSOLUTE)
    d = descriptor(3, 1, 1, fused_neuron=neuron)
    y = mps.binary_convolution(
        x, mps.ArrayDataSource(d, UINT32, np.uint32([3]), jnp.float32([0.5])), type=XNOR, scale_value=2.0
    )
    assert y.item() == 1.5


def test_row_beta_flag():
    """Of every type, after the input terms, with the layer's own stride, dilation and offset."""
    options = {"stride_in_pixels_y": 2, "dilation_rate_x": 2}
    source = source_of(W, **options)
    geometry = {"size": (3, 3), "stride": (2, 1), "dilation": (1, 2), "offset": (1, -1)}
    inward = {name: TERMS[name] for name in ("input_bias_terms", "input_scale_terms")}
    bits = (np.moveaxis(W, -1, 0) >= 0).astype(int)
    for type in mps.BinaryConvolutionType:
        y = mps.binary_convolution(X, source, type=type, flags=1, offset=(1, -1), clip=((0, 0), (3, 3)), **inward)
        affine = {"input_bias": TERMS["input_bias_terms"], "input_scale": TERMS["input_scale_terms"]}
        oracle.assert_close(
            y, mps_oracle.binary_convolution(X, bits, type=type, beta_scaling=True, **affine, **geometry)
        )


def test_row_beta_at_borders():
    """x = 1: the window's mean of |z| is 2/3 where one of three taps reads the border's 0."""
    x, source = jnp.ones((1, 1, 3, 1)), row_of_three()
    beta = mps.binary_convolution(x, source, type=XNOR, flags=BETA) / mps.binary_convolution(x, source, type=XNOR)
    assert_allclose(beta[0, 0, :, 0], [2 / 3, 1, 2 / 3], rtol=1e-6)
    clamped = {"edge_mode": mps.EdgeMode.CLAMP}
    y = mps.binary_convolution(x, source, type=XNOR, flags=BETA, **clamped)
    assert_array_equal(y, mps.binary_convolution(x, source, type=XNOR, **clamped))
    # The border goes through the input terms first: (0 + 5)·1.
    y = mps.binary_convolution(x, source, type=XNOR, flags=BETA, input_bias_terms=jnp.float32([5]))
    assert_allclose(y[0, 0, :, 0], 3 * np.array([17, 18, 17]) / 3, rtol=1e-6)


def test_row_out_of_image_taps_xnor_and():
    """The door's zeros become +1, or what the input terms make of them; `binary_conv` says what a tap holds."""
    x, source = jnp.ones((1, 1, 3, 1)), row_of_three()
    assert_array_equal(mps.binary_convolution(x, source, type=XNOR)[0, 0, :, 0], [3, 3, 3])
    assert_array_equal(mps.binary_convolution(x, source, type=AND)[0, 0, :, 0], [3, 3, 3])
    lowered = {"input_bias_terms": jnp.float32([-0.5])}
    assert_array_equal(mps.binary_convolution(x, source, type=XNOR, **lowered)[0, 0, :, 0], [1, 3, 1])
    assert_array_equal(mps.binary_convolution(x, source, type=AND, **lowered)[0, 0, :, 0], [2, 3, 2])
    w = jnp.ones((1, 3, 1, 1))
    for pad_value, expected in ((0, [2, 3, 2]), (1, [3, 3, 3]), (-1, [1, 3, 1])):
        assert_array_equal(jbnn.binary_conv(x, w, pad_value=pad_value)[0, 0, :, 0], expected)


def test_row_out_of_image_taps_binaryweights():
    x, source = jnp.ones((1, 1, 3, 1)), row_of_three()
    assert_array_equal(mps.binary_convolution(x, source, type=BINARY_WEIGHTS)[0, 0, :, 0], [2, 3, 2])
    y = mps.binary_convolution(x, source, type=BINARY_WEIGHTS, input_bias_terms=jnp.float32([1]))
    assert_array_equal(y[0, 0, :, 0], [5, 6, 5])
    w = jnp.ones((1, 3, 1, 1))
    y = jbnn.binary_conv(x, w, mode="binary_weights", pad_value=0.5)
    assert_array_equal(y[0, 0, :, 0], [2.5, 3, 2.5])


def test_row_clamp_edge():
    x = jnp.float32([-1, 1, 1, 1]).reshape(1, 1, 4, 1)
    d = mps.ConvolutionDescriptor(kernel_height=1, kernel_width=5, input_feature_channels=1, output_feature_channels=1)
    source = mps.ArrayDataSource(d, UINT32, np.ones(5, np.uint32))
    y = mps.binary_convolution(x, source, type=XNOR, edge_mode=mps.EdgeMode.CLAMP)
    assert_array_equal(y[0, 0, :, 0], [-1, 1, 3, 5])
    # Wholly beside the image every tap reads the last pixel.
    far = mps.binary_convolution(x, source, type=XNOR, edge_mode=1, offset=(0, 50), clip=((0, 0), (1, 2)))
    assert_array_equal(far[0, 0, :, 0], [5, 5])
    # The replicated pixel goes through the input terms as the image does.
    y = mps.binary_convolution(x, source, type=BINARY_WEIGHTS, edge_mode=1, input_bias_terms=jnp.float32([1]))
    assert_array_equal(y[0, 0, :, 0], [4, 6, 8, 10])


def test_row_channels_that_fill_no_word():
    """C = 33: two words, of the second one bit is used, whatever the others hold."""
    source = source_of(W)
    noisy = oracle.with_garbage(np.asarray(source.weights), 33)
    assert (noisy != source.weights).any()
    foreign = mps.ArrayDataSource(source.descriptor, UINT32, noisy)
    expected = mps.binary_convolution(X, source, type=XNOR)
    assert_array_equal(mps.binary_convolution(X, foreign, type=XNOR), expected)
    kernel = mps.unpack_weights(noisy, source.descriptor)
    assert_array_equal(kernel, oracle.sign(W))
    assert_array_equal(mps.unpack_weights(noisy, source.descriptor, dtype=jnp.uint32), jbnn.pack(W, axis=-2))
    assert_array_equal(mps.pack_weights(kernel), source.weights)  # written as 0


def test_row_packing_order():
    """Channel 13 is 1 << 13; channel 33 is bit 1 of the second word."""
    for channel, word, bit in ((0, 0, 0), (13, 0, 13), (31, 0, 31), (32, 1, 0), (33, 1, 1)):
        w = -np.ones((1, 1, 40, 1), np.float32)
        w[0, 0, channel, 0] = 1
        blob = np.asarray(mps.pack_weights(w))
        expected = np.zeros((1, 1, 1, 2), np.uint32)
        expected[0, 0, 0, word] = 1 << bit
        assert_array_equal(blob, expected)
    assert np.asarray(mps.pack_weights(-w)).tobytes()[:4] == np.uint32(0xFFFFFFFF).tobytes()


def test_row_bit_of_a_float_weight():
    w = jnp.float32([1, -1, 0, -0.0, np.nan, -1e-45]).reshape(1, 1, 6, 1)
    assert mps.pack_weights(w).item() == 0b011101
    assert_array_equal(mps.unpack_weights(mps.pack_weights(w), descriptor(6, 1, 1))[0, 0, :, 0], [1, -1, 1, 1, 1, -1])


def test_row_groups_binary():
    """Two groups of 33 channels: two words for each, a word begins with its group."""
    w = normal(3, 3, 33, 4)
    x = normal(2, 5, 4, 66)
    source = source_of(w, groups=2)
    assert source.weights.shape == source.descriptor.words_shape == (4, 3, 3, 2)
    bits = (np.moveaxis(w, -1, 0) >= 0).astype(int)
    for type in (XNOR, AND):
        expected = mps_oracle.binary_convolution(x, bits, type=type, size=(5, 4), groups=2)
        assert_array_equal(mps.binary_convolution(x, source, type=type), expected)


def test_row_stride_dilation_binary():
    """A window of 2 taps, 3 apart, centred on its span of 4: rows S·y - 2 and S·y + 1."""
    d = mps.ConvolutionDescriptor(
        kernel_height=1,
        kernel_width=2,
        input_feature_channels=1,
        output_feature_channels=1,
        stride_in_pixels_x=2,
        dilation_rate_x=3,
    )
    x = jnp.float32([1, -1, -1, 1, 1, -1]).reshape(1, 1, 6, 1)
    source = mps.ArrayDataSource(d, UINT32, np.uint32([1, 1]))
    y = mps.binary_convolution(x, source, type=XNOR, offset=(0, 0))
    assert_array_equal(y[0, 0, :, 0], [1 - 1, 1 + 1, -1 - 1])


@pytest.mark.parametrize("k", [2, 4])
def test_row_even_kernels(k):
    """The door reads offset - k/2 to offset + k/2 - 1; `binary_conv` pads as "SAME" in lax, (k - 1)//2 before."""
    w = normal(k, k, 33, 4)
    bits = (np.moveaxis(w, -1, 0) >= 0).astype(int)
    y = mps.binary_convolution(X, source_of(w), type=XNOR, flags=BETA)
    oracle.assert_close(y, mps_oracle.binary_convolution(X, bits, type=1, size=(5, 4), beta_scaling=True))
    ours = jbnn.binary_conv(X, w, beta_scaling=True)
    oracle.assert_close(ours, oracle.binary_conv(X, w, beta_scaling=True, padding=[((k - 1) // 2, k // 2)] * 2))
    impulse = jnp.zeros((1, 1, 9, 1)).at[0, 0, 4, 0].set(1.0)
    row = mps.ConvolutionDescriptor(
        kernel_height=1, kernel_width=k, input_feature_channels=1, output_feature_channels=1
    )
    seen = mps.convolution(impulse, mps.ArrayDataSource(row, FLOAT32, jnp.arange(1.0, k + 1)))[0, 0, :, 0]
    assert_array_equal(seen, {2: [0, 0, 0, 0, 2, 1, 0, 0, 0], 4: [0, 0, 0, 4, 3, 2, 1, 0, 0]}[k])


def test_row_binary_fully_connected():
    """The window is the image, a word begins at each pixel, and beta is one number for each image."""
    w, x = normal(2, 3, 33, 4), normal(2, 2, 3, 33)
    d = mps.ConvolutionDescriptor(kernel_height=2, kernel_width=3, input_feature_channels=33, output_feature_channels=4)
    source = mps.ArrayDataSource(d, UINT32, mps.pack_weights(w))
    assert source.weights.shape == (4, 2, 3, 2)
    y = mps.binary_fully_connected(x, source, type=XNOR)
    flat, words = x.reshape(2, -1), mps.dense_words(source.weights, d)
    assert y.shape == (2, 1, 1, 4)
    assert words.shape == (7, 4)  # 198 channels without gaps
    assert_array_equal(y[:, 0, 0], jbnn.binary_dense(flat, words))
    assert_array_equal(mps.weights_from_dense_words(words, d), source.weights)
    scaled = mps.binary_fully_connected(x, source, type=XNOR, flags=BETA, **TERMS)
    affine = (x + TERMS["input_bias_terms"]) * TERMS["input_scale_terms"]
    u = oracle.sign(affine).reshape(2, -1) @ oracle.sign(w).reshape(-1, 4)
    beta = np.abs(affine).mean((1, 2, 3))[:, None]
    expected = u * TERMS["output_scale_terms"] * beta + TERMS["output_bias_terms"]
    oracle.assert_close(scaled[:, 0, 0], expected)


def test_row_batch_normalization():
    """W·I and b·I + J of a real layer; the scale and the bias of a binary one, whatever the sign of I."""
    bias = normal(4)
    mean, variance, gamma, beta = normal(4), np.abs(normal(4)), np.float32([1, -2, 3, -4]), normal(4)
    norm = mps.BatchNormalization(mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=1e-3)
    factor = gamma / np.sqrt(variance + 1e-3)

    def normalised(y):
        return (oracle.real(y) - mean) * factor + beta

    plain, folded = (real_source(W, bias, **options) for options in ({}, {"batch_normalization": norm}))
    oracle.assert_close(mps.convolution(X, folded), normalised(mps.convolution(X, plain)))
    plain, folded = (source_of(W, bias, **options) for options in ({}, {"batch_normalization": norm}))
    for options in ({"scale_value": 0.5}, TERMS, {}):
        y = mps.binary_convolution(X, plain, type=XNOR, flags=BETA, **options)
        oracle.assert_close(mps.binary_convolution(X, folded, type=XNOR, flags=BETA, **options), normalised(y))
    without = mps.BatchNormalization(mean=[0.0] * 4, variance=[3.0] * 4, epsilon=1.0)  # gamma 1, beta 0
    halved = mps.binary_convolution(X, source_of(W, batch_normalization=without), type=XNOR)
    assert_array_equal(halved, mps.binary_convolution(X, source_of(W), type=XNOR) / 2)


@pytest.mark.usefixtures("x64")
def test_batch_normalization_in_float64():
    """Of an image of float64 everything is: 0.1 and 1.1 are not rounded to float32."""
    norm = mps.BatchNormalization(mean=[0.1], variance=[0.1], epsilon=1.0)
    d = descriptor(1, 1, 1, batch_normalization=norm)
    source = mps.ArrayDataSource(d, FLOAT32, np.ones(1, np.float32), np.float64([0.3]))
    x = np.ones((1, 1, 1, 1))
    expected = (1.3 - 0.1) / np.sqrt(0.1 + 1.0)
    for y in (mps.convolution(x, source), mps.binary_convolution(x, source, type=XNOR, scale_value=1.0)):
        assert_allclose(y.item(), expected, rtol=1e-14)


def test_row_batch_normalization_and_sign():
    """What MPS has no name for: the pair as one comparison of integers."""
    mean, variance, gamma = normal(4) * 10, np.abs(normal(4)), np.float32([1, -2, 3, -4])
    scale, bias = jbnn.fold_batch_norm(mean, variance, gamma, epsilon=1e-3)
    words = mps.unpack_weights(mps.pack_weights(W), descriptor(), dtype=jnp.uint32)
    packed = jbnn.packed_conv(jbnn.pack(X), words, channels=33, pad_value=1, threshold=jbnn.sign_threshold(scale, bias))
    norm = mps.BatchNormalization(mean=mean, variance=variance, gamma=gamma, epsilon=1e-3)
    y = mps.binary_convolution(X, source_of(W, batch_normalization=norm), type=XNOR)
    assert_array_equal(packed, jbnn.pack(y))


def test_row_binary_gradients():
    """What MPS lacks: the door is differentiable in latent weights, in x and in every term, borders and beta included.

    Against the same float expression with the straight-through sign, written with JAX's own convolution.
    """
    d = descriptor(33, 4, stride_in_pixels_y=2)
    latent = normal(4, 3, 3, 33)

    def door(latent, x, terms):
        source = mps.ArrayDataSource(d, FLOAT32, latent)
        return mps.binary_convolution(x, source, type=XNOR, flags=BETA, **terms)

    def floats(latent, x, terms):
        padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        z = (padded + terms["input_bias_terms"].reshape(1, 1, 1, -1)) * terms["input_scale_terms"].reshape(1, 1, 1, -1)
        layout = ("NHWC", "OHWI", "NHWC")
        ste = jbnn.quantizers.ste_sign
        u = jax.lax.conv_general_dilated(ste(z), ste(latent), (2, 1), "VALID", dimension_numbers=layout)
        mean = jnp.abs(z).mean(-1, keepdims=True)
        box = jnp.full((1, 3, 3, 1), 1 / 9, jnp.float32)
        beta = jax.lax.conv_general_dilated(mean, box, (2, 1), "VALID", dimension_numbers=layout)
        scale, bias = (terms[f"output_{name}_terms"].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
        return u * scale * beta + bias

    assert mps.binary_convolution(X, mps.ArrayDataSource(d, FLOAT32, latent), type=XNOR).shape == (2, 3, 4, 4)
    ours, theirs = (
        jax.grad(lambda *args, f=f: jnp.sum(jnp.cos(f(*args))), argnums=(0, 1, 2))(latent, X, TERMS)
        for f in (door, floats)
    )
    for ours_leaf, theirs_leaf in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        oracle.assert_close(ours_leaf, np.asarray(theirs_leaf), tolerance=1e-4)
    words = mps.ArrayDataSource(d, UINT32, mps.pack_weights(mps.kernel_from_weights(latent, d)))
    assert_array_equal(mps.binary_convolution(X, words, type=XNOR, flags=BETA, **TERMS), door(latent, X, TERMS))


def test_a_data_source_is_a_pytree_that_trains():
    source = mps.ArrayDataSource(descriptor(), FLOAT32, normal(4, 3, 3, 33), normal(4))

    @jax.jit
    def loss(source):
        return jnp.sum(jnp.cos(mps.binary_convolution(X, source, type=XNOR, scale_value=0.1)))

    gradient = jax.grad(loss)(source)
    assert gradient.descriptor == source.descriptor
    assert gradient.weights.shape == (4, 3, 3, 33) and jnp.abs(gradient.weights).max() > 0
    frozen = jax.grad(lambda source: loss(jax.lax.stop_gradient(source)))(source)
    assert not frozen.weights.any()  # MPS's training style "none"


def test_row_nan_and_inf_in_beta():
    """The bits are those of the signs; beta becomes NaN or infinite where a window holds one."""
    x = jnp.float32([1, np.nan, 1, 1, 1, -np.inf]).reshape(1, 1, 6, 1)
    source = row_of_three()
    assert_array_equal(mps.binary_convolution(x, source, type=XNOR)[0, 0, :, 0], [3, 3, 3, 3, 1, 1])
    y = mps.binary_convolution(x, source, type=XNOR, flags=BETA)[0, 0, :, 0]
    assert_array_equal(jnp.isnan(y), [True, True, True, False, False, False])
    assert_array_equal(jnp.isinf(y), [False, False, False, False, True, True])


def test_row_input_validation():
    """The rest is in test_mps_errors.py."""
    with pytest.raises(ValueError, match=r"`x` must have `input_feature_channels` = 33 channels, but has shape"):
        mps.binary_convolution(X[..., :32], source_of(W), type=XNOR)


def test_equal_descriptors_are_traced_once():
    def layer(x, source):
        return mps.binary_convolution(x, source, type=XNOR)

    counted = jax.jit(chex.assert_max_traces(layer, n=1))
    prelu = mps.NeuronDescriptor(10, prelu=jnp.arange(4.0))
    same = mps.NeuronDescriptor(mps.NeuronType.PRELU, prelu=(0.0, 1.0, 2.0, 3.0))
    results = [counted(X, source_of(W, fused_neuron=neuron)) for neuron in (prelu, same)]
    assert_array_equal(*results)
