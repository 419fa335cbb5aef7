"""Over how many layers a network forgets, and how many can be trained.

Source: Schoenholz et al. 2017 (arXiv:1611.01232).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fanin.activations import Activation, activation
from fanin.theory.criticality import fixed_points, point_at, root
from fanin.theory.integrals import evaluate
from fanin.theory.maps import Chi, Function, deficit_map, deficit_slope

__all__ = ["DepthScales", "TrainableDepth", "depth_scales", "trainable_depth"]


@dataclass(frozen=True)
class DepthScales:
    """Over how many layers a network forgets.

    Attributes:
        phase: ``ordered`` (signals align), ``critical``, ``chaotic`` (signals part), ``diverging`` (no fixed point) or
            ``linear`` (nothing changes).
        q: The fixed point that signals run into.
        xi_q: Layers in which a difference of size falls to 1 / e.
        c_star: The cosine that two signals end with; not a number where that depends on what they begin with, as in
            a linear network.
        xi_c: Layers in which the difference from that cosine falls to 1 / e.
        chi: At the fixed point; gradients change by ``chi.perpendicular`` a layer.
    """

    phase: Literal["ordered", "critical", "chaotic", "diverging", "linear"]
    q: float
    xi_q: float
    c_star: float
    xi_c: float
    chi: Chi


def _scale(rate: float) -> float:
    return math.inf if rate >= 1 else -1 / math.log(rate) if rate > 0 else 0.0


def depth_scales(given: Function, sigma_w2: float, sigma_b2: float = 0.0) -> DepthScales:
    """The phase of a network, and its depth scales for size and cosine.

    Example:
        >>> scales = depth_scales("tanh", sigma_w2=1.0, sigma_b2=0.05)
        >>> scales.phase, round(scales.xi_c, 6), scales.c_star
        ('ordered', 3.626976, 1.0)
    """
    entry = activation(given)
    found = fixed_points(entry, sigma_w2, sigma_b2)
    point = point_at(entry, 1.0, sigma_w2) if found.every else found.reached
    if point is None:
        nothing = float("nan")
        return DepthScales("diverging", math.inf, nothing, nothing, nothing, Chi(nothing, nothing))
    still = found.every or point.stability == "marginal"
    xi_q, across = math.inf if still else _scale(point.chi.parallel), point.chi.perpendicular
    if found.every and not _bends_at_zero(entry):
        return DepthScales("linear", point.q, xi_q, math.nan, math.inf, point.chi)
    if point.q == 0:
        # What is left of the signal meets a line, or two that form a kink: the one keeps angles, the other closes
        # them as ReLU does, by a power of the depth.
        c_star = 1.0 if _bends_at_zero(entry) else math.nan
        phase: Literal["critical", "ordered"] = "critical" if abs(across - 1) < 1e-8 else "ordered"
        return DepthScales(phase, 0.0, xi_q, c_star, math.inf, point.chi)
    if abs(across - 1) < 1e-8:
        return DepthScales("critical", point.q, xi_q, 1.0, math.inf, point.chi)
    if across < 1:
        return DepthScales("ordered", point.q, xi_q, 1.0, _scale(across), point.chi)
    deficit = _chaotic_deficit(entry, point.q, sigma_w2)
    rate = abs(deficit_slope(entry, deficit, point.q, sigma_w2))
    return DepthScales("chaotic", point.q, xi_q, 1 - deficit, _scale(rate), point.chi)


def _bends_at_zero(entry: Activation) -> bool:
    """Whether the function, which is 0 at 0, has another slope above 0 than below."""
    step = 1e-9
    below, above = evaluate(entry, np.array([-step, step])) / np.array([-step, step])
    return bool(abs(above - below) > 1e-3 * max(abs(above), abs(below)))


def _chaotic_deficit(entry: Activation, q: float, sigma_w2: float) -> float:
    """``1 - c`` of two signals far down a chaotic network; logarithmic in 1 - c, since it may be tiny."""

    def excess(deficit: float) -> float:
        return deficit_map(entry, deficit, q, sigma_w2) / deficit - 1

    low = 1e-2
    while excess(low) <= 0 and low > 1e-14:
        low /= 10
    high = 2 - 2e-6  # an odd activation keeps opposite signals opposite, but none run into that
    return root(excess, low, high) if excess(high) < 0 else high


@dataclass(frozen=True)
class TrainableDepth:
    """How many layers can be trained: a guess, and the band in which accuracy was seen to break down."""

    low: float
    typical: float
    high: float


def trainable_depth(given: Function, sigma_w2: float, sigma_b2: float = 0.0) -> TrainableDepth:
    """The depth up to which a plain network trains: 6 correlation depth scales, 4 to 9 in experiments.

    Source: Schoenholz et al. 2017; the band is that of tanh networks on MNIST.

    Example:
        >>> round(trainable_depth("tanh", 1.0, 0.05).typical, 1)
        21.8
    """
    scale = depth_scales(given, sigma_w2, sigma_b2).xi_c
    return TrainableDepth(4 * scale, 6 * scale, 9 * scale)
