"""Where fanin keeps what it can make or download again."""

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """The folder for compiled programs and downloads: FANIN_CACHE_DIR, or ``fanin`` in the user's cache."""
    if "FANIN_CACHE_DIR" in os.environ:
        return Path(os.environ["FANIN_CACHE_DIR"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fanin"
