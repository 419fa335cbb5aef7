"""How large a signal and its gradient are at each step of a model, predicted from its weights' variances.

Mean-field theory for wide layers: second moments only, weights independent of each other and of the signal.
Where the outcome depends on the data (pooling, attention) the signal is taken to be the same everywhere, the
largest that it can be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fanin.activations import ACTIVATIONS, Activation, activation
from fanin.errors import FaninError
from fanin.recipes.graph import Graph
from fanin.records import Op
from fanin.theory.maps import Moments, correlation_map, moments

__all__ = ["RECURRENT", "Signal", "activation_of", "backward", "forward", "moments_of", "prepared", "rectifies"]

RECURRENT = {"lstm": 0.06, "gru": 0.2, "rnn_tanh": 0.4, "rnn_relu": 1.0}
"""Second moment of a recurrent layer's states after some steps on inputs of second moment 1."""
_POSITIONS = 0.5
"""Second moment of sines and cosines, which is what tables of positions that no one learns hold."""
_FAR = 50.0
"""Where an activation has become a straight line."""


@dataclass(frozen=True)
class Signal:
    """What is known of a step's output.

    Attributes:
        second: Its second moment.
        rectified: Whether an activation that cuts off negative numbers came last.
        common: The share of the second moment that is the same for all inputs, such as ReLU's mean makes.
    """

    second: float
    rectified: bool = False
    common: float = 0.0


@lru_cache(maxsize=256)
def _custom(op_function: Callable[..., object]) -> Activation:
    return activation(op_function)


def activation_of(op: Op) -> Activation:
    """The activation of a step.

    Raises:
        FaninError: If it is a function that has no mean square.
    """
    return ACTIVATIONS[op.name] if op.name in ACTIVATIONS else _custom(op.function or op.name)


@lru_cache(maxsize=4096)
def moments_of(entry: Activation, q: float) -> Moments:
    """`fanin.theory.maps.moments`, remembered."""
    return moments(entry, q)


def forward(
    graph: Graph, weight: Callable[[int, Sequence[Signal]], float], value: Callable[[int, Signal], float]
) -> list[Signal]:
    """The output of each step, in order.

    Args:
        graph: The model.
        weight: From a weight step and all signals so far to the variance of its weights times their number for
            one unit.
        value: From a step whose first parameter is used as a value, and the signal that meets it, to the second
            moment of the parameter's entries.
    """
    signals: list[Signal] = []
    ready = prepared(graph.ops)
    for index, op in enumerate(graph.ops):
        inputs = [signals[source] for source in op.inputs]
        if ready[index]:
            signals.append(Signal(1.0))
        elif op.kind == "weight":
            second = weight(index, signals)
            for each in inputs:
                second *= each.second
            signals.append(Signal(second, common=inputs[0].common))
        elif op.kind in ("param", "lookup"):
            other = _beside(graph, index, signals)
            signals.append(Signal(value(index, other or Signal(1.0))))
        elif op.kind == "norm":
            common = 0.0 if op.name == "batch" else inputs[0].common
            signals.append(Signal(value(index, inputs[0]) if op.params else 1.0, common=common))
        else:
            signals.append(_PLAIN.get(op.kind, _first)(graph, index, inputs))
    return signals


def prepared(ops: Sequence[Op]) -> tuple[bool, ...]:
    """For each step whether it is an input as the model itself scales and shifts it.

    Inputs are taken to have second moment 1. A model that divides pixels by 255 is given pixels, and it is the outcome
    that is to have it.

    Example:
        >>> prepared([Op("input", ()), Op("scale", (0,), value=1 / 255), Op("weight", (1,)), Op("scale", (2,))])
        (True, True, False, False)
    """
    found: list[bool] = []
    for op in ops:
        own = [source for source in op.inputs if ops[source].kind != "constant"]
        passes = op.kind in ("scale", "move") or (op.kind in ("add", "mul") and len(op.inputs) == 2) or _is_straight(op)
        found.append(op.kind == "input" or (passes and len(own) == 1 and found[own[0]]))
    return tuple(found)


def _is_straight(op: Op) -> bool:
    """Whether an activation is a scale and a shift, as of pixels to -1 to 1."""
    if op.kind != "activation" or op.function is None:
        return False
    low, middle, high = np.asarray(op.function(np.array([-_FAR, 0.0, _FAR])), np.float64)
    return bool(np.isclose(middle - low, high - middle, rtol=1e-6, atol=0))


def _beside(graph: Graph, index: int, signals: Sequence[Signal]) -> Signal | None:
    """The signal that a parameter is added to, multiplied with or put beside, where it is known already."""
    for user in graph.users[index]:
        for source in graph.ops[user].inputs:
            if source < index and graph.live[source]:
                return signals[source]
    return None


_Step = Callable[[Graph, int, list[Signal]], Signal]


def _first(_: Graph, __: int, inputs: list[Signal]) -> Signal:
    return inputs[0] if inputs else Signal(1.0)


def _constant(_: Graph, __: int, ___: list[Signal]) -> Signal:
    return Signal(_POSITIONS)


def _activation(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    op = graph.ops[index]
    try:
        entry = activation_of(op)
        if inputs[0].rectified and rectifies(entry):  # what is positive already passes
            return inputs[0]
        second, common = moments_of(entry, inputs[0].second).second, _common(entry, inputs[0])
        return Signal(second, rectifies(entry), common)
    except FaninError:
        return inputs[0]


@lru_cache(maxsize=1024)
def _common(entry: Activation, given: Signal) -> float:
    """The share of an activation's second moment that is the same for all inputs: the cosine of two of them."""
    return correlation_map(entry, min(1.0, given.common), given.second, 1.0)


def rectifies(entry: Activation) -> bool:
    """Whether it passes large positive numbers on and cuts off negative ones, as ReLU and GELU do."""
    return abs(float(entry.phi(-_FAR))) < 1 and abs(float(entry.phi(_FAR)) - _FAR) < 1


def _add(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    skips = {residual.add: residual.skip for residual in graph.residuals}
    main = graph.ops[index].inputs.index(skips[index]) if index in skips else 0
    second = sum(each.second for each in inputs)
    common = sum(each.common * each.second for each in inputs) / second if second else 0.0
    return Signal(second, bool(inputs) and inputs[main].rectified and index in skips, common)


def _mul(_: Graph, __: int, inputs: list[Signal]) -> Signal:
    product = 1.0
    for each in inputs:
        product *= each.second
    return Signal(product, any(each.rectified for each in inputs))


def _scale(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    return replace(inputs[0], second=inputs[0].second * graph.ops[index].value ** 2)


def _sum(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    return Signal(inputs[0].second * graph.ops[index].value)


def _concat(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    sizes = [_elements(graph.ops[source]) for source in graph.ops[index].inputs]
    total = sum(size * each.second for size, each in zip(sizes, inputs, strict=True))
    return Signal(total / max(1, sum(sizes)), all(each.rectified for each in inputs))


def _softmax(graph: Graph, index: int, _: list[Signal]) -> Signal:
    return Signal(graph.ops[index].value ** -2 if graph.ops[index].value else 1.0, True)


def _attention(_: Graph, __: int, inputs: list[Signal]) -> Signal:
    return Signal(inputs[-1].second)


def _matmul(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    """Of shares and values: their mean. Of two signals: a sum of products."""
    for position, source in enumerate(graph.ops[index].inputs):
        behind = (source, *graph.comes_from(source)) if graph.ops[source].inputs else (source,)
        if any(graph.ops[each].kind == "softmax" for each in behind) or not graph.live[source]:
            return inputs[1 - position]
    return Signal(inputs[0].second * inputs[-1].second * graph.ops[index].value)


def _recurrent(graph: Graph, index: int, inputs: list[Signal]) -> Signal:
    return Signal(RECURRENT.get(graph.ops[index].name, inputs[0].second if inputs else 1.0))


_PLAIN: Mapping[str, _Step] = {
    "activation": _activation, "add": _add, "attention": _attention, "concat": _concat, "constant": _constant,
    "matmul": _matmul, "mul": _mul, "recurrent": _recurrent, "scale": _scale, "softmax": _softmax, "sum": _sum,
}  # fmt: skip
"""What the steps without parameters do to second moments; all others pass their first input on."""


def backward(graph: Graph, signals: Sequence[Signal], weights: Mapping[int, float]) -> list[float]:
    """The squared norm of the gradient at each step's output, relative to that at the model's outputs.

    Args:
        graph: The model.
        signals: From `forward`.
        weights: For each weight step the variance of its weights times their number for one unit. One unit's
            gradient reaches as many inputs as it has, so this is by what a layer multiplies the squared norm.
    """
    norms = [0.0] * len(graph.ops)
    for index in reversed(range(len(graph.ops))):
        op = graph.ops[index]
        if index in graph.info.outputs:
            norms[index] += 1.0
        for position, source in enumerate(op.inputs):
            norms[source] += norms[index] * _slope(graph, index, position, signals, weights)
    return norms


def _slope(graph: Graph, index: int, position: int, signals: Sequence[Signal], weights: Mapping[int, float]) -> float:
    """By what a step multiplies the squared norm of a gradient on its way to one of its inputs."""
    op = graph.ops[index]
    inputs = [signals[source] for source in op.inputs]
    match op.kind:
        case "weight":
            return weights.get(index, 1.0)
        case "norm":
            # Batch normalisation takes off what all inputs have in common before it divides (Yang et al. 2019).
            own = inputs[0].second * (1 - (inputs[0].common if op.name == "batch" else 0.0))
            return signals[index].second / own if own > 0 else 0.0
        case "activation":
            return _activation_slope(op, inputs[0])
        case "scale":
            return op.value**2
        case "mul":
            product = 1.0
            for other, each in enumerate(inputs):
                product *= each.second if other != position else 1.0
            return product
        case "concat":
            sizes = [_elements(graph.ops[source]) for source in op.inputs]
            return sizes[position] / max(1, sum(sizes))
        case "attention":
            return 1.0 if position == len(inputs) - 1 else 0.0
        case "softmax" | "lookup":
            return 0.0
        case _:
            return 1.0


def _activation_slope(op: Op, given: Signal) -> float:
    try:
        entry = activation_of(op)
        if given.rectified and rectifies(entry):
            return 1.0
        return moments_of(entry, given.second).slope_second
    except FaninError:
        return 1.0


def _elements(op: Op) -> int:
    count = 1
    for size in op.shape[1:]:
        count *= size
    return count
