"""Hopper's tensor cores, without them: what is decided, how it is laid out, and that it lowers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from numpy.testing import assert_array_equal
from test_readings import MIXED, drawn
from test_transpose import CASES as TRANSPOSED

from jbnn._geometry import Geometry
from jbnn._hopper import arrange, launch, plan
from jbnn._kernels import wgmma
from jbnn._kernels.case import BITS, SIGNS, Affine, Bits, Case, Place
from jbnn._kernels.choose import first

H100 = Place(("cuda",), "NVIDIA H100 80GB HBM3")
EVERY = [case for case in [*CASES, *TRANSPOSED] if case.channels and not case.canonical().is_empty(case.image[0])]
FLOATS, BFLOATS = np.dtype(np.float32), np.dtype(jnp.bfloat16)
RNG = np.random.default_rng(0)

# Without JAX's part for NVIDIA's GPUs nothing can be lowered for them.
lowers = pytest.mark.skipif(launch.why_not() is not None, reason=str(launch.why_not()))


def asked(case, pair=(SIGNS, SIGNS, 0), **options):
    """A case of the table as a kernel is asked for it on an H100."""
    geometry = case.canonical(transposed=case in TRANSPOSED)
    return Case(geometry, *pair, **{"place": H100, "images": case.image[0], **options})


def dense(channels, features, rows=64, left=SIGNS, **options):
    options = {"place": H100, "images": rows, **options}
    return Case(Geometry((), (), channels, features, 1, (), (), (), ()), left, SIGNS, 0, **options)


def words(*shape):
    return RNG.integers(0, 2**32, shape, np.uint32)


def computed(case, x, w):
    """u as the kernel computes it from what it is given, position by position and column by column."""
    layout, formula, g = wgmma._plan(case), wgmma._formula(case, (0, 0)), case.geometry
    sets, n = g.groups * layout.sets, layout.filters
    filters = np.asarray(arrange.filters(layout, formula, np.asarray(w).reshape(-1, g.features))).view(np.uint32)
    table = np.asarray(wgmma._table(layout, formula, np.asarray(w).reshape(-1, g.features), case, ()))
    shapes = plan.shared_shapes(layout, formula)
    assert filters.shape == (sets, *shapes[0]) and table.shape == (sets, *shapes[1])
    size = layout.steps * 2 * layout.columns * 4
    columns = filters[:, :size].reshape(sets, -1, layout.columns, 4)
    loads = filters[0, size:].reshape(-1, 4, 2)
    table = table.reshape(sets, layout.classes, -1, 4, 4)  # chunk, lane, four
    outputs = plan.of_outputs(layout)
    if outputs.shape[-1] == 2:
        outputs = np.stack([outputs[:, 0], outputs[:, 1] & 0xFFFF, outputs[:, 1] >> 16], axis=1)
    outputs = np.concatenate([outputs, np.zeros((1, outputs.shape[1]), np.int32)])
    x = np.asarray(x).view(np.uint32).ravel()
    u = np.empty((layout.positions, g.features), np.int64)
    first = np.cumsum([0, *layout.digits])
    lane, index = np.meshgrid(np.arange(4), np.arange(n // 4), indexing="ij")
    channel = plan.channel_of(lane, index, n, formula.bytes)
    for position in range(layout.positions):
        image, *where = np.unravel_index(position, (layout.images, *layout.digits))
        entry = sum((outputs[first[axis] + y] for axis, y in enumerate(where)), np.zeros_like(outputs[0]))
        start = (int(image) * layout.image_bytes + int(entry[0])) // 4
        for number in range(sets):
            group, some = divmod(number, layout.sets)
            halves = []
            for load, of_lanes in zip(layout.loads, loads.astype(np.int64), strict=True):
                words = np.zeros((load.width, 4), np.uint32)
                for q, (place, mask) in enumerate(of_lanes):
                    if int(entry[1]) & int(mask) == mask:
                        at = start + group * g.words + int(np.int32(place)) // 4
                        words[:, q] = x[at : at + load.width]
                halves += list(words)
            left = np.array(halves + [np.zeros(4, np.uint32)] * (2 * layout.steps - len(halves)))
            acc = np.bitwise_count(left[:, None] & columns[number]).sum((0, 2), dtype=np.int64)
            assert (acc[n:] == acc[n]).all()
            mine = acc[index // 2 * 8 + lane * 2 + index % 2] * formula.both + acc[n] * formula.left
            mine = mine + table[number, entry[2]][index // 4, lane, index % 4]
            of_group = g.features // g.groups
            inside = some * n + channel < of_group
            u[position, (group * of_group + some * n + channel)[inside]] = mine[inside]
    return u.reshape(layout.images, *g.output, g.features)


@pytest.mark.parametrize("case", EVERY, ids=[case.id for case in EVERY])
def test_tables(case):
    """What is read, where, and what it is multiplied with: on every geometry."""
    (x, w), sums = drawn(case)
    for pair, expected in list(zip(MIXED, sums, strict=True))[::2]:
        given = asked(case, pair)
        if wgmma.why_not(given) is None:
            assert_array_equal(computed(given, x, w), expected, err_msg=str(pair))


@pytest.mark.parametrize("groups, of_group", [(1, 130), (2, 96), (3, 160)])
@pytest.mark.parametrize("images", [1, 4000])
def test_what_is_flipped(groups, of_group, images):
    """Each set of filters finds the words of its own channels, also where a group's last set is not full."""
    features = groups * of_group
    g = Geometry((4,), (1,), 32 * groups, features, groups, (1,), ((0, 0),), (1,), (1,))
    case = Case(g, SIGNS, SIGNS, 0, Bits(), place=H100, images=images)
    layout = wgmma._plan(case)
    flip = np.random.default_rng(0).random(features) < 0.5
    terms = np.zeros(features, np.int32), jnp.asarray(flip)
    table = np.asarray(wgmma._table(layout, wgmma._formula(case, terms), words(1, features), case, terms))
    for number, row in enumerate(table):
        group, some = divmod(number, layout.sets)
        given = np.unpackbits(row[-4:].view(np.uint8), bitorder="little")[: layout.filters]
        expected = flip[group * of_group : (group + 1) * of_group][some * layout.filters :][: layout.filters]
        assert_array_equal(given[: len(expected)], expected)


@pytest.mark.parametrize("filters", plan.FILTERS)
@pytest.mark.parametrize("leaves_bytes", [2, 4, None])
def test_channels_of_lanes(filters, leaves_bytes):
    """Each channel is one lane's, and a lane's are runs of 16 bytes, or every eighth bits of a word."""
    lane, index = np.meshgrid(np.arange(4), np.arange(filters // 4), indexing="ij")
    channel = plan.channel_of(lane, index, filters, leaves_bytes)
    assert sorted(channel.ravel()) == list(range(filters))
    if leaves_bytes is None:
        assert (np.diff(channel.reshape(4, -1, 4)) == 8).all()
        assert (channel // 32 == lane // (128 // filters)).all()
    else:
        assert (np.diff(channel.reshape(4, -1, 16 // leaves_bytes)) == 1).all()


@pytest.mark.parametrize(
    "geometry, filters",
    [
        (((56, 56), 3, 64, 64, 256), 64),
        (((28, 28), 3, 128, 128, 256), 128),
        (((7, 7), 3, 512, 512, 256), 128),
        (((7, 7), 3, 512, 512, 1), 32),  # a single tile for each set of filters: more, smaller sets
        (((), 0, 8192, 8192, 16384), 128),
        (((), 0, 32768, 128, 16384), 32),  # more does not fit shared memory
    ],
)
def test_plan(geometry, filters):
    image, window, channels, features, images = geometry
    rank = len(image)
    ones, pads = (1,) * rank, ((window // 2,) * 2,) * rank
    g = Geometry(image, (window,) * rank, channels, features, 1, ones, pads, ones, ones)
    case = Case(g, SIGNS, SIGNS, 0, Bits(), place=H100, images=images)
    layout, formula = wgmma._plan(case), wgmma._formula(case, (0, 0))
    assert layout.filters == filters
    assert plan.shared_memory(layout, formula) <= plan.SHARED_MEMORY
    assert layout.blocks <= max(launch.processors(), layout.sets)


def test_what_it_refuses():
    for changes, reason in [
        ({"place": Place(("cpu",), "cpu")}, "NVIDIA GPUs only"),
        ({"place": Place(("cuda",), exported=True)}, "leave the choice to None"),
        ({"place": Place(("cuda",), "NVIDIA A100")}, "this is NVIDIA A100"),
        ({"place": Place(("cuda",), "NVIDIA B200")}, "this is NVIDIA B200"),
        ({"images": None}, "must be known"),
        ({"images": 2**31}, "2^31 positions"),
        ({"geometry": dense(2**29, 1).geometry}, "on the way"),
        ({"geometry": dense(2**17, 32).geometry}, "outgrows shared memory"),
        ({"geometry": Geometry((99,), (32,), 32, 1, 1, (1,), ((0, 0),), (1,), (1,))}, "add up to 31 at most"),
        ({"left": np.dtype(np.float64)}, "float64"),
        ({"left": FLOATS, "right": BITS}, "not for 0 and 1"),
        ({"left": FLOATS, "geometry": dense(64, 63).geometry}, "by 8"),
        ({"left": np.dtype(np.uint8), "geometry": dense(2**17, 8).geometry}, "not exact"),
        ({"left": FLOATS, "geometry": Geometry((9,), (3,), 32, 8, 1, (1,), ((0, 0),), (1,), (1,))}, "no windows"),
    ]:
        assert reason in wgmma.why_not(dataclasses.replace(dense(64, 64), **changes)), reason


@lowers
def test_what_none_picks():
    elsewhere = Place(("cuda",), "NVIDIA A100-SXM4-40GB")
    for case, name in [
        (dense(4096, 4096), "wgmma"),
        (dense(4096, 4096, rows=8), "popcount"),
        (dense(4096, 4096, place=elsewhere), "unpacked"),
        (dense(4096, 16), "unpacked"),
        (dense(4096, 4096, split=True), "unpacked"),
        (dense(4096, 4096, rows=16, left=BFLOATS), "wgmma"),
        (dense(4096, 4096, rows=512, left=BFLOATS), "unpacked"),
        (dense(4096, 4096, rows=16, left=FLOATS), "wgmma"),
        (dense(4096, 4096, rows=64, left=FLOATS), "unpacked"),
    ]:
        assert first(case) == name


@lowers
@pytest.mark.parametrize("result", [None, Affine(FLOATS), Affine(BFLOATS, (0.0, None)), Bits()], ids=str)
@pytest.mark.parametrize("channels, features", [(64, 64), (128, 256), (100, 100), (4096, 96)], ids=str)
def test_it_lowers(result, channels, features):
    """Without a GPU, as far as JAX goes."""
    g = Geometry((8, 8), (3, 3), channels, features, 1, (1, 1), ((1, 1),) * 2, (1, 1), (1, 1))
    terms = {None: (), Bits: (np.int32, bool)}.get(result and type(result), (np.float32, np.float32))
    given = [
        jax.ShapeDtypeStruct((4, 8, 8, g.words), np.uint32),
        jax.ShapeDtypeStruct((3, 3, g.words, features), np.uint32),
        *(jax.ShapeDtypeStruct((features,), dtype) for dtype in terms),
    ]
    case = Case(g, SIGNS, SIGNS, 0, result, images=4)
    call = jax.jit(lambda x, w, *terms: wgmma.conv(x, w, case, terms))
    assert "mosaic_gpu" in call.trace(*given).lower(lowering_platforms=("cuda",)).as_text()


@lowers
def test_reals_lower():
    case = dense(1000, 72, rows=5, left=FLOATS)
    given = jax.ShapeDtypeStruct((5, 1000), np.float32), jax.ShapeDtypeStruct((32, 72), np.uint32)
    call = jax.jit(lambda x, w: wgmma.conv(x, w, case, ()))
    assert "mosaic_gpu" in call.trace(*given).lower(lowering_platforms=("cuda",)).as_text()
