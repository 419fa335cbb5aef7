"""Gains: by how much weights must be larger because an activation makes the signal smaller."""

import math
from typing import Literal

from fanin.activations import Activation, activation
from fanin.errors import InvalidValueError, unknown_name
from fanin.theory.criticality import critical, universality
from fanin.theory.maps import Function, moments

__all__ = ["KINDS", "gain"]

Kind = Literal["second_moment", "centred", "backward", "edge_of_chaos", "pytorch"]

KINDS = {
    "second_moment": "1 / sqrt(E phi^2): pre-activations of mean square 1 stay so",
    "centred": "1 / std phi: the same where the mean of the activations is taken off",
    "backward": "1 / sqrt(E phi'^2): gradients keep their mean square",
    "edge_of_chaos": "sqrt(sigma_w2) where gradients keep their size and signals stay",
    "pytorch": "torch.nn.init.calculate_gain, where it has one",
}
"""The conventions in use, each a number by which a standard deviation 1 / sqrt(fan_in) is multiplied."""

_PYTORCH = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75,
            "leaky_relu": math.sqrt(2 / 1.0001)}  # fmt: skip


def gain(given: Function, kind: Kind = "second_moment") -> float:
    """The gain of an activation under one of the conventions of `KINDS`, for standard normal pre-activations.

    With weights of variance ``gain**2 / fan_in`` behind the activation, the default leads from pre-activations
    of mean square 1 to pre-activations of mean square 1. He's sqrt(2) is the gain of ReLU.

    Args:
        given: A name of the table of activations, or any vectorised function.
        kind: Which convention.

    Raises:
        UnknownNameError: If no activation or convention has this name.
        InvalidValueError: If the activation has no such gain.

    Example:
        >>> round(gain("relu") ** 2, 10), round(gain("tanh"), 5), gain("tanh", kind="pytorch")
        (2.0, 1.59254, 1.6666666666666667)
    """
    if kind not in KINDS:
        raise unknown_name("kind of gain", str(kind), KINDS)
    entry = activation(given)
    if kind == "pytorch":
        if entry.name not in _PYTORCH:
            raise InvalidValueError(
                "PyTorch has no gain for this activation", given=entry.name, allowed=", ".join(_PYTORCH)
            )
        return _PYTORCH[entry.name]
    if kind == "edge_of_chaos":
        return math.sqrt(_edge(entry))
    found = moments(entry, 1.0)
    square = {"second_moment": found.second, "centred": found.variance, "backward": found.slope_second}[kind]
    if not (square > 0 and math.isfinite(square)) or found.error > 1e-6:
        raise InvalidValueError(
            "The activation has no gain of this kind",
            given=f"{entry.name}, {kind}: a mean square of {square:.6g}, relative error {found.error:.1g}",
            allowed="a function with a finite mean square above 0",
        )
    return 1 / math.sqrt(square)


def _edge(entry: Activation) -> float:
    """sigma_w2 where the universality class has its point; without one, at the stable edge that needs no biases."""
    point = universality(entry)
    if point.kind != "none":
        return point.sigma_w2
    stable = [edge for edge in critical(entry, sigma_b2=0.0) if edge.stable]
    if not stable:
        raise InvalidValueError("The activation has no edge of chaos that signals stay at", given=entry.name)
    return stable[0].sigma_w2
