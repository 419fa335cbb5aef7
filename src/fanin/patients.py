"""A model with its batch, made ready for the doctor: whatever framework it is of, and whatever was not said."""

import math
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fanin.doctor import Patient, array_of, ends_in_weights
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
        loss, y, note = _usual_loss(adapter, model, x, y, mode)
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


_KINDS = {
    "classes": "logits", "words": "logits", "shares": "shares", "logit": "logits", "chance": "probabilities",
    "numbers": "numbers",
}  # fmt: skip
"""What the outputs are taken for where no loss was given, in words; each adapter has the usual loss of each."""


def _usual_loss(adapter: ModuleType, model: Any, x: Any, y: Any, mode: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """The loss where none was given, the targets as it takes them, and a sentence on it."""
    if getattr(model, "compiled", False) and getattr(model, "loss", None) is not None:
        return model.loss, y, ""
    given = array_of(y)
    if given is None:
        raise InvalidValueError(
            "No loss was given, and these targets have no usual one", given=type(y).__name__,
            hint="Give a function of what the model returns and the targets: loss=...",
        )  # fmt: skip
    info, vitals = _observed(adapter, model, x, None, None, mode)
    outputs = vitals.outputs
    kind = usual_kind(outputs[0] if len(outputs) == 1 else None, given, linear=ends_in_weights(info))
    if len(outputs) == 1 and given.dtype.kind in "iu" and kind in ("logit", "chance", "numbers"):
        y = given.reshape(outputs[0].shape).astype(np.float32)
    name, loss = adapter.USUAL[kind]
    return loss, y, f"No loss was given: {name} is taken, for {_KINDS[kind]}, by the outputs and the targets."


def usual_kind(outputs: Any, targets: Any, *, linear: bool = False) -> str:
    """What outputs are to be taken for, given the targets: one of `_KINDS`.

    Args:
        outputs: An array; None for what is not one array.
        targets: An array.
        linear: Whether the outputs may be any numbers.

    Example:
        >>> y = np.array([0, 1, 1])
        >>> usual_kind(np.array([[2.0], [-1.0], [0.5]]), y), usual_kind(np.full((3, 2), 0.5), y)
        ('logit', 'shares')
        >>> usual_kind(np.zeros((3, 2)), y), usual_kind(np.zeros((3, 2)), np.zeros((3, 2)))
        ('classes', 'numbers')
    """
    if targets.dtype.kind not in "iu":
        return "numbers"
    if outputs is None or outputs.dtype.kind != "f":
        return "classes"
    bounded = not linear and bool((outputs >= 0).all() and (outputs <= 1).all())
    if outputs.size == targets.size:  # one number for each: two classes, or a count
        return ("chance" if bounded else "logit") if np.isin(targets, (0, 1)).all() else "numbers"
    if bounded and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
        return "shares"
    return "words" if outputs.ndim > 2 and targets.shape == outputs.shape[:-1] else "classes"
