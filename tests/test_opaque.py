"""A kernel that XLA cannot look into, on meshes: each device is given its share, and nothing is gathered.

`opaque.py` runs the stand-in, in a process of its own with 4 host devices.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import opaque
import pytest

import jbnn


@functools.cache
def reports():
    path = os.pathsep.join([str(Path(jbnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-W", "error", opaque.__file__],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path.rstrip(os.pathsep)},
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
        text=True,
    )
    return json.loads(process.stdout)


@pytest.mark.parametrize("case", opaque.CASES, ids=" | ".join)
def test_each_device_computes_its_share(case):
    report = reports()[" | ".join(case)]
    assert report["equal"]
    assert report["gathered"] == []
    assert report["share"] == opaque.share(*case)


def test_xla_gathers_for_the_stand_in_unless_told():
    """Otherwise it would stand in for nothing."""
    assert reports()["not told"]


@pytest.mark.parametrize("name", ["one device", "export", "vmap", "larger program", "uneven words", "groups", "rows"])
def test_elsewhere(name):
    assert reports()[name] is True


@pytest.mark.parametrize("program", opaque.FLOATS)
@pytest.mark.parametrize("layout", opaque.LAYOUTS_OF_FLOATS)
def test_float_convolutions_are_not_doubled(program, layout):
    """Rows over one axis of the mesh; output channels, images or nothing over the other."""
    assert reports()[f"{program} | {layout}"] is True
