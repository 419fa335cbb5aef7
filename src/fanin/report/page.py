"""The skeleton that every page has: the verdict, what it rests on, the figures with their numbers, the rest."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from string import Template
from typing import Any

from fanin.report.charts import Panel, Table, styles, tables
from fanin.report.markup import Html, bullets, joined, table, tag

__all__ = ["Section", "command_box", "document", "folded"]

_DIGITS = 6
"""Significant digits of the numbers that the figures are drawn from."""


@dataclass(frozen=True)
class Section:
    """A part of a page beside the figures."""

    title: str
    body: Html


def document(
    *,
    brand: str,
    title: str,
    verdict: str,
    lead: Iterable[str],
    before: Iterable[Section],
    panels: Sequence[Panel],
    after: Iterable[Section],
) -> str:
    """One document that loads nothing from elsewhere.

    Figures are drawn by the embedded Observable Plot; without JavaScript their numbers are still there in tables.

    Args:
        brand: The command that makes such pages.
        title: What the page is about.
        verdict: The answer, one or two sentences.
        lead: What else must be known at once, a sentence each.
        before: What stands in front of the figures.
        panels: The figures.
        after: What stands behind them.
    """
    return Template(_asset("page.html")).substitute(
        title=tag("title", f"{title} - fanin"),
        style=_asset("page.css"),
        brand=tag("p", brand, class_="brand"),
        heading=tag("h1", title),
        verdict=tag("p", verdict, class_="verdict"),
        lead=joined(tag("p", sentence, class_="lead") for sentence in lead),
        before=joined(map(_section, before)),
        figures=joined(_figure(panel, number) for number, panel in enumerate(panels, 1)),
        after=joined(map(_section, after)),
        payload=json.dumps(_plain({"panels": [_drawn(panel) for panel in panels]}), allow_nan=False).replace(
            "<", "\\u003c"
        ),
        d3=_asset("d3-7.9.0.min.js"),
        plot=_asset("plot-0.6.17.min.js"),
        script=_asset("page.js"),
    )


def command_box(command: str) -> Html:
    """A command to be copied: one click selects it whole. Nothing where there is none."""
    return tag("pre", tag("code", command), class_="command", tabindex="0") if command else Html()


def folded(summary: str, body: Html) -> Html:
    """What is shown on demand, and always on paper."""
    return tag("details", tag("summary", summary), body)


def _asset(name: str) -> str:
    """A file that pages embed."""
    return (files("fanin.report") / "assets" / name).read_text(encoding="utf-8")


def _section(section: Section) -> Html:
    return tag("section", tag("h2", section.title), section.body)


def _figure(panel: Panel, number: int) -> Html:
    """A question, the place where its charts are drawn, what they mean, and their numbers."""
    heading = f"{panel.name}-question"
    reads = f"{panel.question} Arrow keys read its points."
    charts = [tag("div", class_="chart", tabindex="0", role="group", aria_label=reads) for _ in panel.charts]
    shown = tables(panel)
    numbers = joined(_numbers(each, panel.question, len(shown) > 1) for each in shown)
    return tag(
        "section",
        tag("h3", panel.question, id=heading),
        tag("figure", tag("div", *charts, class_="charts"), tag("ul", class_="legend"),
            tag("output", class_="reading"), data_panel=panel.name, aria_labelledby=heading),
        tag("p", tag("b", f"Figure {number}. "), panel.caption, class_="caption"),
        bullets(panel.notes),
        folded("Numbers of this figure", numbers),
        class_="plot wide" if _is_wide(panel) else "plot",
    )  # fmt: skip


def _numbers(shown: Table, question: str, titled: bool) -> Html:
    made = table(f"{question} {shown.title}", shown.head, shown.rows, shown.right)
    return joined((tag("h4", shown.title), made)) if titled else made


def _is_wide(panel: Panel) -> bool:
    """Whether it has several pictures, which stand side by side, or one of many rows."""
    several = any(chart.kind == "heat" or (chart.kind == "lines" and chart.apart) for chart in panel.charts)
    return several or len(panel.charts) > 1


def _drawn(panel: Panel) -> dict[str, Any]:
    """What the script draws."""
    marks = {label: {"colour": colour, "symbol": mark} for label, (colour, mark) in styles(panel.labels).items()}
    return {
        "name": panel.name, "question": panel.question, "styles": marks,
        "charts": [asdict(chart) for chart in panel.charts],
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """The value as JSON has it: short numbers, null for those that are not finite and so cannot be drawn."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
