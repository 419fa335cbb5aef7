"""Run the studies, keep their answers, and write the tables of docs/studies.md from them.

python bench/studies.py [NAME ...] [--full] [--seeds 8] [--store FILE]
python bench/studies.py --docs

Without names all studies are run. Answers are kept in docs/results/studies.json, one line each, beside machine,
versions and commit; a study that is run again replaces its answer of the same size. --docs only writes the page anew.
"""

import argparse
import json
import math
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import processor

from fanin.studies import STUDIES, Answer, Conditions, find

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "studies.json"
PAGE = ROOT / "docs" / "studies.md"
SIZES = ("full", "quick")


def made(seconds: float, cpu_seconds: float) -> dict[str, Any]:
    """When, where and with what an answer was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "machine": f"{platform.machine()}, {processor()}",
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("fanin", "jax", "keras", "numpy")},
    }


def kept() -> dict[str, dict[str, Any]]:
    """The answers so far, by name and size."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(answer: Answer, seconds: float, cpu_seconds: float) -> None:
    """Put an answer among the others."""
    records = kept()
    records[f"{answer.study} {answer.size}"] = {"made": made(seconds, cpu_seconds), **answer.to_dict()}
    RESULTS.parent.mkdir(exist_ok=True)
    order = [f"{name} {size}" for name in STUDIES for size in SIZES]
    lines = [f"{json.dumps(key)}: {json.dumps(records[key], allow_nan=False)}" for key in order if key in records]
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def number(value: float | str | None) -> str:
    return f"{value:+.3g}" if isinstance(value, float | int) and math.isfinite(value) else "none"


def claims(records: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table of claims, a line each."""
    yield "| claim | source | verdict | effect | 95 % interval | n | study |"
    yield "|---|---|---|---|---|---|---|"
    for name in STUDIES:
        for size in SIZES:
            for claim in records.get(f"{name} {size}", {"claims": ()})["claims"]:
                yield (
                    f"| {claim['claim']} | {claim['source']} | {claim['verdict']} | {number(claim['effect'])} "
                    f"{claim['unit']} | {number(claim['low'])} to {number(claim['high'])} | {claim['seeds']} "
                    f"| [{name}](#{name}), {size} |"
                )


def described(records: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Each study in plain words, with its verdicts so far."""
    for study in STUDIES.values():
        yield f"### {study.name}\n\n{study.question}\n"
        yield f"**Claim** ({'; '.join(study.sources)}): {study.claim}\n"
        yield f"{study.design}\n\nFor it: {study.supports} Against it: {study.refutes}\n"
        for size in SIZES:
            record = records.get(f"{study.name} {size}")
            if record:
                where = f"{record['made']['date'][:10]}, {record['made']['machine']}, {record['made']['seconds']} s"
                yield f"**{size.capitalize()}** ({where}): {record['sentence']}\n"


def page(text: str) -> str:
    """The page with everything between its markers made anew."""
    records = kept()
    for name, lines in (("claims", claims(records)), ("studies", described(records))):
        body = "\n".join(lines)
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        text = re.sub(f"{begin}.*{end}", lambda _, b=begin, t=body, e=end: f"{b}\n{t}\n{e}", text, flags=re.DOTALL)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--full", action="store_true", help="the size of the originals")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--docs", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()
    for name in () if options.docs else options.names or STUDIES:
        begun, used = time.perf_counter(), time.process_time()
        answer = find(name)(Conditions("full" if options.full else "quick", options.seeds, options.store))
        seconds = time.perf_counter() - begun
        keep(answer, seconds, time.process_time() - used)
        print(f"{seconds:5.0f} s  {name}: {answer}", flush=True)
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
