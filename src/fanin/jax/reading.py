"""The state of reading a trace: what each slot holds, and the steps of the model found so far."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from fanin.jax.elementwise import ELEMENTWISE, IDENTITY, SAME, Function, named
from fanin.jax.program import Node
from fanin.jax.tracing import Trace
from fanin.records import Axis, Op, ParamInfo

__all__ = ["Const", "Draft", "Index", "Reading", "Signal", "Value", "View"]


@dataclass(frozen=True)
class Const:
    """A value that depends on no input and no parameter."""

    value: Any

    @property
    def number(self) -> float | None:
        """The number that all its elements are; None if they differ."""
        array = np.asarray(self.value)
        if array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating):
            return None
        if not array.size or array.min() != array.max():
            return float(array.flat[0]) if array.size and np.isnan(array.astype(np.float64)).all() else None
        # The shortest text of a float32 is what the user wrote: 0.1 rather than 0.10000000149.
        return float(str(array.flat[0])) if array.dtype.kind == "f" else float(array.flat[0])


@dataclass(frozen=True)
class View:
    """A parameter in another shape.

    Attributes:
        axes: For each axis of the view, the axes of the parameter that it is made of.
        factor: A number that it was multiplied with.
    """

    path: str
    axes: tuple[frozenset[int], ...]
    factor: float = 1.0


@dataclass(frozen=True)
class Signal:
    """A function of each element of what a step computes, put together in this place of the model."""

    op: int
    function: Function = IDENTITY
    place: str = ""


@dataclass(frozen=True)
class Index:
    """Whole numbers or truth values that come from a step: positions, masks."""

    op: int
    name: str


Value = Const | View | Signal | Index


@dataclass
class Draft:
    """A step that may still take in what follows it, such as its bias.

    Attributes:
        slot: Where its output is.
        core: Of a weight: where its output without a bias is.
    """

    kind: str
    inputs: tuple[int, ...]
    slot: int
    core: int
    params: tuple[str, ...]
    place: str
    name: str
    value: float
    function: Callable[[Any], Any] | None


@dataclass
class Reading:
    """A trace while it is read.

    Attributes:
        params: What the parameters mean, by path, without the trace.
        values: What the slots hold; at first, the constants.
        drafts: The steps so far.
        found: Axes and role of parameters that only the trace tells.
        views: For each parameter, the slots that hold it or a part of it.
    """

    trace: Trace
    params: Mapping[str, ParamInfo]
    values: dict[int, Value] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    found: dict[str, tuple[tuple[Axis, ...], str, int]] = field(default_factory=dict)
    views: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    uses: Counter[int] = field(default_factory=Counter)
    _realised: dict[int, int] = field(default_factory=dict)
    _origins: dict[int, int] = field(default_factory=dict)
    _users: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """From the constants alone: count uses, find the chains of elementwise steps, put parameters and inputs in."""
        program = self.trace.program
        self.uses.update(slot for node in program.nodes for slot in node.inputs)
        self.uses.update(program.outputs)
        for node in program.nodes:
            own = {self._origins.get(slot, slot) for slot in node.inputs if slot not in self.values}
            if (node.primitive in ELEMENTWISE or node.primitive in (*SAME, "integer_pow")) and len(own) == 1:
                self._origins[node.outputs[0]] = own.pop()
            for slot in node.inputs:
                self._users.setdefault(slot, []).append(node.outputs[0])
        for path, slot in self.trace.weights.items():
            self.hold(slot, View(path, tuple(frozenset({axis}) for axis in range(len(self.shape(slot))))))
        for slot in self.trace.examples:
            self.emit("input", (), slot)

    def shape(self, slot: int) -> tuple[int, ...]:
        """The shape of what a slot holds."""
        return tuple(self.trace.program.shapes[slot].shape)

    def is_floating(self, slot: int) -> bool:
        """Whether a slot holds real floating numbers."""
        return bool(jnp.issubdtype(self.trace.program.shapes[slot].dtype, jnp.floating))

    def place(self, node: Node) -> str:
        """The path of the innermost module around a step."""
        known = [self.trace.calls[number] for number, _ in node.calls if number in self.trace.calls]
        return known[-1].path if known else ""

    def module(self, node: Node) -> Any:
        """The innermost module around a step."""
        known = [self.trace.calls[number] for number, _ in node.calls if number in self.trace.calls]
        return known[-1].module if known else None

    def hold(self, slot: int, value: Value) -> None:
        """Say what a slot holds."""
        self.values[slot] = value
        if isinstance(value, View):
            self.views.setdefault(value.path, []).append(slot)

    def note(self, text: str) -> None:
        """Tell the user something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def emit(
        self,
        kind: str,
        inputs: Iterable[int],
        slot: int,
        *,
        params: tuple[str, ...] = (),
        place: str = "",
        name: str = "",
        value: float = 1.0,
        function: Callable[[Any], Any] | None = None,
    ) -> int:
        """One more step, whose output is in this slot; returns its index."""
        self.drafts.append(Draft(kind, tuple(inputs), slot, slot, params, place, name, value, function))
        if not isinstance(self.values.get(slot), View | Const):
            self.values[slot] = Signal(len(self.drafts) - 1)
        return len(self.drafts) - 1

    def realise(self, slot: int, place: str = "") -> int:
        """The index of the step whose output a slot holds; a pending one becomes a step now."""
        value = self.values[slot]
        if isinstance(value, Signal) and value.function is IDENTITY:
            return value.op
        if slot not in self._realised:
            self._realised[slot] = self._step(slot, value, place)
        return self._realised[slot]

    def _step(self, slot: int, value: Value, place: str) -> int:
        """Make a step of what a slot holds."""
        if isinstance(value, View):
            if self.params[value.path].axes and self.params[value.path].role != "embedding":
                self.note(f"{value.path} is changed before it multiplies a signal, so its own scale may not matter.")
            return self.emit("param", (), slot, params=(value.path,), place=place)
        if isinstance(value, Const):
            return self.emit("constant", (), slot, place=place)
        if isinstance(value, Index):
            return self.emit("other", (value.op,), slot, place=place, name=value.name)
        what, place = named(value.function), value.place
        if what.kind == "same":
            self.values[slot] = Signal(value.op)
            return value.op
        return self.emit(
            what.kind, (value.op,), slot, place=place, name=what.name, value=what.value, function=what.function
        )

    def is_fresh(self, slot: int) -> bool:
        """Whether a slot holds a step's whole output, which nothing else will use."""
        value = self.values[slot]
        pure = isinstance(value, Signal) and value.function is IDENTITY
        return pure and self.drafts[value.op].slot == slot and self.uses[slot] == 1  # type: ignore[union-attr]

    def escapes(self, slot: int) -> bool:
        """Whether a link of a chain of elementwise steps is used outside of the chain, too."""
        origin = self._origins.get(slot, slot)
        users = [self._origins.get(each) for each in self._users[slot]]
        return slot in self.trace.program.outputs or any(each != origin for each in users)

    def extend(self, slot: int, output: int) -> Draft:
        """Let the step whose output is in `slot` go on to `output`."""
        value = self.values[slot]
        assert isinstance(value, Signal)
        draft = self.drafts[value.op]
        draft.slot = output
        if len(draft.params) == 1:
            draft.core = output
        self.values[output] = Signal(value.op)
        return draft

    def learn(self, view: View, labels: list[Axis], role: str, groups: int = 1) -> None:
        """Remember what a view's axes say about those of its parameter, if that is not known."""
        said: dict[int, set[Axis]] = {}
        for axes, label in zip(view.axes, labels, strict=True):
            for axis in axes:
                said.setdefault(axis, set()).add(label)
        count = len(self.params[view.path].shape)
        if all(len(each) == 1 for each in said.values()):
            axes_ = tuple(next(iter(said.get(axis, {"batch"}))) for axis in range(count))
            self.found.setdefault(view.path, (axes_, role, groups))

    def size(self, slot: int) -> int:
        """How many elements a slot holds."""
        return math.prod(self.shape(slot))

    def ops(self) -> tuple[Op, ...]:
        """The steps found, as they travel."""
        return tuple(
            Op(each.kind, each.inputs, self.shape(each.slot), each.params, each.place, each.name, each.value,
               each.function)
            for each in self.drafts
        )  # fmt: skip
