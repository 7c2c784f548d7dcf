"""The report: both networks in a table, and a figure of how one was trained and what the other reads."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

import jbnn
from examples.digits import model
from examples.digits.data import Digits
from examples.digits.deploy import Measured
from examples.digits.train import Epoch

GREY, BLUE, RED = "#8a8a8a", "#1f6fb4", "#c62f2d"
ROWS, COLUMNS = 3, 12  # of sample digits


def table(floats: Measured, packed: Measured, images: int) -> str:
    def row(name: str, value: str, other: str, note: str) -> str:
        return f"{name:<32}{value:>12}{other:>12}   {note}"

    def size(name: str, value: int, other: int) -> str:
        return row(name, f"{value:,} B", f"{other:,} B", f"{value / other:.1f} times smaller")

    def duration(name: str, value: float, other: float) -> str:
        note = f"{value / other:.1f} times faster" if value > other else f"{other / value:.1f} times slower"
        return row(name, f"{value * 1e6:.1f} µs", f"{other * 1e6:.1f} µs", note)

    return "\n".join(
        [
            row("", "float", "packed", "packed is").rstrip(),
            row("-" * 30, "-" * 10, "-" * 10, "-" * 28),
            row("test accuracy", f"{floats.accuracy:.2%}", f"{packed.accuracy:.2%}", "identical, image for image"),
            size("binary kernels", floats.kernel_bytes, packed.kernel_bytes),
            size("whole model", floats.model_bytes, packed.model_bytes),
            size("activations between blocks", floats.between_bytes, packed.between_bytes),
            duration(f"time per image, {images} at once", floats.seconds, packed.seconds),
            duration("time per image, one at a time", floats.seconds_alone, packed.seconds_alone),
            "",
            "float: batch norms folded, kernels of ±1 in lax.conv_general_dilated; the trained network reads the same.",
            "packed: thresholds in place of batch norms, exported with jax.export, and reloaded from the file.",
        ]
    )


def figure(path: Path, curve: list[Epoch], packed: model.Params, test: Digits, predictions: np.ndarray) -> None:
    fig = Figure(figsize=(12, 10), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    above, below = fig.subfigures(2, 1, height_ratios=(1.5, 1), hspace=0.04)
    left, right = above.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_curve(left, curve)
    _draw_bits(right, np.asarray(packed.blocks[0].kernel))
    _draw_samples(below, test, predictions)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=100)


def _draw_curve(axes: Axes, curve: list[Epoch]) -> None:
    epochs = np.arange(1, len(curve) + 1)
    axes.plot(epochs, [epoch.train_accuracy for epoch in curve], color=GREY, label="training images, jittered")
    axes.plot(epochs, [epoch.test_accuracy for epoch in curve], color=BLUE, label="test images")
    axes.set(xlabel="epoch", ylabel="accuracy", xlim=(1, len(curve)), ylim=(0.9, 1.002))
    axes.set_title(f"Training: {curve[-1].test_accuracy:.2%} of the test digits after {len(curve)} epochs")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(color="#e4e4e4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right")


def _draw_bits(axes: Axes, words: np.ndarray) -> None:
    """A corner of a packed kernel: the input channels of one word and as many outputs, each 3x3 window a tile."""
    corner = words[:, :, :1, :32]
    bits = np.asarray(jbnn.unpack(corner, 32, axis=-2))  # ±1, (3, 3, C, O)
    tiles = np.pad(bits, ((0, 1), (0, 1), (0, 0), (0, 0)))  # with a grey seam
    axes.imshow(tiles.transpose(3, 0, 2, 1).reshape(4 * 32, 4 * 32)[:-1, :-1], cmap="gray")
    axes.set(xticks=[], yticks=[], xlabel="input channels 0 to 31: one word", ylabel="output channels 0 to 31")
    axes.set_title(f"First binary layer: {corner.size:,} of its {words.size:,} words, bit by bit")


def _draw_samples(fig: SubFigure, test: Digits, predictions: np.ndarray) -> None:
    """All mistakes first, as far as there is room, then digits that were read well."""
    right = predictions == test.labels
    wrong = np.count_nonzero(~right)
    fig.suptitle(
        "What the packed network reads, with thresholds for batch norms, exported and reloaded from its file:\n"
        f"{wrong} of {len(right)} test digits wrong (red), the rest right (blue); the float network reads the same"
    )
    chosen = np.argsort(right, kind="stable")[: ROWS * COLUMNS]
    for axes, i in zip(fig.subplots(ROWS, COLUMNS).flat, chosen, strict=True):
        axes.imshow(test.images[i, :, :, 0], cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        if right[i]:
            axes.set_title(str(predictions[i]), fontsize=11, color=BLUE)
        else:
            axes.set_title(f"{predictions[i]}, is {test.labels[i]}", fontsize=11, color=RED)
            axes.spines[:].set(color=RED, linewidth=3)
