import dataclasses
import math

import numpy as np
import pytest

from fanin.experiments.analysis import analyse
from fanin.experiments.results import Results
from fanin.report.panels import panels
from fanin.report.predictions import predicted

RATES = (0.01, 0.1, 1.0)
BASE, OTHER = "glorot_uniform", "he_normal"


def quality(name, seed, rate):
    if name == "zeros":
        return 0.05
    if name == OTHER and rate == 1.0:
        return None
    return 0.6 + 0.1 * (rate == 0.1) + 0.02 * ((3 * seed) % 8) + (0.01 * (seed % 3) if name == OTHER else 0)


@pytest.fixture(scope="module")
def results(fabricate):
    return fabricate(quality, init=(BASE, OTHER, "zeros"), lr=RATES)


def charts_of(results):
    """The charts of each panel by its name."""
    return {panel.name: panel.charts for panel in panels(results)}


@pytest.fixture(scope="module")
def charts(results):
    return charts_of(results)


def line_of(chart, label, name=""):
    (found,) = [line for line in chart.lines if (line.label, line.name) == (label, name)]
    return found


def interval_of(chart, label):
    (found,) = [row for row in chart.rows if row.label == label]
    return found


def test_all_panels_have_words_and_labels(results):
    made = panels(results)
    assert [panel.name for panel in made] == ["forest", "rates", "outcomes", "arrival", "curves", "signals"]
    for panel in made:
        assert panel.question.endswith("?")
        assert panel.caption.endswith(".")
        assert panel.labels == (BASE, OTHER, "zeros")
        assert panel.charts


def test_forest_is_the_comparisons(results, charts):
    (forest,) = charts["forest"]
    arms = {arm.arm.label: arm for arm in results.analysis.arms}
    assert [row.label for row in forest.rows] == [OTHER, "zeros"]
    for row in forest.rows:
        arm = arms[row.label]
        assert row.effect == 100 * arm.comparison.difference
        assert (row.low, row.high) == (100 * arm.comparison.low, 100 * arm.comparison.high)
        assert row.note == f"{arm.verdict}, n = 8"
        assert row.group == row.label


def test_forest_shows_near_ones_at_their_scale(charts):
    """An initializer that does not train must not press the others together."""
    (forest,) = charts["forest"]
    assert interval_of(forest, "zeros").off
    near = interval_of(forest, OTHER)
    assert not near.off
    low, high = forest.x.domain
    assert low <= min(0, near.low)
    assert max(0, near.high) <= high < 5


def test_forest_counts_what_diverged(fabricate):
    (forest,) = charts_of(fabricate(lambda name, seed, rate: None if name == OTHER and seed < 2 else 0.7))["forest"]
    assert forest.rows[0].note.endswith("n = 8, 2 diverged")


def test_forest_below_six_seeds_has_a_finite_domain(fabricate):
    (forest,) = charts_of(fabricate(lambda name, seed, rate: 0.7 + 0.1 * (name == OTHER), seeds=3))["forest"]
    assert forest.x.domain == (0.0, pytest.approx(10.0))
    assert forest.rows[0].low == -math.inf


def test_rates_are_medians_and_quartiles(results, charts):
    (chart,) = charts["rates"]
    assert [line.label for line in chart.lines] == [BASE, OTHER, "zeros"]
    assert chart.x.log
    assert chart.y.log
    line = line_of(chart, BASE)
    assert line.x == RATES
    losses = sorted(
        result.val_loss[-1]
        for run, result in results.runs.items()
        if run.init == BASE and run.learning_rate == 0.1 and run.seed < 8
    )
    assert line.y[1] in losses[3:5]
    assert losses[0] < line.low[1] < line.y[1] < line.high[1] < losses[-1]
    gone = line_of(chart, OTHER)
    assert (gone.y[2], gone.notes[2]) == (math.inf, "8 of 8 diverged")
    assert (line.rings, line.notes[1]) == ((1,), "chosen")


def test_rates_are_left_out_where_there_is_one(fabricate):
    assert "rates" not in charts_of(fabricate(lambda *_: 0.5))


def test_a_baseline_alone_has_no_forest(fabricate):
    assert "forest" not in charts_of(fabricate(lambda *_: 0.5, init=(BASE,)))


def test_outcomes_are_counts_of_all_runs(charts):
    (chart,) = charts["outcomes"]
    assert chart.parts == ("trained", "stuck", "diverged")
    assert {row.label: row.counts for row in chart.rows} == {BASE: (8, 0, 0), OTHER: (8, 0, 0), "zeros": (0, 8, 0)}


def test_arrival_keeps_runs_that_never_arrive(fabricate):
    made = fabricate(lambda name, seed, rate: 0.9 if name == BASE or seed < 2 else (None if seed < 4 else 0.3))
    (chart,) = charts_of(made)["arrival"]
    other = line_of(chart, OTHER)
    assert (other.x[0], other.y[0]) == (0.0, 0.0)
    assert (other.x[-1], other.y[-1]) == (40.0, 25.0)
    assert (line_of(chart, BASE).x[-1], line_of(chart, BASE).y[-1]) == (40.0, 100.0)
    assert chart.x.domain == (0.0, 40.0)
    assert chart.steps


def test_arrival_of_none(fabricate):
    (chart,) = charts_of(fabricate(lambda name, seed, rate: 0.9 if name == BASE else None))["arrival"]
    assert line_of(chart, OTHER).y == (0.0, 0.0)


def test_curves_are_each_seed_and_the_median_over_all(results, charts):
    (chart,) = charts["curves"]
    names = [line.name for line in chart.lines if line.label == BASE]
    assert names == [*(f"seed {seed}" for seed in range(8)), "median"]
    experiment = results.experiment
    arm = next(arm for arm in experiment.arms if arm.label == BASE)
    table = np.array([results.runs[experiment.run(arm, seed, 0.1)].train_loss for seed in range(8)])
    for seed in range(8):
        line = line_of(chart, BASE, f"seed {seed}")
        assert (line.y, line.kind) == (tuple(table[seed]), "thin")
    median = line_of(chart, BASE, "median")
    assert (median.x, median.y) == ((10, 20, 30, 40), tuple(np.median(table, axis=0)))
    assert chart.apart


def test_curves_share_one_scale(charts):
    (chart,) = charts["curves"]
    every = [y for line in chart.lines for y in line.y if math.isfinite(y)]
    assert chart.y.domain == (min(every), max(every))
    assert chart.x.domain == (10, 40)


def test_median_curve_is_not_of_the_survivors(fabricate):
    (chart,) = charts_of(fabricate(lambda name, seed, rate: None if name == OTHER and seed < 5 else 0.7))["curves"]
    assert line_of(chart, OTHER, "median").y[1:] == (math.inf,) * 3
    assert math.isfinite(line_of(chart, BASE, "median").y[-1])


def test_long_curves_are_thinned_and_say_so(results):
    def longer(result):
        losses = tuple(2 - i / 1000 for i in range(1000))
        return dataclasses.replace(result, steps=tuple(range(1000)), train_loss=losses, val_loss=losses,
                                   val_metric=tuple(i / 1000 for i in range(1000)))  # fmt: skip

    runs = {run: longer(result) for run, result in results.runs.items()}
    made = panels(Results(results.experiment, runs, analyse(results.experiment, runs), ({},)))
    panel = next(panel for panel in made if panel.name == "curves")
    median = line_of(panel.charts[0], BASE, "median")
    assert (len(median.x), median.x[0], median.x[-1]) == (100, 0, 999)
    assert all(y == 2 - x / 1000 for x, y in zip(median.x, median.y, strict=True))
    assert "Of 1000 evaluations 100 are drawn" in panel.caption
    assert "evaluations" not in next(panel for panel in panels(results) if panel.name == "curves").caption


def test_signals_are_quantiles_by_layer(charts):
    signal, _ = charts["signals"]
    line = line_of(signal, BASE, "measured")
    assert (line.x, line.notes) == ((1, 2), ("hidden", "output"))
    expected = np.quantile([1.0 + seed % 7 / 10 for seed in range(8)], (0.1, 0.5, 0.9))
    assert [line.low[0], line.y[0], line.high[0]] == pytest.approx(expected.tolist())


def test_theory_is_dashed_and_its_gradient_starts_at_the_measured_output(results, charts):
    signal, gradient = charts["signals"]
    arm = next(arm for arm in results.experiment.arms if arm.label == BASE)
    expected = predicted(results.experiment, arm)
    theory = line_of(signal, BASE, "theory")
    assert (theory.kind, theory.y, signal.dashed) == ("dashed", expected.signal, "theory")
    last = line_of(gradient, BASE, "measured").y[-1]
    assert line_of(gradient, BASE, "theory").y == tuple(last * ratio for ratio in expected.gradient)
    assert [line.name for line in signal.lines if line.label == "zeros"] == ["measured"]
    notes = next(panel.notes for panel in panels(results) if panel.name == "signals")
    assert "Theory does not speak of zeros." in notes


def test_networks_without_a_theory_are_drawn_without(fabricate):
    panel = panels(fabricate(quality, model="cnn:4"))[-1]
    assert {chart.dashed for chart in panel.charts} == {""}
    assert "theory" not in panel.caption
    assert panel.notes == ()


def replaced(results, change):
    """The same results with every run's signals changed."""
    runs = {
        run: dataclasses.replace(result, signals=change(run, result.signals)) for run, result in results.runs.items()
    }
    return Results(results.experiment, runs, analyse(results.experiment, runs), results.environments)


def test_exact_zeros_are_listed(results):
    made = replaced(
        results, lambda run, s: dataclasses.replace(s, gradient_rms=(0.0, 0.1)) if run.init == "zeros" else s
    )
    assert "zeros: gradient exactly 0 in hidden" in panels(made)[-1].notes


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_signals_that_are_no_numbers_raise_no_warning(results, value):
    made = replaced(results, lambda run, s: dataclasses.replace(s, signal_rms=(value, 1.0)) if run.init == OTHER else s)
    line = line_of(charts_of(made)["signals"][0], OTHER, "measured")
    assert not math.isfinite(line.y[0])
    assert line.y[1] == 1.0


def with_geometry(results, saturated=0.0):
    return replaced(
        results,
        lambda run, s: dataclasses.replace(
            s, cosine=(0.5, 0.25 + run.seed % 8 / 100), dead=(0.125, 0.5), saturated=(saturated, saturated)
        ),
    )


def test_geometry_is_cosines_and_under_relu_dead_units(results):
    cosine, dead = charts_of(with_geometry(results))["geometry"]
    assert (cosine.y.label, dead.y.label) == ("cosine between examples", "dead units, %")
    line = line_of(cosine, BASE, "measured")
    expected = np.quantile([0.25 + seed / 100 for seed in range(8)], (0.1, 0.5, 0.9))
    assert [line.low[1], line.y[1], line.high[1]] == pytest.approx(expected.tolist())
    assert (line_of(dead, OTHER, "measured").notes, line_of(dead, OTHER, "measured").y) == (("hidden",), (12.5,))


def test_saturated_values_are_drawn_where_the_activation_has_bounds_and_dead_units_where_not(fabricate):
    made = with_geometry(fabricate(quality, activation="tanh"), saturated=0.75)
    _, saturated = charts_of(made)["geometry"]
    assert saturated.y.label == "saturated, %"
    assert {line.y for line in saturated.lines} == {(75.0,)}


def test_runs_kept_before_geometry_was_measured_have_no_such_panel(results):
    assert "geometry" not in charts_of(results)


def test_no_signals_no_panel(results):
    assert "signals" not in charts_of(replaced(results, lambda run, s: None))


def test_signals_of_unchosen_runs_and_tuning_runs_are_not_mixed_in(results):
    arms = {arm.arm.label: arm for arm in results.analysis.arms}

    def change(run, signals):
        chosen = run.seed < 8 and run.learning_rate == arms[run.init].learning_rate
        return signals if chosen else dataclasses.replace(signals, signal_rms=(1e9, 1e9))

    signal, _ = charts_of(replaced(results, change))["signals"]
    assert max(high for line in signal.lines for high in line.high) < 10


def test_test_metrics_of_unchosen_runs_are_nowhere(fabricate):
    def looked(name, seed, rate):
        return (0.9 if rate == 0.1 else 0.5, 0.7 if rate == 0.1 and seed < 8 else 0.123456)

    made = fabricate(looked, lr=RATES)
    assert {arm.learning_rate for arm in made.analysis.arms} == {0.1}
    assert "123456" not in repr(panels(made))


def test_a_loss_is_not_in_percent(fabricate):
    (forest,) = charts_of(fabricate(lambda name, s, r: 0.4 if name == OTHER else 0.5, kind="regression"))["forest"]
    assert forest.rows[0].effect == pytest.approx(0.1)
    assert "loss" in forest.x.label
