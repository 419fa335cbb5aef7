"""A Flax model traced on an example: the steps that it takes, and what belongs to which of their values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanin.errors import ModelError
from fanin.jax.models import Call, Parts, Recorder
from fanin.jax.program import Program, flatten

__all__ = ["ARRAYS", "Trace", "arguments", "trace"]

ARRAYS = np.ndarray | jax.Array | jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Trace:
    """A model that was traced on an example.

    Attributes:
        weights: The slots of the parameters, by path.
        examples: The slots of the arrays in the example.
        values: The values of all slots that no step makes.
        calls: The marked calls, by the number in `Node.calls`.
        nested: From the arrays that the model returns to what it returns.
    """

    program: Program
    weights: Mapping[str, int]
    examples: tuple[int, ...]
    values: Mapping[int, Any]
    calls: Mapping[int, Call]
    nested: Callable[[Sequence[Any]], Any]


def arguments(example: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """How a model is called on an example: an array, a tuple of arguments, or a mapping of keyword arguments."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def _stand_in(value: Any) -> Any:
    """A value for state that has a shape alone: constants are computed from it, whose values do not matter then."""
    if not isinstance(value, jax.ShapeDtypeStruct):
        return value
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), value.shape) if value.shape else jax.random.key(0)
    return np.zeros(value.shape, value.dtype)


def trace(parts: Parts, example: Any) -> Trace:
    """Trace a model on an example: an array, a tuple of arguments, or a mapping of keyword arguments.

    Arrays may be shapes alone (`jax.ShapeDtypeStruct`), in the example and in the model.

    Raises:
        ModelError: If the model does not run on it.
    """
    leaves, structure = jax.tree.flatten(arguments(example))
    dynamic = [place for place, leaf in enumerate(leaves) if isinstance(leaf, ARRAYS)]
    arrays = [leaves[place] for place in dynamic]
    recorder = Recorder()
    returned: list[Any] = []

    def function(weights: Sequence[Any], state: Sequence[Any], values: Sequence[Any]) -> Any:
        """The arrays that the model returns, from all arrays that it depends on."""
        filled = [dict(zip(dynamic, values, strict=True)).get(place, leaf) for place, leaf in enumerate(leaves)]
        args, kwargs = jax.tree.unflatten(structure, filled)
        outputs = parts.call(dict(zip(parts.arrays, weights, strict=True)), state, args, kwargs, recorder)
        found, form = jax.tree.flatten(outputs)
        returned[:] = [form, [None if isinstance(leaf, jax.Array) else leaf for leaf in found]]
        return [leaf for leaf in found if isinstance(leaf, jax.Array)]

    def nested(arrays: Sequence[Any]) -> Any:
        """What the model returns."""
        waiting = iter(arrays)
        return jax.tree.unflatten(returned[0], [next(waiting) if leaf is None else leaf for leaf in returned[1]])

    weights = list(parts.arrays.values())
    try:
        closed = jax.make_jaxpr(function)(weights, list(parts.state), arrays)
    except Exception as error:  # whatever the user's model raises
        raise ModelError(
            "The model does not run on this example",
            given=f"{type(error).__name__}: {error}",
            hint="Give an array, a tuple of positional arguments or a mapping of keyword arguments.",
        ) from error
    program = flatten(closed, len(weights))
    state = [_stand_in(value) for value in parts.state]
    values = dict(zip(program.inputs, [*weights, *state, *arrays], strict=True))
    slots = dict(zip(parts.arrays, program.inputs, strict=False))
    examples = program.inputs[len(weights) + len(parts.state) :]
    return Trace(program, slots, examples, {**program.given, **values}, recorder.calls, nested)
