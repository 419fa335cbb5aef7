"""Recorded calls run again on other tensors: how constants, activations and hand-written norms are understood."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanin.activations import ACTIVATIONS, activation
from fanin.errors import UnknownNameError
from fanin.torch.record import Call, Value, values_in

__all__ = ["calls_between", "composed", "linear_factor", "name_of", "number_of", "replay", "text_of"]

_Floats = NDArray[np.float64]
_MOST_CALLS = 100
"""No constant with one element and no norm is made of more."""
_MOST_ELEMENTS = 1 << 20
_GRID = np.concatenate([np.linspace(-12, 12, 97), [-40.0, -25.3, -1e-3, 1e-3, 21.7, 35.0]])
"""Where functions are compared: across all the corners of the activations in the table."""


def calls_between(value: Value, roots: Collection[Value], limit: int = _MOST_CALLS) -> list[Call] | None:
    """The calls that lead from `roots` to a value, in order; None if there are other sources, or too many calls.

    Constants with one element are no sources: they are part of what is computed.
    """
    found: dict[int, tuple[float, Call]] = {}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if each in roots or each.number is not None or (each.call is not None and id(each.call) in found):
            continue
        if each.call is None or len(found) >= limit:
            return None
        found[id(each.call)] = each.index, each.call
        waiting += [*values_in(each.call.args), *values_in(each.call.kwargs)]
    return [call for _, call in sorted(found.values(), key=lambda entry: entry[0])]


def replay(value: Value, known: Mapping[Value, Tensor], calls: list[Call]) -> Tensor:
    """The value that these calls make of other tensors, on the CPU.

    Raises:
        Exception: Whatever torch raises for them.
    """
    made: dict[Value, Any] = dict(known)

    def given(thing: Any) -> Any:
        """An argument with tensors instead of values."""
        if isinstance(thing, Value):
            return made[thing] if thing in made else torch.tensor(thing.number, dtype=torch.float64)
        if isinstance(thing, torch.device):
            return torch.device("cpu")
        if isinstance(thing, list | tuple) and not isinstance(thing, torch.Size):
            return type(thing)(map(given, thing)) if type(thing) in (list, tuple) else thing
        return thing

    with torch.no_grad():
        for call in calls:
            args, kwargs = given(call.args), {key: given(each) for key, each in call.kwargs.items()}
            if call.in_place and args:
                args = (args[0].clone(), *args[1:])
            if call.name == "rrelu":
                kwargs["training"] = False  # at its mean slope
            result = call.function(*args, **kwargs)
            parts = [result] if isinstance(result, Tensor) else [each for each in result if isinstance(each, Tensor)]
            made.update(zip(call.results, parts, strict=False))
    return made[value]


def number_of(thing: Any) -> float | None:
    """The number that a thing is: Python's own, or a constant with one element that can be computed."""
    if isinstance(thing, bool | int | float):
        return float(thing)
    if not isinstance(thing, Value) or thing.size != 1 or thing.signal or thing.learned:
        return None
    if thing.number is None and thing.call is not None:
        calls = calls_between(thing, ())
        small = calls is not None and all(each.size <= _MOST_ELEMENTS for call in calls for each in call.results)
        if small and not any(call.name.startswith(("rand", "normal", "bernoulli")) for call in calls or ()):
            try:
                thing.number = float(replay(thing, {}, calls or []))
            except Exception:  # whatever torch raises: the number stays unknown
                return None
    return thing.number


def composed(value: Value, root: Value) -> Callable[[Any], _Floats]:
    """What makes a value of its root, element by element, as a function of NumPy arrays in float64."""
    calls = calls_between(value, (root,), limit=10_000)
    if calls is None:
        raise ValueError("The value has other sources")
    program = calls

    def function(z: Any) -> _Floats:
        """The recorded functions, one after the other."""
        given = torch.tensor(np.asarray(z, dtype=np.float64))
        result: _Floats = replay(value, {root: given}, program).to(torch.float64).numpy()
        return result

    return function


def linear_factor(function: Callable[[Any], _Floats]) -> float | None:
    """The number by which a function multiplies, if it does nothing else."""
    with np.errstate(all="ignore"):
        *values, factor = function(np.append(_GRID, 1.0)).tolist()
        return factor if np.allclose(values, factor * _GRID, rtol=1e-12, atol=0) else None


def name_of(function: Callable[[Any], _Floats], own: str) -> str:
    """The name in the table of activations of a function, found by its values; empty where it is in none.

    Args:
        function: What it does.
        own: What torch calls it: of two entries alike, this one is taken.
    """
    try:
        first = activation(own).name
    except UnknownNameError:
        first = ""
    with np.errstate(all="ignore"):
        values = function(_GRID)
        for name in sorted(ACTIVATIONS, key=lambda name: name != first):
            if np.allclose(values, ACTIVATIONS[name].phi(_GRID), rtol=1e-8, atol=1e-9):
                return name
    return ""


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "gt": ">", "lt": "<", "ge": ">=", "le": "<="}
_TURNED = {"rsub": "-", "rdiv": "/", "rpow": "**"}
_LONGEST = 60


def text_of(value: Value, root: Value) -> str:
    """A chain of functions as a reader would write it, or a list of their names where that is too long.

    Example of what it gives: ``sin(30 * x)``, ``leaky_relu(0.2)``, ``elu(alpha=0.5)``.
    """
    calls = calls_between(value, (root,), limit=10_000) or []
    if len(calls) == 1 and calls[0].name not in {**_INFIX, **_TURNED}:
        return _single(calls[0])
    texts: dict[Value, str] = {root: "x"}
    for call in calls:
        parts = [_shown(each, texts) for each in (*call.args, *call.kwargs.values()) if not isinstance(each, bool)]
        if call.name in _INFIX and len(parts) == 2:
            text = f"{parts[0]} {_INFIX[call.name]} {parts[1]}"
        elif call.name in _TURNED and len(parts) == 2:
            text = f"{parts[1]} {_TURNED[call.name]} {parts[0]}"
        else:
            text = f"{call.name}({', '.join(map(_bare, parts))})"
        if len(text) > _LONGEST:
            return f"{', '.join(dict.fromkeys(call.name for call in calls))} of x"
        texts[call.results[0]] = f"({text})" if call.name in {**_INFIX, **_TURNED} else text
    return _bare(texts[value])


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("(") else text


def _single(call: Call) -> str:
    """One function with its numbers; those that torch would take anyway are said too."""
    numbers = [f"{each:g}" for each in call.args if isinstance(each, int | float) and not isinstance(each, bool)]
    for key, each in call.kwargs.items():
        if isinstance(each, int | float) and not isinstance(each, bool):
            numbers.append(f"{each:g}" if key == "negative_slope" else f"{key}={each:g}")
    return f"{call.name}({', '.join(numbers)})" if numbers else call.name


def _shown(thing: Any, texts: Mapping[Value, str]) -> str:
    if isinstance(thing, Value):
        return texts.get(thing, f"{thing.number:g}" if thing.number is not None else "c")
    return f"{thing:g}" if isinstance(thing, int | float) else str(thing)
