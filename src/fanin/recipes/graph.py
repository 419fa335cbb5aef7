"""What a recipe needs to know of a model's steps: what follows a weight, residual branches, the trunk, the head."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fanin.records import ModelInfo, Op, ParamInfo

__all__ = ["Graph", "Residual", "carrying", "needed", "trunk"]

PASSING = ("move", "dropout", "max", "mean", "scale")
"""Steps through which a signal stays the same signal, though its size may change."""
_MAKING = ("add", "attention", "concat", "norm", "other", "recurrent", "weight")
"""Steps whose output has a size of its own."""
_SOURCES = ("input", "constant", "param")


@dataclass(frozen=True)
class Residual:
    """An addition of a branch to the signal that it branched from.

    Attributes:
        add: The addition.
        fork: Where the two parted: the last step that both come from.
        skip: The step that it adds the branch to.
        branch: The branch's last step.
        weights: The weight steps of the branch, in executed order.
        ends: The steps that set the size of the branch: its last weights, norms or multipliers.
        chain: How many residual additions lie on the longest way through this one.
    """

    add: int
    fork: int
    skip: int
    branch: int
    weights: tuple[int, ...]
    ends: tuple[int, ...]
    chain: int


def carrying(ops: Sequence[Op]) -> tuple[bool, ...]:
    """For each step whether it carries the signal: whether it depends on an input."""
    found: list[bool] = []
    for op in ops:
        found.append(op.kind == "input" or any(found[source] for source in op.inputs))
    return tuple(found)


def needed(ops: Sequence[Op], ends: Iterable[int]) -> set[int]:
    """The steps that some steps depend on, and these themselves.

    Example:
        >>> sorted(needed([Op("input", ()), Op("param", ()), Op("move", (0,)), Op("add", (0, 1))], [3]))
        [0, 1, 3]
    """
    waiting, found = list(ends), set[int]()
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting.extend(ops[at].inputs)
    return found


class Graph:
    """The steps of a described model, with what can be asked about them; computed when first asked."""

    def __init__(self, info: ModelInfo):
        self.info = info
        self.ops = info.ops
        self.params: dict[str, ParamInfo] = {param.path: param for param in info.params}

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """For each step the steps that take its output."""
        found: list[list[int]] = [[] for _ in self.ops]
        for index, op in enumerate(self.ops):
            for source in dict.fromkeys(op.inputs):
                found[source].append(index)
        return tuple(map(tuple, found))

    @cached_property
    def used_by(self) -> dict[str, tuple[int, ...]]:
        """For each parameter the steps that use it."""
        found: dict[str, list[int]] = {}
        for index, op in enumerate(self.ops):
            for path in op.params:
                found.setdefault(path, []).append(index)
        return {path: tuple(indices) for path, indices in found.items()}

    @cached_property
    def live(self) -> tuple[bool, ...]:
        """Whether a step carries the signal."""
        return carrying(self.ops)

    @cached_property
    def _ancestors(self) -> tuple[int, ...]:
        """For each step a bit set of the live steps that it depends on, itself included."""
        found: list[int] = []
        for index, op in enumerate(self.ops):
            bits = 1 << index if self.live[index] else 0
            for source in op.inputs:
                bits |= found[source]
            found.append(bits)
        return tuple(found)

    def _weights_from(self, fork: int, end: int) -> int:
        """The fewest weights on a way to `end` from any step of the bit set `fork`."""
        fewest: dict[int, int] = {}
        for index in range(end + 1):
            if not self._ancestors[end] >> index & 1:
                continue
            if fork >> index & 1:
                fewest[index] = 0
                continue
            known = [fewest[source] for source in self.ops[index].inputs if source in fewest]
            if known:
                fewest[index] = min(known) + (self.ops[index].kind in ("weight", "recurrent"))
        return fewest.get(end, 0)

    @cached_property
    def residuals(self) -> tuple[Residual, ...]:
        """The residual additions, in executed order.

        An addition is residual if one of its inputs comes through fewer weights from what both have in common.
        """
        found: dict[int, tuple[int, int]] = {}
        for index, op in enumerate(self.ops):
            if op.kind != "add" or len(op.inputs) != 2 or op.inputs[0] == op.inputs[1]:
                continue
            left, right = op.inputs
            common = self._ancestors[left] & self._ancestors[right]
            if not any(self.ops[each].kind not in _SOURCES for each in _bits(common)) and not self._float_input(common):
                continue
            of_left, of_right = self._weights_from(common, left), self._weights_from(common, right)
            if of_left != of_right:
                found[index] = (left, right) if of_left < of_right else (right, left)
        before = self._longest(found, forward=True)
        after = self._longest(found, forward=False)
        return tuple(
            self._residual(add, skip, branch, before[add] + after[add] - 1) for add, (skip, branch) in found.items()
        )

    def _residual(self, add: int, skip: int, branch: int, chain: int) -> Residual:
        own = self._ancestors[branch] & ~self._ancestors[skip]
        fork = max(_bits(self._ancestors[skip] & self._ancestors[branch]))
        # Only what ran since the fork: a memory that the branch attends to was made before.
        weights = tuple(each for each in _bits(own) if each > fork and self.ops[each].kind == "weight")
        return Residual(add, fork, skip, branch, weights, tuple(dict.fromkeys(self._ends(branch))), chain)

    def _float_input(self, bits: int) -> bool:
        return any(self.ops[each].kind == "input" and self.ops[each].name != "index" for each in _bits(bits))

    def _longest(self, counted: dict[int, tuple[int, int]], *, forward: bool) -> list[int]:
        """For each step the most counted steps on a way that ends (or begins) with it."""
        most = [0] * len(self.ops)
        for index in range(len(self.ops)) if forward else reversed(range(len(self.ops))):
            near = self.ops[index].inputs if forward else self.users[index]
            most[index] = max((most[each] for each in near), default=0) + (index in counted)
        return most

    def _ends(self, index: int) -> Iterator[int]:
        """The steps back from the end of a branch that set its size."""
        op = self.ops[index]
        sized = op.kind == "weight" or (op.kind == "norm" and bool(op.params))
        if sized or (op.kind == "mul" and any(self.ops[each].kind == "param" for each in op.inputs)):
            yield index
        elif op.kind in ("matmul", "mul", "attention"):
            yield from (end for source in self._valued(op) for end in self._ends(source))
        elif op.kind in (*PASSING, "activation", "add", "norm", "concat", "sum"):
            yield from (end for source in op.inputs for end in self._ends(source))

    def _valued(self, op: Op) -> tuple[int, ...]:
        """Of a product's inputs those that carry its size: no shares, no gates, of an attention the values."""
        if op.kind == "attention":
            return op.inputs[-1:]
        sizes = [source for source in op.inputs if not self._is_share(source)]
        return tuple(sizes or op.inputs)

    def _is_share(self, index: int) -> bool:
        """Whether a step's numbers are shares or gates, made by a softmax or another activation."""
        while self.ops[index].kind in PASSING:
            index = self.ops[index].inputs[0]
        return self.ops[index].kind in ("softmax", "activation")

    @cached_property
    def runs(self) -> tuple[int, ...]:
        """For each step how many weights lie on the longest way through it without a norm or a residual addition."""
        resets = {each.add for each in self.residuals}
        resets |= {index for index, op in enumerate(self.ops) if op.kind in ("norm", "recurrent", "attention")}
        before, after = [0] * len(self.ops), [0] * len(self.ops)
        for index, op in enumerate(self.ops):
            so_far = max((before[each] for each in op.inputs), default=0)
            before[index] = 0 if index in resets else so_far + (op.kind == "weight")
        for index in reversed(range(len(self.ops))):
            to_come = max((after[each] for each in self.users[index] if each not in resets), default=0)
            after[index] = to_come + (self.ops[index].kind == "weight")
        return tuple(
            before[index] + after[index] - (op.kind == "weight") for index, op in enumerate(self.ops)
        )  # fmt: skip

    def _passes(self, index: int) -> bool:
        """Whether a step only passes its signal on; multiplying with a constant matrix mixes positions at most."""
        op = self.ops[index]
        mixes = op.kind == "matmul" and not all(self.live[source] for source in op.inputs)
        return mixes or op.kind in (*PASSING, "concat")

    def follows(self, index: int) -> tuple[int, ...]:
        """The steps that a step's output reaches, seen through those that only pass it on.

        An index of -1 stands for the model's output.
        """
        found: list[int] = []
        waiting = [index]
        seen = {index}
        while waiting:
            at = waiting.pop()
            if at in self.info.outputs:
                found.append(-1)
            for user in self.users[at]:
                if user in seen:
                    continue
                seen.add(user)
                if self._passes(user):
                    waiting.append(user)
                else:
                    found.append(user)
        return tuple(dict.fromkeys(found))

    def comes_from(self, index: int) -> tuple[int, ...]:
        """The steps behind a step's inputs, seen through those that only pass a signal on."""
        found: list[int] = []
        waiting = list(reversed(self.ops[index].inputs))
        while waiting:
            at = waiting.pop()
            if self._passes(at):
                waiting.extend(reversed(self.ops[at].inputs))
            else:
                found.append(at)
        return tuple(dict.fromkeys(found))

    @cached_property
    def heads(self) -> frozenset[int]:
        """The weight steps whose output is the model's, but for a softmax, a sigmoid or the like behind it."""
        return frozenset(
            index for index, op in enumerate(self.ops)
            if op.kind == "weight" and self._leads_out(index)
        )  # fmt: skip

    def bottlenecks(self, source: int) -> Iterator[int]:
        """The steps that every way from one input to the outputs passes through."""
        reaches = [False] * len(self.ops)
        for index in reversed(range(len(self.ops))):
            reaches[index] = index in self.info.outputs or any(reaches[user] for user in self.users[index])
        furthest = source
        for index in range(source, len(self.ops)):
            if not (reaches[index] and self._ancestors[index] >> source & 1):
                continue
            if index >= furthest and index != source:
                yield index
            furthest = max([furthest, *(user for user in self.users[index] if reaches[user])])

    def _leads_out(self, index: int) -> bool:
        after = self.follows(index)
        return bool(after) and all(
            each == -1 or (self.ops[each].kind in ("softmax", "activation") and self._leads_out(each)) for each in after
        )


def _bits(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, rising."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def trunk(info: ModelInfo) -> tuple[int, ...]:
    """The steps that make a signal anew and that every way from an input to the outputs passes, before the head.

    These are where a signal has to keep its size: inner steps of a branch may be small on purpose, an output may
    be small, too, and an activation changes the size of what the next weight makes up for.

    Example:
        >>> ops = (Op("input", (), (1, 3)), Op("weight", (0,), (1, 2)), Op("activation", (1,), (1, 2), name="relu"),
        ...        Op("weight", (2,), (1, 2)))
        >>> trunk(ModelInfo("torch", (), ops, outputs=(3,)))
        (1,)
    """
    graph = Graph(info)
    before_head = max(graph.heads, default=len(info.ops))
    found: set[int] = set()
    for index, op in enumerate(info.ops):
        if op.kind == "input":
            found.update(graph.bottlenecks(index))
    return tuple(sorted(i for i in found if i < before_head and info.ops[i].kind in _MAKING))
