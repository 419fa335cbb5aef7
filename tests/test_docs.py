"""Documentation that runs: the examples in docstrings, README and guide, and the commands that they show."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fanin.cli import app
from fanin.keras.backend import start

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fanin"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    ".".join(("fanin", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py"))
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    start(None)
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_python_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


def commands(page: Path) -> list[list[str]]:
    """The fanin commands that a page shows, with continued lines joined."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    found = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for words in found if words and words[0].rsplit("/", 1)[-1] == "fanin"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_on_a_page_exist(page: Path) -> None:
    root = get_command(app)
    for words in commands(page):
        name, *rest = words[1:]
        command = root.commands[name]  # type: ignore[attr-defined]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= {*flags, "--help"}, words


def test_pages_show_commands_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 5


def test_every_flag_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "compare.md").read_text()
    root = get_command(app)
    for parameter in root.commands["compare"].params:  # type: ignore[attr-defined]
        assert f"`{parameter.opts[0]}`" in reference, parameter.opts
        assert parameter.help


def test_ci_runs_the_second_command_of_the_readme() -> None:
    first, second = blocks(ROOT / "README.md", "sh")[:2]
    script = (ROOT / ".ci" / "run").read_text()
    for command in second.replace("\\\n", " ").split("&&"):
        words = command.split()
        assert " ".join(words) in re.sub(r" -q\b", "", script), words
    assert "fanin compare" in first


def test_the_changelog_knows_this_version() -> None:
    import fanin

    assert f"## {fanin.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{fanin.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_every_flag_of_plan_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "recipes.md").read_text()
    for parameter in get_command(app).commands["plan"].params:  # type: ignore[attr-defined]
        if parameter.opts[0].startswith("--"):
            assert parameter.opts[0] in guide, parameter.opts


def test_every_recipe_is_in_the_guide() -> None:
    from fanin.recipes import RECIPES

    guide = (ROOT / "docs" / "recipes.md").read_text()
    assert [name for name in RECIPES if f"`{name}`" not in guide] == []
