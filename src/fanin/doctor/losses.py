"""What a loss function expects of a model's outputs: found out by calling it, whatever it is named."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

__all__ = ["LOSSES", "Kind", "Loss", "answers", "class_axes", "identified", "repeated"]

Floats = NDArray[np.float64]
Takes = Literal["logits", "probabilities", "log-probabilities", "values"]
Alignment = Literal["same", "squeezed", "repeated", "broadcast"]

_TOLERANCE = 1e-3
"""Relative; libraries clip probabilities and compute in float32."""
_LEAST, _MOST = 0.1, 0.9
_WIDE = 3.0
"""Between these every number is a valid logit, probability and value."""


@dataclass(frozen=True)
class Kind:
    """A kind of loss.

    Attributes:
        name: What it is called.
        takes: What the outputs have to be.
        by_class: Whether the last axis of the outputs is one of classes; else each output has its own target.
        each: From outputs and targets to the loss of each example (and place, and output).
    """

    name: str
    takes: Takes
    by_class: bool
    each: Callable[[Floats, NDArray[Any]], Floats]


@dataclass(frozen=True)
class Loss:
    """A loss function, found to be of a known kind.

    Attributes:
        inside: A function that the loss itself applies to the outputs first; empty for none.
        reduction: ``mean``, ``sum``, or ``mean of sums`` over the examples of a batch.
        alignment: How outputs and targets of different shapes meet: ``same``, ``squeezed`` (an axis of 1 is dropped),
            ``repeated`` (all outputs of an example meet its one target) or ``broadcast`` (each output meets each
            target).
        axis: The axis of the outputs that holds classes; None for a loss that has none.
    """

    kind: Kind
    inside: str
    reduction: str
    alignment: Alignment
    axis: int | None


def _log_softmax(z: Floats) -> Floats:
    shifted = z - z.max(axis=-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def _picked(logs: Floats, y: NDArray[Any]) -> Floats:
    """Minus the entries of the right classes; `y` holds their numbers, or a share for each class."""
    if y.shape == logs.shape:
        return np.asarray(-(y * logs).sum(axis=-1))
    return -np.take_along_axis(logs, y[..., None].astype(np.int64), axis=-1)[..., 0]


def _logistic(z: Floats, y: NDArray[Any]) -> Floats:
    return np.asarray(np.logaddexp(0.0, z) - y * z)


def _binary(p: Floats, y: NDArray[Any]) -> Floats:
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def _divergence(logs: Floats, y: NDArray[Any]) -> Floats:
    """Kullback and Leibler's; of class numbers it is no more than a likelihood."""
    return np.asarray((xlogy(y, y) - y * logs).sum(axis=-1)) if y.shape == logs.shape else np.full(len(y), np.nan)


def _huber(outputs: Floats, y: NDArray[Any]) -> Floats:
    off = np.abs(outputs - y)
    return np.asarray(np.where(off < 1, 0.5 * off**2, off - 0.5))


LOSSES = (
    Kind("cross-entropy of logits", "logits", True, lambda z, y: _picked(_log_softmax(z), y)),
    Kind("cross-entropy of probabilities", "probabilities", True,
         lambda p, y: _picked(np.log(p / p.sum(axis=-1, keepdims=True)), y)),
    Kind("negative log-likelihood", "log-probabilities", True, _picked),
    Kind("Kullback-Leibler divergence", "log-probabilities", True, _divergence),
    Kind("Kullback-Leibler divergence of probabilities", "probabilities", True, lambda p, y: _divergence(np.log(p), y)),
    Kind("binary cross-entropy of logits", "logits", False, _logistic),
    Kind("binary cross-entropy of probabilities", "probabilities", False, _binary),
    Kind("mean squared error", "values", False, lambda outputs, y: (outputs - y) ** 2),
    Kind("mean absolute error", "values", False, lambda outputs, y: np.abs(outputs - y)),
    Kind("Huber loss", "values", False, _huber),
)  # fmt: skip
"""In the order in which they are tried."""

_INSIDE: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "": lambda z: z,
        "softmax": lambda z: np.exp(_log_softmax(z)),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }
)
"""What people put into their loss functions. (A log-softmax before a cross-entropy of logits changes nothing.)"""

_REDUCTIONS: Mapping[str, Callable[[Floats], float]] = MappingProxyType(
    {
        "mean": lambda each: float(each.mean()),
        "sum": lambda each: float(each.sum()),
        "mean of sums": lambda each: float(each.sum() / len(each)),
    }
)


def identified(
    function: Callable[[NDArray[Any], NDArray[Any]], float], shape: tuple[int, ...], targets: NDArray[Any]
) -> Loss | None:
    """The kind of a loss function, by what it gives for random outputs.

    Args:
        function: From outputs and targets to a number.
        shape: Of the outputs.
        targets: Of the batch.

    Returns:
        None for a kind that `LOSSES` does not have, and for a function that raises.

    Example:
        >>> found = identified(lambda outputs, y: float(((outputs - y) ** 2).sum()), (5, 2), np.zeros((5, 2)))
        >>> found.kind.name, found.reduction
        ('mean squared error', 'sum')
    """
    found = answers(function, shape, targets)
    if found is None:
        return None
    draws, given = found
    fits = (loss for loss in _candidates(shape, targets) if _agree(loss, draws, given, targets))
    return next((loss for loss in fits if _agrees_far_off(loss, function, shape, targets)), None)


def _agree(loss: Loss, draws: Sequence[Floats], given: Sequence[float], targets: NDArray[Any]) -> bool:
    return np.allclose(given, [_value(loss, draw, targets) for draw in draws], rtol=_TOLERANCE, atol=0)


def _agrees_far_off(loss: Loss, function: Any, shape: tuple[int, ...], targets: NDArray[Any]) -> bool:
    """Whether a loss of quantities is the same for large ones, where a hinge is no absolute error any more."""
    if loss.kind.takes != "values" or loss.inside:
        return True
    drawn = np.random.default_rng(1).normal(0, _WIDE, shape)
    try:
        given = float(function(drawn.astype(np.float32), targets))
    except Exception:  # a user's function may raise anything; it is called properly elsewhere
        return False
    return _agree(loss, [drawn], [given], targets)


def answers(
    function: Callable[[NDArray[Any], NDArray[Any]], float], shape: tuple[int, ...], targets: NDArray[Any]
) -> tuple[list[Floats], list[float]] | None:
    """Two random outputs, and what a loss function gives for them; None for one that raises."""
    generator = np.random.default_rng(0)
    draws = [generator.uniform(_LEAST, _MOST, shape) for _ in range(2)]
    try:
        return draws, [float(function(draw.astype(np.float32), targets)) for draw in draws]
    except Exception:  # a user's function may raise anything; it is called properly elsewhere
        return None


def _candidates(shape: tuple[int, ...], targets: NDArray[Any]) -> Iterator[Loss]:
    """All losses that outputs of a shape and these targets can have."""
    for inside in _INSIDE:
        for kind in LOSSES:
            for reduction in _REDUCTIONS:
                if kind.by_class:
                    yield from (Loss(kind, inside, reduction, "same", axis) for axis in class_axes(shape, targets))
                else:
                    yield from (Loss(kind, inside, reduction, each, None) for each in _alignments(shape, targets))


def class_axes(shape: tuple[int, ...], targets: NDArray[Any]) -> Iterator[int]:
    """The axes of the outputs that may hold classes: the last, or the one behind the batch."""
    for axis in dict.fromkeys((len(shape) - 1, 1)):
        if not 0 < axis < len(shape):
            continue
        places = shape[:axis] + shape[axis + 1 :]
        whole = targets.shape in (places, (*places, 1)) and np.issubdtype(targets.dtype, np.integer)
        shares = targets.shape == shape and shape[axis] > 1 and bool((targets >= 0).all())
        if shares or (whole and targets.min() >= 0 and targets.max() < shape[axis]):
            yield axis


def _alignments(shape: tuple[int, ...], targets: NDArray[Any]) -> Iterator[Alignment]:
    if targets.shape == shape:
        yield "same"
        return
    if targets.size == np.prod(shape):
        yield "squeezed"
    elif targets.size == shape[0] and len(shape) > 2:
        yield "repeated"
    try:
        np.broadcast_shapes(shape, targets.shape)
    except ValueError:
        return
    yield "broadcast"


def repeated(targets: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """One target for each example, laid out for all of an example's outputs."""
    return targets.reshape(-1, *(1,) * (len(shape) - 1))


def _value(loss: Loss, outputs: Floats, targets: NDArray[Any]) -> float:
    """What a loss is for some outputs."""
    y = targets if loss.kind.by_class else targets.astype(np.float64)
    if loss.axis is not None:
        places = outputs.shape[: loss.axis] + outputs.shape[loss.axis + 1 :]
        y = np.moveaxis(y, loss.axis, -1) if y.shape == outputs.shape else y.reshape(places)
        outputs = np.moveaxis(outputs, loss.axis, -1)
    elif loss.alignment == "squeezed":
        y = y.reshape(outputs.shape)
    elif loss.alignment == "repeated":
        y = repeated(y, outputs.shape)
    with np.errstate(all="ignore"):
        return _REDUCTIONS[loss.reduction](loss.kind.each(_INSIDE[loss.inside](outputs), y))
