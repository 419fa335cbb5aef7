"""Keras models described, written, probed and calibrated, on every backend."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fanin.errors import ModelError, unknown_name
from fanin.initializers.draws import draw_law, gate_factors, law_of
from fanin.initializers.laws import Draw
from fanin.initializers.streams import check_seed
from fanin.keras.calibration import calibrate
from fanin.keras.layouts import Reading, readings, restored_on_failure, variables_of
from fanin.keras.losses import USUAL, loss_function
from fanin.keras.probe import probe
from fanin.keras.setup import setup
from fanin.keras.trace import build, has_inputs, trace
from fanin.keras.trial import trial
from fanin.records import ModelInfo, ParamInfo, Plan, PlanEntry

__all__ = [
    "USUAL",
    "calibrate",
    "describe",
    "examples",
    "fill",
    "loss_function",
    "probe",
    "setup",
    "trial",
    "values",
    "write",
]

_BATCH = 2
"""Examples in a made-up batch."""


def describe(model: keras.Model, example: Any = None) -> ModelInfo:
    """Read a model: its trainable parameters, in the model's order, and what it computes from them.

    No value of the model is changed, and it is not run: what it computes is read from symbolic tensors. A model that
    has no parameters yet gets them, as it would at its first call on the example.

    Args:
        model: A built model, or with an example any.
        example: What it is called on: an array, a tuple of positional arguments or a mapping of keyword
            arguments. Functional and sequential models know their inputs, and need none; of others the
            parameters alone are described without one.

    Raises:
        ModelError: If the model is not built and there is no example to build it on, or it does not take the example.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu", name="d")])
        >>> [(param.path, param.axes) for param in describe(model).params]
        [('d/kernel', ('in', 'out')), ('d/bias', ())]
        >>> [op.kind for op in describe(model).ops]
        ['input', 'weight', 'activation']
    """
    if not model.built:
        if example is None:
            raise ModelError(
                "The model is not built", given=model.name, hint="Give an example, or give the model an Input."
            )
        build(model, example)
    known, traced = readings(model), None
    notes: tuple[str, ...] = ()
    if example is not None:
        traced = trace(model, example)
    elif has_inputs(model):
        try:
            traced = trace(model)
        except ModelError as error:  # nobody asked for the steps
            notes = (str(error),)
    learnt = traced.readings if traced is not None else {}

    def read(path: str, variable: keras.Variable) -> ParamInfo:
        """One parameter: by its layer, or by how it was used, or by its name."""
        named = Reading((), "bias" if variable.name.endswith("bias") else "unknown")
        found = known.get(id(variable)) or (learnt.get(id(variable), named) if named.role == "unknown" else named)
        return ParamInfo(path, tuple(variable.shape), str(variable.dtype), *found)

    params = tuple(read(path, variable) for path, variable in variables_of(model).items())
    if traced is None:
        return ModelInfo("keras", params, notes=notes)
    return ModelInfo("keras", params, tuple(step.op for step in traced.steps), traced.outputs, traced.notes)


def examples(model: keras.Model) -> Iterator[tuple[Any, str]]:
    """Inputs that a built model may take, likeliest first, each with words for the user.

    Models that know their inputs need none. Others remember the shape of what they were first called on, and not
    its type: where there is a lookup table whole numbers are tried first.

    Example:
        >>> class Net(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.head = keras.layers.Dense(2)
        ...
        ...     def call(self, x):
        ...         return self.head(x)
        >>> model = Net()
        >>> _ = model(np.ones((5, 3), np.float32))
        >>> [words for _, words in examples(model)]
        ['float32 of shape (5, 3)', 'int32 of shape (5, 3)']
    """
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    shape = next(iter(shapes.values()), None) if len(shapes) == 1 else None
    if not isinstance(shape, list | tuple) or not all(size is None or isinstance(size, int) for size in shape):
        return
    sizes = tuple(size or _BATCH for size in shape)
    tables = any(isinstance(layer, keras.layers.Embedding) for layer in model._flatten_layers())
    for kind in ("int32", "float32") if tables else ("float32", "int32"):
        yield np.zeros(sizes, kind), f"{kind} of shape {sizes}"


def values(model: keras.Model, path: str) -> NDArray[Any]:
    """A parameter's values: float32, or float64 where the parameter is.

    Raises:
        UnknownNameError: If the model has no such parameter.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        >>> values(model, "d/bias")
        array([0., 0.], dtype=float32)
    """
    return _array(_variables(model, [path])[path])


def write(model: keras.Model, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set parameters by path; the others keep their values.

    Raises:
        UnknownNameError: If the model has no such parameter; nothing is written then.
    """
    for path, variable in _variables(model, arrays).items():
        variable.assign(arrays[path])


def fill(model: keras.Model, plan: Plan, progress: Callable[[int], None] | None = None) -> None:
    """Draw every parameter that a plan chooses into the model, all of it or nothing; the others keep their values.

    Args:
        model: A built model.
        plan: Its paths and shapes have to be the model's.
        progress: Told after each parameter how many elements more are done.

    Raises:
        UnknownNameError, ModelError, InvalidValueError: If the plan does not fit the model, or a law a parameter;
            nothing is written then. If anything fails later, every parameter gets its old values back.

    Example:
        >>> from fanin.records import Init
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        >>> entries = tuple(PlanEntry(param, Init("ones"), "") for param in describe(model).params)
        >>> fill(model, Plan(entries))
        >>> values(model, "d/bias").tolist()
        [1.0, 1.0]
    """
    seed, variables = check_seed(plan.seed), _variables(model, [entry.param.path for entry in plan.chosen])
    drawn = [(entry, variables[entry.param.path], *_checked(entry, variables[entry.param.path]))
             for entry in plan.chosen]  # fmt: skip
    with restored_on_failure(list(variables.values())):
        for entry, variable, law, factors in drawn:
            array = draw_law(entry.param, law, seed)
            variable.assign(array * factors if entry.scales else array)
            if progress is not None:
                progress(array.size)


def _variables(model: keras.Model, paths: Iterable[str]) -> dict[str, keras.Variable]:
    """The model's variables of these paths.

    Raises:
        UnknownNameError: If one is missing.
    """
    found = variables_of(model)
    for path in paths:
        if path not in found:
            raise unknown_name("parameter in the model", path, found)
    return {path: found[path] for path in paths}


def _array(variable: keras.Variable) -> NDArray[Any]:
    """A variable's values in the precision in which NumPy computes; bfloat16 and float16 are widened."""
    kind = "float64" if variable.dtype == "float64" else "float32"
    return np.array(keras.ops.convert_to_numpy(keras.ops.cast(variable.value, kind)))


def _checked(entry: PlanEntry, variable: keras.Variable) -> tuple[Draw, NDArray[np.float32]]:
    """The law of an entry and the factors of its gates, once both are known to fit the variable.

    Raises:
        ModelError, InvalidValueError: If they do not.
    """
    param = entry.param
    if tuple(variable.shape) != param.shape:
        raise ModelError(
            f"The plan is for another model: {param.path} has another shape",
            given=param.shape,
            allowed=str(tuple(variable.shape)),
        )
    if not keras.backend.is_float_dtype(variable.dtype):
        raise ModelError(f"{param.path} cannot be drawn", given=str(variable.dtype), allowed="a real floating type")
    assert entry.init is not None, "only chosen entries are checked"
    return law_of(param, entry.init), gate_factors(param, entry.scales)
