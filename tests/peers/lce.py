"""Larq Compute Engine without TensorFlow: builds models of its operators and runs them.

A model is a chain of operators on one image. LCE packs bits as jbnn does, lowest channel first, but a bit of 1 is -1.
"""

import importlib
import importlib.util
import sys
import types
from typing import NamedTuple

import numpy as np

NAME = "larq_compute_engine"
if importlib.util.find_spec(NAME) is None or importlib.util.find_spec("flatbuffers") is None:
    sys.exit("Larq Compute Engine is not installed here; tests/peers/README.md says how")
if NAME not in sys.modules:  # its own __init__ imports TensorFlow, which running a model does not need
    package = types.ModuleType(NAME)
    package.__path__ = list(importlib.util.find_spec(NAME).submodule_search_locations)
    sys.modules[NAME] = package

# By name, because they can be imported only now that the package has a stand-in.
flatbuffers = importlib.import_module("flatbuffers")
flexbuffers = importlib.import_module("flatbuffers.flexbuffers")
schema = importlib.import_module(f"{NAME}.mlir.python.tflite_schema")
Interpreter = importlib.import_module(f"{NAME}.tflite.python.interpreter").Interpreter

KERNELS = {
    "reference": {"use_reference_bconv": True},
    "bgemm": {},
    "indirect bgemm": {"use_indirect_bgemm": True},
}
PADDING = {"SAME": 0, "VALID": 1}


def words_of(count):
    return -(-count // 32)


def pack(values):
    """Words of the last axis: a bit is 1 where the value is negative."""
    spare = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % 32)]
    octets = np.packbits(np.pad(values < 0, spare), axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view("<i4")


class Conv(NamedTuple):
    """LceBconv2d with words out: a bit is 1, for -1, where more products than `thresholds` are -1."""

    kernel: np.ndarray  # ±1, (O, kH, kW, C/G)
    channels: int
    thresholds: np.ndarray
    strides: tuple
    dilation: tuple
    padding: str  # "SAME" surrounds the image with +1

    def output(self, height, width):
        window = [(k - 1) * d + 1 for k, d in zip(self.kernel.shape[1:3], self.dilation, strict=True)]
        return sizes((height, width), window, self.strides, self.padding), self.kernel.shape[0]

    def operator(self):
        return "LceBconv2d", (pack(self.kernel), None, None, self.thresholds.astype(np.int32)), self.options()

    def options(self):
        return {
            "channels_in": self.channels,
            "dilation_height_factor": self.dilation[0],
            "dilation_width_factor": self.dilation[1],
            "fused_activation_function": 0,
            "pad_values": 1,
            "padding": PADDING[self.padding],
            "stride_height": self.strides[0],
            "stride_width": self.strides[1],
        }


class Sums(NamedTuple):
    """LceBconv2d with the sums of products out, as floats."""

    words: np.ndarray  # the filter as LCE stores it, int32 (O, kH, kW, ceil(C/G/32))
    channels: int
    strides: tuple
    dilation: tuple
    padding: str
    border: int  # what "SAME" surrounds the image with: 0 or 1

    def output(self, height, width):
        window = [(k - 1) * d + 1 for k, d in zip(self.words.shape[1:3], self.dilation, strict=True)]
        return sizes((height, width), window, self.strides, self.padding), self.words.shape[0]

    def operator(self):
        ones = np.ones(self.words.shape[0], np.float32)
        packed = Conv(self.words, self.channels, ones, self.strides, self.dilation, self.padding)
        return "LceBconv2d", (self.words, ones, 0 * ones, None), {**packed.options(), "pad_values": self.border}


class MaxPool(NamedTuple):
    """LceBMaxPool2d, on words."""

    window: tuple
    strides: tuple
    padding: str
    channels: int

    def output(self, height, width):
        return sizes((height, width), self.window, self.strides, self.padding), self.channels

    def operator(self):
        options = {
            "filter_height": self.window[0],
            "filter_width": self.window[1],
            "padding": PADDING[self.padding],
            "stride_height": self.strides[0],
            "stride_width": self.strides[1],
        }
        return "LceBMaxPool2d", (), options


def sizes(image, window, strides, padding):
    if padding == "SAME":
        return [-(-n // s) for n, s in zip(image, strides, strict=True)]
    return [(n - k) // s + 1 for n, k, s in zip(image, window, strides, strict=True)]


def run(x, layers, kernel):
    """The bits that leave a chain of layers, as bool (N, H, W, O), True for +1."""
    model, features = build(x.shape, layers)
    words = Interpreter(model, 1, **KERNELS[kernel]).predict(x)
    octets = np.ascontiguousarray(np.asarray(words).astype("<i4")).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little").astype(bool)
    if bits[..., features:].any():
        raise AssertionError("LCE left unused bits set")
    return ~bits[..., :features]


def sums(x, layer, kernel):
    """What a layer of `Sums` returns, (N, H, W, O)."""
    model, _ = build(x.shape, [layer])
    return np.asarray(Interpreter(model, 1, **KERNELS[kernel]).predict(x))


def build(shape, layers):
    """A model of LceQuantize and the layers, and the channels that it returns."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers, graph.tensors, graph.operators = [schema.BufferT()], [], []

    def tensor(shape, dtype, constant=None):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = f"t{len(graph.tensors)}", list(shape), dtype, 0
        if constant is not None:
            stored = schema.BufferT()
            stored.data = np.frombuffer(constant.tobytes(), np.uint8)
            model.buffers.append(stored)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(name, inputs, output, options):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = name, 1
        model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        made.customOptions = flexible(options)
        graph.operators.append(made)
        return output

    types = {np.dtype(np.int32): schema.TensorType.INT32, np.dtype(np.float32): schema.TensorType.FLOAT32}
    int32 = schema.TensorType.INT32
    batch, height, width, features = shape
    image = tensor(shape, schema.TensorType.FLOAT32)
    last = operator("LceQuantize", [image], tensor((batch, height, width, words_of(features)), int32), {})
    for layer in layers:
        name, constants, options = layer.operator()
        inputs = [last, *(-1 if c is None else tensor(c.shape, types[c.dtype], c) for c in constants)]
        (height, width), features = layer.output(height, width)
        floats = isinstance(layer, Sums)
        depth, dtype = (features, schema.TensorType.FLOAT32) if floats else (words_of(features), int32)
        last = operator(name, inputs, tensor((batch, height, width, depth), dtype), options)
    graph.inputs, graph.outputs = [image], [last]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), features


def flexible(options):
    """Options of a custom operator, in FlexBuffers."""
    if not options:
        return []
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, value in options.items():
            builder.Key(name)
            builder.Int(value)
    return np.frombuffer(bytes(builder.Finish()), np.uint8)
