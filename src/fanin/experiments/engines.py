"""What trains the models of each framework; nothing is imported before a model of it is met."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from fanin.errors import FaninError, ModelError
from fanin.experiments.cache import cache_dir
from fanin.frameworks import framework_of
from fanin.records import ModelInfo, ModelSpec, Program, Run, RunResult, Settings, Task
from fanin.training import Weights, call_build, channels_first

__all__ = ["ENGINES", "Engine", "Network", "Trainer", "engine_for"]


class Network(Protocol):
    """A built model with all that training it needs."""

    @property
    def info(self) -> ModelInfo:
        """Its trained parameters."""

    @property
    def computed(self) -> Callable[[], ModelInfo]:
        """Describes it with what it computes, for the recipes that need that."""


class Trainer(Protocol):
    """Trains runs of one network on one task.

    Attributes:
        devices: What the runs are spread over.
        marks: The numbers of steps after which a run is evaluated.
    """

    task: Task
    weights: Weights
    devices: Sequence[Any]
    marks: tuple[int, ...]

    @property
    def net(self) -> Network:
        """The network."""

    def train(
        self, program: Program, runs: Sequence[Run], progress: Callable[[int], None]
    ) -> Iterator[tuple[Run, RunResult]]:
        """Train runs and yield each as it finishes."""


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"fanin.{name}")


@dataclass(frozen=True)
class Engine:
    """What trains the models of one framework.

    Attributes:
        version: Part of every run's identity: raised whenever a change alters what a run computes.
        words: What a model must run in, for people.
        backend: The module of fanin that prepares the framework.
        program: The module that makes a network of a model.
        folder: The part of fanin that trains networks: its `trainer` and its `measure`.
    """

    version: str
    words: str
    backend: str
    program: str
    folder: str

    def start(self) -> None:
        """Prepare the framework; the first call decides for the whole process.

        Raises:
            FaninError: If it is not installed, or was prepared otherwise by somebody else.
        """
        _module(self.backend).start(cache_dir() / "xla")

    def trainer(self, spec: ModelSpec, task: Task, activation: str, settings: Settings, weights: Weights) -> Trainer:
        """Build the network for a task and check that they fit.

        Raises:
            FaninError: If the model cannot be built, or model, loss and data do not fit together.
        """
        self.start()
        net = _module(self.program).network(spec, task, activation, settings)
        trainer: Trainer = _module(f"{self.folder}.trainer").Trainer(net, task, settings, weights)
        return trainer

    def choose(self, trainer: Trainer, runs: Sequence[Run], note: Callable[[str], None]) -> Program:
        """How to execute these runs, by a measurement."""
        program: Program = _module(f"{self.folder}.measure").choose(trainer, runs, note)
        return program

    def versions(self) -> dict[str, str]:
        """What a result depends on besides its run: library versions and kind of device."""
        versions: dict[str, str] = _module(self.backend).versions()
        return versions


ENGINES: Mapping[str, Engine] = {
    "keras": Engine("keras-jax-2", "Keras on JAX", "keras.backend", "keras.program", "jax"),
    "torch": Engine("torch-1", "PyTorch", "torch.backend", "torch.program", "torch"),
    "flax": Engine("flax-1", "Flax", "jax.backend", "jax.networks", "jax"),
}
"""The engines by the name of their framework; the built-in networks are Keras models."""


def engine_for(spec: ModelSpec, task: Task, activation: str) -> Engine:
    """The engine for what a model's function returns.

    Args:
        spec: Which network.
        task: The data that it will see.
        activation: The first one that it will be built with; empty for a model that brings its own.

    Raises:
        FaninError: If it cannot be built, or is a model of no framework that can be trained.
    """
    if spec.kind != "user":
        return ENGINES["keras"]
    if "rngs" in inspect.signature(spec.build).parameters:  # which only Flax's engine can hand in
        return ENGINES["flax"]
    model = _built(spec, task, activation)
    try:
        name = framework_of(model).name
    except FaninError:
        name = ""
    if name not in ENGINES:
        raise ModelError(
            "The function did not return a model",
            given=f"{spec.text} returned {type(model).__name__}",
            allowed="a keras.Model, a torch.nn.Module or a flax.nnx.Module",
        )
    return ENGINES[name]


def _built(spec: ModelSpec, task: Task, activation: str) -> Any:
    """What the function returns, told the shape of an example in one layout or else in the other.

    Which one is right depends on the framework, which only the model shows.
    """
    shape = task.x_train.shape[1:]
    try:
        return call_build(spec, activation, {"input_shape": channels_first(shape), "outputs": task.outputs})
    except ModelError as error:
        try:
            return call_build(spec, activation, {"input_shape": shape, "outputs": task.outputs})
        except ModelError:
            raise error from error.__cause__
