"""Turns the package's docstrings, written to be read in a terminal, into what Sphinx expects.

* An indented formula becomes a code block.
* `name` becomes code, and a link where it is a public name of the package.
* The letters of shapes keep their stars, and |x| its bars.
* "Gradient: …" becomes a section, and each reference a paragraph.

Sections such as "Args:" are napoleon's business, which runs after this.
"""

import re

import jbnn

MODULES = {
    "jbnn": jbnn,
    "jbnn.quantizers": jbnn.quantizers,
    "jbnn.activations": jbnn.activations,
    "jbnn.convolution": jbnn.convolution,
    "jbnn.interchange": jbnn.interchange,
    "jbnn.mps": jbnn.mps,
}
# Names are linked as they are written; those of activations only with their module, being everyday words.
PUBLIC = {f"{module}.{name}": f"{module}.{name}" for module, names in MODULES.items() for name in names.__all__}
for module in (jbnn.quantizers, jbnn.convolution, jbnn.interchange):
    PUBLIC |= {name: f"{module.__name__}.{name}" for name in module.__all__}
PUBLIC |= {name: f"jbnn.{name}" for name in jbnn.__all__} | dict.fromkeys(MODULES.keys() - {"jbnn"}, "")
SPAN = re.compile(r"`([^`]+)`|([*|])")


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon, which has 500
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}


def _skip(app, what, name, obj, skip, options):
    """Leaves out the fields of a NamedTuple, whose docstrings are Python's; its own docstring explains them."""
    return type(obj).__name__ == "_tuplegetter" or None


def _process(app, what, name, obj, options, lines):
    lines[:] = _converted(lines, name)


def _converted(lines, own_name):
    """The lines of one docstring, paragraph by paragraph."""
    out, section = [], ""
    for block in _blocks(lines):
        indent = len(block[0]) - len(block[0].lstrip())
        if header := re.fullmatch(r"(\w+):", block[0]):
            section = header[1]
        elif indent == 0:
            section = ""
        if block[0].lstrip().startswith(">>>"):
            out += block
        elif indent >= 4 and not section:
            out += [".. code-block:: text", "", *(line.replace("`", "") for line in block)]
        elif block[0].startswith("[1]"):
            out += [_inline(line.strip(), own_name) for line in block]
        elif match := re.match(r"Gradient: (.*)", block[0]):
            first, *rest = match[1][0].upper() + match[1][1:], *block[1:]
            out += ["Gradient:", *("  " + _inline(line, own_name) for line in (first, *rest))]
        else:
            doctest = False
            for line in block:
                doctest |= line.lstrip().startswith(">>>")
                out.append(line if doctest else _inline(line, own_name))
                if section == "References" and "https://" in line:
                    out.append("")
        out.append("")
    return out


def _blocks(lines):
    """The lines between blank lines."""
    block = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _inline(line, own_name):
    def replace(match):
        code, sign = match.groups()
        if sign:
            return "\\" + sign
        called = code.split("(")[0]
        target = PUBLIC.get(f"{own_name.rpartition('.')[0]}.{called}", PUBLIC.get(called))  # its own module's first
        if target is None or target == own_name:
            return f"``{code}``"
        return f":py:func:`{code} <{target}>`" if target else f":py:mod:`{code}`"

    line = re.sub(r"^(\s*\w)\.$", r"\1\\.", line)  # "x." alone would begin a list
    return SPAN.sub(replace, line)
