"""Keras's optimizers by their names, and fresh ones like those that a user has made."""

import inspect
import warnings
from typing import Any

import keras
from keras.optimizers import Optimizer
from keras.optimizers.schedules import LearningRateSchedule

from fanin.errors import InvalidValueError, unknown_name
from fanin.initializers.specs import parse_call
from fanin.records import Call
from fanin.training import refuse_rate

__all__ = ["DEFAULT", "fresh", "inner", "is_constant", "named", "optimizer"]

DEFAULT = "adam(learning_rate=0.001)"
"""What trains where no optimizer is given."""


def _known() -> dict[str, type[Optimizer]]:
    return {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, Optimizer) and value is not Optimizer
    }


def named(call: Call) -> Optimizer:
    """The optimizer that a text like ``sgd(momentum=0.9)`` names; ``lr`` is short for ``learning_rate``.

    Raises:
        UnknownNameError, InvalidValueError: If there is none, or it does not take these parameters.

    Example:
        >>> named(Call("sgd", momentum=0.9)).momentum
        0.9
    """
    known = _known()
    if call.name.lower() not in known:
        raise unknown_name("optimizer", call.name, known)
    params = {"learning_rate" if name == "lr" else name: value for name, value in call.params.items()}
    try:
        return known[call.name.lower()](**params)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"The optimizer cannot be made: {error}", given=str(call)) from None


def optimizer(call: Call) -> Optimizer:
    """`named` for runs that get their learning rate later.

    Raises:
        UnknownNameError, InvalidValueError: Also if it is given a learning rate.
    """
    made = named(call)
    refuse_rate(call)
    return made


def inner(given: Optimizer) -> Optimizer:
    """The optimizer within one that scales the loss; any other is its own."""
    return getattr(given, "inner_optimizer", given)


def is_constant(given: Optimizer) -> bool:
    """Whether the learning rate is one number, and does not follow a schedule or a function."""
    return isinstance(inner(given)._learning_rate, keras.Variable)


def fresh(given: Optimizer | str, learning_rate: float | None = None, *, half: bool = False) -> Optimizer:
    """A new optimizer of the same class and settings, without state; the given one stays as it is.

    Args:
        given: An optimizer, or a text like ``sgd(momentum=0.9)``.
        learning_rate: Takes the place of its own.
        half: Whether to scale the loss for float16, as `compile` does, where it does not do so already.

    Raises:
        UnknownNameError, InvalidValueError: If a text names no optimizer, or it is something else.

    Example:
        >>> float(fresh("sgd(momentum=0.9)", 0.5).learning_rate)
        0.5
    """
    if isinstance(given, str):
        made = named(parse_call(given, "optimizer"))
    elif isinstance(given, Optimizer):
        made = _like(given)
    else:
        allowed = "an optimizer of Keras, or a text like sgd(momentum=0.9)"
        raise InvalidValueError("This is no optimizer", given=type(given).__name__, allowed=allowed)
    if learning_rate is not None:
        made = _like(made, learning_rate=learning_rate)
    scaling = keras.optimizers.LossScaleOptimizer
    return scaling(made) if half and not isinstance(made, scaling) else made


def _like(given: Optimizer, **changes: Any) -> Optimizer:
    """One of the same class and settings, but for some changes."""
    if inner(given) is not given:
        return type(given)(_like(inner(given), **changes), given.initial_scale, given.dynamic_growth_steps, given.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own way to read a variable
        config = given.get_config()
    if isinstance(given._learning_rate, LearningRateSchedule):  # it has no state, and may not be registered
        config["learning_rate"] = given._learning_rate
    return type(given).from_config(config | changes)
