"""Studies that are comparisons: which networks are trained, and their accuracies by seed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.experiments.analysis import ArmSummary, analyse
from fanin.experiments.datasets import load_task
from fanin.experiments.engines import ENGINES
from fanin.experiments.executor import Executor
from fanin.experiments.results import Results
from fanin.experiments.spec import Experiment, experiment
from fanin.experiments.store import Store
from fanin.experiments.tasks import make_task
from fanin.initializers import canonical
from fanin.records import ModelSpec, Task
from fanin.stats import worst_for_failures
from fanin.studies.records import Conditions, Contrast, Designed, Evidence

__all__ = ["POINTS", "Training", "Variant", "arm_of", "part_of", "points", "ran", "trained"]

POINTS = "points of test accuracy"
"""The unit of most differences: percentage points."""

_CURVES = {"train_accuracy": "train_metric", "val_accuracy": "val_metric",
           "train_loss": "train_loss", "val_loss": "val_loss"}  # fmt: skip
_BAND = ("low", "median", "high")

Outcomes = Mapping[str, Results]
"""The results of the trainings of a study by their names."""


@dataclass(frozen=True)
class Variant:
    """A dense network with one thing changed; see `fanin.keras.variants.build` for what each means."""

    widths: tuple[int, ...]
    batch_norm: bool = False
    output: str = "linear"
    bias: float = 0.0
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 0.0

    def spec(self) -> ModelSpec:
        """As what an experiment takes.

        Raises:
            MissingExtraError: If Keras is not installed.
        """
        ENGINES["keras"].start()
        from fanin.keras.variants import build

        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        changed = {name: value for name, value in given.items() if name != "widths" and value != getattr(Variant, name)}
        sizes = "x".join(map(str, self.widths)) or "linear"
        text = f"{sizes} with {', '.join(f'{name}={value}' for name, value in changed.items())}" if changed else sizes
        return ModelSpec(text, "user", self.widths, f"fanin.keras.variants 1: {text}", partial(build, **given))


@dataclass(frozen=True)
class Training:
    """Runs that a study compares; what is not said here is as in `fanin.experiments.spec.experiment`.

    Attributes:
        name: By which the study finds its results.
        lr: The learning rates; of several, each arm gets the one that suits it on seeds of their own.
        every_rate: Whether the compared seeds run at all rates, not at the chosen one alone.
        examples: Number of training examples; None for all.
        curves: Whether the answer keeps how training went, epoch by epoch, for a picture.
    """

    name: str
    init: tuple[str, ...]
    model: "str | Variant" = "mlp:64"
    activation: tuple[str, ...] = ("relu",)
    task: str = "digits"
    lr: tuple[float, ...] = (0.001, 0.01)
    epochs: int = 10
    batch_size: int = 32
    optimizer: str = "adam"
    every_rate: bool = False
    examples: int | None = None
    curves: bool = False

    def experiment(self, seeds: int) -> Experiment:
        """The comparison, decided."""
        decided = experiment(
            task=part_of(self.task, self.examples),
            model=self.model if isinstance(self.model, str) else self.model.spec(),
            activation=self.activation, init=self.init, seeds=seeds, lr=self.lr, epochs=self.epochs,
            batch_size=self.batch_size, optimizer=self.optimizer,
        )  # fmt: skip
        return replace(decided, auto=decided.tuned and not self.every_rate)


@lru_cache(maxsize=4)
def part_of(name: str, examples: int | None = None) -> Task:
    """A task, or as many of its training examples."""
    task = load_task(name)
    if examples is None:
        return task
    parts = {"x_train": task.x_train[:examples], "y_train": task.y_train[:examples]}
    kept = {key: getattr(task, key) for key in ("x_val", "y_val", "x_test", "y_test")}
    return make_task(f"{name}, {examples} examples", {**parts, **kept})


def ran(decided: Experiment, conditions: Conditions) -> Results:
    """A comparison, trained and analysed."""
    with ExitStack() as stack:
        store = None if conditions.store is None else stack.enter_context(Store(conditions.store))
        executor = Executor(decided, store, conditions.progress)
        executor.prepare()
        runs = executor.execute()
        environments = (executor.environment(),) if store is None else tuple(store.environments(runs))
        return Results(decided, runs, analyse(decided, runs), environments)


def trained(
    quick: tuple[Training, ...], full: tuple[Training, ...], weigh: Callable[[Outcomes], tuple[Contrast, ...]]
) -> Designed:
    """A study that trains comparisons.

    Args:
        quick, full: The comparisons of each size.
        weigh: From the results by name to what is judged.
    """

    def measure(trainings: tuple[Training, ...], conditions: Conditions) -> Evidence:
        """Train all, one after the other."""
        outcomes = {each.name: ran(each.experiment(conditions.seeds), conditions) for each in trainings}
        numbers = {name: _numbers(results) for name, results in outcomes.items()}
        drawn = {label: curve for each in trainings if each.curves for label, curve in _curves(outcomes[each.name])}
        return Evidence(weigh(outcomes), {**numbers, "curves": drawn} if drawn else numbers)

    return Designed(quick, full, measure)


def _numbers(results: Results) -> dict[str, Any]:
    """What the runs of a training came to, short."""
    decided = results.experiment
    return {
        "task": decided.task.name,
        "model": decided.model.text,
        "training": f"{decided.settings.optimizer}, {decided.settings.epochs} epochs of batches of "
        f"{decided.settings.batch_size}",
        "arms": {
            each.arm.label: {
                "test_accuracy": [round(value, 4) for value in worst_for_failures(each.values, 0.0).tolist()],
                "learning_rate": each.learning_rate,
                "stuck": each.stuck,
                "diverged": each.diverged,
            }
            for each in results.analysis.arms
        },
    }


def _curves(results: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """By arm: loss and accuracy on training and validation data by epoch, median and quartiles over seeds."""
    decided = results.experiment
    for each in results.analysis.arms:
        runs = [results.runs[decided.run(each.arm, seed, each.learning_rate)] for seed in range(decided.seeds)]
        steps = np.array(runs[0].steps)
        found: dict[str, Any] = {"epochs": (decided.settings.epochs * steps / steps[-1]).round(3).tolist()}
        for name, curve in _CURVES.items():
            rows = [getattr(run, curve) for run in runs]
            if not all(rows):  # runs that were kept before this was measured
                continue
            values = np.array(rows)
            # What is lost has no number; it counts as the worst there is.
            values = np.where(np.isnan(values), np.inf if "loss" in name else -np.inf, values)
            low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0, method="nearest")
            found[name] = {
                key: [float(f"{x:.4g}") for x in row] for key, row in zip(_BAND, (low, median, high), strict=True)
            }
        yield each.arm.label, found


def arm_of(results: Results, init: str, activation: str = "") -> ArmSummary:
    """What came of one initializer, with one activation where there are several."""
    wanted = canonical(init)
    return next(
        each for each in results.analysis.arms
        if each.arm.init == wanted and activation in ("", each.arm.activation)
    )  # fmt: skip


def points(results: Results, init: str, activation: str = "") -> NDArray[np.float64]:
    """Test accuracy by seed in percentage points; a run that diverged has 0."""
    return 100 * worst_for_failures(arm_of(results, init, activation).values, 0.0)
