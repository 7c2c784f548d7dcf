"""Trains a small binary network on handwritten digits, packs it to bits, and measures what that changes."""

import argparse
import os
from pathlib import Path

from examples.digits import data, deploy, model, report, train

FIGURE = Path(__file__).parents[1] / "output" / "digits.png"


def main(seed: int) -> None:
    training, test = data.load()
    print(f"{len(training.labels)} digits to train on, {len(test.labels)} held out; seed {seed}", flush=True)
    params, state, curve = train.train(training, test, seed)
    packed = model.pack(params)
    floats, bits, predictions = deploy.compare(params, packed, state, test)
    print("\n" + report.table(floats, bits, len(test.labels)))
    report.figure(FIGURE, curve, packed, test, predictions)
    print(f"\nfigure: {os.path.relpath(FIGURE)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.digits", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, the batches and their shifts")
    main(parser.parse_args().seed)
