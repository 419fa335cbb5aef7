"""How much a model has learned, on a scale that no loss function and no unit moves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.losses import Loss, repeated

__all__ = ["Score", "best_constant", "score"]


@dataclass(frozen=True)
class Score:
    """How good outputs are.

    Attributes:
        measure: ``accuracy`` or ``explained variance``.
        value: Of the outputs; not a number where an output is not finite.
        constant: What the best constant output reaches.
    """

    measure: str
    value: float
    constant: float

    @property
    def learned(self) -> float:
        """0 for no better than a constant, 1 for all that there is to learn."""
        if not np.isfinite(self.value):
            return 0.0
        return max(0.0, (self.value - self.constant) / max(1e-9, 1 - self.constant))


def score(outputs: NDArray[Any], targets: NDArray[Any], loss: Loss) -> Score:
    """The accuracy of outputs for classes, the variance that they explain for numbers.

    Args:
        outputs: What the model returned.
        targets: Of the shape that the loss takes.
        loss: Says what the outputs mean.

    Example:
        >>> from fanin.doctor.losses import LOSSES
        >>> logits = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
        >>> score(logits, np.array([0, 1, 1]), Loss(LOSSES[0], "", "mean", "same", 1)).value
        0.6666666666666666
    """
    finite = bool(np.isfinite(outputs).all())
    if loss.axis is not None:
        right = _classes(targets, outputs, loss.axis)
        found = outputs.argmax(axis=loss.axis)
        share = np.unique(right, return_counts=True)[1].max() / right.size
        return Score("accuracy", float((found == right).mean()) if finite else np.nan, float(share))
    y = targets.astype(np.float64)
    y = repeated(y, outputs.shape) if loss.alignment == "repeated" else y
    guess = outputs.astype(np.float64).reshape(y.shape) if outputs.size == y.size else np.asarray(outputs, np.float64)
    if loss.kind.takes == "values":
        spread = float(((y - y.mean(axis=0)) ** 2).mean())
        wrong = float(((guess - y) ** 2).mean()) if finite else np.nan
        return Score("explained variance", 1 - wrong / spread if spread > 0 else np.nan, 0.0)
    positive = y > 0.5
    share = max(positive.mean(), 1 - positive.mean())
    sure = guess > (0.0 if loss.kind.takes == "logits" and loss.inside != "sigmoid" else 0.5)
    return Score("accuracy", float((sure == positive).mean()) if finite else np.nan, float(share))


def _classes(targets: NDArray[Any], outputs: NDArray[Any], axis: int) -> NDArray[Any]:
    if targets.shape == outputs.shape:
        return np.asarray(targets.argmax(axis=axis))
    return targets.reshape(outputs.shape[:axis] + outputs.shape[axis + 1 :])


def best_constant(targets: NDArray[Any], outputs: NDArray[Any], loss: Loss) -> float:
    """The mean loss, per example and output, of the best answer that does not look at the inputs.

    The entropy of the labels for a cross-entropy, the variance for squared errors, the mean distance from the median
    for absolute ones; for a Huber loss the bound that squared errors give.

    Example:
        >>> from fanin.doctor.losses import LOSSES
        >>> round(best_constant(np.array([0, 1, 1, 0]), np.zeros((4, 2)), Loss(LOSSES[0], "", "mean", "same", 1)), 4)
        0.6931
    """
    if loss.axis is not None:
        counts = np.unique(_classes(targets, outputs, loss.axis), return_counts=True)[1]
        shares = counts / counts.sum()
        return float(-(shares * np.log(shares)).sum())
    y = targets.astype(np.float64).reshape(len(targets), -1)
    if loss.kind.takes == "values":
        if loss.kind.name == "mean absolute error":
            return float(np.abs(y - np.median(y, axis=0)).mean())
        return float(((y - y.mean(axis=0)) ** 2).mean()) * (0.5 if loss.kind.name == "Huber loss" else 1.0)
    shares = np.clip(y.mean(axis=0), 1e-12, 1 - 1e-12)
    return float(-(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean())
