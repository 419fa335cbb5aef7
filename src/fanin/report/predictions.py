"""What theory expects of the networks of a comparison before the first step, where it speaks: plain dense ones."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.experiments.spec import Arm, Experiment
from fanin.initializers import INITIALIZERS, decide
from fanin.initializers.fans import Fans
from fanin.initializers.laws import Draw, Normal, Orthogonal, TruncatedNormal, Uniform
from fanin.theory import Layer, propagate
from fanin.training import SIGNAL_BATCH

__all__ = ["Predicted", "predicted"]

_RANDOM = (Normal, TruncatedNormal, Uniform, Orthogonal)
"""Laws of numbers that are independent, or as good as that in a wide layer."""


@dataclass(frozen=True)
class Predicted:
    """Root mean squares by layer, the first hidden layer first.

    Attributes:
        signal: Of the pre-activations, for the examples that were measured.
        gradient: Of the loss's gradient with respect to them, relative to that of the last layer.
    """

    signal: tuple[float, ...]
    gradient: tuple[float, ...]


def predicted(experiment: Experiment, arm: Arm) -> Predicted | None:
    """What theory expects of one initializer for infinite width; None where it does not speak.

    It speaks of ``mlp`` networks whose weights are of one initializer, random with mean 0, and whose signal neither
    dies nor explodes.
    """
    if experiment.model.kind != "mlp" or arm.init.name not in INITIALIZERS:
        return None
    x = experiment.task.x_train[:SIGNAL_BATCH]
    sizes = (int(np.prod(x.shape[1:])), *experiment.model.sizes, experiment.task.outputs)
    scales = [inputs * _variance(decide(arm.init, Fans(inputs, units))) for inputs, units in pairwise(sizes)]
    if min(scales) <= 0:
        return None
    start = scales[0] * float(np.mean(np.square(x, dtype=np.float64)))
    try:
        found = propagate([Layer(arm.activation, scale) for scale in scales[1:]], start)
    except (InvalidValueError, UnknownNameError):  # the signal dies or explodes, or no table knows the activation
        return None
    # The theory's gradients are those of equal widths; a unit of a narrower layer sums over more of them.
    widths = [sizes[-1] / units for units in sizes[1:]]
    gradient = tuple(math.sqrt(size * ratio) for size, ratio in zip(found.gradient, widths, strict=True))
    return Predicted(tuple(map(math.sqrt, found.signal)), gradient)


def _variance(draw: Draw) -> float:
    """Of the weights; 0 where they are none of which theory speaks."""
    return float(draw.variance) if isinstance(draw, _RANDOM) and draw.mean == 0 else 0.0
