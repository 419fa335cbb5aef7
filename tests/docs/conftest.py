"""The extension that puts results into pages is no part of the package; these tests know where it is."""

import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
