"""What one layer does to the size of a signal, to the cosine of two, and to their small differences.

Notation: q is the second moment of a pre-activation, sigma_w2 and sigma_b2 are the variances of weights
(times fan-in) and biases, c is the cosine of two pre-activations. Sources: Poole et al. 2016
(arXiv:1606.05340), Schoenholz et al. 2017 (arXiv:1611.01232).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.activations import Activation, activation
from fanin.errors import InvalidValueError
from fanin.theory.integrals import COARSE, FAR, FINE, REACH, evaluate, pair_mean, rule, slope

__all__ = [
    "Chi",
    "Moments",
    "check_cosine",
    "check_q",
    "check_variance",
    "chi",
    "correlation_map",
    "deficit_map",
    "deficit_slope",
    "moments",
    "moments_many",
    "variance_map",
]

Function = str | Activation | Callable[[Any], Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Means over a pre-activation u ~ N(0, q), and a bound on their relative numerical error.

    Attributes:
        mean: E phi(u).
        second: E phi(u)^2.
        slope_mean: E phi'(u).
        slope_second: E phi'(u)^2; infinite for a function that jumps.
        growth: d E phi(u)^2 / dq.
        error: The largest error of these, relative to the largest term that each is made of.
    """

    q: float
    mean: float
    second: float
    slope_mean: float
    slope_second: float
    growth: float
    error: float

    @property
    def variance(self) -> float:
        """The variance of phi(u)."""
        return self.second - self.mean**2


@dataclass(frozen=True)
class Chi:
    """How small differences grow in a layer: across the signal, and along it.

    Attributes:
        perpendicular: sigma_w2 E phi'^2, for gradients and for the angle of two signals.
        parallel: The slope of the variance map, for the size of a signal.
    """

    perpendicular: float
    parallel: float


def check_q(q: Any) -> float:
    """A second moment as a float.

    Raises:
        InvalidValueError: If it is no number above 0.
    """
    return _number(q, "second moment q", above=True)


def check_variance(value: Any, name: str) -> float:
    """A variance as a float.

    Raises:
        InvalidValueError: If it is no number of 0 or more.
    """
    return _number(value, name, above=False)


def check_cosine(c: Any) -> float:
    """A cosine as a float.

    Raises:
        InvalidValueError: If it is no number from -1 to 1.
    """
    try:
        cosine = float(c)
    except (TypeError, ValueError, OverflowError):
        cosine = math.nan
    if not -1 <= cosine <= 1:
        raise InvalidValueError("The cosine c is out of range", given=c, allowed="-1 to 1")
    return cosine


def _number(value: Any, name: str, *, above: bool) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (number > 0 if above else number >= 0) or not math.isfinite(number):
        allowed = "a finite number above 0" if above else "a finite number of 0 or more"
        raise InvalidValueError(f"The {name} is out of range", given=value, allowed=allowed)
    return number


def moments_many(entry: Activation, q: Any, nodes: int = FINE, reach: float = REACH) -> dict[str, Floats]:
    """The means of `Moments` for many q at once, without an error estimate."""
    points = rule(entry, q, nodes, reach)
    phi = evaluate(entry, points.u)
    derivative = slope(entry, points, phi)
    square = phi**2
    infinite = bool(entry.jumps)
    return {
        "mean": points.mean(phi),
        "second": points.mean(square),
        # By parts for a function that jumps, where the derivative holds a peak that no node sees.
        "slope_mean": points.mean(phi * points.z) / points.root[:, 0, 0] if infinite else points.mean(derivative),
        "slope_second": np.full(len(phi), np.inf) if infinite else points.mean(derivative**2),
        "growth": points.mean(square * (points.z**2 - 1)) / (2 * points.root[:, 0, 0] ** 2)
        if infinite
        else points.mean(phi * derivative * points.z) / points.root[:, 0, 0],
    }


def moments(given: Function, q: float) -> Moments:
    """Means of an activation and its slope over a pre-activation of second moment q.

    Args:
        given: A name, or any vectorised function.
        q: Above 0.

    Raises:
        UnknownNameError, InvalidValueError: If the activation or q cannot be.

    Example:
        >>> result = moments("relu", 2.0)
        >>> round(result.second, 12), round(result.slope_second, 12), result.error < 1e-12
        (1.0, 0.5, True)
    """
    entry, q = activation(given), check_q(q)
    # A function that grows like an exponential has its mean square further out.
    for reach in (REACH, FAR):
        ends = evaluate(entry, np.array([-1.0, 1.0]) * reach * math.sqrt(q)) ** 2 * math.exp(-(reach**2) / 2)
        fine, coarse = (moments_many(entry, q, nodes, reach) for nodes in (FINE, COARSE))
        values = {name: float(array[0]) for name, array in fine.items()}
        if ends.max() <= 1e-18 * values["second"]:
            break
    else:
        raise InvalidValueError(
            "The activation has no mean square",
            given=f"{entry.name}, which grows faster than the normal density falls",
            allowed="a function with a finite mean square",
        )
    scale = {
        "mean": math.sqrt(values["second"]),
        "second": values["second"],
        "slope_mean": math.sqrt(values["slope_second"]),
        "slope_second": values["slope_second"],
        "growth": values["second"] / q,
    }
    differences = [
        abs(values[name] - float(coarse[name][0])) / size for name, size in scale.items() if 0 < size < math.inf
    ]
    return Moments(q=q, **values, error=max(differences, default=0.0) + 4e-16)


def variance_map(given: Function, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
    """The second moment of the next layer's pre-activation: ``sigma_w2 E phi(u)^2 + sigma_b2``.

    Example:
        >>> round(variance_map("relu", 3.0, sigma_w2=2.0), 12)
        3.0
    """
    sigma_w2, sigma_b2 = check_variance(sigma_w2, "sigma_w2"), check_variance(sigma_b2, "sigma_b2")
    return sigma_w2 * moments(given, q).second + sigma_b2


def chi(given: Function, q: float, sigma_w2: float) -> Chi:
    """How a layer stretches small differences, across and along the signal.

    Example:
        >>> result = chi("tanh", 0.5700478816, 1.7609546396)  # on the critical line for sigma_b2 = .05
        >>> round(result.perpendicular, 8), result.parallel < 1
        (1.0, True)
    """
    sigma_w2, found = check_variance(sigma_w2, "sigma_w2"), moments(given, q)
    return Chi(sigma_w2 * found.slope_second, sigma_w2 * found.growth)


def deficit_map(entry: Activation, deficit: float, q: float, sigma_w2: float, nodes: int = COARSE) -> float:
    """``1 - c`` of the next layer from that of this one, at a fixed point q; exact where it is small."""
    if deficit == 0:
        return 0.0

    def half(u: Floats, v: Floats) -> Floats:
        return 0.5 * (evaluate(entry, u) - evaluate(entry, v)) ** 2

    return sigma_w2 * pair_mean(entry, q, deficit, half, nodes, symmetric=True) / q


def deficit_slope(entry: Activation, deficit: float, q: float, sigma_w2: float) -> float:
    """The slope of the correlation map at the cosine ``1 - deficit``: ``sigma_w2 E phi'(u) phi'(v)``."""
    if deficit == 0:
        return float(sigma_w2 * moments_many(entry, q)["slope_second"][0])
    if entry.jumps:  # the jumps of the two meet with a density that the map knows, and no slope
        step = min(1e-4, 0.1 * deficit)
        high, low = min(2.0, deficit + step), deficit - step
        return (deficit_map(entry, high, q, sigma_w2) - deficit_map(entry, low, q, sigma_w2)) / (high - low)
    known = entry.slope or _by_difference(entry)
    return sigma_w2 * pair_mean(entry, q, deficit, lambda u, v: known(u) * known(v), symmetric=True)


def _by_difference(entry: Activation) -> Callable[[Floats], Floats]:
    """The slope of a function whose derivative is not known."""

    def difference(u: Floats) -> Floats:
        step = 1e-6 * np.maximum(1.0, np.abs(u))
        return (evaluate(entry, u + step) - evaluate(entry, u - step)) / (2 * step)

    return difference


def correlation_map(given: Function, c: float, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
    """The cosine of two signals in the next layer, whose pre-activations have the same second moment q here.

    Args:
        given: A name, or any vectorised function.
        c: Their cosine, -1 to 1.
        q: Their second moment.
        sigma_w2, sigma_b2: Variances of weights (times fan-in) and biases.

    Example:
        >>> import numpy as np
        >>> angle = np.arccos(0.5)  # Cho and Saul 2009: the arc-cosine kernel
        >>> exact = (np.sin(angle) + (np.pi - angle) * 0.5) / np.pi
        >>> bool(abs(correlation_map("relu", 0.5, 1.0, 2.0) - exact) < 1e-10)
        True
    """
    entry, q = activation(given), check_q(q)
    sigma_w2, sigma_b2 = check_variance(sigma_w2, "sigma_w2"), check_variance(sigma_b2, "sigma_b2")
    cosine = check_cosine(c)
    size = variance_map(entry, q, sigma_w2, sigma_b2)
    if size == 0:
        raise InvalidValueError("There is no signal left whose cosine could be told", given=f"sigma_w2={sigma_w2}")
    return float(1 - deficit_map(entry, 1 - cosine, q, sigma_w2) * q / size)
