"""Some steps of training on one batch, by a copy of a Keras model, on every backend."""

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.optimizers import Optimizer
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError
from fanin.keras.gradients import compiled, differentiate
from fanin.keras.layouts import is_generator, state_of, variables_of
from fanin.keras.losses import Criterion, criterion
from fanin.keras.optimizers import DEFAULT, fresh
from fanin.keras.probe import started
from fanin.keras.running import array_of, arrays_of, run, tensors_of
from fanin.keras.statistics import root_mean_square
from fanin.keras.trace import call_arguments, takes_training, trace
from fanin.records import Trial
from fanin.vitals import relative

__all__ = ["trial"]

_SEED = 0
"""Of random layers."""
_FEWEST = 2
"""Steps that are done however long they take."""

Forward = Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], tuple[Any, Any, Sequence[Any]]]
"""From values of trainable and other variables and an example's tensors to outputs, changed others, added losses."""


def trial(
    model: keras.Model,
    example: Any,
    targets: Any,
    *,
    loss: Any = None,
    optimizer: Optimizer | str | None = None,
    learning_rate: float | None = None,
    steps: int = 50,
    values: Mapping[str, NDArray[Any]] | None = None,
    cut: int | None = None,
    thaw: bool = False,
    seconds: float = 10.0,
) -> Trial:
    """Train a copy of a model on one batch, as `fit` would, and tell how that went.

    The model, its optimizer and its random layers stay as they are, also if something raises. Random layers start
    with a seed of their own, so that the same call gives the same numbers.

    Args:
        model: A built model.
        example: What it is called on, as in `describe`.
        targets: What the loss takes: an array, or lists and dicts of them.
        loss: A loss, its name, or a function of targets and outputs; None is the one that the model was compiled with.
            Regularisers are added to it.
        optimizer: A fresh one like it trains the copy. A text like ``sgd(momentum=0.9)`` will do; None is the one that
            the model was compiled with, or else Adam.
        learning_rate: In place of the optimizer's.
        steps: How many, 0 or more.
        values: What trainable variables start with, by path, in place of their own values.
        cut: The copy returns the output of this step of ``describe(model, example).ops``.
        thaw: Whether frozen parameters are trained as well.
        seconds: No further step is begun after this time, counted from the end of the first; two are done anyway.

    Returns:
        Gradients are those of the loss before it is scaled for float16, infinite where they are not finite, and 0 for
        what the loss does not depend on.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: If there is no such loss, optimizer, parameter or step, or
            the model or the loss does not take what it is given.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d", kernel_initializer="zeros")])
        >>> found = trial(model, np.ones((4, 3), "float32"), np.ones((4, 2), "float32"), loss="mse",
        ...               optimizer="sgd(learning_rate=0.125)", steps=2)
        >>> found.losses
        (1.0, 0.25, 0.0625)
    """
    if steps < 0:
        raise InvalidValueError("There cannot be less than no steps", given=steps, allowed="0 or more")
    chosen = next(each for each in (optimizer, getattr(model, "optimizer", None), DEFAULT) if each is not None)
    half = getattr(model.dtype_policy, "name", "") == "mixed_float16"
    with _thawed(model) if thaw else nullcontext(), warnings.catch_warnings(), _own_numbers():
        warnings.simplefilter("ignore")  # the model's own warnings are not this call's
        copies = _copies(model, values or {})
        made = fresh(chosen, learning_rate, half=half)
        made.build(list(copies.values()))
        forward = _whole(model, example) if cut is None else _until(model, example, cut)
        course = _Course(forward, criterion(loss, model), made, list(copies.values()))
        batch = tensors_of(model, example), keras.tree.map_structure(keras.ops.convert_to_tensor, targets)
        return course.run(list(copies), _others(model), batch, steps, seconds)


@contextmanager
def _thawed(model: keras.Model) -> Iterator[None]:
    """While open, everything that was made to be trained is trained; afterwards all is as frozen as before."""
    layers = list(model._flatten_layers())
    frozen = [layer for layer in layers if not layer.trainable]
    still = [variable for layer in layers for variable in layer._trainable_variables if not variable.trainable]
    for layer in layers:  # each by itself: a layer's setter passes on what it was told
        layer.trainable = True
    try:
        yield
    finally:
        for layer in frozen:
            layer._trainable = False
        for variable in still:
            variable.trainable = False


def _own_numbers() -> Any:
    """While open, what PyTorch draws by itself, as for dropout, starts at a seed; afterwards it goes on as before."""
    stack = ExitStack()
    if keras.backend.backend() == "torch":
        torch = sys.modules["torch"]
        stack.enter_context(torch.random.fork_rng())
        torch.manual_seed(_SEED)
    return stack


def _copies(model: keras.Model, values: Mapping[str, NDArray[Any]]) -> dict[str, keras.Variable]:
    """Variables by path like the trainable ones of a model, with their values or others.

    Raises:
        UnknownNameError, ModelError: If there is none of a path, or of another shape.
    """
    start, copies = started(model, values), dict[str, keras.Variable]()
    for path, variable in variables_of(model).items():
        own = np.array(keras.ops.convert_to_numpy(start[path]))
        copies[path] = keras.Variable(own, dtype=variable.dtype, name=variable.name)
        copies[path].constraint = variable.constraint
    return copies


def _others(model: keras.Model) -> list[Any]:
    """Values of the variables that are not trained, generators of random layers at a seed of their own."""
    return [
        keras.ops.convert_to_tensor(state_of(model, variable, _SEED), variable.dtype)
        if is_generator(variable)
        else keras.ops.copy(variable.value)
        for variable in model.non_trainable_variables
    ]


def _whole(model: keras.Model, example: Any) -> Forward:
    """The model as it is, in training mode."""
    called = call_arguments(model, example)
    mode = {"training": True} if takes_training(model) else {}

    def forward(trainable: Sequence[Any], others: Sequence[Any], tensors: Sequence[Any]) -> Any:
        """The model's own call; the tensors take the example's places."""
        waiting = iter(tensors)
        args, kwargs = keras.tree.map_structure(lambda each: next(waiting) if hasattr(each, "shape") else each, called)
        try:
            return model.stateless_call(trainable, others, *args, return_losses=True, **kwargs | mode)
        except Exception as error:  # whatever the user's model raises
            told = f"The model cannot be trained on the example: {str(error).strip()}"
            raise ModelError(told, given=str([tuple(each.shape) for each in tensors])) from error

    return forward


def _until(model: keras.Model, example: Any, cut: int) -> Forward:
    """The model's steps as they were read, in training mode, one of which gives the output.

    Raises:
        ModelError: If there is no such step, or training takes other steps than inference.
    """
    read, plain = trace(model, example, training=True), trace(model, example)
    if not 0 <= cut < len(plain.steps):
        raise ModelError("There is no such step of the model", given=cut, allowed=f"0 to {len(plain.steps) - 1}")
    if [step.op.kind for step in read.steps] != [step.op.kind for step in plain.steps]:
        raise ModelError("In training the model takes other steps, so that it cannot be cut", given=model.name)
    target = read.steps[cut].value

    def forward(trainable: Sequence[Any], others: Sequence[Any], tensors: Sequence[Any]) -> Any:
        """All steps; those behind the cut lead nowhere."""
        found: list[Any] = []

        def watch(symbol: Any, real: Any) -> Any:
            if symbol is target:
                found.append(real)
            return real

        variables = [*model.trainable_variables, *model.non_trainable_variables]
        with keras.StatelessScope(zip(variables, [*trainable, *others], strict=True)) as scope:
            run(read, tensors, watch)
            added = model.losses
        return found[0], [scope.get_current_value(each) for each in model.non_trainable_variables], added

    return forward


@dataclass(frozen=True, eq=False)
class _Course:
    """Training, ready to begin.

    Attributes:
        forward: What the copy computes.
        loss: Of outputs and targets.
        optimizer: Built on the copies of the variables.
    """

    forward: Forward
    loss: Criterion
    optimizer: Optimizer
    copies: Sequence[keras.Variable]

    def measure(self, values: Sequence[Any], others: Sequence[Any], slots: Sequence[Any], batch: Any) -> Any:
        """The loss, the outputs, the others as they are afterwards, the loss's gradient, and the sizes of that."""
        with keras.StatelessScope(zip(self.optimizer.variables, slots, strict=True)):
            scale = keras.ops.cast(self.optimizer.scale_loss(keras.ops.ones(())), "float32")

        def objective(values: Sequence[Any]) -> tuple[Any, Any]:
            outputs, after, added = self.forward(values, others, batch[0])
            total = self.loss(outputs, batch[1])
            for each in added:
                total = total + keras.ops.sum(keras.ops.cast(each, total.dtype))
            return total * keras.ops.cast(scale, total.dtype), (total, outputs, after)

        (total, outputs, after), gradients = differentiate(objective, values)
        full = [
            keras.ops.zeros_like(value) if each is None else each
            for each, value in zip(gradients, values, strict=True)
        ]  # fmt: skip
        return total, outputs, after, full, [root_mean_square(each) / scale for each in full]

    def apply(self, values: Sequence[Any], slots: Sequence[Any], gradients: Sequence[Any]) -> Any:
        """The values and the optimizer's variables after a step, and the relative size of the change."""
        if keras.backend.backend() == "jax":
            after, slots = self.optimizer.stateless_apply(list(slots), list(gradients), list(values))
        else:  # these backends update variables in place
            self.optimizer.apply(list(gradients))
            after, slots = _snapshot(self.copies), _snapshot(self.optimizer.variables)
        sizes = [(root_mean_square(new - old), root_mean_square(old)) for new, old in zip(after, values, strict=True)]
        return after, slots, sizes

    def run(self, paths: Sequence[str], others: Sequence[Any], batch: Any, steps: int, seconds: float) -> Trial:
        """Train."""
        measure, apply = compiled(self.measure), compiled(self.apply, once=True)
        values, slots = _snapshot(self.copies), _snapshot(self.optimizer.variables)
        losses: list[float] = []
        gradients: list[Any] = []
        updates: list[Any] = []
        end = math.inf
        while True:
            loss, outputs, others, gradient, sizes = measure(values, others, slots, batch)
            losses.append(float(array_of(loss)))
            done = len(updates)
            late = done >= _FEWEST and time.perf_counter() > end
            if done == steps or late or not math.isfinite(losses[-1]):
                break
            gradients.append(sizes)
            values, slots, changes = apply(values, slots, gradient)
            updates.append(changes)
            end = time.perf_counter() + seconds if done == 0 else end
        return Trial(
            tuple(losses),
            arrays_of(keras.tree.flatten(outputs)),
            dict(zip(paths, arrays_of(values), strict=True)),
            dict(zip(paths, _largest(gradients, len(paths)), strict=True)),
            dict(zip(paths, _relative(updates, len(paths)), strict=True)),
        )


def _snapshot(variables: Sequence[keras.Variable]) -> list[Any]:
    """Tensors with the values that variables have now, whatever is done to these later."""
    tensors = [keras.ops.copy(variable.value) for variable in variables]
    return [keras.ops.stop_gradient(each) for each in tensors]


def _largest(sizes: Sequence[Any], count: int) -> list[float]:
    """For each parameter the largest number of all steps; infinite where one is not finite."""
    table = np.array(sizes, np.float64).reshape(len(sizes), count)
    return np.where(np.isfinite(table), table, np.inf).max(axis=0, initial=0.0).tolist()  # type: ignore[no-any-return]


def _relative(sizes: Sequence[Any], count: int) -> list[tuple[float, ...]]:
    """For each parameter how large its changes are beside its values, step by step."""
    changes, values = np.moveaxis(np.array(sizes, np.float64).reshape(len(sizes), count, 2), 2, 0)
    return [tuple(each) for each in relative(changes, values).T.tolist()]
