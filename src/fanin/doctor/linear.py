"""What a linear answer can reach on a batch, and what there is to learn beyond it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["linear_share", "neighbour_share"]

Array = NDArray[Any]

_NEIGHBOURS = 5
_MOST = 512
"""Examples that are looked at; every one is compared with every other."""


def linear_share(inputs: Array, targets: Array) -> float:
    """The share of the targets' variance that the best linear answer explains on this very batch, 0 to 1.

    This is more than any linear model can reach on other examples: all of it where there are as many features as
    examples.

    Args:
        inputs: (examples, features).
        targets: (examples, numbers).

    Example:
        >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> round(linear_share(x, 3 * x + 1), 6), round(linear_share(x, x**2), 6)
        (1.0, 0.0)
    """
    x, y = (each[:_MOST].astype(np.float64) for each in (inputs, targets))
    if x.shape[1] + 1 >= len(x):
        return 1.0
    centred = x - x.mean(axis=0)
    wanted = y - y.mean(axis=0)
    rest = wanted - centred @ np.linalg.lstsq(centred, wanted, rcond=None)[0]
    return _explained(rest, wanted)


def neighbour_share(inputs: Array, targets: Array) -> float:
    """The share of the targets' variance that the mean over the five nearest other examples explains, at least 0.

    A model can reach about as much, whatever bends there are between inputs and targets.

    Args:
        inputs: (examples, features), with features on one scale.
        targets: (examples, numbers).

    Example:
        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> neighbour_share(x, x**2) > 0.99
        True
    """
    x, y = (each[:_MOST].astype(np.float64) for each in (inputs, targets))
    squares = (x**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :_NEIGHBOURS]
    return _explained(y - y[nearest].mean(axis=1), y - y.mean(axis=0))


def _explained(rest: Array, wanted: Array) -> float:
    total = float((wanted**2).sum())
    return max(0.0, 1 - float((rest**2).sum()) / total) if total > 0 else 0.0
