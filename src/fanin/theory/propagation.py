"""What each layer of a given stack does to signal, gradient and cosine, and how far a finite width strays.

Sources: Schoenholz et al. 2017 (plain), Yang and Schoenholz 2017 (arXiv:1712.08969, residual), Yang et al. 2019
(arXiv:1902.08129, batch normalisation), Hanin and Rolnick 2018 (arXiv:1803.01719, finite width).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fanin.activations import Activation, activation
from fanin.errors import InvalidValueError
from fanin.theory.integrals import evaluate, rule
from fanin.theory.maps import Floats, Function, check_q, check_variance, deficit_map, moments_many

__all__ = ["Band", "Layer", "Propagation", "finite_width", "propagate"]

Norm = Literal["none", "pre", "post", "batch"]
_NORMS = ("none", "pre", "post", "batch")
_MODES = 12
"""Hermite polynomials that are followed one by one, for the band."""


@dataclass(frozen=True)
class Layer:
    """One weighted layer, with what stands before it.

    A plain layer is ``W phi(h) + b``. With `residual` alpha it is the branch of ``h + alpha (W phi(h) + b)``.

    Attributes:
        activation: A name, or any vectorised function.
        sigma_w2, sigma_b2: Variances of weights (times fan-in) and biases.
        width: Units, for the band of a finite width; None for infinitely many.
        residual: Scale of the branch, or None for a plain layer.
        norm: ``none``; ``pre`` (layer or RMS norm in front of the activation of a branch), ``post`` (behind the
            addition, or behind a plain layer) or ``batch`` (over a large batch, in front of the activation).
            Signal, gradient and cosine are those of h, which batch and pre-norm leave as it is. Layer norm and
            RMS norm differ in the band alone, which is that of RMS norm and a little wide for layer norm.
    """

    activation: Function
    sigma_w2: float
    sigma_b2: float = 0.0
    width: int | None = None
    residual: float | None = None
    norm: Norm = "none"


@dataclass(frozen=True)
class Band:
    """The 95 % band of measured over predicted, by layer.

    Attributes:
        spread: Standard deviation of the logarithm of that ratio, to first order in 1 / width. With batch
            normalisation, the measured value is the mean over a large batch, else it is that of one input.
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
class Propagation:
    """Predictions by layer; index 0 is what goes in.

    Attributes:
        signal: Second moment of h.
        gradient: Second moment of the loss's gradient with respect to h, relative to that at the end.
        cosine: Of h for two inputs.
        band: For `signal`, at the given widths; None if a width is not given.
    """

    signal: tuple[float, ...]
    gradient: tuple[float, ...]
    cosine: tuple[float, ...]
    band: Band | None


def propagate(layers: Sequence[Layer], q: float = 1.0, c: float = 0.5) -> Propagation:
    """Predict signal, gradient and cosine in each layer of a stack, for infinite width.

    Args:
        layers: From input to output.
        q: Second moment of what goes into the first layer (a pre-activation).
        c: Its cosine for two inputs; with batch normalisation, for any two of the batch.

    Raises:
        InvalidValueError: If a layer, q or c cannot be.

    Example:
        >>> deep = propagate([Layer("relu", 2.0)] * 20)
        >>> round(deep.signal[-1], 9), round(deep.gradient[0], 9), deep.cosine[-1] > 0.95
        (1.0, 1.0, True)
        >>> deep = propagate([Layer("relu", 2.0, norm="batch")] * 3)
        >>> round(deep.gradient[1] / deep.gradient[2], 6)  # pi / (pi - 1)
        1.466942
    """
    q, deficit = check_q(q), 1 - _number(c, "cosine c", -1.0, 1.0)
    signal, cosine, factors = [q], [1 - deficit], []
    noise, spreads = np.zeros((_MODES + 2, _MODES + 2)), [0.0]
    for layer in layers:
        step = _step(layer, q, deficit)
        noise, spread = _stray(step, noise, _width(layer.width))
        q, deficit = step.q, step.deficit
        signal.append(q)
        cosine.append(1 - deficit)
        factors.append(step.gradient)
        spreads.append(spread)
    gradient = [1.0]
    for factor in reversed(factors):
        gradient.append(gradient[-1] * factor)
    band = Band(tuple(spreads)) if all(layer.width is not None for layer in layers) else None
    return Propagation(tuple(signal), tuple(reversed(gradient)), tuple(cosine), band)


@dataclass(frozen=True)
class _Step:
    """One layer: what comes out, and by what gradients grow on their way in.

    For a finite width:

    Attributes:
        elasticity: How a relative error of the variance of h is passed on.
        inherited: How the modes (see `_stray`) of what came in are passed on to it.
        memory: The correlation of a unit before and behind.
        share: The part of the signal whose size is that of as many numbers as there are units.
        normed: Whether the size is set to 1 at the end.
    """

    q: float
    deficit: float
    gradient: float
    elasticity: float
    inherited: Floats
    memory: float = 0.0
    share: float = 1.0
    normed: bool = False


def _step(layer: Layer, q: float, deficit: float) -> _Step:
    entry = activation(layer.activation)
    sigma_w2, sigma_b2 = check_variance(layer.sigma_w2, "sigma_w2"), check_variance(layer.sigma_b2, "sigma_b2")
    _check_kind(layer)
    inner = 1.0 if layer.norm in ("pre", "batch") else q
    here = {name: float(value[0]) for name, value in moments_many(entry, inner).items()}
    branch, slope = sigma_w2 * here["second"] + sigma_b2, sigma_w2 * here["slope_second"]
    if layer.norm == "batch":
        return _batch(here, sigma_w2, branch, slope, q * deficit)
    apart = deficit_map(entry, deficit, inner, sigma_w2) * inner
    alpha2 = 1.0 if layer.residual is None else _number(layer.residual, "residual scale", -math.inf, math.inf) ** 2
    kept = 0.0 if layer.residual is None else 1.0
    size = _alive(kept * q + alpha2 * branch, layer)
    modes = alpha2 * sigma_w2 * here["second"] / size * _modes(entry, inner)
    growth = alpha2 * sigma_w2 * here["growth"]
    if layer.norm == "pre":  # the size, which is the second mode, is taken off before
        slope, growth, modes[1] = slope / q, 0.0, 0.0
    gradient = kept + alpha2 * slope
    normed = layer.norm == "post"
    return _Step(
        1.0 if normed else size,
        min(2.0, (kept * deficit * q + alpha2 * apart) / size),
        gradient / size if normed else gradient,
        q * (kept + growth) / size,
        modes,
        memory=math.sqrt(kept * q / size),
        normed=normed,
    )


def _batch(here: dict[str, float], sigma_w2: float, branch: float, slope: float, variance: float) -> _Step:
    """A layer behind batch normalisation: of any two inputs of a large batch the cosine is 0 after it.

    The variance over inputs is what it divides by; its mean over units hardly differs between seeds, and so of the
    signal only the part that all inputs share.
    """
    if variance <= 0:
        raise InvalidValueError("Batch normalisation of inputs that are all the same", given="cosine 1")
    apart = sigma_w2 * (here["second"] - here["mean"] ** 2)
    if not 0 < branch < math.inf or apart <= 0:
        raise InvalidValueError("The signal dies", given=f"sigma_w2={sigma_w2} behind batch normalisation")
    deficit = apart / branch
    return _Step(branch, deficit, slope / variance, 0.0, np.zeros(_MODES + 1), share=1 - deficit)


def _stray(step: _Step, noise: Floats, width: float) -> tuple[Floats, float]:
    """The covariance of what strays behind a layer, and the spread of the signal; to first order in 1 / width.

    What strays is the relative error of the variance of a unit (index 0), and the means over units of the
    normalised Hermite polynomials of h (index 1 on; the last stands for all that follow). These average
    independent numbers: their variance is 1 / width. The second moment of h is ``variance * (1 + sqrt(2) mode 2)``,
    that of phi(h) a sum over all modes. Residual branches leave units much as they were, so modes are remembered:
    mode k by ``memory ** k``. Where errors multiply, so do their variances: for plain ReLU this is exact.
    """
    memory = step.memory ** np.arange(1, _MODES + 2)
    passed, taken = noise[1:, 1:], step.inherited
    after = np.zeros_like(noise)
    added = taken @ passed @ taken + 2 * step.elasticity * (noise[0, 1:] @ taken)
    after[0, 0] = (1 + step.elasticity**2 * noise[0, 0]) * (1 + added) - 1
    after[0, 1:] = after[1:, 0] = memory * (step.elasticity * noise[0, 1:] + passed @ taken)
    after[1:, 1:] = passed * np.outer(memory, memory) + np.diag((1 - memory**2) / width)
    if step.normed:
        after[0] = -math.sqrt(2) * after[2]
        after[:, 0] = -math.sqrt(2) * after[:, 2]
        return after, 0.0
    own = 2 * step.share**2 * after[2, 2] + 2 * math.sqrt(2) * step.share * after[0, 2]
    return after, math.sqrt(max(0.0, math.log1p(after[0, 0]) + math.log1p(max(own, -0.5))))


def _modes(entry: Activation, q: float) -> Floats:
    """The coefficients of phi(h)^2 over its mean in normalised Hermite polynomials, from the first on."""
    points = rule(entry, q)
    square = evaluate(entry, points.u) ** 2
    second = float(points.mean(square)[0])
    if not second > 0:
        return np.zeros(_MODES + 1)
    square = square / second
    coefficients, before, polynomial = [], np.zeros_like(points.z), np.ones_like(points.z)
    for order in range(1, _MODES + 1):
        before, polynomial = (
            polynomial,
            (points.z * polynomial - math.sqrt(order - 1) * before) / math.sqrt(order),
        )
        coefficients.append(float(points.mean(square * polynomial)[0]))
    rest = float(points.mean(square**2)[0]) - 1 - sum(part**2 for part in coefficients)
    return np.array([*coefficients, math.sqrt(max(0.0, rest))])


def _alive(size: float, layer: Layer) -> float:
    if not 0 < size < math.inf:
        given = f"sigma_w2={layer.sigma_w2}, sigma_b2={layer.sigma_b2}"
        raise InvalidValueError("The signal dies" if size <= 0 else "The signal explodes", given=given)
    return size


def _check_kind(layer: Layer) -> None:
    if layer.norm not in _NORMS:
        raise InvalidValueError("The norm is unknown", given=layer.norm, allowed=", ".join(_NORMS))
    if layer.norm == "pre" and layer.residual is None:
        raise InvalidValueError("A norm before the branch needs a branch", given="norm='pre'", allowed="residual=...")
    if layer.norm == "batch" and layer.residual is not None:
        raise InvalidValueError(
            "Batch normalisation is predicted for plain layers only", given="norm='batch', residual"
        )


def _width(width: int | None) -> float:
    if width is None:
        return math.inf
    if not hasattr(width, "__index__") or width < 1:
        raise InvalidValueError("The width is out of range", given=width, allowed="a whole number of 1 or more")
    return width


def _number(value: Any, name: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (low <= number <= high and math.isfinite(number)):
        allowed = f"{low:g} to {high:g}" if math.isfinite(low) else "a finite number"
        raise InvalidValueError(f"The {name} is out of range", given=value, allowed=allowed)
    return number


def finite_width(
    widths: Sequence[int], given: Function, sigma_w2: float | None = None, sigma_b2: float = 0.0, q: float = 1.0
) -> Band:
    """How far the measured second moment of each layer may stray from the predicted one, between seeds.

    For ReLU the variance of the ratio grows like prod(1 + 5 / n), for a linear network like prod(1 + 2 / n)
    (Hanin and Rolnick 2018): wide layers matter, and their number does.

    Args:
        widths: Units of each layer.
        given: The activation between them.
        sigma_w2: Variance of the weights times fan-in; where none is given, that keeps q.
        sigma_b2: Variance of the biases.
        q: Second moment of the first pre-activations.

    Example:
        >>> band = finite_width([100] * 20, "relu")
        >>> round(math.exp(band.spread[-1] ** 2) - 1, 6) == round((1 + 5 / 100) ** 19 * (1 + 2 / 100) - 1, 6)
        True
    """
    if sigma_w2 is None:
        q, sigma_b2 = check_q(q), check_variance(sigma_b2, "sigma_b2")
        sigma_w2 = (q - sigma_b2) / float(moments_many(activation(given), q)["second"][0])
    band = propagate([Layer(given, sigma_w2, sigma_b2, width) for width in widths], q).band
    assert band is not None  # every width is given
    return band
