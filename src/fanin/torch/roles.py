"""What a run tells about parameters: axes of raw ones, and which weights belong to an attention."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fanin.records import Axis, ParamInfo
from fanin.torch.readings import MOVES, Reading, Slot
from fanin.torch.record import Call, Value, values_in
from fanin.torch.steps import Steps

__all__ = ["informed"]

_CASTS = {"to", "float", "half", "bfloat16", "double", "type", "type_as", "contiguous", "clone", "detach", "data",
          "cpu", "cuda", "requires_grad", "alias", "identity"}  # fmt: skip
"""Moves that leave the layout as it is."""
_THROUGH = ("move", "scale", "norm", "dropout")


def informed(params: tuple[ParamInfo, ...], steps: Steps) -> tuple[ParamInfo, ...]:
    """Parameters with what the steps tell about those whose layer is not known, and with the roles of attention."""
    facts: dict[str, ParamInfo] = {param.path: param for param in params}
    for value in steps.values:
        reading = steps.readings[value]
        slot = reading.slot
        if slot is not None:
            path = slot.source.param.path
            if facts[path].role == "unknown":
                facts[path] = _from_slot(facts[path], slot)
            shift = reading.params[1].path if len(reading.params) > 1 else None
            if shift is not None and facts[shift].role == "unknown":
                facts[shift] = replace(facts[shift], role="bias")
        for each in reading.params if reading.kind in _BY_KIND else ():
            if facts[each.path].role == "unknown":
                facts[each.path] = _BY_KIND[reading.kind](facts[each.path], reading)
    for group in _attentions(steps):
        for path, gates in group.gates(steps).items():
            if facts[path].role in ("dense", "conv"):
                facts[path] = replace(facts[path], role="attention", gates=max(gates, facts[path].gates))
    for value in steps.values:
        _pack_bias(steps.readings[value], facts)
    return tuple(facts[param.path] for param in params)


def _of_norm(param: ParamInfo, _: Reading) -> ParamInfo:
    return replace(param, role="norm")


def _of_cell(param: ParamInfo, reading: Reading) -> ParamInfo:
    """A raw parameter of a recurrent cell, which torch wants as (units of all gates, inputs)."""
    gates = _GATES[reading.name]
    if len(param.shape) == 1:
        return replace(param, role="bias", axes=("out",) if gates > 1 else (), gates=gates)
    return replace(param, role="recurrent", axes=("out", "in"), gates=gates)


_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_BY_KIND = {"norm": _of_norm, "recurrent": _of_cell}


def _pack_bias(reading: Reading, facts: dict[str, ParamInfo]) -> None:
    """The bias of a packed weight has its blocks."""
    if reading.kind != "weight" or len(reading.params) < 2:
        return
    weight, bias = (facts[each.path] for each in reading.params[:2])
    if weight.gates > 1 and weight.role == "attention" and bias.role == "bias" and len(bias.shape) == 1:
        facts[bias.path] = replace(bias, axes=("out",), gates=weight.gates)


# ------------------------------------------------------------------------------------------------------- axes
def _from_slot(param: ParamInfo, slot: Slot) -> ParamInfo:
    """A raw parameter, read from the place where it stands in a product."""
    axes = _axes(param.shape, slot)
    if axes is None:
        return param
    if slot.role == "transposed_conv" and slot.groups > 1:
        inputs, *rest = param.shape
        split = (slot.groups, inputs // slot.groups, *rest)
        return replace(param, axes=("batch", *axes), shape=split, role=slot.role)
    groups = slot.groups if slot.role in ("conv", "depthwise") else 1
    return replace(param, axes=axes, role=slot.role, groups=groups)


def _axes(shape: tuple[int, ...], slot: Slot) -> tuple[Axis, ...] | None:
    """The meaning of each axis of a parameter, followed through memory to the tensor that stands in a product.

    An axis of the parameter and one of the tensor belong together where their steps through memory overlap.
    """
    original = torch.empty(shape, device="meta")
    seen = _replayed(original, slot.source.moves)
    if seen is None or seen.dim() != len(slot.labels):
        return None
    places = list(zip(seen.stride(), seen.shape, slot.labels, strict=True))
    found: list[Axis] = []
    for step, size in zip(original.stride(), shape, strict=True):
        if size == 1:
            labels = {label for other, length, label in places if length == 1 and other == step}
        else:
            labels = {
                label for other, length, label in places
                if length > 1 and other < step * size and step < other * length
            }  # fmt: skip
        if len(labels) > 1:
            return None
        found.append(labels.pop() if labels else "batch")
    return tuple(found) if "in" in found or "out" in found else None


def _replayed(original: Tensor, moves: tuple[tuple[Call, Value], ...]) -> Tensor | None:
    """A tensor on the meta device after these moves, the last one first; None where one copies."""
    tensor = original
    for call, value in reversed(moves):
        if call.name in _CASTS:
            continue
        moved = _applied(tensor, call, value)
        if moved is None or moved.untyped_storage()._cdata != original.untyped_storage()._cdata:
            return None
        tensor = moved
    return tensor


def _applied(tensor: Tensor, call: Call, value: Value) -> Tensor | None:
    """What a move makes of another tensor in the place of its first."""
    main = next(values_in([call.args, call.kwargs]))
    args = [tensor if each is main else each for each in call.args]
    if any(True for _ in values_in([args, call.kwargs])):
        return None  # other tensors take part
    try:
        result = call.function(*args, **call.kwargs)
    except Exception:  # whatever torch raises: the layout is not known then
        return None
    parts = [result] if isinstance(result, Tensor) else [each for each in result if isinstance(each, Tensor)]
    return parts[value.part]


# -------------------------------------------------------------------------------------------------- attention
@dataclass(frozen=True)
class _Attention:
    """One attention: what it takes as queries, keys and values, and what it gives."""

    slots: tuple[Value, ...]
    result: Value

    def gates(self, steps: Steps) -> dict[str, int]:
        """The parameters that belong to it, each with how many of queries, keys and values it makes."""
        found: dict[str, int] = {}
        feeds: dict[Value, list[Value]] = {}
        for slot in self.slots:
            weight = _weight_before(slot, steps)
            if weight is not None:
                feeds.setdefault(weight, []).append(slot)
        for weight, slots in feeds.items():
            packed = len(slots) if len(slots) > 1 and _side_by_side(weight, slots, steps) else 1
            for each in steps.readings[weight].params[:1]:
                found[each.path] = max(packed, found.get(each.path, 1))
        for value in steps.values:
            reading = steps.readings[value]
            if reading.kind == "weight" and _back(reading.inputs[0], steps, ("move", "dropout")) is self.result:
                found.setdefault(reading.params[0].path, 1)
        return found


def _attentions(steps: Steps) -> Iterator[_Attention]:
    """Every attention of a model: torch's own, and those written as product, softmax, product."""
    for value in steps.values:
        reading = steps.readings[value]
        if reading.kind == "attention":
            yield _Attention(tuple(reading.inputs), value)
        elif reading.kind == "matmul":
            for shares, values in (reading.inputs, reading.inputs[::-1]):
                softmax = _back(shares, steps, ("move", "dropout", "scale"))
                if steps.readings[softmax].kind == "softmax":
                    scores = _scores(steps.readings[softmax].inputs[0], steps)
                    if scores is not None:
                        yield _Attention((*steps.readings[scores].inputs, values), value)
                    break


def _back(value: Value, steps: Steps, through: tuple[str, ...]) -> Value:
    """The value that another one is, before steps of these kinds."""
    while steps.readings[value].kind in through:
        value = steps.readings[value].inputs[0]
    return value


def _scores(value: Value, steps: Steps) -> Value | None:
    """The product of queries and keys that a softmax is taken of, scaled, masked or biased."""
    waiting, seen = [value], {value}
    while waiting:
        each = waiting.pop()
        reading = steps.readings[each]
        if reading.kind == "matmul":
            return each
        if reading.kind in ("move", "scale", "add", "dropout", "activation"):
            waiting += [part for part in reading.inputs if part not in seen]
            seen.update(reading.inputs)
    return None


def _weight_before(slot: Value, steps: Steps) -> Value | None:
    """The product with a weight that queries, keys or values come from."""
    value = _back(slot, steps, _THROUGH)
    while steps.readings[value].root is not None:  # scaled
        value = _back(steps.readings[value].inputs[0], steps, _THROUGH)
    return value if steps.readings[value].kind == "weight" else None


def _side_by_side(weight: Value, slots: list[Value], steps: Steps) -> bool:
    """Whether the parts of a weight's output are equal blocks, one beside the other along its units."""
    reading = steps.readings[weight]
    if reading.slot is None:
        return False
    kernel = reading.slot.labels.count("spatial")
    whole = torch.empty(weight.shape, device="meta")
    step, units = whole.stride(-1 - kernel), weight.shape[-1 - kernel]
    parts = [_part(slot, weight, whole, steps) for slot in slots]
    size = units // len(slots)
    places = sorted(part.storage_offset() for part in parts if part is not None)
    equal = all(part is not None and part.numel() * len(slots) == whole.numel() for part in parts)
    return equal and size * len(slots) == units and places == [step * size * at for at in range(len(slots))]


def _part(slot: Value, weight: Value, whole: Tensor, steps: Steps) -> Tensor | None:
    """Which part of a weight's output goes to a slot, as a view of `whole`."""
    path: list[tuple[Call, Value]] = []
    value = slot
    while value is not weight:
        reading = steps.readings.get(value)
        if value.call is not None and value.call.name in MOVES:
            path.append((value.call, value))
            following = next(values_in([value.call.args, value.call.kwargs]))
        elif reading is not None and reading.inputs:  # scaled, normalised, rotated: the same places
            following = steps.moved_from.get(value, reading.inputs[0])
        else:
            return None
        if following.index >= value.index:
            return None
        value = following
    tensor = whole
    for call, each in reversed(path):
        if call.name in _CASTS:
            continue
        moved = _applied(tensor, call, each)
        if moved is None or moved.untyped_storage()._cdata != whole.untyped_storage()._cdata:
            return tensor if tensor is not whole else None
        tensor = moved
    return tensor
