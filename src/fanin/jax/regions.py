"""Normalisations and softmaxes that are written out as elementary steps: found by structure, proved by numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.jax.elementwise import ELEMENTWISE, SAME, evaluate
from fanin.jax.program import Node, Program

__all__ = ["Region", "find_regions"]

_ALLOWED = {
    *ELEMENTWISE, *SAME, "integer_pow", "reduce_sum", "reduce_max", "broadcast_in_dim", "reshape", "squeeze",
    "transpose", "expand_dims",
}  # fmt: skip
_LONGEST = 60
"""Steps of a region."""
_TRIED = 16
"""Places where a region may begin that are tried."""


@dataclass(frozen=True)
class Region:
    """Steps that are one step together.

    Attributes:
        kind: ``norm``, ``softmax``, or ``other`` for the logarithm of a softmax.
        name: The name within the kind.
        source, slot: The slots of its input and its output.
        members: The positions of its steps in the program.
        value: Of a softmax: how many shares sum to 1. Of a norm: the root mean square that it leaves.
    """

    kind: str
    name: str
    source: int
    slot: int
    members: frozenset[int]
    value: float


class _Graph:
    """A program's steps by the slots that they fill and use."""

    def __init__(self, program: Program, constants: Mapping[int, Any], hidden: frozenset[int]) -> None:
        self.program = program
        self.values = constants
        self.constant = frozenset(constants)
        self.hidden = hidden
        self.verdicts: dict[str, tuple[str, str, float] | None] = {}
        self.maker = {slot: at for at, node in enumerate(program.nodes) for slot in node.outputs}
        self.users: dict[int, set[int]] = {}
        for at, node in enumerate(program.nodes):
            for slot in node.inputs:
                self.users.setdefault(slot, set()).add(at)

    def node(self, at: int) -> Node:
        return self.program.nodes[at]

    def behind(self, start: int, source: int | None) -> tuple[frozenset[int], frozenset[int]]:
        """The steps that a step's output comes from, back to a source, and the slots at which they end otherwise."""
        steps, ends, pending = {start}, set(), [start]
        while pending and len(steps) <= _LONGEST:
            for slot in self.node(pending.pop()).inputs:
                if slot == source or slot in self.constant:
                    continue
                at = self.maker.get(slot)
                if at is None or at in self.hidden or self.node(at).primitive not in _ALLOWED:
                    ends.add(slot)
                elif at not in steps:
                    steps.add(at)
                    pending.append(at)
        return frozenset(steps), frozenset(ends if not pending else {-1})


def find_regions(program: Program, constants: Mapping[int, Any], hidden: frozenset[int]) -> dict[int, Region]:
    """The regions of a program, by the position of the last step of each.

    Args:
        program: The program.
        constants: The values of the slots that depend on no input and no parameter.
        hidden: Positions of steps that belong to something else.
    """
    graph = _Graph(program, constants, hidden)
    found: dict[int, Region] = {}
    taken: set[int] = set()
    for at, node in enumerate(program.nodes):
        if node.primitive not in ("mul", "div", "sub") or at in hidden or at in taken:
            continue
        region = _region_at(graph, at)
        if region is not None and not taken & region.members:
            found[at] = region
            taken |= region.members
    return found


def _region_at(graph: _Graph, at: int) -> Region | None:
    """The region that ends with a step, if there is one: the shortest that is proved, grown over further sums."""
    steps, ends = graph.behind(at, None)
    if not any(graph.node(step).primitive == "reduce_sum" for step in steps):
        return None
    slot = graph.node(at).outputs[0]
    size = graph.program.shapes[slot].size
    slots = {each for step in steps for each in graph.node(step).inputs} - graph.constant
    candidates = [each for each in slots | (ends - {-1}) if graph.program.shapes[each].size == size]
    candidates.sort(key=lambda each: graph.maker.get(each, -1), reverse=True)
    best: Region | None = None
    count = 0
    for source in candidates[:_TRIED]:
        members, open_ends = graph.behind(at, source)
        sums = [step for step in members if graph.node(step).primitive.startswith("reduce_")]
        if open_ends or not sums or (best is not None and len(sums) <= count) or not _is_closed(graph, members, slot):
            continue
        # The layers of a model are alike, so each kind of region is proved once.
        key = _signature(graph, members, source)
        if key not in graph.verdicts:
            graph.verdicts[key] = _verdict(graph, members, source, slot, sums)
        if (verdict := graph.verdicts[key]) is not None:
            kind, name, value = verdict
            best, count = Region(kind, name, source, slot, members, value), len(sums)
    return best


def _signature(graph: _Graph, members: frozenset[int], source: int) -> str:
    """A text that regions share which do the same to arrays of the same shape."""
    shapes, names, lines = graph.program.shapes, {source: "x"}, [str(graph.program.shapes[source])]
    for step in sorted(members):
        node = graph.node(step)
        given = [names[slot] if slot in names else repr(np.asarray(graph.values[slot])) for slot in node.inputs]
        names[node.outputs[0]] = f"_{len(lines)}"
        lines.append(f"{node.primitive} {dict(node.params)} {given} {shapes[node.outputs[0]]}")
    return "\n".join(lines)


def _is_closed(graph: _Graph, members: frozenset[int], slot: int) -> bool:
    """Whether nothing outside uses what the steps compute on the way."""
    inner = {each for step in members for each in graph.node(step).outputs} - {slot}
    used = any(graph.users.get(each, set()) - members for each in inner)
    return not used and not inner.intersection(graph.program.outputs)


def _verdict(
    graph: _Graph, members: frozenset[int], source: int, slot: int, sums: Sequence[int]
) -> tuple[str, str, float] | None:
    """Kind, name and value of the region, if what the steps do to random numbers proves it to be one."""
    shape = tuple(graph.program.shapes[source].shape)
    wide = [step for step in sums if tuple(graph.program.shapes[graph.node(step).inputs[0]].shape) == shape]
    if not wide or shape != tuple(graph.program.shapes[slot].shape):
        return None
    axes = tuple(int(axis) for axis in graph.node(min(wide)).params["axes"])
    count = int(np.prod([shape[axis] for axis in axes]))
    if count < 2:
        return None
    # Numbers of two sizes, because only what normalises gives the same for both.
    results = [_result(graph, members, source, slot, shape, size) for size in (1.0, 3.0)]
    if graph.node(max(members)).primitive == "sub":
        shares = all(np.allclose(np.exp(result).sum(axes), 1, atol=1e-6) for result in results)
        return ("other", "log_softmax", float(count)) if shares else None
    totals = np.array([result.sum(axes) for result in results])
    if min(result.min() for result in results) >= 0 and np.allclose(totals, 1, atol=1e-6):
        return "softmax", "", float(count)
    second = np.array([np.square(result).mean(axes) for result in results])
    if not np.allclose(second, second.mean(), rtol=1e-2) or not second.mean() > 0:
        return None
    rms = float(np.sqrt(second.mean()))
    name = _norm_name(axes, len(shape)) if np.allclose(totals / count, 0, atol=1e-6 * rms) else "rms"
    return "norm", name, 1.0 if abs(rms - 1) < 1e-2 else rms


def _result(
    graph: _Graph, members: frozenset[int], source: int, slot: int, shape: tuple[int, ...], size: float
) -> NDArray[np.float64]:
    """What the steps make of random numbers of a size."""
    values: dict[int, Any] = {source: size * np.random.default_rng(0).normal(0.7, 1.3, shape)}
    for step in sorted(members):
        node = graph.node(step)
        arguments = [values[each] if each in values else np.asarray(graph.values[each]) for each in node.inputs]
        values[node.outputs[0]] = evaluate(node.primitive, node.params, arguments)
    return np.asarray(values[slot], np.float64)


def _norm_name(axes: Sequence[int], ndim: int) -> str:
    """Which normalisation sums over these axes, where the batch is the first axis and the features are the last."""
    if 0 in axes:
        return "batch"
    if tuple(sorted(axes)) == tuple(range(ndim - len(axes), ndim)):
        return "layer"
    return "group" if ndim - 1 in axes else "instance"
