"""How a Keras model is set up for training: what is trained, by what, and what is not known to it."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras.layers import Layer
from keras.optimizers import Optimizer

from fanin.errors import ModelError
from fanin.keras.layouts import named, path_of, variables_of
from fanin.keras.losses import loss_name
from fanin.keras.optimizers import fresh, inner, is_constant
from fanin.keras.recorder import Record
from fanin.keras.running import array_of
from fanin.keras.trace import Trace, has_inputs, trace
from fanin.recipes.audit import FALSE_ALARMS
from fanin.recipes.evidence import Random, tells
from fanin.recipes.graph import carrying
from fanin.recipes.lookalikes import known_laws
from fanin.recipes.verdicts import Values, misfit
from fanin.records import ModelInfo, ParamInfo, Setup

__all__ = ["setup"]


def setup(model: keras.Model, optimizer: Optimizer | str | None = None, loss: Any = None) -> Setup:
    """How a model is set up for training; nothing is run or changed.

    Args:
        model: A built model.
        optimizer: What trains it, or a text like ``sgd(momentum=0.9)``; None is what it was compiled with.
        loss: As for `loss_function`; None is what it was compiled with.

    Returns:
        Frozen are parameters that a layer would train if its `trainable` were true; moving statistics are none.
        Forgotten are those that an optimizer was not built for. Unregistered are trainable variables, also of
        layers, that Keras does not find because of what holds them: a plain object, or the function of a layer; of
        a model that knows its inputs also those that it computes with and that nothing of it holds. Constants
        are arrays; they too are found only in a model that knows its inputs.
        Keras models have no mode: they always count as in training.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such optimizer or loss.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        >>> model.compile("sgd", "mse")
        >>> found = setup(model)
        >>> found.optimizer, round(found.learning_rate, 6), found.loss
        ('sgd', 0.01, 'mean_squared_error')
    """
    given = optimizer if optimizer is not None else getattr(model, "optimizer", None)
    frozen = named(model, (each for each in _parameters(model) if not each.trainable))
    read = _read(model)
    found = Setup(
        frozen=tuple(frozen),
        unregistered=tuple(_unregistered(model, read)),
        constant=() if read is None else tuple(_constant(model, read)),
        loss=loss_name(loss, model),
    )
    if given is None:
        return found
    chosen = inner(fresh(given) if isinstance(given, str) else given)
    return replace(
        found,
        forgotten=tuple(_forgotten(model, chosen)),
        optimizer=type(chosen).__name__.lower(),
        # The shortest text of a float32 is what the user wrote: 0.1 rather than 0.10000000149.
        learning_rate=float(str(array_of(chosen.learning_rate))) if is_constant(chosen) else None,
        momentum=float(getattr(chosen, "momentum", 0.0)),
    )


def _parameters(model: keras.Model) -> Iterator[keras.Variable]:
    """Variables that were made to be trained, whatever `trainable` says now."""
    seen: set[int] = set()
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            if id(variable) not in seen:
                seen.add(id(variable))
                yield variable


def _forgotten(model: keras.Model, optimizer: Optimizer) -> Iterator[str]:
    """Paths of the parameters that an optimizer does not know although it knows its own."""
    if optimizer.built:
        known = {id(variable) for variable in optimizer._trainable_variables}
        yield from (path for path, variable in variables_of(model).items() if id(variable) not in known)


def _read(model: keras.Model) -> Trace | None:
    """What a model computes that knows its inputs; None for others, and for one that cannot be called on them."""
    with suppress(ModelError):  # the check of the steps says why
        return trace(model) if has_inputs(model) else None
    return None


def _constant(model: keras.Model, read: Trace) -> Iterator[str]:
    """Where the signal is multiplied by an array that stays the same and looks drawn as a weight is."""
    live = carrying([step.op for step in read.steps])
    found = [
        (step.op.place, read.steps[at].value)
        for step in read.steps if step.op.kind == "matmul" and any(live[each] for each in step.op.inputs)
        for at in step.op.inputs if read.steps[at].op.kind == "constant" and _is_drawn(read.steps[at].value)
    ]  # fmt: skip
    # What is drawn anew at each call is noise: another array the next time.
    same = {id(step.value) for step in trace(model).steps} if found else set()
    yield from (place for place, array in found if id(array) in same)


def _is_drawn(value: Any) -> bool:
    """Whether an array follows a law of random numbers that weights of its shape are drawn by."""
    if isinstance(value, keras.Variable | keras.KerasTensor) or len(value.shape) != 2:
        return False
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if not np.issubdtype(array.dtype, np.floating) or not array.size or not np.isfinite(array).all():
        return False
    param = ParamInfo("", array.shape, str(array.dtype), ("in", "out"), "dense")
    return any(
        isinstance(each.law, Random) and tells(each.law, array.size, FALSE_ALARMS)
        and not misfit(param, each.law, each.scales, Values(param, array), FALSE_ALARMS)
        for each in known_laws(ModelInfo("keras", (param,)))(param) if each.param == param
    )  # fmt: skip


def _unregistered(model: keras.Model, read: Trace | None) -> Iterator[str]:
    """Where trainable variables are held that are none of the model's."""
    seen = {id(variable) for variable in model.variables}
    around: set[int] = set()
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            if not name.startswith("_"):
                place = path_of(model, layer).removeprefix(model.name)
                yield from _hidden(value, ".".join(filter(None, (place, name))), seen, around)
    if read is not None:
        yield from _computed_with(read.records, seen)


def _computed_with(records: Iterable[Record], seen: set[int]) -> Iterator[str]:
    """Variables not seen before that a step takes; each is told once, where it is used first."""
    for record in records:
        of_layer = record.known.variables if record.known is not None else ()
        for value in keras.tree.flatten((record.args, dict(record.kwargs), of_layer)):
            if isinstance(value, keras.Variable) and value.trainable and id(value) not in seen:
                seen.add(id(value))
                yield ".".join(filter(None, (record.place, value.name)))


def _hidden(value: Any, place: str, seen: set[int], around: set[int]) -> Iterator[str]:
    """Variables not seen before, within containers, plain objects and functions; each is told once."""
    if isinstance(value, keras.Variable):
        if value.trainable and id(value) not in seen:
            seen.add(id(value))
            yield place
        return
    if id(value) in around:
        return
    around.add(id(value))
    if isinstance(value, Layer):
        for variable in value.trainable_variables:
            yield from _hidden(variable, f"{place}.{variable.path.removeprefix(f'{value.path}/')}", seen, around)
        return
    for name, part in _parts(value):
        yield from _hidden(part, f"{place}{name}", seen, around)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container, a function or an object of the user's own class holds."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif inspect.isfunction(value):
        with suppress(ValueError):  # a name of the function around it that has no value yet
            used = inspect.getclosurevars(value)
            yield from ((f".{name}", part) for name, part in {**used.globals, **used.nonlocals}.items())
    elif type(value).__module__.split(".")[0] not in _LIBRARIES:
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


_LIBRARIES = ("builtins", "flax", "jax", "jaxlib", "keras", "numpy", "optree", "tensorflow", "torch")
"""Whose objects hold nothing of the user's."""
