"""Which function of torch is which kind of step: one reader for each kind, and the table that names them."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

from fanin.records import Axis
from fanin.torch.patterns import is_rotation, norm_of
from fanin.torch.readings import Read, Reader, Reading
from fanin.torch.record import Call, Value, argument, values_in

__all__ = ["TABLE"]

_ROOTS = ("sqrt", "rsqrt", "pow")


# -------------------------------------------------------------------------------------------------- products
def _linear(reader: Reader, value: Value, call: Call) -> Reading | None:
    signal, weight, bias = argument(call, 0, "input"), argument(call, 1, "weight"), argument(call, 2, "bias")
    found = reader.weight(value, [signal], weight, ("out", "in"), bias=bias)
    if found is None and bias is None:
        return Reading("matmul", [_operand(reader, signal), _operand(reader, weight)], value=signal.shape[-1])
    return found


def _matmul(reader: Reader, value: Value, call: Call) -> Reading | None:
    left, right = argument(call, 0, "input"), argument(call, 1, "other", argument(call, 1, "mat2"))
    if call.name == "rmatmul":
        left, right = right, left
    of_right: tuple[Axis, ...] = (*_stack(right), "in", "out") if len(right.shape) > 1 else ("in",)
    of_left: tuple[Axis, ...] = (*_stack(left), "out", "in") if len(left.shape) > 1 else ("in",)
    return (
        reader.weight(value, [left], right, of_right)
        or reader.weight(value, [right], left, of_left)
        or Reading("matmul", [_operand(reader, left), _operand(reader, right)], value=left.shape[-1])
    )


def _stack(value: Value) -> list[Axis]:
    return ["batch"] * (len(value.shape) - 2)


def _operand(reader: Reader, value: Value) -> Value:
    """An operand; how one without a signal was made does not matter."""
    return reader.constant(value) if value.passive else value


def _bilinear(reader: Reader, value: Value, call: Call) -> Reading | None:
    first, second, weight = (argument(call, at, name) for at, name in enumerate(("input1", "input2", "weight")))
    return reader.weight(value, [first, second], weight, ("out", "in", "in"), bias=argument(call, 3, "bias"))


def _conv(reader: Reader, value: Value, call: Call, *, transposed: bool) -> Reading | None:
    signal, weight, bias = argument(call, 0, "input"), argument(call, 1, "weight"), argument(call, 2, "bias")
    if call.name == "convolution":
        transposed = bool(call.args[6])
    spatial: list[Axis] = ["spatial"] * (len(weight.shape) - 2)
    at = 8 if call.name == "convolution" else 6
    groups = int(argument(call, at, "groups", 1))
    if transposed:
        strides = argument(call, 3, "stride", 1)
        steps = strides ** len(spatial) if isinstance(strides, int) else math.prod(_spread(strides, len(spatial)))
        return reader.weight(
            value,
            [signal],
            weight,
            ("in", "out", *spatial),
            "transposed_conv",
            groups=groups,
            bias=bias,
            times=1 / steps,
        )
    role = "depthwise" if groups > 1 and weight.shape[1] == 1 else "conv"
    return reader.weight(value, [signal], weight, ("out", "in", *spatial), role, groups=groups, bias=bias)


def _spread(sizes: Any, count: int) -> list[int]:
    """One number for each axis, where one may stand for all."""
    each = list(sizes) if isinstance(sizes, tuple | list) else [sizes]
    return [int(size) for size in (each * count if len(each) == 1 else each)]


def _einsum(reader: Reader, value: Value, call: Call) -> Reading | None:
    equation, *rest = call.args
    operands = list(values_in(rest))
    if not isinstance(equation, str) or len(operands) > 2:
        return None
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = [_letters(term, operand) for term, operand in zip(inputs.split(","), operands, strict=True)]
    if not arrow:
        everything = "".join(terms)
        output = "".join(sorted(letter for letter in set(everything) if everything.count(letter) == 1))
    output = _letters(output, value)
    if len(operands) == 1:
        summed = set(terms[0]) - set(output)
        size = math.prod(operands[0].shape[terms[0].index(letter)] for letter in summed)
        return Reading("sum", operands, value=size) if size > 1 else Reading("move", operands, name="einsum")
    sizes = {letter: size for term, each in zip(terms, operands, strict=True)
             for letter, size in zip(term, each.shape, strict=True)}  # fmt: skip
    for at in (1, 0):
        signal = terms[1 - at]
        labels: list[Axis] = [
            "in" if letter not in output else "batch" if letter in signal else "out" for letter in terms[at]
        ]
        found = reader.weight(value, [operands[1 - at]], operands[at], tuple(labels)) if "in" in labels else None
        if found is not None:
            return found
    summed = set("".join(terms)) - set(output)
    if not summed:
        return _product_of(reader, value, operands[0], operands[1])
    return Reading("matmul", [_operand(reader, each) for each in operands], value=math.prod(sizes[s] for s in summed))


def _letters(term: str, value: Value) -> str:
    """A term of an einsum with letters instead of an ellipsis, the same for the same axis from the right."""
    if "..." not in term:
        return term
    count = len(value.shape) - len(term) + 3
    return term.replace("...", "".join(chr(0x3B1 + count - 1 - at) for at in range(count)))


def _lookup(reader: Reader, value: Value, call: Call) -> Reading | None:
    first, second = argument(call, 0, "input"), argument(call, 1, "weight")
    ids, table = (second, first) if not second.floating else (first, second)
    found = reader.weight(value, [ids], table, ("batch", "out"), "embedding")
    target = reader.readings[found.inputs[0]] if found is not None and found.kind == "scale" else found
    if target is not None:
        target.kind = "lookup"
    return found


# ----------------------------------------------------------------------------------- sums, products, choices
def _sum_of_two(reader: Reader, value: Value, call: Call) -> Reading | None:
    first, second = argument(call, 0, "input"), argument(call, 1, "other")
    if not isinstance(first, Value) or not isinstance(second, Value):
        one = first if isinstance(first, Value) else second
        return Reading("move", [one], name="expand") if isinstance(one, Value) else None
    if first.passive and second.passive:
        return None
    rotated = is_rotation(reader, first, second)
    if rotated is not None:
        return Reading("move", [rotated], name="rotary")
    pair = [_operand(reader, each) for each in (first, second)]
    return Reading("add", pair, name="" if call.name == "add" else "sub")


def _product(reader: Reader, value: Value, call: Call) -> Reading | None:
    first, second = argument(call, 0, "input"), argument(call, 1, "other")
    if not isinstance(first, Value) or not isinstance(second, Value):
        return None
    found = norm_of(reader, value, call)
    if found is not None:
        return found
    if call.name != "mul" and not second.passive:
        return None  # a quotient of two signals
    if call.name == "div" and _counts(reader, first, second):
        return replace(reader.readings[first], kind="mean")
    return _product_of(reader, value, first, second)


def _counts(reader: Reader, summed: Value, other: Value) -> bool:
    """Whether a sum is divided by what carries no signal, one number for each: by how many were not masked."""
    is_sum = summed in reader.readings and reader.readings[summed].kind == "sum"
    is_root = other.call is not None and other.call.name in _ROOTS
    return is_sum and not is_root and other.size < summed.size


def _product_of(reader: Reader, value: Value, first: Value, second: Value) -> Reading | None:
    if first.passive and second.passive:
        return None
    if first.passive or second.passive:
        signal, other = (second, first) if first.passive else (first, second)
        if reader.is_mask(other):
            return Reading("move", [signal], name="mask")
        return Reading("mul", [signal, reader.constant(other)])
    return Reading("mul", [first, second])


def _where(reader: Reader, value: Value, call: Call) -> Reading | None:
    if call.name == "masked_fill":
        return Reading("move", [argument(call, 0, "input")], name="masked_fill")
    choices = list(values_in([call.args, call.kwargs]))[1:] if call.name == "where" else []
    return _either(reader, choices)


def _either(reader: Reader, choices: list[Value]) -> Reading | None:
    """Some elements of one value, some of another."""
    signals = [each for each in choices if not each.passive]
    if len(signals) > 1:
        return Reading("concat", signals, name="where")
    return Reading("move", signals, name="where") if signals else None


def _scattered(reader: Reader, value: Value, call: Call) -> Reading | None:
    """Values put into others: summed where they meet, or in place of them."""
    taken = [each for each in values_in([call.args, call.kwargs]) if each.floating]
    if not taken:
        return None
    base, new = taken[0], taken[-1]
    summed = call.name in ("index_add", "scatter_add", "scatter_reduce") or call.kwargs.get("accumulate")
    if len(taken) < 2 or new.passive or base.passive:
        signals = [each for each in taken if not each.passive]
        if not signals:
            return None
        ratio = new.size / value.size
        return (
            Reading("sum", signals, value=ratio) if summed and ratio > 1 else Reading("move", signals, name=call.name)
        )
    return Reading("add", [base, new]) if summed else _either(reader, [base, new])


def _each_apart(_: Reader, value: Value, call: Call) -> Reading | None:
    """As many values as were given, each in other places."""
    return Reading("move", [list(values_in([call.args, call.kwargs]))[value.part]], name=call.name)


def _written(reader: Reader, value: Value, call: Call) -> Reading | None:
    """A view after its memory was written to through another."""
    old, new = call.args
    return Reading("move", [new], name="view") if new.size >= value.size else _either(reader, [old, new])


def _copied(reader: Reader, value: Value, call: Call) -> Reading | None:
    return Reading("move", list(values_in(call.args))[-1:], name="copy")


def _concat(reader: Reader, value: Value, call: Call) -> Reading | None:
    parts = list(values_in([call.args, call.kwargs]))
    signals = [each for each in parts if not each.passive and each.size]
    if len(signals) == 1:
        return Reading("move", signals, name=call.name)
    return Reading("concat", [_operand(reader, each) for each in parts if each.size]) if signals else None


def _largest_of_two(reader: Reader, value: Value, call: Call) -> Reading | None:
    pair = [each for each in values_in([call.args, call.kwargs]) if not each.passive]
    return Reading("max", pair, value=2) if len(pair) == 2 else None


# ------------------------------------------------------------------------------------------------ many to one
def _reduced(reader: Reader, value: Value, call: Call, *, kind: str) -> Reading | None:
    signal = next(values_in([call.args, call.kwargs]))
    if value.part > 0 or not value.size:
        return None
    if call.name in ("max", "min") and len(list(values_in([call.args, call.kwargs]))) > 1:
        return _largest_of_two(reader, value, call)
    return Reading(kind, [signal], value=signal.size / value.size)


def _pooled(reader: Reader, value: Value, call: Call, *, kind: str, axes: int) -> Reading | None:
    if value.part > 0:
        return None
    sizes = _spread(argument(call, 1, "kernel_size"), axes)
    return Reading(kind, [argument(call, 0, "input")], value=math.prod(sizes))


def _softmax(reader: Reader, value: Value, call: Call) -> Reading | None:
    signal, axis = argument(call, 0, "input"), argument(call, 1, "dim")
    if axis is None:  # as torch guesses it
        axis = 0 if len(signal.shape) in (0, 1, 3) else 1
    size = signal.shape[axis] if signal.shape else 1
    return Reading("softmax", [signal], name="" if call.name == "softmax" else call.name, value=size)


# -------------------------------------------------------------------------------------------------- layers
def _norm(reader: Reader, value: Value, call: Call, *, name: str, at: int) -> Reading | None:
    scale, shift = argument(call, at, "weight"), argument(call, at + 1, "bias") if name != "rms" else None
    params = [reader.source(each) for each in (scale, shift)]
    return Reading("norm", [argument(call, 0, "input")], [each.param for each in params if each is not None], name)


def _dropout(reader: Reader, value: Value, call: Call) -> Reading | None:
    share = float(argument(call, 1, "p", 0.5))
    signal = argument(call, 0, "input")
    if not share:
        return Reading("move", [signal], name=call.name)
    return Reading("dropout", [signal], name="" if call.name == "dropout" else call.name, value=share)


def _attention(reader: Reader, value: Value, call: Call) -> Reading | None:
    return Reading("attention", [argument(call, at, name) for at, name in enumerate(("query", "key", "value"))])


def _prelu(reader: Reader, value: Value, call: Call) -> Reading | None:
    source = reader.source(argument(call, 1, "weight"))
    return None if source is None else Reading("activation", [argument(call, 0, "input")], [source.param], "prelu")


def _recurrent(reader: Reader, value: Value, call: Call) -> Reading | None:
    """One direction of one layer, or a cell: its arguments are the input, the state and the parameters."""
    if value.part > 0:
        return Reading("other", [call.results[0]], name="cell state")
    signal, states, *weights = call.args
    state = next(values_in(states), None)
    sources = [reader.source(each) for each in values_in(weights)]
    if any(each is None for each in sources):
        return None
    inputs = [signal, *([state] if state is not None and not state.passive else [])]
    name = call.name.removesuffix("_cell").removesuffix("_layer")
    return Reading("recurrent", inputs, [each.param for each in sources if each is not None], name)


_POOLS = {
    f"{prefix}{name}_pool{axes}d{suffix}": partial(_pooled, kind=kind, axes=axes)
    for prefix, name, kind in (("", "avg", "mean"), ("", "max", "max"))
    for axes in (1, 2, 3)
    for suffix in ("", "_with_indices")
}
_ADAPTIVE = {
    f"adaptive_{name}_pool{axes}d{suffix}": partial(_reduced, kind=kind)
    for name, kind in (("avg", "mean"), ("max", "max"))
    for axes in (1, 2, 3)
    for suffix in ("", "_with_indices")
}
_DROPOUTS = (
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
)
_CONVS = {f"conv{axes}d": partial(_conv, transposed=False) for axes in (1, 2, 3)}
_TRANSPOSED = {f"conv_transpose{axes}d": partial(_conv, transposed=True) for axes in (1, 2, 3)}
_KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

TABLE: dict[str, Read] = {
    "linear": _linear, "matmul": _matmul, "rmatmul": _matmul, "bilinear": _bilinear, "einsum": _einsum,
    **_CONVS, **_TRANSPOSED, "convolution": partial(_conv, transposed=False), "embedding": _lookup,
    "add": _sum_of_two, "sub": _sum_of_two, "rsub": _sum_of_two, "mul": _product, "div": _product,
    "where": _where, "masked_fill": _where, "setitem": _scattered, "index_put": _scattered, "scatter": _scattered,
    "index_add": _scattered, "scatter_add": _scattered, "scatter_reduce": _scattered, "index_copy": _scattered,
    "masked_scatter": _scattered, "written": _written, "copy": _copied,
    "broadcast_tensors": _each_apart, "meshgrid": _each_apart,
    **dict.fromkeys(("cat", "stack", "hstack", "vstack", "dstack", "column_stack"), _concat),
    "maximum": _largest_of_two, "mean": partial(_reduced, kind="mean"), "sum": partial(_reduced, kind="sum"),
    **dict.fromkeys(("max", "amax"), partial(_reduced, kind="max")), **_POOLS, **_ADAPTIVE,
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "_softmax"), _softmax),
    "layer_norm": partial(_norm, name="layer", at=2), "rms_norm": partial(_norm, name="rms", at=2),
    "batch_norm": partial(_norm, name="batch", at=3), "instance_norm": partial(_norm, name="instance", at=3),
    "group_norm": partial(_norm, name="group", at=2), **dict.fromkeys(_DROPOUTS, _dropout),
    "scaled_dot_product_attention": _attention, "prelu": _prelu,
    **{f"{name}{suffix}": _recurrent for name in _KINDS for suffix in ("_cell", "_layer")},
}  # fmt: skip
"""From the canonical names of functions to their readers; a function that is not here is not understood."""
