"""The report's figures as one Matplotlib figure, for papers and slides: the same charts from the same data."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.errors import InvalidValueError, extra_missing
from fanin.experiments.results import Results
from fanin.report.charts import Forest, Heat, Interval, Line, Lines, Panel, Shares, styles
from fanin.report.panels import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fanin.theory.diagram import PhaseDiagram

__all__ = ["check_format", "diagram_bytes", "draw", "figure", "figure_bytes"]

FORMATS = ("pdf", "png", "svg")
_MARKS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "P", "star": "*", "wye": "v"}
"""Matplotlib's names of the marks."""
_LOOKS: dict[str, dict[str, Any]] = {
    "plain": {"linewidth": 1.8, "markersize": 4},
    "thin": {"linewidth": 0.6, "alpha": 0.4},
    "dashed": {"linewidth": 1.2, "linestyle": "--"},
}
"""Matplotlib's settings of each kind of line."""
_MOST_ROWS = 40
"""So many names of rows can be read in one picture."""
Styles = dict[str, tuple[str, str]]
"""Colour and mark by label."""


def check_format(path: Path) -> None:
    """Refuse a picture's name whose ending is not known, or Matplotlib missing, before anything is trained.

    Raises:
        InvalidValueError, MissingExtraError: If it cannot be drawn.
    """
    if path.suffix[1:] not in FORMATS:
        raise InvalidValueError(
            "The picture's format is unknown",
            given=str(path),
            allowed=f"names ending in .{', .'.join(FORMATS)}",
        )
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as error:
        raise extra_missing(error, "plot", ("matplotlib",), "Drawing a picture") from None


def draw(panel: Panel, part: int, label: str, axes: "Axes") -> "Axes":
    """Draw one picture of a panel into given axes and return them.

    Args:
        panel: From `fanin.report.panels.panels`.
        part: Which of its charts.
        label: Of a chart whose labels are drawn apart, the one to draw; empty for all.
        axes: Where to draw.
    """
    chart, given = panel.charts[part], styles(panel.labels)
    match chart:
        case Forest():
            _forest(axes, chart, given)
        case Heat():
            _heat(axes, chart)
        case Shares():
            _shares(axes, chart)
        case Lines():
            _lines(axes, chart, given, label)
    # The first of several small pictures has the question that all of them answer.
    titles = [panel.question] * (label in ("", panel.labels[0])) + [label] * bool(label)
    axes.set_title("\n".join(titles), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _forest(axes: "Axes", chart: Forest, given: Styles) -> None:
    for y, row in enumerate(reversed(chart.rows)):
        _interval(axes, row, y, chart.x.domain, given[row.group])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(chart.rows)), [f"{row.label}\n({row.note})" for row in reversed(chart.rows)], fontsize=7)
    axes.set_xlabel(chart.x.label)


def _interval(axes: "Axes", row: Interval, y: int, domain: tuple[float, float] | None, style: tuple[str, str]) -> None:
    """An effect with its interval, or a triangle at the edge that it lies behind."""
    colour, mark = style
    if row.off and domain is not None:
        edge, sign = (domain[0], "<") if row.effect < domain[0] else (domain[1], ">")
        axes.plot(edge, y, sign, color=colour)
        axes.annotate(f"{row.effect:.3g}", (edge, y), (8, -3), textcoords="offset points", fontsize=7)
        return
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2.5)
    axes.plot(row.effect, y, _MARKS[mark], color=colour)
    axes.plot(row.matters, [y] * len(row.matters), "|", color="black", markersize=10)


def _shares(axes: "Axes", chart: Shares) -> None:
    labels = [row.label for row in chart.rows]
    left = [0.0] * len(labels)
    for index, (part, colour) in enumerate(zip(chart.parts, chart.colours, strict=True)):
        widths = [100 * row.counts[index] / sum(row.counts) for row in chart.rows]
        axes.barh(labels, widths, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(chart.x.label)
    axes.legend(fontsize=7, loc="lower right")


def _heat(axes: "Axes", chart: Heat) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    shown = np.ma.masked_invalid(np.array(chart.values, np.float64))
    colours = colormaps["PuOr_r"].resampled(len(chart.value.ticks) + 1)
    bounds = BoundaryNorm(chart.value.ticks, colours.N, extend="both")
    ends = (0.5, shown.shape[1] + 0.5, len(shown) - 0.5, -0.5)
    image = axes.imshow(shown, cmap=colours, norm=bounds, aspect="auto", interpolation="none", extent=ends)
    gone = np.argwhere(shown.mask) if shown.mask.any() else np.empty((0, 2))
    axes.plot(gone[:, 1] + 1, gone[:, 0], "x", color="gray", markersize=3)
    step = -(-len(chart.rows) // _MOST_ROWS)
    axes.set_yticks(range(0, len(chart.rows), step), chart.rows[::step], fontsize=7)
    axes.set_xlabel(chart.x.label)
    axes.figure.colorbar(image, ax=axes, label=chart.value.label)


def _lines(axes: "Axes", chart: Lines, given: Styles, label: str) -> None:
    lines = [line for line in chart.lines if label in ("", line.label)]
    for line in lines:
        _line(axes, chart, line, given[line.label])
    for rule in chart.rules:
        axes.axvline(rule, color="black", linestyle="--", linewidth=0.8)
    # Nothing may be left to draw on a logarithmic axis: every run may have diverged.
    drawn = any(_shown(chart, line) for line in lines)
    for axis, name in ((chart.x, "x"), (chart.y, "y")):
        if axis.log and drawn:
            axes.set(**{f"{name}scale": "log"})
        if axis.ticks and not axis.log:
            axes.set(**{f"{name}ticks": axis.ticks})
        if axis.domain is not None:
            axes.set(**{f"{name}lim": axis.domain})
    axes.set_xlabel(chart.x.label)
    axes.set_ylabel(chart.y.label)


def _line(axes: "Axes", chart: Lines, line: Line, style: tuple[str, str]) -> None:
    """One line with marks, band and rings; what an axis cannot show is left out."""
    colour, mark = style
    shown = _shown(chart, line)
    if not shown:
        return
    x, y = [line.x[i] for i in shown], [line.y[i] for i in shown]
    plain = line.kind == "plain"
    axes.plot(
        x, y, color=colour, drawstyle="steps-post" if chart.steps else "default", clip_on=False, **_LOOKS[line.kind],
        marker=_MARKS[mark] if plain and not chart.apart else "", label=line.label if plain else f"_{line.name}",
    )  # fmt: skip
    banded = [i for i in shown if line.low and _fits(chart.y.log, line.low[i]) and math.isfinite(line.high[i])]
    if banded:
        x, low, high = ([values[i] for i in banded] for values in (line.x, line.low, line.high))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for i in set(line.rings) & set(shown):
        axes.plot(line.x[i], line.y[i], "o", color=colour, markersize=9, fillstyle="none", label="_chosen")


def _shown(chart: Lines, line: Line) -> list[int]:
    """Which points of a line the axes can show."""
    points = enumerate(zip(line.x, line.y, strict=True))
    return [i for i, (x, y) in points if _fits(chart.x.log, x) and _fits(chart.y.log, y)]


def _fits(log: bool, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _pictures(panel: Panel) -> list[tuple[int, str]]:
    """Which charts of a panel are drawn, and for which label where each has its own picture."""
    return [
        (part, label)
        for part, chart in enumerate(panel.charts)
        for label in (panel.labels if isinstance(chart, Lines) and chart.apart else ("",))
    ]


def _rows(drawn: Sequence[Panel]) -> list[list[tuple[Panel, int, str]]]:
    """Rows of at most four pictures: two panels, or the pictures of one that has several."""
    rows: list[list[tuple[Panel, int, str]]] = []
    waiting: list[tuple[Panel, int, str]] = []
    for panel in drawn:
        mine = [(panel, part, label) for part, label in _pictures(panel)]
        if len(mine) > 1:
            rows += [mine[i : i + 4] for i in range(0, len(mine), 4)]
            continue
        waiting += mine
        if len(waiting) == 2:
            rows.append(waiting)
            waiting = []
    return [*rows, waiting] if waiting else rows


def figure(results: Results) -> "Figure":
    """All figures of a comparison in one."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = _rows(panels(results))
    heights = [3.2 if len(row) > 2 else 4.2 for row in rows]
    made = Figure(figsize=(13, sum(heights) + 0.6), layout="constrained")
    grid = made.add_gridspec(len(rows), 1, height_ratios=heights)
    drawn = []
    for i, row in enumerate(rows):
        places = grid[i].subgridspec(1, max(2, len(row)))
        drawn += [draw(*picture, made.add_subplot(places[k])) for k, picture in enumerate(row)]
    labels = [arm.arm.label for arm in results.analysis.arms]
    handles = {label: line for axes in drawn for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    dashed = {
        chart.dashed: Line2D([], [], color="black", linestyle="--")
        for row in rows
        for panel, part, _ in row
        if isinstance(chart := panel.charts[part], Lines) and chart.dashed
    }
    shown = {label: handles[label] for label in labels if label in handles} | dashed
    made.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=4, fontsize=8)
    experiment = results.experiment
    made.suptitle(f"{experiment.task.name}, {experiment.model.text}, n = {experiment.seeds} seeds", parse_math=False)
    return made


def figure_bytes(results: Results, kind: str) -> bytes:
    """The figure as a file's content, ``png``, ``pdf`` or ``svg``."""
    stream = io.BytesIO()
    figure(results).savefig(stream, format=kind, dpi=150)
    return stream.getvalue()


def diagram_bytes(diagram: "PhaseDiagram", kind: str) -> bytes:
    """A phase diagram as a file's content, ``png``, ``pdf`` or ``svg``."""
    from matplotlib.figure import Figure

    made, stream = Figure(figsize=(7.2, 5.0), layout="constrained"), io.BytesIO()
    diagram.plot(made.subplots())
    made.savefig(stream, format=kind, dpi=150)
    return stream.getvalue()
