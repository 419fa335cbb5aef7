"""What the benchmark scripts share: rows of one shape, a table for people, JSON lines for machines."""

import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` above 1 means that fanin is ahead; for a share of a limit it is the share."""

    what: str
    against: str
    ratio: float
    budget: float | None
    ours: float
    theirs: float
    unit: str


def show(rows: Iterable[Row], as_json: bool) -> None:
    for row in rows:
        if as_json:
            print(json.dumps(asdict(row)), flush=True)
        else:
            met = (
                ""
                if row.budget is None
                else f"  (budget {row.budget:g}: {'met' if row.ratio >= row.budget else 'MISSED'})"
            )
            print(
                f"{row.what:42} {row.ours:>12,.4g} {row.unit:18} {row.against:28} {row.theirs:>12,.4g}   "
                f"x{row.ratio:.2f}{met}",
                flush=True,
            )


def keep(name: str, rows: Sequence[Any], versions: dict[str, str]) -> None:
    """Write the results of a full run beside the scripts; rows are dataclasses."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {processor()}",
        "python": sys.version.split()[0],
        "versions": versions,
        "commit": commit.stdout.strip(),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def kept(name: str) -> list[dict[str, Any]]:
    """The rows of a full run that is kept."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    return rows


DOCS = RESULTS.parents[1] / "docs"


def with_table(page: str, script: str, table: str) -> str:
    """The text of a page of docs/ with a table in Markdown between the marks that name the script."""
    begin, end = f"<!-- written by bench/{script} --docs -->", "<!-- end -->"
    before, mark, rest = (DOCS / page).read_text().partition(begin)
    _, closed, after = rest.partition(end)
    assert mark, f"{page} lacks {begin}"
    assert closed, f"{page} lacks {end}"
    return f"{before}{begin}\n{table}\n{end}{after}"


def write_table(page: str, script: str, table: str) -> None:
    """Put a table into a page."""
    (DOCS / page).write_text(with_table(page, script, table))


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()
