"""Checks of targets: those that no output can reach."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.cures import Cure, can_help
from fanin.doctor.facts import Facts
from fanin.doctor.losses import identified
from fanin.doctor.ranges import outside, range_of, reach
from fanin.doctor.rewards import asks_beyond, blind_below, leaves_out
from fanin.doctor.suspicions import Suspicion
from fanin.records import Severity

__all__ = ["targets_out_of_range"]


def targets_out_of_range(facts: Facts) -> Iterator[Suspicion]:
    """Targets that no output can reach."""
    yield from _missing_classes(facts)
    yield from _one_of_several(facts)
    y, takes = facts.targets, facts.takes
    if facts.loss is None and y is not None and facts.output is not None and facts.patient.loss is not None:
        below = blind_below(facts.patient.loss, facts.output.shape, y)
        if below:
            yield Suspicion(
                "the loss", f"{below:.0%} of the targets are below 0, and to the loss they are all the same",
                "targets that the loss tells apart", "Use a loss without a logarithm, or targets above 0.",
            )  # fmt: skip
    if y is None or facts.loss is None or facts.loss.axis is not None or not np.issubdtype(y.dtype, np.number):
        return
    if takes in ("probabilities", "logits"):
        low, high, what = 0.0, 1.0, f"a {facts.loss_name}"
    else:
        low, high = reach(facts)
        if not np.isfinite(high - low):
            return
        what = f"an output that ends in {facts.endings[-1]}"
    beyond = outside(y, low, high)
    if beyond > 0:
        yield Suspicion(
            facts.last, f"targets from {y.min():.4g} to {y.max():.4g} for {what}: {beyond:.0%} of them cannot be "
            "reached", f"targets between {low:g} and {high:g}",
            "Bring the targets into that range, or let the output be linear.",
            Cure(cut=facts.before_last, targets=True) if takes == "values" else None,
        )  # fmt: skip


def _one_of_several(facts: Facts) -> Iterator[Suspicion]:
    """An output beside others that ends before the targets do, as a value that is squashed beside an actor's scores."""
    y, loss, outputs = facts.targets, facts.patient.loss, facts.vitals.outputs
    if y is None or loss is None or not 1 < len(outputs) == len(facts.info.outputs) or y.dtype.kind != "f":
        return
    for at, index in enumerate(facts.info.outputs):
        low, high = range_of(facts, index)
        beyond = outside(y, low, high)
        ends = facts.ops[index].kind == "activation" and outputs[at].size == y.size
        if ends and beyond > 0 and asks_beyond(loss, outputs, at, y, low, high):
            severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
            yield Suspicion(
                facts.place(index), f"targets from {y.min():.4g} to {y.max():.4g} for an output between {low:g} and "
                f"{high:g}: {beyond:.0%} of them cannot be reached", f"targets between {low:g} and {high:g}",
                f"Remove the {facts.ops[index].name} at that output, or bring the targets into that range.",
                severity=severity, unproven=severity,
            )  # fmt: skip


def _missing_classes(facts: Facts) -> Iterator[Suspicion]:
    """Class numbers for which there is no output."""
    y, output = facts.targets, facts.output
    known = facts.loss is not None and facts.loss.axis is None
    if y is None or output is None or output.ndim < 2 or known or not np.issubdtype(y.dtype, np.integer):
        return
    axis = output.ndim - 1 if facts.loss is None or facts.loss.axis is None else facts.loss.axis
    classes, places = output.shape[axis], output.shape[:axis] + output.shape[axis + 1 :]
    outside = (y < 0) | (y >= classes)
    if classes > 1 and y.size == np.prod(places) and outside.any() and not _is_meant(facts, y, outside, axis):
        yield Suspicion(
            facts.last, f"class numbers from {y.min()} to {y.max()} for {classes} outputs",
            f"class numbers from 0 to {classes - 1}", f"Give the last layer {y.max() + 1} units, or number the classes "
            "from 0.",
        )  # fmt: skip


def _is_meant(facts: Facts, y: NDArray[Any], outside: NDArray[np.bool_], axis: int) -> bool:
    """Whether a loss leaves out what is no class, as padding marked by -100, or is not about classes at all."""
    loss, output = facts.patient.loss, facts.output
    if loss is None or output is None or not math.isfinite(facts.vitals.loss):
        return False
    known = identified(loss, output.shape, np.clip(y, 0, output.shape[axis] - 1))
    if known is None or not known.kind.by_class:
        return True
    # Some backends pass over any number that is no class: padding has one number, and not that behind the last class.
    padding = np.unique(y[outside])
    return len(padding) == 1 and padding[0] != output.shape[axis] and leaves_out(loss, output, y, outside, axis)
