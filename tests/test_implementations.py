"""Which implementations there are, which ran here, and that a name is used or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import named
from conftest import AVAILABLE
from numpy.testing import assert_array_equal

import jbnn


def convolve(x, w, **options):
    (case,) = named("33 channels")
    return jbnn.packed_conv(x, w, channels=case.channels, **options)


@pytest.fixture
def words():
    x, w = named("33 channels")[0].draw()
    return jnp.asarray(oracle.pack(x)), jnp.asarray(oracle.pack(w, axis=-2))


def test_what_can_run_here():
    reasons = jbnn.implementations()
    assert reasons["popcount"] is None and reasons["unpacked"] is None
    assert all(isinstance(reason, str) and reason for reason in reasons.values() if reason is not None)


def test_what_ran_here(implementation, words):
    """All that can run are among the tested ones, and do run."""
    assert set(AVAILABLE) >= {"popcount", "unpacked"}
    assert [name for name, reason in jbnn.implementations().items() if reason is None] == AVAILABLE
    assert_array_equal(convolve(*words, implementation=implementation), convolve(*words))


@pytest.mark.parametrize(
    "name, used, unused", [("popcount", "popcnt", "convolution"), ("unpacked", "convolution", "popcnt")]
)
def test_a_named_implementation_is_the_one_used(name, used, unused, words):
    text = jax.jit(lambda x, w: convolve(x, w, implementation=name)).lower(*words).as_text()
    assert used in text and unused not in text


def test_one_that_cannot_run_here_is_refused(words):
    for name, reason in jbnn.implementations().items():
        if reason is not None:
            with pytest.raises(NotImplementedError, match=name):
                convolve(*words, implementation=name)


def test_an_unknown_name_is_refused(words):
    with pytest.raises(ValueError, match=r"(?s)popcount.*unpacked|unpacked.*popcount"):
        convolve(*words, implementation="abacus")


def test_real_activations_need_the_float_implementation():
    x, w = np.ones((1, 2, 3), np.float32), np.ones((1, 3, 1), np.float32)
    y = jbnn.binary_conv(x, w, mode="binary_weights", implementation="unpacked")
    assert_array_equal(y, np.full((1, 2, 1), 3))
    with pytest.raises(NotImplementedError, match="binary_weights"):
        jbnn.binary_conv(x, w, mode="binary_weights", implementation="popcount")
