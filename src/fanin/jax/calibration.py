"""Factors for the weights of a Flax model that give their outputs a wanted moment."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.jax.describe import read_model
from fanin.jax.probe import opened_for, values_of
from fanin.jax.program import run
from fanin.jax.reading import Reading

__all__ = ["factors_of"]

_MOMENTS: Mapping[str, Callable[[Any], Any]] = {
    "second_moment": lambda value: jnp.mean(jnp.square(value)),
    "variance": jnp.var,
}
_SWEEPS = 10
"""How often a model with tied tables is gone over at most."""
_SETTLED = 1e-3
"""A factor that is this close to 1 changes nothing any more."""
_STEEPEST = 8.0
"""The highest power of its factor that a tied table's output is taken to follow; other outputs follow the second."""


def factors_of(model: Any, example: Any, targets: Mapping[str, float], of: str) -> dict[str, float]:
    """The factors for weights that make their outputs what is wanted, each measured after all earlier ones.

    Args:
        model: An nnx module, or a bound linen module.
        example: As for `describe`, with real values.
        targets: The wanted moment of the output, without its bias, of the first weight step of each parameter.
        of: ``second_moment`` or ``variance``.

    Raises:
        UnknownNameError, InvalidValueError: If a path or a target cannot be.
        ModelError: If a parameter is no weight on this example, or its output is all zero or not finite.
    """
    if of not in _MOMENTS:
        raise unknown_name("moment", of, _MOMENTS)
    _, reading = read_model(model, example)
    cores = _cores(reading, targets)
    # A table that is looked up and multiplied changes its own input: it is settled by going over the model again.
    tied = {path for draft in reading.drafts for path in draft.params if draft.kind == "lookup" and path in targets}
    fixed, given = values_of(reading)
    measure = jax.jit(_measuring(reading, cores, targets, of, fixed))
    factors = dict.fromkeys(cores.values(), 1.0)
    before: dict[str, tuple[float, float]] = {}
    for _ in range(_SWEEPS):
        moments = {path: float(value) for path, value in measure(given).items()}
        steps: dict[str, float] = {}
        for path in factors:  # in executed order, because one that fails spoils those after it
            if not 0 < moments[path] < math.inf:
                raise ModelError(
                    f"The output of {path} cannot be scaled", given=f"{of} {moments[path]}", allowed="above 0, finite"
                )
            place = (math.log(factors[path]), math.log(moments[path]))
            power = _power(before[path], place) if path in tied and path in before else 2.0
            before[path] = place
            steps[path] = (targets[path] / moments[path]) ** (1 / power)
            slot = reading.trace.weights[path]
            factors[path] *= steps[path]
            given[slot] = (given[slot] * steps[path]).astype(given[slot].dtype)
        if all(abs(step - 1) <= _SETTLED for step in steps.values()) or not tied:
            break
    return factors


def _power(before: tuple[float, float], now: tuple[float, float]) -> float:
    """The power of a factor that its output followed, from the logarithms of both at two places."""
    moved = now[0] - before[0]
    return min(max((now[1] - before[1]) / moved, 1.0), _STEEPEST) if abs(moved) > 1e-9 else 2.0


def _cores(reading: Reading, targets: Mapping[str, float]) -> dict[int, str]:
    """The slot of the output without a bias of the first weight step of each target, in executed order."""
    cores: dict[int, str] = {}
    for draft in reading.drafts:
        if draft.kind == "weight" and draft.params[0] in targets and draft.params[0] not in cores.values():
            cores[draft.core] = draft.params[0]
    for path, target in targets.items():
        if path not in reading.params:
            raise unknown_name("parameter", path, reading.params)
        if not 0 < target < math.inf:
            raise InvalidValueError(f"The target for {path} is out of range", given=target, allowed="above 0, finite")
        if path not in cores.values():
            raise ModelError("The parameter multiplies no signal on this example", given=path)
    return cores


def _measuring(
    reading: Reading, cores: Mapping[int, str], targets: Mapping[str, float], of: str, fixed: Mapping[int, Any]
) -> Callable[[Mapping[int, Any]], dict[str, Any]]:
    """A function of the values that the program is handed: the moment of each target, with those before it scaled."""
    opened = opened_for(reading.trace.program, cores)

    def measure(values: Mapping[int, Any]) -> dict[str, Any]:
        """Run the model and scale on the way."""
        measured: dict[str, Any] = {}

        def change(slot: int, value: Any, filled: dict[int, Any]) -> Any:
            """Scale a weight as soon as its output is known: the output, and what holds the weight."""
            if slot not in cores:
                return value
            path = cores[slot]
            measured[path] = _MOMENTS[of](value.astype(jnp.float32))
            factor = jnp.sqrt(targets[path] / measured[path])
            for view in reading.views[path]:
                if view in filled:
                    filled[view] = (filled[view] * factor).astype(filled[view].dtype)
            return (value * factor).astype(value.dtype)

        run(reading.trace.program, {**fixed, **values}, opened, change)
        return measured

    return measure
