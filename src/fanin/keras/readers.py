"""What the operations of `keras.ops` are in the words of `fanin.records.OPS`."""

import math
import string
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from fanin.keras.recorder import Record
from fanin.records import Axis

__all__ = ["READERS", "Builder", "View", "turned"]


class View(NamedTuple):
    """A variable as it is used.

    Attributes:
        axes: For each axis as used, which of the variable's it is; None where it was reshaped.
    """

    variable: Any
    axes: tuple[int, ...] | None


class Builder(Protocol):
    """What readers tell of a step; the arguments are symbolic tensors, variables and arrays."""

    def emit(
        self,
        record: Record,
        kind: str,
        inputs: Sequence[Any],
        *,
        name: str = "",
        value: float = 1.0,
        variables: Sequence[Any] = (),
        output: int = 0,
        units: frozenset[int] | None = None,
    ) -> None:
        """A step; `units` are the axes of a weight's output in which a bias may vary."""

    def view(self, value: Any) -> View | None:
        """The variable that a value is, or None."""

    def learn(self, view: View, axes: Sequence[Axis], role: str, groups: int = 1) -> None:
        """How a variable's axes are used, in the order of the view."""

    def add_bias(self, record: Record, signal: Any, shift: Any) -> bool:
        """Make a sum a part of the weight before it, if it is one with its bias."""


Reader = Callable[[Builder, Record], None]


def turned(record: Record, view: View) -> View | None:
    """A variable behind an operation that only moves all of its values; None for any other operation."""
    operation, axes = record.operation, view.axes
    count = len(view.variable.shape) if axes is None else len(axes)
    match type(operation).__name__:
        case "Cast" | "ConvertToTensor" | "Copy" | "StopGradient":
            return view
        case "Transpose" if axes is not None:
            order = operation.axes or range(count)[::-1]
            return View(view.variable, tuple(axes[i] for i in order))
        case "Swapaxes" if axes is not None:
            swapped = list(axes)
            one, other = operation.axis1, operation.axis2
            swapped[one], swapped[other] = swapped[other], swapped[one]
            return View(view.variable, tuple(swapped))
        case "Reshape" | "ExpandDims" | "Squeeze":
            return View(view.variable, None)
        case "GetItem" if math.prod(record.outputs[0].shape) == math.prod(view.variable.shape):
            return View(view.variable, None)
    return None


def _size(value: Any) -> int:
    return math.prod(getattr(value, "shape", ()))


def _passed(kind: str) -> Reader:
    """A reader for operations with one input, each output a step of its own."""

    def read(builder: Builder, record: Record) -> None:
        for output in range(len(record.outputs)):
            builder.emit(record, kind, record.args[:1], output=output)

    return read


def _reduction(kind: str) -> Reader:
    def read(builder: Builder, record: Record) -> None:
        count = _size(record.args[0]) / max(1, _size(record.outputs[0]))
        builder.emit(record, kind, record.args[:1], value=count)

    return read


def _pooling(kind: str) -> Reader:
    def read(builder: Builder, record: Record) -> None:
        """A pooling window has one size for all axes, or one for each."""
        rank = len(record.args[0].shape) - 2
        sizes = np.broadcast_to(record.operation.pool_size, (rank,))
        builder.emit(record, kind, record.args[:1], value=math.prod(map(int, sizes)))

    return read


def _softmax(builder: Builder, record: Record) -> None:
    shape, axis = record.args[0].shape, record.operation.axis
    axes = range(len(shape)) if axis is None else np.atleast_1d(axis)
    builder.emit(record, "softmax", record.args[:1], value=math.prod(shape[i] for i in axes))


def _concat(builder: Builder, record: Record) -> None:
    builder.emit(record, "concat", keras.tree.flatten(record.args))


def _is_mask(value: Any) -> bool:
    """Whether an array says what to leave out: zeros, and numbers so low that a softmax makes nothing of them."""
    if isinstance(value, keras.KerasTensor | keras.Variable) or not hasattr(value, "shape"):
        return False
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.dtype == bool or bool(np.all((array == 0) | (array <= -1e3)) and np.any(array))


def _add(builder: Builder, record: Record) -> None:
    left, right = record.args
    for signal, other in ((left, right), (right, left)):
        if _is_mask(other):
            return builder.emit(record, "move", (signal,))
        if builder.add_bias(record, signal, other):
            return None
    return builder.emit(record, "add", (left, right))


def _multiply(builder: Builder, record: Record) -> None:
    builder.emit(record, "mul", record.args)


def _maximum(builder: Builder, record: Record) -> None:
    builder.emit(record, "max", record.args, value=len(record.args))


def _where(builder: Builder, record: Record) -> None:
    """A choice between a signal and a number leaves the signal; one between signals is not understood."""
    signals = [each for each in record.args[1:] if isinstance(each, keras.KerasTensor)]
    if len(signals) == 1 and all(_size(each) <= 1 for each in record.args[1:] if each is not signals[0]):
        return builder.emit(record, "move", signals)
    return builder.emit(record, "other", record.args, name="where")


def _letters(subscripts: str, shapes: Sequence[Sequence[int]]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with letters of their own for an ellipsis."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    operands = inputs.split(",")
    free = [letter for letter in string.ascii_uppercase if letter not in subscripts]
    counts = [len(shape) - len(each.replace("...", "")) for each, shape in zip(operands, shapes, strict=True)]
    longest = max((n for n, each in zip(counts, operands, strict=True) if "..." in each), default=0)
    names = "".join(free[:longest])
    filled = [each.replace("...", names[longest - n :]) for each, n in zip(operands, counts, strict=True)]
    if not arrow:
        seen = "".join(filled)
        return filled, names + "".join(sorted(each for each in set(seen) - set(names) if seen.count(each) == 1))
    return filled, output.replace("...", names)


def _product(builder: Builder, record: Record, subscripts: str) -> None:
    """Products summed over the letters that the output lacks: of a signal and a weight, or of two signals."""
    operands = list(record.args)
    if len(operands) != 2:
        return builder.emit(record, "other", operands, name=f"einsum({subscripts})")
    letters, output = _letters(subscripts, [each.shape for each in operands])
    views = [builder.view(each) for each in operands]
    weights = [i for i, view in enumerate(views) if view is not None and view.axes is not None and len(view.axes) > 1]
    if len(weights) == 1:
        weight = weights[0]
        view, own, other = views[weight], letters[weight], letters[1 - weight]
        assert view is not None
        axes: list[Axis] = ["in" if k not in output else "batch" if k in other else "out" for k in own]
        builder.learn(view, axes, "dense")
        units = frozenset(i for i, letter in enumerate(output) if letter in own)
        signals = [operands[1 - weight]]
        return builder.emit(record, "weight", signals, variables=(view.variable,), units=units)
    sizes = dict(zip("".join(letters), [size for each in operands for size in each.shape], strict=True))
    summed = math.prod(size for letter, size in sizes.items() if letter not in output)
    return builder.emit(record, "matmul", operands, value=summed)


def _einsum(builder: Builder, record: Record) -> None:
    _product(builder, record, record.operation.subscripts)


def _matmul(builder: Builder, record: Record) -> None:
    """The last axis of the first with the last but one of the second, or its only one; the others are a batch."""
    left, right = (len(each.shape) for each in record.args)
    one = ("..." if left > 2 else "") + ("ik"[2 - left :] if left < 2 else "ik")
    other = ("..." if right > 2 else "") + ("k" if right < 2 else "kj")
    output = ("..." if max(left, right) > 2 else "") + ("i" if left > 1 else "") + ("j" if right > 1 else "")
    if left > 2 and right == 2:  # a plain matrix: every other axis of the signal is one of examples
        one, output = "...k", "...j"
    _product(builder, record, f"{one},{other}->{output}")


def _dot(builder: Builder, record: Record) -> None:
    if all(len(each.shape) <= 2 for each in record.args) or len(record.args[1].shape) == 2:
        return _matmul(builder, record)
    return builder.emit(record, "other", record.args, name="dot")


def _tensordot(builder: Builder, record: Record) -> None:
    """As an einsum: paired axes get one letter."""
    left, right = (len(each.shape) for each in record.args)
    axes = record.operation.axes
    pairs = (list(range(left - axes, left)), list(range(axes))) if isinstance(axes, int) else axes
    one, other = list(string.ascii_lowercase[:left]), list(string.ascii_lowercase[left : left + right])
    ones, others = (np.atleast_1d(each) for each in pairs)
    for i, j in zip(ones, others, strict=True):
        other[j] = one[i]
    output = [each for each in one + other if (one + other).count(each) == 1]
    _product(builder, record, f"{''.join(one)},{''.join(other)}->{''.join(output)}")


_KERNEL_ENDS: Mapping[str, tuple[Axis, Axis]] = {
    "conv": ("in", "out"),
    "depthwise": ("batch", "out"),
    "transposed_conv": ("out", "in"),
}


def _convolution(role: str) -> Reader:
    ends = _KERNEL_ENDS[role]

    def read(builder: Builder, record: Record) -> None:
        """A kernel that is no variable is not understood."""
        signal, kernel = record.args
        view = builder.view(kernel)
        rank, operation = len(signal.shape) - 2, record.operation
        if view is None or view.axes is None:
            return builder.emit(record, "other", record.args, name=f"{role} with a computed kernel")
        last = keras.config.image_data_format() if operation.data_format is None else operation.data_format
        channels = rank + 1 if last == "channels_last" else 1
        spatial: list[Axis] = ["spatial"] * rank
        groups = signal.shape[channels] // kernel.shape[-2] if role == "conv" else 1
        builder.learn(view, (*spatial, *ends), role, groups)
        strides = math.prod(map(int, np.broadcast_to(operation.strides, (rank,))))
        value = 1 / strides if role == "transposed_conv" else 1.0
        units = frozenset({channels})
        return builder.emit(record, "weight", (signal,), value=value, variables=(view.variable,), units=units)

    return read


def _lookup(builder: Builder, record: Record) -> None:
    """Rows of a variable that a signal chooses; of anything else, values in other places."""
    table, index = record.args[:2]
    view = builder.view(table)
    first = getattr(record.operation, "axis", 0) in (0, None) and view is not None and len(view.variable.shape) == 2
    if view is not None and view.axes == (0, 1) and first and hasattr(index, "shape"):
        builder.learn(view, ("batch", "out"), "embedding")
        return builder.emit(record, "lookup", (index,), variables=(view.variable,))
    return builder.emit(record, "move", (table,))


def _norm(name: str, **parts: int) -> Reader:
    """A reader for operations with a scale and perhaps a shift: their names and places among the arguments."""

    def read(builder: Builder, record: Record) -> None:
        """A shift without a scale cannot be told apart."""
        given = [record.args[i] if i < len(record.args) else record.kwargs.get(part) for part, i in parts.items()]
        views = [builder.view(each) if each is not None else None for each in given]
        computed = any(each is not None and view is None for each, view in zip(given, views, strict=True))
        if computed or (given[0] is None and any(each is not None for each in given)):
            return builder.emit(record, "other", record.args, name=f"{name} normalization")
        kind = "rms" if getattr(record.operation, "rms_scaling", False) else name
        variables = [view.variable for view in views if view is not None]
        for variable in variables:
            builder.learn(View(variable, tuple(range(len(variable.shape)))), (), "norm")
        return builder.emit(record, "norm", record.args[:1], name=kind, variables=variables)

    return read


def _dot_product(builder: Builder, record: Record) -> None:
    names = ("query", "key", "value")
    given = [*record.args[:3], *(record.kwargs[name] for name in names[len(record.args) :])]
    builder.emit(record, "attention", given, name="dot_product")


READERS: Mapping[str, Reader] = MappingProxyType({
    **dict.fromkeys(
        (
            "ArraySplit", "BroadcastTo", "DepthToSpace", "Diagonal", "ExpandDims", "ExtractPatches", "Flip", "Fliplr",
            "Flipud", "Hsplit", "Moveaxis", "Pad", "Ravel", "Rearrange", "Repeat", "Reshape", "Roll", "Rot90", "Slice",
            "Sort", "SpaceToDepth", "Split", "Squeeze", "Swapaxes", "TakeAlongAxis", "Tile", "Transpose", "Tril",
            "Triu", "Unfold", "Unstack", "Vsplit",
        ),
        _passed("move"),
    ),
    **dict.fromkeys(("Concatenate", "Dstack", "Hstack", "Stack", "Vstack"), _concat),
    **dict.fromkeys(("GetItem", "Take"), _lookup),
    "Add": _add,
    "AdaptiveAveragePool": _reduction("mean"),
    "AdaptiveMaxPool": _reduction("max"),
    "Amax": _reduction("max"),
    "AveragePool": _pooling("mean"),
    "BatchNorm": _norm("batch", scale=4, offset=3),
    "Conv": _convolution("conv"),
    "ConvTranspose": _convolution("transposed_conv"),
    "DepthwiseConv": _convolution("depthwise"),
    "Dot": _dot,
    "DotProductAttention": _dot_product,
    "Einsum": _einsum,
    "LayerNorm": _norm("layer", gamma=1, beta=2),
    "Matmul": _matmul,
    "Max": _reduction("max"),
    "Maximum": _maximum,
    "MaxPool": _pooling("max"),
    "Mean": _reduction("mean"),
    "Multiply": _multiply,
    "RMSNorm": _norm("rms", scale=1),
    "Softmax": _softmax,
    "Sum": _reduction("sum"),
    "Tensordot": _tensordot,
    "Where": _where,
})  # fmt: skip
"""From the name of an operation's class to its reader; those of each element are in `pointwise`."""
