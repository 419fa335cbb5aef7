"""What the studies measured: the stored full run of a study where there is one, else the stored quick one."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fanin.studies import STUDIES, Answer, Judged

__all__ = ["RESULTS", "Stored", "claim_of", "everything", "number", "stored", "stored_in"]

RESULTS = Path(__file__).parents[2] / "results" / "studies.json"
"""Written by bench/studies.py."""

_SIZES = ("full", "quick")


@dataclass(frozen=True)
class Stored:
    """The answer of a study, and when, where and with what it was made."""

    answer: Answer
    made: Mapping[str, Any]


@lru_cache(maxsize=1)
def _records() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text())
    return found


def stored(name: str) -> Stored:
    """The stored answer of a study, that of the full size before that of the quick one.

    Raises:
        LookupError: If the study is unknown or has not been run at any size.
    """
    return stored_in(_records(), name)


def stored_in(records: Mapping[str, Mapping[str, Any]], name: str) -> Stored:
    """The same, from given records by ``name size``."""
    if name not in STUDIES:
        raise LookupError(f"there is no study {name!r}")
    found = next((records[f"{name} {size}"] for size in _SIZES if f"{name} {size}" in records), None)
    if found is None:
        raise LookupError(f"the study {name!r} has no stored result: run bench/studies.py {name}")
    claims = tuple(
        Judged(**{**claim, **{key: _float(claim[key]) for key in ("effect", "low", "high", "p")}})
        for claim in found["claims"]
    )
    answer = Answer(found["study"], found["size"], found["verdict"], found["sentence"], claims, found["numbers"])
    return Stored(answer, found["made"])


def _float(value: float | str | None) -> float:
    """A number as `fanin.records.to_plain` wrote it."""
    return math.nan if value is None else float(value)


def everything() -> list[Stored]:
    """All studies that have been run, in the order of `fanin studies`."""
    run = {key.rsplit(" ", 1)[0] for key in _records()}
    return [stored(name) for name in STUDIES if name in run]


def claim_of(record: Stored, words: str) -> Judged:
    """One claim of a study, by its sentence.

    Raises:
        LookupError: If the study makes no such claim, with those that it makes.
    """
    for claim in record.answer.claims:
        if claim.claim == words:
            return claim
    made = "\n".join(claim.claim for claim in record.answer.claims)
    raise LookupError(f"{record.answer.study} does not claim {words!r}; it claims\n{made}")


def number(value: float) -> str:
    """A number with its sign and three digits, the minus as typeset.

    Example:
        >>> number(-0.0696)
        '−0.0696'
    """
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "none"
