"""What a Keras model computes, read from one symbolic run, in the words of `fanin.records.OPS`."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from fanin.errors import ModelError
from fanin.keras.assembly import Step, assemble
from fanin.keras.expansions import EXPANSIONS, REWRITES
from fanin.keras.layouts import Reading
from fanin.keras.recorder import Record, Recorder, record

__all__ = ["Trace", "build", "call_arguments", "has_inputs", "takes_training", "trace"]

_BATCH = 2
"""Examples in the batch that stands for one where no example is given."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A model as it ran on symbolic tensors.

    Attributes:
        steps: What `ModelInfo.ops` is made of.
        outputs: The steps whose outputs the model returns.
        returned: The symbolic tensors that the model returns.
        nested: The same in the lists, tuples and dicts in which it returns them.
        records: All that ran, in order.
        inputs: The symbolic tensors that stand for the arrays of the example, in their order.
        readings: What is known of a variable by how it was used, by its ``id``.
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    returned: tuple[Any, ...]
    nested: Any
    records: tuple[Record, ...]
    inputs: tuple[Any, ...]
    readings: Mapping[int, Reading]
    notes: tuple[str, ...]


def has_inputs(model: keras.Model) -> bool:
    """Whether a model knows the shapes of its inputs, all but that of the batch."""
    inputs = getattr(model, "inputs", None)
    return inputs is not None and all(None not in tuple(each.shape)[1:] for each in inputs)


def takes_training(model: keras.Model) -> bool:
    """Whether a model is told that it trains; one that is not runs as in inference, in `fit` as well."""
    parameters = inspect.signature(model.call).parameters.values()
    return any(each.name == "training" or each.kind is each.VAR_KEYWORD for each in parameters)


def call_arguments(model: keras.Model, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How to call a model on an example; arrays become tensors of its backend.

    A tuple for a functional model with several inputs is one list of them, for one whose `call` has a single argument
    it is that, and a mapping that names no arguments of `call` is one argument: so these models are called in Keras.
    """
    if isinstance(example, Mapping):
        names = inspect.signature(model.call).parameters
        given = ((), dict(example)) if set(example) <= set(names) else ((dict(example),), {})
    elif isinstance(example, tuple):
        graph = len(getattr(model, "inputs", None) or ()) == len(example) > 1
        given = (([*example],), {}) if graph else ((example,), {}) if _takes_one(model, example) else (example, {})
    else:
        given = ((example,), {})

    def tensor(value: Any) -> Any:
        return keras.ops.convert_to_tensor(value) if hasattr(value, "shape") else value

    args, kwargs = keras.tree.map_structure(tensor, given)
    return tuple(args), dict(kwargs)


def _takes_one(model: keras.Model, example: tuple[Any, ...]) -> bool:
    """Whether a model is called with all inputs in one argument, which `fit` does, because it takes no more.

    A functional model says how many inputs it has.
    """
    if getattr(model, "inputs", None):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.call).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return False
    places = [each.name for each in parameters if each.kind in kinds and each.name not in ("training", "mask")]
    return len(example) > len(places) == 1


def trace(model: keras.Model, example: Any = None, *, training: bool = False) -> Trace:
    """Run a built model on symbolic tensors of an example's shapes, or of its own inputs' shapes.

    Args:
        model: A built model.
        example: What it is called on.
        training: Whether the model is told that it trains.

    Raises:
        ModelError: If the model does not take the example.
    """
    recorder = Recorder(model, EXPANSIONS, REWRITES)
    with record(recorder, model):
        args, kwargs = _own_inputs(model) if example is None else _symbols(*call_arguments(model, example))
        mode = {"training": True} if training and takes_training(model) else {}
        returned = _called(model, args, kwargs | mode)
    inputs = _tensors((args, kwargs))
    flat = _tensors(returned)
    read = assemble(model, inputs, recorder.records, flat)
    return Trace(read.steps, read.outputs, flat, returned, tuple(recorder.records), inputs, read.readings, read.notes)


def build(model: keras.Model, example: Any) -> None:
    """Give a model the parameters that it makes at its first call.

    Raises:
        ModelError: If the model does not take the example.
    """
    _called(model, *_symbols(*call_arguments(model, example)))


def _called(model: keras.Model, args: Any, kwargs: Any) -> Any:
    """What a model returns for symbolic tensors."""
    try:
        return model(*args, **kwargs)
    except Exception as error:  # what the model itself says about an input that it does not take
        raise ModelError(
            f"The model cannot be called on the example: {str(error).strip()}",
            given=str([tuple(each.shape) for each in _tensors((args, kwargs))]),
        ) from error


def _tensors(thing: Any) -> tuple[keras.KerasTensor, ...]:
    """The symbolic tensors in something nested."""
    return tuple(each for each in keras.tree.flatten(thing) if isinstance(each, keras.KerasTensor))


def _symbols(args: Any, kwargs: Any) -> Any:
    """Symbolic tensors in place of real ones."""

    def symbol(value: Any) -> Any:
        if not hasattr(value, "shape"):
            return value
        return keras.KerasTensor(tuple(value.shape), keras.backend.standardize_dtype(value.dtype))

    return keras.tree.map_structure(symbol, (args, kwargs))


def _own_inputs(model: keras.Model) -> Any:
    """Symbolic tensors for the inputs that a functional or sequential model was made with."""

    def symbol(value: Any) -> Any:
        return keras.KerasTensor((value.shape[0] or _BATCH, *value.shape[1:]), value.dtype)

    # A sequential model has one input, and no `input` before its first call.
    given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return (keras.tree.map_structure(symbol, given),), {}
