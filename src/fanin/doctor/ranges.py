"""Which outputs an activation can give, and which targets lie beyond."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.facts import Facts

__all__ = ["RANGES", "SLACK", "outside", "range_of", "reach"]

RANGES = {
    "relu": (0.0, np.inf), "relu6": (0.0, 6.0), "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0),
    "softplus": (0.0, np.inf), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0), "elu": (-1.0, np.inf), "gelu": (-0.17, np.inf), "silu": (-0.28, np.inf),
    "selu": (-1.76, np.inf), "mish": (-0.31, np.inf), "exponential": (0.0, np.inf),
}  # fmt: skip
"""What an activation can give."""
SLACK = 0.02
"""Share of a range by which targets may lie outside: smoothed and rounded labels."""


def reach(facts: Facts) -> tuple[float, float]:
    """Between which numbers the outputs lie by the activation that they end in."""
    return RANGES.get(facts.endings[-1] if facts.endings else "", (-np.inf, np.inf))


def outside(y: NDArray[Any], low: float, high: float) -> float:
    """The share of targets outside of a range, as far as they are no smoothed or rounded labels."""
    slack = SLACK * (high - low) if np.isfinite(high - low) else SLACK
    return float(np.mean((y < low - slack) | (y > high + slack)))


def range_of(facts: Facts, index: int) -> tuple[float, float]:
    """Between which numbers the outputs of an activation lie."""
    op = facts.ops[index]
    if op.function is None:
        return RANGES.get(op.name, (-np.inf, np.inf))
    ends = np.asarray(op.function(np.linspace(-100.0, 100.0, 2001)), np.float64)
    return float(np.nanmin(ends)), float(np.nanmax(ends))
