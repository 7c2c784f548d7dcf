"""Trains a small binary network on handwritten digits, deploys it as a program of bits, and measures what it gains."""

import argparse
import os
from pathlib import Path

from examples.digits import data, deploy, model, report, train

OUTPUT = Path(__file__).parents[1] / "output"
FIGURE, PROGRAM = OUTPUT / "digits.png", OUTPUT / "digits.jax"


def main(seed: int) -> None:
    training, test = data.load()
    print(f"{len(training.labels)} digits to train on, {len(test.labels)} held out; seed {seed}", flush=True)
    params, state, curve = train.train(training, test, seed)
    packed = model.deploy(params, state)
    deploy.save(PROGRAM, *packed)
    floats, bits, predictions = deploy.compare(params, state, PROGRAM, test)
    print("\n" + report.table(floats, bits, len(test.labels)))
    report.figure(FIGURE, curve, packed[0], test, predictions)
    print(f"\nprogram: {os.path.relpath(PROGRAM)}, {PROGRAM.stat().st_size:,} B, runs where jbnn is not installed")
    print(f"figure:  {os.path.relpath(FIGURE)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.digits", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, the batches and their shifts")
    main(parser.parse_args().seed)
