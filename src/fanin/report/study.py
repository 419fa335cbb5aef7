"""Studies and their answers: tables and sentences for the terminal, and a page."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fanin.experiments.results import system
from fanin.records import to_plain
from fanin.report.charts import Axis, Forest, Interval, Kind, Line, Lines, Panel
from fanin.report.markup import facts, joined, table
from fanin.report.page import Section, command_box, document, folded
from fanin.studies import Answer, Judged, Study
from fanin.studies.judge import spoken
from fanin.studies.records import OPEN, REFUTED, SUPPORTED

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["claims_table", "page", "studies_table", "text"]

_HEAD = ("claim", "verdict", "effect", "95 % interval", "unit", "p", "seeds", "source")
_CURVES = "curves"
"""Under this name an answer's numbers hold what `_curve_panel` draws: by label ``epochs`` (where the values stand) and
any of ``train_accuracy``, ``val_accuracy``, ``train_loss``, ``val_loss``, each with ``median``, ``low`` and ``high``
(quartiles over seeds), one number for each epoch; accuracies as shares."""
_MEASURES = (("accuracy", 100.0, "accuracy, %", False), ("loss", 1.0, "loss", True))
"""What curves are of: its name, the factor to its unit, the axis's label, and whether that is logarithmic."""
_PARTS: tuple[tuple[str, str, Kind], ...] = (("train", "training", "plain"), ("val", "validation", "dashed"))
"""On which data: its name in the numbers, its name on the page, and how it is drawn."""


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
    """The answer as one document that loads nothing from elsewhere.

    Args:
        study: What was asked.
        answer: What came of it.
        command: The command that made it, shown so that it can be repeated.
    """
    about = {
        "study": f"{study.name}, {answer.size}",
        "claim": f"{study.claim} ({'; '.join(study.sources)})",
        "design": study.design,
        "for it": study.supports,
        "against it": study.refutes,
        **system(),
    }
    curves = _curves(answer)
    others = {name: value for name, value in answer.numbers.items() if not (curves and name == _CURVES)}
    measured = table("What was measured", ("what", "value"), _flat(others))
    claims = table("Each claim", _HEAD, _rows(answer), ("effect", "95 % interval", "p", "seeds"))
    return document(
        brand="fanin study",
        title=study.question,
        verdict=f"{answer.verdict.capitalize()}: {study.claim}",
        lead=[f"{each.claim} {each.verdict.capitalize()}: {spoken(each)}." for each in answer.claims if each.main],
        before=[Section("Each claim", claims)],
        panels=[*_forests(answer), *curves],
        after=[
            Section("How it was looked at", joined((command_box(command), facts(about)))),
            *([Section("What was measured", folded("Show every number", measured))] if others else []),
        ],
    )


def _rows(answer: Answer) -> Iterator[tuple[str, ...]]:
    for each in answer.claims:
        yield (
            each.claim, each.verdict, f"{each.effect:+.3g}", _interval(each), each.unit, f"{each.p:.3f}",
            str(each.seeds), each.source,
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


def _forests(answer: Answer) -> list[Panel]:
    """The effects of the claims, a figure for each unit: only what has one unit can stand on one axis."""
    units = dict.fromkeys(each.unit for each in answer.claims)
    several = len(units) > 1
    return [
        Panel(
            f"claims-{number}" if several else "claims",
            f"How large are the effects, in {unit}?" if several else "How large are the effects?",
            "Mean over paired seeds with its 95 % interval (none below 6 seeds). The verdict also adjusts for the "
            "number of claims. Small upright lines mark the smallest effect that would matter, or for a claim of no "
            "difference between which two the whole interval must lie.",
            (_forest([each for each in answer.claims if each.unit == unit], unit),),
            (SUPPORTED, REFUTED, OPEN),
            "claim",
        )
        for number, unit in enumerate(units, 1)
    ]


def _forest(claims: list[Judged], unit: str) -> Forest:
    ends = [end for each in claims for end in (each.effect, each.low, each.high, *each.matters) if math.isfinite(end)]
    rows = tuple(
        Interval(
            each.claim,
            each.verdict,
            each.effect,
            each.low,
            each.high,
            f"{each.verdict}, n = {each.seeds}",
            matters=each.matters,
        )
        for each in claims
    )
    return Forest(Axis(unit, domain=(min(0.0, *ends), max(0.0, *ends))), rows)


def _curves(answer: Answer) -> list[Panel]:
    """Accuracy and loss against epochs, where the answer has them in the form that `_CURVES` says."""
    found = answer.numbers.get(_CURVES)
    if not isinstance(found, Mapping):
        return []
    arms = {str(label): each for label, each in found.items() if isinstance(each, Mapping) and "epochs" in each}
    charts = tuple(chart for measure in _MEASURES if (chart := _curve_chart(arms, *measure)).lines)
    if not charts:
        return []
    return [
        Panel(
            "curves",
            "What happens during training?",
            "Median over seeds after each epoch, with quartiles as bands: on training data (solid) and on validation "
            "data (dashed).",
            charts,
            tuple(arms),
            "network",
        )
    ]


def _curve_chart(arms: Mapping[str, Mapping[str, Any]], measure: str, factor: float, label: str, log: bool) -> Lines:
    """The curves of one measure, of all arms, on both parts of the data."""

    def scaled(values: Iterable[float | str | None]) -> tuple[float, ...]:
        """Numbers in the axis's unit; a null is not a number, as in JSON."""
        return tuple(math.nan if value is None else factor * float(value) for value in values)

    def line(arm: str, part: str, name: str, kind: Kind) -> Line:
        """The curve of one network on one part of the data."""
        each = arms[arm]
        median, low, high = (scaled(each[f"{part}_{measure}"][side]) for side in ("median", "low", "high"))
        return Line(arm, tuple(map(float, each["epochs"])), median, low, high, name, kind)

    lines = [
        line(arm, part, name, kind) for arm, each in arms.items() for part, name, kind in _PARTS
        if f"{part}_{measure}" in each
    ]  # fmt: skip
    return Lines(Axis("epoch"), Axis(label, log=log), tuple(lines), band="quartiles", dashed="validation")
