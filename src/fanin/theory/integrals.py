"""Means over a standard normal number, with an error estimate: adaptive Gauss-Legendre quadrature.

Panels are halved until the halves agree with the whole, so that kinks and jumps that nobody told of are
closed in on; rules for smooth integrands over the whole line (Gauss-Hermite) go wrong there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError

__all__ = ["Integral", "normal_mean"]

Floats = NDArray[np.float64]
_REACH = 14.0
"""Standard deviations that are integrated over; the normal density beyond is below 1e-43."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_HALVINGS = 60


@dataclass(frozen=True)
class Integral:
    """A value and a bound on its numerical error."""

    value: float
    error: float


def normal_mean(function: Callable[[Floats], Any], kinks: tuple[float, ...] = (), tolerance: float = 1e-13) -> Integral:
    """The mean of ``function(z)`` for standard normal z.

    Args:
        function: Vectorised.
        kinks: Where it or its slope jumps, where that is known.
        tolerance: Relative error at which panels are no longer halved.

    Raises:
        InvalidValueError: If a value is not finite, or the mean does not exist.

    Example:
        >>> round(normal_mean(lambda z: np.abs(z) ** 3, (0.0,)).value, 12)  # 4 / sqrt(2 pi)
        1.595769121606
    """
    edges = np.unique(np.concatenate([np.arange(-_REACH, _REACH + 1), [k for k in kinks if abs(k) < _REACH]]))
    low, high = edges[:-1], edges[1:]
    whole = _panels(function, low, high)
    if abs(whole[[0, -1]]).max() > 1e-20 * abs(whole).sum():
        raise InvalidValueError(
            "The mean does not exist", given="a function that grows faster than the normal density falls"
        )
    value = error = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        left, right = _panels(function, low, middle), _panels(function, middle, high)
        off = abs(left + right - whole)
        done = off <= tolerance * (abs(value) + abs(left + right).sum()) / 16
        value += float((left + right)[done].sum())
        error += float(off[done].sum())
        if done.all():
            return Integral(value, error)
        low, high = np.concatenate([low[~done], middle[~done]]), np.concatenate([middle[~done], high[~done]])
        whole = np.concatenate([left[~done], right[~done]])
    return Integral(value + float(whole.sum()), error + float(abs(whole).sum()))


def _panels(function: Callable[[Floats], Any], low: Floats, high: Floats) -> Floats:
    """The integrals over panels, by one rule each."""
    half = (high - low)[:, None] / 2
    z = low[:, None] + half * (1 + _NODES)
    with np.errstate(all="ignore"):
        values = np.asarray(function(z.reshape(-1)), dtype=float).reshape(z.shape)
    if not np.isfinite(values).all():
        wrong = float(z[~np.isfinite(values)][0])
        raise InvalidValueError("The function is not finite everywhere", given=f"no finite value at {wrong:.3g}")
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    result: Floats = (half * values * density) @ _WEIGHTS
    return result
