"""Recurrent layers that forget what they have seen before they can learn from it."""

from collections.abc import Iterator

from fanin.doctor.cures import Cure, is_still, tried
from fanin.doctor.facts import Facts
from fanin.records import Init, Op, Plan, PlanEntry

__all__ = ["forgets", "forgotten"]

_OPEN = 5.0
"""Bias of a forget gate that keeps 0.993 of a state at each step, half of it for 100 steps."""
_KEPT = ("lstm", "rnn_tanh", "rnn_relu")
"""Recurrent layers that can be made to keep their state."""


def forgotten(facts: Facts) -> Iterator[tuple[int, Cure]]:
    """The first recurrent layer of a model that has not begun to learn, and how all of them would keep their state.

    Open forget gates (Gers et al. 2000), and the identity for plain recurrent layers (Le et al. 2015).
    """
    layers = [index for index, op in enumerate(facts.ops) if op.kind == "recurrent" and op.name in _KEPT]
    if layers and is_still(facts):
        wanted = {path: found for index in layers for path, found in _keeping(facts, facts.ops[index])}
        left: tuple[Init | None, tuple[float, ...]] = (None, ())
        entries = []
        for param in facts.info.params:
            init, scales = wanted.get(param.path, left)
            entries.append(PlanEntry(param, init, "keeps the state" if init else "left as it is", scales=scales))
        yield layers[0], Cure(plan=Plan(tuple(entries), seed=facts.patient.seed))


def forgets(facts: Facts) -> bool:
    """Whether a model learns as soon as its recurrent layers keep their state."""
    outcomes = [tried(facts, cure) for _, cure in forgotten(facts)]
    return any(outcome is not None and outcome.helps for outcome in outcomes)


def _keeping(facts: Facts, op: Op) -> Iterator[tuple[str, tuple[Init, tuple[float, ...]]]]:
    """What the parameters of a layer get that decide how long it keeps its state."""
    known = [facts.params[path] for path in op.params if path in facts.params]
    if op.name != "lstm":
        states = [param for param in known if param.role == "recurrent"][1:]
        yield from ((param.path, (Init("identity"), ())) for param in states)
        # What is added at each step adds up.
        yield from ((param.path, (Init("zeros"), ())) for param in known if param.role == "bias")
        return
    biases = [param for param in known if param.gates == 4 and param.role == "bias"]
    for position, param in enumerate(biases):
        yield param.path, (Init("constant", value=_OPEN), (0.0, float(position == 0), 0.0, 0.0))
