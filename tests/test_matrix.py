"""The table of what was tested where, from results that are made up."""

import matrix
import pytest
from apple_forms import CASES
from networks import SMALL

AUDIT = "test_a_plugin_has_every_operation[{}-jax-metal]"
BITS = next(f for f in matrix.FEATURES if "bits" in f.modules)
MESHES = next(f for f in matrix.FEATURES if "sharding" in f.modules)
PASSED, FAILED, BROKEN, SKIPPED = "", "<failure/>", "<error/>", "<skipped/>"


def junit(folder, version, *cases):
    """A file as pytest writes it, of (class, test, outcome)."""
    tests = "".join(f'<testcase classname="{c}" name="{name}">{mark}</testcase>' for c, name, mark in cases)
    path = folder / f"jax-{version}.xml"
    path.write_text(f"<testsuites><testsuite>{tests}</testsuite></testsuites>")
    return path


def whole_run(folder, version, *without):
    modules = sorted(matrix.test_modules() - {*without})
    return junit(folder, version, *((f"tests.test_{module}", "test_it", PASSED) for module in modules))


@pytest.mark.parametrize(
    ("cases", "cell"),
    [
        ([("tests.test_bits", "test_a", PASSED), ("tests.test_popcount", "test_b[test_c]", PASSED)], "tested"),
        ([("tests.test_bits.TestWords", "test_a", PASSED)], "tested"),
        ([("tests.test_bits", "test_a", PASSED), ("tests.test_bits", "test_b", SKIPPED)], "tested, but for 1"),
        ([("tests.test_bits", "test_a", SKIPPED)], "no"),
        ([("tests.test_bits", "test_a", PASSED), ("tests.test_popcount", "test_b", FAILED)], "1 failed"),
        ([("tests.test_bits", "test_a", PASSED), ("", "tests.test_popcount", BROKEN)], "1 failed"),
        ([("tests.test_bits", "test_a", PASSED), ("", "tests.test_popcount", SKIPPED)], "tested, but for 1"),
        ([("tests.test_sharding", "test_a", PASSED), ("pytest", "internal", BROKEN)], "no"),
    ],
)
def test_a_cell_tells_every_outcome_of_its_modules(tmp_path, cases, cell):
    assert matrix.tested(matrix.by_module(junit(tmp_path, "0.5.0", *cases)), BITS) == cell


@pytest.mark.parametrize(
    ("mark", "cell"),
    [(PASSED, "compile-audited"), (FAILED, "1 failed"), (SKIPPED, "compile-audited, but for 1")],
)
def test_an_audit_counts_the_functions_of_its_row(tmp_path, mark, cell):
    of_others = AUDIT.format("alpha"), AUDIT.format("pack_kernels"), AUDIT.format("sign").replace("metal", "mps")
    path = junit(
        tmp_path,
        "0.5.0",
        *(("tests.test_apple", name, FAILED) for name in of_others),
        ("tests.test_apple", AUDIT.format("pack: bool"), PASSED),
        ("tests.test_apple", AUDIT.format("sign: float32"), mark),
    )
    assert matrix.audited(path, "jax-metal", BITS) == cell
    assert matrix.audited(path, "jax-metal", MESHES) == "no"


def test_results_that_make_no_table_are_refused(tmp_path):
    versions = "0.4.34", "0.5.0", "0.10.2"
    whole = [whole_run(tmp_path, version) for version in versions]
    assert matrix.incomplete(whole) is None
    assert matrix.incomplete([]) == "no results of jax 0.4.34, 0.5.0"
    assert matrix.incomplete(whole[1:]) == "no results of jax 0.4.34"
    assert matrix.incomplete(whole[:2]) == "no results of jax newer than 0.5.0"
    part = whole_run(tmp_path, "0.5.0", *matrix.ONCE)
    assert matrix.incomplete([whole[0], part, whole[2]]) is None
    part = whole_run(tmp_path, "0.10.2", *matrix.ONCE)
    assert matrix.incomplete([*whole[:2], part]).startswith("jax-0.10.2.xml has no test of choose, ")
    whole = [whole_run(tmp_path, version) for version in versions]
    cut = whole_run(tmp_path, "0.5.0", "bits", "sharding")
    assert matrix.incomplete([whole[0], cut, whole[2]]).startswith("jax-0.5.0.xml has no test of bits, sharding")


def test_a_newer_jax_is_a_column_of_its_own(tmp_path):
    paths = [whole_run(tmp_path, version) for version in ("0.10.2", "0.4.34", "0.11.0rc1", "0.5.0")]
    results = matrix.in_order(paths)
    assert [matrix.version(path) for path in results] == ["0.4.34", "0.5.0", "0.10.2", "0.11.0rc1"]
    record = {"device": "GPU", "jax": "0.11.2", "date": "2026-11-21", "modules": {"bits": [3, 0, 0]}}
    head, rule, *rows = matrix.table(results, [record])
    assert head.count("CPU<br>") == 4 and "GPU<br>jax 0.11.2<br>by hand, 2026-11-21" in head
    assert head.endswith("jax-metal<br>jax 0.4.34, 0.5.0 | jax-mps<br>jax 0.11.0rc1 |")
    assert rows[0].split(" | ")[1:] == ["tested"] * 5 + ["no", "no |"]
    assert rows[1].split(" | ")[5] == "no"
    assert {row.count("|") for row in (head, rule, *rows)} == {9}


def test_the_table_can_be_replaced_again_and_again():
    page = f"before\n\n{matrix.BEGIN}\n{matrix.END}\n\nafter\n"
    once = matrix.with_table(page, ["| a |"])
    assert once == f"before\n\n{matrix.BEGIN}\n\n| a |\n\n{matrix.END}\n\nafter\n"
    assert matrix.with_table(once, ["| a |"]) == once


PAGE = f"before\n\n{matrix.BEGIN}\n{matrix.END}\n\nafter\n"
RECORD = {"device": "GPU", "jax": "0.11.2", "date": "2026-11-21", "modules": {"bits": [3, 0, 0]}}


def test_a_release_of_jax_changes_nothing_in_a_table_that_holds_what_was_tested(tmp_path):
    paths = [whole_run(tmp_path, version) for version in ("0.4.34", "0.5.0", "0.10.2")]
    page = matrix.with_table(PAGE, matrix.table(paths, [RECORD]))
    assert matrix.compared(page, matrix.table(paths, [RECORD])) == ([], [])
    assert matrix.newest(page) == "0.10.2"
    released = [*paths[:2], whole_run(tmp_path, "0.11.0")]
    new = matrix.table(released, [RECORD])
    assert matrix.compared(page, new) == ([], ["CPU<br>jax 0.11.0", "jax-mps<br>jax 0.11.0"])


def test_a_table_that_says_something_else_is_found(tmp_path):
    paths = [whole_run(tmp_path, version) for version in ("0.4.34", "0.5.0", "0.10.2")]
    lines = matrix.table(paths, [RECORD])
    page = matrix.with_table(PAGE, lines)
    changed = [line.replace("tested", "no", 1) if "jbnn.interchange" in line else line for line in lines]
    assert matrix.compared(page, changed) == (["CPU<br>jax 0.4.34"], [])
    renamed = [line.replace("two processes", "three processes") for line in lines]
    assert matrix.compared(page, renamed) == (["the names of the rows"], [])
    assert matrix.compared(page, matrix.table(paths, [RECORD | {"modules": {}}]))[0] == [
        "GPU<br>jax 0.11.2<br>by hand, 2026-11-21"
    ]


def test_what_an_implementation_refused_is_no_skip_of_ours(tmp_path):
    refused = f'<skipped message="{matrix.REFUSED}abacus: too deep"/>'
    cases = [("tests.test_bits", "test_a", PASSED), ("tests.test_bits", "test_b", refused)]
    assert matrix.tested(matrix.by_module(junit(tmp_path, "0.5.0", *cases)), BITS) == "tested"


def test_what_runs_once_exists_and_leaves_each_row_something_to_run_on_every_jax():
    assert {*matrix.ONCE} <= matrix.test_modules()
    assert all({*feature.modules} - {*matrix.ONCE} for feature in matrix.FEATURES)


def test_every_module_and_every_audited_function_is_in_a_row():
    assert matrix.unplaced() == []
    audited = [case.id for case in CASES] + [module.__name__.split(".")[-1] for module in SMALL]
    beginnings = tuple(start for feature in matrix.FEATURES for start in feature.audited)
    assert [name for name in audited if not name.startswith(beginnings)] == []
    assert [start for start in beginnings if not any(name.startswith(start) for name in audited)] == []
