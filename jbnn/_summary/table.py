"""The layers of a network, as data and as a table."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution or matrix product. Shapes are of one of its `times`, counts of all together."""

    kind: str  # "binary conv", "binary dense", "conv" or "dense"
    window: tuple[int, ...]
    strides: tuple[int, ...]
    groups: int
    input_shape: tuple[int, ...]  # with channels, not words, last
    input_dtype: str  # "bit" for words
    output_shape: tuple[int, ...]
    output_dtype: str
    times: int | None  # networks of a `vmap`, by turns of the loops around it; None if a `while` has unknown turns
    binary_macs: int
    float_macs: int
    parameters: int
    parameter_bits: int
    activation_bits: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The layers of a network in the order in which they run; `str` is a table, and the totals are properties."""

    layers: tuple[Layer, ...]

    @property
    def binary_macs(self) -> int:
        return sum(layer.binary_macs for layer in self.layers)

    @property
    def float_macs(self) -> int:
        return sum(layer.float_macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def parameter_bits(self) -> int:
        return sum(layer.parameter_bits for layer in self.layers)

    @property
    def activation_bits(self) -> int:
        return sum(layer.activation_bits for layer in self.layers)

    def __str__(self) -> str:
        counts = ("binary_macs", "float_macs", "parameters", "parameter_bits", "activation_bits")
        head = ["layer", "window", "input", "output", "binary MACs", "float MACs", "params", "param bits", "act. bits"]
        rows = [
            [_kind(layer), _window(layer), _shape(layer.input_shape, layer.input_dtype)]
            + [_shape(layer.output_shape, layer.output_dtype)]
            + [_short(getattr(layer, count)) for count in counts]
            for layer in self.layers
        ]
        total = ["total", "", "", "", *(_short(getattr(self, count)) for count in counts)]
        widths = [max(map(len, column)) for column in zip(head, *rows, total, strict=True)]
        rule = ["-" * width for width in widths]

        def line(cells: list[str]) -> str:
            pairs = zip(cells, widths, strict=True)
            return "  ".join(c.rjust(w) if i > 3 else c.ljust(w) for i, (c, w) in enumerate(pairs)).rstrip()

        macs = self.binary_macs + self.float_macs
        share = f"{self.binary_macs / macs:.1%} of the MACs are binary; " if macs else ""
        size = f"parameters take {self.parameter_bits // 8:,} bytes"
        if 0 < self.parameter_bits < 32 * self.parameters:
            size += f", {32 * self.parameters / self.parameter_bits:.1f} times less than in float32"
        return "\n".join([*map(line, [head, rule, *rows, rule, total]), share + size])


def _kind(layer: Layer) -> str:
    groups = f", {layer.groups} groups" if layer.groups > 1 else ""
    times = {1: "", None: "? x "}.get(layer.times, f"{layer.times} x ")
    return times + layer.kind + groups


def _window(layer: Layer) -> str:
    window, strides = ("x".join(map(str, sizes)) for sizes in (layer.window, layer.strides))
    if any(s > 1 for s in layer.strides):
        return f"{window} by {layer.strides[0] if len(set(layer.strides)) == 1 else strides}"
    return window


def _shape(shape: tuple[int, ...], dtype: str) -> str:
    return f"{'x'.join(map(str, shape))} {dtype}"


def _short(count: int) -> str:
    """Three digits, and k, M or G."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            scaled = count / 10**power
            return f"{scaled:.{2 - min(int(math.log10(scaled)), 2)}f} {unit}"
    return str(count)
