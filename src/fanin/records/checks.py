"""What a batch does to a model, what some steps of training do to it, and what is found to be wrong."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from fanin.records.models import Signals
from fanin.records.plans import Plan
from fanin.records.runs import to_plain

__all__ = ["SEVERITIES", "Course", "Finding", "Outcome", "Setup", "Severity", "Trial", "Vitals"]

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""The worst first: ``error`` keeps the model from training well, ``warning`` may, ``info`` is good to know."""


@dataclass(frozen=True)
class Vitals(Signals):
    """One forward and one backward pass over a batch: a number for each step of `ModelInfo.ops`.

    Not a number stands where there is none: whole numbers, steps without a gradient, no batch axis. Gradients that
    hold something that is not finite are infinite.

    Attributes:
        mean: Of all elements.
        quantiles: The smallest, nine deciles and the largest of the finite elements.
        cosine: Mean cosine between two examples' outputs, flattened; over the pairs of at most 32 examples.
        rank: Of the same examples' Gram matrix G, tr(G)^2 / ||G||_F^2: 1 where all outputs are parallel.
        infinite: How many elements are not finite.
        lowest, highest: For each unit its smallest and largest output over the batch and all places; empty where
            a step has no units or no floating numbers.
        param_gradients: From a parameter's path to the root mean square of the loss's gradient; 0 where it is
            exactly zero, not a number where the loss does not depend on it.
        loss: Its value; not a number where no loss was given.
        outputs: What the model returned, in order, as float32 (or whole numbers).
    """

    mean: tuple[float, ...] = ()
    quantiles: tuple[tuple[float, ...], ...] = ()
    cosine: tuple[float, ...] = ()
    rank: tuple[float, ...] = ()
    infinite: tuple[int, ...] = ()
    lowest: tuple[NDArray[Any], ...] = field(default=(), compare=False, repr=False)
    highest: tuple[NDArray[Any], ...] = field(default=(), compare=False, repr=False)
    param_gradients: Mapping[str, float] = field(default_factory=dict)
    loss: float = math.nan
    outputs: tuple[NDArray[Any], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Setup:
    """How a model is set up for training.

    Attributes:
        training: Whether the model is in training mode.
        frozen: Paths of parameters that are not trained.
        forgotten: Paths of parameters that the optimizer was not given.
        unregistered: Where tensors that want a gradient are held without being parameters of the model.
        constant: Where the signal is multiplied by an array that is no parameter and looks drawn as a weight is.
        optimizer: The optimizer's name; empty where none was given.
        learning_rate: Of the optimizer; None where none was given or it changes from step to step.
        momentum: Of the optimizer; 0 for none.
        loss: What to call the loss; empty where none was given.
    """

    training: bool = True
    frozen: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    optimizer: str = ""
    learning_rate: float | None = None
    momentum: float = 0.0
    loss: str = ""


@dataclass(frozen=True)
class Trial:
    """What some steps of training on one batch did to a copy of a model.

    Attributes:
        losses: Before each step, and once more after the last; ends where one is not finite.
        outputs: What the model returns after the last step.
        values: From the path of each trained parameter to its values after the last step.
        gradients: From the same paths to the largest root mean square of its gradient in any step.
        updates: From the same paths to log10 of rms(change) / rms(values before) in each step; minus infinity where
            nothing changed.
    """

    losses: tuple[float, ...]
    outputs: tuple[NDArray[Any], ...] = field(default=(), compare=False, repr=False)
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)
    gradients: Mapping[str, float] = field(default_factory=dict)
    updates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether the last loss is not finite."""
        return not math.isfinite(self.losses[-1])


@dataclass(frozen=True)
class Course:
    """What happened while a model was trained; an entry for each step of its optimizer.

    Attributes:
        losses: As told; not a number where none was.
        updates: From the path of each parameter to log10 of rms(change) / rms(values before); not a number where it
            had no gradient or was not looked at, minus infinity where nothing changed. Most healthy trainings show -3.
        dead: From the path of each ReLU module to the share of its units that gave zero for all examples and places
            since the step before; not a number where it did not run. PyTorch only; `relu` as a function is no module.
        infinite_step: The first step with a number that is not finite; None where there is none.
        infinite_place: Where it was met: ``output of 3.norm``, ``loss``, ``gradient of 0.weight`` or ``0.weight``.
    """

    losses: tuple[float, ...] = ()
    updates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    dead: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    infinite_step: int | None = None
    infinite_place: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a cure changed, on the same batch and for the same number of steps.

    Attributes:
        steps: Steps of training.
        measure: What is compared: ``accuracy``, ``explained variance`` or ``loss``.
        before, after: Its value after the steps, without and with the cure.
        helps: Whether the difference is more than chance and large enough to matter.
    """

    steps: int
    measure: str
    before: float
    after: float
    helps: bool


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a model's start.

    Attributes:
        code: Which check found it, such as ``zero-weights``.
        severity: One of `SEVERITIES`.
        where: The first layer or parameter at fault; empty for the model as a whole.
        observed: What was seen, a sentence with its number.
        expected: What a healthy model shows, with its error bar where there is one.
        cause: Why this keeps a network from training.
        cure: What to do about it.
        plan: The cure as a plan, where it is one.
        outcome: What the cure changed on a copy; None where it was not tried.
        symptoms: What else was seen that this explains, a sentence each.
        page: Where the documentation says more.
    """

    code: str
    severity: Severity
    where: str
    observed: str
    expected: str
    cause: str
    cure: str
    plan: Plan | None = None
    outcome: Outcome | None = None
    symptoms: tuple[str, ...] = ()
    page: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        plan = None if self.plan is None else self.plan.to_dict()
        record = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("plan", "outcome")}
        outcome = None if self.outcome is None else asdict(self.outcome)
        return to_plain(record | {"outcome": outcome, "plan": plan})  # type: ignore[no-any-return]
