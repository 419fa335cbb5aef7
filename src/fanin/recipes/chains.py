"""Plain chains: dense layers with one activation in a row, where depth alone can ruin signal and gradient.

A long chain of narrow layers leaves every prediction for wide ones, because each layer's chance error multiplies
with the others'. Orthogonal weights have no such error where the activation is nearly straight, and pairs of
opposite units ("mirrored") make ReLU, GELU and SiLU exactly straight at the start, at any depth.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fanin.activations import Activation
from fanin.errors import FaninError
from fanin.initializers.fans import Fans, fans_of
from fanin.recipes.flow import activation_of, moments_of, rectifies
from fanin.recipes.graph import Graph
from fanin.recipes.points import WorkingPoint, mirrors, working_point
from fanin.recipes.sizes import unheld
from fanin.records import Init

__all__ = ["Chain", "chains"]

Law = Literal["orthogonal", "mirrored", "centred"]

_SPREAD = 0.25
"""Variance of the logarithm of the signal's size, over a whole chain, above which chance is too large."""
_UNEVEN = 0.5
"""Layers over width above which pairs that cancel a mean leave gradients more than a factor of 2 from flat both ways:
of 6 draws each, 0 of 50 x 128, 100 x 256 and 200 x 512 sigmoid layers did, 5 of 100 x 128, 6 of 200 x 128."""
_DEEP = 5
"""Shorter chains are left to independent normal weights wherever these hold in wide layers."""
_SMALL = 0.25
"""Where a chain would have to work at a smaller second moment than this, mirrored pairs are better if possible."""
_REASONS = {
    "orthogonal": "orthogonal weights, whose chance errors do not multiply over {layers} layers of {name}",
    "mirrored": "pairs of opposite units make {layers} layers of {name} exactly linear at the start",
    "centred": "pairs of opposite weights cancel the mean of {name}, which would drown {layers} layers",
}


@dataclass(frozen=True)
class Chain:
    """A plain chain of dense layers and the law that it needs.

    Attributes:
        weights: Its weight steps, in order.
        law: ``orthogonal``, ``mirrored`` or ``centred``.
        point: Where its activation works.
    """

    weights: tuple[int, ...]
    fans: tuple[Fans, ...]
    entry: Activation
    law: Law
    point: WorkingPoint

    @property
    def reason(self) -> str:
        """Why this law, for a plan."""
        return _REASONS[self.law].format(layers=len(self.weights), name=self.entry.name)

    def init(self, position: int, second_in: float, second_out: float) -> Init:
        """The initializer of one of its weights.

        Args:
            position: Which weight, from 0.
            second_in: Second moment of its input.
            second_out: Second moment that its output shall have.
        """
        rows, columns = self.fans[position].fan_in, self.fans[position].columns
        first, last = position == 0, position == len(self.weights) - 1
        if self.law == "orthogonal" or (self.law == "centred" and first):
            return Init("scaled_orthogonal", gain=_rounded(second_out / second_in))
        inputs = not first
        outputs = self.law == "mirrored" and not last
        rows, columns = rows // (1 + inputs), columns // (1 + outputs)
        # What a pair of opposite units hands on: phi(z) - phi(-z) = k z, or the difference of two units.
        slope = mirrors(self.entry)
        pair = slope**2 * self.point.q if self.law == "mirrored" else 2 * moments_of(self.entry, self.point.q).variance
        square = second_out / (pair if inputs else second_in) * max(1.0, columns / rows)
        sides = "both" if inputs and outputs else "in" if inputs else "out"
        return Init("mirrored", gain=_rounded(square), sides=sides)

    @property
    def warning(self) -> str:
        """What to tell the user where the law does not keep both signal and gradient; else empty."""
        depth = len(self.weights)
        if not self.point.holds(depth):
            return unheld(self.entry.name, depth, self.point.chi)
        if self.law == "centred" and sum(1 / each.fan_in for each in self.fans[1:]) > _UNEVEN:
            return (
                f"{depth} layers of {self.entry.name} are many for their width: chance errors multiply, and gradients "
                "of a single draw can be more than 4 times as large at one end as at the other (second moment). Wider "
                "layers, normalisation or residual connections would help."
            )
        return ""

    @property
    def growth(self) -> float:
        """By what a layer multiplies the squared norm of gradients, its activation included."""
        return 1.0 if self.law == "mirrored" else self.point.chi


def _rounded(square: float) -> float:
    return float(f"{math.sqrt(square):.6g}")


def _single(graph: Graph, index: int) -> int | None:
    """The only step that takes this one's output, seen through dropout; None if there are several or none."""
    while len(graph.users[index]) == 1 and index not in graph.info.outputs:
        index = graph.users[index][0]
        if graph.ops[index].kind != "dropout":
            return index
    return None


def _is_plain(graph: Graph, index: int) -> bool:
    op = graph.ops[index]
    if op.kind != "weight" or len(op.inputs) != 1 or len(graph.used_by[op.params[0]]) != 1:
        return False
    param = graph.params.get(op.params[0])
    return param is not None and param.role == "dense" and sorted(param.axes) == ["in", "out"] and param.gates == 1


def chains(graph: Graph) -> Iterator[Chain]:
    """The plain chains of a model that need more than independent normal weights."""
    taken: set[int] = set()
    for start in range(len(graph.ops)):
        if start in taken or not _is_plain(graph, start):
            continue
        weights, entry = [start], None
        while True:
            at = _single(graph, weights[-1])
            if at is None or graph.ops[at].kind != "activation":
                break
            found = _entry(graph, at)
            then = _single(graph, at)
            if found is None or then is None or not _is_plain(graph, then) or (entry is not None and found != entry):
                break
            entry = found
            weights.append(then)
        taken.update(weights)
        if entry is not None and len(weights) > 2:
            chain = _decided(graph, tuple(weights), entry)
            if chain is not None:
                yield chain


def _entry(graph: Graph, index: int) -> Activation | None:
    try:
        return activation_of(graph.ops[index])
    except FaninError:
        return None


def _decided(graph: Graph, weights: tuple[int, ...], entry: Activation) -> Chain | None:
    """The chain with its law, or None where independent normal weights do."""
    fans = tuple(fans_of(graph.params[graph.ops[index].params[0]]) for index in weights)
    depth = len(weights)
    kurtosis = 5 if rectifies(entry) else 2
    spread = sum(kurtosis / each.fan_in for each in fans[1:])
    plain = working_point(entry, depth, False)
    is_even = all(each.columns % 2 == 0 for each in fans[:-1])
    if plain.holds(depth) and (depth < _DEEP or (plain.q >= _SMALL and spread <= _SPREAD)):
        return None
    if mirrors(entry) and is_even:
        unit = 2.0 if plain.q > 1 else 1.0  # ReLU's output has second moment 1 at pre-activations of 2
        return Chain(weights, fans, entry, "mirrored", WorkingPoint(unit, unit, 1.0, 1.0, False))
    if plain.holds(depth):
        return Chain(weights, fans, entry, "orthogonal", plain) if spread > _SPREAD else None
    centred = working_point(entry, depth, True)
    if centred.centred and is_even:
        return Chain(weights, fans, entry, "centred", centred)
    return Chain(weights, fans, entry, "orthogonal", plain)
