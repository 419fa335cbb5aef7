"""The losses of Keras: found by name, as `compile` would take them, and called on outputs and targets."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras.losses import Loss
from keras.src.trainers.compile_utils import CompileLoss
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, unknown_name

__all__ = ["USUAL", "Criterion", "criterion", "loss_function", "loss_name"]

Criterion = Callable[[Any, Any], Any]
"""From outputs and targets, tensors in any nesting, to one number."""


def _known() -> dict[str, Any]:
    """Losses by the names that `compile` takes: of functions, of classes, and short ones."""
    names = {*dir(keras.losses), *("mse", "mae", "mape", "msle", "kld", "bce")}
    return {name: found for name in names if (found := _found(name)) is not None}


def _found(name: str) -> Any:
    """The loss of a name; None where there is none."""
    if name.startswith("_") or name in ("Loss", "deserialize", "get", "serialize"):
        return None
    try:
        return keras.losses.get(name)
    except ValueError:
        return None


def _own(loss: Any, model: keras.Model | None) -> Any:
    """The loss that is meant, not yet looked up: the given one, or what the model was compiled with.

    Raises:
        InvalidValueError: If there is none.
    """
    compiled = getattr(model, "loss", None) if loss is None else loss
    if compiled is None:
        hint = "Give a loss, or compile the model with one."
        raise InvalidValueError("There is no loss", given="None", allowed="a loss of Keras, or its name", hint=hint)
    return compiled


def _checked(loss: Any) -> Any:
    """A loss, or losses in lists and dicts, with names looked up.

    Raises:
        UnknownNameError, InvalidValueError: If something is none.
    """
    if isinstance(loss, dict):
        return {name: _checked(each) for name, each in loss.items()}
    if isinstance(loss, list | tuple):
        return type(loss)(_checked(each) for each in loss)
    if isinstance(loss, str):
        found = _found(loss)
        if found is None:
            raise unknown_name("loss of Keras", loss, _known())
        return found
    if loss is not None and not callable(loss):
        allowed = "a loss of Keras, its name, or a function of targets and outputs"
        raise InvalidValueError("This is no loss", given=type(loss).__name__, allowed=allowed)
    return loss


def criterion(loss: Any = None, model: keras.Model | None = None) -> Criterion:
    """The loss as `fit` computes it from a batch, for tensors; regularisers are not part of it.

    Args:
        loss: A Loss, a function of targets and outputs, a name, or lists and dicts of these for several outputs.
            None is what the model was compiled with.
        model: Whose loss and outputs they are.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such loss. What is returned raises a `ModelError` if the
            loss does not take outputs and targets.
    """
    checked = _checked(_own(loss, model))
    weights = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None) if loss is None else None
    names = getattr(model, "output_names", None)

    def value(outputs: Any, targets: Any) -> Any:
        """One number; what a list of losses keeps for its reports belongs to this call alone."""
        try:
            return CompileLoss(checked, weights, output_names=names)(targets, outputs)
        except Exception as error:  # whatever a user's function raises
            raise ModelError(
                f"The loss cannot be computed: {str(error).strip()}",
                given=f"outputs {_shapes(outputs)}, targets {_shapes(targets)}",
            ) from error

    return value


def _shapes(values: Any) -> str:
    return ", ".join(str(tuple(each.shape)) for each in keras.tree.flatten(values))


def loss_function(
    loss: Any = None, model: keras.Model | None = None
) -> Callable[[NDArray[Any] | tuple[NDArray[Any], ...], Any], float]:
    """The loss as a function of arrays, outputs first; several outputs are a tuple.

    Args:
        loss, model: As for `criterion`.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such loss.

    Example:
        >>> loss_function("mse")(np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]]))
        2.5
    """
    value = criterion(loss, model)
    structure = getattr(model, "output", None) if getattr(model, "outputs", None) else None

    def function(outputs: NDArray[Any] | tuple[NDArray[Any], ...], targets: Any) -> float:
        """The loss of a batch."""
        given: Any = list(outputs) if isinstance(outputs, tuple) else outputs
        if isinstance(given, list) and structure is not None:
            given = keras.tree.pack_sequence_as(structure, given)
        with keras.StatelessScope():
            found = value(*keras.tree.map_structure(keras.ops.convert_to_tensor, (given, targets)))
        return float(np.asarray(keras.ops.convert_to_numpy(found)))

    return function


def loss_name(loss: Any = None, model: keras.Model | None = None) -> str:
    """What to call a loss: the name of Keras's function for it; empty where there is none.

    Example:
        >>> loss_name("mse"), loss_name(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        ('mean_squared_error', 'sparse_categorical_crossentropy')
    """
    own = getattr(model, "loss", None) if loss is None else loss
    return "" if own is None else ", ".join(dict.fromkeys(_names(_checked(own))))


def _names(loss: Any) -> Iterator[str]:
    if isinstance(loss, dict | list | tuple):
        for each in loss.values() if isinstance(loss, dict) else loss:
            yield from _names(each)
    elif isinstance(loss, Loss):
        yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(loss).__name__).lower()
    elif loss is not None:
        yield str(getattr(loss, "__name__", type(loss).__name__))


_SPARSE, _BINARY = keras.losses.SparseCategoricalCrossentropy, keras.losses.BinaryCrossentropy
USUAL: Mapping[str, tuple[str, Any]] = {
    "classes": ("sparse_categorical_crossentropy", _SPARSE(from_logits=True)),
    "words": ("sparse_categorical_crossentropy", _SPARSE(from_logits=True)),
    "shares": ("sparse_categorical_crossentropy", _SPARSE()),
    "chance": ("binary_crossentropy", _BINARY()), "logit": ("binary_crossentropy", _BINARY(from_logits=True)),
    "numbers": ("mean_squared_error", "mean_squared_error"),
}  # fmt: skip
"""By kind of outputs: the loss that is taken where none was given, with its name."""
