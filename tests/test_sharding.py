"""On meshes of 4 and 8 devices: the results of one device, and no activation sent to a device that need not have it.

`sharded.py` compiles and runs the programs, in one process for each number of devices. Collectives are read from the
compiled text. An all-reduce of floats or int32 is a sum of what devices have computed; whatever else moves data is
either listed here with its reason or an error.
"""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sharded
from cases import Case as Sample
from jax_versions import HAS_EXPLICIT_MESHES, MOVES_SHARES

import jbnn
from jbnn._kernels.case import SIGNS, Case, Place
from jbnn._kernels.choose import KERNELS, first

LAYER = Sample("a layer of sharded.py", sharded.X.shape, (3, 3, sharded.W.shape[-1])).canonical()
HERE = Case(LAYER, SIGNS, SIGNS, 0, place=Place(("cpu",), "cpu"))
MESHES = 4, 8
CASES = [(devices, *case) for devices in MESHES for case in sharded.cases(devices)]
REFUSED = [case for case in CASES if (case[1], case[3]) == ("explicit", "words")]
ACCEPTED = [case for case in CASES if case not in REFUSED]

SUM = re.compile(r"all-reduce [fs]32")
NEEDED = {
    # The nearest row of the neighbour, for windows that reach into it.
    "rows": re.compile(r"collective-permute [fu]32\[\d+,1,"),
    # The words of all channels, 4 bytes for 32 channels, which are fewer than the sums of all outputs, 4 bytes each.
    # `implementation="unpacked"` and `shard_map` do exchange sums.
    "words": re.compile(r"[a-z-]+ [su]32"),
}
"""What each device must be sent where pixels or words are themselves shared out."""


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=[" | ".join(map(str, case)) for case in cases])


@pytest.fixture(scope="module")
def report_of():
    """What a number of devices reports, which is asked once."""

    @functools.cache
    def report_of(devices):
        path = os.pathsep.join([str(Path(jbnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        process = subprocess.run(
            [sys.executable, "-W", "error", sharded.__file__, str(devices)],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path.rstrip(os.pathsep)},
            stdout=subprocess.PIPE,
            timeout=300,
            check=True,
            text=True,
        )
        return json.loads(process.stdout)

    return report_of


@pytest.fixture
def report(case, report_of):
    devices, *program = case
    return report_of(devices)["cases"][" | ".join(program)]


def test_every_kind_of_mesh_ran():
    """Explicit meshes as soon as JAX has them."""
    kinds = {kind for _, kind, _, _ in ACCEPTED}
    assert kinds == {"auto", "shard_map"} | ({"explicit"} if HAS_EXPLICIT_MESHES else set())


@over(ACCEPTED)
def test_equals_one_device(report):
    """Integers exactly."""
    assert report["refused"] is None
    assert report["disagreement"] is None


MISPLACED, MOVED = set(), set()
"""The programs whose results lie elsewhere than asked, and those that send shares which could have stayed."""
if MOVES_SHARES:  # as the partitioner of an old XLA does
    MISPLACED |= {("auto", "gradient of conv", "words")}
    MOVED |= {("auto", "gradient of conv", "words"), ("auto", "packed_conv, unpacked", "outputs")}
if KERNELS[first(dataclasses.replace(HERE, images=1))].OPAQUE:
    # Where rows are shared out is known in time on a mesh of explicit axes only; else an opaque kernel gathers them.
    MISPLACED |= {("auto", "packed_conv", "rows")}
    MOVED |= {("auto", name, "rows") for name in sharded.CORE}


@over(ACCEPTED)
def test_stays_sharded(case, report):
    """A convolution as its images and output channels are, a gradient as what it is the gradient of."""
    assert bool(report["misplaced"]) is (case[1:] in MISPLACED)


@over(ACCEPTED)
def test_gathers_no_activations(case, report):
    _, kind, name, layout = case
    sent = [c for c in report["collectives"] if not SUM.match(c)]
    if case[1:] in MOVED:
        assert sent  # otherwise this exception is one no longer
        return
    if layout in NEEDED and kind != "shard_map" and "unpacked" not in name:
        assert sent  # otherwise this exception is one no longer
        sent = [c for c in sent if not NEEDED[layout].match(c)]
    assert sent == []


@over([case for case in ACCEPTED if case[3] in ("batch", "outputs") and not case[2].startswith("gradient")])
def test_forward_of_batch_and_outputs_sends_nothing(case, report):
    assert bool(report["collectives"]) is (case[1:] in MOVED)


@pytest.mark.skipif(not HAS_EXPLICIT_MESHES, reason="this JAX has no meshes of explicit axes")
@over(REFUSED)
def test_explicit_axes_of_words_are_refused(report):
    """By JAX, which on such a mesh sums over a sharded axis only if told to; `jax.sharding.auto_axes` tells it."""
    assert report["refused"].startswith("ShardingTypeError")


@pytest.mark.skipif(not HAS_EXPLICIT_MESHES, reason="this JAX has no meshes of explicit axes")
def test_shares_on_explicit_meshes_need_not_be_even(report_of):
    """Output channels of which no device has whole words, rows that the devices do not divide once padded."""
    reports = report_of(4)["uneven"]
    assert len(reports) == 3 * len(sharded.OUTPUTS) + 3
    assert {name: report for name, report in reports.items() if report is not None} == {}


@pytest.mark.parametrize("devices", MESHES)
def test_xla_sums_shared_rows_too_often(devices, report_of):
    """A defect of XLA: where rows share one axis of a mesh and nothing shares the other, the gradient in the kernel of
    `lax.conv_general_dilated`, and hence of jbnn, is summed over both. If this fails, the warning in the docs can go.
    """
    assert report_of(devices)["excess of XLA"] == pytest.approx(devices // 2, rel=1e-3)
