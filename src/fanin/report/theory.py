"""The card of an activation on the terminal."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fanin.theory.card import BIAS, Card
from fanin.theory.criticality import Universality
from fanin.theory.gains import KINDS

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["lines", "tables"]


def tables(card: Card) -> "Iterator[Table]":
    """The gains, and what the usual initializers do."""
    from rich.table import Table

    gains = Table("gain", "value", "what it is", title=card.activation, title_justify="left", title_style="bold")
    for kind, value in card.gains.items():
        gains.add_row(kind, "none" if value is None else f"{value:.8g}", KINDS[kind])
    yield gains
    usual = Table("initializer", "sigma_w2", "phase", "gradient a layer", "xi_c", "in a deep network, without biases")
    for each in card.usual:
        scales = each.scales
        usual.add_row(
            each.name, f"{each.sigma_w2:.5g}", scales.phase, _number(scales.chi.perpendicular), _number(scales.xi_c),
            each.verdict,
        )  # fmt: skip
    yield usual


def lines(card: Card) -> Iterator[str]:
    """The universality class and the edge of chaos, as sentences."""
    yield _class(card.universality)
    if not card.edges:
        yield f"Edge of chaos at sigma_b2 = {BIAS}: none."
    for edge in card.edges:
        stable = "stable" if edge.stable else "unstable: signals leave it"
        yield (
            f"Edge of chaos at sigma_b2 = {BIAS}: sigma_w2 = {edge.sigma_w2:.8g}, q = {edge.q:.6g}, "
            f"slope of the variance map {edge.parallel:.4g} ({stable})."
        )
    yield "sigma_w2 and sigma_b2 are variances (of weights times fan-in, of biases), q a second moment."


def _class(found: Universality) -> str:
    if found.kind == "none":
        return "Universality class: none. No variances keep signals and gradients at once."
    at = {
        "scale-invariant": f"sigma_w2 = {found.sigma_w2:.8g} keeps every signal as it is",
        "K*=0": f"at sigma_w2 = {found.sigma_w2:.8g} signals die slowly and gradients keep",
        "half-stable": (
            f"signals and gradients keep at sigma_w2 = {found.sigma_w2:.8g}, sigma_b2 = {found.sigma_b2:.8g}, "
            f"q = K* = {found.k_star:.8g}; below K* the edge is unstable"
        ),
    }[found.kind]
    return f"Universality class: {found.kind}; {at}."


def _number(value: float) -> str:
    return "inf" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.4g}"
