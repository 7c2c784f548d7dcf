"""A network of Metal Performance Shaders, ported: its weight files run here, are fine-tuned, and are written back.

    python -m examples.port_from_mps

The app that is left behind has four layers, each with a data source that returns a descriptor and a file of weights:

    stem    MPSCNNConvolution           1 to 32 channels, 3x3
    narrow  MPSCNNBinaryConvolution    32 to 64 channels, 3x3, stride 2, XNOR, with beta
    wide    MPSCNNBinaryConvolution    64 to 64 channels, 3x3, XNOR, with beta
    head    MPSCNNFullyConnected       4x4x64 to 10

The files are made here, of random features and a head that is fitted to them, for digits that lie in the middle of
their images. Then digits come that do not, and the network is to be fine-tuned. MPS could not have trained its binary
layers; here the bits become latent floats, which Adam trains, and then bits again, in the same files.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.digits import data
from jbnn import mps

BINARY = ("narrow", "wide")
XNOR_WITH_BETA = {
    "type": mps.BinaryConvolutionType.XNOR,
    "flags": mps.BinaryConvolutionFlags.USE_BETA_SCALING,
}
RELU = mps.NeuronDescriptor(mps.NeuronType.RELU, a=0.0)

DESCRIPTORS = {
    "stem": mps.ConvolutionDescriptor(input_feature_channels=1, output_feature_channels=32, fused_neuron=RELU),
    "narrow": mps.ConvolutionDescriptor(
        input_feature_channels=32, output_feature_channels=64, stride_in_pixels_x=2, stride_in_pixels_y=2
    ),
    "wide": mps.ConvolutionDescriptor(input_feature_channels=64, output_feature_channels=64),
    "head": mps.ConvolutionDescriptor(
        kernel_width=4, kernel_height=4, input_feature_channels=64, output_feature_channels=10
    ),
}

Files = dict[str, bytes]
Sources = dict[str, mps.DataSource]
Terms = dict[str, dict[str, jax.Array]]


class FileDataSource:
    """What was an `MPSCNNConvolutionDataSource`; here all it needs are these attributes."""

    weights_quantization_type = mps.WeightsQuantizationType.NONE
    ranges = lookup_table = None

    def __init__(self, files: Files, name: str):
        self.descriptor = DESCRIPTORS[name]
        binary = name in BINARY
        self.data_type = mps.DataType.UINT32 if binary else mps.DataType.FLOAT32
        self.weights = np.frombuffer(files[name], "<u4" if binary else "<f4")
        bias = files.get(f"{name}.bias")
        self.bias_terms = None if bias is None else np.frombuffer(bias, "<f4")


def read(files: Files) -> tuple[Sources, Terms]:
    """The four data sources, and the term arrays of the binary layers."""

    def terms(name: str) -> dict[str, jax.Array]:
        return {
            "input_bias_terms": jnp.asarray(np.frombuffer(files[f"{name}.input_bias"], "<f4")),
            "output_scale_terms": jnp.asarray(np.frombuffer(files[f"{name}.output_scale"], "<f4")),
        }

    sources = {name: FileDataSource(files, name) for name in DESCRIPTORS}
    return sources, {name: terms(name) for name in BINARY}


def write(sources: Sources, terms: Terms) -> Files:
    """The files again: what is latent is packed to bits."""

    def weights(name: str, source: mps.DataSource) -> bytes:
        if name in terms:
            return np.asarray(mps.pack_weights(mps.kernel_from_weights(source.weights, source.descriptor))).tobytes()
        return np.asarray(source.weights).tobytes()

    files = {name: weights(name, source) for name, source in sources.items()}
    for name, values in terms.items():
        for term, value in values.items():
            files[f"{name}.{term.removesuffix('_terms')}"] = np.asarray(value).tobytes()
    return files | {"head.bias": np.asarray(sources["head"].bias_terms).tobytes()}


def features(sources: Sources, terms: Terms, images: jax.Array) -> jax.Array:
    """(N, 4, 4, 64): what the head reads."""
    x = mps.convolution(images, sources["stem"])
    x = mps.binary_convolution(x, sources["narrow"], **XNOR_WITH_BETA, **terms["narrow"])
    return x + mps.binary_convolution(x, sources["wide"], **XNOR_WITH_BETA, **terms["wide"])


def apply(sources: Sources, terms: Terms, images: jax.Array) -> jax.Array:
    """Logits (N, 10)."""
    x = features(sources, terms, images)
    y = mps.convolution(x, sources["head"], padding=mps.PaddingMethod.SIZE_VALID_ONLY)
    return y.reshape(-1, 10)


def predict(files: Files, images: np.ndarray) -> np.ndarray:
    sources, terms = read(files)
    return np.asarray(jax.jit(functools.partial(apply, sources, terms))(images).argmax(-1))


def make_files(training: data.Digits, seed: int) -> Files:
    """The app's own files: random bits, and a head fitted to the features that they give."""
    rng = np.random.default_rng(seed)
    files = {
        "stem": (rng.standard_normal(DESCRIPTORS["stem"].weights_shape) / 3).astype("<f4").tobytes(),
        "head": np.zeros(DESCRIPTORS["head"].weights_shape, "<f4").tobytes(),
        "head.bias": np.zeros(10, "<f4").tobytes(),
    }
    for name, mean in (("narrow", 0.7), ("wide", 0.0)):
        d = DESCRIPTORS[name]
        files[name] = rng.integers(0, 2**32, d.words_shape, "<u4").tobytes()
        files[f"{name}.input_bias"] = np.full(d.input_feature_channels, -mean, "<f4").tobytes()
        scale = (9 * d.input_feature_channels) ** -0.5
        files[f"{name}.output_scale"] = np.full(d.output_feature_channels, scale, "<f4").tobytes()
    x = np.asarray(jax.jit(functools.partial(features, *read(files)))(training.images))
    x = x.reshape(len(training.labels), -1)
    centred, targets = x - x.mean(0), np.eye(10)[training.labels] - 0.1
    head = np.linalg.solve(centred.T @ centred + 10 * np.eye(x.shape[1]), centred.T @ targets)
    kernel = head.reshape(4, 4, 64, 10).astype(np.float32)
    files["head"] = np.asarray(mps.weights_from_kernel(kernel)).tobytes()
    files["head.bias"] = (-x.mean(0) @ head).astype("<f4").tobytes()
    return files


def fine_tune(files: Files, training: data.Digits, steps: int, seed: int = 0) -> tuple[Files, list[float]]:
    """Trains everything that the files hold; bits as latent floats, at first ±0.01."""
    sources, terms = read(files)

    def trainable(name: str, source: mps.DataSource) -> mps.ArrayDataSource:
        weights = source.weights
        if name in terms:
            weights = mps.weights_from_kernel(0.01 * mps.unpack_weights(weights, source.descriptor))
        return mps.ArrayDataSource(source.descriptor, mps.DataType.FLOAT32, jnp.asarray(weights), source.bias_terms)

    params = {name: trainable(name, source) for name, source in sources.items()}, terms
    optimizer = optax.adam(2e-3)
    state = optimizer.init(params)

    def loss(params: tuple[Sources, Terms], images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = 10 * apply(*params, images)  # the fitted head scores from 0 to 1
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, images, labels):
        value, gradient = jax.value_and_grad(loss)(params, images, labels)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    losses = []
    for chosen in np.random.default_rng(seed).integers(len(training.labels), size=(steps, 64)):
        params, state, value = step(params, state, jnp.asarray(training.images[chosen]), training.labels[chosen])
        losses.append(float(value))
    return write(*params), losses


def moved_about(digits: data.Digits, seed: int) -> data.Digits:
    """The digits four times over, half of them moved by a pixel."""
    keys = jax.random.split(jax.random.key(seed), 4)
    images = np.concatenate([data.jitter(key, digits.images) for key in keys])
    return data.Digits(images, np.tile(digits.labels, 4))


def changed_bits(before: Files, after: Files, name: str) -> float:
    """The share of a binary layer's weights that became others."""
    old, new = (mps.unpack_weights(np.frombuffer(f[name], "<u4"), DESCRIPTORS[name]) for f in (before, after))
    return float(np.mean(np.asarray(old) != np.asarray(new)))


def main(steps: int = 300, show: Callable[[str], None] = print) -> dict[str, float]:
    training, test = data.load()
    before = make_files(training, seed=0)
    moved, moved_test = (moved_about(digits, key) for digits, key in zip((training, test), range(2), strict=True))
    after, losses = fine_tune(before, moved, steps)
    accuracy = {
        when: float(np.mean(predict(files, moved_test.images) == moved_test.labels))
        for when, files in (("before", before), ("after", after))
    }
    accuracy["in the middle"] = float(np.mean(predict(before, test.images) == test.labels))
    show(f"{steps} steps of fine-tuning: loss {losses[0]:.2f} to {losses[-1]:.2f}\n")
    show(f"{'layer':<8}{'kernel of MPS':<26}{'file, bytes':>12}{'bits changed':>14}")
    for name in DESCRIPTORS:
        kernel = "BinaryConvolution" if name in BINARY else "FullyConnected" if name == "head" else "Convolution"
        share = f"{changed_bits(before, after, name):.1%}" if name in BINARY else "-"
        show(f"{name:<8}{'MPSCNN' + kernel:<26}{len(after[name]):>12,}{share:>14}")
    show("\ntest accuracy")
    show(f"    the files as they came, digits in the middle    {accuracy['in the middle']:.1%}")
    show(f"    the files as they came, digits moved about      {accuracy['before']:.1%}")
    show(f"    the fine-tuned files, digits moved about        {accuracy['after']:.1%}")
    show(f"the files have the same names and sizes: {before.keys() == after.keys()}")
    return accuracy


if __name__ == "__main__":
    main()
