"""Checks of how a model is trained: what is trained at all, how fast, and what the first steps do."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.cures import Cure, can_help, has_fallen, is_still, redrawn, tried
from fanin.doctor.facts import Facts
from fanin.doctor.scales import is_weight
from fanin.doctor.states import forgets
from fanin.doctor.suspicions import Suspicion
from fanin.recipes.audit import audit
from fanin.records import Severity, Trial

__all__ = [
    "divergence", "eval_mode", "forgotten_parameters", "frozen_parameters", "imbalanced_start",
    "learning_rate_too_large", "learning_rate_too_small", "oscillation", "plateau", "unregistered_parameters",
    "unused_parameters",
]  # fmt: skip

_LOWERED = (0.1, 0.01, 0.001)
"""By what a learning rate is multiplied to see whether it is too large."""
_RAISED = (1e2, 1e3, 1e4, 1e5)
"""And to see whether it is too small; after a hundred times as many steps a rate that needs the first is as far."""
_OFF = 3.0
"""How many times the best constant's loss a start may have."""


def frozen_parameters(facts: Facts) -> Iterator[Suspicion]:
    """Models of which nothing is trained, or random layers that stay as they are."""
    frozen = [p for p in facts.used if p.path in facts.setup.frozen]
    trained = [p for p in facts.used if p.path not in facts.setup.frozen]
    if facts.setup.frozen and not trained:
        yield Suspicion(
            facts.setup.frozen[0], f"none of the {len(facts.setup.frozen)} parameters is trained",
            "parameters that are trained", "Set requires_grad (PyTorch) or trainable (Keras) to True.",
        )  # fmt: skip
    elif facts.setup.frozen:
        told = audit(replace(facts.info, params=tuple(frozen)), facts.values)
        drawn = [line.path for line in told.lines if line.looks_like and facts.params[line.path].axes]
        weights = sum(is_weight(param) for param in frozen)
        most = 2 * len(drawn) > weights  # a trained layer may look like a random one
        known = f"; {len(drawn)} of them look as they were drawn" if drawn else ""
        unproven: Severity = "warning" if facts.trial is None or can_help(facts) else "info"
        yield Suspicion(
            (drawn or facts.setup.frozen)[0], f"{len(facts.setup.frozen)} parameters are not trained{known}",
            "frozen layers hold trained weights", "If these layers hold random weights, train them as well.",
            Cure(thaw=True), *(("warning", unproven, "error") if most else ("info", "info", "warning")),
        )  # fmt: skip


def forgotten_parameters(facts: Facts) -> Iterator[Suspicion]:
    """Parameters that the optimizer does not know."""
    lost = [p.path for p in facts.used if p.path in facts.setup.forgotten]
    if lost:
        # A model that learns may have its first layers ready.
        severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
        yield Suspicion(
            lost[0], f"{len(lost)} of {len(facts.used)} parameters are not among the optimizer's",
            "all that are to be trained", "Make the optimizer from model.parameters() after the model is complete.",
            severity=severity, unproven=severity,
        )  # fmt: skip


def unregistered_parameters(facts: Facts) -> Iterator[Suspicion]:
    """Weights that the model uses and does not know of."""
    if facts.info.made:
        yield Suspicion(
            facts.info.made[0], "parameters are made anew at each call", "parameters that stay and are trained",
            "Build layers in __init__, and call them in forward.",
        )  # fmt: skip
    lost = facts.setup.unregistered
    if lost:
        yield Suspicion(
            lost[0], f"{len(lost)} tensors want a gradient and are no parameters of the model",
            "layers in nn.ModuleList, tensors as nn.Parameter",
            "Hold layers in nn.ModuleList or nn.ModuleDict instead of a list or dict: no optimizer sees them there.",
        )  # fmt: skip
    if facts.setup.constant and (facts.trial is None or can_help(facts)):  # fixed random features may be meant
        yield Suspicion(
            facts.setup.constant[0], f"{len(facts.setup.constant)} arrays of random numbers multiply the signal as "
            "weights do, and are no parameters", "weights that are parameters", "Make them with add_weight (Keras) or "
            "as nn.Parameter (PyTorch), unless they are to stay as they are.", severity="warning", unproven="warning",
        )  # fmt: skip


def unused_parameters(facts: Facts) -> Iterator[Suspicion]:
    """Parameters that the outputs do not depend on."""
    used = {param.path for param in facts.used}
    known = {*used, *facts.setup.frozen, *facts.info.choosing}
    idle = [path for path in facts.params if path not in known]
    lost = [path for path in idle if path in facts.info.discarded]
    if lost:
        yield Suspicion(
            lost[0], f"{len(lost)} parameters are computed with, and nothing of it reaches the output",
            "results that are used", "Look for a result that is never read, or whose name was overwritten.",
            severity="warning", unproven="warning",
        )  # fmt: skip
    elif idle and facts.ops and not any(op.kind == "other" for op in facts.ops):
        yield Suspicion(
            idle[0], f"{len(idle)} parameters are not used on this batch", "parameters that are used",
            "Remove them, or look for a layer that was defined and never called.", severity="info", unproven="info",
        )  # fmt: skip


def eval_mode(facts: Facts) -> Iterator[Suspicion]:
    """A model that is to be trained and is not in training mode."""
    modal = any(op.kind == "dropout" or (op.kind == "norm" and op.name == "batch") for op in facts.ops)
    if not facts.setup.training and modal:
        yield Suspicion(
            "", "the model is in evaluation mode: no dropout, and the moving averages of batch normalisation",
            "training mode", "Call model.train() before training.", severity="warning", unproven="warning",
        )  # fmt: skip


def learning_rate_too_large(facts: Facts) -> Iterator[Suspicion]:
    """A rate at which the loss jumps about or is lost, where a smaller one trains."""
    yield from _rate(facts, _LOWERED, "large")


def learning_rate_too_small(facts: Facts) -> Iterator[Suspicion]:
    """A rate at which nothing moves, where a larger one trains."""
    rate = facts.setup.learning_rate
    lowered = (
        []
        if rate is None or facts.explained
        else [tried(facts, Cure(learning_rate=rate * factor)) for factor in _LOWERED]
    )
    helped = any(outcome is not None and outcome.helps for outcome in lowered)
    if is_still(facts) and not helped and (facts.explained or not forgets(facts)):
        yield from _rate(facts, _RAISED, "small")


def _rate(facts: Facts, factors: tuple[float, ...], word: str) -> Iterator[Suspicion]:
    rate, trial = facts.setup.learning_rate, facts.trial
    if rate is None or trial is None or facts.explained or not can_help(facts):
        return
    if word == "small" and (trial.diverged or trial.losses[-1] > 1.5 * trial.losses[0]):
        return
    for factor in factors:
        cure = Cure(learning_rate=rate * factor)
        outcome = tried(facts, cure)
        if outcome is not None and outcome.helps:
            yield Suspicion(
                "the optimizer", f"{facts.setup.optimizer} with a learning rate of {rate:g}: after "
                f"{outcome.steps} steps the {outcome.measure} is {outcome.before:.3g}{_pace(facts)}",
                f"{outcome.after:.3g}, as with a rate of {rate * factor:g}",
                f"Use a learning rate of about {rate * factor:g}.", cure, "warning", None,
                "warning" if factor == _RAISED[0] else "error",
            )  # fmt: skip
            return


def _pace(facts: Facts) -> str:
    """How much a step changes weights, in words; nothing where that is not known."""
    told = {} if facts.trial is None else facts.trial.updates
    medians = {path: float(np.median(told[path])) for path in _trained(facts) if told[path]}
    updates = {path: 10**median for path, median in medians.items() if math.isfinite(median)}
    if not updates:
        return ""
    least, most = min(updates, key=lambda path: updates[path]), max(updates, key=lambda path: updates[path])
    ends = f", {least} by {updates[least]:.2g} and {most} by {updates[most]:.2g}" if least != most else ""
    return f"; a step changes the middle weight by {np.median(list(updates.values())):.2g} of its size{ends}"


def _trained(facts: Facts) -> list[str]:
    """The paths of the weights that the trial trained, in executed order; biases begin at 0."""
    known = {} if facts.trial is None else facts.trial.updates
    return [param.path for param in facts.used if is_weight(param) and param.path in known]


def _lost(facts: Facts, trial: Trial) -> str:
    """Where numbers first ceased to be finite, and what had grown most by then, in words."""
    sizes = {path: [_size(facts.values(path)), _size(trial.values[path])] for path in _trained(facts)}
    broken = next((path for path, (_, after) in sizes.items() if not math.isfinite(after)), "")
    unsent = next((path for path in reversed(sizes) if math.isinf(trial.gradients.get(path, 0.0))), "")
    place = f": first in {broken}" if broken else f": first in the gradient of {unsent}" if unsent else ""
    growth = {path: after / before for path, (before, after) in sizes.items() if before and math.isfinite(after)}
    if broken or unsent or not growth:
        return place
    most = max(growth, key=lambda path: growth[path])
    return f", when {most} had grown {growth[most]:.3g} times"


def _size(values: NDArray[Any]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def imbalanced_start(facts: Facts) -> Iterator[Suspicion]:
    """A loss at the start far above that of the best answer that ignores the inputs."""
    if facts.against_constant(facts.vitals.loss) > _OFF:
        stays = facts.trial is not None and facts.against_constant(facts.trial.losses[-1]) > _OFF
        heads = frozenset(path for index in facts.graph.heads for path in facts.ops[index].params)
        yield Suspicion(
            facts.place(max(facts.graph.heads, default=len(facts.ops) - 1)),
            f"the loss starts at {facts.vitals.loss / facts.summed:.3g}",
            f"about {facts.constant:.3g}, the loss of the best constant answer",
            "Start with small outputs: draw the last layer small or as zeros, its bias at the mean answer.",
            Cure(plan=redrawn(facts, heads)), "warning", "warning" if stays else "info",
        )  # fmt: skip


def divergence(facts: Facts) -> Iterator[Suspicion]:
    """A loss that is lost within a few steps."""
    trial = facts.trial
    if trial is not None and len(trial.losses) > 1 and (trial.diverged or trial.losses[-1] > 10 * abs(trial.losses[0])):
        rate = facts.setup.learning_rate
        moved = f"went from {trial.losses[0]:.3g} to {trial.losses[-1]:.3g}"
        what = f"is not finite{_lost(facts, trial)}" if trial.diverged else moved
        yield Suspicion(
            "", f"after {len(trial.losses) - 1} steps the loss {what}", "a loss that falls",
            "Lower the learning rate, and draw the weights again.",
            Cure(plan=redrawn(facts), learning_rate=None if rate is None else rate * _LOWERED[0]), "warning", "warning",
        )  # fmt: skip


def oscillation(facts: Facts) -> Iterator[Suspicion]:
    """A loss that goes up and down in turns."""
    trial = facts.trial
    if trial is None or trial.diverged or len(trial.losses) < 20 or not can_help(facts):
        return
    steps = np.diff(trial.losses[len(trial.losses) // 2 :])
    turns = float(np.mean(np.sign(steps[1:]) != np.sign(steps[:-1])))
    if turns > 0.7 and np.abs(steps).mean() > 0.1 * np.mean(trial.losses):
        yield Suspicion(
            "", f"the loss turns in {turns:.0%} of the steps", "a loss that falls",
            "Lower the learning rate.", None, "warning", "warning",
        )  # fmt: skip


def plateau(facts: Facts) -> Iterator[Suspicion]:
    """A model that is no better than a constant after all steps; an error where another start would be."""
    if facts.trial is not None and not facts.trial.diverged and is_still(facts):
        measure, value = facts.told(facts.trial)
        yield Suspicion(
            "", f"after {len(facts.trial.losses) - 1} steps on this batch the {measure} is {value:.3g}, hardly better "
            "than a constant answer's", "far better than a constant answer",
            "Initialise the whole model: fanin.init.", Cure(plan=redrawn(facts)), "warning",
            "info" if has_fallen(facts) else "warning",
        )  # fmt: skip
