"""Strict JAX for every test, and every implementation that can run here."""

import jax
import pytest

import jbnn

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

AVAILABLE = [name for name, reason in jbnn.implementations().items() if reason is None]
PORTABLE = "popcount", "unpacked"


@pytest.fixture(scope="session", params=AVAILABLE)
def implementation(request):
    """Each implementation in turn, so that a new one is tested by existing."""
    return request.param


@pytest.fixture
def x64():
    """Runs one test with 64-bit types."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def on_cpu():
    """Runs one test on the CPU, whichever device is JAX's default."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A native implementation may refuse a case, saying why; the portable ones can do every case."""
    name = item.callspec.params.get("implementation") if hasattr(item, "callspec") else None
    try:
        return (yield)
    except NotImplementedError as reason:
        if name is None or name in PORTABLE:
            raise
        pytest.skip(f"{name}: {reason}")
