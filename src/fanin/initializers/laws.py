"""What a law tells to draw, as data: the step between an initializer's name and an array.

A draw says everything that an array's values follow, with the fans already worked in; it has a mean, a
variance and a support, and `fills` turns it into numbers.
"""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "TRUNCATED_STD",
    "Constant",
    "Draw",
    "Eye",
    "Fourier",
    "Normal",
    "Orthogonal",
    "TruncatedNormal",
    "Uniform",
]

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal number cut at +-2."""


@dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    mean = property(lambda self: self.value)
    variance = property(lambda self: 0.0)
    support = property(lambda self: (self.value, self.value))


@dataclass(frozen=True)
class Normal:
    """Normal with this mean and standard deviation."""

    mean: float
    stddev: float

    variance = property(lambda self: self.stddev**2)
    support = property(lambda self: (-math.inf, math.inf))


@dataclass(frozen=True)
class TruncatedNormal:
    """Normal cut at two standard deviations from the mean; `stddev` is that *before* the cut."""

    mean: float
    stddev: float

    variance = property(lambda self: (self.stddev * TRUNCATED_STD) ** 2)
    support = property(lambda self: (self.mean - 2 * self.stddev, self.mean + 2 * self.stddev))


@dataclass(frozen=True)
class Uniform:
    """Uniform between two bounds."""

    low: float
    high: float

    mean = property(lambda self: (self.low + self.high) / 2)
    variance = property(lambda self: (self.high - self.low) ** 2 / 12)
    support = property(lambda self: (self.low, self.high))


@dataclass(frozen=True)
class Orthogonal:
    """A Haar-distributed matrix with orthonormal rows or columns, times a gain; one for each gate."""

    gain: float


@dataclass(frozen=True)
class Eye:
    """A matrix with `gain` on its diagonal."""

    gain: float


@dataclass(frozen=True)
class Fourier:
    """The short-time Fourier transform as a kernel of shape (frame, 1, frequencies)."""

    side: Literal["real", "imag"]
    window: str | None
    scaling: Literal["density", "spectrum"] | None
    periodic: bool


Draw = Constant | Normal | TruncatedNormal | Uniform | Orthogonal | Eye | Fourier
