"""A Keras model as functions of arrays, with all that training it needs."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from fanin.errors import ModelError
from fanin.jax.runs import Begin, Loss, Network, State, begun, metric_of
from fanin.keras.adapter import describe
from fanin.keras.backend import KERAS
from fanin.keras.layouts import is_generator, path_of, state_of
from fanin.keras.models import build, fit_input
from fanin.keras.optimizers import optimizer
from fanin.keras.taps import forward, tapped, tapped_layers
from fanin.records import ModelInfo, ModelSpec, Settings, Task
from fanin.training import misfit

__all__ = ["network"]

Values = tuple[list[NDArray[Any]], list[NDArray[Any]]]
"""Of a model's trainable and of its other variables."""


def network(spec: ModelSpec, task: Task, activation: str, settings: Settings) -> Network:
    """Build the network for a task and check that they fit.

    Raises:
        FaninError: If the model cannot be built, or model, loss and data do not fit together.
    """
    example_shape = task.x_train.shape[1:]

    def fresh(seed: int) -> keras.Model:
        """The model built under a seed."""
        keras.utils.set_random_seed(seed)
        model = build(spec, example_shape, task.outputs, activation)
        shape = fit_input(model, example_shape, spec.text)
        if not model.built:
            model(np.zeros((1, *shape), np.float32))
        return model

    @lru_cache(maxsize=32)
    def values(seed: int) -> Values:
        """What the variables of a model built under a seed start with."""
        with KERAS:
            model = fresh(seed)
            return (
                [np.asarray(v.value) for v in model.trainable_variables],
                [np.asarray(v.value) for v in model.non_trainable_variables],
            )

    model = fresh(0)
    chosen = optimizer(settings.optimizer)
    chosen.build(model.trainable_variables)
    input_shape = fit_input(model, example_shape, spec.text)
    units = _output_units(model, input_shape, task, spec)
    loss, probabilities = _loss(model, units, task, spec)
    info = describe(model)
    return Network(
        info=info,
        computed=partial(describe, model, np.zeros((2, *input_shape), np.float32)),
        input_shape=input_shape,
        loss=loss,
        metric=metric_of(task, probabilities=probabilities),
        begin=_begin(model, chosen, info, values),
        forward=partial(forward, model),
        update=partial(_update, chosen),
        layers=tuple(layer.path for layer in tapped_layers(model)),
        tapped=partial(tapped, model),
        lock=KERAS,
    )


def _seeded(model: keras.Model, values: Callable[[int], Values]) -> frozenset[str]:
    """Names of the variables that two seeds start with different values, generators not counted."""
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    pairs = zip(variables, [*values(0)[0], *values(0)[1]], [*values(1)[0], *values(1)[1]], strict=True)
    return frozenset(
        path_of(model, variable)
        for variable, one, other in pairs
        if not is_generator(variable) and not np.array_equal(one, other)
    )


def _output_units(model: keras.Model, input_shape: tuple[int, ...], task: Task, spec: ModelSpec) -> int:
    """The width of the model's output, once it is known to fit the task."""
    values = (
        [variable.value for variable in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    example = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)
    output = jax.eval_shape(lambda x: forward(model, *values, x, training=False)[0], example)
    shape = getattr(output, "shape", None)
    binary = task.kind == "classification" and task.outputs == 2
    if shape is None or (shape != (2, task.outputs) and not (binary and shape == (2, 1))):
        raise misfit(spec, task, shape, "several outputs")
    return int(shape[1])


def _loss(model: keras.Model, units: int, task: Task, spec: ModelSpec) -> tuple[Loss, bool]:
    """The loss per example, and whether the model puts out probabilities rather than logits."""
    compiled = getattr(model, "loss", None)
    if compiled is not None:
        return _compiled_loss(keras.losses.get(compiled), task.outputs)
    if task.kind == "regression":
        return keras.losses.mean_squared_error, False
    last = _last_activation(model)
    if last is None:
        raise ModelError(
            "It cannot be seen whether the model puts out logits or probabilities",
            given=spec.text,
            hint="Return a compiled model: model.compile(loss=keras.losses.SparseCategoricalCrossentropy(...)).",
        )
    # An unusual output counts as probabilities and goes in as it is: a study of a mistake must be able to make it.
    logits = last == "linear"
    if units == 1:
        return lambda y, out: keras.losses.binary_crossentropy(y[:, None], out, from_logits=logits), not logits
    return lambda y, out: keras.losses.sparse_categorical_crossentropy(y, out, from_logits=logits), not logits


def _last_activation(model: keras.Model) -> str | None:
    """Name of the function that makes the model's output, or None where the model's code alone knows."""
    layers = getattr(model, "layers", [])
    if not layers or getattr(model, "output_shape", None) is None:  # only a graph of layers has one
        return None
    last = layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    function = getattr(last, "activation", None)
    return "linear" if function is None else str(getattr(function, "__name__", "unknown"))


def _compiled_loss(loss: Any, outputs: int) -> tuple[Loss, bool]:
    name = type(loss).__name__ if isinstance(loss, keras.losses.Loss) else getattr(loss, "__name__", "")
    per_example = loss.call if isinstance(loss, keras.losses.Loss) else loss
    config = getattr(loss, "_fn_kwargs", {})
    one_hot = name.lower().replace("_", "") in (
        "categoricalcrossentropy",
        "categoricalfocalcrossentropy",
        "kldivergence",
    )
    if one_hot:
        return lambda y, out: per_example(jax.nn.one_hot(y, outputs), out), not config.get("from_logits", False)
    if "binary" in name.lower():
        return lambda y, out: per_example(y[:, None], out), not config.get("from_logits", False)
    return per_example, not config.get("from_logits", False)


def _update(optimizer: keras.optimizers.Optimizer, slots: Any, gradients: Any, trainable: Any) -> tuple[Any, Any]:
    """One step of the optimizer: new trained values, new slots."""
    after, changed = optimizer.stateless_apply(slots, gradients, trainable)
    return list(after), list(changed)


def _begin(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, info: ModelInfo, values: Callable[[int], Values]
) -> Begin:
    """What makes the state of a run before its first step."""
    seeded = _seeded(model, values)

    def begin(weights: Mapping[str, NDArray[np.float32]], seed: int, learning_rate: float) -> State:
        """The state of one run; see `fanin.jax.runs.Begin`."""
        # Building is slow: done for this seed only where something is left that depends on it.
        trainable, other = values(seed if seeded - set(weights) else 0)
        paths = [param.path for param in info.params]
        start = [np.asarray(weights.get(path, value)) for path, value in zip(paths, trainable, strict=True)]
        random = [
            state_of(model, variable, seed) if is_generator(variable) else value
            for variable, value in zip(model.non_trainable_variables, other, strict=True)
        ]
        rate = np.asarray(learning_rate, np.float32)
        slots = [
            rate if variable.path.endswith("learning_rate") else np.asarray(variable.value)
            for variable in optimizer.variables
        ]
        return begun(start, random, slots)

    return begin
