"""What the popcount kernel must not do: unroll without bound, hold more than it needs, or count twice."""

import time

import jax
import jax.numpy as jnp
import pytest

import jbnn

WORDS = jnp.zeros((1, 14, 14, 4), jnp.uint32)
KERNEL = jnp.zeros((3, 3, 4, 128), jnp.uint32)


def lowered(x, w, **options):
    options |= {"channels": 32 * x.shape[-1], "implementation": "popcount"}
    return jax.jit(lambda x, w: jbnn.packed_conv(x, w, **options)).lower(x, w)


@pytest.mark.parametrize("window", [(7, 7, 32, 1024), (3, 3, 512, 64), (1, 1, 2048, 64)])
def test_the_program_does_not_grow_with_the_depth(window):
    x = jnp.zeros((1, 14, 14, window[2]), jnp.uint32)
    assert lowered(x, jnp.zeros(window, jnp.uint32)).as_text().count("stablehlo.popcnt") <= 64


def test_a_long_window_does_not_unroll():
    program = lowered(jnp.zeros((1, 4000, 1), jnp.uint32), jnp.zeros((1000, 1, 64), jnp.uint32)).as_text()
    assert len(program.splitlines()) < 1000


def test_a_deep_window_compiles_soon():
    start = time.monotonic()
    lowered(jnp.zeros((1, 14, 14, 32), jnp.uint32), jnp.zeros((7, 7, 32, 1024), jnp.uint32)).compile()
    assert time.monotonic() - start < 20  # a second or two on a quiet machine; unrolled, it takes minutes


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reads the program of XLA's CPU compiler")
def test_each_word_is_counted_once_however_often_the_result_is_read():
    def shortcut(x, w):
        y = x + jbnn.binary_conv(x, w, implementation="popcount")
        return y + jbnn.binary_conv(y, w, implementation="popcount")

    x = jnp.zeros((1, 14, 14, 128))
    program = jax.jit(shortcut).lower(x, KERNEL).compile().as_text()
    assert program.count(" popcnt(") == 2 * 9 * 4


def test_temporary_memory_stays_below_twice_what_is_held():
    memory = lowered(WORDS, KERNEL).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 2 * (memory.argument_size_in_bytes + memory.output_size_in_bytes)
