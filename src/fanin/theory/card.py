"""All that the theory says of one activation, on one card."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from fanin.activations import activation
from fanin.errors import InvalidValueError
from fanin.records import to_plain
from fanin.theory.criticality import Critical, FixedPoint, Universality, critical, fixed_points, universality
from fanin.theory.depth import DepthScales, TrainableDepth, depth_scales
from fanin.theory.gains import KINDS, gain
from fanin.theory.maps import Function, variance_map

__all__ = ["Card", "Usual", "card"]

BIAS = 0.05
"""The bias variance at which a card shows the edge of chaos, as the papers do."""
_USUAL = {"he": 2.0, "lecun, glorot": 1.0, "pytorch default": 1 / 3}
"""Weight variance times fan-in, for layers as wide as the ones before them, without biases."""


@dataclass(frozen=True)
class Usual:
    """What a usual initializer does to a deep network with this activation.

    Attributes:
        sigma_w2: Its weight variance times fan-in.
        signal: By what a layer multiplies the second moment of a signal, at 1.
        verdict: A sentence.
    """

    name: str
    sigma_w2: float
    signal: float
    scales: DepthScales
    depth: TrainableDepth
    verdict: str


@dataclass(frozen=True)
class Card:
    """What an activation needs, and what it gets.

    Attributes:
        gains: By convention; None where there is none.
        edges: The edge of chaos at a bias variance of 0.05, all points.
        usual: The usual initializers, and the one with the second-moment gain.
    """

    activation: str
    gains: dict[str, float | None]
    universality: Universality
    edges: tuple[Critical, ...]
    usual: tuple[Usual, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        plain: dict[str, Any] = to_plain(asdict(self))
        return plain


def card(given: Function) -> Card:
    """The card of an activation.

    Example:
        >>> for usual in card("relu").usual[:2]:
        ...     print(usual.name, "-", usual.verdict)
        he - signals and gradients keep their size, inputs grow alike slowly
        lecun, glorot - signals die, x0.5 a layer, and gradients with them
    """
    entry = activation(given)

    def gain_or_none(kind: Any) -> float | None:
        try:
            return gain(entry, kind)
        except InvalidValueError:
            return None

    gains = {kind: gain_or_none(kind) for kind in KINDS}
    own = {} if gains["second_moment"] is None else {"second-moment gain": gains["second_moment"] ** 2}
    usual = tuple(_usual(entry, name, value) for name, value in {**_USUAL, **own}.items())
    return Card(entry.name, gains, universality(entry), critical(entry, sigma_b2=BIAS), usual)


def _usual(entry: Function, name: str, sigma_w2: float) -> Usual:
    scales = depth_scales(entry, sigma_w2)
    depth = TrainableDepth(4 * scales.xi_c, 6 * scales.xi_c, 9 * scales.xi_c)
    signal = variance_map(entry, 1.0, sigma_w2)
    unstable = next((p for p in fixed_points(entry, sigma_w2).points if p.q > 0 and p.stability == "unstable"), None)
    verdict = _verdict(scales, signal, depth) if unstable is None else _fork(unstable, scales)
    return Usual(name, sigma_w2, signal, scales, depth, verdict)


def _fork(unstable: FixedPoint, scales: DepthScales) -> str:
    below = (
        f"smaller ones die, x{scales.chi.parallel:.3g} a layer in the end" if scales.q == 0 else "smaller ones settle"
    )
    return (
        f"signals of mean square {unstable.q:.3g} stay so, but on a knife's edge (x{unstable.chi.parallel:.3g} a layer "
        f"for what strays): {below}, larger ones grow"
    )


def _verdict(scales: DepthScales, signal: float, depth: TrainableDepth) -> str:
    across = scales.chi.perpendicular
    if scales.phase == "diverging":
        return f"signals grow without end, x{signal:.3g} a layer at first"
    if math.isinf(across):
        return "gradients do not exist: the function jumps"
    if scales.q == 0 and across < 1 - 1e-8:
        return f"signals die, x{scales.chi.parallel:.3g} a layer, and gradients with them"
    if scales.q == 0:
        return "signals die slowly, as one over the depth; gradients keep their size"
    if scales.phase == "linear":
        return "signals, gradients and the angles of inputs stay as they are"
    if scales.phase == "critical":
        return "signals and gradients keep their size, inputs grow alike slowly"
    if scales.phase == "ordered":
        return (
            f"gradients shrink, x{across:.3g} a layer, and inputs grow alike; "
            f"trains to about {depth.typical:.0f} layers ({depth.low:.0f} to {depth.high:.0f})"
        )
    return (
        f"gradients grow, x{across:.3g} a layer, and inputs part; "
        f"trains to about {depth.typical:.0f} layers ({depth.low:.0f} to {depth.high:.0f})"
    )
