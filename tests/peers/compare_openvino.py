"""jbnn against OpenVINO's `BinaryConvolution`: sums of xnor over a grid, with kernels that go there and back.

    python tests/peers/compare_openvino.py

Its CPU plugin was seen to be wrong where C is not a multiple of 8, and has no groups; elsewhere both must be exact.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import openvino
from openvino import opset1

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import oracle

import jbnn

RNG = np.random.default_rng(0)
CORE = openvino.Core()


def signs(*shape):
    return RNG.choice(np.float32([-1, 1]), shape)


def theirs(x, data, shape, strides, pairs, dilation, pad_value):
    """Sums of an image (N, H, W, C) of ±1 with the u1 constant `data` of shape (O, C, kH, kW)."""
    image = opset1.parameter([x.shape[0], x.shape[3], *x.shape[1:3]], np.float32)
    number = [opset1.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1)]
    bits = opset1.fake_quantize(image, number[0], number[0], number[0], number[1], 2)  # 1 where x > 0, else 0
    tensor = openvino.Tensor(data, openvino.Shape(shape), openvino.Type.u1)  # shares the memory of `data`
    low, high = zip(*pairs, strict=True)
    y = opset1.binary_convolution(
        bits, openvino.op.Constant(tensor), strides, low, high, dilation, "xnor-popcount", float(pad_value)
    )
    compiled = CORE.compile_model(openvino.Model([y], [image], "conv"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.moveaxis(compiled([np.ascontiguousarray(np.moveaxis(x, -1, 1))])[0], 1, -1)


def grid():
    windows = ((1, 1), ((0, 0), (0, 0))), ((3, 3), ((1, 1), (1, 1))), ((2, 3), ((0, 2), (1, 0)))
    geometries = itertools.product(windows, ((1, 1), (2, 3)), ((1, 1), (2, 1)))
    return itertools.product(geometries, (8, 32, 40, 96), (1, 5, 64), (0, 1, -1))


def main():
    wrong, count = {"jbnn": 0, "OpenVINO": 0}, 0
    for (((kh, kw), pairs), strides, dilation), channels, features, pad_value in grid():
        x, w = signs(2, 7, 6, channels), signs(kh, kw, channels, features)
        options = {"window_strides": strides, "padding": pairs, "rhs_dilation": dilation, "pad_value": pad_value}
        data = np.array(jbnn.interchange.to_openvino(jbnn.pack(w, axis=-2), channels=channels))
        shape = features, channels, kh, kw
        kernel = jbnn.interchange.from_openvino(data, shape)
        expected = oracle.accumulate(x, w, **options)
        results = {
            "jbnn": jbnn.packed_conv(jbnn.pack(x), kernel, channels=channels, **options),
            "OpenVINO": theirs(x, data, shape, strides, pairs, dilation, pad_value),
        }
        count += 1
        for name, y in results.items():
            wrong[name] += not np.array_equal(y, expected)
    for name, times in wrong.items():
        print(f"{name}: {count - times} of {count} convolutions equal the sums of floats")
    sys.exit(any(wrong.values()))


if __name__ == "__main__":
    main()
