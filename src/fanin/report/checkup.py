"""What the doctor found, on the terminal and as a page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fanin.doctor import CHECKS, Checkup, lines
from fanin.doctor.scales import is_weight
from fanin.experiments.results import system
from fanin.records import Finding
from fanin.report import updates
from fanin.report.charts import Axis, Line, Lines, Panel
from fanin.report.markup import Html, bullets, facts, joined, tag
from fanin.report.markup import table as html_table
from fanin.report.page import Section, command_box, document, folded

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["page", "table", "text"]

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold"}
_HEAD = ("step", "where", "what", "shape", "signal rms", "gradient rms", "mean", "cosine", "effective rank")
_STILL = ("move", "constant", "param")
"""Steps without a size of their own."""
_RECTIFIERS = ("relu", "relu6", "crelu")
"""Activations whose units can be off for all examples."""


def text(found: Checkup) -> "list[Text]":
    """The verdict, each finding and the notes, a line each."""
    from rich.text import Text

    shown = [Text(found.verdict, style="bold green" if found.ok else "bold")]
    for finding in found.findings:
        first, *rest = lines(finding)
        shown += [Text(), Text(first, style=_STYLES[finding.severity]), *map(Text, rest)]
    return [*shown, *([Text()] if found.notes else []), *map(Text, found.notes)]


def table(found: Checkup) -> "Table":
    """What was measured at each step."""
    from rich.markup import escape as plain
    from rich.table import Table

    rows = Table(*_HEAD, box=None)
    for row in _rows(found):
        rows.add_row(*map(plain, row))
    return rows


def page(found: Checkup, command: str = "") -> str:
    """The findings and the figures as one document that loads nothing from elsewhere.

    Args:
        found: From `fanin.check`.
        command: The command that made it, shown so that it can be repeated.
    """
    findings = joined(map(_section, found.findings)) or tag("p", "None.")
    steps = html_table("Every step", _HEAD, _rows(found), (_HEAD[0], *_HEAD[4:]))
    made = (_sizes(found), _geometry(found), _dead(found), _losses(found), _updates(found))
    return document(
        brand="fanin check",
        title=_title(found),
        verdict=found.verdict,
        lead=(),
        before=[Section("Findings", findings)],
        panels=[panel for panel in made if panel.labels],
        after=[
            Section("How it was looked at", joined((command_box(command), _settings(found), bullets(found.notes)))),
            Section("Every step", folded("Show the table of steps", steps)),
        ],
    )


def _title(found: Checkup) -> str:
    numbers = sum(math.prod(param.shape) for param in found.info.params)
    return f"A {found.info.framework} model of {numbers:,} parameters"


def _section(finding: Finding) -> Html:
    first, *rest = lines(finding)
    body = (tag("p", line.strip()) for line in rest)
    return tag("section", tag("h3", first), *body, class_=f"finding {finding.severity}")


def _rows(found: Checkup) -> Iterator[Sequence[str]]:
    vitals = found.vitals
    for index, op in enumerate(found.info.ops):
        numbers = (vitals.signal_rms, vitals.gradient_rms, vitals.mean, vitals.cosine, vitals.rank)
        measured = (_number(each[index]) if index < len(each) else "" for each in numbers)
        yield (str(index), op.place, op.name or op.kind, " x ".join(map(str, op.shape)), *measured)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else ""


def _line(found: Checkup, label: str, values: Mapping[int, float]) -> Line:
    """A number for each of some steps; what is not finite is left out."""
    shown = {index: value for index, value in values.items() if math.isfinite(value)}
    ops = found.info.ops
    return Line(
        label, tuple(map(float, shown)), tuple(shown.values()),
        notes=tuple(f"{ops[index].place} {ops[index].name or ops[index].kind}".strip() for index in shown),
    )  # fmt: skip


def _by_step(found: Checkup, values: Sequence[float]) -> dict[int, float]:
    """The numbers of the steps that have a size of their own."""
    return {
        index: value
        for index, (op, value) in enumerate(zip(found.info.ops, values, strict=False))
        if op.kind not in _STILL
    }


def _panel(found: Checkup, name: str, question: str, caption: str, y: Axis, lines: Sequence[Line]) -> Panel:
    """A figure over the model's steps, with a rule at each layer at fault."""
    drawn = tuple(line for line in lines if line.x)
    chart = Lines(Axis("step"), y, drawn, rules=_at_fault(found))
    return Panel(name, question, caption, (chart,), tuple(line.label for line in drawn), "what")


def _at_fault(found: Checkup) -> tuple[float, ...]:
    """The first step of each place that an error names."""
    wheres = {finding.where for finding in found.findings if finding.severity == "error" and finding.where}
    first: dict[str, int] = {}
    for index, op in enumerate(found.info.ops):
        for name in (op.place, *op.params):
            if name in wheres:
                first.setdefault(name, index)
    return tuple(map(float, sorted(set(first.values()))))


def _sizes(found: Checkup) -> Panel:
    sizes = {"signal": found.vitals.signal_rms, "gradient": found.vitals.gradient_rms}
    return _panel(
        found, "sizes", "Do signal and gradient keep their size?",
        "Root mean square of each step's output, and of the gradient with respect to it, in executed order. A dashed "
        "line marks a layer at fault. Exact zeros cannot be drawn on a logarithmic axis; the table has them.",
        Axis("root mean square", log=True),
        [_line(found, label, _by_step(found, values)) for label, values in sizes.items()],
    )  # fmt: skip


def _geometry(found: Checkup) -> Panel:
    first = next((each for each in found.vitals.rank if math.isfinite(each)), 1.0)
    ranks = [each / max(1.0, first) for each in found.vitals.rank]
    shown = {"cosine between examples": found.vitals.cosine, "rank, relative to the input's": ranks}
    return _panel(
        found, "geometry", "Can examples still be told apart?",
        "Mean cosine between two examples' outputs (1: all the same), and the effective rank of at most 32 examples' "
        "outputs over that of the first step. A dashed line marks a layer at fault.",
        Axis("cosine, rank"),
        [_line(found, label, _by_step(found, values)) for label, values in shown.items()],
    )  # fmt: skip


def _dead(found: Checkup) -> Panel:
    shares = {
        index: 100 * sum(highest <= 0 for highest in highests.tolist()) / highests.size
        for index, (op, highests) in enumerate(zip(found.info.ops, found.vitals.highest, strict=False))
        if op.kind == "activation" and op.name in _RECTIFIERS and highests.size
    }
    return _panel(
        found, "dead", "Are units off?",
        "Share of the units of each ReLU that are 0 for every example of the batch: they are neither used nor trained "
        "by it. A dashed line marks a layer at fault.",
        Axis("units off for all examples, %", domain=(0.0, 100.0)), [_line(found, "dead units", shares)],
    )  # fmt: skip


def _losses(found: Checkup) -> Panel:
    losses = () if found.trial is None else found.trial.losses
    line = Line("loss", tuple(map(float, range(len(losses)))), losses)
    return Panel(
        "losses", "Does it learn this batch?",
        "Loss of a copy of the model, trained on this one batch; a line ends where the loss stops being a number.",
        (Lines(Axis("training step"), Axis("loss"), (line,)),),
        ("loss",) if any(map(math.isfinite, losses)) else (), "what",
    )  # fmt: skip


def _updates(found: Checkup) -> Panel:
    told = {} if found.trial is None else found.trial.updates
    used = dict.fromkeys(path for op in found.info.ops for path in op.params)
    weights = {param.path for param in found.info.params if is_weight(param)}
    return updates.panel({path: told[path] for path in used if path in weights and path in told})


def _settings(found: Checkup) -> Html:
    setup, loss = found.setup, found.vitals.loss
    return facts({
        "loss": setup.loss,
        "optimizer": setup.optimizer + (f", learning rate {setup.learning_rate:g}" if setup.learning_rate else ""),
        "mode": "training" if setup.training else "evaluation",
        "checks": str(len(CHECKS)) + (f"; {loss:.4g} is the loss at the start" if math.isfinite(loss) else ""),
        **system(),
    })  # fmt: skip
