"""Every public function says what it takes and gives, and shows it: the examples run, and print what they say."""

import doctest
import inspect
import pydoc
import re
import types

import jax
import jax.numpy as jnp
import pytest

import jbnn

MODULES = [jbnn, *(value for name in jbnn.__all__ if isinstance(value := getattr(jbnn, name), types.ModuleType))]

PUBLIC = {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
DOCUMENTED = FUNCTIONS | {module.__name__: module for module in MODULES}

each_function = pytest.mark.parametrize("name", FUNCTIONS)


def sections(function):
    """The docstring's text before its sections, under "", and each section's by its title."""
    title, found = "", {"": []}
    for line in inspect.getdoc(function).splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            title = heading[1]
            found[title] = []
        else:
            found[title].append(line)
    return {title: "\n".join(lines).rstrip() for title, lines in found.items()}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_exists_and_is_described(module):
    assert inspect.getdoc(module)
    assert sorted(module.__all__) == list(module.__all__)
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name


@each_function
def test_it_has_every_section(name):
    function = FUNCTIONS[name]
    found = sections(function)
    summary = found[""].splitlines()[0]
    assert summary.endswith("."), summary
    assert found["Returns"]
    assert bool(inspect.signature(function).parameters) == ("Args" in found)
    assert ">>> " in found["Example"]


@each_function
def test_it_describes_every_argument_in_order(name):
    function = FUNCTIONS[name]
    described = re.findall(r"^  (\w+): \S", sections(function).get("Args", ""), re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)


@each_function
def test_its_errors_are_named(name):
    raised = re.findall(r"^  (\S+)", re.sub(r"\n    .*", "", sections(FUNCTIONS[name]).get("Raises", "")), re.MULTILINE)
    assert set(raised) <= {"TypeError:", "ValueError:", "NotImplementedError:"}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith(("jbnn.binary_", "jbnn.packed_"))])
def test_help_opens_with_a_signature_that_a_person_can_read(name):
    signature = pydoc.plaintext.document(FUNCTIONS[name], FUNCTIONS[name].__name__).partition("\n")[0]
    assert len(signature) < 900
    assert "Union" not in signature and "Sequence[" not in signature  # names of types, not what they stand for


@pytest.mark.parametrize("name", DOCUMENTED)
def test_its_examples_print_what_they_say(name):
    text = inspect.getdoc(DOCUMENTED[name])
    run = doctest.DocTestParser().get_doctest(text, {"jax": jax, "jnp": jnp, "jbnn": jbnn}, name, None, None)
    output = []
    doctest.DocTestRunner().run(run, out=output.append)
    assert not output, "".join(output)
    if name in FUNCTIONS:
        assert any(example.want for example in run.examples), "nothing is shown"
