import dataclasses
import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from fanin.errors import InvalidValueError
from fanin.experiments.analysis import analyse
from fanin.experiments.results import Results
from fanin.report.charts import COLOURS
from fanin.report.figure import check_format, draw, figure, figure_bytes
from fanin.report.panels import panels

RATES = (0.01, 0.1, 1.0)
SIGNATURES = {"png": b"\x89PNG\r\n", "pdf": b"%PDF-", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def results(fabricate):
    def quality(name, seed, rate):
        if name == "zeros":
            return 0.05
        return None if (rate, name) == (1.0, "he_normal") else 0.6 + 0.02 * (seed % 8) + 0.1 * (rate == 0.1)

    return fabricate(quality, init=("glorot_uniform", "he_normal", "zeros"), lr=RATES)


@pytest.fixture(scope="module")
def whole(results):
    return figure(results)


@pytest.mark.parametrize("kind", SIGNATURES)
def test_file_is_of_its_kind(results, kind):
    content = figure_bytes(results, kind)
    assert content.startswith(SIGNATURES[kind])
    assert len(content) > 10_000


def test_one_picture_for_each_chart_and_one_for_each_label_of_curves(whole, results):
    titles = [axes.get_title() for axes in whole.axes]
    others = [panel.question for panel in panels(results) if panel.name not in ("curves", "signals")]
    first, *labels = [arm.arm.label for arm in results.analysis.arms]
    curves = [f"What happens during training?\n{first}", *labels]
    assert titles == [*others, *curves, *[panels(results)[-1].question] * 2]


def test_axes_are_labelled_and_drawn_on(whole):
    for axes in whole.axes:
        assert axes.get_xlabel()
        assert axes.has_data()


def test_legend_has_each_initializer_in_its_colour(whole, results):
    (legend,) = whole.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [*(arm.arm.label for arm in results.analysis.arms), "theory"]
    assert [line.get_color() for line in legend.get_lines()] == [*COLOURS[:3], "black"]
    assert len({line.get_marker() for line in legend.get_lines()}) == 4


def test_title_says_how_many_seeds(whole):
    assert whole.get_suptitle() == "made up, mlp:4, n = 8 seeds"


def by_name(results, name):
    return next(panel for panel in panels(results) if panel.name == name)


def test_draw_returns_the_axes_it_was_given(results):
    for panel in panels(results):
        axes = Figure().subplots()
        assert draw(panel, 0, "", axes) is axes
        assert axes.get_title() == panel.question


def test_rates_are_drawn_where_they_are(results):
    panel = by_name(results, "rates")
    axes = draw(panel, 0, "", Figure().subplots())
    lines = {line.get_label(): line for line in axes.get_lines() if line.get_label()[0] != "_"}
    assert tuple(lines["glorot_uniform"].get_ydata()) == panel.charts[0].lines[0].y
    # A rate at which all runs diverge has no point: the line ends before it.
    assert list(lines["he_normal"].get_xdata()) == [0.01, 0.1]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_gradient_is_the_second_part_with_its_theory(results):
    panel = by_name(results, "signals")
    axes = draw(panel, 1, "", Figure().subplots())
    assert axes.get_ylabel() == "gradient RMS"
    measured, theory = axes.get_lines()[:2]
    assert [tuple(line.get_ydata()) for line in (measured, theory)] == [line.y for line in panel.charts[1].lines[:2]]
    assert theory.get_linestyle() == "--"


def test_curves_of_one_initializer_are_its_seeds_and_its_median_on_the_common_scale(results):
    panel = by_name(results, "curves")
    axes = draw(panel, 0, "zeros", Figure().subplots())
    assert axes.get_title() == "zeros"
    drawn = [tuple(line.get_ydata()) for line in axes.get_lines()]
    assert drawn == [line.y for line in panel.charts[0].lines if line.label == "zeros"]
    assert axes.get_ylim() == pytest.approx(panel.charts[0].y.domain)


@pytest.mark.parametrize(
    ("end", "settings"),
    [
        pytest.param(None, {"lr": RATES}, id="all diverged at every rate"),
        pytest.param(None, {"kind": "regression"}, id="all diverged in a regression"),
        pytest.param(None, {"seeds": 1}, id="one seed diverged"),
        pytest.param(0.5, {"kind": "regression", "lr": RATES}, id="all the same"),
        pytest.param(0.5, {"init": ("zeros",)}, id="alone"),
    ],
)
def test_poor_results_are_drawn_without_a_warning(fabricate, end, settings):
    assert figure_bytes(fabricate(lambda *_: end, **settings), "png").startswith(b"\x89PNG")


def test_more_initializers_than_colours(fabricate):
    inits = tuple(f"random_normal(stddev={0.1 * i})" for i in range(1, len(COLOURS) + 3))
    made = figure(fabricate(lambda *_: 0.5, init=inits))
    assert len(made.legends[0].get_texts()) == len(inits) + 1  # and the theory


def test_dollar_signs_are_no_formula(fabricate):
    made = fabricate(lambda *_: 0.5)
    task = dataclasses.replace(made.experiment.task, name="cost in $ per $_{")
    decided = dataclasses.replace(made.experiment, task=task)
    runs = fabricate.runs(decided, lambda *_: 0.5)
    results = Results(decided, runs, analyse(decided, runs), ({},))
    assert figure_bytes(results, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "folder.v2/a.svg"])
def test_known_formats(name):
    check_format(Path(name))


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt", "png", ".png"])
def test_unknown_formats(name):
    with pytest.raises(InvalidValueError, match=r"format is unknown.*Allowed: names ending in .pdf, .png, .svg"):
        check_format(Path(name))


def test_numbers_in_a_figure_are_finite(whole):
    for axes in whole.axes:
        assert all(math.isfinite(value) for value in (*axes.get_xlim(), *axes.get_ylim()))
