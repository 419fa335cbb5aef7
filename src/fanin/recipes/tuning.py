"""Initial weights tuned on one batch, MetaInit and GradInit: what no framework has a part in.

Both learn one positive factor for each weight, by the same descent: the logarithms of the factors move along
the signs of their slopes, with momentum and a rate that falls to zero, and the best factors met are kept. The
tuned weights are therefore never worse, by the method's own measure and on this batch, than those before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, unknown_name

__all__ = [
    "EPSILON",
    "FirstStep",
    "Measure",
    "Measured",
    "Progress",
    "check_output",
    "check_settings",
    "check_targets",
    "checked_paths",
    "descended",
    "drawn_targets",
    "first_step",
    "refuse_zero",
]

EPSILON = 1e-5
"""MetaInit's guard against gradients near zero; a gradient well below it counts as vanished."""
_MOMENTUM = 0.9
_DECREASE = 0.1
"""By how much GradInit lets one optimizer step lower the loss, to first order, if no `gamma` is given."""
_SEED = 0
"""Of random targets."""
_OWN_LOSS = "Give targets and a loss of your own."

Progress = Callable[[int, int], None]
"""Told after each step (steps done, steps)."""


class Measured(NamedTuple):
    """What a method sees at some factors.

    Attributes:
        value: What is to be small.
        holds: Whether the method's constraint holds; values that break it are worse than all others.
        slopes: Of the value, for the logarithm of each factor.
    """

    value: float
    holds: bool
    slopes: NDArray[np.float64]


Measure = Callable[[NDArray[np.float64]], Measured]
"""From the logarithms of the factors."""


def check_settings(**settings: float) -> None:
    """Refuse what is not above zero; `steps` has to be a whole number.

    Raises:
        InvalidValueError: With the name of the setting.
    """
    for name, value in settings.items():
        if not 0 < value < float("inf") or (name == "steps" and not isinstance(value, int)):
            allowed = "a whole number above zero" if name == "steps" else "a number above zero"
            raise InvalidValueError(f"The setting {name} is out of range", given=value, allowed=allowed)


def checked_paths(paths: Sequence[str], known: Iterable[str]) -> list[str]:
    """The paths, each once.

    Raises:
        UnknownNameError, InvalidValueError: If one is no parameter's, or there is none.

    Example:
        >>> checked_paths(["b", "a", "b"], ["a", "b"])
        ['b', 'a']
    """
    names = list(known)
    for path in paths:
        if path not in names:
            raise unknown_name("parameter of the model", path, names)
    if not paths:
        raise InvalidValueError("No weight to tune is given", allowed=", ".join(names) or "a model with parameters")
    return list(dict.fromkeys(paths))


def refuse_zero(paths: Iterable[str]) -> None:
    """Refuse weights without a size that a factor could change; these are their paths."""
    zero = ", ".join(paths)
    if zero:
        raise ModelError("A parameter that is all zero has no size to tune", given=zero, hint="Leave it out of paths.")


# --------------------------------------------------------------------------------------------------- GradInit
class FirstStep(NamedTuple):
    """The first step of an optimizer.

    Attributes:
        norm: The order of the gradient's norm; to this power and times the learning rate, it is what the step
            takes off the loss, to first order.
        learning_rate: That of the step.
        gamma: The largest norm allowed.
    """

    norm: int
    learning_rate: float
    gamma: float


_RULES: Mapping[str, tuple[int, float]] = MappingProxyType({"adam": (1, 1e-3), "sgd": (2, 0.1)})
"""Norm and usual learning rate."""


def first_step(optimizer: str, learning_rate: float | None, gamma: float | None) -> FirstStep:
    """The first step of an optimizer whose settings may be left open.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such optimizer, or a setting is out of range.

    Example:
        >>> first_step("sgd", 0.4, None)
        FirstStep(norm=2, learning_rate=0.4, gamma=0.5)
    """
    if optimizer not in _RULES:
        raise unknown_name("optimizer whose first step is known", optimizer, _RULES)
    norm, usual = _RULES[optimizer]
    learning_rate = usual if learning_rate is None else learning_rate
    check_settings(learning_rate=learning_rate)
    gamma = (_DECREASE / learning_rate) ** (1 / norm) if gamma is None else gamma
    check_settings(gamma=gamma)
    return FirstStep(norm, learning_rate, gamma)


# ----------------------------------------------------------------------------------------------------- targets
def check_output(output: Any, allowed: str) -> None:
    """Refuse an output that is not one array of this shape, batch in front.

    Raises:
        ModelError: That no loss for it is known.
    """
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) < 2:
        given = type(output).__name__ if shape is None else f"shape {tuple(shape)}"
        raise ModelError("No loss for these outputs is known", given=given, allowed=allowed, hint=_OWN_LOSS)


def check_targets(targets: Sequence[int], output: Sequence[int], axis: int | None) -> None:
    """Refuse targets of the wrong shape.

    Args:
        targets, output: Shapes.
        axis: The output's axis of the classes; None for targets that are numbers.

    Raises:
        ModelError: With the shape wanted.
    """
    wanted = tuple(output) if axis is None else _without(output, axis)
    if tuple(targets) != wanted:
        allowed = f"{wanted} for outputs of shape {tuple(output)}"
        hint = "Give a loss of your own."
        raise ModelError("The targets do not fit the outputs", given=tuple(targets), allowed=allowed, hint=hint)


def drawn_targets(output: Sequence[int], axis: int) -> NDArray[Any]:
    """Random classes for an output of this shape, or for a single unit random numbers.

    Args:
        output: The shape.
        axis: The axis of the classes.

    Example:
        >>> drawn_targets((4, 9, 3), axis=-1).shape, drawn_targets((4, 1), axis=1).shape
        ((4, 9), (4, 1))
    """
    rng = np.random.default_rng(_SEED)
    classes = output[axis]
    return rng.normal(size=tuple(output)) if classes == 1 else rng.integers(classes, size=_without(output, axis))


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(size for place, size in enumerate(shape) if place != axis % len(shape))


# ----------------------------------------------------------------------------------------------------- descent
def descended(
    measure: Measure, paths: Sequence[str], steps: int, rate: float, progress: Progress | None
) -> dict[str, float]:
    """The best factors that the descent meets, by path.

    Args:
        measure: The method.
        paths: Of the weights, in the order of the slopes.
        steps: How often the factors change.
        rate: The largest change of a logarithm in one step.
        progress: Told how far it is.

    Raises:
        ModelError: If a value or slope is not finite, or all slopes are zero at the start.

    Example:
        >>> def measure(logs):
        ...     return Measured(float((logs**2).sum()), True, 2 * logs + 1e-9)
        >>> descended(measure, ["w"], steps=3, rate=0.1, progress=None)
        {'w': 1.0}
    """
    logs, velocity = np.zeros(len(paths)), np.zeros(len(paths))
    best: tuple[bool, float, NDArray[np.float64]] | None = None
    for step in range(steps + 1):
        value, holds, slopes = measure(logs)
        _check_measured(value, slopes, step)
        if best is None or (not holds, value) < best[:2]:
            best = (not holds, value, logs)
        velocity = _MOMENTUM * velocity - (1 - _MOMENTUM) * rate * (1 - step / steps) * np.sign(slopes)
        logs = logs + velocity
        if progress is not None:
            progress(step, steps)
    assert best is not None, "there is at least one step"
    return {path: float(factor) for path, factor in zip(paths, np.exp(best[2]), strict=True)}


def _check_measured(value: float, slopes: NDArray[np.float64], step: int) -> None:
    """Refuse what no descent can follow."""
    if not (np.isfinite(value) and np.isfinite(slopes).all()):
        again = "Start from a recipe's weights, or lower the rate."
        raise ModelError("A derivative of the loss is not finite", given=f"{value} at step {step}", hint=again)
    if step == 0 and not slopes.any():
        hint = "Signal or gradient may have vanished: start from a recipe's weights."
        raise ModelError("The sizes of these weights change nothing", given="all derivatives are zero", hint=hint)
