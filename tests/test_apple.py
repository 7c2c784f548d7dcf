"""Apple's plugins, as far as Linux can tell: the programs that they would be given hold nothing that they lack.

The table is printed by tests/apple_report.py.
"""

import jax
import jax.numpy as jnp
import pytest
from apple_exceptions import EXCEPTIONS, expected
from apple_forms import CASES, forms
from apple_ops import METAL, MPS, PLUGINS, audit
from apple_programs import lowered, received, serialises
from apple_report import findings, report
from jax import lax
from jax_versions import METAL_RUNS_HERE

from examples.calls import Call


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_plugin_has_every_operation(case, plugin):
    found = {form: finding.offences for form, finding in findings(case, plugin).items()}
    assert found == {form: expected(plugin.name, case.id, form) for form in found}


def test_every_exception_is_of_a_case_and_form_that_are_audited():
    audited = {(plugin.name, case.id, form) for plugin in PLUGINS for case in CASES for form, _ in forms(case)}
    assert {(e.plugin, e.case, form) for e in EXCEPTIONS for form in e.forms} <= audited


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def words(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.uint32)


def convolve(x, w):
    return lax.conv_general_dilated(x, w, (1,) * (x.ndim - 2), "SAME")


def grouped(x, w):
    return lax.conv_general_dilated(x, w, (1,) * (x.ndim - 2), "SAME", feature_group_count=2)


def reduced_by(operation):
    return lambda x: lax.reduce(x, jnp.zeros((), x.dtype), operation, (0,))


def window_sum(*window, padding="VALID", **options):
    ones = (1,) * len(window)
    return lambda x: lax.reduce_window(x, 0.0, lax.add, window, ones, padding, **options)


def pad(low, high):
    return lambda x: lax.pad(x, 0.0, [(low, high, 0)])


# A function, its arguments, and what of it each plugin lacks.
PLANTED = {
    "popcount": (lax.population_count, [words(5)], ["stablehlo.popcnt"], []),
    "popcount in a loop": (
        lambda x: lax.fori_loop(0, 3, lambda i, x: lax.population_count(x), x),
        [words(5)],
        ["stablehlo.popcnt"],
        [],
    ),
    "integer convolution": (convolve, [words(1, 1, 5, 5), words(1, 1, 3, 3)], *[["stablehlo.convolution of ui32"]] * 2),
    "integer product": (jnp.dot, [words(4, 5), words(5, 6)], *[["stablehlo.dot_general of ui32"]] * 2),
    "product over two axes": (
        lambda x, w: jnp.tensordot(x, w, 2),
        [f32(3, 4, 5), f32(4, 5, 6)],
        ["stablehlo.dot_general over two axes"],
        [],
    ),
    "xor reduction": (
        reduced_by(lax.bitwise_xor),
        [words(5)],
        *[["stablehlo.reduce of ui32 by stablehlo.xor"]] * 2,
    ),
    "or reduction": (reduced_by(lax.bitwise_or), [words(5)], *[["stablehlo.reduce of ui32 by stablehlo.or"]] * 2),
    "any": (lambda x: jnp.any(x > 0), [f32(5)], [], []),
    "sum of bytes": (
        lambda x: jnp.sum(x, dtype=jnp.uint8),
        [jax.ShapeDtypeStruct((5,), jnp.uint8)],
        [],
        ["stablehlo.reduce of ui8 by stablehlo.add"],
    ),
    "custom call": (lambda x: lax.approx_max_k(x, 2), [f32(4, 8)], *[["stablehlo.custom_call"]] * 2),
    "grouped convolution, 2-D": (grouped, [f32(1, 4, 5, 5), f32(2, 2, 3, 3)], [], []),
    "grouped convolution, 3-D": (
        grouped,
        [f32(1, 4, 5, 5, 5), f32(2, 2, 3, 3, 3)],
        [],
        ["stablehlo.convolution in 3-D with groups"],
    ),
    "sums in windows of three axes": (
        window_sum(1, 2, 2),
        [f32(2, 5, 5)],
        ["stablehlo.reduce_window of 3 axes"],
        [],
    ),
    "a window that is one axis": (
        window_sum(1, 5),
        [f32(2, 5)],
        ["stablehlo.reduce_window of 2 axes"],
        ["stablehlo.reduce_window over one whole axis"],
    ),
    "a running sum": (window_sum(5, padding=[(4, 0)]), [f32(5)], ["stablehlo.reduce_window of 1 axes"], []),
    "sums in windows of a dilated image": (
        window_sum(1, 2, 2, 1, base_dilation=(1, 2, 2, 1)),
        [f32(2, 6, 6, 3)],
        ["stablehlo.reduce_window with base dilation"],
        [],
    ),
    "cropping and padding": (pad(-2, 3), [f32(5)], [], []),
    "cropping what was padded": (pad(-6, 3), [f32(5)], [], ["stablehlo.pad that crops more than there is"]),
    "two results at once": (
        lambda x: lax.reduce((x, x), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] * b[1]), (0,)),
        [f32(5)],
        *[["stablehlo.reduce of f32 by stablehlo.add, stablehlo.multiply"]] * 2,
    ),
}


@pytest.mark.parametrize("function, args, metal, mps", PLANTED.values(), ids=PLANTED)
def test_the_audit_catches(function, args, metal, mps):
    assert audit(lowered(function, args, "METAL"), METAL) == metal
    assert audit(lowered(function, args, "mps"), MPS) == mps


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype, name", [("int64", "i64"), ("uint64", "ui64"), ("float64", "f64")])
@pytest.mark.parametrize("plugin", [METAL, MPS], ids=lambda plugin: plugin.name)
def test_the_audit_catches_wide_types(plugin, dtype, name):
    def detour(x):
        return (x.astype(dtype) + jnp.ones((), dtype)).astype(jnp.float32)

    assert audit(lowered(detour, [f32(5)], plugin.platform), plugin) == [name]


def test_the_audit_catches_complex_numbers():
    def detour(x):
        return jnp.real(lax.complex(x, x))

    assert audit(lowered(detour, [f32(5)], "mps"), MPS) == ["complex"]


def test_the_audit_catches_a_later_stablehlo():
    program = lowered(lax.tan, [f32(5)], "METAL")
    assert serialises(program)  # since 1.4.0
    assert not serialises(program, "1.0.0")


def test_jax_metal_may_see_two_forms():
    erfc = {op for module in received(lax.erfc, [f32(5)], "METAL") for op in audit(module, METAL)}
    assert erfc == ({"chlo.erfc"} if METAL_RUNS_HERE else set())


def test_the_report_shows_counts_exceptions_and_offences():
    bits = Call("popcount", lax.population_count, (words(5),))
    lines, offences = report([*(case for case in CASES if case.id == "alpha"), bits], plugins=[METAL])
    assert offences == 2
    alpha, popcount, forward, vmap = (line.split() for line in lines[4:8])
    assert alpha[0] == "alpha" and all(int(count) > 0 for count in alpha[1:])
    assert popcount == ["popcount", "OFFENCE", "OFFENCE", "-", "-"]
    assert (forward, vmap) == (["forward:", "stablehlo.popcnt"], ["vmap:", "stablehlo.popcnt"])
