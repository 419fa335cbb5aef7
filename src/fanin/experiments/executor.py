"""Run an experiment: what is missing is trained and kept, what is there is read."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fanin.errors import FaninError, ModelError, cause_of
from fanin.experiments.analysis import choose_rates
from fanin.experiments.cache import remembered
from fanin.experiments.engines import Trainer
from fanin.experiments.spec import Experiment
from fanin.experiments.store import Store
from fanin.initializers import INITIALIZERS
from fanin.initializers.draws import law_of
from fanin.recipes import decide_all
from fanin.recipes.verdicts import planned
from fanin.records import Plan, PlanEntry, Program, Run, RunResult

__all__ = ["Estimate", "Executor", "Progress", "Quiet"]


class Progress(Protocol):
    """Who is told how a long job goes."""

    def total(self, runs: int, run_steps: int) -> None:
        """So much is to be done from here on."""

    def advance(self, run_steps: int) -> None:
        """So much more is done; called from any thread."""

    def finished(self, runs: int) -> None:
        """So many more runs are finished and kept."""

    def note(self, text: str) -> None:
        """What is going on now."""


class Quiet:
    """A `Progress` that says nothing."""

    def total(self, runs: int, run_steps: int) -> None:
        """Nothing."""

    def advance(self, run_steps: int) -> None:
        """Nothing."""

    def finished(self, runs: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Estimate:
    """What an experiment would take: its runs, those not yet in the store, and the seconds for these."""

    runs: int
    missing: int
    seconds: float


@dataclass
class Executor:
    """Runs experiments on a store.

    Args:
        experiment: What to run.
        store: Where finished runs are kept, or None to look at nothing and keep nothing.
        progress: Who is told.
    """

    experiment: Experiment
    store: Store | None
    progress: Progress = field(default_factory=Quiet)
    _trainers: dict[str, Trainer] = field(default_factory=dict)
    _plans: dict[tuple[str, str], Plan] = field(default_factory=dict)

    def prepare(self) -> None:
        """Build every network and plan every initializer, so that a mistake is found before anything is trained.

        Raises:
            FaninError: If model and data do not fit, or an initializer does not fit a layer.
        """
        for arm in self.experiment.arms:
            with self._model_errors():
                plan = self._plan(arm.activation, str(arm.init))
            for entry in plan.chosen:
                try:
                    _drawn(entry, seed=0)
                except FaninError as error:
                    raise ModelError(
                        f"The initializer {arm.label} does not fit the layer {entry.param.path}: {error.what}",
                        given=str(error.given),
                        allowed=error.allowed,
                    ) from None

    def trainer(self, activation: str) -> Trainer:
        """The trainer of the network with this activation, built once."""
        if activation not in self._trainers:
            spec = self.experiment

            def weights(run: Run) -> Mapping[str, Any]:
                plan = self._plan(run.activation, run.init)
                return {entry.param.path: _drawn(entry, run.seed) for entry in plan.chosen}

            self._trainers[activation] = spec.engine.trainer(spec.model, spec.task, activation, spec.settings, weights)
        return self._trainers[activation]

    def _plan(self, activation: str, init: str) -> Plan:
        if (activation, init) not in self._plans:
            wanted = next(arm.init for arm in self.experiment.arms if str(arm.init) == init)
            net = self.trainer(activation).net
            plan = decide_all(net.info if wanted.name in INITIALIZERS else net.computed(), wanted)
            trained = {param.path for param in net.info.params}
            entries = tuple(entry for entry in plan.entries if entry.param.path in trained)
            self._plans[activation, init] = replace(plan, entries=entries)
        return self._plans[activation, init]

    def left_alone(self) -> dict[str, str]:
        """Parameters that no initializer touches, with the reason for each; biases and norms not listed."""
        return {
            entry.param.path: entry.reason
            for arm in self.experiment.arms
            for entry in self._plan(arm.activation, str(arm.init)).entries
            if entry.init is None and entry.param.role not in ("bias", "norm")
        }

    def estimate(self) -> Estimate:
        """How many runs there are, how many are missing, and how long those will take; trains only to measure."""
        runs = [*self.experiment.tuning_runs(), *self._all_compared()]
        missing = self._missing(runs)
        seconds = 0.0
        for activation in dict.fromkeys(run.activation for run in missing):
            part = [run for run in missing if run.activation == activation]
            with self._model_errors():
                trainer = self.trainer(activation)
                rate = self._program(trainer, part).rate * len(trainer.devices)
            seconds += len(part) * trainer.marks[-1] / rate
        return Estimate(len(runs), len(missing), seconds)

    def _all_compared(self) -> list[Run]:
        """The compared runs, or as many stand-ins where their learning rate is yet to be chosen."""
        if self.experiment.auto:
            return self.experiment.compared_runs(dict.fromkeys(self.experiment.arms, self.experiment.learning_rates[0]))
        return self.experiment.compared_runs()

    def execute(self) -> dict[Run, RunResult]:
        """Train what is missing and return every run's result, tuning runs first.

        Raises:
            FaninError: If something cannot be trained or kept; finished runs are in the store.
        """
        experiment = self.experiment
        tuning = experiment.tuning_runs()
        if not experiment.auto:
            return self._complete([*tuning, *experiment.compared_runs()])
        results = self._complete(tuning, later=len(self._all_compared()))
        return results | self._complete(experiment.compared_runs(choose_rates(experiment, results)))

    def _missing(self, runs: list[Run]) -> list[Run]:
        have = self.store.get(runs) if self.store is not None else {}
        return [run for run in runs if run not in have]

    def _complete(self, runs: list[Run], later: int = 0) -> dict[Run, RunResult]:
        results = self.store.get(runs) if self.store is not None else {}
        missing = [run for run in runs if run not in results]
        if missing:
            steps = self.trainer(missing[0].activation).marks[-1]
            self.progress.total(len(missing) + later, (len(missing) + later) * steps)
        for activation in dict.fromkeys(run.activation for run in missing):
            part = [run for run in missing if run.activation == activation]
            for run, result in self._train(part, activation):
                results[run] = result
        return {run: results[run] for run in runs}

    def _train(self, runs: list[Run], activation: str) -> Iterator[tuple[Run, RunResult]]:
        with self._model_errors():
            trainer = self.trainer(activation)
            program = self._keep_program(trainer, runs[0], self._program(trainer, runs))
            self.progress.note(f"training, {program.chunk} at a time on each of {len(trainer.devices)} devices")
            environment = self.environment()
            for run, result in trainer.train(program, runs, self.progress.advance):
                if self.store is not None:
                    self.store.put(run, result, environment)
                self.progress.finished(1)
                yield run, result

    def environment(self) -> dict[str, str]:
        """What the results depend on besides their runs: library versions and kind of device."""
        return self.experiment.engine.versions()

    def _program(self, trainer: Trainer, runs: list[Run]) -> Program:
        """The way of executing these runs: as chosen before on this store or this machine, else measured now."""
        key = self._program_key(trainer, runs[0])

        def measured() -> dict[str, Any]:
            return asdict(
                self.experiment.engine.choose(trainer, runs, lambda text: self.progress.note(f"measuring: {text}"))
            )

        kept = self.store.program(key) if self.store is not None else None
        return kept or Program(**remembered("programs", key, measured))

    def _keep_program(self, trainer: Trainer, run: Run, program: Program) -> Program:
        """Keep the way of executing in the store, so that later runs there have the same bits."""
        return program if self.store is None else self.store.keep_program(self._program_key(trainer, run), program)

    def _program_key(self, trainer: Trainer, run: Run) -> str:
        """What the choice of how to execute depends on: the architecture, the data's shape, the machine."""
        left_out = ("init", "seed", "learning_rate", "epochs")
        described = {
            **{key: value for key, value in run.to_dict().items() if key not in left_out},
            "shape": list(trainer.task.x_train.shape),
            "params": [(param.path, list(param.shape)) for param in trainer.net.info.params],
            **self.environment(),
        }
        return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16).hexdigest()

    @contextmanager
    def _model_errors(self) -> Iterator[None]:
        """Tell a failure inside the user's model as theirs, with its cause; let fanin's own errors through."""
        try:
            yield
        except (FaninError, KeyboardInterrupt, GeneratorExit):
            raise
        except Exception as error:
            if self.experiment.model.kind != "user":
                raise
            raise ModelError(
                f"The model could not be trained: {type(error).__name__}: {cause_of(error)}",
                given=self.experiment.model.text,
                hint=f"It must run in {self.experiment.engine.words}; try model(x) on a batch of the data.",
            ) from error


def _drawn(entry: PlanEntry, seed: int) -> NDArray[np.float32]:
    """The initial values of a parameter that a plan has decided."""
    assert entry.init is not None
    return planned(entry.param, law_of(entry.param, entry.init), seed, entry.scales)
