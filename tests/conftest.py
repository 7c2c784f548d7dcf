"""Strict JAX for every test, and every implementation that can run here."""

import jax
import matrix
import numpy as np
import pytest
import refusals
from cases import named

from jbnn._kernels.case import SIGNS, Case, Place
from jbnn._kernels.choose import KERNELS, device_kind, lowered

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

HERE = Place((lowered(jax.default_backend()),), device_kind(jax.default_backend()))


def that_can_do(left):
    """The names of the implementations that can do one case of that left side here."""
    geometries = [case.canonical() for case in named("32 channels", "64 channels", "1x1")]
    cases = [Case(geometry, left, SIGNS, 0, place=HERE, images=1) for geometry in geometries]
    return [name for name, kernel in KERNELS.items() if any(kernel.why_not(case) is None for case in cases)]


OF_BITS, OF_REALS = that_can_do(SIGNS), that_can_do(np.dtype(np.float32))
BY_FIXTURE = {"implementation": OF_BITS, "implementation_of_reals": OF_REALS}


@pytest.fixture(scope="session", params=OF_BITS)
def implementation(request):
    """Each implementation that counts bits in turn, so that a new one is tested by existing."""
    return request.param


@pytest.fixture(scope="session", params=OF_REALS)
def implementation_of_reals(request):
    """Each that takes real values on the left, as of mode="binary_weights"."""
    return request.param


@pytest.fixture
def portable(monkeypatch):
    """What None stands for where there is no native code."""
    monkeypatch.setattr(KERNELS["simd"], "why_not", lambda case: "left out")


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


def pytest_addoption(parser):
    parser.addoption("--every", type=int, default=1, help="of a test with many cases, run every so many")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.stem.removeprefix("test_") in matrix.ONCE:
            item.add_marker(pytest.mark.once)
    items[:] = thinned(items, config.getoption("every"))


def thinned(items, every):
    """All tests, and of those with more than six cases every so many; the audit's cases are functions, and all stay."""
    cases = {}
    for item in items:
        cases.setdefault((item.path, getattr(item, "originalname", item.name), item.cls), []).append(item)
    dropped = {
        id(item)
        for (path, *_), group in cases.items()
        if len(group) > 6 and path.stem != "test_apple"
        for i, item in enumerate(group)
        if i % every
    }
    return [item for item in items if id(item) not in dropped]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that an implementation refuses, as it may, is skipped as refused."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    names = [params[fixture] for fixture in BY_FIXTURE if fixture in params]
    item.user_properties += [(refusals.OFFERED, name) for name in names]
    try:
        return (yield)
    except NotImplementedError as error:
        for name in names:
            if refusals.is_allowed(error, name):
                item.user_properties.append((refusals.REFUSED, f"{name}: {error}"))
                pytest.skip(f"{matrix.REFUSED}{name}: {error}")
        raise


# Reports come from every process of a run, and are added up in the one that prints the summary.
TALLY = refusals.Tally()


def pytest_runtest_logreport(report):
    if report.when == "call":
        TALLY.add(report.user_properties)


def pytest_terminal_summary(terminalreporter):
    for line in TALLY.lines():
        terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if TALLY.beyond() and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
