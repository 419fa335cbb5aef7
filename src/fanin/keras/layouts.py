"""What the weights of Keras's layers mean: the only place where Keras's weight layouts are interpreted."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from fanin.initializers.streams import words
from fanin.records import Axis

__all__ = [
    "PRE_ACTIVATED",
    "Reading",
    "is_generator",
    "is_norm",
    "named",
    "path_of",
    "readings",
    "restored_on_failure",
    "state_of",
    "variables_of",
]


class Reading(NamedTuple):
    """Axes, role, gates and groups of one variable; see `ParamInfo`."""

    axes: tuple[Axis, ...]
    role: str
    gates: int = 1
    groups: int = 1


_NORMS = tuple(
    getattr(keras.layers, name)
    for name in (
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "UnitNormalization",
    )
    if hasattr(keras.layers, name)  # RMSNormalization came with Keras 3.9
)
_ATTENTIONS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_GATES = ((keras.layers.LSTMCell, 4), (keras.layers.GRUCell, 3), (keras.layers.SimpleRNNCell, 1))
_CONVOLUTIONAL_GATES = 4
_CONVS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_CONVOLUTIONAL_RECURRENT = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)

PRE_ACTIVATED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    *_CONVS,
    *_TRANSPOSED,
    *_DEPTHWISE,
    *_SEPARABLE,
)
"""The layers with weights and an activation of their own."""


def path_of(model: keras.Model, variable: keras.Variable) -> str:
    """A variable's name within its model: Keras's path without the model's own name, which it may count up."""
    return str(variable.path).removeprefix(f"{model.name}/")


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """The trainable variables by path, in the model's order.

    Two submodels may hold layers of one name, which Keras tells apart nowhere: from the second on the path
    has a number behind it.

    Example:
        >>> list(variables_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])))
        ['d/kernel', 'd/bias']
    """
    return named(model, model.trainable_variables)


def named(model: keras.Model, variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables of a model by path; see `variables_of`."""
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        path = unique = path_of(model, variable)
        count = 1
        while unique in found:
            count += 1
            unique = f"{path}:{count}"
        found[unique] = variable
    return found


def is_generator(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a random layer."""
    return "seed_generator" in variable.path and math.prod(variable.shape) == 2


def state_of(model: keras.Model, generator: keras.Variable, seed: int) -> NDArray[Any]:
    """The state with which a random layer starts under a seed, whatever it was built with."""
    drawn = words(seed, path_of(model, generator), 0, 2)
    return drawn.reshape(generator.shape).astype(generator.dtype)


@contextmanager
def restored_on_failure(variables: Sequence[keras.Variable]) -> Iterator[None]:
    """While open, whatever is raised, also an interruption, first gives the variables their old values back."""
    before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]
    try:
        yield
    except BaseException:
        for variable, array in zip(variables, before, strict=True):
            variable.assign(array)
        raise


def is_norm(layer: keras.layers.Layer) -> bool:
    """Whether a layer normalises, so that its variables are scales and shifts."""
    return isinstance(layer, _NORMS)


def readings(model: keras.Model) -> dict[int, Reading]:
    """What the layers of a model say about its weights and packed biases, by the variables' ``id``."""
    # A layer that the model holds but never called has no weights yet.
    layers = [layer for layer in model._flatten_layers(include_self=False) if layer.built]
    attention = {
        id(part)
        for layer in layers
        if isinstance(layer, _ATTENTIONS)
        for part in layer._flatten_layers(include_self=False)
    }
    found: dict[int, Reading] = {}
    for layer in layers:
        if is_norm(layer):
            found |= {id(variable): Reading((), "norm") for variable in layer.trainable_variables}
        for variable, reading in _readings(layer, id(layer) in attention):
            found.setdefault(id(variable), reading)
    return found


def _spatial(variable: keras.Variable) -> list[Axis]:
    return ["spatial"] * (len(variable.shape) - 2)


def _einsum(layer: keras.layers.EinsumDense, in_attention: bool) -> Reading:
    """Kernel axes from the equation: summed over is `in`, new in the output is `out`, in all three is `batch`."""
    inputs, output = layer.equation.replace(" ", "").split("->")
    signal, kernel = inputs.split(",")
    axes: list[Axis] = ["in" if k not in output else "batch" if k in signal else "out" for k in kernel]
    return Reading(tuple(axes), "attention" if in_attention else "dense")


def _cell(cell: keras.layers.Layer, gates: int) -> Iterator[tuple[keras.Variable, Reading]]:
    """A recurrent cell: two kernels, and a bias in which the gates lie side by side."""
    axes: tuple[Axis, ...] = (*_spatial(cell.kernel), "in", "out")
    yield cell.kernel, Reading(axes, "recurrent", gates)
    yield cell.recurrent_kernel, Reading(axes, "recurrent", gates)
    if cell.bias is not None:
        # A GRU that resets after its product keeps one bias for each of its two kernels.
        bias: tuple[Axis, ...] = ("batch", "out") if len(cell.bias.shape) == 2 else ("out",)
        yield cell.bias, Reading(bias, "bias", gates)


def _readings(layer: keras.layers.Layer, in_attention: bool) -> Iterator[tuple[keras.Variable, Reading]]:
    """The weights of one layer with their meaning."""
    match layer:
        case keras.layers.Dense():
            yield layer.kernel, Reading(("in", "out"), "dense")
        case keras.layers.EinsumDense():
            yield layer.kernel, _einsum(layer, in_attention)
        case keras.layers.Embedding():
            yield layer.embeddings, Reading(("batch", "out"), "embedding")
        case _ if isinstance(layer, _DEPTHWISE):
            yield layer.kernel, Reading((*_spatial(layer.kernel), "batch", "out"), "depthwise")
        case _ if isinstance(layer, _SEPARABLE):
            spatial = _spatial(layer.depthwise_kernel)
            yield layer.depthwise_kernel, Reading((*spatial, "batch", "out"), "depthwise")
            yield layer.pointwise_kernel, Reading((*spatial, "in", "out"), "conv")
        case _ if isinstance(layer, _TRANSPOSED):
            yield layer.kernel, Reading((*_spatial(layer.kernel), "out", "in"), "transposed_conv")
        case _ if isinstance(layer, _CONVS):
            yield layer.kernel, Reading((*_spatial(layer.kernel), "in", "out"), "conv", 1, layer.groups)
        case _ if isinstance(layer, _CONVOLUTIONAL_RECURRENT):
            yield from _cell(layer.cell, _CONVOLUTIONAL_GATES)
        case _:
            for cell, gates in _GATES:
                if isinstance(layer, cell):
                    yield from _cell(layer, gates)
