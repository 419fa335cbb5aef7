"""The verbs of fanin as Python functions; each only puts the parts together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanin.errors import InvalidValueError
from fanin.initializers.draws import sample
from fanin.records import Init, ModelInfo, ModelSpec, Plan, Task

if TYPE_CHECKING:
    from fanin.doctor import Checkup
    from fanin.experiments.executor import Estimate, Progress
    from fanin.experiments.results import Results
    from fanin.experiments.spec import Experiment
    from fanin.recipes.audit import Audit
    from fanin.studies import Answer
    from fanin.theory.card import Card
    from fanin.theory.diagram import PhaseDiagram

__all__ = [
    "audit", "check", "compare", "describe", "estimate", "init", "plan", "run_experiment", "sample", "study", "theory",
]  # fmt: skip

Patterns = str | Iterable[str]


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
        model: ``mlp:128x128``, ``cnn:16x32`` or ``file.py:build``, which may return a Keras model or a PyTorch
            module; None for the task's own default.
        activation: Between layers; several are crossed with the initializers. ReLU where nothing is said.
        init: Initializers, such as ``he_normal`` or ``random_normal(stddev=0.01)``, and recipes that look at no data,
            such as ``auto``; ``he_normal+tanh`` brings its own activation. Eight well-known initializers where nothing
            is said.
        seeds: Number of paired repetitions.
        lr: Learning rates to choose from for each initializer, or ``auto``.
        epochs, batch_size: None for the task's own defaults.
        optimizer: One of the framework's optimizers, such as ``adam`` or ``sgd(momentum=0.9)``.
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
        environments = tuple(opened.environments(runs)) if opened is not None else (executor.environment(),)
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


def describe(model: Any, example: Any = None) -> ModelInfo:
    """Read a model: its parameters, what they mean and what the model computes from them.

    Args:
        model: A `torch.nn.Module`, a Keras model, a Flax nnx module or a bound linen module. It is not changed, except
            that parameters which wait for a first call are made, if an example is given.
        example: An input to run it on: an array, a tuple of positional or a mapping of named arguments. Only
            shapes and types matter. Where none is given one is made up, and the notes say so.

    Raises:
        ModelError: If it is no model, is not built and no example is given, or cannot be run on it.
    """
    from fanin.frameworks import adapter_of
    from fanin.patients import made_up

    adapter = adapter_of(model)
    found: ModelInfo = adapter.describe(model, example)
    if example is not None or found.ops:
        return found
    seen, _, words = made_up(adapter, model)
    return found if seen is None else replace(seen, notes=(*seen.notes, f"{words}; example= takes yours."))


def plan(
    model: Any,
    recipe: str | Init = "auto",
    *,
    example: Any = None,
    rules: Mapping[str, str | Init] | None = None,
    only: Patterns = (),
    except_: Patterns = (),
    seed: int = 0,
) -> Plan:
    """Decide how to initialise a model, parameter by parameter and with reasons; nothing is changed.

    Args:
        model, example: As in `describe`.
        recipe: ``auto``, another recipe (``fanin list`` names them), or one initializer for all weights.
        rules: Initializers by pattern of paths (``*`` for anything), or ``keep``; they override the recipe.
        only: Patterns of the paths that may be touched; all where nothing is said.
        except_: Patterns of the paths that may not.
        seed: 0 to 2**64 - 1.

    Returns:
        The plan: print it, compare it with ``diff``, give it to `init`.

    Raises:
        FaninError: If something given cannot be, or the recipe does not fit the model.
    """
    from fanin.initializers.streams import check_seed
    from fanin.recipes import decided

    return decided(describe(model, example), recipe, rules=rules, only=only, except_=except_, seed=check_seed(seed))


def init(
    model: Any,
    recipe: str | Init | Plan = "auto",
    *,
    example: Any = None,
    calibrate: Any = None,
    targets: Any = None,
    loss: Callable[[Any, Any], Any] | None = None,
    rules: Mapping[str, str | Init] | None = None,
    only: Patterns = (),
    except_: Patterns = (),
    seed: int = 0,
    quiet: bool = False,
) -> Plan:
    """Give a model the initial weights that its architecture calls for.

    Everything is decided and checked before the first weight is written; if something fails later, the model
    gets its old weights back. Parameters that the plan does not name keep their values.

    Args:
        model: Changed in place. A PyTorch model on the meta device is materialised on the CPU first.
        recipe: As in `plan`, or a finished plan; then the arguments from `rules` to `seed` are not allowed.
        example: As in `describe`.
        calibrate: A batch of real inputs: weights are then rescaled, in executed order, until the outputs on it
            have the sizes that the plan is meant to give.
        targets: The targets of that batch, for the recipes that look at a loss (``metainit``, ``gradinit``).
        loss: From targets and outputs to a number, for the same; cross-entropy or squared error by default.
        rules, only, except_, seed: As in `plan`.
        quiet: Print nothing about what was done and what was left alone.

    Returns:
        The plan as it was carried out: `init` with it again gives the same weights.

    Raises:
        FaninError: If something given cannot be; the model is as it was.
    """
    from fanin.applying import rescaled, restored, shown
    from fanin.frameworks import adapter_of

    adapter = adapter_of(model)
    if isinstance(recipe, Plan):
        if rules or only or except_ or seed:
            raise InvalidValueError(
                "A finished plan is not decided again", given="a plan with rules=, only=, except_= or seed=",
                hint="Give these to fanin.plan.",
            )  # fmt: skip
        decided, tuning = recipe, ""
    else:
        from fanin.recipes import RECIPES

        tuning = RECIPES[recipe].tuning if isinstance(recipe, str) and recipe in RECIPES else ""
        batch = calibrate if example is None else example
        decided = plan(model, recipe, example=batch, rules=rules, only=only, except_=except_, seed=seed)
    batch = calibrate if calibrate is not None else example
    if tuning and batch is None:
        raise InvalidValueError(f"{recipe} looks at data", given="no batch", hint="Give one: calibrate=x.")
    tuned = bool(tuning) or calibrate is not None
    with shown(decided, quiet) as advance, restored(adapter, model, decided if tuned else None):
        adapter.fill(model, decided, advance)
        if tuned:
            decided = rescaled(adapter, model, decided, tuning, batch, targets, loss)
    if not quiet:
        print(_summary(decided))
    return decided


def _summary(decided: Plan) -> str:
    left = [entry for entry in decided.entries if entry.init is None]
    lines = [f"{decided.recipe}: {len(decided.chosen)} parameters initialised, {len(left)} left alone."]
    lines += [f"  {entry.param.path}: {entry.reason}" for entry in left]
    return "\n".join([*lines, *decided.notes])


def audit(model: Any, plan: Plan | None = None) -> "Audit":
    """Say for each parameter whether its values follow the plan, and which known law they look like.

    Args:
        model: As in `describe`; it need not be run.
        plan: What was intended; None asks only what the values look like.
    """
    from fanin.frameworks import adapter_of
    from fanin.recipes.audit import audit as audited

    adapter = adapter_of(model)
    return audited(adapter.describe(model), lambda path: adapter.values(model, path), plan)


def check(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    steps: int = 50,
    seconds: float = 10.0,
    seed: int = 0,
) -> "Checkup":
    """Say what is wrong with the start of a model that does not train, where, why, and what cures it.

    One forward and one backward pass over a batch, then a few steps of training of a copy; cures are tried on copies
    as well. The model itself is not changed.

    Args:
        model: As in `describe`.
        x: A batch of inputs, as `describe` takes an example; 64 examples or more tell most. Where none is given one
            is made up, and the notes say so.
        y: Its targets; without them neither the loss nor any training is looked at, unless the model returns a loss
            itself, as those of ``transformers`` do where labels are among their inputs.
        loss: As the framework has it: a function, an object or a name. Where nothing is said a compiled Keras
            model's own, else a cross-entropy for whole numbers, of logits or probabilities as the outputs are, of
            one unit for two classes; and the mean squared error for other numbers.
        optimizer: The optimizer, or a text such as ``adam`` or ``sgd(lr=0.1)``. Its learning rate is looked at; where
            nothing is said, Adam with its usual rate trains the copies.
        steps: Of training; 0 trains nothing and tries no cure.
        seconds: After which a training ends early.
        seed: Of the weights that cures draw.

    Returns:
        The findings: print them, or use `to_dict`, `to_pandas`.

    Raises:
        FaninError: If something given cannot be; the model is as it was.
    """
    from fanin.doctor import Checkup, examined
    from fanin.patients import admitted

    patient, notes = admitted(
        model, x, y, loss=loss, optimizer=optimizer, steps=steps, seconds=seconds, seed=seed
    )  # fmt: skip
    findings, trial = examined(patient)
    return Checkup(findings, patient.info, patient.vitals, patient.setup, trial, notes)


def study(
    name: str,
    *,
    full: bool = False,
    seeds: int = 8,
    store: str | Path | None = None,
    progress: "Progress | None" = None,
) -> "Answer":
    """Put a claim about initialization to the test.

    Args:
        name: A study of `fanin.studies.STUDIES`, or one's own, ``file.py:study``.
        full: The size of the original instead of small digits.
        seeds: Paired repetitions; below 6 nothing is decided.
        store: A file that keeps finished runs, or None.
        progress: Who is told how it goes.

    Returns:
        The verdict with its numbers.

    Raises:
        FaninError: If something given cannot be.
    """
    from fanin.experiments.executor import Quiet
    from fanin.studies import Conditions, find

    where = None if store is None else Path(store)
    return find(name)(Conditions("full" if full else "quick", seeds, where, progress or Quiet()))


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
