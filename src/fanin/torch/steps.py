"""From readings of single values to the steps of a model: what matters, in executed order, each thing once."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fanin.records import Op
from fanin.torch.readings import Reader, Reading
from fanin.torch.record import Value, values_in
from fanin.torch.replay import composed, linear_factor, name_of, text_of

__all__ = ["Steps"]


class Steps:
    """The values that a model's outputs depend on, and what each is.

    Attributes:
        values: In executed order.
        readings: By value.
        outputs: What the model returns.
        moved_from: Of a move, what came right before it, though the steps may leave that out.

    Args:
        reader: Has read all values that lead to the outputs.
        outputs: What the model returns.
    """

    def __init__(self, reader: Reader, outputs: Sequence[Value]):
        self.reader = reader
        self.readings = reader.readings
        self.outputs = list(dict.fromkeys(outputs))
        self.moved_from: dict[Value, Value] = {}
        self._factors: dict[Value, float | None] = {}
        self.values = self._alive()
        for tidy in (self._shorten_chains, self._fold_parameters, self._drop_masks, self._join_moves):
            tidy()
            self.values = self._alive()

    def _alive(self) -> list[Value]:
        found, waiting = set(self.outputs), list(self.outputs)
        while waiting:
            for each in self.reader.read(waiting.pop()).inputs:
                if each not in found:
                    found.add(each)
                    waiting.append(each)
        return sorted(found, key=lambda value: value.index)

    def takers(self) -> dict[Value, list[Value]]:
        """For each value, those that take it."""
        found: dict[Value, list[Value]] = {each: [] for each in self.values}
        for value in self.values:
            for each in self.readings[value].inputs:
                found[each].append(value)
        return found

    # ----------------------------------------------------------------------------------------------- chains
    def _shorten_chains(self) -> None:
        """Let a chain begin at the last value of it that is needed anyway."""
        alive = set(self.values)
        for value in self.values:
            reading = self.readings[value]
            if reading.root is None:
                continue
            ends = self._ends(value, reading.root, alive)
            if len(ends) == 1:
                (reading.root,) = ends
                reading.inputs = [reading.root]

    def _ends(self, value: Value, root: Value, alive: set[Value]) -> set[Value]:
        """Where a walk back along a chain first meets values that are needed."""
        ends: set[Value] = set()
        waiting, seen = [value], {value}
        while waiting:
            call = waiting.pop().call
            for each in values_in([call.args, call.kwargs]) if call is not None else ():
                if each is root or (each in alive and each.floating):
                    ends.add(each)
                elif each not in seen and (each.signal or each.learned):
                    waiting.append(each)
                seen.add(each)
        return ends

    # ----------------------------------------------------------------------------------- biases and scales
    def _fold_parameters(self) -> None:
        """Let a weight have the bias that is added to it, a norm the scale and the shift that follow it."""
        takers = self.takers()

        def before(value: Value) -> Value | None:
            """What was cast or turned into this value, if nothing else takes anything on the way."""
            while takers.get(value, ()) and len(takers[value]) == 1 and value not in self.outputs:
                reading = self.readings[value]
                if reading.kind != "move" or reading.inputs[0].shape != value.shape:
                    return value
                value = reading.inputs[0]
            return None

        for value in self.values:
            reading = self.readings[value]
            if reading.kind not in ("add", "mul") or len(reading.inputs) != 2 or reading.name:
                continue
            for signal, other in (reading.inputs, reading.inputs[::-1]):
                source = self.reader.source(other)
                main = before(signal) if source is not None and source.scale == 1 and other.size > 1 else None
                if main is None or source is None or main.shape != value.shape:
                    continue
                made = self.readings[main]
                if _takes(made, reading.kind, main, other):
                    self.readings[value] = Reading(
                        made.kind, made.inputs, [*made.params, source.param], made.name, made.value, slot=made.slot,
                    )  # fmt: skip
                    break

    # ------------------------------------------------------------------------------------------------ masks
    def _drop_masks(self) -> None:
        """A constant added to what a softmax is taken of hides some of it, and changes nothing else."""
        for value in self.values:
            if self.readings[value].kind != "softmax":
                continue
            waiting = deque(self.readings[value].inputs)
            seen: set[Value] = set()
            while waiting:
                each = waiting.popleft()
                if each in seen:
                    continue
                seen.add(each)
                reading = self.readings[each]
                if reading.kind == "add":
                    signals = [part for part in reading.inputs if self.readings[part].kind != "constant"]
                    if len(signals) == 1:
                        self.readings[each] = Reading("move", signals, name="mask")
                    waiting.extend(signals)
                elif reading.kind in ("move", "scale", "dropout"):
                    waiting.extend(reading.inputs)

    def _join_moves(self) -> None:
        """Let several moves in a row be one."""
        for value in self.values:
            reading = self.readings[value]
            if reading.root is not None:
                self._factors[value] = linear_factor(composed(value, reading.root))
                if self._factors[value] == 1:
                    self.readings[value] = reading = Reading("move", reading.inputs)
            if reading.kind == "move":
                self.moved_from[value] = reading.inputs[0]
            while reading.kind == "move" and self.readings[reading.inputs[0]].kind == "move":
                reading.inputs = self.readings[reading.inputs[0]].inputs

    # -------------------------------------------------------------------------------------------------- ops
    def ops(self, number: Callable[[str], float]) -> tuple[Op, ...]:
        """The steps in the words of the records.

        Args:
            number: From the path of a parameter to the mean of its values now.
        """
        at = {value: index for index, value in enumerate(self.values)}
        return tuple(self._op(value, tuple(at[each] for each in self.readings[value].inputs), number) for value in at)

    def _op(self, value: Value, inputs: tuple[int, ...], number: Callable[[str], float]) -> Op:
        reading = self.readings[value]
        kind, name, size = reading.kind, reading.name, float(reading.value)
        function: Callable[[Any], Any] | None = None
        if reading.root is not None:
            function = composed(value, reading.root)
            factor = self._factors[value]
            own = value.call.name if value.call is not None else ""
            if factor is not None:
                kind, size, function = "scale", factor, None
            else:
                name = name_of(function, own)
                name, function = (name, None) if name else (text_of(value, reading.root), function)
        elif name == "prelu":
            slope = number(reading.params[0].path)
            name, function = f"prelu({slope:.4g})", _leaky(slope)
        paths = tuple(dict.fromkeys(each.path for each in reading.params))
        return Op(kind, inputs, value.shape, paths, value.place, name, size, function)


def _leaky(slope: float) -> Callable[[Any], Any]:
    from fanin.activations import leaky_relu

    return leaky_relu(slope)


def _takes(made: Reading, kind: str, main: Value, other: Value) -> bool:
    """Whether a step can have one more parameter: a bias, a scale or a shift."""
    if made.kind == "weight" and kind == "add" and len(made.params) == 1 and made.slot is not None:
        kernel = made.slot.labels.count("spatial")
        return other.size == main.shape[len(main.shape) - 1 - kernel]
    return made.kind == "norm" and len(made.params) == (0 if kind == "mul" else 1)
