import math

import pytest

from fanin.report.charts import (
    COLOURS,
    MARKS,
    Axis,
    Forest,
    Heat,
    Interval,
    Line,
    Lines,
    Panel,
    Share,
    Shares,
    styles,
    tables,
)

LIGHT, DARK = "#ffffff", "#0d1117"


def luminance(colour):
    """Of WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", [LIGHT, DARK])
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_from_both_pages(colour, page):
    assert contrast(colour, page) >= 3


def test_colours_and_marks_come_again_together_only_late():
    labels = tuple(map(str, range(56)))
    assert len(set(COLOURS)) == 8
    assert len(set(MARKS)) == 7
    assert len(set(styles(labels).values())) == 56


def panel(*charts):
    return Panel("p", "Is it?", "So.", charts, ("a", "b"), "initializer")


def test_a_forest_as_a_table():
    rows = (
        Interval("a", "a", 1.5, 0.5, 2.5, "better, n = 8"),
        Interval("b", "b", -2.0, -math.inf, math.inf, "too few seeds, n = 3"),
    )
    (made,) = tables(panel(Forest(Axis("points", domain=(0, 2)), rows)))
    assert made.head == ("initializer", "points", "95 % from", "95 % to", "verdict")
    assert made.rows == (
        ("a", "1.5", "0.5", "2.5", "better, n = 8"),
        ("b", "-2", "none", "none", "too few seeds, n = 3"),
    )
    assert made.right == {"points", "95 % from", "95 % to"}


def test_shares_as_a_table():
    (made,) = tables(panel(Shares(Axis("%"), ("good", "bad"), COLOURS[:2], (Share("a", (7, 1)), Share("b", (0, 8))))))
    assert made.head == ("initializer", "good", "bad")
    assert made.rows == (("a", "7", "1"), ("b", "0", "8"))


def test_a_heat_as_a_table_has_a_column_for_each_place():
    chart = Heat(Axis("step"), Axis("size", ticks=(0.0,)), ("a", "b"), ((1.0, -math.inf), (2.0, math.nan)))
    (made,) = tables(panel(chart))
    assert (made.title, made.head) == ("size, by step", ("initializer", "1", "2"))
    assert made.rows == (("a", "1", "-infinite"), ("b", "2", ""))


def test_lines_as_a_table_name_only_what_there_is():
    (made,) = tables(panel(Lines(Axis("x"), Axis("y"), (Line("a", (1.0, 2.0), (0.123456, math.inf)),))))
    assert made.head == ("initializer", "x", "y")
    assert made.rows == (("a", "1", "0.1235"), ("a", "2", "infinite"))


def test_lines_with_bands_names_and_notes_as_a_table():
    line = Line("a", (1.0,), (2.0,), (1.5,), (2.5,), name="measured", notes=("hidden",))
    theory = Line("a", (1.0,), (math.nan,), name="theory", kind="dashed")
    (made,) = tables(panel(Lines(Axis("layer"), Axis("rms"), (line, theory), band="quartiles")))
    assert made.head == ("initializer", "line", "layer", "rms", "quartiles from", "quartiles to", "note")
    assert made.rows == (("a", "measured", "1", "2", "1.5", "2.5", "hidden"), ("a", "theory", "1", "", "", "", ""))
    assert {"layer", "rms", "quartiles from", "quartiles to"} <= made.right


def test_lines_apart_are_a_table_each():
    lines = [
        Line(a, (1.0, 2.0), (y, 2 * y), name=name) for a, y in (("a", 1.0), ("b", 5.0)) for name in ("s", "median")
    ]
    one, other = tables(panel(Lines(Axis("step"), Axis("loss"), tuple(lines), apart=True)))
    assert (one.title, other.title) == ("a, loss", "b, loss")
    assert other.head == ("step", "s", "median")
    assert other.rows == (("1", "5", "5"), ("2", "10", "10"))


def test_each_chart_of_a_panel_is_tabled():
    chart = Lines(Axis("x"), Axis("y"), (Line("a", (1.0,), (2.0,)),))
    assert len(tables(panel(chart, chart))) == 2
