"""Weights of a Keras model scaled so that what they compute has wanted sizes."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.keras.assembly import Step
from fanin.keras.layouts import restored_on_failure, variables_of
from fanin.keras.running import array_of, quietly, run, tensors_of
from fanin.keras.trace import Trace, trace

__all__ = ["calibrate"]

_MOMENTS: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    "second_moment": lambda z: float(np.mean(np.square(z))),
    "variance": lambda z: float(np.var(z)),
}


def calibrate(
    model: keras.Model,
    example: Any,
    targets: Mapping[str, float],
    *,
    of: Literal["second_moment", "variance"] = "second_moment",
) -> dict[str, float]:
    """Multiply weights so that what they compute has wanted sizes on an example.

    The output of the first step that uses a weight is measured without its bias, in executed order, each
    after all earlier weights were changed.

    Args:
        model: A built model.
        example: What it is called on, as in `describe`.
        targets: From the path of a weight to the wanted second moment (or variance), above 0.
        of: What is measured.

    Returns:
        The factor of each weight, in executed order.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: If a path or a target is none, the model does not take
            the example or does not multiply by a weight, or an output is zero or not finite; the model has its old
            values then.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d", kernel_initializer="ones")])
        >>> calibrate(model, np.ones((4, 3), np.float32), {"d/kernel": 1.0})
        {'d/kernel': 0.3333333333333333}
    """
    _check_targets(model, targets, of)
    read = trace(model, example)
    first = _first_uses(read, targets)
    factors: dict[str, float] = {}

    def measure(value: Any, real: Any) -> Any:
        """The weight is multiplied within the scope, so that nothing is written before all is known."""
        path, variable = first.get(id(value), ("", None))
        if variable is None:
            return real
        found = _MOMENTS[of](np.asarray(array_of(real), np.float64))
        if not (math.isfinite(found) and found > 0):
            raise ModelError(f"The output of {path} is zero or not finite", given=f"{of.replace('_', ' ')} {found:g}")
        factors[path] = math.sqrt(targets[path] / found)
        variable.assign(variable.value * factors[path])
        return real * factors[path]

    with quietly():
        run(read, tensors_of(model, example), measure)
    changed = [variables_of(model)[path] for path in factors]
    with restored_on_failure(changed):
        for variable, factor in zip(changed, factors.values(), strict=True):
            variable.assign(variable.value * factor)
    return factors


def _check_targets(model: keras.Model, targets: Mapping[str, float], of: str) -> None:
    known = variables_of(model)
    for path, target in targets.items():
        if path not in known:
            raise unknown_name("parameter in the model", path, known)
        if not (math.isfinite(target) and target > 0):
            raise InvalidValueError(f"The target for {path} is not above 0", given=target)
    if of not in _MOMENTS:
        raise unknown_name("quantity to calibrate", of, _MOMENTS)


def _first_uses(read: Trace, paths: Mapping[str, float]) -> dict[int, tuple[str, Any]]:
    """From the key of a weight's first output without bias to its path and variable.

    Raises:
        ModelError: If a path is of no weight.
    """
    first: dict[str, Step] = {}
    for step in read.steps:
        if step.op.kind == "weight":
            first.setdefault(step.op.params[0], step)
    unused = [path for path in paths if path not in first]
    if unused:
        raise ModelError(
            "The model does not multiply a signal by these parameters on this example", given=", ".join(unused),
            allowed=", ".join(first) or "none of its parameters",
        )  # fmt: skip
    return {id(first[path].plain): (path, first[path].variables[0]) for path in paths}
