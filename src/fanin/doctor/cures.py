"""What might help, tried on a copy of the model: only what changes the outcome is called a cure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.facts import Facts, array_of
from fanin.errors import ModelError
from fanin.initializers.draws import law_of
from fanin.recipes.verdicts import planned
from fanin.records import Outcome, Plan, Trial

__all__ = [
    "Cure", "can_help", "drawn", "features", "has_fallen", "is_better", "is_still", "redrawn", "standardised", "tried",
]  # fmt: skip

Array = NDArray[Any]

_POOR = 0.5
"""A model that learns more than this share of what there is to learn is not kept from training."""
_STILL = 0.15
"""Whoever learned less than this has not begun to."""
_MOVED = 0.01
"""Share of the loss at the start; by less it has not moved."""
_GAIN = 0.2
"""By how much of all that there is to learn a cure has to help."""
_TIMES = 1.5
"""And by what factor."""
_AT_A_LOSS = 3.0
"""A loss that is so many times the best constant answer's is worse than knowing nothing."""
_NO_WORSE = 1.5
"""And so many times is about as good."""


@dataclass(frozen=True)
class Cure:
    """A change to a model, its data or its training.

    Attributes:
        plan: Weights to draw again.
        cut: The step whose output is to be the model's.
        learning_rate: In place of the optimizer's.
        inputs, targets: Whether to standardise them.
        thaw: Whether to train what is frozen as well.
    """

    plan: Plan | None = None
    cut: int | None = None
    learning_rate: float | None = None
    inputs: bool = False
    targets: bool = False
    thaw: bool = False


def redrawn(facts: Facts, paths: frozenset[str] | None = None) -> Plan:
    """The plan of `auto` for a model, for all parameters that are trained or for some of them."""

    def chosen(path: str) -> bool:
        return path not in facts.setup.frozen and (paths is None or path in paths)

    whole = facts.recommended
    kept = (e if chosen(e.param.path) else replace(e, init=None, reason="left as it is") for e in whole.entries)
    return replace(whole, entries=tuple(kept))


def drawn(plan: Plan) -> dict[str, Array]:
    """The values that a plan gives to parameters."""
    return {
        each.param.path: planned(each.param, law_of(each.param, each.init), plan.seed, each.scales)
        for each in plan.chosen
        if each.init is not None
    }


def standardised(example: Any) -> Any:
    """An example with every floating input at mean 0 and variance 1, feature by feature.

    Features are the last axis, or axis 1 of images with few channels there; constant ones become 0.

    Example:
        >>> standardised(np.array([[1.0, 300.0], [3.0, 500.0]]))
        array([[-1., -1.],
               [ 1.,  1.]])
    """
    if isinstance(example, Mapping):
        return {key: standardised(value) for key, value in example.items()}
    array = array_of(example)
    if array is None:
        return type(example)(map(standardised, example)) if isinstance(example, tuple | list) else example
    if not np.issubdtype(array.dtype, np.floating) or not array.ndim:
        return example
    wide = array.astype(np.float64)
    axes = tuple(axis for axis in range(array.ndim) if axis != features(array) or axis == 0)
    spread = wide.std(axis=axes, keepdims=True)
    return ((wide - wide.mean(axis=axes, keepdims=True)) / np.where(spread > 0, spread, 1.0)).astype(array.dtype)


_CHANNELS = 4
"""Images have at most so many."""


def features(array: Array) -> int:
    """The axis of the features of an input."""
    return 1 if array.ndim > 3 and array.shape[1] <= _CHANNELS < array.shape[-1] else array.ndim - 1


def tried(facts: Facts, cure: Cure) -> Outcome | None:
    """Train a copy with a cure, and compare; None where nothing can be trained.

    A cure that draws weights has to help with two draws, and the worse one counts.
    """
    if cure not in facts.outcomes:
        facts.outcomes[cure] = _outcome(facts, cure)
    return facts.outcomes[cure]


def _outcome(facts: Facts, cure: Cure) -> Outcome | None:
    train, before = facts.patient.train, facts.trial
    if train is None or before is None:
        return None
    changed: dict[str, Any] = {"cut": cure.cut, "learning_rate": cure.learning_rate}
    if cure.thaw:
        changed["thaw"] = True
    if cure.inputs:
        changed["example"] = standardised(facts.patient.example)
    targets = standardised(facts.targets.astype(np.float32)) if cure.targets and facts.targets is not None else None
    if targets is not None:
        changed["targets"] = targets
    worst: Trial | None = None
    for plan in _draws(cure.plan):
        try:
            trial = train(**changed, values=None if plan is None else drawn(plan))
        except ModelError:  # the changed model or the loss cannot be computed: this is no cure
            return None
        if worst is None or facts.progress(trial, targets) < facts.progress(worst, targets):
            worst = trial
        if not _helps(facts, before, trial, targets):
            break
    assert worst is not None
    measure, old = facts.told(before)
    _, new = facts.told(worst, targets)
    helps = _helps(facts, before, worst, targets) and (cure.targets or _is_ahead(before, worst))
    return Outcome(len(worst.losses) - 1, measure, old, new, helps)


def _helps(facts: Facts, before: Trial, after: Trial, targets: Array | None) -> bool:
    """Whether a training teaches what the one before did not, or is not lost as that one was.

    The second shows where a batch holds nothing that can be learned in so few steps.
    """
    if is_better(facts.learned, facts.progress(after, targets)):
        return True
    lost = before.diverged or before.losses[-1] > before.losses[0]
    far = before.diverged or facts.against_constant(before.losses[-1]) > _AT_A_LOSS
    return lost and far and targets is None and facts.against_constant(after.losses[-1]) < _NO_WORSE


def can_help(facts: Facts) -> bool:
    """Whether the model as it is learns so little that a cure could be told from chance."""
    return facts.learned < _POOR


def is_still(facts: Facts) -> bool:
    """Whether the model as it is has not begun to learn, or its loss has hardly moved."""
    trial = facts.trial
    moved = trial is not None and abs(trial.losses[-1] - trial.losses[0]) > _MOVED * abs(trial.losses[0])
    return trial is not None and (facts.learned < _STILL or not moved)


def has_fallen(facts: Facts) -> bool:
    """Whether training has lowered the loss of the model as it is."""
    trial = facts.trial
    return trial is not None and trial.losses[0] - trial.losses[-1] > _MOVED * abs(trial.losses[0])


def _is_ahead(before: Trial, after: Trial) -> bool:
    """Whether a cure is ahead at the last step that both trainings took; time may have ended one of them early."""
    step = min(len(before.losses), len(after.losses)) - 1
    if before.diverged or len(before.losses) == len(after.losses):
        return True
    start = before.losses[0]
    return start - after.losses[step] > _TIMES * max(0.0, start - before.losses[step])


def _draws(plan: Plan | None) -> tuple[Plan | None, ...]:
    return (None,) if plan is None else (plan, replace(plan, seed=(plan.seed + 1) % 2**64))


def is_better(before: float, after: float) -> bool:
    """Whether one share of what there is to learn is poor, and another one so much larger that it is not chance.

    Example:
        >>> is_better(0.1, 0.9), is_better(0.1, 0.2), is_better(0.6, 1.0)
        (True, False, False)
    """
    return before < _POOR and after - before > _GAIN and after > _TIMES * before
