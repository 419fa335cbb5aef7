"""Means over one or two normal numbers, with an error estimate: composite Gauss-Legendre quadrature.

The panels end at the activation's kinks and at points of its own scale, which lie at ``kink / sqrt(q)`` for
a standard normal number, and at each standard deviation. Gauss-Hermite rules miss kinks, and at a large q
they miss everything: 256 nodes are off by 97 % for E[tanh'^2] at q = 400.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.activations import Activation, values_of
from fanin.errors import InvalidValueError

__all__ = ["PairNodes", "Rule", "evaluate", "mean", "pair_mean", "pair_rule", "rule", "slope"]

Floats = NDArray[np.float64]
REACH, FAR = 12.0, 37.0
"""Standard deviations that are integrated over: the normal density beyond is below 1e-31; below 1e-297."""
FINE, COARSE = 16, 12
"""Nodes in a panel: for the result, and for the second opinion that estimates its error."""
_SCALE = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, *(2.0**k for k in range(5, 18)))
_PANELS = 200_000


class Rule:
    """Nodes of a rule for one or many q: `z` standard normal, `u` pre-activations, `weight` with the density.

    All have the shape (q, panels, nodes in a panel).
    """

    def __init__(self, edges: Floats, q: Floats, nodes: int):
        points, weights = _legendre(nodes)
        half = np.diff(edges, axis=-1)[..., None] / 2
        self.half = half
        self.z = edges[..., :-1, None] + half * (1 + points)
        self.root = np.sqrt(q)[:, None, None]
        self.u = self.root * self.z
        self.weight = half * weights * np.exp(-0.5 * self.z**2) / np.sqrt(2 * np.pi)

    def mean(self, values: Floats) -> Floats:
        """The means of values at the nodes, one for each q."""
        means: Floats = np.einsum("qpn,qpn->q", values, self.weight)
        return means


@lru_cache(maxsize=8)
def _legendre(nodes: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(nodes)


@lru_cache(maxsize=8)
def _differentiation(nodes: int) -> Floats:
    """From values at Gauss-Legendre points in [-1, 1] to the derivatives of their polynomial there."""
    points, _ = _legendre(nodes)
    vandermonde = np.polynomial.legendre.legvander(points, nodes - 1)
    derivatives = np.stack(
        [np.polynomial.legendre.legval(points, np.polynomial.legendre.legder(row)) for row in np.eye(nodes)], axis=1
    )
    result: Floats = derivatives @ np.linalg.inv(vandermonde)
    return result


@lru_cache(maxsize=256)
def _landmarks(entry: Activation) -> tuple[float, ...]:
    """Where panels must end, in units of the pre-activation."""
    return tuple(sorted({0.0, *entry.kinks, *entry.jumps, *entry.marks, *_SCALE, *(-point for point in _SCALE)}))


def _edges(entry: Activation, q: Floats, reach: float) -> Floats:
    """Ends of the panels in units of the standard normal number, for each q; some panels may be empty."""
    unit = np.arange(-reach, reach + 1)
    own = np.asarray(_landmarks(entry)) / np.sqrt(q)[:, None]
    if entry.period is not None:
        count = int(np.ceil(2 * reach * np.sqrt(q.max()) / (entry.period / 2)))
        if count > _PANELS:
            raise InvalidValueError(
                f"The mean of {entry.name} runs over too many periods", given=f"q = {q.max():g}", allowed="a smaller q"
            )
        if count > 2 * reach:
            unit = np.linspace(-reach, reach, count + 1)
    both = np.concatenate([np.broadcast_to(unit, (len(q), len(unit))), np.clip(own, -reach, reach)], axis=1)
    return np.sort(both, axis=1)


def rule(entry: Activation, q: Any, nodes: int = FINE, reach: float = REACH) -> Rule:
    """The rule for an activation whose pre-activations have the second moments `q`."""
    many = np.atleast_1d(np.asarray(q, dtype=float))
    return Rule(_edges(entry, many, reach), many, nodes)


def evaluate(entry: Activation, u: Floats) -> Floats:
    """The activation at these pre-activations.

    Raises:
        InvalidValueError: If a value is not finite.
    """
    return values_of(entry.name, entry.phi, u)


def slope(entry: Activation, nodes: Rule, values: Floats) -> Floats:
    """The derivative at the nodes: in closed form, or that of the polynomial through each panel's values."""
    if entry.slope is not None:
        return np.asarray(entry.slope(nodes.u), dtype=float)
    width = nodes.half * nodes.root
    matrix = _differentiation(values.shape[-1])
    with np.errstate(all="ignore"):
        result: Floats = np.where(width > 0, (values @ matrix.T) / width, 0.0)
    return result


def mean(entry: Activation, q: float, function: Callable[[Floats, Rule], Floats]) -> tuple[float, float]:
    """The mean of ``function(phi(u), rule)`` for u ~ N(0, q), and its error by a second rule of lower order."""
    fine, coarse = (
        float(nodes.mean(function(evaluate(entry, nodes.u), nodes))[0])
        for nodes in (rule(entry, q, FINE), rule(entry, q, COARSE))
    )
    return fine, abs(fine - coarse) + 4e-16 * abs(fine)


@dataclass(frozen=True)
class PairNodes:
    """Some nodes of a rule for two normal numbers u and v: sum and difference of two independent ones, s and t.

    Attributes:
        s, outer: Values of s and their weights, shape (s,).
        t, inner: Values of t for each s and their weights, shape (s, panels, nodes in a panel); so are u and v.
    """

    s: Floats
    outer: Floats
    t: Floats
    inner: Floats
    u: Floats
    v: Floats


def pair_rule(
    entry: Activation, q: float, deficit: float, nodes: int = COARSE, *, symmetric: bool = False
) -> Iterator[PairNodes]:
    """The rule for two normal numbers of second moment q and cosine ``1 - deficit``, a few values of s at a time.

    They are u, v = sqrt(q) (a s +- b t), so that nothing cancels where the cosine is near 1. The inner panels end
    where either number crosses a kink. For functions that are the same for (v, u), which `symmetric` promises, the
    half t > 0 is enough.
    """
    a, b = max(np.sqrt(1 - deficit / 2), 1e-200), np.sqrt(deficit / 2)
    root = np.sqrt(q)
    marks = np.asarray(_landmarks(entry)) / root
    sharp = np.asarray([*entry.kinks, *entry.jumps]) / root
    near = np.concatenate([[0.0], *([-step, step] for step in (1.0, 2.0, 4.0, 8.0, 12.0))]) * b
    ends = np.concatenate([np.arange(-REACH, REACH + 1), marks / a, (sharp[:, None] + near).reshape(-1) / a])
    ends = np.unique(np.clip(ends, -REACH, REACH))
    points, weights = _legendre(nodes)
    half = np.diff(ends)[:, None] / 2
    s = (ends[:-1, None] + half * (1 + points)).reshape(-1)
    outer = (half * weights).reshape(-1) * np.exp(-0.5 * s**2) / np.sqrt(2 * np.pi) * (2 if symmetric else 1)
    with np.errstate(all="ignore"):
        crossing = (marks - a * s[:, None]) / b
    crossing = np.nan_to_num(crossing, nan=REACH, posinf=REACH, neginf=-REACH)
    lowest = 0.0 if symmetric else -REACH
    unit = np.arange(lowest, REACH + 1)
    unit = np.broadcast_to(unit, (len(s), len(unit)))
    inner = np.sort(np.clip(np.concatenate([unit, crossing, -crossing], axis=1), lowest, REACH), axis=1)
    for low in range(0, len(s), 64):
        part = slice(low, low + 64)
        width = np.diff(inner[part], axis=1)[..., None] / 2
        keep = np.any(width > 0, axis=(0, 2))
        width, begin = width[:, keep], inner[part, :-1, None][:, keep]
        t = begin + width * (1 + points)
        density = width * weights * np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
        middle = a * s[part, None, None]
        yield PairNodes(s[part], outer[part], t, density, root * (middle + b * t), root * (middle - b * t))


def pair_mean(
    entry: Activation,
    q: float,
    deficit: float,
    function: Callable[[Floats, Floats], Floats],
    nodes: int = COARSE,
    *,
    symmetric: bool = False,
) -> float:
    """The mean of ``function(u, v)`` for two normal numbers of second moment q and cosine ``1 - deficit``."""
    return sum(
        float(np.einsum("spn,spn,s->", function(part.u, part.v), part.inner, part.outer))
        for part in pair_rule(entry, q, deficit, nodes, symmetric=symmetric)
    )
