import math

import pytest

import fanin
from fanin import api
from fanin.errors import FaninError, StoreError
from fanin.experiments.executor import Quiet
from fanin.experiments.results import Results
from fanin.experiments.spec import experiment
from fanin.experiments.store import Store

pytestmark = pytest.mark.usefixtures("short_measurements")


def same(results, others):
    """Whether the runs of two results are the same in every bit but their seconds."""
    from dataclasses import replace

    ours, theirs = ({run: replace(r, seconds=0.0).to_json() for run, r in x.runs.items()} for x in (results, others))
    return ours == theirs


@pytest.fixture(scope="module")
def compared(toy, tmp_path_factory):
    """A comparison made by the public function, and its store."""
    path = tmp_path_factory.mktemp("api") / "store.sqlite"
    return fanin.compare(**toy.settings, store=path), path


def test_compare_gives_results(compared, toy):
    results, path = compared
    assert isinstance(results, Results)
    assert [arm.arm.label for arm in results.analysis.arms] == ["glorot_uniform", "he_normal"]
    assert all(arm.verdict in ("baseline", "too few seeds") for arm in results.analysis.arms)
    assert len(results.environments) == 1
    assert set(results.environments[0]) >= {"keras", "jax", "device"}
    with Store(path) as store:
        assert len(store) == 4


def test_task_in_memory_and_in_a_file_are_one(compared, toy):
    results, path = compared
    again = fanin.compare(**{**toy.settings, "task": str(toy.path)}, store=path)
    assert again.runs == results.runs


def test_results_do_not_depend_on_the_store(compared, toy, tmp_path):
    assert same(compared[0], fanin.compare(**toy.settings))
    assert same(compared[0], fanin.compare(**toy.settings, store=tmp_path / "other"))


def test_values_are_those_of_the_runs(compared):
    results, _ = compared
    for arm in results.analysis.arms:
        runs = [results.runs[results.experiment.run(arm.arm, seed, 0.01)] for seed in range(2)]
        assert arm.values == tuple(run.test_metric for run in runs)
        assert all(0 <= value <= 1 for value in arm.values)


def test_estimate_counts_and_makes_no_store(toy, tmp_path):
    path = tmp_path / "none.sqlite"
    estimate = api.estimate(experiment(**toy.settings), path)
    assert (estimate.runs, estimate.missing) == (4, 4)
    assert 0 < estimate.seconds < math.inf
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "runs"),
    [({"seeds": 3}, 6), ({"lr": (0.01, 0.1)}, 2 * 2 * (2 + 3)), ({"lr": "auto"}, 2 * 8 * 3 + 2 * 2)],
)
def test_estimate_counts_what_is_missing(compared, toy, more, runs):
    estimate = api.estimate(experiment(**{**toy.settings, **more}), compared[1])
    assert estimate.runs == runs
    there = 0 if more == {"lr": "auto"} else 4
    assert estimate.missing == runs - there


def test_estimate_of_what_is_finished_is_nothing(compared, toy):
    estimate = api.estimate(experiment(**toy.settings), compared[1])
    assert (estimate.missing, estimate.seconds) == (0, 0.0)


def test_estimate_trains_nothing_into_the_store(compared, toy):
    api.estimate(experiment(**{**toy.settings, "seeds": 9}), compared[1])
    with Store(compared[1]) as store:
        assert len(store) == 4


def test_auto_end_to_end(toy):
    results = fanin.compare(**{**toy.settings, "lr": "auto"})
    for arm in results.analysis.arms:
        assert arm.learning_rate in results.experiment.learning_rates
        assert len(arm.by_rate) == 8
        finite = [each.median for each in arm.by_rate]
        chosen = next(each for each in arm.by_rate if each.learning_rate == arm.learning_rate)
        assert chosen.median == max(finite)


def test_own_progress_is_told(compared, toy):
    class Count(Quiet):
        runs = 0

        def finished(self, runs):
            self.runs += runs

    progress = Count()
    api.run_experiment(experiment(**{**toy.settings, "seeds": 3}), None, progress)
    assert progress.runs == 6


def test_results_tell_what_was_left_alone(toy, tmp_path, unmeasured):
    path = tmp_path / "mine.py"
    path.write_text(
        "import keras\n\ndef build():\n    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3),"
        " keras.layers.PReLU(name='slopes'), keras.layers.Dense(3)])\n"
    )
    results = fanin.compare(**{**toy.settings, "model": f"{path}:build", "seeds": 1})
    assert len(results.notes) == 1
    assert "slopes" in results.notes[0]
    assert results.notes[0].endswith("stays as the model made it.")


@pytest.mark.parametrize(
    "given",
    [
        {"seeds": 0}, {"lr": [-1.0]}, {"epochs": 0}, {"batch_size": 10_000}, {"init": ["he_norml"]},
        {"optimizer": "adamm"}, {"optimizer": "adam(learning_rate=0.1)"}, {"activation": ["rellu"]},
        {"model": "mlp:0"}, {"init": ["stft"]}, {"baseline": "zeros"},
    ],
)  # fmt: skip
def test_mistake_found_before_training_leaves_no_store(toy, tmp_path, given):
    with pytest.raises(FaninError):
        fanin.compare(**{**toy.settings, **given}, store=tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_store_that_cannot_be_is_found_before_training(toy, tmp_path):
    (tmp_path / "notes.txt").write_text("no database " * 100)
    for path in (tmp_path / "notes.txt", tmp_path / "missing" / "store"):
        with pytest.raises(StoreError):
            fanin.compare(**toy.settings, store=path)


def test_public_names():
    shared = set(fanin.__all__) & set(api.__all__)
    assert shared == {"audit", "check", "compare", "describe", "init", "plan", "sample"}
    assert all(getattr(fanin, name) is getattr(api, name) for name in shared)
    with pytest.raises(AttributeError, match="no attribute 'comapre'"):
        fanin.comapre  # noqa: B018
