"""Elementwise steps of a trace: chains on one signal, sums and products of two, biases and multipliers."""

import math

import numpy as np

from fanin.jax.elementwise import ELEMENTWISE, IDENTITY, SAME, Function, compose
from fanin.jax.program import Node
from fanin.jax.reading import Const, Index, Reading, Signal, Value, View

__all__ = ["pointwise"]

_MASKED = -1e4
"""What is added to a score that shall not count is at most this."""


def pointwise(reading: Reading, node: Node) -> bool:
    """Read one elementwise step; False if it is none."""
    if node.primitive not in ELEMENTWISE and node.primitive not in (*SAME, "integer_pow"):
        return False
    values = [reading.values[slot] for slot in node.inputs]
    if any(isinstance(value, View) for value in values) and _with_parameter(reading, node, values):
        return True
    for slot, value in zip(node.inputs, values, strict=True):
        if isinstance(value, View):
            reading.values[slot] = value = Signal(reading.realise(slot, reading.place(node)))  # noqa: PLW2901
        elif isinstance(value, Signal) and value.function is not IDENTITY and reading.escapes(slot):
            reading.realise(slot)
    values = [reading.values[slot] for slot in node.inputs]
    if node.primitive in SAME and reading.is_fresh(node.inputs[0]) and reading.is_floating(node.outputs[0]):
        reading.extend(node.inputs[0], node.outputs[0])
        return True
    sources = {value.op for value in values if isinstance(value, Signal)}
    numbers = [value.number for value in values if isinstance(value, Const)]
    plain = None not in numbers and not any(isinstance(value, Index) for value in values)
    if len(sources) == 1 and plain:
        return _chain(reading, node, values, sources.pop())
    return _of_several(reading, node, values)


def _chain(reading: Reading, node: Node, values: list[Value], source: int) -> bool:
    """One more step on one signal; the division of a sum by its count makes it a mean."""
    inputs: list[Function | float] = []
    for value in values:
        inputs.append(value.function if isinstance(value, Signal) else value.number)  # type: ignore
    draft = reading.drafts[source]
    if draft.kind == "sum" and node.primitive in ("mul", "div"):
        number = next((each for each in inputs if isinstance(each, float)), 0.0)
        slot = next(slot for slot, value in zip(node.inputs, values, strict=True) if isinstance(value, Signal))
        share = number if node.primitive == "mul" else 1 / number if number else 0.0
        if reading.is_fresh(slot) and abs(share * draft.value - 1) < 1e-5:
            reading.extend(slot, node.outputs[0]).kind = "mean"
            return True
    function = compose(node.primitive, node.params, inputs)
    if function is None:
        return False
    reading.hold(node.outputs[0], Signal(source, function, reading.place(node)))
    return True


# --------------------------------------------------------------------------------------------------- parameters
def _with_parameter(reading: Reading, node: Node, values: list[Value]) -> bool:
    """A step on a parameter that keeps it one, or joins it to the step before."""
    side = next(side for side, value in enumerate(values) if isinstance(value, View))
    view = values[side]
    assert isinstance(view, View)
    if len(values) != 2:
        return False
    other = values[1 - side]
    if isinstance(other, Const) and other.number is not None:
        number = other.number
        if node.primitive == "mul" or (node.primitive == "div" and side == 0 and number):
            factor = number if node.primitive == "mul" else 1 / number
            reading.hold(node.outputs[0], View(view.path, view.axes, view.factor * factor))
            return True
    if isinstance(other, Signal) and view.factor == 1 and reading.is_fresh(node.inputs[1 - side]):
        return _joined(reading, node, view, node.inputs[1 - side])
    return False


def _joined(reading: Reading, node: Node, view: View, slot: int) -> bool:
    """A bias joins its weight, a scale and a shift join their normalisation."""
    value = reading.values[slot]
    assert isinstance(value, Signal)
    draft = reading.drafts[value.op]
    joins = (
        node.primitive == "add" and draft.kind == "weight" and len(draft.params) == 1 and _is_bias(reading, view, slot)
    ) or (
        draft.kind == "norm" and _is_bias(reading, view, slot)
        and (node.primitive, len(draft.params)) in (("mul", 0), ("add", 1))
    )  # fmt: skip
    if joins:
        draft.params = (*draft.params, view.path)  # before it is extended, so that the core stays without a bias
        role = "norm" if draft.kind == "norm" else "bias"
        reading.found.setdefault(view.path, ((), role, 1))
        reading.extend(slot, node.outputs[0])
    return joins


def _is_bias(reading: Reading, view: View, slot: int) -> bool:
    """Whether a parameter has one number for each unit of what it is added to."""
    param = reading.params[view.path]
    sizes = [size for size in param.shape if size > 1]
    shape = reading.shape(slot)
    return param.role == "bias" or (len(sizes) == 1 and math.prod(sizes) == shape[-1] == param.shape[-1])


# ----------------------------------------------------------------------------------------------- several signals
def _of_several(reading: Reading, node: Node, values: list[Value]) -> bool:
    """A step on two signals, or on a signal and an array of constants."""
    output, place = node.outputs[0], reading.place(node)
    roots = [value.op for value in values if isinstance(value, Signal | Index)]
    if not reading.is_floating(output):
        reading.hold(output, Index(roots[0], node.primitive))
        return True
    moving = [slot for slot, value in zip(node.inputs, values, strict=True) if not isinstance(value, Const)]
    if node.primitive == "select_n" and _selected(reading, node, values):
        return True
    if node.primitive in ("add", "sub", "add_any") and _is_masking(values):
        reading.emit("move", (reading.realise(moving[0], place),), output, place=place)
        return True
    if node.primitive == "div" and len(moving) == 1 and _is_counted(reading, node, values):
        return True
    inputs = tuple(
        value.op if isinstance(value, Index) else reading.realise(slot, place)
        for slot, value in zip(node.inputs, values, strict=True)
    )
    kinds = {"add": ("add", ""), "add_any": ("add", ""), "sub": ("add", "sub"), "mul": ("mul", "")}
    index = next((value for value in values if isinstance(value, Index)), None)
    named = index.name if node.primitive in SAME and index is not None else node.primitive
    kind, name = kinds.get(node.primitive, ("other", named))
    reading.emit(kind, inputs, output, place=place, name=name)
    return True


def _selected(reading: Reading, node: Node, values: list[Value]) -> bool:
    """A mask: one signal where it holds, a number elsewhere."""
    branches = [
        slot for slot, value in zip(node.inputs[1:], values[1:], strict=True)
        if not (isinstance(value, Const) and value.number is not None)
    ]  # fmt: skip
    masked = isinstance(values[0], Const | Index | Signal) and len(branches) == 1
    if masked and isinstance(reading.values[branches[0]], Signal):
        place = reading.place(node)
        reading.emit("move", (reading.realise(branches[0], place),), node.outputs[0], place=place)
        return True
    return False


def _is_masking(values: list[Value]) -> bool:
    """Whether one of two summands is a constant of zeros and of numbers that put scores out of play."""
    constants = [np.asarray(value.value, np.float64) for value in values if isinstance(value, Const)]
    return len(constants) == 1 and bool(((constants[0] == 0) | (constants[0] <= _MASKED)).all())


def _is_counted(reading: Reading, node: Node, values: list[Value]) -> bool:
    """The division of sums by how many each has, as pools do that do not count their padding."""
    slot, value = node.inputs[0], values[0]
    if not (isinstance(value, Signal) and reading.is_fresh(slot) and reading.drafts[value.op].kind == "sum"):
        return False
    counts = np.asarray(values[1].value, np.float64) if isinstance(values[1], Const) else np.zeros(1)
    if not (counts.min() >= 1 and counts.max() <= reading.drafts[value.op].value):
        return False
    draft = reading.extend(slot, node.outputs[0])
    draft.kind, draft.value = "mean", float(counts.mean())
    return True
