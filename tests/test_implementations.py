"""Which implementations there are, which ran here, and that a name is used or refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import named
from conftest import BY_FIXTURE
from errors import refuses
from numpy.testing import assert_array_equal

import jbnn

PORTABLE = "popcount", "unpacked"
ABLE = [name for name, reason in jbnn.implementations().items() if reason is None]


def convolve(x, w, **options):
    (case,) = named("33 channels")
    return jbnn.packed_conv(x, w, channels=case.channels, **options)


@pytest.fixture
def words():
    x, w = named("33 channels")[0].draw()
    return jnp.asarray(oracle.pack(x)), jnp.asarray(oracle.pack(w, axis=-2))


def test_what_can_run_here():
    reasons = jbnn.implementations()
    assert all(reasons[name] is None for name in PORTABLE)
    assert all(isinstance(reason, str) and reason for reason in reasons.values() if reason is not None)


def test_all_that_can_run_are_among_the_tested_ones():
    tested = {name for names in BY_FIXTURE.values() for name in names}
    assert tested == {*ABLE}
    assert all(BY_FIXTURE.values())


def test_what_ran_here(implementation, words):
    assert_array_equal(convolve(*words, implementation=implementation), convolve(*words))


def test_what_ran_here_on_real_values(implementation_of_reals):
    x, w = np.ones((1, 2, 3), np.float32), np.ones((1, 3, 1), np.float32)
    y = jbnn.binary_conv(x, w, mode="binary_weights", implementation=implementation_of_reals)
    assert_array_equal(y, np.full((1, 2, 1), 3))


@pytest.mark.parametrize(
    "name, used, unused", [(*PORTABLE[:1], "popcnt", "convolution"), (*PORTABLE[1:], "convolution", "popcnt")]
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
    names = tuple(f'"{name}"' for name in jbnn.implementations())
    call = functools.partial(convolve, *words, implementation="nonesuch")
    refuses(call, ValueError, "implementation", must=names, was="'nonesuch'")


def test_bits_are_not_counted_where_there_are_none():
    x, w = np.ones((1, 2, 3), np.float32), np.ones((1, 3, 1), np.float32)
    with pytest.raises(NotImplementedError, match="binary_weights"):
        jbnn.binary_conv(x, w, mode="binary_weights", implementation="popcount")
