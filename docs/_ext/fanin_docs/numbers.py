"""The numbers of the theory that pages put into sentences, each by a few words such as ``gain tanh``."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from scipy.stats import truncnorm

from fanin import theory

__all__ = ["NUMBERS", "computed"]


@lru_cache
def _stack(activation: str, sigma_w2: str, layers: str) -> theory.propagation.Propagation:
    return theory.propagate([theory.Layer(activation, float(sigma_w2))] * int(layers))


def _point(activation: str) -> float:
    return theory.universality(activation).k_star


def _behind_batch_norm(activation: str) -> float:
    """By what a layer behind batch normalisation multiplies the second moment of gradients."""
    deep = theory.propagate([theory.Layer(activation, 1.0, norm="batch")] * 3)
    return deep.gradient[1] / deep.gradient[2]


NUMBERS: Mapping[str, Callable[..., float]] = MappingProxyType(
    {
        "gain": theory.gain,
        "squared-gain": lambda activation, kind="second_moment": theory.gain(activation, kind) ** 2,
        "factor": lambda activation, sigma_w2: theory.variance_map(activation, 1.0, float(sigma_w2)),
        "signal": lambda activation, sigma_w2, layers: _stack(activation, sigma_w2, layers).signal[-1],
        "gradient": lambda activation, sigma_w2, layers: _stack(activation, sigma_w2, layers).gradient[0],
        "cosine": lambda activation, sigma_w2, layers: _stack(activation, sigma_w2, layers).cosine[-1],
        "k-star": _point,
        "edge": lambda activation, sigma_b2: theory.critical(activation, sigma_b2=float(sigma_b2))[0].sigma_w2,
        "depth-scale": lambda activation, w, b: theory.depth_scales(activation, float(w), float(b)).xi_c,
        "batch-norm-growth": _behind_batch_norm,
        "cut-normal": lambda bound: float(truncnorm.std(-float(bound), float(bound))),
        "sigma_w2": lambda stddev, fan_in: float(stddev) ** 2 * int(fan_in),
        "smallest-p": lambda seeds: 2.0 ** (1 - int(seeds)),
        "log": lambda value: math.log(float(value)),
    }
)
"""By their first word; the other words are arguments.

``factor``, ``signal``, ``gradient`` and ``cosine`` take an activation and the variance of weights times fan-in; the
last three a number of layers as well. A signal is a second moment of pre-activations that begins with 1, a gradient
one that ends with 1, a cosine that of two inputs that begin with 0.5.
"""


def computed(words: str) -> str:
    """A number to four digits, typeset.

    Raises:
        LookupError: If there is no such number.

    Example:
        >>> computed("gain tanh"), computed("signal relu 1 50")
        ('1.593', '8.882 × 10⁻¹⁶')
    """
    name, *arguments = words.split()
    if name not in NUMBERS:
        raise LookupError(f"there is no number {name!r}; there are {', '.join(NUMBERS)}")
    mantissa, _, exponent = f"{NUMBERS[name](*arguments):.4g}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}" if exponent else mantissa


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
