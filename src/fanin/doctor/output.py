"""Checks of what reaches the loss: by the values and the steps before it, not by the names of layers."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fanin.doctor.cures import Cure, can_help
from fanin.doctor.facts import Facts, ends_in_weights
from fanin.doctor.ranges import RANGES, SLACK, outside, range_of, reach
from fanin.doctor.rewards import (
    blind_to_outputs,
    blind_to_pairs,
    blind_to_size,
    blind_to_targets,
    floor_of,
    is_for_shares,
    rewards_distance,
    rewards_right,
    uneven,
    wants_logits,
)
from fanin.doctor.suspicions import Suspicion
from fanin.records import Severity

__all__ = [
    "broadcast_loss", "double_softmax", "hidden_softmax", "is_constant", "logits_into_probabilities", "lone_shares",
    "one_unit_softmax", "output_activation", "softmax_axis", "sum_reduction", "wrong_loss",
]  # fmt: skip

_HARMLESS_TWICE = ("log_softmax",)
"""Applied to its own output it changes nothing, and a cross-entropy of logits begins with it."""
_SQUASHING = {"softmax": "softmax", "sigmoid": "sigmoid"}
_OPEN = ("leaky_relu", "log", "linear", "identity")
"""Activations that leave an output unbounded on both sides."""
_DEARER = 1e3
"""So many times as much an error may cost at one example as at another."""
_FREE = 5.0
"""Logits that reach so far on both sides can say all that is to be said."""
_FLOOR = 0.1
"""A loss with labels that are smoothed a little falls further."""
_CLASSES = 50
"""More different whole numbers are no classes."""


def broadcast_loss(facts: Facts) -> Iterator[Suspicion]:
    """Outputs and targets of shapes that meet crosswise: every output with every target."""
    loss = facts.loss
    if loss is not None and loss.alignment == "broadcast" and facts.targets is not None and facts.output is not None:
        yield Suspicion(
            "the loss", f"outputs of shape {facts.output.shape} against targets of shape {facts.targets.shape}: each "
            "output is compared with each target", "the same shape",
            "Give both the same shape, for example outputs.squeeze(-1) or targets[:, None].",
        )  # fmt: skip
    elif loss is not None and loss.alignment == "repeated" and facts.targets is not None and facts.output is not None:
        count = facts.output[0].size
        severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
        yield Suspicion(
            "the loss", f"outputs of shape {facts.output.shape} against targets of shape {facts.targets.shape}: all "
            f"{count} outputs of an example are compared with its one target", "an output for each target",
            "Return one output for each example: the last step of a sequence (return_sequences=False, out[:, -1]), or "
            "a mean.", severity=severity, unproven=severity,
        )  # fmt: skip
    elif _unknown(facts, blind_to_pairs):
        severity = "error" if facts.trial is None or can_help(facts) else "warning"
        yield Suspicion(
            "the loss", "it looks at the targets, and is the same when each example gets another one's: every output "
            "is compared with every target", "each output with its own target",
            "Give both the same shape before they are subtracted: (n,) less (n, 1) is (n, n).",
            severity=severity, unproven=severity,
        )  # fmt: skip


def _unknown(facts: Facts, asked: Callable[..., Any]) -> Any:
    """What is found out about a loss of no known kind by giving it outputs; False where there is no such loss."""
    y, output, loss = facts.targets, facts.output, facts.patient.loss
    if facts.loss is not None or loss is None or y is None or output is None or not np.isfinite(y).all():
        return False
    return asked(loss, output.shape, y)


def one_unit_softmax(facts: Facts) -> Iterator[Suspicion]:
    """A softmax over one number, which is always 1: in the model, or in the loss."""
    output, loss = facts.output, facts.loss
    if output is None or output.ndim < 2:
        return
    cure = "Use a sigmoid and a binary cross-entropy, or one unit for each class."
    if "softmax" in facts.endings[-1:] and output.shape[-1] == 1:
        yield Suspicion(
            facts.last, "a softmax over one unit: every output is 1", "at least two units, or a sigmoid", cure
        )
    elif output.shape[-1 if loss is None or loss.axis is None else loss.axis] == 1 and is_constant(facts):
        yield Suspicion(
            "the loss", f"it is {facts.vitals.loss + 0.0:.3g} whatever the output, as a cross-entropy of one class is",
            "at least two classes, or a binary cross-entropy", cure,
        )  # fmt: skip


def softmax_axis(facts: Facts) -> Iterator[Suspicion]:
    """A softmax over the examples of the batch instead of the classes, or over a single place."""
    alone = next(lone_shares(facts), None)
    if alone is not None:
        yield Suspicion(
            facts.place(alone), "a softmax over an axis of length 1: every share is 1", "shares of several places",
            "Take the softmax over the axis of the places.",
        )  # fmt: skip
    across = next(_across(facts), None)
    if across is not None:
        yield Suspicion(
            facts.place(across), f"a softmax over the {facts.ops[across].shape[0]} examples of the batch",
            "shares within each example", "Take the softmax over the axis of the places.",
            severity="warning", unproven="warning",
        )  # fmt: skip
    output = facts.output
    if not any(name in ("softmax", "log_softmax") for name in facts.endings) or output is None or output.ndim < 2:
        return
    shares = np.exp(output) if output.max() <= 0 else output
    across, along = shares.sum(axis=0), shares.sum(axis=1 if facts.loss is None else facts.loss.axis or -1)
    if len(output) > 1 and np.allclose(across, 1, atol=1e-3) and not np.allclose(along, 1, atol=1e-3):
        yield Suspicion(
            facts.last, "the shares of each class sum to 1 over the batch", "shares of each example that sum to 1",
            "Take the softmax over the axis of the classes (dim=1, axis=-1).",
            Cure(cut=facts.before_last) if facts.takes == "logits" else None,
        )  # fmt: skip


def _across(facts: Facts) -> Iterator[int]:
    """The softmaxes within a model over as many places as there are examples, and no other axis has."""
    count = len(facts.inputs[0]) if facts.inputs else 0
    for index, op in enumerate(facts.ops):
        inside = op.kind == "softmax" and index not in facts.ending and facts.graph.live[index]
        if inside and op.value == count > 1 and op.shape[:1] == (count,) and count not in op.shape[1:]:
            yield index


def hidden_softmax(facts: Facts) -> Iterator[Suspicion]:
    """A softmax whose shares are what a layer gets, in a model that learns little."""
    for index, op in enumerate(facts.ops):
        inside = op.kind == "softmax" and index not in facts.ending and facts.graph.live[index]
        after = [at for at in facts.graph.follows(index) if at >= 0] if inside else []
        if any(facts.ops[at].kind == "weight" for at in after) and (facts.trial is None or can_help(facts)):
            severity: Severity = "warning" if facts.trial is None else "error"
            yield Suspicion(
                facts.place(index), f"a softmax between two layers: {op.value:g} shares of 1, about {1 / op.value:.2g} "
                "each", "an activation of each unit for itself", "Use relu, gelu or tanh between layers; a softmax is "
                "for the output.", severity=severity, unproven=severity,
            )  # fmt: skip
            return


def lone_shares(facts: Facts) -> Iterator[int]:
    """The softmaxes within a model over one place, behind parameters that get no gradient because of that."""
    for index, op in enumerate(facts.ops):
        inside = op.kind == "softmax" and index not in facts.ending and facts.graph.live[index]
        if inside and op.value == 1 and any(facts.stuck & {*facts.ops[step].params} for step in facts.before(index)):
            yield index


def double_softmax(facts: Facts) -> Iterator[Suspicion]:
    """Shares where the loss wants logits and takes their softmax (or sigmoid) itself."""
    floor = _unknown(facts, floor_of)
    if floor > _FLOOR and not facts.endings:
        yield Suspicion(
            "the loss", f"the surest right answers still cost {floor:.0%} of what no answer costs, and surely wrong "
            "ones cost no more than others", "a loss that falls to 0 as answers become sure",
            "Look for a softmax or a sigmoid before a loss that takes it itself.",
        )  # fmt: skip
    names = [name for name in facts.endings if name in ("softmax", "sigmoid")]
    repeated = len(names) > 1
    if not names or facts.endings[-1] not in ("softmax", "sigmoid"):
        return
    if not repeated and _unknown(facts, wants_logits):
        yield Suspicion(
            facts.last, f"{_article(names[-1])}, and then a loss of logits, which answers between 0 and 1 leave high",
            "logits, without an activation", f"Remove the {names[-1]} at the output: the loss takes it itself.",
            Cure(cut=facts.before_last),
        )  # fmt: skip
    if repeated or facts.takes == "logits":
        inside = facts.loss is not None and bool(facts.loss.inside)
        yield Suspicion(
            facts.last, f"{_article(names[-1])}, and then a {facts.loss_name}" if not repeated
            else f"{_article(names[-2])} and {_article(names[-1])} one after the other",
            "logits, without an activation" if facts.takes == "logits" else f"one {names[-1]}",
            f"Remove one {names[-1]}: the loss takes it itself." if facts.takes == "logits"
            else f"Remove one {names[-1]}.",
            None if inside else Cure(cut=facts.before_last),
        )  # fmt: skip


def output_activation(facts: Facts) -> Iterator[Suspicion]:
    """An activation before the loss that keeps the outputs from what the loss wants."""
    takes, endings = facts.takes, facts.endings
    if takes is None or not endings:
        return
    if takes == "values":
        yield from _one_sided(facts)
        return
    yield from _shared_out(facts)
    activation, behind = endings[-1], endings[-2:-1]
    fits = {
        "logits": (*_OPEN, *_HARMLESS_TWICE, *_SQUASHING),  # a second softmax is a finding of its own
        "probabilities": tuple(_SQUASHING),
        "log-probabilities": ("log_softmax", "log", "log_sigmoid"),
    }[takes]
    inner = behind[0] if takes == "probabilities" and behind and _cuts_logits(behind[0]) else ""
    is_log = takes == "log-probabilities" and activation.startswith("log")
    wrong = activation if activation not in fits and not is_log else inner
    if not wrong or (takes == "log-probabilities" and activation == "softmax"):
        return
    at = facts.ending[-1] if wrong == activation else facts.ending[-2]
    low, high = range_of(facts, at)
    # A softmax sees differences alone, so that a distance says as much as a logit.
    ends = max if takes == "logits" and _is_sloped(facts, at) else min
    if takes == "logits" and ends(-low, high) >= _FREE:
        return
    zeros = "" if facts.output is None else f"; {np.mean(facts.output == 0):.0%} of the outputs are exactly 0"
    yield Suspicion(
        facts.place(at), f"{wrong} before the loss, so that {'outputs' if wrong == activation else 'logits'} lie "
        f"between {low:g} and {high:g}{zeros if wrong == 'relu' and wrong == activation else ''}",
        {"logits": "logits, without an activation", "probabilities": "probabilities: a softmax or a sigmoid",
         "log-probabilities": "log-probabilities: a log-softmax"}[takes],
        f"Remove the {wrong} at the output" + {
            "logits": ".", "probabilities": " and end in a softmax (a sigmoid for two classes) instead.",
            "log-probabilities": " and end in a log-softmax instead."}[takes] if wrong == activation
        else f"Remove the {wrong} before the {activation}.",
        Cure(cut=facts.ops[at].inputs[0]) if takes == "logits" else None,
    )  # fmt: skip


def _is_sloped(facts: Facts, index: int) -> bool:
    """Whether an activation of the model's own, before a softmax, is flat nowhere."""
    function, softmax = facts.ops[index].function, facts.loss is not None and facts.loss.axis is not None
    return softmax and function is not None and bool(np.diff(function(np.linspace(-100.0, 100.0, 2001))).all())


def _one_sided(facts: Facts) -> Iterator[Suspicion]:
    """An output that ends on one side, as a rectified one does, for targets beyond; no scale brings them to it."""
    y, (low, high) = facts.targets, reach(facts)
    if y is None or not np.issubdtype(y.dtype, np.number) or np.isfinite(high - low):
        return
    beyond = outside(y, low, high)
    if beyond > 0:
        yield Suspicion(
            facts.last, f"{facts.endings[-1]} before the loss: outputs lie between {low:g} and {high:g}, targets "
            f"between {y.min():.4g} and {y.max():.4g}, and {beyond:.0%} of them cannot be reached", "a linear output",
            f"Remove the {facts.endings[-1]} at the output.", Cure(cut=facts.before_last),
        )  # fmt: skip


def _shared_out(facts: Facts) -> Iterator[Suspicion]:
    """Shares of 1 where each output has a target of its own, and these do not sum to 1."""
    y, loss = facts.targets, facts.loss
    if y is None or loss is None or loss.axis is not None or not _ends_in(facts, "softmax") or y.ndim < 2:
        return
    sums = y.reshape(len(y), -1).astype(np.float64).sum(axis=1)
    if y.shape[-1] > 1 and np.abs(sums - 1).max() > SLACK:
        yield Suspicion(
            facts.last, f"a softmax, whose outputs sum to 1, for targets that sum to {sums.min():.3g} to "
            f"{sums.max():.3g}", "a probability for each output", "Use a sigmoid in place of the softmax.",
        )  # fmt: skip


def logits_into_probabilities(facts: Facts) -> Iterator[Suspicion]:
    """Numbers that are no probabilities (or no logarithms of any) for a loss that wants them."""
    output, takes = facts.output, facts.takes
    if ends_in_weights(facts.info) and _unknown(facts, is_for_shares):
        yield Suspicion(
            facts.last, "outputs that nothing bounds, for a loss made for probabilities: it is least far beyond "
            "the right answers", "probabilities", "End in a sigmoid.",
        )  # fmt: skip
    if output is None or takes not in ("probabilities", "log-probabilities") or not np.isfinite(output).all():
        return
    if takes == "log-probabilities":
        bad = _ends_in(facts, "softmax") or (not facts.endings and output.max() > 0)
        words = "probabilities" if _ends_in(facts, "softmax") else "outputs above 0"
        cure = "End in a log-softmax, or use a cross-entropy of logits."
    else:
        bad = not facts.endings and (ends_in_weights(facts.info) or bool((output < 0).any() or (output > 1).any()))
        words, cure = f"outputs that nothing bounds, here from {output.min():.3g} to {output.max():.3g},", (
            "End in a softmax or a sigmoid, or tell the loss that it gets logits (from_logits=True, "
            "BCEWithLogitsLoss)."
        )  # fmt: skip
    if bad:
        yield Suspicion(facts.last, f"{words} for a {facts.loss_name}", takes or "", cure)


def is_constant(facts: Facts) -> bool:
    """Whether the loss is the same for any outputs."""
    output, loss, targets = facts.output, facts.patient.loss, facts.targets
    known = output is not None and loss is not None and targets is not None
    return known and blind_to_outputs(loss, output.shape, targets)  # type: ignore[union-attr, arg-type]


def wrong_loss(facts: Facts) -> Iterator[Suspicion]:
    """A loss that does not depend on the outputs, or the numbers of classes treated as quantities."""
    y, output = facts.targets, facts.output
    if output is not None and output.size > len(output) and is_constant(facts):
        yield Suspicion(
            "the loss", f"it is {facts.vitals.loss + 0.0:.3g} whatever the output", "a loss that outputs change",
            "Compute the loss from the outputs.",
        )  # fmt: skip
        return
    yield from _misled(facts)
    if y is None or output is None or facts.loss is None or facts.loss.kind.takes != "values":
        return
    kinds = np.unique(y) if y.size == len(y) else np.array([])
    whole = len(kinds) and np.issubdtype(y.dtype, np.integer) and kinds.min() >= 0
    if whole and 2 < len(kinds) <= min(_CLASSES, len(y) // 3) and kinds.max() < _CLASSES:
        yield Suspicion(
            "the loss", f"a {facts.loss_name} on whole numbers with {len(kinds)} different values",
            "a cross-entropy, if these are classes",
            "For classes: one output unit for each and a cross-entropy. For quantities: make the targets floats.",
            severity="warning", unproven="warning",
        )  # fmt: skip


def _misled(facts: Facts) -> Iterator[Suspicion]:
    """A loss of no known kind that does not ask for the right answers."""
    y, output, loss = facts.targets, facts.output, facts.patient.loss
    if facts.loss is not None or loss is None or y is None or output is None or not np.isfinite(y).all():
        return
    if blind_to_pairs(loss, output.shape, y):
        return  # a finding of its own
    if blind_to_targets(loss, output.shape, y):
        yield Suspicion(
            "the loss", "it is the same when each example gets another one's target",
            "a loss that looks at the targets",
            "Compare the outputs with the targets, unless nothing is to be learned from them.",
            severity="warning", unproven="warning",
        )  # fmt: skip
    elif rewards_distance(loss, output.shape, y):
        yield Suspicion(
            "the loss", "it is the smaller the further outputs are from the targets", "least where they are equal",
            "Turn its sign: a likelihood or a score is to be large, a loss small.",
        )  # fmt: skip
    elif blind_to_size(loss, output.shape, y):
        yield Suspicion(
            "the loss", "it is the same for outputs ten times as large: it sees nothing but their signs",
            "a loss that tells numbers of different size apart", "Use a squared or absolute error for single numbers.",
        )  # fmt: skip
    elif rewards_right(loss, output.shape, y, shares=facts.endings[-1:] == ("sigmoid",)) is False:
        yield Suspicion(
            "the loss", "right answers cost no less than an answer that is the same for all examples",
            "least for the right answers", "Look at how outputs and targets are put before the loss: their axes, "
            "their range (0 and 1, or -1 and 1), the function that the loss expects before it.",
        )  # fmt: skip
    else:
        factor, example = uneven(loss, output.shape, y)
        if factor > _DEARER:
            yield Suspicion(
                "the loss", f"an error costs {factor:.3g} times as much at example {example} as at the middle one, "
                f"where the target is {float(np.ravel(y[example])[0]):.3g}", f"less than {_DEARER:g} times",
                "Use a loss that is not relative to targets near 0.",
            )  # fmt: skip


def sum_reduction(facts: Facts) -> Iterator[Suspicion]:
    """A loss that is summed over the batch, so that the rate has to shrink as batches grow."""
    if facts.loss is not None and facts.loss.reduction == "sum" and facts.output is not None and len(facts.output) > 1:
        rate = facts.setup.learning_rate
        yield Suspicion(
            "the loss", f"the losses of {len(facts.output)} examples are summed", "their mean",
            "Take the mean, or divide the learning rate by the size of the batch.",
            Cure(learning_rate=rate / len(facts.output)) if rate is not None else None, "info", "info",
        )  # fmt: skip


def _ends_in(facts: Facts, name: str) -> bool:
    return facts.endings[-1:] == (name,)


def _cuts_logits(name: str) -> bool:
    """Whether an activation before a softmax keeps logits from being anything."""
    return name in RANGES and name not in _SQUASHING


def _article(name: str) -> str:
    return f"a {name}"
