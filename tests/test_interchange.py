"""Kernels in other libraries' layouts: bit by bit from their descriptions, and there and back."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from numpy.testing import assert_array_equal

import jbnn
from jbnn.interchange import from_larq, from_openvino, to_larq, to_openvino

SHAPES = [(3, 3, 64, 5), (1, 1, 1, 1), (2, 3, 33, 4), (3, 1, 31, 2), (1, 2, 100, 3), (5, 2, 8, 1)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def drawn(shape):
    """A kernel of signs (kH, kW, C, O), and its words with noise in the unused bits."""
    w = oracle.sign(np.random.default_rng(0).standard_normal(shape))
    return w, oracle.with_garbage(oracle.pack(w, axis=-2), shape[2], axis=-2)


@each_shape
def test_larq_s_bits(shape):
    """Channel c is bit c % 32 of word c // 32 of (O, kH, kW, words), 1 for -1; the rest is 0."""
    w, words = drawn(shape)
    blob = np.asarray(jax.jit(functools.partial(to_larq, channels=shape[2]))(words))
    assert (blob.dtype, blob.shape) == (np.int32, (shape[3], *shape[:2], -(-shape[2] // 32)))
    bits = np.unpackbits(np.ascontiguousarray(blob).view(np.uint8), axis=-1, bitorder="little")
    assert_array_equal(bits[..., : shape[2]], w.transpose(3, 0, 1, 2) < 0)
    assert not bits[..., shape[2] :].any()


@each_shape
def test_openvino_s_bits(shape):
    """The bits of (O, C, kH, kW) in a row, 1 for +1, the first the least significant of the first byte."""
    w, words = drawn(shape)
    data = np.asarray(jax.jit(functools.partial(to_openvino, channels=shape[2]))(words))
    assert data.dtype == np.uint8
    assert_array_equal(data, np.packbits(w.transpose(3, 2, 0, 1).ravel() > 0, bitorder="little"))


@each_shape
def test_there_and_back(shape):
    w, words = drawn(shape)
    clean, channels = oracle.pack(w, axis=-2), shape[2]
    blob = to_larq(words, channels=channels)
    garbage = oracle.with_garbage(np.asarray(blob).view(np.uint32), channels)
    for stored in (blob, np.asarray(blob).view(np.uint32), garbage, garbage.view(np.int32)):
        assert_array_equal(jax.jit(functools.partial(from_larq, channels=channels))(stored), clean)
    data = to_openvino(words, channels=channels)
    back = from_openvino(data, (shape[3], shape[2], *shape[:2]))
    assert back.dtype == jnp.uint32
    assert_array_equal(back, clean)


@pytest.mark.parametrize("function", [to_larq, from_larq, to_openvino])
def test_channels_have_no_default(function):
    """A guess of 32·W would store unused bits as channels of -1."""
    with pytest.raises(TypeError, match="channels"):
        function(drawn((1, 1, 20, 1))[1])


def test_a_grouped_kernel():
    """Larq's filter of a grouped convolution holds the channels of one group, as jbnn's kernel."""
    rng = np.random.default_rng(1)
    x, w = (oracle.sign(rng.standard_normal(shape)) for shape in ((1, 4, 4, 128), (3, 3, 64, 6)))
    blob = to_larq(oracle.pack(w, axis=-2), channels=64)
    assert blob.shape == (6, 3, 3, 2)
    kernel = from_larq(blob, channels=64)
    u = jbnn.packed_conv(oracle.pack(x, groups=2), kernel, channels=128, feature_group_count=2)
    assert_array_equal(u, oracle.accumulate(x, w, feature_group_count=2))


WORDS = np.ones((3, 3, 2, 5), np.uint32)


@pytest.mark.parametrize(
    "error, call, message",
    [
        (
            TypeError,
            lambda: to_larq(WORDS.view(np.int32), channels=64),
            "`w` must hold words of dtype uint32, but has dtype int32",
        ),
        (
            TypeError,
            lambda: to_openvino(WORDS * 1.0, channels=64),
            "`w` must hold words of dtype uint32, but has dtype float",
        ),
        (
            TypeError,
            lambda: from_larq(WORDS.astype(np.uint8), channels=160),
            "`w` must have dtype int32 or uint32, but has dtype",
        ),
        (TypeError, lambda: from_openvino(WORDS, (1, 1, 1, 1)), "`data` must have dtype uint8, but has dtype uint32"),
        (TypeError, lambda: from_openvino(np.ones(1, np.uint8), (1.0, 1, 1, 1)), "`shape` must be an integer, but"),
        (TypeError, lambda: to_larq(WORDS, channels=64.0), "`channels` must be an integer, but was 64.0"),
        (ValueError, lambda: to_larq(WORDS[0], channels=64), "`w` must have 4 axes, but has shape (3, 2, 5)"),
        (ValueError, lambda: to_larq(WORDS, channels=65), "`channels` must fill the 2 words of `w`, but was 65"),
        (ValueError, lambda: to_larq(WORDS, channels=32), "`channels` must fill the 2 words of `w`, but was 32"),
        (ValueError, lambda: to_openvino(WORDS, channels=0), "`channels` must fill the 2 words of `w`, but was 0"),
        (ValueError, lambda: from_larq(WORDS, channels=64), "`channels` must fill the 5 words of `w`, but was 64"),
        (
            ValueError,
            lambda: from_openvino(np.ones(3, np.uint8), (2, 5, 1, 1)),
            "`data` must have 2 bytes for shape (2, 5, 1, 1), but has 3",
        ),
        (ValueError, lambda: from_openvino(np.ones(3, np.uint8), (2, 5, 1)), "`shape` must be (O, C, kH, kW), each at"),
        (TypeError, lambda: to_larq(WORDS.astype(np.uint64), channels=64), "uint32, but has dtype uint64"),
        (TypeError, lambda: from_larq(np.full((1, 1, 1, 1), 2**40 + 1), channels=4), "uint32, but has dtype int64"),
        (
            TypeError,
            lambda: from_openvino(np.array([13]), (1, 4, 1, 1)),
            "`data` must have dtype uint8, but has dtype int",
        ),
        (TypeError, lambda: from_openvino(b"\x0d", (1, 4, 1, 1)), "`data` must be an array of numbers"),
        (
            TypeError,
            lambda: from_openvino(np.ones(1, np.uint8), 4),
            "`shape` must be a sequence (O, C, kH, kW), but was 4",
        ),
        (ValueError, lambda: from_openvino(np.ones(0, np.uint8), (0, 5, 1, 1)), "`shape` must be (O, C, kH, kW), each"),
    ],
)
def test_what_is_refused(error, call, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_no_constant_is_sent_to_the_device():
    words = jnp.asarray(drawn((3, 3, 33, 4))[1])
    shape = (4, 33, 3, 3)
    with jax.transfer_guard("disallow"):
        assert from_larq(to_larq(words, channels=33), channels=33).shape == words.shape
        assert from_openvino(to_openvino(words, channels=33), shape).shape == words.shape
