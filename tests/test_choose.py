"""Which kernel runs: by name or not at all, by a table under None, and decided while lowering.

A `Case` says all that a kernel is asked, the place too, so no device is needed. Only the two portable kernels, which
stand for all cases, are named here; whatever else is in the table is asked.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case as Sample, named

import jbnn
from jbnn._kernels import choose, popcount, unpacked
from jbnn._kernels.case import BITS, SIGNS, Affine, Bits, Case, Place
from jbnn._kernels.choose import EVERYWHERE, KERNELS, PREFERRED, check_case, first

PLACES = (
    None,
    Place(("cpu",), "cpu"),
    Place(("cuda",), "NVIDIA H100 80GB HBM3"),
    Place(("cuda",), "Tesla T4"),
    Place(("cuda",), None),
    Place(("rocm",)),
    Place(("METAL",)),
    Place(("mps",)),
    Place(("cpu",), None, exported=True),
    Place(("cpu", "cuda", "tpu"), None, exported=True),
)
FLOATS, PIXELS = np.dtype(np.float32), np.dtype(np.uint8)
SIDES = [(SIGNS, SIGNS), (BITS, BITS), (BITS, SIGNS), (SIGNS, BITS), (FLOATS, SIGNS), (PIXELS, SIGNS)]
RESULTS = None, Affine(FLOATS, (0.0, None)), Bits()
GEOMETRIES = [case.canonical() for case in CASES]
GEOMETRIES += [case.canonical(transposed=True) for case in named("3-D, everything", "33 channels")]


def sample(channels=64, features=64, window=(3, 3), groups=1, platform=None, sides=(SIGNS, SIGNS), **options):
    shapes = (1, *(28,) * len(window), channels), (*window, features)
    geometry = Sample("sample", *shapes, feature_group_count=groups).canonical()
    return Case(geometry, *sides, 0, place=platform and Place((platform,)), **options)


DEEP = sample(channels=2**24 // 9 + 1, features=1)


def every_case():
    for geometry, (left, right), result in itertools.product(GEOMETRIES, SIDES, RESULTS):
        for outside in {0, 1, left.zero} if left in (SIGNS, BITS) else (0, 2):
            yield Case(geometry, left, right, outside, result)


def test_every_kernel_keeps_the_contract():
    for name, kernel in KERNELS.items():
        assert isinstance(kernel.OPAQUE, bool), name
        assert callable(kernel.conv), name
    assert {*EVERYWHERE, *itertools.chain(*PREFERRED.values())} <= {*KERNELS}
    assert all(not KERNELS[name].OPAQUE for name in EVERYWHERE)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_case_has_an_answer_and_none_a_kernel(place):
    """Every kernel says yes, or why not; together the portable ones can do all; None is one that can."""
    for case in every_case():
        case = dataclasses.replace(case, place=place)
        reasons = {name: kernel.why_not(case) for name, kernel in KERNELS.items()}
        able = [name for name, reason in reasons.items() if reason is None]
        assert all(reason is None or (isinstance(reason, str) and reason) for reason in reasons.values())
        assert any(name in able for name in EVERYWHERE)
        assert all(isinstance(KERNELS[name].faster(case), bool | np.bool_) for name in able)
        assert first(case) in able
        assert hash(case) == hash(dataclasses.replace(case))


@pytest.mark.parametrize("platform", [*PREFERRED, "METAL"])
def test_none_is_the_first_that_is_able_and_was_measured_to_be_faster(platform):
    for case in every_case():
        case = dataclasses.replace(case, place=Place((platform,)))
        ready = [
            name
            for name in PREFERRED.get(platform, ())
            if KERNELS[name].why_not(case) is None and KERNELS[name].faster(case)
        ]
        assert first(case) == ready[0] if ready else first(case) in EVERYWHERE


def test_a_name_is_used_or_refused_with_the_kernel_s_own_reason():
    for case, (name, kernel) in itertools.product([sample(), sample(sides=(FLOATS, SIGNS)), DEEP], KERNELS.items()):
        case = dataclasses.replace(case, place=Place(("cpu",)))
        reason = kernel.why_not(case)
        if reason is None:
            assert choose.choose(name, case) is kernel
        else:
            with pytest.raises(NotImplementedError) as refusal:
                choose.choose(name, case)
            assert name in str(refusal.value) and reason in str(refusal.value)


def test_an_exported_program_holds_nothing_that_xla_cannot_look_into():
    exported = [place for place in PLACES if place and place.exported]
    for case, place in itertools.product(every_case(), exported):
        case = dataclasses.replace(case, place=place)
        assert not KERNELS[first(case)].OPAQUE
        assert all(kernel.why_not(case) for kernel in KERNELS.values() if kernel.OPAQUE)


@pytest.mark.parametrize(
    ("few", "counts"),
    [
        (sample(channels=1, features=256, window=(7, 7), platform="cpu"), False),
        (sample(channels=4, features=256, window=(7, 7), platform="cpu"), False),
        (sample(channels=8, features=256, window=(7, 7), platform="cpu"), True),
        (sample(channels=1, features=32, platform="cpu"), True),
        (sample(channels=4, features=4096, window=(7, 7), groups=4, platform="cpu"), True),
        (sample(channels=1, features=256, window=(7, 7), platform="METAL"), True),
        (sample(channels=512, features=512, platform="cuda"), False),
        (sample(channels=128, features=128, platform="cuda"), True),
        (sample(channels=512, features=512, groups=2, platform="cuda"), True),
    ],
)
def test_counting_bits_was_measured_to_be_faster_than_floats(few, counts):
    """But where words are almost empty and the kernel large, and on a GPU where the window is deep."""
    assert popcount.faster(few) == counts


def test_the_portable_kernels_refuse_what_they_cannot_do():
    assert "real" in popcount.why_not(sample(sides=(FLOATS, SIGNS)))
    assert str(2**24 + 8) in unpacked.why_not(DEEP)
    assert popcount.why_not(DEEP) is None
    with pytest.raises(NotImplementedError, match=r'"popcount" cannot do this: real'):
        check_case("popcount", sample(sides=(FLOATS, SIGNS)))
    with pytest.raises(NotImplementedError, match=rf'"unpacked" cannot do this: .*{2**24 + 8}'):
        check_case("unpacked", DEEP)
    check_case("popcount", DEEP)


@pytest.fixture
def portable_alone(monkeypatch):
    """Whatever other kernel may be preferred."""
    monkeypatch.setattr(choose, "PREFERRED", dict.fromkeys(("cpu", "cuda"), EVERYWHERE))


@pytest.mark.usefixtures("portable_alone")
def test_the_choice_follows_the_platform_of_the_program():
    x, w = jnp.zeros((1, 28, 28, 1), jnp.uint32), jnp.zeros((7, 7, 1, 256), jnp.uint32)
    traced = jax.jit(lambda x, w: jbnn.packed_conv(x, w, channels=1)).trace(x, w)
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("METAL",)).as_text()
