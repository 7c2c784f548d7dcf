"""Deployed networks leave Python: parameters as files that others read, and programs that run without jbnn."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from apple_ops import PLUGINS, audit
from apple_programs import received
from jax import export
from jax_versions import ORBAX_RUNS_HERE
from networks import each_network, small

from examples.models import binarynet


@pytest.fixture(scope="module", autouse=True)
def on_cpu():
    """Where these programs run, whatever else is there."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


def deployed(module):
    params, state, images = small(module)
    params, state = module.deploy(params, state)
    return params, state, images


def scores(module, params, state):
    """The network as a function of images."""
    return jax.jit(lambda images: module.apply(params, state, images)[0])


def abstract(tree):
    here = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree)


def assert_same(restored, params):
    chex.assert_trees_all_equal_structs(restored, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, params)
    chex.assert_trees_all_equal(restored, params)


@each_network
def test_safetensors(module, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from examples.models import storage

    params, _, _ = deployed(module)
    path = tmp_path / "network.safetensors"
    storage.save(path, params)
    assert_same(storage.load(path, abstract(params)), params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert size < path.stat().st_size < size + 200 * len(jax.tree.leaves(params))


def test_safetensors_of_another_network(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from examples.models import storage

    params, _, _ = deployed(binarynet)
    path = tmp_path / "network.safetensors"
    storage.save(path, params[:-1])
    with pytest.raises(ValueError, match=r"but differs in \[6\].kernel, \[6\].norm.bias, \[6\].norm.scale"):
        storage.load(path, params)


@pytest.mark.skipif(not ORBAX_RUNS_HERE, reason="the Orbax that installs with this jax needs a newer one")
@each_network
def test_orbax(module, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint", reason="Orbax is not installed", exc_type=ImportError)
    params, _, _ = deployed(module)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "network", params)
        checkpointer.wait_until_finished()
        assert_same(checkpointer.restore(tmp_path / "network", abstract(params)), params)


@each_network
def test_a_program_runs_without_jbnn(module, tmp_path):
    """Exported with its parameters to one file, for CPU and others, and called by a process that cannot import jbnn."""
    params, state, images = deployed(module)
    run = scores(module, params, state)
    exported = export.export(run, platforms=("cpu", "cuda", "tpu"))(images)
    assert "custom_call" not in exported.mlir_module()
    (tmp_path / "network.bin").write_bytes(exported.serialize())
    np.save(tmp_path / "images.npy", images)
    script = Path(__file__).with_name("fresh_process.py")
    names = ("network.bin", "images.npy", "scores.npy")
    process = subprocess.run(
        [sys.executable, "-I", script, *(tmp_path / name for name in names)],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), run(images), rtol=1e-5, atol=1e-5)


@each_network
def test_one_program_for_every_batch(module):
    params, state, images = deployed(module)
    run = scores(module, params, state)
    (batch,) = export.symbolic_shape("batch")
    exported = export.export(run, platforms=("cpu",))(jax.ShapeDtypeStruct((batch, *images.shape[1:]), images.dtype))
    np.testing.assert_allclose(jax.jit(exported.call)(images[:1]), run(images)[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
@each_network
def test_a_plugin_has_every_operation(module, plugin):
    params, state, images = deployed(module)
    for program in received(scores(module, params, state), [images], plugin.platform):
        assert audit(program, plugin) == []
