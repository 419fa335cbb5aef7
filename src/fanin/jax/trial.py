"""Some steps of training on one batch, by a copy of a Flax model."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, extra_missing
from fanin.initializers.specs import parse_call
from fanin.jax.compiling import compiled
from fanin.jax.describe import read_model
from fanin.jax.losses import Criterion, criterion
from fanin.jax.models import Parts, parts_of
from fanin.jax.probe import array_of, opened_for, started, values_of
from fanin.jax.program import run
from fanin.jax.statistics import root_mean_square
from fanin.jax.tracing import ARRAYS, arguments
from fanin.records import Call, Trial
from fanin.vitals import relative

__all__ = ["rate_of", "trial"]

_DEFAULT = "adam"
_RATES = {"sgd": 0.01}
"""Learning rates where none is given: those of Keras."""
_RATE = 0.001
_FEWEST = 2
"""Steps that are done however long they take."""

Forward = Callable[[Mapping[str, Any], Sequence[Any], Sequence[Any]], tuple[Any, Sequence[Any]]]
"""From parameters, other state and an example's arrays to the outputs and the state as it is afterwards."""


def trial(
    model: Any,
    example: Any,
    targets: Any,
    *,
    loss: Any,
    optimizer: Any = None,
    learning_rate: float | None = None,
    steps: int = 50,
    values: Mapping[str, NDArray[Any]] | None = None,
    cut: int | None = None,
    seconds: float = 10.0,
) -> Trial:
    """Train a copy of a model on one batch, and tell how that went; the model stays as it is.

    An nnx module is trained in training mode; what a linen module does is said by its arguments. Random layers go on
    from the model's own random numbers, so that the same call gives the same numbers.

    There is no `thaw` as in the other frameworks: no parameter of Flax says that it is frozen, so all are handed to the
    optimizer; one that leaves some out (`optax.set_to_zero`) does not tell, and does so here as well.

    Args:
        model: An nnx module, or a bound linen module.
        example: As for `describe`, with real values.
        targets: What the loss takes.
        loss: A function of outputs and targets, or the name of one in `optax.losses`.
        optimizer: A gradient transformation of optax, or a text like ``sgd(momentum=0.9)``, whose learning rate is
            0.001 (0.01 for sgd) unless it is given; None is Adam.
        learning_rate: In place of the text's.
        steps: How many, 0 or more.
        values: What parameters start with, by path, in place of their own values.
        cut: The copy returns the output of this step of ``describe(model, example).ops``, and keeps its other state.
        seconds: No further step is begun after this time, counted from the end of the first; two are done anyway.

    Returns:
        Gradients are infinite where they are not finite, and 0 for what the loss does not depend on.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: If there is no such loss, optimizer, parameter or step, or
            the model or the loss does not take what it is given.

    Example:
        >>> model = nnx.Linear(3, 2, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
        >>> found = trial(model, jnp.ones((4, 3)), jnp.ones((4, 2)), loss="squared_error",
        ...               optimizer="sgd(learning_rate=0.125)", steps=2)
        >>> found.losses
        (1.0, 0.25, 0.0625)
    """
    if steps < 0:
        raise InvalidValueError("There cannot be less than no steps", given=steps, allowed="0 or more")
    update = _transformation(optimizer if optimizer is not None else _DEFAULT, learning_rate)
    copy = model
    if isinstance(model, nnx.Module):
        copy = nnx.clone(model)
        copy.train()  # type: ignore[no-untyped-call]
    parts = parts_of(copy)
    if any(isinstance(each, jax.ShapeDtypeStruct) for each in parts.arrays.values()):
        raise ModelError("The model has shapes alone", hint="Give it values.")
    start = {path: jnp.asarray(value) for path, value in started(parts.arrays, values or {}).items()}
    forward = _whole(parts, example) if cut is None else _until(copy, example, cut)
    course = _Course(forward, criterion(loss), update)
    batch = _arrays(example), jax.tree.map(jnp.asarray, targets)
    return course.run(start, list(parts.state), batch, steps, seconds)


def rate_of(optimizer: Any) -> tuple[str, float | None, float]:
    """Name, learning rate and momentum of an optimizer; what a gradient transformation does not tell is left out.

    Example:
        >>> rate_of("sgd(momentum=0.9)")
        ('sgd', 0.01, 0.9)
    """
    _transformation(optimizer, None)
    if not isinstance(optimizer, str):
        return type(optimizer).__name__, None, 0.0
    call, rate = _call_of(optimizer)
    return call.name.lower(), rate, float(call.params.get("momentum") or 0.0)  # type: ignore[arg-type]


def _call_of(text: str) -> tuple[Call, float]:
    """A text without its learning rate, and that."""
    call = parse_call(text, "optimizer")
    params = {"learning_rate" if name == "lr" else name: value for name, value in call.params.items()}
    rate = params.pop("learning_rate", _RATES.get(call.name.lower(), _RATE))
    if not isinstance(rate, int | float):
        raise InvalidValueError("The learning rate is no number", given=text)
    return Call(call.name, **params), float(rate)


def _transformation(optimizer: Any, learning_rate: float | None) -> Any:
    """The gradient transformation that is meant.

    Raises:
        UnknownNameError, InvalidValueError: If there is none, or its learning rate cannot be changed.
    """
    if isinstance(optimizer, str):
        try:
            from fanin.jax.optimizers import optimizers
        except ImportError as error:
            raise extra_missing(error, "jax", ("optax",), "An optimizer by its name") from None
        call, rate = _call_of(optimizer)
        return optimizers(call)(rate if learning_rate is None else learning_rate)
    optimizer = getattr(optimizer, "tx", optimizer)  # an nnx.Optimizer holds one
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        allowed = "a gradient transformation of optax, or a text like sgd(momentum=0.9)"
        raise InvalidValueError("This is no optimizer", given=type(optimizer).__name__, allowed=allowed)
    if learning_rate is not None:
        told = "The learning rate of a gradient transformation is fixed"
        raise InvalidValueError(told, given=learning_rate, hint="Give the optimizer as a text.")
    return optimizer


def _arrays(example: Any) -> list[Any]:
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(arguments(example)) if isinstance(leaf, ARRAYS)]


def _whole(parts: Parts, example: Any) -> Forward:
    """The model as it is."""
    leaves, structure = jax.tree.flatten(arguments(example))

    def forward(weights: Mapping[str, Any], state: Sequence[Any], arrays: Sequence[Any]) -> Any:
        """The model's own call; the arrays take the example's places."""
        waiting = iter(arrays)
        filled = [next(waiting) if isinstance(leaf, ARRAYS) else leaf for leaf in leaves]
        args, kwargs = jax.tree.unflatten(structure, filled)
        try:
            return parts.advance(weights, state, args, kwargs)
        except Exception as error:  # whatever the user's model raises
            told = f"{type(error).__name__}: {error}"
            raise ModelError("The model cannot be trained on the example", given=told) from error

    return forward


def _until(model: Any, example: Any, cut: int) -> Forward:
    """The model's steps as they were read, one of which gives the output.

    Raises:
        ModelError: If there is no such step.
    """
    info, reading = read_model(model, example)
    if not 0 <= cut < len(info.ops):
        raise ModelError("There is no such step of the model", given=cut, allowed=f"0 to {len(info.ops) - 1}")
    found, slot = reading.trace, reading.drafts[cut].slot
    opened = opened_for(found.program, [slot])
    fixed, given = values_of(reading)

    def forward(weights: Mapping[str, Any], state: Sequence[Any], arrays: Sequence[Any]) -> Any:
        """All steps; those behind the cut lead nowhere."""
        handed = {found.weights[path]: value for path, value in weights.items()}
        handed |= dict(zip(found.examples, arrays, strict=True))
        return run(found.program, {**fixed, **given, **handed}, opened)[slot], state

    return forward


@dataclass(frozen=True, eq=False)
class _Course:
    """Training, ready to begin.

    Attributes:
        forward: What the copy computes.
        loss: Of outputs and targets.
        update: The optimizer.
    """

    forward: Forward
    loss: Criterion
    update: Any

    def measure(self, weights: Mapping[str, Any], state: Sequence[Any], batch: Any) -> Any:
        """The loss, the outputs, the state afterwards, the loss's gradient and the sizes of that."""

        def objective(weights: Mapping[str, Any]) -> tuple[Any, Any]:
            outputs, after = self.forward(weights, state, batch[0])
            total = self.loss(outputs, batch[1])
            arrays = [each for each in jax.tree.leaves(outputs) if isinstance(each, jax.Array)]
            return total, (total, arrays, after)

        gradients, rest = jax.grad(objective, has_aux=True)(weights)
        return *rest, gradients, {path: root_mean_square(each) for path, each in gradients.items()}

    def apply(self, weights: Mapping[str, Any], slots: Any, gradients: Any) -> Any:
        """The weights and the optimizer's state after a step, and the sizes of changes and of values before."""
        changes, slots = self.update.update(gradients, slots, weights)
        after = {path: (weights[path] + change).astype(weights[path].dtype) for path, change in changes.items()}
        sizes = {path: jnp.stack([root_mean_square(after[path] - old), root_mean_square(old)])
                 for path, old in weights.items()}  # fmt: skip
        return after, slots, sizes

    def run(self, weights: Mapping[str, Any], state: Sequence[Any], batch: Any, steps: int, seconds: float) -> Trial:
        """Train."""
        measure, apply = compiled(self.measure), compiled(self.apply, once=True)
        slots = self.update.init(weights)
        losses: list[float] = []
        gradients: list[Mapping[str, Any]] = []
        updates: list[Mapping[str, Any]] = []
        end = math.inf
        while True:
            loss, outputs, state, gradient, sizes = measure(weights, state, batch)
            losses.append(float(loss))
            late = len(updates) >= _FEWEST and time.perf_counter() > end
            if len(updates) == steps or late or not math.isfinite(losses[-1]):
                break
            gradients.append(sizes)
            weights, slots, changes = apply(weights, slots, gradient)
            updates.append(changes)
            end = time.perf_counter() + seconds if len(updates) == 1 else end
        return Trial(
            tuple(losses),
            tuple(map(array_of, outputs)),
            {path: array_of(value) for path, value in weights.items()},
            {path: _largest([each[path] for each in gradients]) for path in weights},
            {path: _relative([each[path] for each in updates]) for path in weights},
        )


def _largest(sizes: Sequence[Any]) -> float:
    """The largest number; infinite where one is not finite."""
    table = np.array(sizes, np.float64)
    return float(np.where(np.isfinite(table), table, np.inf).max(initial=0.0))


def _relative(sizes: Sequence[Any]) -> tuple[float, ...]:
    """How large a parameter's changes are beside its values, step by step."""
    return tuple(relative(*np.array(sizes, np.float64).reshape(-1, 2).T).tolist())
