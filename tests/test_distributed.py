"""Two processes, connected over loopback, train as one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed
import jax
import numpy as np
import pytest

import jbnn

PROCESSES = 2
SECONDS = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What each process says of itself, and what it has computed."""
    path = os.pathsep.join(filter(None, [str(Path(jbnn.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": path}
    address, folder = f"127.0.0.1:{free_port()}", tmp_path_factory.mktemp("distributed")
    results = [folder / f"{rank}.npz" for rank in range(PROCESSES)]
    started = [
        subprocess.Popen(
            [sys.executable, distributed.__file__, address, str(PROCESSES), str(rank), str(result)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, result in enumerate(results)
    ]
    try:
        said = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * PROCESSES, "\n".join(error for _, error in said)
    return [json.loads(out.splitlines()[-1]) for out, _ in said], [dict(np.load(result)) for result in results]


def test_processes_were_two(outcome):
    facts, _ = outcome
    assert len({fact["process"] for fact in facts} - {os.getpid()}) == PROCESSES
    for rank, fact in enumerate(facts):
        assert (fact["rank"], fact["processes"]) == (rank, PROCESSES)
        assert (fact["devices"], fact["devices here"]) == (PROCESSES, 1)
        assert fact["images here"] == len(distributed.IMAGES) // PROCESSES


def test_only_sums_crossed(outcome):
    """Gradients are added up; no process sees another's images."""
    facts, _ = outcome
    assert [fact["collectives"] for fact in facts] == [["all-reduce"]] * PROCESSES


def test_processes_agree(outcome):
    """Bit for bit, or they would drift apart."""
    _, (first, *others) = outcome
    for other in others:
        for name, value in first.items():
            np.testing.assert_array_equal(other[name], value)


def test_agree_with_one_process(outcome):
    _, (trained, *_) = outcome
    with jax.default_device(jax.devices("cpu")[0]):
        loss, expected = jax.jit(distributed.step)(distributed.PARAMETERS, distributed.IMAGES, distributed.LABELS)
    np.testing.assert_allclose(trained["loss"], loss, rtol=1e-5)
    for name, value in expected.items():
        assert np.any(value != distributed.PARAMETERS[name])
        np.testing.assert_allclose(trained[name], value, rtol=1e-5, atol=1e-6)
