"""Reference pages: the public names of a package, and the commands, as they are now."""

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command
from typer.testing import CliRunner

from fanin.cli import app

__all__ = ["PACKAGES", "Commands", "Public", "commands", "directive_of", "help_of", "short_signature"]

PACKAGES = (
    "fanin", "fanin.theory", "fanin.studies", "fanin.torch", "fanin.keras", "fanin.jax", "fanin.records",
)  # fmt: skip
"""Those with a page each in docs/reference."""

_WIDTH = "100"
"""Columns of the help as it is printed."""


def directive_of(thing: Any) -> str:
    """Which directive of autodoc documents a thing.

    Example:
        >>> directive_of(KeyError), directive_of(len), directive_of(3)
        ('autoexception', 'autofunction', 'autodata')
    """
    if inspect.isclass(thing):
        return "autoexception" if issubclass(thing, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(thing) else "autodata"


def _said_of(name: str, thing: Any) -> str:
    """What stands below a constant in the module that defines it; autodoc looks only where it was imported from."""
    for module in [m for m in sys.modules if m.split(".")[0] == "fanin"]:
        if getattr(sys.modules[module], name, None) is thing:
            try:
                lines = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
            except ExtensionError:  # PycodeError: a module without a source
                continue
            if lines:
                return "\n".join(lines)
    return ""


def _documented(package: ModuleType) -> Iterator[str]:
    """The public names, each as a block for autodoc, or with a sentence of its own where autodoc does not help."""
    for name in package.__all__:
        thing = getattr(package, name)
        kind, full = directive_of(thing), f"{package.__name__}.{name}"
        said = (_said_of(name, thing) or f"``{thing!r}``") if kind == "autodata" else _lent(package, name, thing)
        if said:
            yield f".. py:{kind.removeprefix('auto')}:: {name}\n\n   {said.replace(chr(10), chr(10) + '   ')}\n"
        else:
            yield f".. {kind}:: {full}\n{'   :members:' if inspect.isclass(thing) else ''}\n"


def _lent(package: ModuleType, name: str, thing: Any) -> str:
    """Whose a class or function is that a package only passes on; empty if it is the package's own."""
    inner = [other for other in PACKAGES if other.startswith(f"{package.__name__}.")]
    homes = [other for other in inner if getattr(import_module(other), name, None) is thing]
    if homes:
        return f"The same as :py:obj:`{homes[0]}.{name}`."
    if thing.__module__.split(".")[0] != "fanin":
        return f"That of {thing.__module__.split('.')[0]}, passed on."
    return ""


class Public(SphinxDirective):
    """The public names of a package: what its own docstring says, then each name with its docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The names as nodes, known to the index."""
        package = import_module(self.arguments[0])
        text = f".. py:module:: {package.__name__}\n\n{inspect.getdoc(package)}\n\n" + "\n".join(_documented(package))
        return self.parse_text_to_nodes(f"```````{{eval-rst}}\n{text}\n```````")


def commands() -> list[str]:
    """The names of all commands.

    Example:
        >>> "compare" in commands()
        True
    """
    return sorted(get_command(app).commands)  # type: ignore[attr-defined]


def help_of(command: str) -> str:
    """What `fanin COMMAND --help` prints."""
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": _WIDTH}, prog_name="fanin").output.strip()


class Commands(SphinxDirective):
    """All commands, each in a section with its live help."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        parts = [f"## fanin {name}\n\n```text\n{help_of(name)}\n```" for name in commands()]
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def short_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A signature that can be read as Python also where a dataclass makes a default anew each time."""
    return signature and signature.replace("<factory>", "..."), returned
