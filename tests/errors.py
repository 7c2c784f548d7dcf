"""What an error must say: which argument, what it must be, and what it was. How it says so is left to it."""

from functools import partial

import jax
import pytest


def refuses(call, error, argument, *, must=(), was=()):
    """The call raises just that error, whose message names the argument, and shows what it must be and what it was.

    `must` and `was` are facts: a number, a name, a dtype, a shape as a tuple of integers, or a tuple of several facts.
    """
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is error, f"{type(caught.value).__name__} is JAX's own: {message}"
    assert f"`{argument}`" in message, f"the argument `{argument}` is not named: {message}"
    for fact in (*several(must), *several(was)):
        assert str(fact) in message, f"{fact} is not said: {message}"
    return message


def several(facts):
    is_shape = isinstance(facts, tuple) and facts and all(isinstance(size, int | float) for size in facts)
    return facts if isinstance(facts, tuple) and not is_shape else (facts,)


def every_way(function, *args, **options):
    """Eagerly, and while only shapes are known."""
    return (
        lambda: function(*args, **options),
        lambda: jax.eval_shape(partial(function, **options), *args),
        lambda: jax.jit(partial(function, **options)).lower(*args),
    )
