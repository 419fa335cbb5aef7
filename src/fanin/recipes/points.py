"""At what size of its pre-activations a network of a given depth keeps both signal and gradient.

With weights that keep the signal's second moment q from layer to layer, gradients are multiplied by
``chi = q E phi'(u)^2 / E phi(u)^2`` in each. For ReLU chi is 1 at any q. For smooth activations it tends to 1
as q becomes small, where they are nearly straight; so a deeper network works at a smaller q.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fanin.activations import Activation
from fanin.errors import InvalidValueError
from fanin.theory.maps import moments_many

__all__ = ["TOLERANCE", "WorkingPoint", "mirrors", "working_point"]

TOLERANCE = 1.5
"""By what factor gradients may grow or shrink over the whole depth, in their second moment."""
_GRID = np.geomspace(1.0, 1e-6, 61)


@dataclass(frozen=True)
class WorkingPoint:
    """Where an activation is run.

    Attributes:
        q: Second moment of the pre-activations.
        gain2: What the variance of the weights times fan-in must be, so that q stays.
        chi: By what each layer then multiplies the gradient's second moment.
        drift: By what each layer multiplies a small error in q, such as chance makes in narrow layers.
        centred: Whether the mean of the activations must be cancelled by the weights (by opposite pairs of them).
    """

    q: float
    gain2: float
    chi: float
    drift: float
    centred: bool

    def holds(self, depth: int) -> bool:
        """Whether gradients stay, and errors do not grow beyond, the tolerance over so many layers."""
        if not self.chi > 0:
            return False
        growth = max(abs(math.log(self.chi)), math.log(max(1.0, self.drift)))
        return depth * growth <= math.log(TOLERANCE)


@lru_cache(maxsize=256)
def _points(entry: Activation, centred: bool) -> tuple[WorkingPoint, ...]:
    """The activation at all sizes of the grid."""
    found = moments_many(entry, _GRID)
    spreads = np.maximum(found["second"] - (found["mean"] ** 2 if centred else 0), np.finfo(float).tiny)
    drifts = np.ones_like(_GRID) if centred else _GRID * found["growth"] / spreads
    return tuple(
        WorkingPoint(float(q), float(q / spread), float(q * slope / spread), float(drift), centred)
        for q, spread, slope, drift in zip(_GRID, spreads, found["slope_second"], drifts, strict=True)
        if spread > np.finfo(float).tiny
    )


@lru_cache(maxsize=1024)
def working_point(entry: Activation, depth: int, may_centre: bool = True) -> WorkingPoint:
    """The largest q up to 1 at which gradients hold over a depth; the nearest to that where none does.

    An activation without a scale of its own (ReLU) is run where its output has second moment 1.

    Args:
        entry: The activation.
        depth: Number of weights in a row, without a normalisation or a residual addition between them.
        may_centre: Whether cancelling the mean is possible.

    Example:
        >>> from fanin.activations import activation
        >>> round(working_point(activation("relu"), 100).gain2, 9)
        2.0
        >>> 0.05 < working_point(activation("tanh"), 100).q < 0.07
        True
    """
    points = _points(entry, False)
    if not points:
        raise InvalidValueError("The activation has no mean square", given=entry.name)
    if all(math.isclose(points[0].gain2, each.gain2, rel_tol=1e-9) for each in points):
        return replace(points[0], q=points[0].gain2)
    candidates = (*points, *(_points(entry, True) if may_centre else ()))
    nearest = min(points, key=lambda point: abs(math.log(point.chi)) if point.chi > 0 else math.inf)
    return next((point for point in candidates if point.holds(depth)), nearest)


@lru_cache(maxsize=256)
def mirrors(entry: Activation) -> float:
    """The slope k if ``phi(z) - phi(-z) = k z`` for all z, as for ReLU, GELU and SiLU; 0 otherwise.

    Pairs of opposite units then make a layer linear, whatever its depth (Balduzzi et al. 2017).

    Example:
        >>> from fanin.activations import activation
        >>> mirrors(activation("silu")), mirrors(activation("tanh"))
        (1.0, 0.0)
    """
    z = np.linspace(0.05, 8.0, 160)
    right, left = np.asarray(entry.phi(z), float), np.asarray(entry.phi(-z), float)
    slope = (right - left) / z
    straight = np.allclose(right + left, 0.0, atol=1e-9)
    if straight or not np.allclose(slope, slope[0], rtol=1e-6) or abs(slope[0]) < 1e-6:
        return 0.0
    return round(float(slope[0]), 9)
