"""Documentation that runs: the examples in docstrings, README and guide, and the commands that they show."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fanin.activations import activation
from fanin.cli import app
from fanin.keras.backend import start
from fanin.studies import STUDIES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fanin"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts)]


def place(page: Path) -> str:
    """Where a page is, as the name of a test."""
    return str(page.relative_to(ROOT))


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


@pytest.mark.parametrize("page", PAGES, ids=place)
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


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_the_commands_on_a_page_can_be_run(page: Path) -> None:
    root = get_command(app)
    for words in commands(page):
        name, *given = words[1:]
        command = root.commands[name]  # type: ignore[attr-defined]
        with command.make_context(name, given) as context:  # refuses what is unknown or missing
            if name == "study":
                assert is_study(context.params["name"]), words
            if name == "theory" and ":" not in context.params["activation"]:
                assert activation(context.params["activation"]), words


def is_study(text: str) -> bool:
    """Whether there is such a study; one in a user's file is not looked for."""
    return text in STUDIES or ".py:" in text


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


LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def unfenced(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its blocks and its pieces of code."""
    return re.sub(r"`[^`\n]*`", "", unfenced(page))


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as code hosts and MyST have it."""
    headings = re.findall(r"^#+ (.*)$", unfenced(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links of a page within the repository that lead nowhere."""
    found = []
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        there = (DOCS / path[1:] if path.startswith("/") else page.parent / path) if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One & two\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#one--two) [b](other.md#three) [c](none.md) `[d](e.md)` [f](https://example.org)\n")
    assert broken(page) == ["other.md#three", "none.md"]


NINE = ("why", "what-goes-wrong", "variance", "zero", "random", "xavier", "he", "comparison", "considerations")


def test_the_guide_answers_nine_questions_in_order() -> None:
    index = (DOCS / "guide" / "index.md").read_text()
    (listed,) = re.findall(r"```{toctree}\n:hidden:\n\n(.*?)```", index, re.DOTALL)
    shown = re.findall(r"^\d\. \[(.*)\]\((.*)\.md\)$", index, re.MULTILINE)
    assert tuple(listed.split()) == tuple(name for _, name in shown) == NINE
    for title, name in shown:
        assert (DOCS / "guide" / f"{name}.md").read_text().startswith(f"# {title}\n")
    considerations = (DOCS / "guide" / "considerations.md").read_text()
    assert len(re.findall(r"^## ", considerations, re.MULTILINE)) == 10


@pytest.mark.parametrize("name", NINE)
def test_a_page_of_the_guide_ends_with_one_command(name: str) -> None:
    page = DOCS / "guide" / f"{name}.md"
    last = page.read_text().rstrip().rsplit("```sh\n", 1)[1]
    assert last.endswith("```")
    assert len(last.splitlines()) == 2
    assert last.startswith("fanin ")


@pytest.mark.parametrize("name", NINE)
def test_no_measured_number_is_typed_into_the_guide(name: str) -> None:
    typed = re.findall(r"[\d.]+ (?:%|points?|percentage points?|seeds)", prose(DOCS / "guide" / f"{name}.md"))
    assert {*typed} <= {"95 %", "5 %"}, typed
