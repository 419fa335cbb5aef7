"""The layers of DESIGN.md, read off the imports; and what importing fanin costs."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "fanin"
LAYERS = (
    ("errors",),
    ("files", "progress", "records"),
    ("activations", "stats"),
    ("theory",),
    ("initializers",),
    ("recipes", "training", "vitals"),
    ("doctor",),
    ("jax",),
    ("keras", "torch"),
    ("frameworks",),
    ("applying", "experiments", "patients"),
    ("studies",),
    ("report",),
    ("api",),
    ("cli",),
)
"""From the bottom up: a part imports from its own layer's parts of the same folder and from layers before it."""
FRAMEWORKS = {"jax": {"jax", "flax"}, "keras": {"keras", "jax"}, "torch": {"torch"}}
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {
    *(
        "keras",
        "jax",
        "torch",
        "tensorflow",
        "flax",
        "numba",
        "scipy",
        "matplotlib",
        "pandas",
        "sklearn",
        "rich",
        "typer",
    )
}


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "fanin"
                else {node.module or ""}
            )
    return found


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in FILES} == {*LEVEL, "__init__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] != "fanin" or len(pieces) == 1:
            continue
        other = pieces[1]
        if other == part:
            continue
        assert LEVEL[other] < LEVEL[part], f"{part} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_its_own_folder_imports_a_framework(path: Path) -> None:
    frameworks = {"keras", "jax", "torch", "tensorflow", "flax"}
    used = {name.split(".")[0] for name in imports(path)} & frameworks
    assert used <= FRAMEWORKS.get(part_of(path), set())


def test_the_rule_would_be_broken_by_an_upward_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from fanin import api\n    import jax.numpy\n")
    assert imports(wrong) == {"fanin.api", "jax.numpy"}


def loaded(code: str) -> set[str]:
    """The heavy packages that a fresh process has loaded after running some code."""
    script = f"{code}\nimport sys\nprint(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) & HEAVY


def test_importing_fanin_loads_no_framework() -> None:
    assert loaded("import fanin") == set()
    assert loaded("import fanin; fanin.sample('he_normal', (3, 2), seed=0)") == set()
    assert loaded("import fanin; fanin.compare; fanin.make_task; fanin.canonical('zeros'); fanin.Init") == set()
    assert loaded("import fanin.cli") <= {"typer", "rich"}


def test_the_public_names_are_sorted_and_there() -> None:
    import fanin

    assert fanin.__all__ == sorted(fanin.__all__)
    assert fanin.__all__ == [
        *("FaninError", "Init", "Plan", "__version__", "audit", "canonical", "check", "compare", "describe"),
        *("init", "make_task", "plan", "plot_updates", "sample"),
    ]
    assert dir(fanin) == fanin.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = fanin.nothing
    for path in FILES:
        name = ".".join(("fanin", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        if name.startswith("fanin.keras"):
            from fanin.keras.backend import start

            start(None)
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", []):  # ruff keeps it sorted
            thing = getattr(module, public)
            assert thing.__doc__ or not (inspect.isclass(thing) or inspect.isfunction(thing)), f"{name}.{public}"


def test_no_file_has_grown_out_of_hand() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long
