"""The table of docs/mps.md is complete: each row has a test of its name, or is plumbing that JAX has no use for."""

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs" / "mps.md"
PLUMBING = {
    "gradient state",
    "trainingStyle",
    "serialization flag",
    "device, command buffer, labels, load, purge",
}


def rows():
    """The first cells of the table."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("| MPS | jbnn | difference |") + 2 :]
    return [line.split("|")[1].strip() for line in table[: table.index("")]]


def test_every_row_has_a_test_or_is_plumbing():
    sources = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_mps_*.py"))
    tests = set(re.findall(r"^def test_row_(\w+)\(", sources, re.MULTILINE))
    named = {row: re.sub(r"\W+", "_", row.replace("`", "")).strip("_").lower() for row in rows()}
    assert len(named) == len(rows()) > 40
    assert {row for row, name in named.items() if name not in tests} == PLUMBING
    assert tests <= set(named.values())
