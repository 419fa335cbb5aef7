"""The reference: what documents a name, and the help of a command."""

import doctest

import pytest
from fanin_docs import directives, numbers, reference, stored
from fanin_docs.reference import PACKAGES, commands, directive_of, help_of
from typer.main import get_command

from fanin.cli import app
from fanin.errors import FaninError
from fanin.records import OPS, Init


@pytest.mark.parametrize("module", [directives, numbers, reference, stored], ids=lambda m: m.__name__)
def test_the_examples_of_the_extension_run(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_each_kind_of_thing_has_its_directive() -> None:
    assert [directive_of(thing) for thing in (Init, FaninError, help_of, OPS)] == [
        *("autoclass", "autoexception", "autofunction", "autodata")
    ]


def test_the_help_of_a_command_has_all_of_its_options() -> None:
    for name in commands():
        told = help_of(name)
        assert told.startswith(f"Usage: fanin {name}")
        for parameter in get_command(app).commands[name].params:  # type: ignore[attr-defined]
            assert parameter.opts[0] in told, (name, parameter.opts)


def test_each_package_has_a_page() -> None:
    pages = (directives.RESULTS.parents[1] / "reference").glob("*.md")
    shown = {line for page in pages for line in page.read_text().splitlines() if line.startswith("```{public}")}
    assert shown == {f"```{{public}} {package}" for package in PACKAGES}
