"""Gains as PyTorch has them, and of every activation that it has none for."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fanin.activations import Activation
from fanin.errors import InvalidValueError
from fanin.theory import gain as gain_of

__all__ = ["Nonlinearity", "calculate_gain"]

Nonlinearity = str | Activation | Callable[[Any], Any]


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """The gain of an activation: PyTorch's number where PyTorch has one, else the exact second-moment gain.

    PyTorch's 5/3 for tanh and 3/4 for SELU are conventions; ``fanin.theory.gain`` has the exact ones.

    Args:
        nonlinearity: A name of `torch.nn.functional`, any name of fanin's table, or any function on arrays.
        param: The slope below zero of leaky_relu.

    Raises:
        UnknownNameError: If no activation has this name.
        InvalidValueError: If the slope is no number.

    Example:
        >>> calculate_gain("tanh"), round(calculate_gain("gelu"), 4)
        (1.6666666666666667, 1.5335)
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float) or not math.isfinite(slope):
            raise InvalidValueError("The slope of leaky_relu is not a valid number", given=slope)
        return math.sqrt(2.0 / (1 + slope**2))
    if isinstance(nonlinearity, str) and nonlinearity in _GAINS:
        return _GAINS[nonlinearity]
    if isinstance(nonlinearity, torch.nn.Module) or _is_of_torch(nonlinearity):
        return gain_of(_on_tensors(nonlinearity))  # type: ignore[arg-type]
    return gain_of(nonlinearity)


def _is_of_torch(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("torch") or function is torch.nn.functional.gelu


def _on_tensors(function: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    """A function of PyTorch as one on arrays."""

    def on_arrays(z: Any) -> Any:
        with torch.no_grad():
            return function(torch.as_tensor(z, dtype=torch.float64)).numpy()

    on_arrays.__name__ = getattr(function, "__name__", type(function).__name__)
    return on_arrays


_LINEAR = ("linear", *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)))
_GAINS = {**dict.fromkeys((*_LINEAR, "sigmoid"), 1.0), "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
