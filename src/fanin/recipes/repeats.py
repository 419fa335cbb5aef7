"""Random numbers that stand in several parameters: a seed used twice, or a copy."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fanin.recipes.evidence import rounding

__all__ = ["Beginning", "beginning", "repeats"]

_FIRST = 16
"""How many numbers are compared: that so many independent ones agree to five digits does not happen."""
Beginning = tuple[NDArray[np.float64], float]
"""The first numbers of a parameter over their root mean square, and how exact they are."""


def beginning(array: NDArray[np.floating], dtype: str) -> Beginning | None:
    """By what a parameter's random numbers are known again, also scaled; None where they are few or not random.

    Example:
        >>> beginning(np.zeros(100), "float32") is None
        True
    """
    first = array.reshape(-1)[:_FIRST].astype(np.float64)
    if len(first) < _FIRST or len(np.unique(np.abs(first))) < _FIRST or not first.all():
        return None
    return first / np.sqrt(np.mean(first**2)), 1e-5 + 4 * rounding(dtype)[0]


def repeats(beginnings: Mapping[str, Beginning]) -> dict[str, tuple[str, ...]]:
    """For each path the others whose numbers begin in the same way.

    Example:
        >>> ramp, steps = beginning(np.arange(1.0, 20.0), "float32"), beginning(np.arange(2.0, 40.0, 2), "float32")
        >>> repeats({"a": ramp, "b": steps})
        {'a': ('b',), 'b': ('a',)}
    """
    paths = list(beginnings)
    if not paths:
        return {}
    firsts = np.stack([first for first, _ in beginnings.values()])
    slack = np.array([each for _, each in beginnings.values()])
    found: dict[str, tuple[str, ...]] = {}
    for index, path in enumerate(paths):
        near = np.abs(firsts - firsts[index]).max(axis=1) <= np.maximum(slack, slack[index])
        found[path] = tuple(paths[other] for other in np.flatnonzero(near) if other != index)
    return found
