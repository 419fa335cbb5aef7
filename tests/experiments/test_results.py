import csv
import io
import json
import math

import pytest

from fanin.experiments.spec import TUNING_SEEDS
from fanin.report.terminal import text


@pytest.fixture(scope="module")
def results(fabricate):
    """Two initializers at three rates; one diverges at the largest rate, and at every rate for seed 5."""

    def quality(name, seed, rate):
        if name == "he_normal" and (rate == 1.0 or seed == 5):
            return None
        return 0.6 + 0.1 * (rate == 0.1) + 0.01 * (seed % 8)

    return fabricate(quality, lr=(0.01, 0.1, 1.0))


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


def test_to_dict_is_strict_json(results):
    record = results.to_dict()
    text = json.dumps(record, allow_nan=False)
    assert json.loads(text, parse_constant=refuse) == record


def test_to_dict_says_what_was_done_and_found(results):
    record = results.to_dict()
    assert (record["task"], record["model"], record["optimizer"]) == ("made up", "mlp:4", "adam")
    assert (record["seeds"], record["learning_rates"], record["baseline"]) == (8, [0.01, 0.1, 1.0], "glorot_uniform")
    assert record["metric"] == "test accuracy"
    assert record["environments"] == [{"keras": "3", "device": "none"}]
    assert "A note." in record["notes"]
    assert "numpy" in record["system"]
    he = next(arm for arm in record["arms"] if arm["label"] == "he_normal")
    summary = next(arm for arm in results.analysis.arms if arm.arm.label == "he_normal")
    assert (he["init"], he["activation"], he["diverged"], he["learning_rate"]) == ("he_normal", "relu", 1, 0.1)
    assert he["values"][5] is None
    assert he["values"][4] == summary.values[4]
    assert he["verdict"] == summary.verdict
    assert he["comparison"]["difference"] == summary.comparison.difference
    assert he["by_rate"][2]["diverged"] == 8


def test_every_run_is_there(results):
    rows = results.to_dict()["runs"]
    assert len(rows) == len(results.runs) == 2 * 3 * (8 + 3)
    assert {row["id"] for row in rows} == {run.id for run in results.runs}
    assert sum(row["purpose"] == "tuning" for row in rows) == 2 * 3 * 3
    assert all((row["purpose"] == "tuning") == (row["seed"] in TUNING_SEEDS) for row in rows)
    gone = [row for row in rows if row["status"] == "diverged"]
    assert all((row["diverged_at"], row["test_metric"]) == (12, None) for row in gone)
    assert len(gone) == 8 + 3 + 2


def test_infinite_steps_are_spelt_out(fabricate):
    record = fabricate(lambda name, seed, rate: 0.9 if name == "he_normal" else 0.3).to_dict()
    steps = {arm["label"]: arm["steps_to_target"] for arm in record["arms"]}
    assert steps == {"he_normal": 40.0, "glorot_uniform": "inf"}


def test_csv(results):
    rows = list(csv.DictReader(io.StringIO(results.to_csv())))
    assert len(rows) == len(results.runs)
    rates = {arm.arm.label: arm.learning_rate for arm in results.analysis.arms}
    for row, (run, result) in zip(rows, results.runs.items(), strict=True):
        assert row["id"] == run.id
        assert float(row["learning_rate"]) == run.learning_rate
        if result.status == "diverged":
            assert (row["test_metric"], row["diverged_at"]) == ("", "12")
        else:
            looked = row["purpose"] == "comparison" and float(row["learning_rate"]) == rates[row["label"]]
            assert row["test_metric"] == (repr(result.test_metric) if looked else "")  # every digit, or not shown
            assert row["diverged_at"] == ""
    assert "nan" not in results.to_csv()
    assert "\r" not in results.to_csv()


def test_csv_quotes_labels_with_commas(fabricate):
    made = fabricate(lambda *_: 0.5, init=("variance_scaling(scale=2.0, mode='fan_out')", "zeros"), seeds=1)
    labels = {row["label"] for row in csv.DictReader(io.StringIO(made.to_csv()))}
    assert labels == {arm.arm.label for arm in made.analysis.arms}
    assert any("," in label for label in labels)


def test_pandas(results):
    table = results.to_pandas()
    assert len(table) == len(results.runs)
    assert list(table.columns) == list(results.rows()[0])
    compared = table[(table.purpose == "comparison") & (table.label == "glorot_uniform") & (table.learning_rate == 0.1)]
    base = next(arm for arm in results.analysis.arms if arm.comparison is None)
    assert tuple(compared.sort_values("seed").test_metric) == base.values
    shown = sum(math.isfinite(value) for arm in results.analysis.arms for value in arm.values)
    assert table.test_metric.notna().sum() == shown > 0


def test_best_and_text(results, fabricate):
    assert results.best.arm.label == "glorot_uniform"
    assert str(results).splitlines()[0] == results.analysis.arms[0].sentence
    assert "A note." in str(results)
    for line in (*results.analysis.notes, *results.notes):
        assert line in text(results)
    losses = fabricate(lambda name, seed, rate: 0.5 if name == "he_normal" else 0.7, kind="regression")
    assert losses.best.arm.label == "he_normal"
    assert losses.to_dict()["metric"] == "test loss"


def test_best_of_runs_that_all_diverged(fabricate):
    made = fabricate(lambda *_: None, kind="regression")
    assert math.isfinite(made.best.median)
    json.dumps(made.to_dict(), allow_nan=False)


def test_notebooks_show_the_sentences_escaped(fabricate):
    shown = fabricate(lambda *_: 0.5, init=("variance_scaling(mode='fan_out')", "zeros"))._repr_html_()
    assert shown.startswith("<ul><li>variance_scaling(mode=&#x27;fan_out&#x27;)")
    assert shown.count("<li>") >= 3
