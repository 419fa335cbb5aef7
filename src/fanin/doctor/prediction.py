"""What signal and gradient are bound to do between layers whose weights are as large as these: theory's answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fanin.errors import FaninError
from fanin.recipes.flow import activation_of
from fanin.theory.propagation import Band, Layer, propagate

if TYPE_CHECKING:
    from fanin.doctor.facts import Facts

__all__ = ["Predicted", "predicted"]


@dataclass(frozen=True)
class Predicted:
    """By what factors root mean squares change between two layers of a plain stack, with 95 % intervals over draws.

    Attributes:
        signal: From the first to the last.
        gradient: From the last to the first.
    """

    signal: tuple[float, float]
    gradient: tuple[float, float]


def predicted(facts: "Facts", first: int, last: int) -> Predicted | None:
    """What weights of these sizes, drawn at random, would do; None where more than dense layers lies between.

    Args:
        facts: Of the model.
        first, last: Steps with weights, the first one nearer to the input.
    """
    steps = _stack(facts, first, last)
    if steps is None:
        return None
    try:
        # Cosines, which nobody asks for here, would cost twenty times the rest; those of 1 stay so.
        found = propagate([_layer(facts, step) for step in steps], facts.vitals.signal_rms[first] ** 2, 1.0)
    except FaninError:  # the signal dies, or an activation has no mean square
        return None
    if found.band is None or found.gradient_band is None:
        return None
    return Predicted(
        _interval(found.signal[-1] / found.signal[0], found.band, -1),
        _interval(found.gradient[0] / found.gradient[-1], found.gradient_band, 0),
    )


def _interval(factor: float, band: Band, index: int) -> tuple[float, float]:
    """Of a root mean square, from the factor of its square."""
    low, high = (math.sqrt(factor * end[index]) for end in (band.low, band.high))
    return low, high


def _stack(facts: "Facts", first: int, last: int) -> Sequence[int] | None:
    """The dense layers behind the first one, up to the last; None where they are not one behind the other."""
    steps: list[int] = []
    at = last
    while at != first:
        activation = _source(facts, at)
        below = _source(facts, activation) if activation >= 0 else -1
        dense = below >= 0 and facts.ops[at].kind == facts.ops[below].kind == "weight"
        if not dense or facts.ops[activation].kind != "activation" or not _is_dense(facts, at):
            return None
        steps.append(at)
        at = below
    return steps[::-1] or None


def _source(facts: "Facts", index: int) -> int:
    """The one step that another one works on, seen through those that only move; -1 where there is no such."""
    while True:
        inputs = facts.ops[index].inputs
        if len(inputs) != 1:
            return -1
        index = inputs[0]
        if facts.ops[index].kind != "move":
            return index


def _is_dense(facts: "Facts", index: int) -> bool:
    param = facts.params.get(facts.ops[index].params[0]) if facts.ops[index].params else None
    return param is not None and param.role == "dense" and sorted(param.axes) == ["in", "out"]


def _layer(facts: "Facts", index: int) -> Layer:
    """One layer with the sizes that its weights and biases really have."""
    path, *biases = facts.ops[index].params
    param, values = facts.params[path], facts.values(path)
    fan_in, width = (param.shape[param.axes.index(axis)] for axis in ("in", "out"))
    shift = float(np.mean(np.square(facts.values(biases[0]), dtype=np.float64))) if biases else 0.0
    entry = activation_of(facts.ops[_source(facts, index)])
    return Layer(entry, fan_in * float(np.mean(np.square(values, dtype=np.float64))), shift, width)
