"""Put what ran together to the steps that a user knows: weights with their biases, composed activations."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from fanin.keras.layouts import Reading, path_of, variables_of
from fanin.keras.pointwise import IDENTITY, OPERATIONS, Expression, apply, function_name, settle
from fanin.keras.readers import READERS, View, turned
from fanin.keras.recorder import Known, Record
from fanin.records import Axis, Op

__all__ = ["Step", "Steps", "assemble"]


@dataclass(frozen=True, eq=False)
class Step:
    """A step as a user sees it, and where its value is found.

    Attributes:
        value: The symbolic tensor, the variable or the array that is the step's output.
        plain: For a weight, its output without the bias.
        variables: The parameters of the step.
    """

    op: Op
    value: Any
    plain: Any = None
    variables: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a model; see `Trace` for what they are."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    readings: Mapping[int, Reading]
    notes: tuple[str, ...]


def assemble(model: keras.Model, inputs: Sequence[Any], records: Sequence[Record], returned: Sequence[Any]) -> Steps:
    """Read what ran.

    Args:
        model: What ran.
        inputs, returned: The symbolic tensors that it was given and gave.
        records: All that it did, in order.
    """
    first = _Assembly(model, frozenset())
    first.read_all(inputs, records, returned)
    # A value that something else takes as well is a step of its own: functions of each element go up to it.
    final = _Assembly(model, frozenset(first.asked))
    outputs = final.read_all(inputs, records, returned)
    alive = _alive(final.drafts, outputs)
    notes = [final.drafts[old].note() for old in alive if final.drafts[old].kind == "other"]
    return Steps(
        tuple(final.drafts[old].finish(alive) for old in alive),
        tuple(alive[each] for each in outputs),
        final.readings,
        tuple(dict.fromkeys(notes)),
    )


def _alive(steps: Sequence["_Draft"], outputs: Sequence[int]) -> dict[int, int]:
    """The inputs and the steps that an output depends on: from old numbers to new ones."""
    needed: set[int] = set()
    waiting = [*outputs, *(number for number, step in enumerate(steps) if step.kind == "input")]
    while waiting:
        at = waiting.pop()
        if at not in needed:
            needed.add(at)
            waiting.extend(steps[at].inputs)
    return {old: new for new, old in enumerate(sorted(needed))}


@dataclass
class _Draft:
    """A step that may still get its bias."""

    kind: str
    inputs: tuple[int, ...]
    value: Any
    place: str = ""
    name: str = ""
    number: float = 1.0
    function: Any = None
    variables: tuple[Any, ...] = ()
    params: tuple[str, ...] = ()
    plain: Any = None
    units: frozenset[int] | None = None
    reason: str = ""

    def note(self) -> str:
        """That it was not understood, and why."""
        return f"{self.place or 'The model'}: {self.name} is not understood{self.reason and ': '}{self.reason}."

    def finish(self, number: Mapping[int, int]) -> Step:
        """The step with its inputs under their final numbers."""
        inputs = tuple(number[each] for each in self.inputs)
        op = Op(
            self.kind, inputs, tuple(self.value.shape), self.params, self.place, self.name, float(self.number),
            self.function,
        )  # fmt: skip
        return Step(op, self.value, self.plain, self.variables)


@dataclass
class _Assembly:
    """Puts records together to steps.

    Attributes:
        barriers: Keys of values that functions of each element are not composed across.
        asked: Keys of values that were asked for as inputs of steps.
    """

    model: keras.Model
    barriers: frozenset[int]
    drafts: list[_Draft] = field(default_factory=list)
    readings: dict[int, Reading] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._paths = {id(variable): path for path, variable in variables_of(self.model).items()}
        self._index: dict[int, int] = {}
        self._same: dict[int, Any] = {}
        self._views: dict[int, View] = {}
        self._expressions: dict[int, tuple[Any, Expression, str]] = {}
        self._users: Counter[int] = Counter()

    def read_all(self, inputs: Sequence[Any], records: Sequence[Record], returned: Sequence[Any]) -> tuple[int, ...]:
        """Read all records; the steps of what the model returns."""
        for value in inputs:
            whole = "float" not in str(value.dtype)
            self._put(_Draft("input", (), value, name="index" if whole else ""))
        used = [value for each in records for value in keras.tree.flatten((each.args, dict(each.kwargs)))]
        self._users = Counter(id(value) for value in (*used, *returned))
        for each in records:
            self._read(each)
        return tuple(self._number(value) for value in returned)

    def _resolve(self, value: Any) -> Any:
        """The value behind one that is the same."""
        while id(value) in self._same:
            value = self._same[id(value)]
        return value

    def _put(self, draft: _Draft) -> int:
        self.drafts.append(draft)
        self._index[id(draft.value)] = len(self.drafts) - 1
        return len(self.drafts) - 1

    def _number(self, value: Any) -> int:
        """The step whose output a value is; made where there is none yet."""
        value = self._resolve(value)
        self.asked.add(id(value))
        if id(value) in self._index:
            return self._index[id(value)]
        view = self._views.get(id(value))
        if view is not None or isinstance(value, keras.Variable):
            return self._parameter(value, view.variable if view is not None else value)
        if id(value) not in self._expressions:
            return self._put(_Draft("constant", (), value))
        source, expression, place = self._expressions[id(value)]
        at = self._number(source)
        kind, name, number, function = settle(expression)
        if kind == "same":
            self._index[id(value)] = at
            return at
        return self._put(_Draft(kind, (at,), value, place, name, number, function))

    def _parameter(self, value: Any, variable: Any) -> int:
        """A variable used as a value; what is not trained is made by the model."""
        if id(variable) not in self._paths:
            return self._put(_Draft("constant", (), value))
        return self._put(_Draft("param", (), value, variables=(variable,), params=(self._paths[id(variable)],)))

    def _read(self, each: Record) -> None:
        """One record: what its layer says, or a change of layout, or a function of each element, or by its reader."""
        name = type(each.operation).__name__
        if each.known is not None:
            self._known(each, each.known)
            return
        source = next((v for v in keras.tree.flatten(each.args) if hasattr(v, "shape")), None)
        view = self.view(source) if source is not None and len(each.outputs) == 1 else None
        moved = turned(each, view) if view is not None else None
        if moved is not None:
            self._views[id(each.outputs[0])] = moved
        elif name in ("Cast", "ConvertToTensor", "Copy", "StopGradient"):
            self._same[id(each.outputs[0])] = source
        elif name in OPERATIONS and self._composed(each):
            pass
        elif name in READERS:
            try:
                READERS[name](self, each)
            except (AttributeError, LookupError, TypeError, ValueError) as error:  # called as nobody foresaw
                self._unread(each, f"{type(error).__name__}: {error}")
        else:
            self._unread(each, "")

    def _unread(self, each: Record, reason: str) -> None:
        """An operation that no table knows, or that was called in a way that its reader does not know."""
        tensors = [value for value in keras.tree.flatten((each.args, dict(each.kwargs))) if hasattr(value, "shape")]
        for output in range(len(each.outputs)):
            self.emit(each, "other", tensors, name=function_name(type(each.operation).__name__), output=output)
            self.drafts[-1].reason = reason

    def _known(self, each: Record, known: Known) -> None:
        """What a layer said about its step."""
        if known.kind == "same":
            self._same[id(each.outputs[0])] = each.signals[0]
            return
        if known.kind == "pointwise":
            assert known.expression is not None, "a function of each element comes with it"
            kind, name, number, function = settle(known.expression)
            at = self._number(each.signals[0])
            paths = tuple(self._path(variable) for variable in known.variables)
            kind = "activation" if kind == "same" else kind
            self._put(_Draft(
                kind, (at,), each.outputs[0], each.place, name or known.expression.text, number, function,
                known.variables, paths,
            ))  # fmt: skip
            return
        for output in range(len(each.outputs)):
            if each.outputs[output] is not None:
                self.emit(
                    each, known.kind, each.signals, name=known.name, value=known.value, variables=known.variables,
                    output=output,
                )  # fmt: skip
                self.drafts[-1].reason = known.reason

    def _composed(self, each: Record) -> bool:
        """Whether it is a function of each element of one signal; then it waits for someone to ask for it."""
        operands: list[Expression | float] = []
        sources: dict[int, Any] = {}
        for value in (*each.args, *each.kwargs.values()):
            number = _number_of(value, self)
            if number is not None:
                operands.append(number)
                continue
            if not hasattr(value, "shape"):
                return False
            source, expression = self._resolve(value), IDENTITY
            if id(source) in self._expressions and id(source) not in self.barriers:
                source, expression, _ = self._expressions[id(source)]
            sources[id(source)] = source
            operands.append(expression)
        if len(sources) != 1:
            return False
        (source,) = sources.values()
        if tuple(source.shape) != tuple(each.outputs[0].shape):
            return False
        self._expressions[id(each.outputs[0])] = (source, apply(each.operation, operands), each.place)
        return True

    def _path(self, variable: Any) -> str:
        return self._paths.get(id(variable)) or path_of(self.model, variable)

    def emit(
        self, record: Record, kind: str, inputs: Sequence[Any], *, name: str = "", value: float = 1.0,
        variables: Sequence[Any] = (), output: int = 0, units: frozenset[int] | None = None,
    ) -> None:  # fmt: skip
        """A step; see `Builder`."""
        numbers = tuple(self._number(each) for each in inputs if hasattr(each, "shape"))
        paths = tuple(self._path(variable) for variable in variables)
        tensor = record.outputs[output]
        plain = tensor if kind == "weight" else None
        self._put(_Draft(
            kind, numbers, tensor, record.place, name, value, None, tuple(variables), paths, plain, units
        ))  # fmt: skip

    def view(self, value: Any) -> View | None:
        """The variable that a value is, or None; see `Builder`."""
        value = self._resolve(value)
        if id(value) in self._views:
            return self._views[id(value)]
        return View(value, tuple(range(len(value.shape)))) if isinstance(value, keras.Variable) else None

    def learn(self, view: View, axes: Sequence[Axis], role: str, groups: int = 1) -> None:
        """How a variable's axes are used; see `Builder`."""
        assert view.axes is not None, "only views that keep their axes are learnt from"
        own = tuple(axis for _, axis in sorted(zip(view.axes, axes, strict=True))) if axes else ()
        self.readings.setdefault(id(view.variable), Reading(own, role, 1, groups))

    def add_bias(self, record: Record, signal: Any, shift: Any) -> bool:
        """Make a sum a part of the weight before it, if it is one with its bias; see `Builder`."""
        signal, view = self._resolve(signal), self.view(shift)
        draft = self.drafts[self._index[id(signal)]] if id(signal) in self._index else None
        if view is None or draft is None or draft.units is None or draft.value is not signal:
            return False
        if len(draft.params) != 1 or self._users[id(signal)] != 1 or id(view.variable) not in self._paths:
            return False
        rank, shape = len(signal.shape), tuple(shift.shape)
        if any(size > 1 and rank - len(shape) + i not in draft.units for i, size in enumerate(shape)):
            return False
        index = self._index[id(signal)]
        draft.value = record.outputs[0]
        draft.variables = (*draft.variables, view.variable)
        draft.params = (*draft.params, self._path(view.variable))
        self._index[id(draft.value)] = index
        self.readings.setdefault(id(view.variable), Reading((), "bias"))
        return True


def _number_of(value: Any, assembly: _Assembly) -> float | None:
    """A number: of Python, or an array with one element that is no parameter."""
    if isinstance(value, bool | int | float):
        return float(value)
    if not hasattr(value, "shape") or isinstance(value, keras.KerasTensor) or assembly.view(value) is not None:
        return None
    if math.prod(value.shape) != 1:
        return None
    return float(np.asarray(keras.ops.convert_to_numpy(value)).reshape(()))
