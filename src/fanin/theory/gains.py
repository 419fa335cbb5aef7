"""Gains: by how much weights must be larger because an activation makes the signal smaller."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from fanin.activations import Activation, activation
from fanin.errors import InvalidValueError
from fanin.theory.integrals import normal_mean

__all__ = ["gain"]


def gain(given: str | Activation | Callable[[Any], Any]) -> float:
    """The second-moment gain ``1 / sqrt(E[phi(z)^2])`` for standard normal z.

    With weights of variance ``gain**2 / fan_in`` behind the activation, pre-activations of mean square 1 lead
    to pre-activations of mean square 1 in the next layer. He's sqrt(2) is the gain of ReLU.

    Args:
        given: A name of the table of activations, or any vectorised function.

    Raises:
        UnknownNameError: If no activation has this name.
        InvalidValueError: If the function is zero, not finite, or not a function of an array.

    Example:
        >>> round(gain("relu") ** 2, 10), round(gain("tanh"), 5)
        (2.0, 1.59254)
    """
    return _gain(activation(given))


@lru_cache(maxsize=256)
def _gain(entry: Activation) -> float:
    allowed = "a function with a finite mean square above 0"
    try:
        moment = normal_mean(lambda z: np.square(np.asarray(entry.phi(z), dtype=float)), entry.kinks).value
    except InvalidValueError as error:
        given = f"{entry.name}, {error.given}"
        raise InvalidValueError("The activation has no gain", given=given, allowed=allowed) from None
    if not moment > 0:
        given = f"{entry.name}, with a mean square of 0 over a standard normal input"
        raise InvalidValueError("The activation has no gain", given=given, allowed=allowed)
    return 1 / math.sqrt(moment)
