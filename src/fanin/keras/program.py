"""One training run as pure functions: the network, its step, its evaluation, its probe.

Everything that happens to a run is here, for one run and on one device; `trainer` decides how many are
executed together.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.initializers.streams import words
from fanin.keras.adapter import describe
from fanin.keras.backend import KERAS
from fanin.keras.layouts import path_of
from fanin.keras.models import build, fit_input
from fanin.keras.taps import forward
from fanin.records import Call, ModelInfo, ModelSpec, Settings, Task

__all__ = ["Network", "State", "evaluate_function", "initial_state", "network", "optimizer", "step_function"]


class State(NamedTuple):
    """What changes during a run.

    Attributes:
        trainable, other, slots: Values of the model's trainable and other variables and of the optimizer's.
        alive: False from the first step whose loss was not finite; a dead run keeps its last values.
        step: Steps done or skipped.
        diverged_at: The first step whose loss was not finite, or -1.
    """

    trainable: Any
    other: Any
    slots: Any
    alive: Any
    step: Any
    diverged_at: Any


@dataclass(frozen=True, eq=False)
class Network:
    """A built model with all that training it needs.

    Attributes:
        loss: From targets and outputs to one loss per example.
        metric: From targets and outputs to one number per example; its mean is the metric.
        input_shape: The shape in which an example goes in.
        rebuild: Builds the model anew under a seed and returns the values of its trainable and other variables.
        seeded: Names of the variables whose values depend on that seed, generators of random layers not counted.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss: Callable[[Any, Any], Any]
    metric: Callable[[Any, Any], Any]
    info: ModelInfo
    input_shape: tuple[int, ...]
    rebuild: Callable[[int], tuple[list[NDArray[Any]], list[NDArray[Any]]]]
    seeded: frozenset[str]


def _optimizer_names() -> dict[str, type]:
    return {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value)
        and issubclass(value, keras.optimizers.Optimizer)
        and value is not keras.optimizers.Optimizer
    }


def optimizer(call: Call) -> keras.optimizers.Optimizer:
    """The Keras optimizer that a text like ``sgd(momentum=0.9)`` names; its learning rate is set for each run.

    Raises:
        UnknownNameError, InvalidValueError: If there is none, or it does not take these parameters.
    """
    known = _optimizer_names()
    if call.name.lower() not in known:
        raise unknown_name("optimizer", call.name, known)
    if "learning_rate" in call.params:
        raise InvalidValueError(
            "The learning rate is not a parameter of the optimizer here", given=str(call), hint="Use --lr."
        )
    try:
        return known[call.name.lower()](**call.params)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"The optimizer cannot be made: {error}", given=str(call)) from None


def network(spec: ModelSpec, task: Task, activation: str, settings: Settings) -> Network:
    """Build the network for a task and check that they fit.

    Raises:
        FaninError: If the model cannot be built, or model, loss and data do not fit together.
    """
    example_shape = task.x_train.shape[1:]

    def fresh(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        model = build(spec, example_shape, task.outputs, activation)
        shape = fit_input(model, example_shape, spec.text)
        if not model.built:
            model(np.zeros((1, *shape), np.float32))
        return model

    @lru_cache(maxsize=32)
    def values(seed: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
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
    return Network(
        model, chosen, loss, _metric(task, probabilities), describe(model),
        input_shape, values, _seeded(model, values),
    )  # fmt: skip


def _seeded(model: keras.Model, values: Callable[[int], Any]) -> frozenset[str]:
    """Names of the variables that two seeds start with different values, generators not counted."""
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    pairs = zip(variables, [*values(0)[0], *values(0)[1]], [*values(1)[0], *values(1)[1]], strict=True)
    return frozenset(
        path_of(model, variable)
        for variable, one, other in pairs
        if not _is_generator(variable) and not np.array_equal(one, other)
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
        kind = "classes" if task.kind == "classification" else "target columns"
        shown = "several outputs" if shape is None else f"an output of shape {('batch', *shape[1:])}"
        raise ModelError(
            "The model's output and the data do not fit together",
            given=f"{spec.text} has {shown}, {task.name} has {task.outputs} {kind}".replace("'", ""),
            allowed=f"an output of shape (batch, {task.outputs})",
        )
    return int(shape[1])


def _loss(model: keras.Model, units: int, task: Task, spec: ModelSpec) -> tuple[Callable[[Any, Any], Any], bool]:
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


def _compiled_loss(loss: Any, outputs: int) -> tuple[Callable[[Any, Any], Any], bool]:
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


def _metric(task: Task, probabilities: bool) -> Callable[[Any, Any], Any]:
    if task.kind == "regression":
        return lambda y, out: jnp.mean(jnp.square(out - y.reshape(out.shape)), axis=-1)

    def accuracy(y: Any, out: Any) -> Any:
        if out.shape[-1] == 1:
            label = (out[:, 0] > (0.5 if probabilities else 0.0)).astype(y.dtype)
        else:
            label = jnp.argmax(out, axis=-1).astype(y.dtype)
        # argmax of an output that is not a number is class 0: such a prediction is no prediction.
        return ((label == y) & jnp.all(jnp.isfinite(out), axis=-1)).astype(jnp.float32)

    return accuracy


def initial_state(net: Network, weights: Mapping[str, NDArray[np.float32]], seed: int, learning_rate: float) -> State:
    """The state of one run before its first step, as NumPy arrays.

    Args:
        net: The network.
        weights: Initial values by path; parameters not named start as a model built under `seed` has them.
        seed: The run's seed; random layers (dropout) take their stream from it.
        learning_rate: Handed to the optimizer.
    """
    # Building is slow: done for this seed only where something is left that depends on it.
    trainable, other = net.rebuild(seed if net.seeded - set(weights) else 0)
    paths = [param.path for param in net.info.params]
    start = [np.asarray(weights.get(path, value)) for path, value in zip(paths, trainable, strict=True)]
    random = [
        words(seed, path_of(net.model, variable), 0, 2).reshape(value.shape).astype(value.dtype)
        if _is_generator(variable)
        else value
        for variable, value in zip(net.model.non_trainable_variables, other, strict=True)
    ]
    slots = [
        np.asarray(learning_rate, np.float32) if variable.path.endswith("learning_rate") else np.asarray(variable.value)
        for variable in net.optimizer.variables
    ]
    return State(start, random, slots, np.asarray(True), np.asarray(0, np.int32), np.asarray(-1, np.int32))


def _is_generator(variable: keras.Variable) -> bool:
    return "seed_generator" in variable.path and math.prod(variable.shape) == 2


def step_function(net: Network) -> Callable[[Any, Any, State, Any], tuple[State, Any]]:
    """One training step of one run, from (x, y, state, indices of the batch) to (state, loss)."""

    def objective(trainable: Any, other: Any, x: Any, y: Any) -> tuple[Any, Any]:
        outputs, changed, extra = forward(net.model, trainable, other, x, training=True)
        return jnp.mean(net.loss(y, outputs)) + sum(extra), changed

    def step(x: Any, y: Any, state: State, batch: Any) -> tuple[State, Any]:
        (loss, other), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.trainable, state.other, x[batch], y[batch]
        )
        trainable, slots = net.optimizer.stateless_apply(state.slots, gradients, state.trainable)
        alive = state.alive & jnp.isfinite(loss)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(alive, a, b), list(new), list(old))

        after = State(
            keep(trainable, state.trainable),
            keep(other, state.other),
            keep(slots, state.slots),
            alive,
            state.step + 1,
            jnp.where(state.alive & ~alive, state.step, state.diverged_at),
        )
        return after, jnp.where(state.alive, loss, jnp.nan)

    return step


def evaluate_function(net: Network) -> Callable[[State, Any, Any], tuple[Any, Any]]:
    """Loss and metric of each example of a batch, from (state, x, y)."""

    def evaluate(state: State, x: Any, y: Any) -> tuple[Any, Any]:
        outputs, _, _ = forward(net.model, state.trainable, state.other, x, training=False)
        return net.loss(y, outputs).reshape(len(x), -1).mean(axis=1), net.metric(y, outputs)

    return evaluate
