"""A model with its batch, made ready for the doctor: whatever framework it is of, and whatever was not said."""

import math
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fanin.doctor import Patient, array_of
from fanin.errors import InvalidValueError, ModelError
from fanin.frameworks import adapter_of, framework_of
from fanin.initializers.streams import check_seed
from fanin.records import ModelInfo, Vitals

__all__ = ["admitted", "made_up"]


def admitted(
    model: Any, x: Any, y: Any, *, loss: Any, optimizer: Any, steps: int, seconds: float, seed: int
) -> tuple[Patient, tuple[str, ...]]:  # fmt: skip
    """The patient, and sentences on what was not said.

    Args and errors are those of `fanin.check`.
    """
    if steps < 0:
        raise InvalidValueError("The number of steps is below 0", given=steps, allowed="0 or more")
    check_seed(seed)
    framework, adapter, notes = framework_of(model), adapter_of(model), []
    mode = {} if framework.modal else {"training": True}
    if x is None:
        _, x, words = made_up(adapter, model)
        if x is None:
            raise ModelError("No input could be made up for this model", hint="Give a batch: fanin.check(model, x, y).")
        x = _drawn(x)
        notes.append(f"{words}: give a batch and its targets to see more.")
    if y is not None and loss is None:
        loss, note = _usual_loss(model, y, framework.losses)
        notes += [note] if note else []
    refusal: ModelError | None = None
    try:
        info, vitals = _observed(adapter, model, x, y, loss, mode)
    except ModelError as error:  # why the loss refuses these outputs is for the doctor to find
        refusal = error
        info, vitals = _observed(adapter, model, x, None, None, mode)
    owns = y is None and loss is None and math.isfinite(vitals.loss)
    if owns:
        loss = adapter.own_loss
        notes.append("The loss is the one that the model returns.")

    def train(*, example: Any = None, targets: Any = None, learning_rate: float | None = None, **changed: Any) -> Any:
        """A copy, trained with what is changed."""
        if changed.get("cut") is not None and _steps(adapter.describe(model, x)) != _steps(info):
            raise ModelError("The model computes other steps with gradients than without")
        return adapter.trial(
            model, x if example is None else example, y if targets is None else targets, loss=loss,
            optimizer=optimizer, learning_rate=learning_rate, steps=steps, seconds=seconds, **changed,
        )  # fmt: skip

    def after(values: Mapping[str, Any]) -> Vitals:
        """What the batch does to the model with other values."""
        if not hasattr(adapter, "observe"):
            found: Vitals = adapter.probe(model, x, y, loss, values=values, **mode)
            return found
        seen, found = adapter.observe(model, x, y, loss, values=values)
        if _steps(seen) != _steps(info):
            raise ModelError("The model computes other steps with other values")
        return found

    def again(example: Any) -> tuple[Any, ...]:
        """What the model returns for another example."""
        found: Vitals = adapter.probe(model, example, **mode)
        return found.outputs

    targets = None if y is None else array_of(y)
    if targets is not None and not targets.ndim:
        targets = None
    trains = loss is not None and steps > 0 and bool(vitals.param_gradients) and refusal is None
    patient = Patient(
        info, vitals, adapter.setup(model, optimizer, loss), x, targets, partial(adapter.values, model),
        None if targets is None else adapter.loss_function(loss), train if trains else None,
        refusal, seed, after, again,
    )  # fmt: skip
    return patient, (*notes, *info.notes)


def _observed(
    adapter: ModuleType, model: Any, x: Any, y: Any, loss: Any, mode: Mapping[str, Any]
) -> tuple[ModelInfo, Vitals]:
    """What a model computes, and what the batch does to it; in one run where the framework allows that."""
    if hasattr(adapter, "observe"):
        seen: tuple[ModelInfo, Vitals] = adapter.observe(model, x, y, loss)
        return seen
    return adapter.describe(model, x), adapter.probe(model, x, y, loss, **mode)


def _steps(info: ModelInfo) -> list[tuple[str, tuple[int, ...]]]:
    return [(op.kind, op.shape) for op in info.ops]


def made_up(adapter: ModuleType, model: Any) -> tuple[ModelInfo | None, Any, str]:
    """The first made-up input that a model takes: what is read on it, the input, and a word on it."""
    for example, words in adapter.examples(model):
        try:
            return adapter.describe(model, example), example, f"Read on a made-up input, {words}"
        except ModelError:
            continue
    return None, None, ""


def _drawn(example: Any) -> Any:
    """Standard normal numbers in the place of floats that have no values yet, zeros in that of whole numbers."""

    if isinstance(example, Mapping):
        return {key: _drawn(value) for key, value in example.items()}
    if isinstance(example, tuple):
        return tuple(map(_drawn, example))
    shape = tuple(example.shape)
    if "float" in str(example.dtype):
        return np.random.default_rng(0).standard_normal(shape, np.float32)
    return np.zeros(shape, np.int64)


def _usual_loss(model: Any, y: Any, names: tuple[str, str]) -> tuple[Any, str]:
    """The loss where none was given, and a sentence on it."""

    if getattr(model, "compiled", False) and getattr(model, "loss", None) is not None:
        return model.loss, ""
    given = array_of(y)
    if given is None:
        raise InvalidValueError(
            "No loss was given, and these targets have no usual one", given=type(y).__name__,
            hint="Give a function of what the model returns and the targets: loss=...",
        )  # fmt: skip
    name = names[0] if np.issubdtype(given.dtype, np.integer) else names[1]
    return name, f"No loss was given: {name} is taken, by the type of the targets."
