"""The example networks in PyTorch, made of the parts of a network that was deployed with float kernels."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional as F

from examples.models.layers import Affine, Part


def network(name: str, parts: Iterable[Part]) -> Callable[[np.ndarray], torch.Tensor]:
    """A function of images (N, H, W, C), in PyTorch's channels-last layout."""
    steps = [(FUNCTIONS[name, part.kind], jax.tree.map(_tensor, part.params)) for part in parts]

    @torch.inference_mode()
    def run(images: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(images).permute(0, 3, 1, 2)
        for function, params in steps:
            x = function(params, x)
        return x

    return run


def _quicknet_stem(p: Any, x: torch.Tensor) -> torch.Tensor:
    x = F.relu(_affine(_conv(x, p.conv, 2), p.norms[0]))
    x = _affine(_conv(x, p.depthwise, 2, groups=x.shape[1]), p.norms[1])
    return _affine(_pointwise(x, p.pointwise), p.norms[2])


def _transition(p: Any, x: torch.Tensor) -> torch.Tensor:
    x = F.max_pool2d(F.relu(x), 2, 1)
    weights = torch.tensor([0.25, 0.5, 0.25])
    x = _conv(x, torch.outer(weights, weights).expand(x.shape[1], 1, 3, 3), 2, groups=x.shape[1])
    return _affine(_pointwise(x, p.pointwise), p.norm)


def _residual(p: Any, x: torch.Tensor) -> torch.Tensor:
    return x + _affine(F.relu(_conv(_sign(x), p.kernel, pad_value=1.0)), p.norm)


def _birealnet_stem(p: Any, x: torch.Tensor) -> torch.Tensor:
    kernel, norm = p
    return F.max_pool2d(_pad_same(_affine(_conv(x, kernel, 2), norm), 3, 2, -math.inf), 3, 2)


def _block(p: Any, x: torch.Tensor) -> torch.Tensor:
    return x + _affine(_conv(_sign(x), p.kernel), p.norm)


def _block_by_2(p: Any, x: torch.Tensor) -> torch.Tensor:
    shortcut = _affine(_pointwise(F.avg_pool2d(x, 2), p.shortcut.pointwise), p.shortcut.norm)
    return shortcut + _affine(_conv(_sign(x), p.kernel, 2), p.norm)


def _head(p: Any, x: torch.Tensor) -> torch.Tensor:
    kernel, bias = p
    return F.linear(x.mean((2, 3)), kernel, bias)


def _first_layer(p: Any, x: torch.Tensor) -> torch.Tensor:
    return _affine(_conv(2 * x.float() - 255, p.kernel), p.norm)


def _binary_conv(p: Any, x: torch.Tensor) -> torch.Tensor:
    return _affine(_conv(_sign(x), p.kernel), p.norm)


def _binary_conv_pooled(p: Any, x: torch.Tensor) -> torch.Tensor:
    return _affine(F.max_pool2d(_conv(_sign(x), p.kernel), 2), p.norm)


def _binary_dense(p: Any, x: torch.Tensor) -> torch.Tensor:
    x = _sign(x)
    if x.ndim == 4:
        x = x.permute(0, 2, 3, 1).flatten(1)
    return _affine(F.linear(x, p.kernel), p.norm)


FUNCTIONS = {
    ("QuickNet", "stem"): _quicknet_stem,
    ("QuickNet", "binary residual"): _residual,
    ("QuickNet", "transition"): _transition,
    ("QuickNet", "head"): lambda p, x: _head(p, F.relu(x)),
    ("Bi-Real-18", "stem"): _birealnet_stem,
    ("Bi-Real-18", "binary block"): _block,
    ("Bi-Real-18", "binary block by 2"): _block_by_2,
    ("Bi-Real-18", "head"): _head,
    ("BinaryNet", "first layer"): _first_layer,
    ("BinaryNet", "binary conv"): _binary_conv,
    ("BinaryNet", "binary conv, pooled"): _binary_conv_pooled,
    ("BinaryNet", "binary dense"): _binary_dense,
}


def _tensor(leaf: jax.Array) -> torch.Tensor:
    """JAX's HWIO, HWC and IO as PyTorch's OIHW, O1HW and OI."""
    array = np.array(leaf)
    if array.ndim == 4:
        return torch.from_numpy(array.transpose(3, 2, 0, 1)).contiguous(memory_format=torch.channels_last)
    if array.ndim == 3:
        return torch.from_numpy(array.transpose(2, 0, 1)[:, None]).contiguous()
    return torch.from_numpy(array.T).contiguous()


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x < 0, -1.0, 1.0)


def _affine(x: torch.Tensor, terms: Affine) -> torch.Tensor:
    shape = (-1,) + (1,) * (x.ndim - 2)
    if terms.scale is not None:
        x = x * terms.scale.reshape(shape)
    return x + terms.bias.reshape(shape)


def _pointwise(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, kernel[:, :, None, None])


def _conv(
    x: torch.Tensor, kernel: torch.Tensor, stride: int = 1, pad_value: float = 0.0, groups: int = 1
) -> torch.Tensor:
    return F.conv2d(_pad_same(x, kernel.shape[-1], stride, pad_value), kernel, stride=stride, groups=groups)


def _pad_same(x: torch.Tensor, window: int, stride: int, value: float) -> torch.Tensor:
    """JAX's "SAME": the odd row at the high end, which PyTorch's convolution cannot pad itself."""
    totals = [max((-(-n // stride) - 1) * stride + window - n, 0) for n in x.shape[2:]]
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return F.pad(x, (left, right, top, bottom), value=value)
