"""A Keras model run on real numbers, step by step as it was read."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.backend.common.variables import AutocastScope
from numpy.typing import NDArray

from fanin.errors import FaninError, ModelError, cause_of
from fanin.keras.trace import Trace, call_arguments

__all__ = ["Hook", "array_of", "arrays_of", "quietly", "run", "tensors_of"]

Hook = Callable[[Any, Any], Any]
"""From a symbolic tensor, variable or array and its real value to the value to go on with."""


def tensors_of(model: keras.Model, example: Any) -> list[Any]:
    """The arrays of an example as tensors, in the order of `Trace.inputs`."""
    return [each for each in keras.tree.flatten(call_arguments(model, example)) if hasattr(each, "shape")]


@contextmanager
def quietly() -> Iterator[None]:
    """The model's own warnings are not this call's, and its state is not this call's to change."""
    with warnings.catch_warnings(), keras.StatelessScope():
        warnings.simplefilter("ignore")
        yield


def run(read: Trace, inputs: Sequence[Any], hook: Hook) -> list[Any]:
    """Run the records on real values; what the model returns.

    Raises:
        ModelError: If a step cannot be computed on them.
    """
    known: dict[int, Any] = {}
    for symbol, value in zip(read.inputs, inputs, strict=True):
        known[id(symbol)] = hook(symbol, value)
    for step in read.steps:  # arrays and variables used as values
        if step.op.kind in ("constant", "param") and not isinstance(step.value, keras.KerasTensor):
            known[id(step.value)] = hook(step.value, keras.ops.convert_to_tensor(step.value))

    def real(value: Any) -> Any:
        """A value as it is now; a variable in the precision of where it is used."""
        if id(value) in known:
            found = known[id(value)]
            return keras.ops.cast(found, value.dtype) if isinstance(value, keras.Variable) else found
        return value.value if isinstance(value, keras.Variable) else value

    for record in read.records:
        with ExitStack() as stack:
            if record.precision is not None:
                stack.enter_context(AutocastScope(record.precision))
            args, kwargs = keras.tree.map_structure(real, (record.args, dict(record.kwargs)))
            try:
                outputs = keras.tree.flatten(record.run(*args, **kwargs))
            except FaninError:
                raise
            except Exception as error:  # whatever the user's model raises on real numbers
                told = f"{record.place or 'The model'} cannot be computed: {cause_of(error)}"
                raise ModelError(told, given=type(error).__name__) from error
        for symbol, value in zip(record.outputs, outputs, strict=False):
            if symbol is not None:
                known[id(symbol)] = hook(symbol, value)
    for symbol in read.returned:  # a loss wants to know which elements count
        mask = known.get(id(get_keras_mask(symbol)))
        if mask is not None:
            set_keras_mask(known[id(symbol)], mask)
    return [known[id(symbol)] for symbol in read.returned]


def array_of(value: Any) -> NDArray[Any]:
    """A tensor's values as float32 (float64 where it is that); whole numbers and truth values as they are."""
    kind = keras.backend.standardize_dtype(value.dtype)
    floating = keras.backend.is_float_dtype(kind) and kind != "float64"
    own = keras.ops.stop_gradient(value)
    return np.array(keras.ops.convert_to_numpy(keras.ops.cast(own, "float32") if floating else own))


def arrays_of(values: Iterable[Any]) -> tuple[NDArray[Any], ...]:
    """`array_of` for each."""
    return tuple(array_of(value) for value in values)
