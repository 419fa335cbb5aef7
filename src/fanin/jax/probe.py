"""Flax models run with real values: what signals and gradients they have."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError
from fanin.jax.compiling import compiled
from fanin.jax.describe import read_model
from fanin.jax.losses import Criterion, criterion
from fanin.jax.program import Program, run
from fanin.jax.reading import Reading
from fanin.jax.statistics import finished, gathered, root_mean_square
from fanin.jax.tracing import Trace
from fanin.recipes.graph import carrying, needed
from fanin.records import ModelInfo, Vitals
from fanin.vitals import NOTHING, assembled, gradient_size, refuse_misfits

__all__ = ["array_of", "opened_for", "probe", "started", "values_of"]


def probe(
    model: Any,
    example: Any,
    targets: Any = None,
    loss: Any = None,
    *,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> Vitals:
    """What a batch does to every step of a model, in one forward and one backward pass.

    The model keeps its state and its random numbers, and runs in the mode that it is in.

    Args:
        model: An nnx module, or a bound linen module.
        example: As for `describe`, with real values.
        targets: What the loss takes; without a loss, nothing.
        loss: A function of outputs and targets, or the name of one in `optax.losses`. Without one, gradients are
            those of the sum of the outputs times fixed standard normal numbers.
        values: What parameters hold in this run, by path, in place of their own values.

    Returns:
        One entry for each step of `describe(model, example).ops`. Units are on the last axis.

    Raises:
        ModelError: If the model or the loss does not take what it is given, or has shapes alone.
        UnknownNameError, InvalidValueError: If there is no such loss or parameter, or the loss has no targets.

    Example:
        >>> from flax import nnx
        >>> vitals = probe(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), np.ones((4, 3), np.float32))
        >>> vitals.layers, list(vitals.param_gradients)
        (('0:input', '1:weight'), ['kernel', 'bias'])
    """
    if loss is not None and targets is None:
        raise InvalidValueError("The loss has no targets", given="None", allowed="an array of targets")
    value = None if loss is None else criterion(loss)
    info, reading = read_model(model, example)
    found = reading.trace
    slots = [draft.slot for draft in reading.drafts]
    fixed, given = values_of(reading)
    measured = [slot for slot in dict.fromkeys(slots) if reading.is_floating(slot) and reading.size(slot)]
    alike = _alike(info, slots, found)
    own = {path: given.pop(slot) for path, slot in found.weights.items()}
    weights = {found.weights[path]: value for path, value in started(own, values or {}).items()}

    goal = _signs(reading) if value is None else jax.tree.map(jnp.asarray, targets)
    measure = _measuring(reading, value, alike, measured, fixed)
    (seen, total, outputs), (sizes, sent) = compiled(measure, once=True)(weights, given, goal)
    reached = needed(info.ops, (at for at in info.outputs if reading.is_floating(slots[at])))
    told = {slot: finished(each) for slot, each in seen.items()}
    steps = [told.get(slot, NOTHING) for slot in slots]
    used = {path for at in reached for path in info.ops[at].params}
    return assembled(
        info.ops,
        steps,
        [gradient_size(float(sizes[slot])) if slot in sizes else math.nan for slot in slots],
        {p: gradient_size(float(sent[slot])) if p in used else math.nan for p, slot in found.weights.items()},
        math.nan if value is None else float(total),
        list(map(array_of, outputs)),
    )


def started(own: Mapping[str, Any], given: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What parameters hold in a run, by path: these arrays, or their own values.

    Raises:
        UnknownNameError, ModelError: If there is none of a path, or it has another shape.
    """
    refuse_misfits(given, own)
    return {path: jnp.asarray(given[path], value.dtype) if path in given else value for path, value in own.items()}


def _measuring(
    reading: Reading, loss: Criterion | None, alike: set[int], measured: Sequence[int], fixed: Mapping[int, Any]
) -> Callable[..., Any]:
    """A function of parameters, of other values by slot and of targets that runs forward and backward once."""
    program = reading.trace.program
    opened = opened_for(program, measured)

    def objective(at: Any, values: Mapping[int, Any], goal: Any) -> Any:
        """The loss, and what is to be known of each step; a nudge is added to each step's output."""
        nudges, own = at
        seen: dict[int, Any] = {}

        def change(slot: int, value: Any, _: Any) -> Any:
            if slot not in nudges:
                return value
            seen[slot] = gathered(jax.lax.stop_gradient(value), -1, slot in alike)
            return value + nudges[slot]

        start = {slot: change(slot, each, None) for slot, each in {**fixed, **values, **own}.items()}
        filled = run(program, start, opened, change)
        outputs = [filled[slot] for slot in program.outputs]
        if loss is not None:
            total = loss(reading.trace.nested(outputs), goal)
        else:
            parts = (jnp.sum(filled[slot].astype(jnp.float32) * sign) for slot, sign in goal.items())
            total = sum(parts, jnp.zeros(()))
        return total, (seen, total, outputs)

    def measure(own: Mapping[int, Any], values: Mapping[int, Any], goal: Any) -> Any:
        """One forward and one backward pass."""
        nudges = {slot: jnp.zeros(program.shapes[slot].shape, program.shapes[slot].dtype) for slot in measured}
        gradients, rest = jax.grad(objective, has_aux=True)((nudges, own), values, goal)
        return rest, jax.tree.map(root_mean_square, gradients)

    return measure


def _alike(info: ModelInfo, slots: Sequence[int], found: Trace) -> set[int]:
    """The slots whose first axis is that of the examples."""
    shapes = [found.program.shapes[slot].shape for slot in found.examples]
    batch = next((shape[0] for shape in shapes if shape), 0)
    return {
        slot for slot, live in zip(slots, carrying(info.ops), strict=True)
        if live and batch > 1 and found.program.shapes[slot].shape[:1] == (batch,)
    }  # fmt: skip


def array_of(value: Any) -> NDArray[Any]:
    """An array's values as float32 (float64 where it is that); whole numbers and truth values as they are."""
    array = np.asarray(value)
    half = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype != np.float64
    return np.array(array.astype(np.float32) if half else array)


def _signs(reading: Reading) -> dict[int, Any]:
    """The numbers that floating outputs are multiplied with to make a loss; always the same ones."""
    program = reading.trace.program
    return {
        slot: np.random.default_rng(at).standard_normal(program.shapes[slot].shape, np.float32)
        for at, slot in enumerate(program.outputs)
        if reading.is_floating(slot)
    }


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
