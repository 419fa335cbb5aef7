"""Checks of what a batch becomes on its way through the model, and the gradient on its way back."""

import math
from collections.abc import Iterator

import numpy as np

from fanin.doctor.cures import Cure, can_help, is_better, is_still, redrawn, standardised
from fanin.doctor.facts import Facts
from fanin.doctor.linear import linear_share, neighbour_share
from fanin.doctor.prediction import predicted
from fanin.doctor.states import forgotten
from fanin.doctor.suspicions import Suspicion
from fanin.doctor.units import is_collapsed
from fanin.records import Severity

__all__ = [
    "batch_norm_of_one", "collapsed_inputs", "exploding_gradient", "exploding_signal",
    "heavy_dropout", "linear_stack", "misplaced_norm", "non_finite_signal", "vanishing_gradient", "vanishing_signal",
]  # fmt: skip

_FACTOR = 1e3
"""By how much a signal or a gradient may change between the first and the last hidden weight before a cure is tried."""
_FAR = 1e6
"""By so much nothing is left in float16, and little in float32."""
_ALIKE, _DIFFERENT = 0.995, 0.9
"""Cosine of outputs that can hardly be told apart, and of inputs that can."""
_SAME = 1e-5
"""Relative; less is rounding, which depends on where an example lies in its batch."""
_DROPPED = 0.8
_NOTHING = 1e-5
"""Share of a signal that rounding leaves where it cancels."""


def non_finite_signal(facts: Facts) -> Iterator[Suspicion]:
    """The first step that makes infinities or NaN out of finite numbers, and hands them on."""
    infinite = facts.vitals.infinite
    for index, (op, count) in enumerate(zip(facts.ops, infinite, strict=False)):
        users = facts.graph.users[index]
        if users and not any(infinite[each] for each in users):
            continue  # what a mask hides with -inf has no share afterwards
        # A mask of -inf is a constant that a softmax takes away again.
        starts = op.inputs or (op.kind == "constant" and any(infinite[each] for each in facts.info.outputs))
        if count and starts and not any(infinite[each] for each in op.inputs):
            if any(not np.isfinite(facts.values(path)).all() for path in op.params if path in facts.params):
                return  # the parameter is at fault
            yield Suspicion(
                facts.place(index), f"{count} numbers are not finite {'behind' if op.inputs else 'in'} "
                f"{op.name or op.kind}", "finite numbers",
                "Keep its input away from where the function has no value (log of 0, division by 0, overflow).",
                Cure(plan=redrawn(facts)),
            )  # fmt: skip
            return
    has_loss = facts.patient.loss is not None and facts.refusal is None
    if has_loss and not any(infinite) and not math.isfinite(facts.vitals.loss) and _all_finite(facts):
        yield Suspicion(
            "the loss", "it is not finite, though outputs and targets are", "a finite number",
            "Keep the outputs to where the loss has a value: above 0 for a logarithm or a root.",
        )  # fmt: skip
        return
    yield from _lost_gradient(facts)


def _all_finite(facts: Facts) -> bool:
    """Whether all that a loss is given is finite."""
    given = [*facts.vitals.outputs, *([] if facts.targets is None else [facts.targets])]
    return all(bool(np.isfinite(each).all()) for each in given)


def _lost_gradient(facts: Facts) -> Iterator[Suspicion]:
    """The first step on the way back whose gradient is not finite, where all that went forward was."""
    lost = [index for index, size in enumerate(facts.vitals.gradient_rms) if math.isinf(size)]
    if lost and any(map(math.isinf, facts.vitals.param_gradients.values())):
        users = facts.graph.users[lost[-1]]
        where = facts.place(users[0]) if users else "the loss"
        what = facts.ops[users[0]].name or facts.ops[users[0]].kind if users else "the loss"
        yield Suspicion(
            where, f"the gradient is not finite before {what}, though its output is", "finite numbers",
            "Keep its input away from where the function has no slope (root of 0, logarithm of 0, division by 0): add "
            "a small number.", Cure(plan=redrawn(facts)),
        )  # fmt: skip


def linear_stack(facts: Facts) -> Iterator[Suspicion]:
    """Layers with nothing between them that is not linear, so that together they are one linear layer."""
    bends = ("activation", "softmax", "attention", "max", "recurrent", "other", "matmul", "mul")
    kinds = {op.kind for index, op in enumerate(facts.ops) if index not in facts.ending}
    if len(facts.weights) > 1 and not kinds & set(bends):
        straight, bent = _shares(facts)
        proven = is_better(straight, bent) and (facts.trial is None or can_help(facts))
        words = f"; the best linear answer explains {straight:.0%} of the targets, similar examples {bent:.0%}"
        yield Suspicion(
            facts.place(facts.weights[0]), f"{len(facts.weights)} layers with no activation between them"
            f"{words if proven else ''}", "an activation between two layers",
            "Put an activation behind each hidden layer, unless a linear model is what you want.",
            None, *(("error", "error") if proven else ("warning", "warning")),
        )  # fmt: skip


def _shares(facts: Facts) -> tuple[float, float]:
    """How much of the targets a linear answer explains, and how much similar examples do; nan where not known."""
    y = facts.targets
    if y is None or facts.loss is None or len(facts.inputs) != 1 or len(y) != len(facts.inputs[0]):
        return math.nan, math.nan
    wanted = y.reshape(len(y), -1)
    if facts.loss.axis is not None and y.size == len(y):
        wanted = y.reshape(-1, 1) == np.unique(y)
    features = standardised(facts.inputs[0]).reshape(len(y), -1)
    return linear_share(features, wanted), neighbour_share(features, wanted)


def batch_norm_of_one(facts: Facts) -> Iterator[Suspicion]:
    """Batch normalisation over a single number for each channel, which gives zero whatever it is."""
    for index, op in enumerate(facts.ops):
        if op.kind == "norm" and op.name in ("batch", "instance") and facts.setup.training:
            places = math.prod(op.shape) // max(1, _channels(facts, index))
            if (places if op.name == "batch" else places // max(1, op.shape[0])) == 1:
                yield Suspicion(
                    facts.place(index), f"normalises over {op.shape[0]} example of one place: the output is 0 "
                    "whatever the input", "more than one number for each channel",
                    "Use larger batches, or layer normalisation.",
                )  # fmt: skip
                return


def misplaced_norm(facts: Facts) -> Iterator[Suspicion]:
    """Normalisation over one unit, or over what is averaged next, which gives the same whatever it is."""
    sizes = facts.vitals.signal_rms
    for index, op in enumerate(facts.ops):
        after = [at for at in facts.graph.users[index] if facts.ops[at].kind == "mean"]
        if op.kind == "norm" and facts.graph.live[index] and any(sizes[at] < _NOTHING * sizes[index] for at in after):
            yield Suspicion(
                facts.place(index), "the mean over what was just normalised is 0 whatever the input",
                "a mean that depends on the input", "Use batch normalisation, or normalise behind the mean.",
            )  # fmt: skip
            return
        if op.kind == "norm" and op.name == "group" and facts.graph.live[index] and sizes[index] < _NOTHING:
            yield Suspicion(
                facts.place(index), f"groups of one number: every output is {facts.vitals.mean[index]:.3g}",
                "more than one number in each group", "Use fewer groups, or normalise before pooling.",
            )  # fmt: skip
            return
        if op.kind == "norm" and op.name in ("layer", "rms") and op.shape[-1:] == (1,):
            yield Suspicion(
                facts.place(index), "normalises a single unit: every output is the same", "more than one unit",
                "Leave the normalisation out before the last layer's output.",
            )  # fmt: skip
            return


def heavy_dropout(facts: Facts) -> Iterator[Suspicion]:
    """Dropout that leaves nearly nothing, or drops answers."""
    for index, op in enumerate(facts.ops):
        if op.kind == "dropout" and op.value > 0 and (op.shape[-1:] == (1,) or -1 in facts.graph.follows(index)):
            severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
            what = "the only unit" if op.shape[-1:] == (1,) else "the outputs"
            yield Suspicion(
                facts.place(index), f"sets {what} to 0 in {op.value:.0%} of the cases, whatever the model has found",
                "what was found is handed on", "Leave out dropout behind the last layer, and behind a single unit.",
                severity=severity, unproven=severity,
            )  # fmt: skip
            return
        if op.kind == "dropout" and op.value > _DROPPED:
            yield Suspicion(
                facts.place(index), f"drops {op.value:.0%} of its input", "10 to 50 %",
                "Lower the rate. (It is the share that is dropped, not the share that is kept.)",
                severity="warning", unproven="warning",
            )  # fmt: skip
            return


def collapsed_inputs(facts: Facts) -> Iterator[Suspicion]:
    """Examples that differ at the input and can no longer be told apart further on."""
    start = [facts.vitals.cosine[i] for i, op in enumerate(facts.ops) if op.kind == "input"]
    known = [each for each in start if math.isfinite(each)]
    if not known or min(known) > _DIFFERENT:
        return
    lost = is_collapsed(facts) and is_still(facts)
    blind = lost and _answers_alike(facts)
    for index in sorted({*facts.hidden, *(facts.graph.heads if lost else ())}):
        if facts.vitals.cosine[index] > _ALIKE:
            yield Suspicion(
                facts.place(index), f"two examples' outputs have a cosine of {facts.vitals.cosine[index]:.4f} here, at "
                f"the input of {min(known):.2f}", "outputs that differ as inputs do",
                "Initialise for the edge of chaos (fanin.init); or look for what takes away all that differs.",
                Cure(plan=redrawn(facts)), "warning", "error" if blind else "warning" if lost else None,
            )  # fmt: skip
            return


def _answers_alike(facts: Facts) -> bool:
    """Whether a model gives the same answer for all examples, up to rounding, even after it was trained."""
    found = [each for each in ([] if facts.trial is None else facts.trial.outputs) if each.ndim and len(each) > 1]
    return bool(found) and all(
        bool(np.isfinite(each).all()) and np.ptp(each, axis=0).max() <= _SAME * np.abs(each).max() for each in found
    )


def vanishing_signal(facts: Facts) -> Iterator[Suspicion]:
    """A signal that shrinks layer by layer, or of which nothing reaches the head of a model that does not learn."""
    yield from _drift(facts, facts.vitals.signal_rms, facts.way, "signal", "shrinks")
    sizes = facts.vitals.signal_rms
    for head in facts.graph.heads:
        heard = max((sizes[each] for each in facts.ops[head].inputs), default=1.0)
        if heard < _NOTHING and is_still(facts):
            yield Suspicion(
                facts.place(head), f"what it gets is of size {heard:.3g}", "a size of about 1",
                "Look for a function or a factor before it that takes nearly everything away.",
                Cure(plan=redrawn(facts)), "warning", "warning",
            )  # fmt: skip
            return


def exploding_signal(facts: Facts) -> Iterator[Suspicion]:
    """A signal that grows layer by layer, or step by step in time."""
    for index, op in enumerate(facts.ops):
        size, before = facts.vitals.signal_rms[index], [facts.vitals.signal_rms[each] for each in op.inputs]
        if op.kind == "recurrent" and before and size > _FACTOR * max(1.0, *before):
            yield Suspicion(
                facts.place(index), f"the states of {op.name} are of size {size:.3g}, its input of {max(before):.3g}",
                f"less than {_FACTOR:g} times", "Start with the identity or an orthogonal matrix between the states.",
                Cure(plan=redrawn(facts, frozenset(op.params))), "warning", "warning",
            )  # fmt: skip
            return
    yield from _drift(facts, facts.vitals.signal_rms, facts.way, "signal", "grows")


def vanishing_gradient(facts: Facts) -> Iterator[Suspicion]:
    """A gradient that shrinks on its way back, through layers or through time."""
    for index, cure in forgotten(facts):
        yield Suspicion(
            facts.place(index), f"what {facts.ops[index].name} saw at its first steps is forgotten at the last",
            "a state that is kept", "Start with forget gates open (a bias of 1 or more), or the identity between the "
            "states of a plain recurrent layer.", cure, "warning", None,
        )  # fmt: skip
    yield from _drift(facts, facts.vitals.gradient_rms, facts.hidden[::-1], "gradient", "shrinks")


def exploding_gradient(facts: Facts) -> Iterator[Suspicion]:
    """A gradient that grows on its way back."""
    yield from _drift(facts, facts.vitals.gradient_rms, facts.hidden[::-1], "gradient", "grows")


def _drift(facts: Facts, sizes: tuple[float, ...], way: tuple[int, ...], what: str, verb: str) -> Iterator[Suspicion]:
    """How sizes change from the first to the last step of a way."""
    known = [index for index in way if math.isfinite(sizes[index]) and sizes[index] > 0]
    if len(known) < 2:
        return
    first, last = known[0], known[-1]
    factor = sizes[last] / sizes[first] if verb == "grows" else sizes[first] / sizes[last]
    if factor < _FACTOR:
        return
    is_far = is_still(facts) or (factor > _FAR and (facts.trial is None or can_help(facts)))
    yield Suspicion(
        facts.place(last), f"the {what} {verb} by a factor of {factor:.3g} from {facts.place(first)} to "
        f"{facts.place(last)}, {len(known)} layers{_as_predicted(facts, known, what, verb)}", f"less than {_FACTOR:g}",
        "Initialise the whole model so that signal and gradient keep their size: fanin.init.",
        Cure(plan=redrawn(facts)), "warning", "warning" if is_far else None,
    )  # fmt: skip


def _as_predicted(facts: Facts, known: list[int], what: str, verb: str) -> str:
    """What theory says of weights that are as large as these, in words; nothing where it says nothing."""
    found = predicted(facts, min(known[0], known[-1]), max(known[0], known[-1]))
    if found is None:
        return ""
    low, high = found.signal if what == "signal" else found.gradient
    if verb == "shrinks":
        low, high = 1 / high, 1 / low
    return f" (random weights of these sizes: {low:.3g} to {high:.3g})"


def _channels(facts: Facts, index: int) -> int:
    op = facts.ops[index]
    sizes = [math.prod(facts.params[path].shape) for path in op.params if path in facts.params]
    return sizes[0] if sizes else op.shape[-1]
