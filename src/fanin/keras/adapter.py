"""Keras models read, written and probed: the only place where Keras's weight layouts are interpreted."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from fanin.errors import ModelError, UnknownNameError
from fanin.records import Axis, ModelInfo, ParamInfo

__all__ = ["describe", "forward", "path_of", "signal_function", "tapped_layers", "write"]

_Reading = tuple[tuple[Axis, ...], str, int, int]
"""Axes, role, gates and groups of one weight."""

_NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)
_GATES = ((keras.layers.LSTMCell, 4), (keras.layers.GRUCell, 3), (keras.layers.SimpleRNNCell, 1))
_CONVS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)


def _spatial(variable: keras.Variable) -> list[Axis]:
    return ["spatial"] * (len(variable.shape) - 2)


def _einsum(layer: keras.layers.EinsumDense, in_attention: bool) -> _Reading:
    """Kernel axes from the equation: summed over is `in`, new in the output is `out`, in all three is `batch`."""
    inputs, output = layer.equation.replace(" ", "").split("->")
    signal, kernel = inputs.split(",")
    axes: list[Axis] = ["in" if k not in output else "batch" if k in signal else "out" for k in kernel]
    return tuple(axes), "attention" if in_attention else "dense", 1, 1


def _readings(layer: keras.layers.Layer, in_attention: bool) -> Iterator[tuple[keras.Variable, _Reading]]:
    """The weights of one layer with their meaning."""
    match layer:
        case keras.layers.Dense():
            yield layer.kernel, (("in", "out"), "dense", 1, 1)
        case keras.layers.EinsumDense():
            yield layer.kernel, _einsum(layer, in_attention)
        case keras.layers.Embedding():
            yield layer.embeddings, (("batch", "out"), "embedding", 1, 1)
        case _ if isinstance(layer, _DEPTHWISE):
            yield layer.kernel, ((*_spatial(layer.kernel), "batch", "out"), "depthwise", 1, 1)
        case _ if isinstance(layer, _SEPARABLE):
            yield (
                layer.depthwise_kernel,
                ((*_spatial(layer.depthwise_kernel), "batch", "out"), "depthwise", 1, 1),
            )
            yield layer.pointwise_kernel, ((*_spatial(layer.pointwise_kernel), "in", "out"), "conv", 1, 1)
        case _ if isinstance(layer, _TRANSPOSED):
            yield layer.kernel, ((*_spatial(layer.kernel), "out", "in"), "transposed_conv", 1, 1)
        case _ if isinstance(layer, _CONVS):
            yield layer.kernel, ((*_spatial(layer.kernel), "in", "out"), "conv", 1, layer.groups)
        case _:
            for cell, gates in _GATES:
                if isinstance(layer, cell):
                    yield layer.kernel, (("in", "out"), "recurrent", gates, 1)
                    yield layer.recurrent_kernel, (("in", "out"), "recurrent", gates, 1)


def path_of(model: keras.Model, variable: keras.Variable) -> str:
    """A variable's name within its model: Keras's path without the model's own name, which it may count up."""
    return str(variable.path).removeprefix(f"{model.name}/")


def describe(model: keras.Model) -> ModelInfo:
    """Read the trainable parameters of a built model, in the model's order.

    Raises:
        ModelError: If the model is not built, so that it has no parameters yet.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        >>> [(param.path, param.axes) for param in describe(model).params]
        [('d/kernel', ('in', 'out')), ('d/bias', ())]
    """
    if not model.built:
        raise ModelError(
            "The model is not built", given=model.name, hint="Call it once on a batch, or give it an Input."
        )
    readings: dict[int, _Reading] = {}
    norms: set[int] = set()
    attention: set[int] = set()
    layers = list(model._flatten_layers(include_self=False))
    for layer in layers:
        if isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
            attention.update(id(part) for part in layer._flatten_layers(include_self=False))
    for layer in layers:
        if isinstance(layer, _NORMS):
            norms.update(id(variable) for variable in layer.trainable_variables)
        for variable, reading in _readings(layer, id(layer) in attention):
            readings.setdefault(id(variable), reading)

    def read(variable: keras.Variable) -> ParamInfo:
        plain = (
            ((), "norm", 1, 1) if id(variable) in norms
            else ((), "bias", 1, 1) if variable.name.endswith("bias")
            else ((), "unknown", 1, 1)
        )  # fmt: skip
        axes, role, gates, groups = readings.get(id(variable), plain)
        return ParamInfo(
            path_of(model, variable), tuple(variable.shape), str(variable.dtype), axes, role, gates, groups
        )

    return ModelInfo("keras", tuple(read(variable) for variable in model.trainable_variables))


def write(model: keras.Model, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Set parameters by path; the others keep their values.

    Raises:
        UnknownNameError: If the model has no such parameter; nothing is written then.
    """
    variables = {path_of(model, variable): variable for variable in model.trainable_variables}
    missing = set(arrays) - set(variables)
    if missing:
        raise UnknownNameError("The model has no such parameter", given=", ".join(sorted(missing)))
    for path, array in arrays.items():
        variables[path].assign(array)


def forward(model: keras.Model, trainable: Any, other: Any, x: Any, *, training: bool) -> tuple[Any, Any, list[Any]]:
    """A model as a pure function of its variables' values.

    Returns:
        Outputs, the changed values of the other variables, and the losses that layers add (regularisers).
    """
    parameters = inspect.signature(model.call).parameters.values()
    takes = any(each.name == "training" or each.kind is each.VAR_KEYWORD for each in parameters)
    mode = {"training": training} if takes else {}
    return model.stateless_call(trainable, other, x, return_losses=True, **mode)  # type: ignore[no-any-return]


def tapped_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers whose pre-activation is measured: weighted, with an activation of their own, in model order.

    Recurrent cells are left out: their pre-activation is not one tensor but one for each time step.
    """
    kinds = (keras.layers.Dense, keras.layers.EinsumDense, *_CONVS, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE)
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, kinds)]


@contextmanager
def _taps(layers: list[keras.layers.Layer], tap: Callable[[str, Any], Any]) -> Iterator[None]:
    """While open, each layer's activation function first hands its input to `tap` and goes on with what returns."""
    originals = [layer.activation for layer in layers]
    for layer, original in zip(layers, originals, strict=True):
        layer.activation = lambda z, name=layer.path, function=original: (function or (lambda v: v))(tap(name, z))
    try:
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.activation = original


def signal_function(
    model: keras.Model, loss: Callable[[Any, Any], Any]
) -> Callable[[list[Any], list[Any], Any, Any], tuple[Any, Any]]:
    """A traceable function that measures each tapped layer's pre-activation and its gradient.

    Args:
        model: A built model.
        loss: From targets and outputs to one loss per example.

    Returns:
        A function of (trainable, non-trainable, x, y) that gives two arrays, one number per tapped layer in
        the order of `tapped_layers`: the root mean square of the pre-activation, and of the gradient of the
        batch's mean loss with respect to it. The model is run as in inference. A layer used more than once
        reports its last use; one that is not used, not a number.
    """
    layers = tapped_layers(model)

    def tapped(trainable: Any, other: Any, x: Any, y: Any, nudges: Mapping[str, Any]) -> tuple[Any, Any]:
        seen: dict[str, Any] = {}

        def tap(name: str, z: Any) -> Any:
            seen[name] = z
            return z + nudges[name] if name in nudges else z

        with _taps(layers, tap):
            outputs, _, _ = forward(model, trainable, other, x, training=False)
        return jnp.mean(loss(y, outputs)), seen

    def rms(value: Any) -> Any:
        return jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.float32))))

    def measure(trainable: Any, other: Any, x: Any, y: Any) -> tuple[Any, Any]:
        if not layers:
            return jnp.zeros(0), jnp.zeros(0)
        shapes = jax.eval_shape(lambda t, o, a, b: tapped(t, o, a, b, {})[1], trainable, other, x, y)
        nudges = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        gradients, seen = jax.grad(lambda n: tapped(trainable, other, x, y, n), has_aux=True)(nudges)
        names = [layer.path for layer in layers]
        missing = jnp.float32(jnp.nan)
        return (
            jnp.stack([rms(seen[name]) if name in seen else missing for name in names]),
            jnp.stack([rms(gradients[name]) if name in seen else missing for name in names]),
        )

    return measure
