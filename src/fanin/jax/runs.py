"""One training run on JAX as pure functions: its state, its step, its evaluation, its signals.

Everything that happens to a run is here, for one run and on one device; `trainer` decides how many are
executed together. A framework brings a `Network`: its model as a function of arrays.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fanin.records import ModelInfo, Task
from fanin.vitals import COMPARED

__all__ = [
    "Begin",
    "Forward",
    "Loss",
    "Network",
    "State",
    "Tap",
    "begun",
    "evaluate_function",
    "metric_of",
    "signal_function",
    "step_function",
]

Loss = Callable[[Any, Any], Any]
"""From targets and outputs to one number per example."""
Tap = Callable[[str, Any], Any]
"""From a layer's name and its pre-activation to the value with which the layer goes on."""


class State(NamedTuple):
    """What changes during a run.

    Attributes:
        trainable, other, slots: Values of the model's trained and other variables and of the optimizer's.
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


def begun(trainable: Any, other: Any, slots: Any) -> State:
    """The state of a run before its first step, from NumPy arrays."""
    return State(trainable, other, slots, np.asarray(True), np.asarray(0, np.int32), np.asarray(-1, np.int32))


class Begin(Protocol):
    """Makes the state of one run before its first step, as NumPy arrays."""

    def __call__(self, weights: Mapping[str, NDArray[np.float32]], seed: int, learning_rate: float) -> State:
        """The state.

        Args:
            weights: Initial values by path; parameters not named start as a model built under `seed` has them.
            seed: The run's seed; random layers (dropout) take their stream from it.
            learning_rate: Handed to the optimizer.
        """


class Forward(Protocol):
    """A model as a pure function."""

    def __call__(self, trainable: Any, other: Any, x: Any, *, training: bool) -> tuple[Any, Any, list[Any]]:
        """Outputs, the changed values of the other variables, and losses that layers add (regularisers)."""


@dataclass(frozen=True, eq=False)
class Network:
    """A built model with all that training it needs, as functions that JAX can trace.

    Attributes:
        info: The parameters that are trained.
        computed: Describes the model with what it computes, for recipes that need that.
        input_shape: The shape in which an example goes in.
        loss: Its mean over a batch is what is made small.
        metric: From targets and outputs to one number per example; its mean is the metric.
        begin: Makes the state of a run.
        forward: The model.
        update: From slots, gradients and trained values to new trained values and slots.
        layers: Names of the layers whose pre-activation is measured, in the model's order.
        tapped: From trained values, other values, inputs and a tap on each of `layers` to the outputs in inference.
        lock: Held while the model's Python code runs, because it may share state of the whole process.
    """

    info: ModelInfo
    computed: Callable[[], ModelInfo]
    input_shape: tuple[int, ...]
    loss: Loss
    metric: Loss
    begin: Begin
    forward: Forward
    update: Callable[[Any, Any, Any], tuple[Any, Any]]
    layers: tuple[str, ...]
    tapped: Callable[[Any, Any, Any, Tap], Any]
    lock: AbstractContextManager[Any]


def metric_of(task: Task, *, probabilities: bool) -> Loss:
    """The metric of a task: the accuracy, or the squared error.

    Args:
        task: The data.
        probabilities: Whether the model puts out probabilities rather than logits.
    """
    if task.kind == "regression":
        return lambda y, out: jnp.mean(jnp.square(out - y.reshape(out.shape)), axis=-1)

    def accuracy(y: Any, out: Any) -> Any:
        """One where the prediction is right, else zero."""
        if out.shape[-1] == 1:
            label = (out[:, 0] > (0.5 if probabilities else 0.0)).astype(y.dtype)
        else:
            label = jnp.argmax(out, axis=-1).astype(y.dtype)
        # argmax of an output that is not a number is class 0: such a prediction is no prediction.
        return ((label == y) & jnp.all(jnp.isfinite(out), axis=-1)).astype(jnp.float32)

    return accuracy


def step_function(net: Network) -> Callable[[Any, Any, State, Any], tuple[State, Any]]:
    """One training step of one run, from (x, y, state, indices of the batch) to (state, loss)."""

    def objective(trainable: Any, other: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """The loss, and the changed values of the other variables."""
        outputs, changed, extra = net.forward(trainable, other, x, training=True)
        return jnp.mean(net.loss(y, outputs)) + sum(extra), changed

    def step(x: Any, y: Any, state: State, batch: Any) -> tuple[State, Any]:
        """The state after the step, and the loss before it."""
        (loss, other), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.trainable, state.other, x[batch], y[batch]
        )
        trainable, slots = net.update(state.slots, gradients, state.trainable)
        alive = state.alive & jnp.isfinite(loss)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)

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
        """The two, in inference."""
        outputs, _, _ = net.forward(state.trainable, state.other, x, training=False)
        return net.loss(y, outputs).reshape(len(x), -1).mean(axis=1), net.metric(y, outputs)

    return evaluate


def _rms(value: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.float32))))


def _geometry(z: Any, bound: Any) -> tuple[Any, Any, Any]:
    """Cosine between examples, share of dead units and of saturated values, of shape (batch, ..., units)."""
    rows = z[:COMPARED].reshape(min(COMPARED, len(z)), -1).astype(jnp.float32)
    units = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    pairs = len(rows) * (len(rows) - 1)
    cosine = (jnp.sum(units @ units.T) - len(rows)) / pairs if pairs else jnp.float32(jnp.nan)
    dead = jnp.mean(jnp.all(z <= 0, axis=tuple(range(z.ndim - 1))), dtype=jnp.float32)
    return cosine, dead, jnp.mean(jnp.abs(z) > bound, dtype=jnp.float32)


def signal_function(net: Network) -> Callable[[State, Any, Any, Any], tuple[Any, ...]]:
    """A traceable function that measures each layer's pre-activation and its gradient.

    Returns:
        A function of (state, x, y, bound) that gives arrays in the order of `fanin.records.InitialSignals`, one
        number per layer in the order of `net.layers`; the gradient is that of the batch's mean loss, and what is
        larger than the bound is saturated. The model is run as in inference. A layer
        used more than once reports its last use; one that is not used, not a number.
    """

    def tapped(state: State, x: Any, y: Any, nudges: Mapping[str, Any]) -> tuple[Any, Any]:
        """The loss, and the pre-activations; a nudge is added to each."""
        seen: dict[str, Any] = {}

        def tap(name: str, z: Any) -> Any:
            seen[name] = z
            return z + nudges[name] if name in nudges else z

        outputs = net.tapped(state.trainable, state.other, x, tap)
        return jnp.mean(net.loss(y, outputs)), seen

    def measure(state: State, x: Any, y: Any, bound: Any) -> tuple[Any, ...]:
        """What is measured of all layers."""
        if not net.layers:
            return (jnp.zeros(0),) * 5
        shapes = jax.eval_shape(lambda s, a, b: tapped(s, a, b, {})[1], state, x, y)
        nudges = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        gradients, seen = jax.grad(lambda n: tapped(state, x, y, n), has_aux=True)(nudges)
        missing = (jnp.float32(jnp.nan),) * 5
        rows = [
            (_rms(seen[name]), _rms(gradients[name]), *_geometry(seen[name], bound)) if name in seen else missing
            for name in net.layers
        ]
        return tuple(map(jnp.stack, zip(*rows, strict=True)))

    return measure
