"""What one batch does to a Keras model, step by step as it was read: its signals and its gradients."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from numpy.typing import NDArray

from fanin.errors import InvalidValueError
from fanin.keras.gradients import compiled, differentiate
from fanin.keras.layouts import variables_of
from fanin.keras.losses import Criterion, criterion
from fanin.keras.running import array_of, arrays_of, quietly, run, tensors_of
from fanin.keras.statistics import finished, gathered, root_mean_square
from fanin.keras.trace import Trace, trace
from fanin.recipes.graph import carrying, needed
from fanin.records import Vitals
from fanin.vitals import NOTHING, assembled, gradient_size, refuse_misfits

__all__ = ["probe", "started"]

_SEED = 0


def probe(
    model: keras.Model,
    example: Any,
    targets: Any = None,
    loss: Any = None,
    *,
    training: bool = False,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> Vitals:
    """What a batch does to every step of a model, in one forward and one backward pass; nothing of it is changed.

    Args:
        model: A built model.
        example: What it is called on, as in `describe`.
        targets: What the loss takes: an array, or lists and dicts of them.
        loss: A loss, its name, or a function of targets and outputs; with targets, None is the one that the model
            was compiled with. Without targets gradients are those of the sum of the outputs, each element times a
            standard normal number that is the same in every call.
        training: Whether the model runs as in training: with dropout, and with the batch's own statistics in
            batch normalisation. By default it runs as in inference.
        values: From paths to arrays that trainable variables have in this run in place of their own.

    Returns:
        One entry for each step of ``describe(model, example).ops``, named by its number and place. Units are on the
        last axis, or on axis 1 behind layers that put the channels first.

    Raises:
        ModelError: If the model does not take the example, or the loss not what it is given.
        UnknownNameError, InvalidValueError: If there is no such loss or variable, or the loss has no targets.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d", kernel_initializer="ones")])
        >>> found = probe(model, np.full((4, 3), 2.0, "float32"), np.zeros((4, 2)), "mse")
        >>> found.signal_rms, found.loss, found.param_gradients["d/bias"]
        ((2.0, 6.0), 36.0, 6.0)
    """
    if targets is None and loss is not None:
        raise InvalidValueError("The loss has no targets", given="None", allowed="an array of targets")
    value = None if targets is None else criterion(loss, model)
    read = trace(model, example, training=training)
    measured = _Measured(read, [*model.trainable_variables], [*model.non_trainable_variables], value)
    signs = [] if value is not None else _signs(read)
    goal = None if targets is None else keras.tree.map_structure(keras.ops.convert_to_tensor, targets)
    with quietly():
        trainable = list(started(model, values or {}).values())
        others = [variable.value for variable in measured.others]
        batch = tensors_of(model, example), signs if goal is None else goal
        found = compiled(measured.run, once=True)(trainable, others, *batch)
    return _vitals(read, list(variables_of(model)), measured, found)


def started(model: keras.Model, given: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What trainable variables hold in a run, by path: these arrays, or their own values.

    Raises:
        UnknownNameError, ModelError: If there is none of a path, or of another shape.
    """
    known = variables_of(model)
    refuse_misfits(given, known)
    return {
        path: keras.ops.convert_to_tensor(given[path], variable.dtype) if path in given else variable.value
        for path, variable in known.items()
    }


def _signs(read: Trace) -> list[Any]:
    """The numbers that floating outputs are multiplied with to make a loss; always the same ones."""
    random = np.random.Generator(np.random.Philox(_SEED))
    floating = (each for each in read.returned if keras.backend.is_float_dtype(each.dtype))
    drawn = [random.standard_normal(tuple(each.shape)).astype(np.float32) for each in floating]
    return [keras.ops.convert_to_tensor(each) for each in drawn]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A model's steps, ready to be run with each one measured.

    Attributes:
        trainable, others: The variables whose values are handed in.
        loss: Of outputs and targets; None for a sum of the outputs.
    """

    read: Trace
    trainable: Sequence[keras.Variable]
    others: Sequence[keras.Variable]
    loss: Criterion | None

    @cached_property
    def floating(self) -> list[int]:
        """The steps that have numbers to be measured."""
        return [
            number for number, step in enumerate(self.read.steps)
            if keras.backend.is_float_dtype(step.value.dtype) and math.prod(step.value.shape)
        ]  # fmt: skip

    @cached_property
    def alike(self) -> set[int]:
        """The steps whose first axis is that of the examples."""
        batch = next((each.shape[0] for each in self.read.inputs if len(each.shape)), 0)
        live = carrying([step.op for step in self.read.steps])
        return {
            at for at, step in enumerate(self.read.steps)
            if live[at] and batch > 1 and tuple(step.value.shape)[:1] == (batch,)
        }  # fmt: skip

    def run(self, trainable: Sequence[Any], others: Sequence[Any], inputs: Sequence[Any], goal: Any) -> Any:
        """One forward and one backward pass.

        Args:
            trainable, others: The variables' values.
            inputs: The example's tensors.
            goal: Targets for the loss, or what outputs are multiplied with.

        Returns:
            What was gathered of each floating step, the loss, the outputs, and the sizes of gradients with respect
            to trainable variables and to floating steps.
        """
        nudges = [keras.ops.zeros(tuple(self.read.steps[at].value.shape), "float32") for at in self.floating]

        def objective(at: Sequence[Any]) -> tuple[Any, Any]:
            pairs = zip([*self.trainable, *self.others], [*at[: len(trainable)], *others], strict=True)
            with keras.StatelessScope(pairs):
                returned, seen = self._nudged(inputs, at[len(trainable) :])
            total = self._total(returned, goal)
            return total, (seen, total, returned)

        rest, gradients = differentiate(objective, [*trainable, *nudges])
        return *rest, [None if each is None else root_mean_square(each) for each in gradients]

    def _nudged(self, inputs: Sequence[Any], nudges: Sequence[Any]) -> tuple[list[Any], dict[int, Any]]:
        """The outputs with something added to each step's output, and what is to be known of the steps."""
        places = {id(self.read.steps[at].value): (at, nudge) for at, nudge in zip(self.floating, nudges, strict=True)}
        axes, seen = _unit_axes(self.read), dict[int, Any]()

        def nudge(symbol: Any, real: Any) -> Any:
            """A step's output with its nudge; a mask stays with it."""
            if id(symbol) not in places:
                return real
            at, added = places[id(symbol)]
            moved = real + keras.ops.cast(added, real.dtype)
            set_keras_mask(moved, get_keras_mask(real))
            seen[at] = gathered(keras.ops.stop_gradient(real), axes[at], at in self.alike)
            return moved

        return run(self.read, inputs, nudge), seen

    def _total(self, returned: Sequence[Any], goal: Any) -> Any:
        """The loss of what the model returns."""
        if self.loss is not None:
            values = dict(zip(map(id, self.read.returned), returned, strict=True))
            return self.loss(keras.tree.map_structure(lambda each: values.get(id(each), each), self.read.nested), goal)
        floating = [each for each in returned if keras.backend.is_float_dtype(each.dtype)]
        pairs = zip(floating, goal, strict=True)
        return sum((keras.ops.sum(keras.ops.cast(each, "float32") * sign) for each, sign in pairs), keras.ops.zeros(()))


_KEPT = frozenset(("activation", "add", "concat", "dropout", "max", "mean", "move", "mul", "norm", "scale", "softmax"))
"""Kinds of steps that leave the units on their axis, as long as there are as many axes."""


def _unit_axes(read: Trace) -> list[int]:
    """The axis of each step's units: 1 behind what puts channels first, else the last."""
    formats = {
        id(value): record.operation.data_format or keras.config.image_data_format()
        for record in read.records if hasattr(record.operation, "data_format") for value in record.outputs
    }  # fmt: skip
    axes: list[int] = []
    for step in read.steps:
        shape = tuple(step.value.shape)
        own = formats.get(id(step.value if step.plain is None else step.plain))
        before = [
            at for at in step.op.inputs
            if step.op.kind in _KEPT and axes[at] == 1 and tuple(read.steps[at].value.shape)[1:2] == shape[1:2]
            and len(read.steps[at].value.shape) == len(shape)
        ]  # fmt: skip
        first = own == "channels_first" if own is not None else bool(before)
        axes.append(1 if first else len(shape) - 1)
    return axes


def _vitals(read: Trace, paths: Sequence[str], measured: _Measured, found: Any) -> Vitals:
    """The record of what was measured."""
    seen, total, returned, sizes = found
    ops = [step.op for step in read.steps]
    reached = needed(ops, (at for at in read.outputs if keras.backend.is_float_dtype(read.steps[at].value.dtype)))
    places = {at: place for place, at in enumerate(measured.floating, start=len(paths))}

    def size(place: int) -> float:
        """Of a gradient; there is none where nothing was sent back."""
        return 0.0 if sizes[place] is None else gradient_size(float(sizes[place]))

    used = {path for at in reached for path in ops[at].params}
    told = [finished(seen[at]) if at in seen else NOTHING for at in range(len(ops))]
    return assembled(
        ops,
        told,
        [size(places[at]) if at in places and at in reached else math.nan for at in range(len(ops))],
        {path: size(place) if path in used else math.nan for place, path in enumerate(paths)},
        math.nan if measured.loss is None else float(array_of(total)),
        arrays_of(returned),
    )
