"""The site: it builds without a warning, has every name and command, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from fanin_docs.reference import PACKAGES, commands
from sphinx.util.inventory import InventoryFile

from fanin.keras.backend import start

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; the one costly thing here, about 25 s of one core."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(out / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(out / "html")], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    start(None)
    found = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    known = {name for kind, entries in found.items() if kind.startswith("py:") for name in entries}
    wanted = {f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__}
    assert len(wanted) > 150
    assert wanted - known == set()


def test_every_command_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text()
    for name in commands():
        assert f'id="fanin-{name}"' in page
        assert f"Usage: fanin {name}" in page


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = [path for kind in ("*.html", "*.css", "*.js") for path in site.rglob(kind)]
    assert len(pages) > 30
    for path in pages:
        text = path.read_text()
        assert not re.search(r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//', text), path
        assert not re.search(r'<link[^>]*rel="(?:stylesheet|preload|preconnect)"[^>]*href="(?:https?:)?//', text), path
        assert not re.search(r"(?:@import\s+|url\()[\"']?(?:https?:)?//", text), path


def test_results_stand_on_the_pages(site: Path) -> None:
    page = (site / "guide" / "zero.html").read_text()
    assert "Units that start equal stay equal" in page
    assert re.search(r'href="\.\./studies\.html#symmetry"', page)
    assert '<figure class="drawn' in page
    assert re.search(r'<svg role="img" aria-label="Share of distinct units', page)
    assert "<math" in page
