import dataclasses
import json
import math

import numpy as np
import pytest

from fanin.experiments.analysis import analyse
from fanin.experiments.results import Results
from fanin.records import to_plain
from fanin.report.panels import COLOURS, panels

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


@pytest.fixture(scope="module")
def data(results):
    return {panel.name: panel.data for panel in panels(results)}


def pick(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_all_panels_have_words_and_plain_data(results):
    made = panels(results)
    assert [panel.name for panel in made] == ["forest", "rates", "outcomes", "arrival", "curves", "signals"]
    for panel in made:
        assert panel.question.endswith("?")
        assert panel.caption.endswith(".")
        json.dumps(to_plain(panel.data), allow_nan=False)


def test_forest_is_the_comparisons(results, data):
    rows = data["forest"]["rows"]
    arms = {arm.arm.label: arm for arm in results.analysis.arms}
    assert [row["label"] for row in rows] == [OTHER, "zeros"]
    for row in rows:
        arm = arms[row["label"]]
        assert row["difference"] == 100 * arm.comparison.difference
        assert (row["low"], row["high"]) == (100 * arm.comparison.low, 100 * arm.comparison.high)
        assert row["verdict"] == arm.verdict
        assert row["note"] == "n = 8"


def test_forest_shows_near_ones_at_their_scale(data):
    """An initializer that does not train must not press the others together."""
    forest = data["forest"]
    assert pick(forest["rows"], label="zeros")[0]["off"]
    near = pick(forest["rows"], label=OTHER)[0]
    assert not near["off"]
    low, high = forest["domain"]
    assert low <= min(0, near["low"])
    assert max(0, near["high"]) <= high < 5


def test_forest_counts_what_diverged(fabricate):
    made = panels(fabricate(lambda name, seed, rate: None if name == OTHER and seed < 2 else 0.7))
    assert made[0].data["rows"][0]["note"] == "n = 8, 2 diverged"


def test_forest_below_six_seeds_has_a_finite_domain(fabricate):
    forest = panels(fabricate(lambda name, seed, rate: 0.7 + 0.1 * (name == OTHER), seeds=3))[0]
    assert forest.data["domain"] == [0.0, pytest.approx(10.0)]
    assert forest.data["rows"][0]["low"] == -math.inf


def test_rates_are_medians_and_quartiles(results, data):
    rows = data["rates"]["rows"]
    assert len(rows) == 3 * 3
    (row,) = pick(rows, label=BASE, rate=0.1)
    losses = sorted(
        result.val_loss[-1]
        for run, result in results.runs.items()
        if run.init == BASE and run.learning_rate == 0.1 and run.seed < 8
    )
    assert row["median"] in losses[3:5]
    assert losses[0] < row["low"] < row["median"] < row["high"] < losses[-1]
    (gone,) = pick(rows, label=OTHER, rate=1.0)
    assert (gone["median"], gone["diverged"], gone["chosen"]) == (math.inf, 8, False)
    assert {row["rate"] for row in rows if row["chosen"] and row["label"] != "zeros"} == {0.1}


def test_rates_are_left_out_where_there_is_one(fabricate):
    made = panels(fabricate(lambda *_: 0.5))
    assert "rates" not in [panel.name for panel in made]


def test_a_baseline_alone_has_no_forest(fabricate):
    assert panels(fabricate(lambda *_: 0.5, init=(BASE,)))[0].name != "forest"


def test_outcomes_are_shares_that_add_up(data):
    rows = data["outcomes"]["rows"]
    for label in (BASE, OTHER, "zeros"):
        assert sum(row["share"] for row in pick(rows, label=label)) == 1
    assert pick(rows, label="zeros", outcome="stuck")[0]["share"] == 1
    assert pick(rows, label=BASE, outcome="trained")[0]["share"] == 1


def test_arrival_keeps_runs_that_never_arrive(fabricate):
    made = fabricate(lambda name, seed, rate: 0.9 if name == BASE or seed < 2 else (None if seed < 4 else 0.3))
    data = next(panel.data for panel in panels(made) if panel.name == "arrival")
    other = [(row["step"], row["share"]) for row in pick(data["rows"], label=OTHER)]
    assert other[0] == (0.0, 0.0)
    assert other[-1] == (40.0, 0.25)
    assert [(row["step"], row["share"]) for row in pick(data["rows"], label=BASE)][-1] == (40.0, 1.0)
    assert data["last"] == 40


def test_arrival_of_none(fabricate):
    made = fabricate(lambda name, seed, rate: 0.9 if name == BASE else None)
    data = next(panel.data for panel in panels(made) if panel.name == "arrival")
    assert [row["share"] for row in pick(data["rows"], label=OTHER)] == [0.0, 0.0]


def test_curves_are_each_seed_and_the_median_over_all(results, data):
    rows = data["curves"]["rows"]
    lines = {row["line"] for row in pick(rows, label=BASE)}
    assert lines == {"median", *(f"seed {seed}" for seed in range(8))}
    experiment = results.experiment
    arm = next(arm for arm in experiment.arms if arm.label == BASE)
    table = np.array([results.runs[experiment.run(arm, seed, 0.1)].train_loss for seed in range(8)])
    for seed in range(8):
        assert [row["loss"] for row in pick(rows, label=BASE, line=f"seed {seed}")] == table[seed].tolist()
    assert [row["loss"] for row in pick(rows, label=BASE, line="median")] == np.median(table, axis=0).tolist()
    assert [row["step"] for row in pick(rows, label=BASE, line="median")] == [10, 20, 30, 40]


def test_median_curve_is_not_of_the_survivors(fabricate):
    made = fabricate(lambda name, seed, rate: None if name == OTHER and seed < 5 else 0.7)
    rows = next(panel.data for panel in panels(made) if panel.name == "curves")["rows"]
    assert [row["loss"] for row in pick(rows, label=OTHER, line="median")][1:] == [math.inf] * 3
    assert math.isfinite(pick(rows, label=BASE, line="median")[-1]["loss"])


def test_signals_are_quantiles_by_layer(results, data):
    rows = pick(data["signals"]["rows"], label=BASE, kind="signal_rms")
    assert [(row["layer"], row["name"]) for row in rows] == [(1, "hidden"), (2, "output")]
    seen = [1.0 + seed % 7 / 10 for seed in range(8)]
    expected = np.quantile(seen, (0.1, 0.5, 0.9))
    assert [rows[0][key] for key in ("low", "median", "high")] == pytest.approx(expected.tolist())


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
    data = next(panel.data for panel in panels(made) if panel.name == "signals")
    assert data["zeros"] == ["zeros: gradient exactly 0 in hidden"]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_signals_that_are_no_numbers_raise_no_warning(results, value):
    made = replaced(results, lambda run, s: dataclasses.replace(s, signal_rms=(value, 1.0)) if run.init == OTHER else s)
    data = next(panel.data for panel in panels(made) if panel.name == "signals")
    rows = pick(data["rows"], label=OTHER, kind="signal_rms")
    assert not math.isfinite(rows[0]["median"])
    assert rows[1]["median"] == 1.0


def test_no_signals_no_panel(results):
    made = replaced(results, lambda run, s: None)
    assert "signals" not in [panel.name for panel in panels(made)]


def test_signals_of_unchosen_runs_and_tuning_runs_are_not_mixed_in(results):
    arms = {arm.arm.label: arm for arm in results.analysis.arms}

    def change(run, signals):
        chosen = run.seed < 8 and run.learning_rate == arms[run.init].learning_rate
        return signals if chosen else dataclasses.replace(signals, signal_rms=(1e9, 1e9))

    data = next(panel.data for panel in panels(replaced(results, change)) if panel.name == "signals")
    assert max(row["high"] for row in data["rows"]) < 10


def test_test_metrics_of_unchosen_runs_are_nowhere(fabricate):
    def looked(name, seed, rate):
        return (0.9 if rate == 0.1 else 0.5, 0.7 if rate == 0.1 and seed < 8 else 0.123456)

    made = fabricate(looked, lr=RATES)
    assert {arm.learning_rate for arm in made.analysis.arms} == {0.1}
    assert "123456" not in json.dumps(to_plain([panel.data for panel in panels(made)]))


def test_a_loss_is_not_in_percent(fabricate):
    forest = panels(fabricate(lambda name, s, r: 0.4 if name == OTHER else 0.5, kind="regression"))[0]
    assert forest.data["rows"][0]["difference"] == pytest.approx(0.1)
    assert "loss" in forest.data["x"]


def test_colours_are_told_apart():
    assert len(set(COLOURS)) == len(COLOURS) >= 8
