"""A Keras model run on real numbers, step by step as it was read: its signals, its gradients, its calibration."""

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import keras
import numpy as np
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.backend.common.variables import AutocastScope
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.keras.assembly import Step
from fanin.keras.layouts import restored_on_failure, variables_of
from fanin.keras.trace import Trace, call_arguments, trace
from fanin.records import Signals

__all__ = ["calibrate", "probe"]

_SEED = 0
_MOMENTS: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    "second_moment": lambda z: float(np.mean(np.square(z))),
    "variance": lambda z: float(np.var(z)),
}

Hook = Callable[[Any, Any], Any]
"""From a symbolic tensor, variable or array and its real value to the value to go on with."""


def probe(model: keras.Model, example: Any) -> Signals:
    """Size of every step's output on a real example, and of the loss's gradient with respect to it.

    The loss is the sum of the outputs, each element times a standard normal number that is the same in every
    call. Nothing of the model is changed.

    Args:
        model: A built model.
        example: What it is called on, as in `describe`.

    Returns:
        One entry for each step of ``describe(model, example).ops``, named by its number and place; nan where
        there is no number: for whole numbers, and for the gradient of what the loss does not depend on.

    Raises:
        ModelError: If the model does not take the example.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d", kernel_initializer="ones")])
        >>> probe(model, np.full((4, 3), 2.0, np.float32)).signal_rms
        (2.0, 6.0)
    """
    read = trace(model, example)
    with _quietly():
        values, gradients = _signals(read, _tensors(model, example))
    layers = tuple(f"{number}:{step.op.place or step.op.kind}" for number, step in enumerate(read.steps))
    return Signals(layers, tuple(map(_rms, values)), tuple(map(_rms, gradients)))


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
        path, variable = first.get(_key(value), ("", None))
        if variable is None:
            return real
        found = _MOMENTS[of](np.asarray(_numpy(real), np.float64))
        if not (math.isfinite(found) and found > 0):
            raise ModelError(f"The output of {path} is zero or not finite", given=f"{of.replace('_', ' ')} {found:g}")
        factors[path] = math.sqrt(targets[path] / found)
        variable.assign(variable.value * factors[path])
        return real * factors[path]

    with _quietly():
        _run(read, _tensors(model, example), measure)
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
    return {_key(first[path].plain): (path, first[path].variables[0]) for path in paths}


def _key(value: Any) -> int:
    return id(value)


def _tensors(model: keras.Model, example: Any) -> list[Any]:
    """The arrays of an example as tensors, in the order of `Trace.inputs`."""
    return [each for each in keras.tree.flatten(call_arguments(model, example)) if hasattr(each, "shape")]


@contextmanager
def _quietly() -> Iterator[None]:
    """The model's own warnings are not this call's, and its state is not this call's to change."""
    with warnings.catch_warnings(), keras.StatelessScope():
        warnings.simplefilter("ignore")
        yield


def _run(read: Trace, inputs: Sequence[Any], hook: Hook) -> list[Any]:
    """Run the records on real values; what the model returns."""
    known: dict[int, Any] = {}
    for symbol, value in zip(read.inputs, inputs, strict=True):
        known[id(symbol)] = hook(symbol, value)
    for step in read.steps:  # arrays and variables used as values
        if step.op.kind in ("constant", "param") and not isinstance(step.value, keras.KerasTensor):
            known[id(step.value)] = hook(step.value, keras.ops.convert_to_tensor(step.value))

    def real(value: Any) -> Any:
        """A value as it is now; a variable in the precision of where it is used."""
        if id(value) in known:
            found = known[id(value)]
            return keras.ops.cast(found, value.dtype) if isinstance(value, keras.Variable) else found
        return value.value if isinstance(value, keras.Variable) else value

    for record in read.records:
        with ExitStack() as stack:
            if record.precision is not None:
                stack.enter_context(AutocastScope(record.precision))
            args, kwargs = keras.tree.map_structure(real, (record.args, dict(record.kwargs)))
            outputs = keras.tree.flatten(record.run(*args, **kwargs))
        for symbol, value in zip(record.outputs, outputs, strict=False):
            if symbol is not None:
                known[id(symbol)] = hook(symbol, value)
    return [known[id(symbol)] for symbol in read.returned]


def _signals(read: Trace, inputs: Sequence[Any]) -> tuple[Sequence[Any], list[Any]]:
    """Each step's output, and the gradient of the loss with respect to zeros added to it, where it is floating."""
    numbers = {_key(step.value): number for number, step in enumerate(read.steps)}
    floating = [number for number, step in enumerate(read.steps) if keras.backend.is_float_dtype(step.value.dtype)]
    places = {number: place for place, number in enumerate(floating)}
    random = np.random.Generator(np.random.Philox(_SEED))
    weights = [
        random.standard_normal(tuple(each.shape)).astype(np.float32)
        for each in read.returned if keras.backend.is_float_dtype(each.dtype)
    ]  # fmt: skip

    def loss(nudges: Sequence[Any]) -> tuple[Any, list[Any]]:
        """The outputs, weighed, with each step's output nudged; and the outputs of all steps."""
        values: list[Any] = [None] * len(read.steps)

        def nudge(value: Any, real: Any) -> Any:
            """A step's output with its nudge; a mask stays with it."""
            number = numbers.get(_key(value), -1)
            if number < 0:
                return real
            moved = real
            if number in places:
                moved = real + keras.ops.cast(nudges[places[number]], real.dtype)
                set_keras_mask(moved, get_keras_mask(real))
            values[number] = moved
            return moved

        returned = [each for each in _run(read, inputs, nudge) if keras.backend.is_float_dtype(each.dtype)]
        pairs = zip(returned, weights, strict=True)
        return sum(keras.ops.sum(each * keras.ops.cast(weight, each.dtype)) for each, weight in pairs), values

    nudges = [keras.ops.zeros(tuple(read.steps[number].value.shape), "float32") for number in floating]
    differentiate = _DIFFERENTIATE[keras.backend.backend()] if weights else _not_at_all
    values, found = differentiate(loss, nudges)
    reached = _reached(read)
    gradients = dict(zip(floating, found, strict=True))
    return values, [gradients.get(number) if number in reached else None for number in range(len(read.steps))]


def _reached(read: Trace) -> set[int]:
    """The steps that a floating output depends on."""
    waiting = [number for number in read.outputs if keras.backend.is_float_dtype(read.steps[number].value.dtype)]
    found: set[int] = set()
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting.extend(read.steps[at].op.inputs)
    return found


_Loss = Callable[[Sequence[Any]], tuple[Any, list[Any]]]
_Found = tuple[Sequence[Any], Sequence[Any]]
"""The values that a loss gives with it, and its gradients."""


def _not_at_all(loss: _Loss, nudges: Sequence[Any]) -> _Found:
    return loss(nudges)[1], [None] * len(nudges)


def _by_jax(loss: _Loss, nudges: Sequence[Any]) -> _Found:
    import jax

    # One program, which is run once: compiling each operation by itself takes longer, and so does optimizing.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    gradients, values = jax.jit(jax.grad(loss, has_aux=True), compiler_options=options)(list(nudges))
    return values, gradients


def _by_tensorflow(loss: _Loss, nudges: Sequence[Any]) -> _Found:
    # Keras has loaded it: it is the backend.
    with sys.modules["tensorflow"].GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(list(nudges))
        value, values = loss(nudges)
    return values, tape.gradient(value, list(nudges))


def _by_torch(loss: _Loss, nudges: Sequence[Any]) -> _Found:
    leaves = [nudge.detach().requires_grad_(True) for nudge in nudges]
    value, values = loss(leaves)
    value.backward(inputs=leaves)  # of these alone, so that the parameters' own gradients stay
    return values, [leaf.grad for leaf in leaves]


_DIFFERENTIATE = {"jax": _by_jax, "tensorflow": _by_tensorflow, "torch": _by_torch}


def _numpy(value: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")))


def _rms(value: Any) -> float:
    """Root mean square; nan where there is nothing to measure."""
    if value is None or not keras.backend.is_float_dtype(value.dtype):
        return math.nan
    return float(np.sqrt(np.mean(np.square(_numpy(value), dtype=np.float64))))
