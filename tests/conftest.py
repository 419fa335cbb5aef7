"""What every test starts from: Keras on JAX, and a cache of its own that lives as long as the test run."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fanin.experiments.analysis import analyse
from fanin.experiments.results import Results
from fanin.experiments.spec import Arm, Experiment, experiment
from fanin.experiments.tasks import make_task
from fanin.keras.backend import start
from fanin.records import InitialSignals, Program, Run, RunResult, Task


def pytest_configure() -> None:
    """JAX draws its own numbers (Keras's first weights, dropout) as it used to: compiled ten times faster.

    The newer way takes seconds for each shape of four axes, a third of the time of the tests of Keras.
    """
    jax.config.update("jax_threefry_partitionable", False)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FANIN_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.pop("FANIN_DATA_DIR", None)


STEPS = (10, 20, 30, 40)
CLASSES = 5

Quality = Callable[[str, int, float], Any]


def made_up_task(kind: str) -> Task:
    """A task with 300 examples of 3 numbers; the classes are equally frequent, the targets have variance 1."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    y = np.arange(300) % CLASSES if kind == "classification" else rng.permutation(np.linspace(-1.7, 1.7, 300))
    return make_task("made up", {"x": x, "y": y})


def made_up_result(outcome: float | tuple[float, float] | None, start: float, seed: int) -> RunResult:
    """A result whose validation metric goes straight from `start` to its end; None is a run that diverged.

    Args:
        outcome: Final metric on validation and test data, as one number or as two.
        start: The metric of a constant prediction.
        seed: Makes losses and signals differ.
    """
    signals = InitialSignals(("net/hidden", "net/output"), (1.0 + seed % 7 / 10, 0.5), (0.01, 0.02 + seed % 7 / 100))
    if outcome is None:
        gone = (math.nan, math.nan, math.nan)
        return RunResult(
            "diverged",
            12,
            STEPS,
            (2.0, *gone),
            (2.0, *gone),
            (start, *gone),
            math.nan,
            math.nan,
            signals,
            0.5,
            (start, *gone),
        )
    val, test = outcome if isinstance(outcome, tuple) else (outcome, outcome)
    curve = tuple(start + (val - start) * (i + 1) / len(STEPS) for i in range(len(STEPS)))
    losses = tuple(max(0.05, 2.0 - 0.1 * i + 0.001 * (seed % 7) - 0.5 * val) for i in range(len(STEPS)))
    loss = 1.5 - test / 2
    return RunResult("finished", None, STEPS, losses, losses, curve, loss, test, signals, 0.25, curve)


def made_up_runs(decided: Experiment, quality: Quality, chosen: Mapping[Arm, float] | None = None) -> dict[Run, Any]:
    """Every run of an experiment with a result made from `quality(label, seed, learning rate)`."""
    labels = {(str(arm.init), arm.activation): arm.label for arm in decided.arms}
    start = 1 / CLASSES if decided.task.kind == "classification" else 1.0
    runs = [*decided.tuning_runs(), *decided.compared_runs(dict(chosen) if chosen else None)]
    return {
        run: made_up_result(quality(labels[run.init, run.activation], run.seed, run.learning_rate), start, run.seed)
        for run in runs
    }


@dataclass(frozen=True)
class Fabricate:
    """Comparisons that were never trained: an experiment and results made from a function."""

    tasks: Mapping[str, Task]

    def experiment(self, kind: str = "classification", **settings: Any) -> Experiment:
        """An experiment on the made-up task; 8 seeds at one learning rate if nothing is said."""
        asked = {"init": ("glorot_uniform", "he_normal"), "lr": (0.1,), "model": "mlp:4", **settings}
        return experiment(task=self.tasks[kind], **asked)

    def __call__(self, quality: Quality, kind: str = "classification", **settings: Any) -> Results:
        """Results whose runs end at what `quality(label, seed, learning rate)` says."""
        decided = self.experiment(kind, **settings)
        runs = made_up_runs(decided, quality)
        return Results(decided, runs, analyse(decided, runs), ({"keras": "3", "device": "none"},), ("A note.",))

    runs = staticmethod(made_up_runs)
    result = staticmethod(made_up_result)


@pytest.fixture(scope="session")
def fabricate() -> Fabricate:
    return Fabricate({kind: made_up_task(kind) for kind in ("classification", "regression")})


@dataclass(frozen=True)
class Toy:
    """A task that trains within moments, in memory and as a file; both are the same task.

    Attributes:
        settings: What to hand to `experiment` with it.
        flags: The same for the command line.
    """

    task: Task
    path: Path
    settings: Mapping[str, Any]
    flags: tuple[str, ...]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(96, 4)).astype(np.float32)
    arrays = {"x": x, "y": (x @ rng.normal(size=(4, 3))).argmax(axis=1)}
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    np.savez(path, **arrays)
    inits = ("glorot_uniform", "he_normal")
    settings = {"model": "mlp:4", "epochs": 2, "batch_size": 16, "lr": (0.01,), "seeds": 2, "init": inits}
    flags = ("--task", str(path), "--model", "mlp:4", "--epochs", "2", "--batch-size", "16", "--lr", "0.01",
             "--seeds", "2", "--init", "glorot_uniform", "--init", "he_normal")  # fmt: skip
    task = make_task(path.name, arrays)
    return Toy(task, path, {"task": task, **settings}, flags)


@pytest.fixture(scope="module")
def short_measurements() -> Iterator[None]:
    """How runs are executed is chosen among few ways: compiling each costs most; keras/test_trainer.py tries more."""
    start(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanin.jax.measure._LARGEST_CHUNK", 2)
        patch.setattr("fanin.jax.measure._SECONDS", 0.05)
        yield


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are executed two at a time without a measurement, which nothing remembers."""
    program = asdict(Program("scan", 2, 1e4))
    monkeypatch.setattr("fanin.experiments.executor.remembered", lambda *_: program)
