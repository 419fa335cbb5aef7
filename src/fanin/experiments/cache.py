"""Where fanin keeps what it can make or download again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fanin.files import write_whole

__all__ = ["cache_dir", "remembered"]


def cache_dir() -> Path:
    """The folder for compiled programs and downloads: FANIN_CACHE_DIR, or ``fanin`` in the user's cache."""
    if "FANIN_CACHE_DIR" in os.environ:
        return Path(os.environ["FANIN_CACHE_DIR"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fanin"


def remembered(kind: str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A record kept in the cache under a key, computed if it is not there.

    A cache that cannot be read or written costs the computation, nothing else.
    """
    path = cache_dir() / kind / f"{key}.json"
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        pass
    record = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(record).encode())
    except OSError:
        pass
    return record
