"""From a trace to the steps of a model in the words of `fanin.records.OPS`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanin.jax.elementwise import evaluate
from fanin.jax.layers import NORMS, cell_of, group_of, is_layer, recurrent_order
from fanin.jax.models import ATTENTION
from fanin.jax.pointwise import pointwise
from fanin.jax.program import PREFIX, Node
from fanin.jax.reading import Const, Draft, Index, Reading, Signal, View
from fanin.jax.regions import Region, find_regions
from fanin.jax.tracing import Trace
from fanin.jax.views import moved_view
from fanin.records import Axis, ParamInfo

__all__ = ["read_trace"]

_Calls = tuple[int, int]
_PASSED = {"sharding_constraint", "optimization_barrier", "pvary"}
_MOVED = {
    "reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "rev", "dynamic_slice", "gather",
    "pad", "split", "take_layer", "sort",
}  # fmt: skip
"""Primitives that put the values of their first input elsewhere."""
_LARGEST_CONSTANT = 1 << 26
"""Elements of a constant that is still computed."""


def read_trace(trace: Trace, params: Mapping[str, ParamInfo]) -> Reading:
    """Read a trace.

    Args:
        trace: The traced model.
        params: What its parameters mean, as far as their modules tell.
    """
    nodes = trace.program.nodes
    groups = _groups(trace)
    hidden = frozenset(at for members in groups.values() for at in members)
    constants = _constants(trace, hidden)
    reading = Reading(trace, params, {slot: Const(value) for slot, value in constants.items()})
    regions = find_regions(trace.program, constants, hidden)
    skipped = {at for region in regions.values() for at in region.members}
    first = {members[0]: key for key, members in groups.items()}
    for at, node in enumerate(nodes):
        if at in first:
            _group(reading, first[at], [nodes[each] for each in groups[first[at]]])
        elif at in regions:
            _region(reading, regions[at], node)
        elif at not in hidden and at not in skipped:
            _step(reading, node)
    for slot in trace.program.outputs:
        reading.realise(slot)
    return reading


def _constants(trace: Trace, hidden: frozenset[int]) -> dict[int, Any]:
    """The values of the slots that depend on no input and no parameter, but for those inside of groups."""
    varying = {*trace.weights.values(), *trace.examples}
    known = {slot: value for slot, value in trace.values.items() if slot not in varying}
    shapes = trace.program.shapes
    for at, node in enumerate(trace.program.nodes):
        small = sum(shapes[slot].size for slot in node.outputs) <= _LARGEST_CONSTANT
        if at in hidden or not small or not all(slot in known for slot in node.inputs):
            continue
        arguments = [known[slot] for slot in node.inputs]
        plain = not any(jnp.issubdtype(shapes[slot].dtype, jax.dtypes.extended) for slot in node.inputs)
        result = evaluate(node.primitive, node.params, [np.asarray(each) for each in arguments]) if plain else None
        if result is None:
            known.update(zip(node.outputs, node.apply(*arguments), strict=True))
        else:
            known[node.outputs[0]] = np.asarray(result).astype(shapes[node.outputs[0]].dtype)
    return known


# ------------------------------------------------------------------------------------------------------- groups
def _groups(trace: Trace) -> dict[_Calls, list[int]]:
    """The positions of the steps inside each call that is one step as a whole."""
    kinds = {
        number: call.module if isinstance(call.module, str) else group_of(call.module)
        for number, call in trace.calls.items()
    }
    found: dict[_Calls, list[int]] = {}
    for at, node in enumerate(trace.program.nodes):
        outermost = next((call for call in node.calls if kinds.get(call[0])), None)
        if outermost is not None:
            found.setdefault(outermost, []).append(at)
    return found


def _group(reading: Reading, key: _Calls, nodes: list[Node]) -> None:
    """All steps of one call as one step of the model."""
    call = reading.trace.calls[key[0]]
    made = {slot for node in nodes for slot in node.outputs}
    outside = list(dict.fromkeys(slot for node in nodes for slot in node.inputs if slot not in made))
    inner = {slot: sum(slot in node.inputs for node in nodes) for slot in made}
    results = [slot for slot in made if reading.uses[slot] > inner[slot]]
    signals = [slot for slot in outside if isinstance(reading.values[slot], Signal | Index)]
    if call.module == ATTENTION:
        marks = [node for node in nodes if node.params.get("name") == f"{PREFIX}{key[0]}"]
        signals = [node.inputs[0] for node in marks] or signals
    paths = {value.path: None for slot in outside for value in (reading.values[slot],) if isinstance(value, View)}
    kind, name, value, params, function = _meaning(reading, call.module, call.path, tuple(paths))
    if not results:
        return
    results.sort(key=lambda slot: (-reading.size(slot), slot))
    inputs = tuple(reading.realise(slot, call.path) for slot in signals)
    main = reading.emit(
        kind, inputs, results[0], params=params, place=call.path, name=name, value=value, function=function
    )
    for slot in results[1:]:
        reading.emit("move", (main,), slot, place=call.path, name="state")


_Meaning = tuple[str, str, float, tuple[str, ...], Callable[[Any], Any] | None]


def _meaning(reading: Reading, module: Any, path: str, params: tuple[str, ...]) -> _Meaning:
    """Kind, name, value, parameters and function of the step that a whole call is."""
    kind = ATTENTION if module == ATTENTION else group_of(module)
    if kind == "norm":
        name = next(name for each, name in NORMS.items() if isinstance(module, each))
        ordered = tuple(sorted(params, key=lambda each: each.endswith("/bias")))
        if ordered and ordered[0].endswith("/bias"):
            reading.note(f"{path}: the shift of a normalisation without a scale is left out.")
            ordered = ()
        return kind, name, 1.0, ordered, None
    if kind == "dropout":
        return kind, "", float(module.rate), (), None
    if kind == "activation":
        slope = float(np.asarray(reading.trace.values[reading.trace.weights[params[0]]]).flat[0])
        return kind, f"leaky_relu({slope:.6g})", 1.0, params, lambda z: np.where(np.asarray(z) > 0, z, slope * z)
    if kind == "recurrent":
        cell = cell_of(getattr(module, "cell", module)) or type(module).__name__
        if cell not in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            reading.note(f"{path}: the recurrent cell {cell} is not known.")
            return "other", cell, 1.0, params, None
        return kind, cell, 1.0, tuple(sorted(params, key=recurrent_order)), None
    return kind, "", 1.0, params, None


def _region(reading: Reading, region: Region, node: Node) -> None:
    """Steps that were recognised as a normalisation or a softmax."""
    place = reading.place(node)
    source = reading.realise(region.source, place)
    if region.kind != "norm":
        reading.emit(region.kind, (source,), region.slot, place=place, name=region.name, value=region.value)
        return
    norm = reading.emit("norm", (source,), region.slot, place=place, name=region.name)
    if region.value != 1:
        reading.emit("scale", (norm,), region.slot, place=place, value=region.value)


# -------------------------------------------------------------------------------------------------------- steps
def _step(reading: Reading, node: Node) -> None:
    """One elementary step."""
    values = [reading.values[slot] for slot in node.inputs]
    if all(slot in reading.values for slot in node.outputs):  # computed already, because it depends on nothing
        return
    if node.primitive in _PASSED:
        for slot, output in zip(node.inputs, node.outputs, strict=True):
            reading.hold(output, reading.values[slot])
        return
    if isinstance(values[0], View) and all(isinstance(value, Const) for value in values[1:]):
        shape = reading.shape(node.inputs[0])
        views = [moved_view(values[0], node, shape, reading.shape(slot)) for slot in node.outputs]
        if None not in views and not (node.primitive == "gather" and values[0].path in _tables(reading)):
            for slot, view in zip(node.outputs, views, strict=True):
                reading.hold(slot, view)  # type: ignore[arg-type]
            return
    if pointwise(reading, node) or (node.primitive in _RULES and _RULES[node.primitive](reading, node)):
        return
    if node.primitive in _MOVED:
        _move(reading, node)
        return
    _other(reading, node)


def _tables(reading: Reading) -> set[str]:
    return {path for path, param in reading.params.items() if param.role == "embedding"}


def _other(reading: Reading, node: Node) -> None:
    """A step that nothing is known about."""
    place = reading.place(node)
    values = {slot: reading.values[slot] for slot in node.inputs}
    sources = [slot for slot, value in values.items() if isinstance(value, Signal | Index)]
    if not any(reading.is_floating(slot) for slot in node.outputs) and sources:
        for slot in node.outputs:
            reading.hold(slot, Index(_root(reading, sources[0]), node.primitive))
        return
    params = tuple(dict.fromkeys(value.path for value in values.values() if isinstance(value, View)))
    inputs = tuple(reading.realise(slot, place) for slot in sources)
    if node.primitive in ("scan", "while", "cond", "pallas_call", "custom_call"):
        reading.note(f"{place or 'the model'}: what happens inside of {node.primitive} is not read.")
    for slot in (slot for slot in node.outputs if reading.uses[slot]):
        if reading.is_floating(slot) or not inputs:
            reading.emit("other", inputs, slot, params=params, place=place, name=node.primitive)
        else:
            reading.hold(slot, Index(inputs[0], node.primitive))


def _root(reading: Reading, slot: int) -> int:
    """The step that a value comes from."""
    value = reading.values[slot]
    return value.op if isinstance(value, Signal | Index) else reading.realise(slot)


def _move(reading: Reading, node: Node) -> None:
    """The same values elsewhere: part of the weight or the move before it, or a step of its own."""
    slot, place = node.inputs[0], reading.place(node)
    if not reading.is_floating(slot):
        for output in node.outputs:
            reading.hold(output, Index(_root(reading, slot), node.primitive))
        return
    source = reading.realise(slot, place)
    draft, inside = reading.drafts[source], is_layer(reading.module(node))
    if len(node.outputs) == 1 and reading.is_fresh(slot) and _takes_in(draft, node, inside, place):
        reading.extend(slot, node.outputs[0])
    elif inside:
        reading.hold(node.outputs[0], Signal(source))
    else:
        for output in (output for output in node.outputs if reading.uses[output]):
            reading.emit("move", (source,), output, place=place)


def _takes_in(draft: Draft, node: Node, inside: bool, place: str) -> bool:
    """Whether a move belongs to the step before it."""
    if draft.kind == "weight":
        plain = len(draft.params) == 1 and node.primitive == "transpose"  # as `einsum` does after its product
        return (inside and draft.place == place) or plain
    kept = node.primitive in ("reshape", "squeeze", "expand_dims") or (draft.kind == "move") or _only_ones(node)
    return draft.kind in ("move", "sum", "max", "mean") and draft.place == place and not draft.name and kept


def _only_ones(node: Node) -> bool:
    """Whether a broadcast adds axes of size 1 alone, as `keepdims` does."""
    if node.primitive != "broadcast_in_dim":
        return False
    kept = node.params["broadcast_dimensions"]
    return all(size == 1 for axis, size in enumerate(node.params["shape"]) if axis not in kept)


# ---------------------------------------------------------------------------------------------- products, lookups
def _dot(reading: Reading, node: Node) -> bool:
    """A product: of a signal with a parameter, or of two signals."""
    (left, right), (left_batch, right_batch) = node.params["dimension_numbers"]
    place = reading.place(node)
    values = [reading.values[slot] for slot in node.inputs]
    summed = math.prod(reading.shape(node.inputs[0])[axis] for axis in left)
    sides = [side for side in (1, 0) if isinstance(values[side], View)]
    if not sides:
        inputs = tuple(reading.realise(slot, place) for slot in node.inputs[:2])
        reading.emit("matmul", inputs, node.outputs[0], place=place, value=float(summed))
        return True
    side = sides[0]
    view = values[side]
    assert isinstance(view, View)
    contracted, batched = ((left, left_batch), (right, right_batch))[side]
    labels: list[Axis] = [
        "in" if axis in contracted else "batch" if axis in batched else "out" for axis in range(len(view.axes))
    ]
    reading.learn(view, labels, "dense")
    _weigh(reading, node, node.inputs[1 - side], view, 1.0)
    return True


def _weigh(reading: Reading, node: Node, signal: int, view: View, value: float) -> None:
    """A weight's step; a number that the weight was multiplied with is one after it."""
    place, output = reading.place(node), node.outputs[0]
    weight = reading.emit(
        "weight", (reading.realise(signal, place),), output, params=(view.path,), place=place, value=value
    )
    if view.factor != 1:
        reading.emit("scale", (weight,), output, place=place, value=view.factor)


def _ragged(reading: Reading, node: Node) -> bool:
    """A product of rows with the experts that they were sent to."""
    view = reading.values[node.inputs[1]]
    if not isinstance(view, View):
        return False
    reading.learn(view, ["batch", "in", "out"], "dense")
    _weigh(reading, node, node.inputs[0], view, 1.0)
    return True


def _conv(reading: Reading, node: Node) -> bool:
    """A convolution with a parameter."""
    view = reading.values[node.inputs[1]]
    if not isinstance(view, View):
        return False
    numbers, groups = node.params["dimension_numbers"], node.params["feature_group_count"]
    dilation = math.prod(node.params["lhs_dilation"])
    labels: list[Axis] = ["spatial"] * len(view.axes)
    labels[numbers.rhs_spec[0]], labels[numbers.rhs_spec[1]] = "out", "in"
    depthwise = groups > 1 and groups == reading.shape(node.inputs[0])[numbers.lhs_spec[1]]
    role = "transposed_conv" if dilation > 1 else "depthwise" if depthwise else "conv"
    reading.learn(view, labels, role, groups)
    _weigh(reading, node, node.inputs[0], view, 1 / dilation)
    return True


def _gather(reading: Reading, node: Node) -> bool:
    """Rows of a parameter, chosen by an input; anything else that is gathered is moved."""
    view = reading.values[node.inputs[0]]
    if not isinstance(view, View):
        return False
    if len(view.axes) == 2:
        reading.learn(view, ["batch", "out"], "embedding")
    source = _root(reading, node.inputs[1])
    reading.emit("lookup", (source,), node.outputs[0], params=(view.path,), place=reading.place(node))
    return True


def _concat(reading: Reading, node: Node) -> bool:
    """Values side by side; beside zeros alone, a padded signal."""
    if not reading.is_floating(node.outputs[0]):
        return False
    place = reading.place(node)
    values = {slot: reading.values[slot] for slot in node.inputs}
    kept = [slot for slot in node.inputs if not (isinstance(v := values[slot], Const) and v.number == 0)]
    inputs = tuple(reading.realise(slot, place) for slot in kept)
    if is_layer(reading.module(node)) and len(set(inputs)) == 1:
        reading.hold(node.outputs[0], Signal(inputs[0]))
    else:
        reading.emit("move" if len(inputs) == 1 else "concat", inputs, node.outputs[0], place=place)
    return True


# ---------------------------------------------------------------------------------------------------- reductions
def _reduction(kind: str) -> Callable[[Reading, Node], bool]:
    """The rule for sums or maxima over axes."""

    def rule(reading: Reading, node: Node) -> bool:
        """A sum or a maximum over axes."""
        if not reading.is_floating(node.outputs[0]):
            return False
        count = math.prod(reading.shape(node.inputs[0])[axis] for axis in node.params["axes"])
        _reduce(reading, node, kind, count)
        return True

    return rule


def _reduce(reading: Reading, node: Node, kind: str, count: int) -> None:
    """A step that makes one number of `count`."""
    slot, place = node.inputs[0], reading.place(node)
    source = reading.realise(slot, place)
    own = reading.drafts[source].kind == "weight" and reading.drafts[source].place == place
    if own and is_layer(reading.module(node)) and reading.is_fresh(slot):
        reading.extend(slot, node.outputs[0])  # a transposed convolution that wraps around adds up its ends
        return
    reading.emit(kind, (source,), node.outputs[0], place=place, value=float(count))


def _window(kind: str) -> Callable[[Reading, Node], bool]:
    """The rule for sums or maxima over windows."""

    def rule(reading: Reading, node: Node) -> bool:
        """A sum or a maximum over the window of a pool."""
        _reduce(reading, node, kind, math.prod(node.params["window_dimensions"]))
        return True

    return rule


def _any_window(reading: Reading, node: Node) -> bool:
    """A pool whose inner program is one sum or one maximum."""
    inner = [eqn.primitive.name for eqn in node.params["jaxpr"].eqns]
    kinds = {"add": "sum", "max": "max"}
    return len(inner) == 1 and inner[0] in kinds and _window(kinds[inner[0]])(reading, node)


_RULES: Mapping[str, Callable[[Reading, Node], bool]] = {
    "dot_general": _dot,
    "ragged_dot": _ragged,
    "ragged_dot_general": _ragged,
    "conv_general_dilated": _conv,
    "gather": _gather,
    "concatenate": _concat,
    "stack_layers": _concat,
    "reduce_sum": _reduction("sum"),
    "reduce_max": _reduction("max"),
    "reduce_window_sum": _window("sum"),
    "reduce_window_max": _window("max"),
    "reduce_window": _any_window,
}
"""How steps that are not elementwise are read; a rule that does not apply says False."""
