"""A Flax nnx model as functions of arrays, with all that training it needs."""

import inspect
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.extend.core import get_opaque_trace_state
from numpy.typing import NDArray

from fanin.errors import ModelError
from fanin.initializers.streams import words
from fanin.jax.describe import describe
from fanin.jax.models import parts_of, walk
from fanin.jax.optimizers import Optimizers, optimizers
from fanin.jax.program import flatten
from fanin.jax.runs import Begin, Loss, Network, State, Tap, begun, metric_of
from fanin.records import ModelSpec, Settings, Task
from fanin.training import SIGNAL_BATCH, call_build, misfit

__all__ = ["network"]

_TAPPED = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)
"""The layers whose output is a pre-activation."""
_MOVED = ("reshape", "squeeze", "expand_dims", "convert_element_type", "copy")
"""Steps that say nothing about where an output comes from."""
_SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, as Keras keeps them, so that their logarithms are numbers."""
_LOCK = threading.RLock()
"""Held while a model's code runs: it may keep things in the user's module."""


def network(spec: ModelSpec, task: Task, activation: str, settings: Settings) -> Network:
    """Build the network for a task and check that they fit.

    The user's function may ask for `input_shape` (of an example), `outputs`, `activation` and `rngs`, an `nnx.Rngs`
    of the run's seed.

    Raises:
        FaninError: If the model cannot be built, or model, loss and data do not fit together.
    """
    facts = {"input_shape": task.x_train.shape[1:], "outputs": task.outputs}
    random = "rngs" in inspect.signature(spec.build).parameters

    @lru_cache(maxsize=32)
    def parts(seed: int) -> _Parts:
        """The model built under a seed, taken apart."""
        with _LOCK:
            return _taken_apart(call_build(spec, activation, {**facts, "rngs": nnx.Rngs(seed)}), spec)

    first = parts(0)
    chosen = optimizers(settings.optimizer)
    input_shape, outputs = _fitting(first, task, spec)
    loss, probabilities = _loss(first, outputs, task.x_train[:SIGNAL_BATCH].reshape(-1, *input_shape), task)

    def update(slots: Any, gradients: Any, trainable: Any) -> tuple[Any, Any]:
        """One step of the optimizer."""
        rate, held = slots
        updates, held = chosen(rate).update(gradients, held, trainable)
        return optax.apply_updates(trainable, updates), (rate, held)

    info = describe(first.model)
    return Network(
        info=replace(info, params=tuple(param for param in info.params if param.path in first.trainable)),
        computed=partial(describe, first.model, np.zeros((2, *input_shape), np.float32)),
        input_shape=input_shape,
        loss=loss,
        metric=metric_of(task, probabilities=probabilities),
        begin=_begin(lambda seed: parts(seed if random else 0), chosen),
        forward=first.forward,
        update=update,
        layers=_seen(first, input_shape),
        tapped=first.tapped,
        lock=_LOCK,
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """A model taken apart; a place is a path in the structure, where a shared parameter has one only.

    Attributes:
        model: As it was built.
        graphs: Its structure, in training mode (True) and in inference mode (False).
        variables: All of its variables by place, each with the place as Flax writes it.
        paths: The places of the parameters that are trained, with their paths in `describe`.
        trainable: The values of these parameters by path.
        other: The values of the other variables by place; keys of random streams as plain numbers.
        layers: Names of the layers whose pre-activation may be measured, with their paths.
    """

    model: nnx.Module
    graphs: Mapping[bool, Any]
    variables: Mapping[str, tuple[Any, Any]]
    paths: Mapping[str, str]
    trainable: Mapping[str, NDArray[Any]]
    other: Mapping[str, Any]
    layers: Mapping[str, str]

    def _copy(self, trainable: Any, other: Any, *, training: bool) -> Any:
        """A model with these values."""
        pairs = []
        for place, (key, variable) in self.variables.items():
            is_trained = place in self.paths
            value = trainable[self.paths[place]] if is_trained else _typed(other[place], variable.get_value())
            pairs.append((key, variable.replace(value)))
        return nnx.merge(self.graphs[training], nnx.from_flat_state(pairs))

    def forward(self, trainable: Any, other: Any, x: Any, *, training: bool) -> tuple[Any, Any, list[Any]]:
        """The model as a pure function; see `fanin.jax.runs.Forward`."""
        copy = self._copy(trainable, other, training=training)
        outputs = copy(x)
        # What a call adds, such as intermediate values, is left out: every step has the same structure.
        after = dict(nnx.to_flat_state(nnx.state(copy)))
        changed = {place: _plain(after[self.variables[place][0]].get_value()) for place in other}
        return outputs, changed, []

    def run(self, trainable: Any, other: Any, x: Any) -> Any:
        """The outputs in inference."""
        return self.forward(trainable, other, x, training=False)[0]

    def tapped(self, trainable: Any, other: Any, x: Any, tap: Tap) -> Any:
        """The outputs in inference, while `tap` sees and may replace the output of each layer."""
        copy = self._copy(trainable, other, training=False)
        modules = dict(walk(copy))
        for name, path in self.layers.items():
            _put(tap, name, modules[path])
        return copy(x)


def _taken_apart(model: Any, spec: ModelSpec) -> _Parts:
    """Take a model apart.

    Raises:
        ModelError: If it is no nnx module.
    """
    if not isinstance(model, nnx.Module):
        raise ModelError(
            "The function did not return a model of Flax nnx",
            given=f"{spec.text} returned {type(model).__name__}",
            allowed="a flax.nnx.Module",
            hint="nnx.bridge.ToNNX makes one of a linen module.",
        )
    parts = parts_of(model)
    first = {other: path for path, others in parts.shared.items() for other in others}
    model.train()  # type: ignore[no-untyped-call]
    graphs = {True: nnx.graphdef(model)}
    model.eval()  # type: ignore[no-untyped-call]
    graphs[False] = nnx.graphdef(model)
    variables = {"/".join(map(str, key)): (key, each) for key, each in nnx.to_flat_state(nnx.state(model))}
    paths = {
        place: first.get(place, place)
        for place, (_, each) in variables.items()
        if isinstance(each, nnx.Param) and jnp.issubdtype(each.get_value().dtype, jnp.floating)
    }
    trained = set(paths.values())
    layers: dict[int, str] = {}
    for path, module in parts.modules.items():
        if isinstance(module, _TAPPED):
            layers.setdefault(id(module), path)
    return _Parts(
        model,
        graphs,
        variables,
        paths,
        {path: np.asarray(array) for path, array in parts.arrays.items() if path in trained},
        {p: jax.tree.map(np.asarray, _plain(v.get_value())) for p, (_, v) in variables.items() if p not in paths},
        {path or type(model).__name__: path for path in layers.values()},
    )


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _plain(value: Any) -> Any:
    """A variable's value with the keys of random streams as plain numbers."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, value)


def _typed(value: Any, like: Any) -> Any:
    """The inverse of `_plain`, with keys where another value has them."""

    def leaf(own: Any, other: Any) -> Any:
        return jax.random.wrap_key_data(own, impl=jax.random.key_impl(other)) if _is_key(other) else own

    return jax.tree.map(leaf, value, like)


def _put(tap: Tap, name: str, layer: Any) -> None:
    """Let a layer of a copy hand its output to a tap, and go on with what that gives."""
    kind, outside = type(layer), get_opaque_trace_state(convention="nnx")

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The layer's own call, tapped."""
        output = kind.__call__(self, *args, **kwargs)
        # From inside of a loop or a checkpoint of the model no value can be taken out.
        return tap(name, output) if get_opaque_trace_state(convention="nnx") == outside else output

    # A class of its own, so that nobody else's layers are tapped.
    object.__setattr__(layer, "__class__", type(kind.__name__, (kind,), {"__call__": call}))


def _seen(parts: _Parts, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the layers whose pre-activation can be measured, in the model's order."""
    found: set[str] = set()

    def tap(name: str, z: Any) -> Any:
        found.add(name)
        return z

    example = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)
    jax.eval_shape(partial(parts.tapped, tap=tap), parts.trainable, parts.other, example)
    return tuple(name for name in parts.layers if name in found)


def _begin(parts: Callable[[int], _Parts], chosen: Optimizers) -> Begin:
    """What makes the state of a run before its first step, from the model built under its seed."""

    def begin(weights: Mapping[str, NDArray[np.float32]], seed: int, learning_rate: float) -> State:
        """The state of one run; see `fanin.jax.runs.Begin`."""
        own = parts(seed)
        trainable = {
            path: np.asarray(weights.get(path, value)).astype(value.dtype) for path, value in own.trainable.items()
        }
        slots = np.asarray(learning_rate, np.float32), chosen(learning_rate).init(trainable)
        return begun(trainable, _streams(own, seed), jax.tree.map(np.asarray, slots))

    return begin


def _streams(parts: _Parts, seed: int) -> dict[str, Any]:
    """The other variables, each key of a random stream drawn from the run's seed and its place."""

    def drawn(place: str, value: Any) -> Any:
        """A variable's plain value, or a key's new one."""
        if not _is_key(parts.variables[place][1].get_value()):
            return value
        return words(seed, place, 0, value.size).reshape(value.shape).astype(value.dtype)

    return {place: drawn(place, value) for place, value in parts.other.items()}


# -------------------------------------------------------------------------------------------- what fits together
def _layouts(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes in which a model may want an example, the likeliest first.

    Example:
        >>> _layouts((8, 6))
        ((8, 6), (8, 6, 1), (48,))
    """
    images = [(*shape, 1)] if len(shape) == 2 else []
    return tuple(dict.fromkeys((shape, *images, (math.prod(shape),))))


def _fitting(parts: _Parts, task: Task, spec: ModelSpec) -> tuple[tuple[int, ...], int]:
    """The first layout with which the model gives an output for each class or target, and the number of outputs."""
    first: Exception | tuple[int, ...] | None = None
    wanted = {task.outputs, 1} if task.kind == "classification" and task.outputs == 2 else {task.outputs}
    layouts = _layouts(task.x_train.shape[1:])
    for layout in layouts:
        example = jax.ShapeDtypeStruct((2, *layout), jnp.float32)
        try:
            outputs = jax.eval_shape(parts.run, parts.trainable, parts.other, example)
        except Exception as error:  # a user's model may raise anything
            first = first or error
            continue
        shape = tuple(getattr(outputs, "shape", ()))
        if len(shape) == 2 and shape[0] == 2 and shape[1] in wanted:
            return layout, shape[1]
        # What the model gives says more than why it failed in a layout that it was not made for.
        first = shape if not isinstance(first, tuple) else first
    if isinstance(first, Exception):
        line = (str(first).strip() or "no message").splitlines()[0]
        raise ModelError(
            f"The model fails on a batch of the data: {type(first).__name__}: {line}",
            given=f"{spec.text}, and examples of shape {layouts[0]}",
            hint="Examples are float32. The function may take input_shape and outputs, and build the model for them.",
        ) from first
    raise misfit(spec, task, first or None, "no single array as output")


def _loss(parts: _Parts, outputs: int, x: NDArray[np.float32], task: Task) -> tuple[Loss, bool]:
    """The loss per example, and whether the model puts out probabilities rather than logits."""
    if task.kind == "regression":
        return lambda y, out: jnp.mean(jnp.square(out - y.reshape(out.shape)), axis=-1), False

    given = parts.trainable, parts.other, x
    values, source = np.asarray(jax.jit(parts.run)(*given)), _source(parts.run, *given)
    if outputs == 1:
        if source == "logistic":
            return _of_probability, True
        return lambda y, out: optax.losses.sigmoid_binary_cross_entropy(out[:, 0], y), False
    # Seen in the values: a softmax ends in a division, as other things do.
    if source == "logistic" or ((values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-4)):
        return _of_probabilities, True
    return lambda y, out: optax.losses.softmax_cross_entropy_with_integer_labels(out, y), False


def _source(function: Callable[..., Any], *given: Any) -> str:
    """The primitive that makes a function's output; empty if it is an input."""
    program = flatten(jax.make_jaxpr(function)(*given), 0)
    made = {slot: node for node in program.nodes for slot in node.outputs}
    node = made.get(program.outputs[0])
    while node is not None and node.primitive in _MOVED:
        node = made.get(node.inputs[0])
    return "" if node is None else node.primitive


def _of_probability(y: Any, out: Any) -> Any:
    share = jnp.clip(out[:, 0], _SMALLEST, 1 - _SMALLEST)
    return -jnp.where(y == 1, jnp.log(share), jnp.log1p(-share))


def _of_probabilities(y: Any, out: Any) -> Any:
    shares = jnp.clip(out / jnp.sum(out, axis=1, keepdims=True), _SMALLEST, 1 - _SMALLEST)
    return -jnp.log(jnp.take_along_axis(shares, y[:, None], axis=1)[:, 0])
