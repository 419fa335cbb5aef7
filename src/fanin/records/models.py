"""A model, read: its parameters, what it computes from them, and what a batch does to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["OPS", "Axis", "InitialSignals", "ModelInfo", "Op", "ParamInfo", "Signals"]

Axis = Literal["spatial", "batch", "in", "out"]
"""What an axis of a weight means; `batch` is a stack of independent weights (depthwise channels, experts)."""

OPS = MappingProxyType({
    "input": "what the user hands in",
    "constant": "made by the model from no input and no parameter: positions, masks",
    "param": "a parameter used as a value: a class token, a table of positions, a multiplier",
    "weight": "its input times the weight params[0], summed over `value` times the fan-in (1, but for strided "
              "transposed convolutions), plus the bias params[1] if there is one; a bilinear weight has two inputs",
    "lookup": "rows of the table params[0], chosen by its input",
    "activation": "a function of each element: `name` of the table of activations, or `function`",
    "add": "the sum of two inputs of the same kind",
    "mul": "the product of its inputs, element by element",
    "scale": "its input times the number `value`",
    "norm": "its input with second moment 1, times the scale params[0], plus the shift params[1]; `name` is batch, "
            "layer, group, instance or rms",
    "mean": "the mean of `value` elements for each one",
    "sum": "the sum of `value` elements for each one",
    "max": "the largest of `value` elements for each one",
    "concat": "its inputs side by side",
    "move": "the same values in other places: reshaped, transposed, sliced, padded, repeated",
    "dropout": "its input with the share `value` set to zero and the rest enlarged",
    "softmax": "shares that sum to 1 over `value` elements",
    "attention": "means of its third input (values), weighted by what its first (queries) and second (keys) share",
    "matmul": "products of its two inputs, summed over `value` elements",
    "recurrent": "the states of a recurrent layer with all its params; `name` is lstm, gru, rnn_tanh or rnn_relu",
    "other": "not understood; `name` says what it is",
})  # fmt: skip
"""Everything that a model may be made of: adapters translate their framework into these words."""


@dataclass(frozen=True)
class ParamInfo:
    """One parameter of a model, read so that nobody else has to know the framework's layout.

    Attributes:
        path: The parameter's unique name in its model; also the name of its random stream.
        shape: The shape in the framework's own layout.
        axes: What each axis of `shape` means; empty for a parameter that is no weight (bias, scale, state).
        role: ``dense``, ``conv``, ``depthwise``, ``transposed_conv``, ``embedding``, ``recurrent``,
            ``attention``, ``bias``, ``norm`` or ``unknown``.
        gates: How many independent blocks lie side by side in the `out` axes, read as one (4 in an LSTM).
        groups: How many groups a convolution's `out` axis is divided into.
        shared: Other paths under which the model holds the same parameter.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[Axis, ...]
    role: str
    gates: int = 1
    groups: int = 1
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """One step of what a model computes.

    Attributes:
        kind: One of `OPS`, which says what the other attributes mean for it.
        inputs: The steps whose outputs it takes, as indices into `ModelInfo.ops`; always earlier ones.
        shape: Of its output, with the batch in front, as executed.
        params: Paths of the parameters that it uses.
        place: Where in the model it ran: the path of the innermost module or layer.
        name: A name within the kind.
        value: A number that belongs to the kind.
        function: For an activation that no table knows: a vectorised function of NumPy arrays.
    """

    kind: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...] = ()
    params: tuple[str, ...] = ()
    place: str = ""
    name: str = ""
    value: float = 1.0
    function: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ModelInfo:
    """The parameters of a model, in the model's order, and what it computes, in executed order.

    Attributes:
        framework: ``torch``, ``keras`` or ``flax``.
        ops: Empty where the model was not run.
        outputs: The steps whose outputs the model returns.
        notes: Sentences on what could not be read, for the user.
        made: Where the model makes parameters while it runs, as a layer does that is built within a call.
        discarded: Paths of parameters that the model computes something with and then throws that away, where that
            can be seen.
        choosing: Paths of parameters on which the outputs depend by choices alone, as by an index that is an argmax,
            where that can be seen: no gradient reaches them.
    """

    framework: str
    params: tuple[ParamInfo, ...]
    ops: tuple[Op, ...] = ()
    outputs: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()
    choosing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signals:
    """What a batch does to a network, layer by layer in the model's order.

    Attributes:
        layers: The layers' names.
        signal_rms: Root mean square of each layer's pre-activation.
        gradient_rms: Root mean square of the loss's gradient with respect to that pre-activation.
    """

    layers: tuple[str, ...]
    signal_rms: tuple[float, ...]
    gradient_rms: tuple[float, ...]


@dataclass(frozen=True)
class InitialSignals(Signals):
    """The signals of a run before its first step; what was not measured yet when a run was kept is empty.

    Attributes:
        cosine: Mean cosine between the pre-activations of two examples.
        dead: Share of units whose pre-activation is above 0 for no example.
        saturated: Share of pre-activations where the activation is within 1 % of its bounds, if it has any.
    """

    cosine: tuple[float, ...] = ()
    dead: tuple[float, ...] = ()
    saturated: tuple[float, ...] = ()
