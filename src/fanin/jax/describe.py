"""Flax models described: their parameters, and what they compute on an example."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fanin.jax.layers import read
from fanin.jax.models import Parts, parts_of
from fanin.jax.reading import Reading
from fanin.jax.trace import read_trace
from fanin.jax.tracing import trace
from fanin.records import ModelInfo, ParamInfo

__all__ = ["describe", "read_model"]


def describe(model: Any, example: Any = None) -> ModelInfo:
    """Read a model: its parameters in the model's order and, with an example, what it computes.

    Args:
        model: An nnx module, or a linen module that is bound to its variables.
        example: An array, a tuple of positional arguments or a mapping of keyword arguments. The model is traced
            on it; nothing of the model changes.

    Raises:
        ModelError: If it is no such model, or does not run on the example.

    Example:
        >>> from flax import nnx
        >>> [(param.path, param.axes) for param in describe(nnx.Linear(3, 2, rngs=nnx.Rngs(0))).params]
        [('kernel', ('in', 'out')), ('bias', ())]
    """
    if example is not None:
        return read_model(model, example)[0]
    parts = parts_of(model)
    infos = _infos(parts, parts.modules)
    unknown = any(info.role == "unknown" for info in infos.values())
    hint = (
        () if parts.modules or not unknown else ("A linen model shows its layers only when it runs: give an example.",)
    )
    return ModelInfo("flax", tuple(infos.values()), notes=hint)


def read_model(model: Any, example: Any) -> tuple[ModelInfo, Reading]:
    """`describe` with an example, and the reading that it comes from."""
    parts = parts_of(model)
    found = trace(parts, example)
    called = {call.path: call.module for call in found.calls.values() if not isinstance(call.module, str)}
    infos = _infos(parts, parts.modules or called)
    reading = read_trace(found, infos)
    for path, (axes, role, groups) in reading.found.items():
        if infos[path].role == "unknown":
            infos[path] = replace(infos[path], axes=axes, role=role, groups=groups)
    outputs = tuple(reading.realise(slot) for slot in found.program.outputs)
    return ModelInfo("flax", tuple(infos.values()), reading.ops(), outputs, tuple(reading.notes)), reading


def _infos(parts: Parts, modules: Mapping[str, Any]) -> dict[str, ParamInfo]:
    """What the parameters mean, as far as their modules tell."""
    return {
        path: replace(read(path, array, modules), shared=parts.shared.get(path, ()))
        for path, array in parts.arrays.items()
    }
