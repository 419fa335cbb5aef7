"""All that the checks may ask about a model, computed when first asked."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.losses import Loss, identified
from fanin.doctor.scales import ratios_of
from fanin.doctor.scores import Score, best_constant, score
from fanin.errors import FaninError, ModelError
from fanin.recipes import decided
from fanin.recipes.graph import PASSING, Graph, needed, trunk
from fanin.records import ModelInfo, Op, Outcome, ParamInfo, Plan, Setup, Trial, Vitals

__all__ = ["Facts", "Patient", "Train", "array_of", "arrays_of", "ends_in_weights"]

Array = NDArray[Any]
_LOST = 1e3
"""A loss that is so many times what it was has lost what it knew, whatever share of the answers is right by chance."""


class Train(Protocol):
    """Trains a copy of the model for some steps; all arguments are what differs from the model as it is."""

    def __call__(
        self, *, example: Any = None, targets: Any = None, values: Mapping[str, Array] | None = None,
        cut: int | None = None, learning_rate: float | None = None, thaw: bool = False,
    ) -> Trial:  # fmt: skip
        """What the training did."""


@dataclass(frozen=True)
class Patient:
    """A model with its batch, as far as a framework is needed to get at it.

    Attributes:
        example: What the model is called with; arrays, however nested.
        targets: Of the batch; None where none were given, or they are not one array.
        values: From a parameter's path to its values.
        loss: From outputs (an array, or a tuple of several) and targets to the loss; None where none was given, or
            there are no targets.
        train: None where nothing is to be trained.
        refusal: The error of a loss that does not take the model's outputs.
        seed: Of the weights that cures draw.
        after: What the batch does to the model with other values of these paths; None where that is not to be had.
        again: What the model returns for another example; None where that is not to be had.
    """

    info: ModelInfo
    vitals: Vitals
    setup: Setup
    example: Any
    targets: Array | None
    values: Callable[[str], Array]
    loss: Callable[[Any, Array], float] | None = None
    train: Train | None = None
    refusal: ModelError | None = None
    seed: int = 0
    after: Callable[[Mapping[str, Array]], Vitals] | None = None
    again: Callable[[Any], tuple[Array, ...]] | None = None
    memory: dict[str, Array] = field(default_factory=dict, compare=False, repr=False)


def array_of(thing: Any) -> Array | None:
    """The numbers of an array, of a tensor of any framework or of nested lists; None for what holds others.

    Numbers that NumPy does not have come as float32, truth values as 0 and 1.

    Example:
        >>> array_of([[1, 2], [3, 4]]).shape, array_of({"y": [1, 2]}), array_of([np.zeros(3), np.zeros((3, 2))])
        ((2, 2), None, None)
    """
    if isinstance(thing, tuple | list) and any(hasattr(each, "shape") and each.shape for each in thing):
        return None
    if hasattr(thing, "detach"):  # a tensor of PyTorch, which may want a gradient and may be sparse
        thing = thing.detach()
        thing = thing.to_dense() if "sparse" in str(thing.layout) else thing
        thing = (thing.float() if "bfloat16" in str(thing.dtype) else thing).cpu()
    try:
        array = np.asarray(thing)
    except ValueError:  # lists of different lengths
        return None
    if array.dtype.kind not in "biufc":
        return array.astype(np.float32) if "float" in array.dtype.name else None
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def arrays_of(example: Any) -> list[Array]:
    """The arrays of an example that hold floating numbers, however nested; what is no array is left out.

    Example:
        >>> [each.shape for each in arrays_of({"x": np.zeros((3, 2)), "ids": np.zeros(3, int)})]
        [(3, 2)]
    """
    if isinstance(example, Mapping):
        return [each for value in example.values() for each in arrays_of(value)]
    array = array_of(example)
    if array is None and isinstance(example, tuple | list):
        return [each for value in example for each in arrays_of(value)]
    return [array] if array is not None and np.issubdtype(array.dtype, np.floating) and array.ndim else []


def ends_in_weights(info: ModelInfo) -> bool:
    """Whether a model's one output is what a weight has made, so that it may be any number."""
    at = info.outputs[0] if len(info.outputs) == 1 else -1
    while at >= 0 and info.ops[at].kind == "move" and info.ops[at].inputs:
        at = info.ops[at].inputs[0]
    return at >= 0 and info.ops[at].kind == "weight"


class Facts:
    """What is known of a patient.

    Attributes:
        outcomes: What was tried so far.
        explained: Whether a fault was found already, so that the learning rate need not be doubted.
        refusal: The error of a loss that does not take the model's outputs, or not those of a trained copy.
    """

    def __init__(self, patient: Patient):
        self.patient = patient
        self.info, self.vitals, self.setup = patient.info, patient.vitals, patient.setup
        self.targets = patient.targets
        self.graph = Graph(patient.info)
        self.ops: tuple[Op, ...] = patient.info.ops
        self.params: dict[str, ParamInfo] = self.graph.params
        self.outcomes: dict[Any, Outcome | None] = {}
        self.explained = False
        self.refusal = patient.refusal

    def values(self, path: str) -> Array:
        """A parameter's values, read once."""
        memory = self.patient.memory
        if path not in memory:
            memory[path] = self.patient.values(path)
        return memory[path]

    @cached_property
    def used(self) -> tuple[ParamInfo, ...]:
        """The floating parameters that steps use, in executed order."""
        paths = dict.fromkeys(path for op in self.ops for path in op.params)
        return tuple(self.params[path] for path in paths if path in self.params and "float" in self.params[path].dtype)

    @cached_property
    def recommended(self) -> Plan:
        """What `auto` would do with the model; nothing where it cannot be read what it computes."""
        seed = self.patient.seed
        return decided(self.info, "auto", seed=seed) if self.ops else Plan((), seed=seed)

    @cached_property
    def ratios(self) -> Mapping[str, float]:
        """For each weight whose size matters its standard deviation over the one that `auto` would give it."""
        return ratios_of(self)

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """The steps that multiply a signal that depends on an input by a weight, in executed order."""
        return tuple(i for i, op in enumerate(self.ops) if op.kind == "weight" and self.graph.live[i])

    @cached_property
    def hidden(self) -> tuple[int, ...]:
        """The weight steps that are no head."""
        return tuple(index for index in self.weights if index not in self.graph.heads)

    @cached_property
    def way(self) -> tuple[int, ...]:
        """The steps at which the signal's size is followed: hidden weights, and what every way to the output passes."""
        return tuple(sorted({*self.hidden, *trunk(self.info)}))

    @cached_property
    def output(self) -> Array | None:
        """What the model returned, where that is one array of floating numbers, and more than a single one."""
        floats = [each for each in self.vitals.outputs if np.issubdtype(each.dtype, np.floating)]
        return floats[0] if len(floats) == 1 and floats[0].ndim else None

    @cached_property
    def ending(self) -> tuple[int, ...]:
        """The activations and softmaxes between the last weight and the output, in executed order."""
        if len(self.info.outputs) != 1:
            return ()
        at, found = self.info.outputs[0], []
        while True:
            op = self.ops[at]
            if op.kind in ("activation", "softmax") or op.name == "log_softmax":
                found.append(at)
            elif op.kind not in PASSING:
                return tuple(reversed(found))
            if not op.inputs:
                return tuple(reversed(found))
            at = op.inputs[0]

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """What the outputs went through last, in order, up to what the loss itself applies."""
        names = [self.ops[i].name or self.ops[i].kind for i in self.ending]
        inside = self.loss.inside if self.loss is not None else ""
        return (*names, *([inside] if inside else []))

    @cached_property
    def loss(self) -> Loss | None:
        """The kind of loss, where it is one that is known."""
        if self.patient.loss is None or self.targets is None or self.output is None:
            return None
        return identified(self.patient.loss, self.output.shape, self.targets)

    @property
    def takes(self) -> str | None:
        """What the loss takes, where that is known."""
        return None if self.loss is None else self.loss.kind.takes

    @property
    def loss_name(self) -> str:
        """What to call the loss."""
        return "loss" if self.loss is None else self.loss.kind.name

    @property
    def last(self) -> str:
        """Where the outputs are made."""
        return self.place(self.ending[-1]) if self.ending else "the output"

    @property
    def before_last(self) -> int | None:
        """The step before the last activation of the outputs."""
        return self.ops[self.ending[-1]].inputs[0] if self.ending else None

    @cached_property
    def summed(self) -> float:
        """How many single losses the loss is the sum of, 1 for a mean; nan if that is not known."""
        if self.loss is None or self.targets is None:
            return math.nan
        return {"mean": 1.0, "sum": float(self.targets.size)}.get(self.loss.reduction, math.nan)

    @cached_property
    def constant(self) -> float:
        """The loss of the best constant answer, per example and output; nan if not known."""
        if self.loss is None or self.output is None or self.targets is None:
            return math.nan
        found = best_constant(self.targets, self.output, self.loss)
        return found if found > 0 else math.nan

    def against_constant(self, loss: float) -> float:
        """A loss over that of the best constant answer; nan if not known."""
        return loss / self.summed / self.constant

    @cached_property
    def trial(self) -> Trial | None:
        """The model trained as it is; None where it is not, or the loss takes no more of what it returns."""
        if self.patient.train is None:
            return None
        try:
            return self.patient.train()
        except ModelError as error:
            self.refusal = error
            return None

    @cached_property
    def trained(self) -> Vitals | None:
        """What the batch does to the model once it was trained; None where it was not, or that cannot be computed."""
        if self.trial is None or self.patient.after is None or self.trial.diverged:
            return None
        try:
            return self.patient.after(self.trial.values)
        except FaninError:
            return None

    def told(self, trial: Trial, targets: Array | None = None) -> tuple[str, float]:
        """What a training reached and what that is called: a score where there is one, else the last loss.

        A training whose loss was lost has reached nothing: not a number.

        Args:
            trial: Of this model, or of a changed one.
            targets: What it was trained on, if not on the patient's.
        """
        found = self._score(trial, targets)
        if found is None:
            return "loss", trial.losses[-1]
        return found.measure, math.nan if trial.diverged else found.value

    def progress(self, trial: Trial, targets: Array | None = None) -> float:
        """How much a training taught, from 0 to 1: by its score, or by what it took off the untrained model's loss."""
        if trial.diverged or trial.losses[-1] > _LOST * abs(trial.losses[0]):
            return 0.0
        found = self._score(trial, targets)
        if found is not None:
            return found.learned
        first = self.trial.losses[0] if self.trial is not None else math.nan
        return max(0.0, 1 - trial.losses[-1] / first) if first > 0 else 0.0

    def _score(self, trial: Trial, targets: Array | None) -> Score | None:
        floats = [each for each in trial.outputs if np.issubdtype(each.dtype, np.floating)]
        wanted = self.targets if targets is None else targets
        if self.loss is None or wanted is None or len(floats) != 1 or not floats[0].ndim:
            return None
        return score(floats[0], wanted, self.loss)

    @cached_property
    def learned(self) -> float:
        """How much the model as it is has learned after the steps of training, from 0 to 1; nan if not known."""
        return math.nan if self.trial is None else self.progress(self.trial)

    @cached_property
    def stuck(self) -> frozenset[str]:
        """Trained parameters that the loss depends on and that never had a gradient other than exactly zero."""
        if self.trial is None:
            return frozenset(path for path, size in self.vitals.param_gradients.items() if size == 0)
        return frozenset(path for path, size in self.trial.gradients.items() if size == 0)

    @cached_property
    def inputs(self) -> list[Array]:
        """The floating arrays that the model is called with."""
        return arrays_of(self.patient.example)

    def place(self, index: int) -> str:
        """What to call a step: where it ran, or the weight that it uses."""
        op = self.ops[index]
        return op.place or (op.params[0] if op.params else op.name or op.kind)

    def before(self, index: int) -> tuple[int, ...]:
        """All steps that a step's output depends on, without itself."""
        return tuple(sorted(needed(self.ops, self.ops[index].inputs)))
