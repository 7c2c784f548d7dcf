"""The example that ports a network of MPS, in a few steps; examples have dependencies of their own."""

import jax
import pytest

pytest.importorskip("optax")
pytest.importorskip("sklearn")

from examples import port_from_mps
from examples.digits import data


@pytest.fixture(autouse=True)
def _optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def files():
    return port_from_mps.make_files(data.load()[0], seed=0)


def test_files_that_are_not_trained_are_written_as_they_were_read(files):
    after, losses = port_from_mps.fine_tune(files, data.load()[0], steps=0)
    assert losses == []
    assert after == files


def test_it_runs_and_says_what_it_did():
    lines = []
    accuracy = port_from_mps.main(steps=3, show=lines.append)
    assert accuracy["in the middle"] > 0.9
    assert accuracy["before"] < accuracy["in the middle"]
    text = "\n".join(lines)
    assert "MPSCNNBinaryConvolution" in text and "3 steps of fine-tuning" in text
    assert lines[-1].endswith("same names and sizes: True")
