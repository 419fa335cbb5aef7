"""Flax models run with real values: what signals and gradients they have."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanin.errors import ModelError
from fanin.jax.describe import read_model
from fanin.jax.program import Program, run
from fanin.jax.reading import Reading
from fanin.records import Signals

__all__ = ["opened_for", "probe", "values_of"]


def probe(model: Any, example: Any) -> Signals:
    """Signal and gradient at each step of `describe(model, example)`.

    The loss is the sum of the outputs times fixed standard normal numbers. The model keeps its state and its
    random numbers, and runs in the mode that it is in.

    Args:
        model: An nnx module, or a bound linen module.
        example: As for `describe`, with real values.

    Returns:
        Root mean squares of each step's output and of the loss's gradient with respect to it; not a number
        where there is none.

    Example:
        >>> from flax import nnx
        >>> signals = probe(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), np.ones((4, 3), np.float32))
        >>> signals.layers
        ('0:input', '1:weight')
    """
    info, reading = read_model(model, example)
    program = reading.trace.program
    slots = [draft.slot for draft in reading.drafts]
    opened = opened_for(program, slots)
    fixed, given = values_of(reading)
    shapes = program.shapes
    measured = [slot for slot in dict.fromkeys(slots) if reading.is_floating(slot)]

    def loss(nudges: Mapping[int, Any], values: Mapping[int, Any], signs: Mapping[int, Any]) -> Any:
        """The loss and each step's root mean square; a nudge is added to each step's output."""

        def change(slot: int, value: Any, _: Any) -> Any:
            return value + nudges[slot] if slot in nudges else value

        start = {slot: change(slot, value, None) for slot, value in {**fixed, **values}.items()}
        filled = run(program, start, opened, change)
        total = sum((jnp.sum(filled[slot].astype(jnp.float32) * sign) for slot, sign in signs.items()), jnp.zeros(()))
        return total, {slot: _rms(filled[slot]) for slot in measured}

    def measure(values: Mapping[int, Any], signs: Mapping[int, Any]) -> Any:
        """Signals and gradients of all steps."""
        nudges = {slot: jnp.zeros(shapes[slot].shape, shapes[slot].dtype) for slot in measured}
        gradients, signals = jax.grad(loss, has_aux=True)(nudges, values, signs)
        return signals, {slot: _rms(gradient) for slot, gradient in gradients.items()}

    signals, gradients = jax.jit(measure)(given, _signs(reading))
    names = tuple(f"{at}:{op.place or op.kind}" for at, op in enumerate(info.ops))
    return Signals(names, _numbers(signals, slots), _numbers(gradients, slots))


def _signs(reading: Reading) -> dict[int, Any]:
    """The numbers that floating outputs are multiplied with to make a loss; always the same ones."""
    program = reading.trace.program
    return {
        slot: np.random.default_rng(at).standard_normal(program.shapes[slot].shape, np.float32)
        for at, slot in enumerate(program.outputs)
        if reading.is_floating(slot)
    }


def _rms(value: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.promote_types(value.dtype, jnp.float32)))))


def _numbers(values: Mapping[int, Any], slots: Iterable[int]) -> tuple[float, ...]:
    return tuple(float(values[slot]) if slot in values else math.nan for slot in slots)


def opened_for(program: Program, slots: Iterable[int]) -> frozenset[int]:
    """The calls with a derivative of their own that must be run step by step for these slots to be seen."""
    inside = {slot: node.within for node in program.nodes for slot in node.outputs}
    opened: set[int] = set()
    for slot in slots:
        for number in inside.get(slot, ()):
            if slot in program.wholes[number].outputs:
                break
            opened.add(number)
    return frozenset(opened)


def values_of(reading: Reading) -> tuple[dict[int, Any], dict[int, Any]]:
    """The values that no step makes: plain numbers, which belong to the program, and arrays, which are handed in."""
    values = reading.trace.values
    lacking = [slot for slot, value in values.items() if isinstance(value, jax.ShapeDtypeStruct)]
    if lacking:
        raise ModelError("The model or the example has shapes alone", hint="Give real arrays.")
    written = {slot for slot, value in values.items() if slot in reading.trace.program.given and not np.ndim(value)}
    return {slot: values[slot] for slot in written}, {slot: values[slot] for slot in values.keys() - written}
