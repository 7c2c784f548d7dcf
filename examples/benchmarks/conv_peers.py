"""The same convolutions in OpenVINO and PyTorch, for `conv.py --peers`: images NCHW, on a given number of threads."""

import os
from collections.abc import Callable

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait by spinning take the cores from everybody

import openvino
import torch
from openvino import opset1

Call = Callable[[], object]


def openvino_conv(x: np.ndarray, w: np.ndarray, threads: int) -> tuple[Call, Callable[[], float]]:
    """Signs x (N, H, W, C) and w (3, 3, C, O): the whole call, from floats to floats, and seconds of its node alone."""
    image = opset1.parameter([x.shape[0], x.shape[3], *x.shape[1:3]], np.float32)
    number = [opset1.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1)]
    bits = opset1.fake_quantize(image, number[0], number[0], number[0], number[1], 2)
    data = np.packbits(np.transpose(w, (3, 2, 0, 1)).ravel() > 0, bitorder="little")
    kernel = openvino.op.Constant(
        openvino.Tensor(data, openvino.Shape(np.transpose(w, (3, 2, 0, 1)).shape), openvino.Type.u1)
    )
    ones = [1, 1]
    y = opset1.binary_convolution(bits, kernel, ones, ones, ones, ones, "xnor-popcount", 0.0)
    options = {"INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Model([y], [image], "conv"), "CPU", options)
    request = compiled.create_infer_request()
    planes = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    expected = torch_reference(x, w)
    np.testing.assert_array_equal(np.moveaxis(request.infer([planes])[0], 1, -1), expected)

    def node() -> float:
        times = []
        for _ in range(50):
            request.infer([planes])
            times += [n.real_time.total_seconds() for n in request.profiling_info if "BinaryConv" in n.node_type]
        return float(np.median(times))

    return lambda: (request.infer([planes]), data), node


def torch_conv(x: np.ndarray, w: np.ndarray, threads: int, dtype: torch.dtype) -> Call:
    """Its own convolution of floats, which oneDNN does with the widest instructions that there are."""
    torch.set_num_threads(threads)
    image = torch.tensor(np.moveaxis(x, -1, 1)).to(dtype, memory_format=torch.channels_last)
    kernel = torch.tensor(np.transpose(w, (3, 2, 0, 1))).to(dtype, memory_format=torch.channels_last)

    def call() -> object:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(image, kernel, padding=1)

    return call


def torch_reference(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    y = torch_conv(x, w, 1, torch.float32)()
    return np.moveaxis(y.numpy(), 1, -1)
