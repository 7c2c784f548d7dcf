"""Which kernel runs: by name or not at all, by shape under None, and decided while lowering."""

import jax
import jax.numpy as jnp
import pytest
from jbnn._kernels.correlation import Correlation

import jbnn
from jbnn._geometry import conv_geometry
from jbnn._kernels import popcount, unpacked
from jbnn._kernels.choose import KERNELS, check_case, choose, fastest

WORDS = jnp.zeros((1, 5, 5, 1), jnp.uint32)
KERNEL = jnp.zeros((3, 3, 1, 4), jnp.uint32)


def correlation(channels=64, features=64, window=(3, 3), groups=1, mode="xnor"):
    geometry = conv_geometry(
        (28, 28),
        window,
        channels=channels,
        features=features,
        window_strides=1,
        padding="SAME",
        rhs_dilation=1,
        feature_group_count=groups,
    )
    return Correlation(geometry, mode, 0)


def test_a_name_is_used():
    for name, kernel in KERNELS.items():
        assert choose(name, correlation(), platforms=("cpu",), exported=False) is kernel


def test_none_counts_bits_where_words_are_filled():
    for platforms in (("cpu",), ("cuda",), ("METAL",), ("mps",), ("cpu", "cuda", "tpu")):
        assert choose(None, correlation(), platforms=platforms, exported=False) is popcount


@pytest.mark.parametrize(
    ("few", "name"),
    [
        (correlation(channels=1, features=256, window=(7, 7)), "unpacked"),
        (correlation(channels=4, features=256, window=(7, 7)), "unpacked"),
        (correlation(channels=8, features=256, window=(7, 7)), "popcount"),
        (correlation(channels=1, features=32), "popcount"),
        (correlation(channels=4, features=4096, window=(7, 7), groups=4), "popcount"),
    ],
)
def test_none_on_a_cpu_weighs_empty_words_against_a_large_kernel(few, name):
    assert fastest(few, ("cpu",)) == name
    assert fastest(few, ("METAL",)) == "popcount"
    assert fastest(few, ("cpu", "cuda")) == "popcount"


def test_none_on_a_gpu_leaves_deep_windows_to_tensor_cores():
    assert fastest(correlation(channels=512, features=512), ("cuda",)) == "unpacked"
    assert fastest(correlation(channels=128, features=128), ("cuda",)) == "popcount"
    assert fastest(correlation(channels=512, features=512, groups=2), ("cuda",)) == "popcount"


def test_none_never_picks_what_cannot_be_exact():
    deep = correlation(channels=2**24 // 9 + 1, features=1)
    assert unpacked.why_not(deep) is not None
    assert fastest(deep, ("cuda",)) == "popcount"


def test_exported_programs_hold_portable_kernels():
    for kernel in KERNELS.values():
        portable = kernel.why_not_there(("cpu", "cuda", "METAL"), exported=True) is None
        assert portable == (kernel in (popcount, unpacked))


def test_what_a_kernel_cannot_do_is_refused_with_its_reason():
    with pytest.raises(NotImplementedError, match=r'"popcount" cannot do this: mode="binary_weights" convolves real'):
        check_case("popcount", correlation(mode="binary_weights"))
    with pytest.raises(NotImplementedError, match=r'"unpacked" cannot do this: float32 sums of 16777224 terms'):
        check_case("unpacked", correlation(channels=2**24 // 9 + 1, features=1))
    check_case("popcount", correlation(channels=2**24 // 9 + 1, features=1))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match='must be None or one of "popcount", "unpacked", but was \'simd2\''):
        jbnn.packed_conv(WORDS, KERNEL, implementation="simd2")


@pytest.mark.parametrize("name", ["popcount", "unpacked"])
def test_the_program_holds_the_named_kernel(name):
    program = jax.jit(lambda x, w: jbnn.packed_conv(x, w, implementation=name)).lower(WORDS, KERNEL).as_text()
    assert ("popcnt" in program) == (name == "popcount")
    assert ("stablehlo.convolution" in program) == (name == "unpacked")


def test_the_choice_follows_the_platform_of_the_program():
    x, w = jnp.zeros((1, 28, 28, 1), jnp.uint32), jnp.zeros((7, 7, 1, 256), jnp.uint32)
    traced = jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=1)).trace(x, w)
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("METAL",)).as_text()
