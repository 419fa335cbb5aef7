"""How far networks of a finite width stray from the predictions, to first order in 1 / width.

What strays behind a layer is a vector: the relative errors of variances that all its units share, and the means over
units of normalised Hermite polynomials of their pre-activations, the *modes*, which average independent numbers and
so have the variance 1 / width. A layer hands it on linearly, ``after = transition @ before + fresh noise``. Residual
branches leave units much as they were, so they remember modes: one of order k by ``memory ** k``.

Sources: Hanin and Rolnick 2018 (arXiv:1803.01719) for ReLU and linear networks; the modes are fanin's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanin.activations import Activation
from fanin.theory.integrals import evaluate, pair_rule, rule, slope
from fanin.theory.maps import Floats

__all__ = ["Band", "Branch", "Ends", "bands"]

_ORDERS = 12
"""Hermite polynomials of one signal that are followed one by one."""
_SINGLE = 1 + _ORDERS + 2
"""What strays of one signal: the error of its variance (index 0), its modes (index 1 on) and two for their rest."""
_PAIR_ORDERS = 6
"""The same for two signals, of both variables together."""
_PAIR_NODES = 6
"""A band needs three digits."""
_PAIR_MODES = tuple(
    (i, j) for i in range(_PAIR_ORDERS + 1) for j in range(0, _PAIR_ORDERS + 1, 2) if 0 < i + j <= _PAIR_ORDERS
)
"""Orders in the sum and in the difference of two signals; what is odd in the difference moves no cosine."""
_PAIR = 2 + len(_PAIR_MODES) + 2
"""What strays of two signals: the errors of both variances (index 0 and 1), their modes (index 2 on) and the rest."""
_SUM, _DIFFERENCE = (2 + _PAIR_MODES.index(order) for order in ((2, 0), (0, 2)))
"""Where the modes are that are part of the sizes of sum and difference."""


@dataclass(frozen=True)
class Band:
    """The 95 % band of measured over predicted, by layer.

    Attributes:
        spread: Standard deviation of the logarithm of that ratio, to first order in 1 / width; not a number where
            it is not known. With batch normalisation, the measured value is the mean over a large batch, else it is
            that of one input.
    """

    spread: tuple[float, ...]

    @property
    def low(self) -> tuple[float, ...]:
        """The lower end."""
        return tuple(math.exp(-1.96 * s - s * s / 2) for s in self.spread)

    @property
    def high(self) -> tuple[float, ...]:
        """The upper end."""
        return tuple(math.exp(1.96 * s - s * s / 2) for s in self.spread)


@dataclass(frozen=True)
class Branch:
    """What the band of a layer is made of.

    Attributes:
        weight: The branch's scale squared times the variance of its weights.
        inner: Second moment of what the activation is given.
        kept: 1 where the branch is added to what came in, else 0.
        norm: As in `propagation.Layer`.
    """

    entry: Activation
    weight: float
    inner: float
    kept: float
    norm: str
    width: float


@dataclass(frozen=True)
class Ends:
    """Second moment and ``1 - cosine`` before and behind a layer, in front of a norm that ends it.

    Attributes:
        gradient: By what gradients grow on their way in, without that norm.
        share: The part of the signal whose size is that of as many numbers as there are units.
    """

    q: float
    deficit: float
    q_after: float
    deficit_after: float
    gradient: float
    share: float = 1.0


@dataclass(frozen=True)
class _Drift:
    """How one layer hands on what strays.

    Attributes:
        fresh: Variance of the noise that it adds, times the width.
        gradient: How what strays moves the logarithm of a gradient's size on its way in.
        grown: The part of a gradient that comes through the branch.
        slopes: The modes of phi'^2.
        fourth: E phi'^4 / (E phi'^2)^2.
    """

    transition: Floats
    fresh: Floats
    gradient: Floats
    grown: float
    slopes: Floats
    fourth: float


def bands(branches: Sequence[Branch], ends: Sequence[Ends]) -> tuple[Band, Band, Band]:
    """The bands of signal, gradient and ``1 - cosine`` in a stack, each with one more entry than there are layers."""
    drifts = [_drift(branch, end) for branch, end in zip(branches, ends, strict=True)]
    noise, signal = [np.zeros((_SINGLE, _SINGLE))], [0.0]
    for branch, end, drift in zip(branches, ends, drifts, strict=True):
        after, spread = _forward(branch, end, drift, noise[-1])
        noise.append(after)
        signal.append(spread)
    return Band(tuple(signal)), Band(tuple(_backward(branches, drifts, noise))), Band(tuple(_cosine(branches, ends)))


def _hermite(z: Floats, orders: int) -> Floats:
    """The normalised Hermite polynomials of order 0 to `orders`."""
    found = [np.ones_like(z), z]
    for order in range(2, orders + 1):
        found.append((z * found[-1] - math.sqrt(order - 1) * found[-2]) / math.sqrt(order))
    return np.stack(found)


@lru_cache(maxsize=256)
def _single(entry: Activation, q: float) -> tuple[Floats, Floats, float]:
    """The modes of phi^2 and of phi'^2, each over its mean, and the mean square of the latter."""
    points = rule(entry, q)
    phi = evaluate(entry, points.u)
    polynomials = _hermite(points.z, _ORDERS)[1:]
    squares = []
    for square in (phi**2, slope(entry, points, phi) ** 2):
        size = float(points.mean(square)[0])
        squares.append(square / size if size > 0 else square)
    modes = np.array([[float(points.mean(square * each)[0]) for each in polynomials] for square in squares])
    means = [float(points.mean(square)[0]) for square in squares]
    products = np.array([[float(points.mean(a * b)[0]) for b in squares] for a in squares])
    both = _with_rest(modes, products - np.outer(means, means))
    return both[0], both[1], float(products[1, 1])


def _with_rest(modes: Floats, covariance: Floats) -> Floats:
    """The modes of two numbers, and two more for what is missing of their covariance."""
    rest = covariance - modes @ modes.T
    first = math.sqrt(max(0.0, rest[0, 0]))
    across = rest[0, 1] / first if first > 1e-9 else 0.0
    second = math.sqrt(max(0.0, rest[1, 1] - across**2))
    return np.concatenate([modes, [[first, 0.0], [across, second]]], axis=1)


def _drift(branch: Branch, end: Ends) -> _Drift:
    transition = np.zeros((_SINGLE, _SINGLE))
    if branch.norm == "batch":
        nothing = np.zeros(_SINGLE)
        return _Drift(transition, np.r_[0.0, np.ones(_SINGLE - 1)], nothing, 1.0, nothing[1:], math.nan)
    orders = np.minimum(np.arange(1, _SINGLE), _ORDERS + 1)
    modes, slopes, fourth = _single(branch.entry, branch.inner)
    part = branch.weight * _mean_square(branch) / end.q_after
    memory = math.sqrt(branch.kept * end.q / end.q_after) ** orders
    # A larger variance acts like mode 2, of which a relative error makes 1 / sqrt(2).
    taken = np.r_[modes[1] / math.sqrt(2), modes]
    grown = 1 - 1 / end.gradient if branch.kept else 1.0
    gradient = grown * np.r_[slopes[1] / math.sqrt(2), slopes]
    if branch.norm == "pre":  # the size is taken off before, from gradients as well
        taken[[0, 2]] = 0.0
        gradient[[0, 2]] = -grown * np.array([1.0, math.sqrt(2)])
    transition[0] = part * taken
    transition[0, 0] += branch.kept * end.q / end.q_after
    transition[1:, 1:] = np.diag(memory)
    fresh = np.r_[0.0, 1 - memory**2]
    return _Drift(transition, fresh, gradient, grown, slopes, math.nan if branch.entry.jumps else fourth)


def _mean_square(branch: Branch) -> float:
    points = rule(branch.entry, branch.inner)
    return float(points.mean(evaluate(branch.entry, points.u) ** 2)[0])


def _forward(branch: Branch, end: Ends, drift: _Drift, noise: Floats) -> tuple[Floats, float]:
    """The covariance of what strays behind a layer, and the spread of the signal.

    Where errors multiply, so do their variances: for plain ReLU this is exact.
    """
    after = drift.transition @ noise @ drift.transition.T + np.diag(drift.fresh) / branch.width
    passed = drift.transition[0, 0] ** 2 * noise[0, 0]
    after[0, 0] += passed * (after[0, 0] - passed)
    if branch.norm == "post":
        unit = _unit_size()
        return unit @ after @ unit.T, 0.0
    own = 2 * end.share**2 * after[2, 2] + 2 * math.sqrt(2) * end.share * after[0, 2]
    return after, math.sqrt(max(0.0, math.log1p(after[0, 0]) + math.log1p(max(own, -0.5))))


def _unit_size() -> Floats:
    """What a norm does to what strays: the variance is off by so much that with mode 2 the size is right."""
    unit = np.eye(_SINGLE)
    unit[0] = 0.0
    unit[0, 2] = -math.sqrt(2)
    return unit


def _backward(branches: Sequence[Branch], drifts: Sequence[_Drift], noise: Sequence[Floats]) -> list[float]:
    """The spread of gradients, from the end.

    `weight` is how what strays in a layer moves all gradients behind it, `profile` the modes of the square of a
    unit's gradient: units that remember have the larger gradients where their slopes were large.
    """
    weight, profile, own, spreads = np.zeros(_SINGLE), np.zeros(_SINGLE - 1), 0.0, [0.0]
    for branch, drift, before in reversed(list(zip(branches, drifts, noise[:-1], strict=True))):
        if branch.norm == "post":
            weight = _unit_size().T @ weight
            weight[0] -= 1.0
            weight[2] -= math.sqrt(2)
        profile = np.diag(drift.transition)[1:] * profile
        # The branch's gradient is a sum of independent numbers; so is its product with the gradient beside it.
        beside = drift.grown * (1 - drift.grown) * (1 + float(profile @ drift.slopes))
        strayed = 2 * drift.grown**2 * drift.fourth + 4 * beside + float(weight**2 @ drift.fresh)
        own += math.log1p(strayed / branch.width)
        profile = (1 - drift.grown) * profile + drift.grown * drift.slopes
        weight = drift.gradient + drift.transition.T @ weight
        spreads.append(math.sqrt(max(own + float(weight @ before @ weight), 0.0)))
    return spreads[::-1]


def _cosine(branches: Sequence[Branch], ends: Sequence[Ends]) -> list[float]:
    """The spread of ``1 - cosine``: as `_forward`, for sum and difference of two signals."""
    noise, spreads = np.zeros((_PAIR, _PAIR)), [0.0]
    for branch, end in zip(branches, ends, strict=True):
        if branch.norm == "batch":
            noise = np.full_like(noise, math.nan)
        elif end.deficit > 0:
            noise = _pair_forward(branch, end, noise)
        row = _pair_size(1.0, 0.0) - _pair_size(0.0, 1.0)
        spreads.append((1 - end.deficit_after / 2) * math.sqrt(max(float(row @ noise @ row), 0.0)))
    return spreads


def _pair_size(sums: float, differences: float) -> Floats:
    """How what strays moves the size of sum and difference of two signals: by its variance and by its mode 2."""
    row = np.zeros(_PAIR)
    row[:2] = sums, differences
    row[[_SUM, _DIFFERENCE]] = math.sqrt(2) * row[:2]
    return row


def _pair_forward(branch: Branch, end: Ends, noise: Floats) -> Floats:
    means, modes = _pair_modes(branch.entry, branch.inner, end.deficit)
    before, after = (
        np.array([q * (1 - deficit / 2), q * deficit / 2])
        for q, deficit in ((end.q, end.deficit), (end.q_after, end.deficit_after))
    )
    with np.errstate(all="ignore"):
        kept = np.nan_to_num(branch.kept * before / after, posinf=0.0)
        part = np.nan_to_num(branch.weight * means / after, posinf=0.0)
    taken = np.concatenate([modes[:, [_SUM - 2, _DIFFERENCE - 2]] / math.sqrt(2), modes], axis=1)
    if branch.norm == "pre":
        taken = taken @ _pair_unit_size(before)
    remembered = np.sqrt(kept)
    memory = np.array([remembered[0] ** i * remembered[1] ** j for i, j in _PAIR_MODES] + [0.0, 0.0])
    transition = np.diag(np.r_[kept, memory])
    transition[:2] += part[:, None] * taken
    found: Floats = transition @ noise @ transition.T + np.diag(np.r_[0.0, 0.0, 1 - memory**2]) / branch.width
    if branch.norm == "post":
        unit = _pair_unit_size(after)
        found = unit @ found @ unit.T
    return found


def _pair_unit_size(parts: Floats) -> Floats:
    """What a norm does to what strays: the error of the whole size is taken from both variances."""
    unit = np.eye(_PAIR)
    unit[:2] -= _pair_size(*(parts / parts.sum()))
    return unit


def _pair_modes(entry: Activation, q: float, deficit: float) -> tuple[Floats, Floats]:
    """Means and modes of the squares of half the sum and half the difference of phi(u) and phi(v)."""
    sums, products = np.zeros((2, _PAIR_ORDERS + 1, _PAIR_ORDERS // 2 + 1)), np.zeros((2, 2))
    for part in pair_rule(entry, q, deficit, _PAIR_NODES, symmetric=True):
        phi = evaluate(entry, part.u), evaluate(entry, part.v)
        squares = np.stack([((phi[0] + phi[1]) / 2) ** 2, ((phi[0] - phi[1]) / 2) ** 2])
        weighted = squares * part.inner
        products += np.einsum("aspn,bspn,s->ab", weighted, squares, part.outer)
        inner = np.einsum("aspn,jspn->ajs", weighted, _hermite(part.t, _PAIR_ORDERS)[::2])
        sums += np.einsum("ajs,is,s->aij", inner, _hermite(part.s, _PAIR_ORDERS), part.outer)
    # Of opposite signals an odd function has no sum, but for rounding.
    means = np.where(sums[:, 0, 0] > 1e-25 * sums[:, 0, 0].max(), sums[:, 0, 0], 0.0)
    known = np.where(means > 0, means, math.inf)
    modes = np.array([sums[:, i, j // 2] for i, j in _PAIR_MODES]).T / known[:, None]
    alive = np.outer(means > 0, means > 0)
    return means, _with_rest(modes, products / np.outer(known, known) - alive)
