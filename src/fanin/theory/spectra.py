"""The singular values of a deep network's input-output Jacobian, for wide layers.

Source: Pennington, Schoenholz, Ganguli 2018 (arXiv:1802.09979): free probability; the S-transforms of weights
and of the diagonal of slopes multiply over layers.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fanin.activations import activation
from fanin.errors import InvalidValueError
from fanin.theory.integrals import evaluate, rule, slope
from fanin.theory.maps import Floats, Function, check_q, check_variance

__all__ = ["Spectrum", "jacobian_spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """Of the squared singular values.

    Attributes:
        mean: Their mean: chi.perpendicular ** depth.
        variance: Their variance over the spectrum.
        largest: The largest singular value itself (not squared).
    """

    mean: float
    variance: float
    largest: float


def jacobian_spectrum(
    given: Function,
    depth: int,
    sigma_w2: float,
    q: float,
    weights: Literal["gaussian", "orthogonal"] = "gaussian",
) -> Spectrum:
    """Mean, variance and upper edge of the Jacobian's spectrum over `depth` layers at second moment q.

    Args:
        given: A name, or any vectorised function.
        depth: Number of layers.
        sigma_w2: Variance of the weights times fan-in; for orthogonal weights, the squared gain.
        q: Second moment of the pre-activations.
        weights: ``gaussian`` or ``orthogonal``.

    Example:
        >>> flat = jacobian_spectrum("linear", 10, 1.0, 1.0, "orthogonal")
        >>> round(flat.mean, 9), round(flat.variance, 9), round(flat.largest, 3)
        (1.0, 0.0, 1.0)
        >>> round(jacobian_spectrum("linear", 1, 1.0, 1.0).largest, 6)  # a square Gaussian matrix
        2.0
    """
    entry, q, sigma_w2 = activation(given), check_q(q), check_variance(sigma_w2, "sigma_w2")
    if weights not in ("gaussian", "orthogonal"):
        raise InvalidValueError("The weights are of no known kind", given=weights, allowed="gaussian, orthogonal")
    if not hasattr(depth, "__index__") or depth < 1:
        raise InvalidValueError("The depth is out of range", given=depth, allowed="1 or more")
    if entry.jumps:
        raise InvalidValueError("A function that jumps has no Jacobian", given=entry.name)
    points = rule(entry, q)
    squares = (slope(entry, points, evaluate(entry, points.u)) ** 2).reshape(-1)
    weight = points.weight.reshape(-1)
    first, second = float(weight @ squares), float(weight @ squares**2)
    if sigma_w2 * first <= 0:
        return Spectrum(0.0, 0.0, 0.0)
    # S_W expands as (1 - s1 z) / sigma_w2 with s1 = 1 for Gaussian and 0 for orthogonal weights.
    spread = depth * (second / first**2 - 1 + (1 if weights == "gaussian" else 0))
    mean = depth * (math.log(sigma_w2) + math.log(first))
    variance = _exp(2 * mean + math.log(spread)) if spread > 0 else 0.0
    return Spectrum(_exp(mean), variance, _exp(_edge(squares, weight, depth, sigma_w2, weights) / 2))


def _exp(logarithm: float) -> float:
    """Infinite where it is too large; deep networks get there."""
    return math.exp(logarithm) if logarithm < 709 else math.inf


def _edge(squares: Floats, weight: Floats, depth: int, sigma_w2: float, weights: str) -> float:
    """The logarithm of the squared spectrum's upper edge: the minimum of the inverse moment function."""
    top = float(squares[weight > 0].max())
    logs = np.linspace(-28.0, 32.0, 241)
    for _ in range(6):  # a grid around the minimum, six times finer and finer
        values = _inverse(top * (1 + np.exp(logs)), squares, weight, depth, sigma_w2, weights)
        best = int(np.argmin(values))
        logs = np.linspace(logs[max(0, best - 2)], logs[min(len(logs) - 1, best + 2)], 81)
    return float(values.min())


def _inverse(y: Floats, squares: Floats, weight: Floats, depth: int, sigma_w2: float, weights: str) -> Floats:
    """The logarithm of the inverse moment function at w = E[d / (y - d)] for squared slopes d below y."""
    w = np.array([float((weight * squares / (part - squares)).sum()) for part in y])
    per_layer = w * y / (1 + w) * sigma_w2 * ((1 + w) if weights == "gaussian" else 1.0)
    result: Floats = np.log1p(1 / w) + depth * np.log(per_layer)
    return result
