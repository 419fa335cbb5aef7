"""Where the gradient ends on its way back: steps that cut it, draws and choices, losses that have no slope."""

import math
from collections.abc import Iterator

from fanin.doctor.cures import can_help
from fanin.doctor.facts import Facts
from fanin.doctor.output import is_constant, lone_shares
from fanin.doctor.suspicions import Suspicion
from fanin.doctor.units import has_dead_layer
from fanin.records import Op, Severity

__all__ = ["gradient_blocked"]

_BLOCKS = (
    "argmax", "argmin", "round", "floor", "ceil", "sign", "detach", "stop_gradient", "heaviside", "one_hot", "grad",
)  # fmt: skip
"""Steps whose output does not change with their input, or through which no gradient is sent."""
_LOST = 1e-25
"""A gradient below this may have become 0 a layer further by itself."""


def gradient_blocked(facts: Facts) -> Iterator[Suspicion]:
    """What sends no gradient back, so that nothing before it is trained."""
    ways = (_stepped, _bypassed, _cut, _chosen, _flat, _unlinked)
    found = next((each for way in ways for each in way(facts)), None)
    if found is not None:
        yield found


def _stepped(facts: Facts) -> Iterator[Suspicion]:
    """A step without a slope that all gradients would have to pass."""
    for index, op in enumerate(facts.ops):
        before = {path for step in facts.before(index) for path in facts.ops[step].params} if _blocks(op) else set()
        if before and not _reached(facts, before):
            yield Suspicion(
                facts.place(index), f"{op.name} sends no gradient back: none reaches the {len(before)} parameters "
                "before it", "a gradient for each parameter",
                "Leave it out during training, or use a smooth function in its place.",
            )  # fmt: skip


def _chosen(facts: Facts) -> Iterator[Suspicion]:
    """Parameters that decide what is taken, and have no other share in it."""
    lost = [path for path in facts.info.choosing if math.isnan(facts.vitals.param_gradients.get(path, math.nan))]
    if lost:
        severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
        yield Suspicion(
            lost[0], f"outputs depend on {len(lost)} parameters by a choice alone, as by an argmax or a comparison, "
            "which sends no gradient back", "a gradient for each parameter",
            "Weigh by a softmax of the scores instead of choosing the largest, or multiply the choice by its share.",
            severity=severity, unproven=severity,
        )  # fmt: skip


def _flat(facts: Facts) -> Iterator[Suspicion]:
    """A loss that has no slope at the outputs, though it depends on them; known kinds of losses have one."""
    sent = [facts.vitals.gradient_rms[index] for index in facts.info.outputs]
    known = facts.loss is not None or facts.patient.loss is None or not math.isfinite(facts.vitals.loss)
    if sent and not any(sent) and not known and not is_constant(facts):
        yield Suspicion(
            "the loss", "its gradient is exactly 0 at the outputs, though it changes with them",
            "a slope at the outputs", "Leave out what has steps: round, comparisons, a count of right answers.",
        )  # fmt: skip


def _unlinked(facts: Facts) -> Iterator[Suspicion]:
    """A loss that is not computed from what the parameters make."""
    used = {param.path for param in facts.used}
    if math.isfinite(facts.vitals.loss) and used and not _reached(facts, used, zero=True):
        yield Suspicion(
            "the loss", "it does not depend on any parameter", "a gradient for each parameter",
            "Compute the loss from the outputs themselves: not from their argmax, a detached copy or an array.",
        )  # fmt: skip


def _bypassed(facts: Facts) -> Iterator[Suspicion]:
    """Trained steps from which every way to the output leads through one without a gradient, as a draw or a detach."""
    output, gradients = facts.info.outputs[0] if facts.info.outputs else -1, facts.vitals.gradient_rms
    if output < 0 or not gradients or math.isnan(gradients[output]):
        return
    reached, waiting = {output}, [output]
    while waiting:
        for source in facts.ops[waiting.pop()].inputs:
            if source not in reached and not math.isnan(gradients[source]):
                reached.add(source)
                waiting.append(source)
    # Of one output all gradients come, also through a function that brings its own backwards.
    alone = len(facts.info.outputs) == 1
    apart = [i for i in facts.before(output) if i not in reached and (math.isnan(gradients[i]) or not alone)]
    lost = [index for index in apart if _is_heard(facts, index)]
    ends = {at for each in lost for at in _first_reached(facts, each, reached)}
    if lost and ends:
        last = max(ends)
        gate = max(source for source in facts.ops[last].inputs if source not in reached)
        what = facts.ops[gate].name or facts.ops[gate].kind
        again = any(set(facts.ops[at].params) & set(facts.ops[lost[-1]].params) for at in reached)
        severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
        yield Suspicion(
            facts.place(gate) or what, f"{what} sends no gradient back, and it is the only way from "
            f"{'the earlier steps of ' if again else ''}{facts.place(lost[-1])} to the output",
            "a gradient of the output for each layer before it",
            "Leave out what cuts (detach, no_grad, an index), or let the gradient pass: rsample() for sample(), "
            "x + (q - x).detach() for q.", severity=severity, unproven=severity,
        )  # fmt: skip


def _is_heard(facts: Facts, index: int) -> bool:
    """Whether a step multiplies what depends on an input by weights that get a gradient, though from elsewhere."""
    op, gradients = facts.ops[index], facts.vitals.param_gradients
    weighs = op.kind in ("weight", "recurrent") and facts.graph.live[index]
    return weighs and not all(math.isnan(gradients.get(path, math.nan)) for path in op.params)


def _first_reached(facts: Facts, index: int, reached: set[int]) -> Iterator[int]:
    """The first steps with a gradient of the output on the ways from one without."""
    seen, waiting = {index}, [index]
    while waiting:
        for user in facts.graph.users[waiting.pop()]:
            if user in reached:
                yield user
            elif user not in seen:
                seen.add(user)
                waiting.append(user)


def _cut(facts: Facts) -> Iterator[Suspicion]:
    """A place that no step shows where the gradient ends: behind it there is one, before it exactly none."""
    zeros = {p.path for p in facts.used if "out" in p.axes and not facts.values(p.path).any()}
    silent = [i for i in facts.weights if _is_silent(facts, facts.ops[i].params[0])]
    heard = [i for i in facts.weights if facts.vitals.param_gradients.get(facts.ops[i].params[0], 0.0) > _LOST]
    if zeros or not silent or not heard or has_dead_layer(facts) or any(lone_shares(facts)):
        return
    if next((i for i in facts.weights if i > max(silent)), None) != min(heard):  # lost on the way, not cut
        return
    if max(silent) not in facts.before(min(heard)):  # beside the trained part, as a slow copy of it
        return
    # An encoder may be kept as it is on purpose, if what is behind it learns.
    severity: Severity = "error" if facts.trial is None or can_help(facts) else "warning"
    yield Suspicion(
        facts.place(max(silent)), f"{facts.ops[max(silent)].params[0]} has no gradient, "
        f"{facts.ops[min(heard)].params[0]} behind it has one", "a gradient for each parameter",
        "Look between the two for what stops the gradient: no_grad, stop_gradient, detach, a conversion to an array.",
        severity=severity, unproven=severity,
    )  # fmt: skip


def _is_silent(facts: Facts, path: str) -> bool:
    """Whether a parameter that is to be trained has a gradient of exactly 0, or none at all."""
    none = math.isnan(facts.vitals.param_gradients.get(path, math.nan)) and path not in facts.setup.frozen
    return path in facts.stuck or (none and path in facts.params)


def _reached(facts: Facts, paths: set[str], *, zero: bool = False) -> bool:
    """Whether any of these parameters has a gradient; with `zero` one of exactly 0 counts."""
    gradients = [facts.vitals.param_gradients.get(path, math.nan) for path in paths]
    return any(not math.isnan(each) and (zero or each != 0) for each in gradients)


def _blocks(op: Op) -> bool:
    return any(word in op.name for word in _BLOCKS)
