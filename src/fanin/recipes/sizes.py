"""What second moment the output of a weight is to have, from what follows it."""

from dataclasses import dataclass

import numpy as np

from fanin.errors import FaninError
from fanin.initializers.fans import fans_of
from fanin.recipes.flow import activation_of
from fanin.recipes.graph import Graph, Residual
from fanin.recipes.points import working_point
from fanin.records import Op

__all__ = ["GROWTH", "HEAD", "Wish", "part_of_a_sum", "share", "unheld", "unknowns", "wish"]

GROWTH = 1.5
"""By what factor all residual branches together may enlarge the signal's second moment."""
HEAD = 0.1
"""Second moment of the outputs at the start: the loss is then within 0.05 of that of equal shares."""


@dataclass(frozen=True)
class Wish:
    """The second moment that a weight's output is to have, and why.

    Attributes:
        reason, considers, otherwise: As in `fanin.records.PlanEntry`.
        warning: A sentence for the user where no size is right; else empty.
    """

    second: float
    reason: str
    considers: str
    otherwise: str = ""
    warning: str = ""


def share(residual: Residual) -> float:
    """What one end of a residual branch may add to the signal's second moment, relative to it.

    With L branches in a row, ``GROWTH ** (1 / L) - 1``: then all of them enlarge it by `GROWTH`.
    """
    return float(GROWTH ** (1 / residual.chain) - 1) / len(residual.ends)


def wish(graph: Graph, index: int, given: float, stream: float | None) -> Wish:
    """What a weight's output is to be.

    Args:
        graph: The model.
        index: The weight's step.
        given: Second moment of its input.
        stream: Of the signal that its branch is added to, if it ends a residual branch.
    """
    if stream is not None:
        residual = next(each for each in graph.residuals if index in each.ends)
        return Wish(
            share(residual) * stream,
            f"the last of a residual branch, one of {residual.chain} that together may enlarge the signal by "
            f"{GROWTH:g}",
            "architecture",
            f"at full size {residual.chain} branches would enlarge it to {residual.chain + 1} times or more",
        )
    if index in graph.heads:
        return Wish(
            HEAD, "the output: small, so that the first loss is near that of equal shares", "task",
            "zeros would stop every gradient below at the first step; larger ones begin with confident mistakes",
        )  # fmt: skip
    kinds = {graph.ops[each].kind: each for each in reversed(graph.follows(index)) if each >= 0}
    if "activation" in kinds:
        behind = graph.ops[kinds["activation"]]
        is_first = graph.ops[graph.ops[index].inputs[0]].kind == "input"
        if is_first and oscillates(behind) and graph.ops[index].params[0] in graph.params:
            return _frequencies(graph, index, given)
        return _before_activation(behind, graph.runs[index])
    if "norm" in kinds:
        return Wish(
            1.0, "a normalisation follows: any size would do, 1 keeps the first steps of the usual length",
            "normalisation", "a larger weight learns more slowly behind a normalisation, a smaller one faster",
        )  # fmt: skip
    summed = part_of_a_sum(graph, index, given)
    if summed is not None:
        return summed
    if kinds.keys() & {"attention", "matmul"}:
        return Wish(1.0, "attention follows: queries, keys and values of second moment 1", "architecture")
    return Wish(1.0, "no activation follows directly: an output of second moment 1", "variance")


def _before_activation(op: Op, depth: int) -> Wish:
    try:
        point = working_point(activation_of(op), depth, False)
    except FaninError:
        return Wish(1.0, f"{op.name or 'a function'} follows, whose gain is not known", "activation")
    return Wish(
        point.q,
        f"{op.name} follows ({_layers(depth)}): it keeps signal and gradient at pre-activations of second moment "
        f"{point.q:.3g}",
        "activation",
        f"between such layers weights of variance 1 / fan-in would change the signal by {1 / point.gain2:.3g} each",
        "" if point.holds(depth) else unheld(op.name, depth, point.chi),
    )


def _frequencies(graph: Graph, index: int, given: float) -> Wish:
    param = graph.params[graph.ops[index].params[0]]
    return Wish(
        given / (3 * fans_of(param).fan_in),
        "frequencies of waves: uniform up to 1 / fan-in has this size (SIREN, Sitzmann et al. 2020)",
        "activation",
        "this size decides which details the network can show; smaller ones make it smoother",
    )


def oscillates(op: Op) -> bool:
    """Whether an activation goes up and down again and again, like a sine."""
    try:
        values = np.asarray(activation_of(op).phi(np.linspace(-20.0, 20.0, 2001)), float)
    except FaninError:
        return False
    steps = np.diff(values)
    steps = steps[np.abs(steps) > 1e-9 * np.ptp(values)]  # a plateau goes nowhere
    return int(np.sum(np.diff(np.sign(steps)) != 0)) > 6


def part_of_a_sum(graph: Graph, index: int, given: float) -> Wish | None:
    """What the output of a step is to be if a sum follows that is no end of its branch; None without a sum."""
    add = next((each for each in graph.follows(index) if each >= 0 and graph.ops[each].kind == "add"), None)
    if add is None:
        return None
    reason = "a shortcut, or a part of a sum: it keeps the signal's second moment"
    after = [graph.ops[each] for each in graph.follows(add) if each >= 0]
    behind = next((op for op in after if op.kind == "activation"), None)
    if behind is None:
        return Wish(given, reason, "architecture")
    try:
        point = working_point(activation_of(behind), 1, False)
    except FaninError:
        return Wish(given, reason, "architecture")
    return Wish(given * point.gain2, f"{reason} through the {behind.name} behind the sum", "architecture")


def unknowns(graph: Graph) -> list[str]:
    """Sentences on what depends on the data or is not predicted, so that a model may be less flat than planned."""
    live = [op for index, op in enumerate(graph.ops) if graph.live[index]]
    kinds = {op.kind for op in live}
    batch = any(op.kind == "norm" and op.name == "batch" for op in live)
    mixes = any(op.kind == "matmul" and not all(graph.live[each] for each in op.inputs) for op in live)
    token = any(
        op.kind == "concat" and any(graph.ops[each].kind == "param" for each in graph.comes_from(index))
        for index, op in enumerate(graph.ops) if graph.live[index]
    )  # fmt: skip
    facts = (
        (kinds & {"mean", "max"} or mixes,
         "How much pooling and averages change the signal depends on the data; calibrate=x measures it."),
        (batch and "activation" in kinds,
         "Batch normalisation makes gradients grow towards the input, by 1.47 in second moment for each ReLU before "
         "one, whatever the weights (Yang et al. 2019)."),
        ("recurrent" in kinds, "How gradients change through the time of a recurrent layer is not predicted."),
        (token, "A learnt token is put beside the signal; if it alone is read out, the input reaches it through "
         "attention only and starts with small gradients."),
    )  # fmt: skip
    return [sentence for holds, sentence in facts if holds]


def unheld(name: str, depth: int, chi: float) -> str:
    """The warning that a run of layers cannot keep both signal and gradient."""
    return (
        f"{_layers(depth)} of {name} cannot keep both signal and gradient: gradients change by {chi**depth:.2g} "
        "(second moment). Normalisation or residual connections would help."
    )


def _layers(depth: int) -> str:
    return "1 layer" if depth == 1 else f"{depth} layers in a row"
