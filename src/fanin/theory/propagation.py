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
from fanin.theory.bands import Band, Branch, Ends, bands
from fanin.theory.integrals import evaluate, rule
from fanin.theory.maps import Function, check_q, check_variance, deficit_map, moments_many

__all__ = ["Band", "Layer", "Propagation", "finite_width", "propagate"]

Norm = Literal["none", "pre", "post", "batch"]
_NORMS = ("none", "pre", "post", "batch")
_UNEVEN = 0.25
"""How large the relative variance of the sizes of inputs may be for batch normalisation's predictions to be trusted:
a standard deviation of one half. Of ReLU, cosines behind it are off by about 5 % then, and more with each layer."""


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
class Propagation:
    """Predictions by layer; index 0 is what goes in.

    Attributes:
        signal: Second moment of h.
        gradient: Second moment of the loss's gradient with respect to h, relative to that at the end.
        cosine: Of h for two inputs.
        band: For `signal`, at the given widths; None if a width is not given.
        gradient_band: For `gradient`.
        cosine_band: For ``1 - cosine``, the part in which two inputs differ.
        trusted_to: The last index up to which signal and cosine hold; gradients, which come from the end, hold where
            this is the last of all. Behind batch normalisation inputs must be of nearly equal size, and some
            activations let them drift apart.
        notes: What limits the trust, in words.
    """

    signal: tuple[float, ...]
    gradient: tuple[float, ...]
    cosine: tuple[float, ...]
    band: Band | None
    gradient_band: Band | None
    cosine_band: Band | None
    trusted_to: int
    notes: tuple[str, ...]


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
        >>> propagate([Layer("gelu", 2.0, width=1000, norm="batch")] * 50).trusted_to
        14
    """
    ends, q, deficit = [], check_q(q), 1 - _number(c, "cosine c", -1.0, 1.0)
    signal, cosine, factors = [q], [1 - deficit], []
    for layer in layers:
        end = _step(layer, q, deficit)
        normed = layer.norm == "post"
        q, deficit = 1.0 if normed else end.q_after, end.deficit_after
        ends.append(end)
        signal.append(q)
        cosine.append(1 - deficit)
        factors.append(end.gradient / end.q_after if normed else end.gradient)
    gradient = [1.0]
    for factor in reversed(factors):
        gradient.append(gradient[-1] * factor)
    widths = [_width(layer.width) for layer in layers]
    found: tuple[Band | None, Band | None, Band | None] = (None, None, None)
    if all(width < math.inf for width in widths):
        found = bands([_branch(layer, end) for layer, end in zip(layers, ends, strict=True)], ends)
    trusted_to, notes = _trust(layers, widths)
    return Propagation(tuple(signal), tuple(reversed(gradient)), tuple(cosine), *found, trusted_to, notes)


def _step(layer: Layer, q: float, deficit: float) -> Ends:
    entry = activation(layer.activation)
    sigma_w2, sigma_b2 = check_variance(layer.sigma_w2, "sigma_w2"), check_variance(layer.sigma_b2, "sigma_b2")
    _check_kind(layer)
    inner = 1.0 if layer.norm in ("pre", "batch") else q
    here = {name: float(value[0]) for name, value in moments_many(entry, inner).items()}
    branch, slope = sigma_w2 * here["second"] + sigma_b2, sigma_w2 * here["slope_second"]
    if layer.norm == "batch":
        return _batch(here, sigma_w2, branch, slope, q, deficit)
    apart = deficit_map(entry, deficit, inner, sigma_w2) * inner
    alpha2 = 1.0 if layer.residual is None else _number(layer.residual, "residual scale", -math.inf, math.inf) ** 2
    kept = 0.0 if layer.residual is None else 1.0
    size = _alive(kept * q + alpha2 * branch, layer)
    if layer.norm == "pre":
        slope = slope / q
    return Ends(q, deficit, size, min(2.0, (kept * deficit * q + alpha2 * apart) / size), kept + alpha2 * slope)


def _branch(layer: Layer, end: Ends) -> Branch:
    alone = layer.residual is None
    return Branch(
        activation(layer.activation),
        weight=layer.sigma_w2 * (1.0 if layer.residual is None else layer.residual**2),
        inner=1.0 if layer.norm in ("pre", "batch") else end.q,
        kept=0.0 if alone else 1.0,
        norm=layer.norm,
        width=_width(layer.width),
    )


def _batch(here: dict[str, float], sigma_w2: float, branch: float, slope: float, q: float, deficit: float) -> Ends:
    """A layer behind batch normalisation: of any two inputs of a large batch the cosine is 0 after it.

    The variance over inputs is what it divides by; its mean over units hardly differs between seeds, and so of the
    signal only the part that all inputs share.
    """
    if deficit <= 0:
        raise InvalidValueError("Batch normalisation of inputs that are all the same", given="cosine 1")
    apart = sigma_w2 * (here["second"] - here["mean"] ** 2)
    if not 0 < branch < math.inf or apart <= 0:
        raise InvalidValueError("The signal dies", given=f"sigma_w2={sigma_w2} behind batch normalisation")
    after = apart / branch
    return Ends(q, deficit, branch, after, slope / (q * deficit), share=1 - after)


_LOG_SIZES = np.polynomial.hermite_e.hermegauss(15)
"""Nodes and weights for the mean over inputs, whose sizes are spread like log-normal numbers."""


def _trust(layers: Sequence[Layer], widths: Sequence[float]) -> tuple[int, tuple[str, ...]]:
    """Up to where sizes of inputs are near enough to each other, and a note where they are not."""
    uneven = 0.0
    for index, (layer, width) in enumerate(zip(layers, widths, strict=True)):
        # What goes in is taken to be of equal size. Other layers predict each input by itself, and pass sizes on.
        entry = activation(layer.activation)
        if layer.norm == "batch":
            uneven = _uneven(entry, uneven, width)
        elif layer.norm == "post":
            uneven = 0.0
        if uneven > _UNEVEN:
            return index, (
                f"Not to be trusted behind layer {index}: the sizes of the inputs of a batch drift apart, by "
                f"x{_growth(entry):.3g} a layer of batch normalisation and {entry.name}, until their "
                f"standard deviation is more than half of their mean; gradients, which come from the end, nowhere.",
            )
    return len(layers), ()


def _uneven(entry: Activation, before: float, width: float) -> float:
    """The relative variance of sizes over inputs behind batch normalisation and an activation, given that before.

    Batch normalisation takes from each unit its mean over inputs and divides by the variance over inputs. So an input
    of size r becomes one of size ``(E phi^2 - 2 M E phi + M^2) / v``, with the means over N(0, r), M the mean of
    E phi over inputs and v that of E phi^2 less M^2. A finite width adds the error of a mean over units.
    """
    nodes, weights = _LOG_SIZES
    weights, spread = weights / weights.sum(), math.sqrt(math.log1p(before))
    points = rule(entry, np.exp(spread * nodes - spread**2 / 2))
    phi = evaluate(entry, points.u)
    common = float(weights @ points.mean(phi))
    centred = (phi - common) ** 2
    sizes = points.mean(centred)
    variance = float(weights @ sizes)
    noise = float(weights @ (points.mean(centred**2) - sizes**2)) / width
    return (float(weights @ sizes**2) + noise) / variance**2 - 1


def _growth(entry: Activation) -> float:
    """By what batch normalisation and an activation multiply a small difference in size of two inputs."""
    here = {name: float(value[0]) for name, value in moments_many(entry, 1.0).items()}
    points = rule(entry, 1.0)
    bend = float(points.mean(evaluate(entry, points.u) * (points.z**2 - 1))[0]) / 2
    return (here["growth"] - 2 * bend * here["mean"]) / (here["second"] - here["mean"] ** 2)


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
