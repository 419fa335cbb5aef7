"""The verbs of fanin as Python functions; each only puts the parts together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fanin.initializers.draws import sample
from fanin.records import Init, ModelSpec, Task

if TYPE_CHECKING:
    from fanin.experiments.executor import Estimate, Progress
    from fanin.experiments.results import Results
    from fanin.experiments.spec import Experiment
    from fanin.theory.card import Card
    from fanin.theory.diagram import PhaseDiagram

__all__ = ["compare", "estimate", "run_experiment", "sample", "theory"]


def compare(
    *,
    task: "str | Task" = "digits",
    model: "str | ModelSpec | None" = None,
    activation: str | Sequence[str] = (),
    init: str | Init | Sequence[str | Init] = (),
    seeds: int = 8,
    lr: float | Sequence[float] | str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: str = "adam",
    baseline: str | None = None,
    store: str | Path | None = None,
) -> "Results":
    """Train one network under several initializers and say which is better, by how much, how surely.

    Args:
        task: ``digits``, ``mnist``, ``fashion_mnist``, ``cifar10``, ``path.npz``, ``file.py:load``, or a `Task`.
        model: ``mlp:128x128``, ``cnn:16x32`` or ``file.py:build``; None for the task's own default.
        activation: Between layers; several are crossed with the initializers. ReLU where nothing is said.
        init: Initializers, such as ``he_normal`` or ``random_normal(stddev=0.01)``; ``he_normal+tanh``
            brings its own activation. Eight well-known ones where nothing is said.
        seeds: Number of paired repetitions.
        lr: Learning rates to choose from for each initializer, or ``auto``.
        epochs, batch_size: None for the task's own defaults.
        optimizer: A Keras optimizer, such as ``adam`` or ``sgd(momentum=0.9)``.
        baseline: The initializer that the others are compared to; ``glorot_uniform`` if it takes part.
        store: A file that keeps finished runs, so that the same call continues; None keeps nothing.

    Returns:
        The results: print them, or use `to_dict`, `to_csv`, `to_pandas`.

    Raises:
        FaninError: If something given cannot be.
    """
    from fanin.experiments.spec import experiment

    decided = experiment(
        task=task, model=model, activation=activation, init=init, seeds=seeds, lr=lr, epochs=epochs,
        batch_size=batch_size, optimizer=optimizer, baseline=baseline,
    )  # fmt: skip
    return run_experiment(decided, store)


def run_experiment(
    experiment: "Experiment", store: str | Path | None = None, progress: "Progress | None" = None
) -> "Results":
    """Run a decided experiment and analyse it.

    Args:
        experiment: From `fanin.experiments.spec.experiment`.
        store: A file that keeps finished runs, or None.
        progress: Who is told how it goes.
    """
    from contextlib import ExitStack

    from fanin.experiments.analysis import analyse
    from fanin.experiments.executor import Executor, Quiet
    from fanin.experiments.results import Results
    from fanin.experiments.store import Store

    with ExitStack() as stack:
        executor = Executor(experiment, None, progress or Quiet())
        executor.prepare()  # before a store is made: a mistake leaves nothing behind
        opened = executor.store = None if store is None else stack.enter_context(Store(store))
        runs = executor.execute()
        environments = tuple(opened.environments(runs)) if opened is not None else (_versions(),)
        notes = tuple(f"{path}: {reason}." for path, reason in executor.left_alone().items())
        return Results(experiment, runs, analyse(experiment, runs), environments, notes)


def estimate(
    experiment: "Experiment", store: str | Path | None = None, progress: "Progress | None" = None
) -> "Estimate":
    """How many runs an experiment has, how many are missing from the store, and how long they would take.

    A store that does not exist is not made.
    """
    from contextlib import ExitStack

    from fanin.experiments.executor import Executor, Quiet
    from fanin.experiments.store import Store

    with ExitStack() as stack:
        exists = store is not None and Path(store).exists()
        opened = stack.enter_context(Store(store)) if exists and store is not None else None
        executor = Executor(experiment, opened, progress or Quiet())
        executor.prepare()
        return executor.estimate()


def theory(activation: str, *, with_diagram: bool = False) -> "tuple[Card, PhaseDiagram | None]":
    """The card of an activation, and its phase diagram where that is wanted.

    Args:
        activation: A name, or ``file.py:function`` for a function of NumPy arrays.
        with_diagram: Whether to compute the diagram, too.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such activation, or it cannot be integrated.
    """
    from fanin.activations import activation as entry_of
    from fanin.theory.card import card
    from fanin.theory.diagram import phase_diagram

    if ":" in activation:
        from fanin.experiments.sources import load_function

        function, _ = load_function(activation, "activation")
        entry = entry_of(function)
    else:
        entry = entry_of(activation)
    return card(entry), phase_diagram(entry) if with_diagram else None


def _versions() -> dict[str, str]:
    from fanin.keras.backend import versions

    return versions()
