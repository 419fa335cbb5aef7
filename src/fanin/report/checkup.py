"""What the doctor found, on the terminal and as a page."""

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

from fanin.doctor import CHECKS, Checkup, lines
from fanin.records import Finding, to_plain
from fanin.report.html import asset, facts_of, listed, tabled
from fanin.report.panels import COLOURS, Panel

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["page", "table", "text"]

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold"}
_HEAD = ("step", "where", "what", "shape", "signal rms", "gradient rms", "mean", "cosine", "effective rank")


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
    """The findings and the plots as one document that loads nothing from elsewhere.

    Args:
        found: From `fanin.check`.
        command: The command that made it, shown so that it can be repeated.
    """
    drawn = [panel for panel in (_sizes(found), _geometry(found), _losses(found)) if panel.data["rows"]]
    figures = "\n".join(
        f'<section class="plot"><h2>{escape(panel.question)}</h2>'
        f'<figure data-panel="{panel.name}" role="img" aria-label="{escape(panel.question)}"></figure>'
        f"<p class=caption>{escape(panel.caption)}</p></section>"
        for panel in drawn
    )
    payload = {"colours": COLOURS, "panels": [{"name": panel.name, **panel.data} for panel in drawn]}
    return Template(asset("check.html")).substitute(
        title=escape(_title(found)),
        style=asset("report.css"),
        lead=escape(found.verdict),
        findings="".join(map(_section, found.findings)) or "<p>None.</p>",
        figures=figures,
        settings=_settings(found, command) + listed(found.notes),
        steps=tabled(_HEAD, _rows(found), {0, 4, 5, 6, 7, 8}),
        payload=json.dumps(to_plain(payload), allow_nan=False).replace("<", "\\u003c"),
        d3=asset("d3-7.9.0.min.js"),
        plot=asset("plot-0.6.17.min.js"),
        script=asset("check.js"),
    )


def _title(found: Checkup) -> str:
    numbers = sum(math.prod(param.shape) for param in found.info.params)
    return f"A {found.info.framework} model of {numbers:,} parameters"


def _section(finding: Finding) -> str:
    first, *rest = lines(finding)
    body = "".join(f"<p>{escape(line.strip())}</p>" for line in rest)
    return f'<section class="finding {finding.severity}"><h3>{escape(first)}</h3>{body}</section>'


def _rows(found: Checkup) -> Iterator[Sequence[str]]:
    vitals = found.vitals
    for index, op in enumerate(found.info.ops):
        numbers = (vitals.signal_rms, vitals.gradient_rms, vitals.mean, vitals.cosine, vitals.rank)
        measured = (_number(each[index]) if index < len(each) else "" for each in numbers)
        yield (str(index), op.place, op.name or op.kind, " x ".join(map(str, op.shape)), *measured)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else ""


def _points(found: Checkup, series: dict[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One point for each step that has a size of its own."""
    shown = [i for i, op in enumerate(found.info.ops) if op.kind not in ("move", "constant", "param")]
    return [
        {"at": index, "name": f"{index} {found.info.ops[index].place} {found.info.ops[index].kind}", "series": name,
         "value": values[index]}
        for name, values in series.items() for index in shown if index < len(values) and math.isfinite(values[index])
    ]  # fmt: skip


def _at_fault(found: Checkup) -> list[int]:
    """The first step of each place that an error names."""
    wheres = {finding.where for finding in found.findings if finding.severity == "error" and finding.where}
    first: dict[str, int] = {}
    for index, op in enumerate(found.info.ops):
        for name in (op.place, *op.params):
            if name in wheres:
                first.setdefault(name, index)
    return sorted(set(first.values()))


def _sizes(found: Checkup) -> Panel:
    rows = _points(found, {"signal": found.vitals.signal_rms, "gradient": found.vitals.gradient_rms})
    return Panel(
        "sizes", "Do signal and gradient keep their size?",
        "Root mean square of each step's output, and of the gradient with respect to it, in executed order. A dashed "
        "line marks a layer at fault.",
        {"rows": rows, "x": "step", "y": "root mean square", "log": True, "marks": _at_fault(found)},
    )  # fmt: skip


def _geometry(found: Checkup) -> Panel:
    rank = [each / max(1.0, _first(found.vitals.rank)) for each in found.vitals.rank]
    rows = _points(found, {"cosine between examples": found.vitals.cosine, "rank, relative to the input's": rank})
    return Panel(
        "geometry", "Can examples still be told apart?",
        "Mean cosine between two examples' outputs (1: all the same), and the effective rank of at most 32 examples' "
        "outputs over that of the first step.",
        {"rows": rows, "x": "step", "y": "cosine, rank", "log": False, "marks": _at_fault(found)},
    )  # fmt: skip


def _losses(found: Checkup) -> Panel:
    losses = () if found.trial is None else found.trial.losses
    rows = [
        {"at": at, "name": f"step {at}", "series": "loss", "value": loss}
        for at, loss in enumerate(losses) if math.isfinite(loss)
    ]  # fmt: skip
    return Panel(
        "losses", "Does it learn this batch?", "Loss of a copy of the model, trained on this one batch.",
        {"rows": rows, "x": "training step", "y": "loss", "log": False, "marks": []},
    )  # fmt: skip


def _first(values: Sequence[float]) -> float:
    return next((each for each in values if math.isfinite(each)), math.nan)


def _settings(found: Checkup, command: str) -> str:
    setup = found.setup
    return facts_of({
        "command": command,
        "loss": setup.loss,
        "optimizer": setup.optimizer + (f", learning rate {setup.learning_rate:g}" if setup.learning_rate else ""),
        "mode": "training" if setup.training else "evaluation",
        "checks": f"{len(CHECKS)}; {found.vitals.loss:.4g} is the loss at the start"
        if math.isfinite(found.vitals.loss) else f"{len(CHECKS)}",
    })  # fmt: skip
