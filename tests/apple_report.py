"""Prints the audit for Apple's plugins: PYTHONPATH=. python tests/apple_report.py

For each public function, and each form of it, the number of operations in the program that a plugin would be given, or
what in it the plugin does not compile.
"""

import sys
from typing import NamedTuple

import jax
from apple_exceptions import EVERY_FORM, EXCEPTIONS, expected
from apple_forms import CASES, forms
from apple_ops import PLUGINS, audit
from apple_programs import operations, received

from examples.calls import NOT_A_COMPUTATION


class Finding(NamedTuple):
    operations: int
    offences: list[str]


def findings(case, plugin):
    """By form: what the audit finds in all the programs that the plugin may be given."""
    found = {}
    for form, (function, args) in forms(case):
        modules = received(function, args, plugin.platform)
        offences = sorted({offence for module in modules for offence in audit(module, plugin)})
        found[form] = Finding(max(len(operations(module)) for module in modules), offences)
    return found


def cell(finding, accepted):
    if finding is None:
        return "-"
    if not finding.offences:
        return str(finding.operations)
    return "exception" if finding.offences == accepted else "OFFENCE"


def report(cases=CASES, plugins=PLUGINS):
    """The lines of the report, and how many offences are no exceptions."""
    lines = [
        f"Compile audit for Apple's JAX plugins, jax {jax.__version__}. Nothing here was executed on a Mac.",
        "A cell is the number of operations in the program; -: has no gradient.",
    ]
    offences = 0
    for plugin in plugins:
        lines += ["", f"{plugin.name:48}" + "".join(f"{form:>18}" for form in EVERY_FORM)]
        for case in cases:
            found = findings(case, plugin)
            accepted = {form: expected(plugin.name, case.id, form) for form in EVERY_FORM}
            lines.append(f"{case.id:48}" + "".join(f"{cell(found.get(f), accepted[f]):>18}" for f in EVERY_FORM))
            for form, finding in found.items():
                if finding.offences != accepted[form]:
                    offences += 1
                    lines.append(
                        f"    {form}: {', '.join(finding.offences) or 'an exception that is no longer needed'}"
                    )
    lines += ["", "Exceptions"]
    lines += [f"    {e.plugin}, {e.case}, {' and '.join(e.forms)}: {e.offence}: {e.reason}" for e in EXCEPTIONS]
    lines += [f"    {name} is not audited: it {reason}" for name, reason in NOT_A_COMPUTATION.items()]
    return lines, offences


if __name__ == "__main__":
    lines, offences = report()
    print("\n".join(lines))
    sys.exit(offences > 0)
