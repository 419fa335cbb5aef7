import dataclasses
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

import fanin
from fanin.errors import FaninError, ModelError
from fanin.experiments.executor import Executor, Quiet
from fanin.experiments.spec import TUNING_SEEDS, experiment
from fanin.experiments.store import Store
from fanin.experiments.tasks import make_task


class Spy(Quiet):
    """A progress that remembers what it was told."""

    def __init__(self):
        self.totals, self.steps, self.runs, self.notes = [], 0, 0, []

    def total(self, runs, run_steps):
        self.totals.append((runs, run_steps))

    def advance(self, run_steps):
        self.steps += run_steps

    def finished(self, runs):
        self.runs += runs

    def note(self, text):
        self.notes.append(text)


def execute(decided, store=None):
    """All results of an experiment, and what its progress was told."""
    spy = Spy()
    executor = Executor(decided, store, spy)
    executor.prepare()
    return executor.execute(), spy


def plain(result):
    """Every bit of a result but how long it took."""
    return dataclasses.replace(result, seconds=0.0).to_json()


def assert_same(results, others):
    assert set(results) <= set(others)
    for run, result in results.items():
        assert plain(result) == plain(others[run]), run


pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture(scope="module")
def decided(toy):
    return experiment(**toy.settings)


@pytest.fixture(scope="module")
def first(decided, tmp_path_factory):
    """The toy comparison run once into a store: the file, its results, what progress was told."""
    path = tmp_path_factory.mktemp("store") / "first.sqlite"
    with Store(path) as store:
        results, spy = execute(decided, store)
    return path, results, spy


def test_every_run_is_trained_and_kept(decided, first):
    path, results, spy = first
    assert list(results) == decided.compared_runs()
    steps = 2 * (len(decided.task.x_train) // 16)
    assert spy.totals == [(4, 4 * steps)]
    assert (spy.runs, spy.steps) == (4, 4 * steps)
    for result in results.values():
        assert (result.status, result.diverged_at, result.steps[-1]) == ("finished", None, steps)
        curves = (result.train_loss, result.val_loss, result.val_metric, result.train_metric)
        assert {len(result.steps)} == set(map(len, curves))
        assert all(math.isfinite(value) for value in (*result.train_loss, *result.val_loss, result.test_loss))
        assert len(result.signals.layers) == 2
    with Store(path) as store:
        assert len(store) == 4


def test_training_learns(toy):
    longer = experiment(**{**toy.settings, "epochs": 20, "lr": [0.05], "init": ["he_normal"]})
    results, _ = execute(longer)
    for result in results.values():
        assert result.train_loss[-1] < result.train_loss[0]
        assert result.val_metric[-1] > 0.5


def test_same_command_trains_nothing_and_reads_the_same(decided, first):
    path, results, _ = first
    with Store(path) as store:
        again, spy = execute(decided, store)
    assert (spy.totals, spy.runs, spy.steps) == ([], 0, 0)
    assert again == results  # seconds too: they were read, not measured again
    assert list(again) == list(results)


def test_two_stores_hold_the_same_bits(decided, first, tmp_path):
    with Store(tmp_path / "second") as store:
        results, spy = execute(decided, store)
    assert spy.runs == 4
    assert_same(results, first[1])


def test_no_store_gives_the_same_bits(decided, first):
    assert_same(execute(decided)[0], first[1])


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        pytest.param({"init": ("orthogonal", "glorot_uniform", "zeros", "he_normal")}, 4, id="initializers"),
        pytest.param({"seeds": 5}, 6, id="seeds"),
        pytest.param({"lr": (0.001, 0.01)}, 4 + 3 * 4, id="a learning rate"),
    ],
)
def test_more_of_something_changes_no_other_run(toy, first, tmp_path, more, missing):
    wider = experiment(**{**toy.settings, **more})
    alone, spy = execute(wider)
    assert_same(first[1], alone)
    with Store(first[0]) as full, Store(tmp_path / "copy") as store:
        for run, result in full.get(list(first[1])).items():
            store.put(run, result, {})
        continued, spy = execute(wider, store)
    assert spy.runs == missing
    assert spy.totals[0][0] == missing
    assert_same(alone, continued)
    for run, result in first[1].items():
        assert continued[run] == result


def test_a_single_missing_run_is_trained_alone(decided, first, tmp_path):
    runs = list(first[1])
    for missing in (runs[0], runs[-1]):
        with Store(tmp_path / missing.id) as store:
            for run in runs:
                if run != missing:
                    store.put(run, first[1][run], {})
            results, spy = execute(decided, store)
        assert spy.runs == 1
        assert_same(results, first[1])


def test_signals_are_those_of_the_drawn_weights(toy, monkeypatch):
    """Tracing on one device while another builds models must not bake some model's own weights into the program."""
    monkeypatch.setattr("fanin.experiments.executor.remembered", lambda *_: {"loop": "scan", "chunk": 16, "rate": 1e4})
    x = toy.task.x_train
    for _ in range(4):
        executor = Executor(experiment(**{**toy.settings, "seeds": 10}), None)
        executor.prepare()
        for run, result in executor.execute().items():
            first, last = executor.trainer("relu").weights(run).values()
            hidden = x @ first
            output = np.maximum(hidden, 0) @ last
            expected = [float(np.sqrt(np.mean(np.square(z)))) for z in (hidden, output)]
            assert list(result.signals.signal_rms) == pytest.approx(expected, rel=1e-4)


def test_seeds_and_initializers_differ(first):
    losses = [result.train_loss for result in first[1].values()]
    assert len(set(losses)) == 4


def test_diverging_neighbours_change_nothing(toy, first):
    """One initializer overflows at once, one learning rate at the second step."""
    wild = experiment(**{**toy.settings, "init": (*toy.settings["init"], "random_normal(stddev=1e30)")})
    results, _ = execute(wild)
    assert_same(first[1], results)
    gone = [result for run, result in results.items() if "1e+30" in run.init]
    assert [(result.status, result.diverged_at) for result in gone] == [("diverged", 0)] * 2
    for result in gone:
        assert all(math.isnan(value) for value in (*result.val_loss, result.test_loss, result.test_metric))
    fast = experiment(**{**toy.settings, "lr": (0.01, 1e38)})
    results, _ = execute(fast)
    assert_same(first[1], results)
    for run, result in results.items():
        assert (result.status == "diverged") == (run.learning_rate == 1e38)
        if result.status == "diverged":
            # The first step starts from the initial weights: its loss is a number, the second's is not.
            assert result.diverged_at == 1
            assert math.isfinite(result.train_loss[0])
            assert all(math.isnan(value) for value in result.train_loss[1:])


@pytest.fixture(scope="module")
def line():
    """A regression: a straight line with 60 examples."""
    x = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
    return make_task("line", {"x": x, "y": 2 * x + 1})


def test_diverging_regression_is_recorded(line, unmeasured):
    settings = {"task": line, "model": "mlp:4", "optimizer": "sgd", "seeds": 2, "epochs": 8, "batch_size": 12,
                "init": ["he_normal", "glorot_uniform"]}  # fmt: skip
    calm, _ = execute(experiment(**settings, lr=[0.01]))
    both, _ = execute(experiment(**settings, lr=[0.01, 1e6]))
    assert {result.status for result in calm.values()} == {"finished"}
    assert_same(calm, both)
    wild = [result for run, result in both.items() if run.learning_rate == 1e6]
    assert {result.status for result in wild} == {"diverged"}
    for result in wild:
        assert 0 < result.diverged_at < result.steps[-1]
        assert math.isnan(result.test_metric)
        shown = [math.isfinite(loss) for loss in result.train_loss]
        assert shown == [step <= result.diverged_at for step in result.steps]


def test_weights_that_blow_up_at_the_last_step_are_a_divergence(line, unmeasured):
    """No later loss is there to show it, but what is left is no network."""
    decided = experiment(task=line, model="mlp:4", optimizer="sgd", lr=[1e38], epochs=1, batch_size=36, seeds=2,
                         init=["he_normal"])  # fmt: skip
    results, _ = execute(decided)
    assert {result.status for result in results.values()} == {"diverged"}


def test_activations_are_trained_apart(toy, first, unmeasured):
    crossed = experiment(**{**toy.settings, "activation": ["relu", "tanh"]})
    results, spy = execute(crossed)
    assert spy.runs == 8
    assert {run.activation for run in results} == {"relu", "tanh"}
    losses = {run.activation: result.train_loss for run, result in results.items()}
    assert losses["relu"] != losses["tanh"]


def test_recipes_start_runs_as_fanin_init_starts_a_model(toy):
    from fanin.keras import adapter
    from fanin.keras.models import build

    decided = experiment(**{**toy.settings, "init": ["auto", "he_normal"], "activation": "silu"})
    executor = Executor(decided, None)
    run = next(run for run in decided.compared_runs() if run.init.startswith("auto") and run.seed == 1)
    found = executor.trainer("silu").weights(run)
    model = build(decided.model, decided.task.x_train.shape[1:], decided.task.outputs, "silu")
    fanin.init(model, seed=1, quiet=True)
    assert set(found) == {param.path for param in adapter.describe(model).params}
    for path, array in found.items():
        np.testing.assert_array_equal(array, adapter.values(model, path))


@pytest.mark.parametrize("text", ["identity", "stft"])
@pytest.mark.parametrize("model", ["mlp:4", "cnn:2"])
def test_initializer_that_does_not_fit_is_one_error_before_training(text, model):
    x = np.zeros((40, 4, 4), np.float32)
    task = make_task("pictures", {"x": x, "y": np.arange(40) % 2})
    decided = experiment(task=task, model=model, init=["he_normal", text], batch_size=8, seeds=1, epochs=1, lr=[0.1])
    spy = Spy()
    executor = Executor(decided, None, spy)
    if (text, model) == ("identity", "mlp:4"):
        executor.prepare()  # a matrix with ones on its diagonal, whatever its shape
        return
    with pytest.raises(ModelError, match=f"The initializer {text} does not fit the layer .*kernel"):
        executor.prepare()
    assert (spy.totals, spy.runs) == ([], 0)


MODELS = """
import keras

class Broken(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3)
    def call(self, x):
        raise RuntimeError("my own mistake")

class OnlyTraining(keras.layers.Layer):
    def call(self, x, training=False):
        if training:
            raise RuntimeError("my own mistake")
        return x

def broken(): return Broken()
def training():
    return keras.Sequential([keras.Input((4,)), OnlyTraining(), keras.layers.Dense(3)])
def outputs(): return keras.Sequential([keras.Input((4,)), keras.layers.Dense(7)])
def inputs(): return keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])
def raises(): raise ValueError("my own mistake")
def nothing(): return None
def weightless(): return keras.Sequential([keras.Input((3,)), keras.layers.Activation("relu")])
def good():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(3)])
def embedded():
    return keras.Sequential([keras.Input((4,)), keras.layers.Embedding(9, 2), keras.layers.Flatten(),
                             keras.layers.Dense(3)])
"""


@pytest.fixture
def mine(tmp_path, toy):
    path = tmp_path / "mymodels.py"
    path.write_text(MODELS)
    return lambda name: experiment(**{**toy.settings, "model": f"{path}:{name}"})


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("broken", "my own mistake"),
        ("outputs", "output and the data do not fit together"),
        ("inputs", "do not fit together"),
        ("raises", "could not be built: ValueError: my own mistake"),
        ("nothing", "did not return a model"),
    ],
)
def test_users_model_that_fails_is_one_error_before_training(mine, name, match):
    with pytest.raises(ModelError, match=match) as error:
        Executor(mine(name), None).prepare()
    assert f"mymodels.py:{name}" in str(error.value)


def test_users_model_that_fails_in_training_is_one_error(mine, unmeasured, tmp_path):
    with Store(tmp_path / "s") as store:
        with pytest.raises(ModelError, match=r"could not be trained: RuntimeError.*my own mistake") as error:
            execute(mine("training"), store)
        assert len(store) == 0
    assert error.value.hint


def test_users_model_is_trained(mine, unmeasured):
    results, _ = execute(mine("good"))
    assert {result.status for result in results.values()} == {"finished"}
    assert {run.activation for run in results} == {""}


def test_what_no_initializer_touches_is_told(mine):
    executor = Executor(mine("embedded"), None)
    executor.prepare()
    left = executor.left_alone()
    assert len(left) == 1
    assert "lookup table" in next(iter(left.values()))


def test_own_errors_of_fanin_are_not_blamed_on_a_model(mine, monkeypatch, unmeasured):
    decided = mine("good")

    def refuse(*_):
        raise FaninError("The store is full")

    monkeypatch.setattr("fanin.experiments.store.Store.put", refuse)
    with Store(":memory:") as store, pytest.raises(FaninError, match="The store is full"):
        execute(decided, store)


def test_interruption_keeps_what_is_finished(toy, first, tmp_path):
    wider = experiment(**{**toy.settings, "seeds": 24})

    class Stop(Spy):
        def finished(self, runs):
            super().finished(runs)
            if self.runs == 5:
                raise KeyboardInterrupt

    with Store(tmp_path / "s") as store:
        executor = Executor(wider, store, Stop())
        with pytest.raises(KeyboardInterrupt):
            executor.execute()
        kept = len(store)
        assert kept == 5
        results, spy = execute(wider, store)
    assert spy.runs == 48 - kept
    assert_same(first[1], results)


def test_auto_chooses_on_tuning_seeds_then_compares(toy, tmp_path):
    auto = experiment(**{**toy.settings, "lr": "auto"})
    with Store(tmp_path / "s") as store:
        results, spy = execute(auto, store)
        tuning = [run for run in results if run.seed in TUNING_SEEDS]
        compared = [run for run in results if run.seed not in TUNING_SEEDS]
        assert (len(tuning), len(compared)) == (2 * 8 * 3, 2 * 2)
        assert all(
            len({run.learning_rate for run in compared if run.init == init}) == 1 for init in toy.settings["init"]
        )
        assert spy.runs == 52
        assert spy.totals[0][0] == 52
        again, spy = execute(auto, store)
    assert again == results
    assert spy.runs == 0


def rows(path):
    """Every kept run as it lies in the store: when it was finished, and what it gave."""
    connection = sqlite3.connect(path)
    try:
        return {
            key: (when, result) for key, when, result in connection.execute("SELECT id, finished, result FROM runs")
        }
    except sqlite3.OperationalError:
        return {}  # not made yet
    finally:
        connection.close()


@pytest.mark.slow
def test_killed_three_times_and_run_to_the_end(toy, tmp_path):
    """SIGKILL at random moments loses nothing that was finished and changes nothing of what comes later."""
    rng = random.Random(20)
    seeds = 40
    flags = [*toy.flags, "--seeds", str(seeds), "--epochs", "240", "--report", str(tmp_path / "report.html")]

    def command(store):
        return [sys.executable, "-m", "fanin.cli", "compare", *flags, "--store", str(store)]

    uninterrupted = tmp_path / "whole.sqlite"
    subprocess.run(command(uninterrupted), check=True, capture_output=True, env=os.environ)
    store = tmp_path / "killed.sqlite"
    before = {}
    for share in sorted(rng.uniform(0.05, 0.8) for _ in range(3)):
        process = subprocess.Popen(command(store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (store.exists() and len(rows(store)) >= share * 2 * seeds):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it finished before it was killed"
        kept = rows(store)
        assert len(before) <= len(kept) < 2 * seeds
        assert {key: kept[key] for key in before} == before  # neither trained again nor changed
        before = kept
    assert before
    time.sleep(1.1)  # so that the last part's times differ from those before
    subprocess.run(command(store), check=True, capture_output=True, env=os.environ)
    final = rows(store)
    assert {key: final[key] for key in before} == before
    whole = rows(uninterrupted)
    assert set(final) == set(whole)
    assert len(final) == 2 * seeds
    for key, (_, result) in whole.items():
        ours, theirs = json.loads(final[key][1]), json.loads(result)
        assert {**ours, "seconds": None} == {**theirs, "seconds": None}
