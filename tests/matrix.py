"""What was tested where, as a table: from the results that `make test` and its kin leave in build/tests.

    python tests/matrix.py                            writes the table into README.md and docs/compatibility.md
    python tests/matrix.py --check                    fails if they say anything else, and prints what was counted
    python tests/matrix.py --newest                   prints the newest JAX in the table
    python tests/matrix.py --record DEVICE FILE.xml   prints one run on a device that CI has not, to be kept in RECORDS

A result is pytest's JUnit file, named after its version of JAX: jax-0.4.34.xml. Records are the same, counted by
module.

The table holds what was tested when it was written, which a release of JAX does not change: the check compares the
columns that the results have too, and tells of a JAX that has none.
"""

import argparse
import datetime
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "tests"
RECORDS = ROOT / "docs" / "records"
PAGES = ROOT / "README.md", ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- the table is written by tests/matrix.py -->", "<!-- end of the table -->"
REFUSED = "refused by "  # how the reason begins where an implementation refused a test
METAL_JAX = "0.4.34", "0.5.0"  # the oldest and the newest that jax-metal runs with


class Feature(NamedTuple):
    name: str
    modules: tuple[str, ...]  # of the tests, without "test_"
    audited: tuple[str, ...] = ()  # how the names of the functions begin that the audit for Apple's plugins lowers


FEATURES = (
    Feature(
        "bits: `sign`, `pack`, `unpack`, `population_count`",
        ("bits", "popcount"),
        ("sign", "pack:", "unpack", "population_count"),
    ),
    Feature("`jbnn.quantizers`", ("quantizers",), ("quantizers.",)),
    Feature("`jbnn.activations`", ("activations",), ("activations.",)),
    Feature(
        "`binary_conv`, `packed_conv`: every mode, border and group, 1-D to 3-D",
        ("conv", "readings", "binary_family", "dtypes", "random_geometries", "choose", "callables", "errors"),
        ("binary_conv:", "packed_conv:"),
    ),
    Feature(
        "gradients, of first order only",
        ("gradients", "gradients_under_transforms", "first_order", "residuals"),
        ("binary_conv:", "binary_dense:", "alpha"),
    ),
    Feature("`binary_dense`, `packed_dense`", ("dense",), ("binary_dense:", "packed_dense:")),
    Feature("`binary_conv_transpose`", ("transpose",), ("binary_conv_transpose:",)),
    Feature(
        "thresholds, `packed_max_pool`, `pack_kernels`",
        ("threshold", "pool", "deploy"),
        ("packed_conv: to words", "packed_dense: to words", "packed_max_pool", "pack_kernels", "fold_batch_norm"),
    ),
    Feature(
        "`jbnn.convolution`, and its gradients as functions",
        (
            "convolution",
            "convolution_errors",
            "convolution_transfers",
            "conv_transpose",
            "conv_gradient",
            "sub_pixels",
            "normalization",
            "dequantize",
        ),
        ("convolution.",),
    ),
    Feature(
        "`jbnn.mps`",
        ("mps_binary_rows", "mps_real_rows", "mps_formulas", "mps_values", "mps_errors"),
        ("mps.",),
    ),
    Feature("`jbnn.interchange`", ("interchange",), ("interchange.",)),
    Feature("networks end to end, `summary`", ("networks", "summary"), ("binarynet", "birealnet18", "quicknet")),
    Feature("safetensors, Orbax, programs that run without jbnn", ("storage",)),
    Feature(
        "implementations `popcount`, `sign_flip`, `unpacked`", ("implementations", "real_weights"), ("packed_conv:",)
    ),
    Feature("implementation `simd`, on the processor of the machine", ("simd",)),
    Feature("implementation `wgmma`: what is decided and laid out", ("wgmma",)),
    Feature("implementation `wgmma`: what it computes", ("hopper",)),
    Feature("`jit`, `vmap`, `scan`, `checkpoint`, donated buffers", ("transforms", "variants", "programs")),
    Feature("`jax.export` for cpu, cuda, tpu, and all of them", ("export",)),
    Feature("meshes of 4 and 8 devices, `shard_map`", ("sharding", "opaque")),
    Feature("two processes", ("distributed",)),
)
OF_OURSELVES = "apple", "docstrings", "matrix", "mps_checklist", "oracle", "port_from_mps", "refusals"
"""Modules that test the audit, the documentation, the tests and an example."""


ONCE = {
    "choose": "decisions, made without a device",
    "docstrings": "what examples print",
    "matrix": "made up results",
    "mps_checklist": "a table in the documentation",
    "oracle": "NumPy",
    "port_from_mps": "an example program",
    "random_geometries": "more of what the table of geometries holds",
    "refusals": "made up kernels",
}
"""Modules that run on one JAX, the newest, and of what the others could not change. Single tests are marked `once`."""


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Count(*map(sum, zip(self, other, strict=True)))

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def outcomes(path):
    """(module, test, outcome) of every test in a JUnit file."""
    for case in ElementTree.parse(path).iter("testcase"):
        # A module that is skipped or fails as a whole has no class, and is named where a test would be.
        module = re.search(r"\btest_(\w+)", case.get("classname") or case.get("name"))
        yield module[1] if module else "", case.get("name"), _outcome(case)


def _outcome(case):
    marks = {child.tag: child for child in case}
    if marks.keys() & {"failure", "error"}:
        return Count(failed=1)
    if "skipped" not in marks:
        return Count(passed=1)
    refused = marks["skipped"].get("message", "").startswith(REFUSED)
    return Count() if refused else Count(skipped=1)  # refusals are counted and bounded by refusals.py


def by_module(path):
    counts = {}
    for module, _, outcome in outcomes(path):
        counts[module] = counts.get(module, Count()) + outcome
    return counts


def tested(counts, feature):
    return verdict(sum((counts.get(module, Count()) for module in feature.modules), Count()), "tested")


def audited(path, plugin, feature):
    names = (re.match(rf"test_a_plugin_has_every_operation\[(.*)-{plugin}\]", name) for _, name, _ in outcomes(path))
    wanted = {name[0] for name in names if name and name[1].startswith(feature.audited)} if feature.audited else set()
    total = sum((outcome for _, name, outcome in outcomes(path) if name in wanted), Count())
    return verdict(total, "compile-audited")


def verdict(total, success):
    if total.failed:
        return f"{total.failed} failed"
    return "no" if not total.passed else f"{success}, but for {total.skipped}" if total.skipped else success


def version(path):
    return path.stem.removeprefix("jax-")


def in_order(paths):
    return sorted(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", version(path))[:3]])


def table(results, records):
    """The lines of the table, from JUnit files in order of version and records of other devices."""
    columns = {f"CPU<br>jax {version(path)}": [tested(by_module(path), f) for f in FEATURES] for path in results}
    for record in records:
        counts = {module: Count(*count) for module, count in record["modules"].items()}
        title = f"{record['device']}<br>jax {record['jax']}<br>by hand, {record['date']}"
        columns[title] = [tested(counts, f) for f in FEATURES]
    metal = [path for path in results if version(path) in METAL_JAX]
    columns["jax-metal<br>jax " + ", ".join(map(version, metal))] = [
        agreed(audited(path, "jax-metal", f) for path in metal) for f in FEATURES
    ]
    columns[f"jax-mps<br>jax {version(results[-1])}"] = [audited(results[-1], "jax-mps", f) for f in FEATURES]
    rows = zip((feature.name for feature in FEATURES), *columns.values(), strict=True)
    return [
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def agreed(cells):
    """One cell for several versions."""
    different = set(cells)
    return different.pop() if len(different) == 1 else "; ".join(sorted(different))


def columns(lines):
    """The table's cells by column title, the rows' names under ""."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in (*lines[:1], *lines[2:])]
    head = ["", *rows[0]]
    return {title: [row[i] for row in rows[1:]] for i, title in enumerate(head)}


def split(text):
    before, _, rest = text.partition(BEGIN)
    held, _, after = rest.partition(END)
    assert after, f"no place for the table: {BEGIN} … {END}"
    return before, held.strip().splitlines(), after


def with_table(text, lines):
    before, _, after = split(text)
    return "\n".join([before + BEGIN, "", *lines, "", END + after])


def compared(text, lines):
    """The columns in which a page says something else than these lines do, and those that it lacks."""
    held, found = columns(split(text)[1]), columns(lines)
    different = [title or "the names of the rows" for title in found if title in held and held[title] != found[title]]
    return different, [title for title in found if title not in held]


def newest(text):
    """The newest JAX of a page's table that was tested on a CPU."""
    versions = [title.removeprefix("CPU<br>jax ") for title in columns(split(text)[1]) if title.startswith("CPU<br>")]
    return versions[-1]


def test_modules():
    return {path.stem.removeprefix("test_") for path in ROOT.glob("tests/test_*.py")}


def unplaced():
    """Test modules that no row counts, and modules of rows that do not exist."""
    return sorted(test_modules() ^ {*OF_OURSELVES, *(module for feature in FEATURES for module in feature.modules)})


def incomplete(results):
    """What these JUnit files, in order of version, lack for a table; or None."""
    missing = sorted({*METAL_JAX} - set(map(version, results)))
    if not missing and version(results[-1]) in METAL_JAX:
        missing = ["newer than " + METAL_JAX[-1]]
    if missing:
        return f"no results of jax {', '.join(missing)}"
    for path in results:
        needed = test_modules() - ({*ONCE} if version(path) in METAL_JAX else set())
        if absent := sorted(needed - by_module(path).keys()):
            return f"{path.name} has no test of {', '.join(absent)}: that run did not end, or is older"
    return None


def main(check):
    results = in_order(RESULTS.glob("jax-*.xml"))
    if lack := incomplete(results):
        sys.exit(f"{RESULTS}: {lack}: run `make test-everywhere`")
    if unplaced():
        sys.exit(f"tests/matrix.py: no row for, or no such module: {', '.join(unplaced())}")
    counts = {version(path): sum(by_module(path).values(), Count()) for path in results}
    total = sum(counts.values(), Count())
    if total.failed:
        sys.exit(f"tests failed, so there is nothing to say: {total}")
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    lines, stale = table(results, records), []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        different, new = compared(text, lines)
        stale += [f"{title} in {page.name}" for title in different]
        for title in new:
            print(f"{page.name} has no column for {title.replace('<br>', ', ')}: `make matrix` writes one")
        if not check:
            page.write_text(with_table(text, lines), encoding="utf-8")
    print(*lines, "", sep="\n")
    for jax, count in counts.items():
        print(f"jax {jax} on the CPU: {count}")
    print(total)
    if check and stale:
        sys.exit(f"the table says something else of {', '.join(stale)}: run `make matrix`")


def record(device, path):
    count = {module: tuple(count) for module, count in sorted(by_module(path).items())}
    today = datetime.date.today().isoformat()
    print(json.dumps({"device": device, "jax": version(path), "date": today, "modules": count}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--newest", action="store_true")
    parser.add_argument("--record", nargs=2, metavar=("DEVICE", "FILE"))
    arguments = parser.parse_args()
    if arguments.newest:
        print(newest(PAGES[0].read_text(encoding="utf-8")))
    elif arguments.record:
        record(arguments.record[0], Path(arguments.record[1]))
    else:
        main(arguments.check)
