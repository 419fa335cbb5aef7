"""The report's plots as one Matplotlib figure, for papers and slides."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.errors import InvalidValueError, extra_missing
from fanin.experiments.results import Results
from fanin.report.panels import COLOURS, Panel, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fanin.theory.diagram import PhaseDiagram

__all__ = ["check_format", "diagram_bytes", "draw", "figure", "figure_bytes"]

FORMATS = ("pdf", "png", "svg")
_OUTCOMES = {"trained": "#009E73", "stuck": "#E69F00", "diverged": "#D55E00"}


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


def _by_label(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["label"], []).append(row)
    return grouped


def _forest(axes: "Axes", panel: Panel, colours: dict[str, str]) -> None:
    rows, (low, high) = panel.data["rows"][::-1], panel.data["domain"]
    for y, row in enumerate(rows):
        colour = colours[row["label"]]
        if row["off"]:
            below = row["difference"] < low
            axes.plot(low if below else high, y, "<" if below else ">", color=colour)
            axes.annotate(
                f"{row['difference']:.3g}",
                (low if below else high, y),
                (8, -3),
                textcoords="offset points",
                fontsize=7,
            )
            continue
        if math.isfinite(row["low"]) and math.isfinite(row["high"]):
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.5)
        axes.plot(row["difference"], y, "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(
        range(len(rows)), [f"{row['label']}\n({row['verdict']}, {row['note']})" for row in rows], fontsize=7
    )
    axes.set_xlabel(panel.data["x"])


def _band(axes: "Axes", rows: list[dict[str, Any]], x: str, colour: str, label: str) -> None:
    """A median line with its band; values that a logarithmic axis lacks are left out."""
    axes.plot([r[x] for r in rows], [r["median"] for r in rows], "o-", color=colour, label=label, markersize=3)
    axes.fill_between(
        [r[x] for r in rows],
        [r["low"] for r in rows],
        [r["high"] for r in rows],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _logarithmic(axes: "Axes") -> None:
    """A logarithmic y axis, unless nothing could be drawn on it: every run may have diverged."""
    if any((np.asarray(line.get_ydata(), float) > 0).any() for line in axes.lines):
        axes.set_yscale("log")


def _rates(axes: "Axes", panel: Panel, colours: dict[str, str]) -> None:
    for label, rows in _by_label(panel.data["rows"]).items():
        finite = [row for row in rows if math.isfinite(row["high"])]
        if not finite:
            continue
        axes.set_xscale("log")
        _band(axes, finite, "rate", colours[label], label)
        for row in finite:
            if row["chosen"]:
                axes.plot(row["rate"], row["median"], "o", color=colours[label], markersize=9, fillstyle="none")
    _logarithmic(axes)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("final validation loss")


def _outcomes(axes: "Axes", panel: Panel, _: dict[str, str]) -> None:
    grouped = _by_label(panel.data["rows"])
    left = [0.0] * len(grouped)
    for outcome, colour in _OUTCOMES.items():
        widths = [100 * next(r["share"] for r in rows if r["outcome"] == outcome) for rows in grouped.values()]
        axes.barh(list(grouped), widths, left=left, color=colour, label=outcome)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("share of runs, %")
    axes.legend(fontsize=7, loc="lower right")


def _arrival(axes: "Axes", panel: Panel, colours: dict[str, str]) -> None:
    for label, rows in _by_label(panel.data["rows"]).items():
        axes.step(
            [r["step"] for r in rows],
            [100 * r["share"] for r in rows],
            where="post",
            color=colours[label],
            label=label,
        )
    axes.set_xlabel("steps")
    axes.set_ylabel("share of runs arrived, %")


def _curves(axes: "Axes", panel: Panel, colours: dict[str, str]) -> None:
    for label, rows in _by_label(panel.data["rows"]).items():
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            lines.setdefault(row["line"], []).append(row)
        for name, points in lines.items():
            shown = [(p["step"], p["loss"]) for p in points if math.isfinite(p["loss"])]
            median = name == "median"
            axes.plot(
                [step for step, _ in shown], [loss for _, loss in shown], color=colours[label],
                alpha=1.0 if median else 0.25, linewidth=2.0 if median else 0.6, label=label if median else None,
            )  # fmt: skip
    _logarithmic(axes)
    axes.set_xlabel("steps")
    axes.set_ylabel("training loss")


def _signals(kind: str, name: str) -> Callable[["Axes", Panel, dict[str, str]], None]:
    def paint(axes: "Axes", panel: Panel, colours: dict[str, str]) -> None:
        for label, rows in _by_label([row for row in panel.data["rows"] if row["kind"] == kind]).items():
            positive = [row for row in rows if row["low"] > 0]
            if positive:
                _band(axes, positive, "layer", colours[label], label)
        _logarithmic(axes)
        axes.set_xlabel("layer")
        axes.set_xticks(sorted({row["layer"] for row in panel.data["rows"]}))
        axes.set_ylabel(f"{name} RMS")

    return paint


_PAINTERS: dict[str, tuple[Callable[["Axes", Panel, dict[str, str]], None], ...]] = {
    "forest": (_forest,),
    "rates": (_rates,),
    "outcomes": (_outcomes,),
    "arrival": (_arrival,),
    "curves": (_curves,),
    "signals": (_signals("signal_rms", "pre-activation"), _signals("gradient_rms", "gradient")),
}


def draw(panel: Panel, axes: "Axes", labels: list[str], part: int = 0) -> "Axes":
    """Draw one panel into given axes and return them.

    Args:
        panel: From `fanin.report.panels.panels`.
        axes: Where to draw.
        labels: All initializers in their order, which gives each its colour.
        part: 1 for the second picture of a panel that has two (the gradient of ``signals``).
    """
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    _PAINTERS[panel.name][part](axes, panel, colours)
    axes.set_title(panel.question, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def figure(results: Results) -> "Figure":
    """All plots of a comparison in one figure."""
    from matplotlib.figure import Figure

    labels = [arm.arm.label for arm in results.analysis.arms]
    pictures = [(panel, part) for panel in panels(results) for part in range(len(_PAINTERS[panel.name]))]
    rows = -(-len(pictures) // 2)
    made = Figure(figsize=(13, 4.2 * rows + 0.6), layout="constrained")
    grid = made.subplots(rows, 2, squeeze=False).reshape(-1)
    for (panel, part), axes in zip(pictures, grid, strict=False):
        draw(panel, axes, labels, part)
    for axes in grid[len(pictures) :]:
        axes.remove()
    handles = {label: line for axes in grid for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    made.legend([handles[x] for x in labels if x in handles], [x for x in labels if x in handles],
                loc="outside lower center", ncols=4, fontsize=8)  # fmt: skip
    experiment = results.experiment
    made.suptitle(f"{experiment.task.name}, {experiment.model.text}, n = {experiment.seeds} seeds")
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
