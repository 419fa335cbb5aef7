"""Studies and their answers: tables and sentences for the terminal, and a page."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

from fanin.experiments.results import system
from fanin.records import to_plain
from fanin.report.html import asset, facts_of, tabled
from fanin.studies import Answer, Judged, Study

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["claims_table", "page", "studies_table", "text"]

_HEAD = ("claim", "source", "verdict", "effect", "95 % interval", "unit", "p", "seeds")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name - fanin</title>
<style>$style
td { white-space: normal; }</style>
</head>
<body>
<header>
<p class="brand">fanin study</p>
<h1>$question</h1>
<p class="lead">$lead</p>
</header>
<main>
<section><h2>Each claim</h2>$claims</section>
<section><h2>How it was looked at</h2>$settings</section>
$numbers
</main>
</body>
</html>
"""


def studies_table(studies: Iterable[Study]) -> "Table":
    """Names, questions and claims."""
    from rich.markup import escape as plain
    from rich.table import Table

    rows = Table("study", "question", "claim", show_lines=True)
    for study in studies:
        rows.add_row(*map(plain, (study.name, study.question, study.claim)))
    return rows


def claims_table(answer: Answer) -> "Table":
    """Each claim with its verdict and numbers; the first ones are those the study's verdict rests on."""
    from rich.markup import escape as plain
    from rich.table import Table

    rows = Table(*_HEAD)
    for row in _rows(answer):
        rows.add_row(*map(plain, row))
    return rows


def text(study: Study, answer: Answer) -> Iterator[str]:
    """What was asked, how it was looked at, and the verdict."""
    yield study.question
    yield f"Design ({answer.size}): {study.design}"
    yield f"For it: {study.supports} Against it: {study.refutes}"
    yield ""
    yield answer.sentence


def page(study: Study, answer: Answer, command: str = "") -> str:
    """The answer as one document that loads nothing from elsewhere and needs no JavaScript.

    Args:
        study: What was asked.
        answer: What came of it.
        command: The command that made it, shown so that it can be repeated.
    """
    facts = {
        "study": f"{study.name}, {answer.size}",
        "claim": f"{study.claim} ({'; '.join(study.sources)})",
        "design": study.design,
        "for it": study.supports,
        "against it": study.refutes,
        "command": command,
        **system(),
    }
    measured = tabled(("what", "value"), _flat(answer.numbers), set())
    return Template(_PAGE).substitute(
        name=escape(study.name),
        style=asset("report.css"),
        question=escape(study.question),
        lead=escape(answer.sentence),
        claims=tabled(_HEAD, _rows(answer), {3, 4, 6, 7}),
        settings=facts_of(facts),
        numbers=f"<section><h2>What was measured</h2>{measured}</section>" if answer.numbers else "",
    )


def _rows(answer: Answer) -> Iterator[tuple[str, ...]]:
    for each in answer.claims:
        yield (
            each.claim, each.source, each.verdict, f"{each.effect:+.3g}", _interval(each), each.unit, f"{each.p:.3f}",
            str(each.seeds),
        )  # fmt: skip


def _interval(claim: Judged) -> str:
    return f"{claim.low:+.3g} to {claim.high:+.3g}" if math.isfinite(claim.low) else "none below 6 seeds"


def _flat(numbers: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """A nested record as rows of a table."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name} / ")
        else:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(to_plain(value))
