"""What a figure shows, as plain data: decided once, drawn alike by the page's script and by Matplotlib, and tabled."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "COLOURS",
    "MARKS",
    "Axis",
    "Chart",
    "Forest",
    "Heat",
    "Interval",
    "Kind",
    "Line",
    "Lines",
    "Panel",
    "Share",
    "Shares",
    "Table",
    "styles",
    "tables",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B5579D", "#A67C00", "#3A94D6", "#7F7F7F", "#8F6A5A")
"""After Okabe and Ito, darkened where needed: each stands out from white and from the dark page at 3 to 1."""

MARKS = ("circle", "square", "triangle", "diamond", "cross", "star", "wye")
"""What tells lines apart where colours cannot. One fewer than `COLOURS`: no pair recurs before 56."""

Kind = Literal["plain", "thin", "dashed"]
"""How a line is drawn: with marks and band, as one seed among many, or as what was not measured on training data."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: What it measures, with the unit.
        log: Whether it is logarithmic; what is not above 0 is left out of the drawing, not of the table.
        domain: From where to where; what the data needs if None.
        ticks: Where its numbers stand; empty for wherever it suits.
    """

    label: str
    log: bool = False
    domain: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: Whose it is; gives colour and mark.
        name: Which one of this label's, such as ``seed 3``.
        low, high: Ends of the band; empty for none.
        notes: For each point what its numbers do not say; empty for none.
        rings: Which points are singled out.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    name: str = ""
    kind: Kind = "plain"
    notes: tuple[str, ...] = ()
    rings: tuple[int, ...] = ()


@dataclass(frozen=True)
class Lines:
    """Lines over a common axis.

    Attributes:
        band: What the bands are, such as ``quartiles``; empty where there are none.
        dashed: What dashed lines are; empty where there are none.
        steps: Whether a value holds until the next one.
        apart: Whether each label has a picture of its own, at a common scale.
        rules: Where vertical dashed lines stand.
    """

    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    band: str = ""
    dashed: str = ""
    steps: bool = False
    apart: bool = False
    rules: tuple[float, ...] = ()
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True)
class Interval:
    """An effect with its 95 % interval.

    Attributes:
        group: One of the panel's labels, which gives colour and mark.
        low, high: Infinite where there is no interval.
        note: Verdict and number of seeds.
        off: Whether it lies outside of what is drawn; its value is then written at the edge.
        matters: Where the smallest effects that would matter lie; empty where nobody said.
    """

    label: str
    group: str
    effect: float
    low: float
    high: float
    note: str
    off: bool = False
    matters: tuple[float, ...] = ()


@dataclass(frozen=True)
class Forest:
    """Effects with their intervals, one below the other; `x` has a domain that holds 0."""

    x: Axis
    rows: tuple[Interval, ...]
    kind: Literal["forest"] = "forest"


@dataclass(frozen=True)
class Share:
    """How many runs of one label ended in each way."""

    label: str
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Shares:
    """Shares of a whole: `parts` names the ways, `colours` has one for each."""

    x: Axis
    parts: tuple[str, ...]
    colours: tuple[str, ...]
    rows: tuple[Share, ...]
    kind: Literal["shares"] = "shares"


@dataclass(frozen=True)
class Heat:
    """A number for each row at each place of an axis, told by colour.

    Attributes:
        x: What the columns are; they are numbered from 1.
        value: What is told; the colour changes at its ticks, and is palest in the middle.
        rows: Their names, the topmost first.
        values: A row of numbers each; what is not finite has a cross in place of a colour.
    """

    x: Axis
    value: Axis
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    kind: Literal["heat"] = "heat"


Chart = Forest | Heat | Lines | Shares


@dataclass(frozen=True)
class Panel:
    """A figure: a question and the charts that answer it.

    Attributes:
        name: Short, unique on its page.
        question: What it answers; its title.
        caption: What marks and bands mean.
        labels: Whose lines there are, in the order that gives each its colour and mark.
        what: What labels are, as a table's head.
        notes: What could not be drawn, a sentence each.
    """

    name: str
    question: str
    caption: str
    charts: tuple[Chart, ...]
    labels: tuple[str, ...]
    what: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A chart's numbers; `right` names the columns that hold numbers, `title` says of what where there are several."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str]


def styles(labels: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Colour and mark of each label.

    Example:
        >>> styles(("a", "b"))["b"]
        ('#D55E00', 'square')
    """
    return {label: (COLOURS[index % len(COLOURS)], MARKS[index % len(MARKS)]) for index, label in enumerate(labels)}


def tables(panel: Panel) -> list[Table]:
    """The numbers of all charts, so that a figure can be read without being seen."""
    return [table for chart in panel.charts for table in _tables(chart, panel.what)]


def _tables(chart: Chart, what: str) -> list[Table]:
    match chart:
        case Forest():
            return [_forest_table(chart, what)]
        case Heat():
            return [_heat_table(chart, what)]
        case Shares():
            return [_shares_table(chart, what)]
        case Lines():
            return _tables_apart(chart) if chart.apart else [_lines_table(chart, what)]


def _number(value: float) -> str:
    """Short; a value that is not a number is empty, and one that diverged is infinite."""
    if math.isnan(value):
        return ""
    return f"{value:.4g}" if math.isfinite(value) else "infinite" if value > 0 else "-infinite"


def _forest_table(chart: Forest, what: str) -> Table:
    said = any(row.matters for row in chart.rows)
    head = (what, chart.x.label, "95 % from", "95 % to", *["would matter"] * said, "verdict")

    def cells(row: Interval) -> tuple[str, ...]:
        """One effect."""
        ends = (_number(value) if math.isfinite(value) else "none" for value in (row.effect, row.low, row.high))
        return (row.label, *ends, *[" or ".join(map(_number, row.matters))] * said, row.note)

    return Table(chart.x.label, head, tuple(map(cells, chart.rows)), frozenset(head[1:-1]))


def _shares_table(chart: Shares, what: str) -> Table:
    rows = tuple((row.label, *map(str, row.counts)) for row in chart.rows)
    return Table(chart.x.label, (what, *chart.parts), rows, frozenset(chart.parts))


def _heat_table(chart: Heat, what: str) -> Table:
    places = tuple(str(place + 1) for place in range(max(map(len, chart.values), default=0)))
    rows = tuple((name, *map(_number, row)) for name, row in zip(chart.rows, chart.values, strict=True))
    return Table(f"{chart.value.label}, by {chart.x.label}", (what, *places), rows, frozenset(places))


def _lines_table(chart: Lines, what: str) -> Table:
    """A row for each point."""
    shown = {
        "line": any(line.name for line in chart.lines),
        f"{chart.band} from": bool(chart.band),
        f"{chart.band} to": bool(chart.band),
        "note": any(any(line.notes) for line in chart.lines),
    }
    every = (what, "line", chart.x.label, chart.y.label, f"{chart.band} from", f"{chart.band} to", "note")
    kept = [index for index, name in enumerate(every) if shown.get(name, True)]
    rows = tuple(tuple(row[index] for index in kept) for row in _points(chart))
    head = tuple(every[index] for index in kept)
    return Table(chart.y.label, head, rows, frozenset(every[2:6]))


def _tables_apart(chart: Lines) -> list[Table]:
    """A table for each label: a row for each place, which its lines have in common, and a column for each line."""
    made = []
    for label in dict.fromkeys(line.label for line in chart.lines):
        lines = [line for line in chart.lines if line.label == label]
        head = (chart.x.label, *(line.name for line in lines))
        rows = tuple(tuple(map(_number, row)) for row in zip(lines[0].x, *(line.y for line in lines), strict=True))
        made.append(Table(f"{label}, {chart.y.label}", head, rows, frozenset(head)))
    return made


def _points(chart: Lines) -> Iterator[tuple[str, ...]]:
    """Each point of each line: whose, which line, x, y, low, high, note."""
    for line in chart.lines:
        for index, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
            low, high = (_number(side[index]) if side else "" for side in (line.low, line.high))
            yield line.label, line.name, _number(x), _number(y), low, high, line.notes[index] if line.notes else ""
