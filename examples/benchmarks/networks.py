"""Speed and size of whole networks against the same networks with float32 convolutions, in the same run.

    python -m examples.benchmarks.networks [--batch 1 32] [--rounds 9] [--only QuickNet]

The opponents have the same graph, with kernels that are ±1 floats already: in JAX, and in PyTorch where it can be
imported, on one thread and on as many as there are cores. All results are compared before anything is timed. The
contenders take turns, and a ratio is the median over the rounds of the ratio within each. Weights are random; the time
does not depend on them.
"""

import argparse
import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from examples.benchmarks import machine
from examples.benchmarks.timing import medians
from examples.models import binarynet, birealnet18, layers, quicknet

# Threads of PyTorch's that wait by spinning take the cores from everybody, from PyTorch too when they are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
try:
    import torch

    from examples.benchmarks import torch_networks
except ImportError:
    torch = None


class Network(NamedTuple):
    """A network, and what is asked of it."""

    module: ModuleType
    options: dict[str, Any]  # of `init`
    image: tuple[int, ...]
    faster: float  # at batch 1
    smaller: float  # in its parameters


IMAGENET = (224, 224, 3)
NETWORKS = {
    "QuickNet Small": Network(quicknet, quicknet.SMALL, IMAGENET, 3.5, 12),
    "QuickNet": Network(quicknet, quicknet.NORMAL, IMAGENET, 3.5, 12),
    "QuickNet Large": Network(quicknet, quicknet.LARGE, IMAGENET, 3.5, 16),
    "Bi-Real-18": Network(birealnet18, {}, IMAGENET, 3.5, 11),
    "BinaryNet": Network(binarynet, {}, (32, 32, 3), 8, 25),
}


class Deployed(NamedTuple):
    packed: tuple
    floats: tuple


def build(network: Network) -> Deployed:
    """Random weights and moments, deployed with words and with floats."""
    params, state = jax.jit(functools.partial(network.module.init, **network.options))(jax.random.key(0))
    rng = np.random.default_rng(0)
    moments = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32), state)
    return Deployed(*(network.module.deploy(params, moments, packed=packed) for packed in (True, False)))


def images(network: Network, batch: int) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (batch, *network.image), np.uint8)
    return pixels if network.module is binarynet else (pixels / 64 - 2).astype(np.float32)


def contenders(name: str, network: Network, deployed: Deployed, batch: int) -> dict[str, Callable[[], Any]]:
    """Calls that compute the same scores; checked here."""
    module, x = network.module, images(network, batch)
    packed = jax.jit(lambda params, x: module.apply(params, deployed.packed[1], x)[0])
    floats = jax.jit(lambda params, x: module.apply(params, deployed.floats[1], x, binary_layer=layers.float_layer)[0])
    on_device = jax.device_put(x)
    calls = {
        "packed": lambda: packed(deployed.packed[0], on_device),
        "float32": lambda: floats(deployed.floats[0], on_device),
    }
    if torch is not None:
        parts = module.parts(*deployed.floats, binary_layer=layers.float_layer)
        in_torch = torch_networks.network(name.removesuffix(" Small").removesuffix(" Large"), parts)
        for threads in {1, machine.cores()}:  # the second thread may cost more than it brings
            calls[f"PyTorch({threads})"] = functools.partial(on_threads, threads, in_torch, x)
    expected = np.asarray(calls["float32"]())
    scale = np.abs(expected).max()
    for contender, call in calls.items():
        # A sign of a sum that two programs round differently may differ, and moves the scores a little.
        off = np.abs(np.asarray(call()) - expected).max() / scale
        agree = np.mean(np.asarray(call()).argmax(-1) == expected.argmax(-1))
        if not (off < 1e-3 if contender == "packed" else agree > 0.9):
            raise RuntimeError(f"{name}: {contender} is off by {off:.1e} of the largest score")
    return calls


def on_threads(threads: int, call: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    torch.set_num_threads(threads)
    return call(x)


def seconds_by_kind(network: Network, deployed: Deployed, batch: int) -> dict[str, float]:
    """Seconds of each kind of part, each part compiled and timed alone."""
    x, calls, kinds = jax.device_put(images(network, batch)), [], []
    for part in network.module.parts(*deployed.packed):
        function = jax.jit(lambda params, x, part=part: part.function(params, part.moments, x)[0])
        calls.append(functools.partial(function, part.params, x))
        kinds.append(part.kind)
        x = function(part.params, x)
    seconds = medians(calls, rounds=5, calls=5 if batch == 1 else 1).min(0)
    return {kind: sum(s for s, k in zip(seconds, kinds, strict=True) if k == kind) for kind in dict.fromkeys(kinds)}


def size(params: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def verdict(value: float, target: float) -> str:
    return f"{value:5.1f}x {'>=' if value >= target else 'MISSES'} {target:g}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK")
    args = parser.parse_args()

    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if torch else ", without PyTorch")
    print(f"{versions}, {jax.devices()[0].device_kind}, {machine.cores()} cores; milliseconds an image\n")
    for name in args.only:
        network = NETWORKS[name]
        deployed = build(network)
        packed, floats = (size(params) for params, _ in deployed)
        print(
            f"{name}: parameters {packed:,} bytes, in float32 {floats:,}: {verdict(floats / packed, network.smaller)}"
        )
        for batch in args.batch:
            calls = contenders(name, network, deployed, batch)
            seconds = medians(list(calls.values()), args.rounds, calls=5 if batch == 1 else 1)
            times = "  ".join(f"{c} {1e3 * s / batch:.2f}" for c, s in zip(calls, np.median(seconds, 0), strict=True))
            ratios = np.median(seconds[:, 1:] / seconds[:, :1], axis=0)
            asked = verdict(ratios[0], network.faster) if batch == 1 else f"{ratios[0]:5.1f}x"
            others = "".join(f", of {c} {r:.1f}x" for c, r in zip(list(calls)[2:], ratios[1:], strict=True))
            print(f"  batch {batch:2}: {times}   speed of float32 {asked}{others}", flush=True)
            parts = seconds_by_kind(network, deployed, batch)
            total = sum(parts.values())
            text = ", ".join(f"{kind} {s / total:.0%}" for kind, s in parts.items())
            print(f"            parts alone {1e3 * total / batch:.2f}: {text}", flush=True)


if __name__ == "__main__":
    main()
