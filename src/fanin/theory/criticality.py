"""Where a signal settles, and where gradients neither vanish nor explode.

Sources: Poole et al. 2016 (arXiv:1606.05340); Schoenholz et al. 2017 (arXiv:1611.01232); the universality
classes of Roberts, Yaida, Hanin 2022 (arXiv:2106.10165), chapter 5.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from fanin.activations import Activation, activation
from fanin.errors import InvalidValueError
from fanin.theory.integrals import evaluate
from fanin.theory.maps import (
    Chi,
    Floats,
    Function,
    check_q,
    check_variance,
    moments_many,
)

__all__ = [
    "Critical",
    "Curve",
    "FixedPoint",
    "FixedPoints",
    "Universality",
    "critical",
    "curve",
    "fixed_points",
    "point_at",
    "root",
    "universality",
]

Stability = Literal["stable", "unstable", "marginal"]
_MARGIN = 1e-9
"""How near 1 a slope must be to count as 1; the integrals are good to 1e-12."""


@dataclass(frozen=True)
class Curve:
    """The means of `maps.Moments` along a grid of second moments q, and what is read off them.

    Attributes:
        scale: E phi^2 / q where that is the same for all q (ReLU, linear), else None.
        dies: Whether no signal in gives no signal out.
    """

    q: Floats
    second: Floats
    slope_second: Floats
    growth: Floats
    scale: float | None
    dies: bool


_ONE = 320
"""Where q is 1 on the grid of every curve."""


@lru_cache(maxsize=64)
def curve(entry: Activation) -> Curve:
    """The curve of an activation, from q = 1e-16 to 1e8, or to 1e4 for one that oscillates; 20 points a decade."""
    top = 4 if entry.period is not None else 8
    q = np.logspace(-16, top, 20 * (16 + top) + 1)
    found = moments_many(entry, q)
    ratio = found["second"] / q
    even = float(ratio.max() - ratio.min()) < 1e-10 * float(ratio.max())
    return Curve(
        q, found["second"], found["slope_second"], found["growth"],
        scale=float(ratio[_ONE]) if even else None,
        dies=bool(evaluate(entry, np.zeros(1))[0] == 0 and 0.0 not in entry.jumps),
    )  # fmt: skip


@dataclass(frozen=True)
class FixedPoint:
    """A second moment q that a layer does not change. At q = 0 the signal has died.

    Attributes:
        chi: How small differences grow there.
        stability: Of q itself: by whether ``chi.parallel`` is below, above or at 1.
    """

    q: float
    chi: Chi
    stability: Stability


@dataclass(frozen=True)
class FixedPoints:
    """All fixed points of the variance map, from small to large.

    Attributes:
        every: Whether every q is one, as for ReLU with He's variance; `points` is empty then.
    """

    points: tuple[FixedPoint, ...]
    every: bool = False

    @property
    def reached(self) -> FixedPoint | None:
        """The smallest that signals run into, or None."""
        return next((point for point in self.points if point.stability != "unstable"), None)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root between two points of different sign: regula falsi with the Illinois rule, in logarithms."""
    a, b = math.log(low), math.log(high)
    fa, fb = function(low), function(high)
    if fa == 0:
        return low
    for _ in range(100):
        if fb == 0 or abs(b - a) < 1e-14:
            break
        c = b - fb * (b - a) / (fb - fa)
        if not min(a, b) < c < max(a, b):
            c = (a + b) / 2
        fc = function(math.exp(c))
        if fc * fb < 0:
            a, fa = b, fb
        else:
            fa /= 2
        b, fb = c, fc
    return math.exp(b)


def _crossings(values: Floats) -> Iterator[tuple[int, int]]:
    """Neighbours with different signs, among the values that are more than rounding."""
    sure = np.flatnonzero(np.isfinite(values) & (np.abs(values) > 1e-12))
    signs = np.sign(values[sure])
    for i in np.flatnonzero(signs[:-1] != signs[1:]):
        yield int(sure[i]), int(sure[i + 1])


def point_at(entry: Activation, q: float, sigma_w2: float) -> FixedPoint:
    """What small differences do at a fixed point."""
    found = moments_many(entry, max(q, 1e-12))
    perpendicular = float(sigma_w2 * found["slope_second"][0])
    parallel = float(sigma_w2 * (found["growth"][0] if q > 0 else found["second"][0] / 1e-12))
    off = parallel - 1
    stability: Stability = "marginal" if abs(off) < _MARGIN else "stable" if off < 0 else "unstable"
    return FixedPoint(q, Chi(perpendicular, parallel), stability)


def fixed_points(given: Function, sigma_w2: float, sigma_b2: float = 0.0) -> FixedPoints:
    """All second moments that the variance map ``sigma_w2 E phi^2 + sigma_b2`` leaves as they are, up to 1e8.

    Example:
        >>> [round(point.q, 6) for point in fixed_points("tanh", sigma_w2=1.7609546396, sigma_b2=0.05).points]
        [0.570048]
        >>> fixed_points("relu", sigma_w2=2.0).every
        True
    """
    entry = activation(given)
    sigma_w2, sigma_b2 = check_variance(sigma_w2, "sigma_w2"), check_variance(sigma_b2, "sigma_b2")
    found = curve(entry)
    if found.scale is not None:
        rate = sigma_w2 * found.scale
        if abs(rate - 1) < _MARGIN:
            return FixedPoints((), every=sigma_b2 == 0)
        if sigma_b2 == 0:
            return FixedPoints((point_at(entry, 0.0, sigma_w2),))
        return FixedPoints((point_at(entry, sigma_b2 / (1 - rate), sigma_w2),) if rate < 1 else ())
    points = [point_at(entry, 0.0, sigma_w2)] if sigma_b2 == 0 and found.dies else []

    def excess(q: float) -> float:
        return float(sigma_w2 * moments_many(entry, q)["second"][0] + sigma_b2) / q - 1

    q, values = _refined(entry, found, sigma_w2, sigma_b2)
    for i, j in _crossings(values):
        points.append(point_at(entry, root(excess, float(q[i]), float(q[j])), sigma_w2))
    return FixedPoints(tuple(points))


def _refined(entry: Activation, found: Curve, sigma_w2: float, sigma_b2: float) -> tuple[Floats, Floats]:
    """The relative excess of the variance map over q, on a finer grid where it nearly touches 0.

    Two fixed points may lie between two points of the curve.
    """
    values = (sigma_w2 * found.second + sigma_b2) / found.q - 1
    size = np.abs(values)
    near = 1 + np.flatnonzero((size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:]) & (size[1:-1] < 0.05))
    if not len(near):
        return found.q, values
    logs = np.log(found.q)
    extra = np.exp(np.concatenate([np.linspace(logs[i - 1], logs[i + 1], 42)[1:-1] for i in near[:8]]))
    more = (sigma_w2 * moments_many(entry, extra)["second"] + sigma_b2) / extra - 1
    order = np.argsort(np.concatenate([found.q, extra]))
    return np.concatenate([found.q, extra])[order], np.concatenate([values, more])[order]


@dataclass(frozen=True)
class Critical:
    """A point at the edge of chaos: chi.perpendicular is 1 at a fixed point of the variance map.

    Attributes:
        q: The fixed point; 0 where it lies there; not a number where every q is one.
        parallel: The slope of the variance map there.
        stable: Whether signals run into it; unstable edges cannot be reached.
    """

    sigma_w2: float
    sigma_b2: float
    q: float
    parallel: float
    stable: bool


def critical(given: Function, *, sigma_b2: float | None = None, q: float | None = None) -> tuple[Critical, ...]:
    """The edge of chaos at a bias variance, or at a second moment; all points of it, from small q to large.

    Args:
        given: A name, or any vectorised function.
        sigma_b2: The bias variance. Or:
        q: The second moment of the pre-activations.

    Returns:
        Nothing where there is no edge.

    Example:
        >>> edge, = critical("tanh", sigma_b2=0.05)
        >>> round(edge.sigma_w2, 10), round(edge.q, 10), edge.stable
        (1.7609546396, 0.5700478816, True)
        >>> [edge.stable for edge in critical("gelu", q=1.0)]
        [False]
    """
    entry = activation(given)
    if (sigma_b2 is None) == (q is None):
        raise InvalidValueError("The edge is asked for at one of two", given="both or none", allowed="sigma_b2 or q")
    if entry.jumps:
        return ()
    if q is not None:
        point = _edge_at(entry, check_q(q))
        return () if point is None else (point,)
    sigma_b2 = check_variance(sigma_b2, "sigma_b2")
    found = curve(entry)
    if found.scale is not None:
        edge = Critical(1 / float(found.slope_second[_ONE]), 0.0, math.nan, 1.0, stable=True)
        return (edge,) if sigma_b2 == 0 else ()
    edges: list[Critical] = []
    if sigma_b2 == 0 and found.dies and found.slope_second[0] > 0:
        # The slope of the map is 1 at q = 0; what happens beside it decides.
        off = _beside(found)
        edges.append(Critical(1 / _slope_at_zero(entry), 0.0, 0.0, 1.0, stable=bool(off.size and off[0] < 0)))

    def missing(at: float) -> float:
        here = moments_many(entry, at)
        return float(1 - here["second"][0] / (at * here["slope_second"][0])) - sigma_b2 / at

    with np.errstate(all="ignore"):
        values = 1 - found.second / (found.q * found.slope_second) - sigma_b2 / found.q
    for i, j in _crossings(values):
        crossing = _edge_at(entry, root(missing, float(found.q[i]), float(found.q[j])))
        if crossing is not None:
            edges.append(crossing)
    return tuple(edges)


def _beside(found: Curve) -> Floats:
    """The slope of the variance map along the edge of chaos, less 1, from where it is more than rounding on.

    A user's function may be rounded badly near 0, so a sign counts once it has stayed for a decade of q.
    """
    with np.errstate(all="ignore"):
        off = np.nan_to_num(found.growth / found.slope_second - 1)
    signs = np.where(np.abs(off) > 1e-9, np.sign(off), 0)
    steady = [i for i in range(len(off) - 20) if signs[i] and (signs[i : i + 20] == signs[i]).all()]
    return off[steady[0] :] if steady else off[:0]


def _slope_at_zero(entry: Activation) -> float:
    """The mean square of the slope just below and just above 0."""
    if entry.slope is None:
        return float(moments_many(entry, 1e-14)["slope_second"][0])
    return float(np.mean(np.square(entry.slope(np.array([-1e-30, 1e-30])))))


def _edge_at(entry: Activation, q: float) -> Critical | None:
    """The edge of chaos at this q, or None where it would take a negative bias variance."""
    found = moments_many(entry, q)
    if not found["slope_second"][0] > 0:
        return None
    sigma_w2 = float(1 / found["slope_second"][0])
    parallel = float(sigma_w2 * found["growth"][0])
    sigma_b2 = q - sigma_w2 * float(found["second"][0])
    if sigma_b2 < -1e-9 * q:
        return None
    return Critical(sigma_w2, max(0.0, sigma_b2), q, parallel, parallel <= 1 + _MARGIN)


@dataclass(frozen=True)
class Universality:
    """To which class of deep networks an activation belongs: where gradients *and* sizes neither grow nor shrink.

    Attributes:
        kind: ``scale-invariant`` (at every q), ``K*=0`` (at a slowly dying signal), ``half-stable`` (at q = K*,
            which signals leave in one direction) or ``none``.
        k_star: The second moment there; not a number where every or none is.
        sigma_w2, sigma_b2: The variances there.
    """

    kind: Literal["scale-invariant", "K*=0", "half-stable", "none"]
    k_star: float
    sigma_w2: float
    sigma_b2: float


def universality(given: Function) -> Universality:
    """The universality class (Roberts, Yaida, Hanin 2022).

    Example:
        >>> [universality(name).kind for name in ("relu", "tanh", "gelu", "sigmoid")]
        ['scale-invariant', 'K*=0', 'half-stable', 'none']
        >>> round(universality("gelu").k_star, 9)  # (3 + sqrt(17)) / 2
        3.561552813
    """
    entry = activation(given)
    found, nothing = curve(entry), Universality("none", math.nan, math.nan, math.nan)
    if entry.jumps:
        return nothing
    edges = critical(entry, sigma_b2=0.0)
    if found.scale is not None:
        return Universality("scale-invariant", math.nan, edges[0].sigma_w2, 0.0) if edges else nothing
    if edges and edges[0].q == 0 and edges[0].stable:
        return Universality("K*=0", 0.0, edges[0].sigma_w2, 0.0)

    def excess(q: float) -> float:
        means = moments_many(entry, q)
        return float(means["growth"][0] / means["slope_second"][0]) - 1

    off = _beside(found)
    skipped = len(found.q) - len(off)
    for i, j in ((i + skipped, j + skipped) for i, j in _crossings(off)):
        here = _edge_at(entry, root(excess, float(found.q[i]), float(found.q[j])))
        if here is not None:
            return Universality("half-stable", here.q, here.sigma_w2, here.sigma_b2)
    return nothing
