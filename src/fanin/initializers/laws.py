"""What a law tells to draw, as data: the step between an initializer's name and an array.

A draw says everything that an array's values follow, with the fans already worked in. Its `mean` and
`variance` are those of an entry of the weight taken at random, its `support` the range of the entries.
(The Fourier kernel has none.) Independent draws are turned into numbers by `fills`, structured ones by `structures`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = [
    "TRUNCATED_STD",
    "Centred",
    "Constant",
    "Draw",
    "Eye",
    "Fourier",
    "Hadamard",
    "Independent",
    "Mirrored",
    "Normal",
    "Orthogonal",
    "Sinusoidal",
    "Sparse",
    "Structured",
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
    """Normal cut `low` and `high` standard deviations from the centre.

    `centre` and `stddev` are the mean and the standard deviation *before* the cut.
    """

    centre: float
    stddev: float
    low: float = -2.0
    high: float = 2.0

    @property
    def mean(self) -> float:
        """The mean that remains after the cut."""
        return self.centre + self.stddev * _cut_moments(self.low, self.high)[0]

    @property
    def variance(self) -> float:
        """The variance that remains after the cut."""
        return self.stddev**2 * _cut_moments(self.low, self.high)[1]

    @property
    def support(self) -> tuple[float, float]:
        """The cut; the centre alone where there is no spread."""
        if self.stddev == 0:
            return self.centre, self.centre
        return self.centre + self.low * self.stddev, self.centre + self.high * self.stddev


@lru_cache(maxsize=64)
def _cut_moments(low: float, high: float) -> tuple[float, float]:
    """Mean and variance of a standard normal number cut to an interval (Johnson, Kotz, Balakrishnan 1994)."""
    if (low, high) == (-2.0, 2.0):
        return 0.0, TRUNCATED_STD**2
    from scipy.stats import truncnorm  # accurate in the tails, where the closed form cancels

    mean, variance = truncnorm.stats(low, high)
    return float(mean), float(variance)


@dataclass(frozen=True)
class Uniform:
    """Uniform between two bounds, which rounding to float32 can reach."""

    low: float
    high: float

    mean = property(lambda self: (self.low + self.high) / 2)
    variance = property(lambda self: (self.high - self.low) ** 2 / 12)
    support = property(lambda self: (self.low, self.high))


@dataclass(frozen=True)
class Orthogonal:
    """A Haar-distributed matrix (rows x columns, kernel positions among the rows) whose singular values are `gain`."""

    gain: float
    rows: int
    columns: int

    mean = property(lambda self: 0.0)
    variance = property(lambda self: self.gain**2 / max(self.rows, self.columns))
    support = property(lambda self: (-abs(self.gain), abs(self.gain)))


@dataclass(frozen=True)
class Eye:
    """A matrix with `gain` on its diagonal."""

    gain: float
    rows: int
    columns: int

    mean = property(lambda self: self.gain / max(self.rows, self.columns))
    variance = property(lambda self: self.gain**2 / max(self.rows, self.columns) - self.mean**2)
    support = property(lambda self: (min(0.0, self.gain), max(0.0, self.gain)))


@dataclass(frozen=True)
class Hadamard:
    """The first rows and columns of a Hadamard matrix, all entries `+-gain` times the same number (columns > rows)."""

    gain: float
    rows: int
    columns: int

    @property
    def entry(self) -> float:
        """Size of the entries: ``gain * 2 ** ((1 - m) / 2)`` where 2**m is the order of the whole matrix."""
        return self.gain * 2 ** ((1 - math.ceil(math.log2(self.columns))) / 2)

    @property
    def mean(self) -> float:
        """Mean of the entries, which is not zero."""
        order = math.ceil(math.log2(self.columns))
        return self.entry * _hadamard_sum(self.rows, self.columns, order) / (self.rows * self.columns)

    variance = property(lambda self: self.entry**2 - self.mean**2)
    support = property(lambda self: (-abs(self.entry), abs(self.entry)))


@lru_cache(maxsize=1024)
def _hadamard_sum(rows: int, columns: int, order: int) -> int:
    """Sum of the first rows and columns of the Hadamard matrix of size 2**order, quadrant by quadrant."""
    if rows <= 0 or columns <= 0:
        return 0
    if order == 0:
        return 1
    half = 2 ** (order - 1)
    above, left = min(rows, half), min(columns, half)
    return (
        _hadamard_sum(above, left, order - 1)
        + _hadamard_sum(above, columns - half, order - 1)
        + _hadamard_sum(rows - half, left, order - 1)
        - _hadamard_sum(rows - half, columns - half, order - 1)
    )


@dataclass(frozen=True)
class Centred:
    """A matrix at the centre of the kernel and zeros at its other positions.

    Attributes:
        matrix: What the weight does at the centre.
        receptive: How many positions the kernel has.
        upper: Which of the two middles an even size has: ``k // 2`` or, if false, ``(k - 1) // 2``.
    """

    matrix: Orthogonal | Eye | Hadamard
    receptive: int
    upper: bool

    mean = property(lambda self: self.matrix.mean / self.receptive)
    variance = property(lambda self: (self.matrix.variance + self.matrix.mean**2) / self.receptive - self.mean**2)

    @property
    def support(self) -> tuple[float, float]:
        """The matrix's range and, beside it, 0."""
        low, high = self.matrix.support
        return (low, high) if self.receptive == 1 else (min(low, 0.0), max(high, 0.0))


@dataclass(frozen=True)
class Mirrored:
    """A block and its negatives: ``[[B, -B], [-B, B]]`` over inputs and units, or over one of the two."""

    block: Orthogonal
    inputs: bool
    outputs: bool

    mean = property(lambda self: 0.0)
    variance = property(lambda self: self.block.variance)
    support = property(lambda self: self.block.support)


@dataclass(frozen=True)
class Sparse:
    """Normal numbers, but `zeros` of the `rows` inputs of each unit (kernel positions counted) are cut off."""

    stddev: float
    zeros: int
    rows: int

    mean = property(lambda self: 0.0)
    variance = property(lambda self: self.stddev**2 * (1 - self.zeros / self.rows))
    support = property(lambda self: (-math.inf, math.inf))


@lru_cache(maxsize=64)
def _wave_moments(rows: int, columns: int) -> tuple[float, float]:
    """Mean and mean square of the waves: a wave over whole periods has 0 and 1/2, one that aliases is constant."""
    total = square = 0.0
    for unit in range(1, columns + 1):
        phase = math.sin(2 * math.pi * (unit % columns) / columns)
        total += phase if unit % rows == 0 else 0.0
        square += phase**2 if 2 * unit % rows == 0 else 0.5
    return total / columns, square / columns


@dataclass(frozen=True)
class Sinusoidal:
    """Unit i of `columns` gets ``amplitude * sin(2 pi i (j / rows + 1 / columns))`` at its inputs j; i from 1.

    `rms` is the root mean square of the entries.
    """

    rms: float
    rows: int
    columns: int

    amplitude = property(lambda self: self.rms / math.sqrt(_wave_moments(self.rows, self.columns)[1]))
    mean = property(lambda self: self.amplitude * _wave_moments(self.rows, self.columns)[0])
    variance = property(lambda self: self.rms**2 - self.mean**2)
    support = property(lambda self: (-self.amplitude, self.amplitude))


@dataclass(frozen=True)
class Fourier:
    """The short-time Fourier transform as a kernel of shape (frame, 1, frequencies)."""

    side: Literal["real", "imag"]
    window: str | None
    scaling: Literal["density", "spectrum"] | None
    periodic: bool


Independent = Constant | Normal | TruncatedNormal | Uniform
"""Laws whose entries are independent, so that any slice can be drawn alone."""
Structured = Orthogonal | Eye | Hadamard | Centred | Mirrored | Sparse | Sinusoidal | Fourier
"""Laws whose entries depend on each other, so that a slice is cut from the whole."""
Draw = Independent | Structured
