"""A refusal is a kernel's own answer, counted and bounded; anything else that it raises is a fault."""

import types

import jax
import jax.numpy as jnp
import pytest
import refusals

import jbnn
from jbnn._kernels import choose, popcount


def particular(case):
    return "only windows of one tap" if case.geometry.taps > 1 else None


def stand_in(why_not=particular, conv=popcount.conv):
    return types.SimpleNamespace(why_not=why_not, faster=lambda case: False, conv=conv, OPAQUE=False)


def unfinished(*args):
    raise NotImplementedError("not written yet")


def error_of(name, window=3):
    x, w = jnp.zeros((1, 3, 1), jnp.uint32), jnp.zeros((window, 1, 1), jnp.uint32)
    with pytest.raises(NotImplementedError) as caught:
        jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=1, implementation=name))(x, w)
    return caught.value


def test_only_the_answer_of_why_not_is_a_refusal(monkeypatch):
    monkeypatch.setitem(choose.KERNELS, "abacus", stand_in())
    assert refusals.is_allowed(error_of("abacus"), "abacus")
    assert not refusals.is_allowed(error_of("abacus"), "popcount")
    monkeypatch.setitem(choose.KERNELS, "abacus", stand_in(conv=unfinished))
    assert not refusals.is_allowed(error_of("abacus", window=1), "abacus")


def test_an_answer_that_depends_on_the_place_is_one_too(monkeypatch):
    def not_here(case):
        return None if case.place is None else "not on this platform"

    monkeypatch.setitem(choose.KERNELS, "abacus", stand_in(not_here))
    assert refusals.is_allowed(error_of("abacus"), "abacus")


def test_those_that_stand_for_all_cases_refuse_nothing(monkeypatch):
    monkeypatch.setitem(choose.KERNELS, "popcount", stand_in())
    assert not refusals.is_allowed(error_of("popcount"), "popcount")


def tally(offered, refused):
    of_all = refusals.Tally()
    for i in range(offered):
        reason = [(refusals.REFUSED, f"abacus: reason {i % 2}: the word")] if i < refused else []
        of_all.add([(refusals.OFFERED, "abacus"), (refusals.OFFERED, "popcount"), *reason])
    return of_all


def test_they_are_told_by_implementation_and_reason():
    assert list(tally(200, 3).lines()) == [
        "abacus refused 3 of 200 tests",
        "  2 times: reason 0: the word",
        "  1 times: reason 1: the word",
    ]
    assert list(tally(200, 0).lines()) == []


def test_more_than_the_bound_fails_the_run():
    bound = int(200 * refusals.MOST)
    assert tally(200, bound).beyond() == []
    assert tally(200, bound + 1).beyond() == ["abacus"]
    assert list(tally(200, bound + 1).lines())[-1] == f"abacus refused more than {refusals.MOST} of them"
    assert tally(refusals.FEW - 1, refusals.FEW - 1).beyond() == []
