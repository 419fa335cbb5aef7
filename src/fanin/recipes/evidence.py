"""Whether numbers follow a law: tests whose rate of false alarms is bounded for every number of entries.

Each test gives an upper bound of the probability that entries of the law look this wrong or worse. None is an
approximation for many entries: the moments of normal entries have exact distributions, those of bounded ones obey
Bernstein's inequality (with the law's own fourth moment), the smallest and the largest entry have exact
distributions, and the distance of the distribution function obeys that of Dvoretzky, Kiefer and Wolfowitz with
Massart's constant (Annals of Probability 18, 1990).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fanin.initializers.laws import Centred, Draw, Mirrored, Normal, Orthogonal, Sparse, TruncatedNormal, Uniform

__all__ = ["TESTS", "Measured", "Random", "failed", "fault", "likelihood", "measure", "rounding", "tells"]

Random = Normal | TruncatedNormal | Uniform
"""Laws of independent entries that differ from each other."""
Array = NDArray[np.floating]
_SAMPLE = 100_000
_CHUNK = 1 << 20
_FEW = 16
_REACH = 7.0
"""How many standard deviations from its mode no drawn number lies: float32 generators end between 5.2 and 6.8."""
_SHORTEST_REACH = 5.0
_GENERATED = 2.0**-22
"""Relative error of an entry by the arithmetic that drew it in float32."""
_SLACK = 1e-4
"""Relative error of a variance that is no fault: parameters are written with six digits, numbers have seven."""
_ROUNDING = {"bfloat16": (2.0**-8, 0.0), "float16": (2.0**-11, 2.0**-25)}
_ORTHONORMAL = 1e-5
"""How far from orthonormal a matrix may be that was factorised in float32."""
_COLUMNS = 512
"""Of how many columns of a matrix all products are looked at."""


def rounding(dtype: str) -> tuple[float, float]:
    """The relative and the absolute error of one rounding to a type; float32 for wider ones, too.

    Example:
        >>> rounding("bfloat16")
        (0.00390625, 0.0)
    """
    return _ROUNDING.get(dtype, (2.0**-24, 0.0))


@dataclass(frozen=True)
class Measured:
    """What the tests need to know of some entries.

    Attributes:
        low, high: The smallest and the largest.
        sample: At most 100,000 of them, chosen without randomness, sorted.
        relative, absolute: Errors of the rounding to the parameter's type.
    """

    size: int
    mean: float
    variance: float
    low: float
    high: float
    sample: NDArray[np.float64]
    relative: float
    absolute: float

    @property
    def stddev(self) -> float:
        """Their standard deviation."""
        return math.sqrt(self.variance)

    @property
    def repeated(self) -> float:
        """The share of the sample that occurs more than once, zeros left out; 0 for few and for narrow types."""
        entries = self.sample[self.sample != 0]
        if entries.size < _FEW or self.relative > 2.0**-20:
            return 0.0
        same = entries[1:] == entries[:-1]
        return float(np.mean(np.append(same, False) | np.append(False, same)))

    def second(self, centre: float) -> float:
        """Their mean square about a number."""
        return self.variance + (self.mean - centre) ** 2


def measure(values: Array, dtype: str) -> Measured:
    """Measure entries that are all finite, at least one.

    Example:
        >>> measure(np.array([1.0, 3.0]), "float32").variance
        1.0
    """
    flat = values.reshape(-1)
    parts = [flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK)]
    mean = math.fsum(float(part.sum(dtype=np.float64)) for part in parts) / flat.size
    squares = math.fsum(float(np.square(part.astype(np.float64) - mean).sum()) for part in parts)
    step = -(-flat.size // _SAMPLE)
    while math.gcd(step, flat.size) > 1:  # then every row and every column of a matrix is met
        step += 1
    sample = np.sort(flat[::step].astype(np.float64))
    low, high = float(flat.min()), float(flat.max())
    # Rounding leaves a trace of variance in entries that are all the same.
    variance = squares / flat.size if low < high else 0.0
    return Measured(flat.size, mean, variance, low, high, sample, *rounding(dtype))


def failed(law: Random, measured: Measured, level: float) -> str:
    """The first of `TESTS` that entries do not pass; empty where they pass all.

    Args:
        law: With a standard deviation above 0.
        measured: Entries that the tests take as independent.
        level: Rate of false alarms of each test.

    Example:
        >>> entries = measure(np.linspace(-0.5, 0.5, 1001), "float32")
        >>> failed(Uniform(-1.0, 1.0), entries, 1e-6), failed(Uniform(-0.5, 0.5), entries, 1e-6)
        ('size', '')
    """
    return next((name for name, doubt in TESTS.items() if doubt(law, measured) <= level), "")


def tells(law: Random, size: int, level: float) -> bool:
    """Whether so many entries would betray twice the standard deviation at a level.

    Example:
        >>> tells(Normal(0.0, 1.0), 5, 1e-5), tells(Normal(0.0, 1.0), 50, 1e-5)
        (False, True)
    """
    return _size_doubt(law, size, 4 * law.variance, 0.0) <= level


def likelihood(law: Random, measured: Measured) -> float:
    """The logarithm of the likelihood of entries that all lie within the law's support."""
    match law:
        case Uniform(low, high):
            return -measured.size * math.log(high - low)
        case TruncatedNormal(centre, stddev, low, high):
            from scipy.special import ndtr  # heavy: imported where it is used

            kept = math.log(ndtr(high) - ndtr(low))
        case Normal(centre, stddev):
            kept = 0.0
    square = measured.second(centre) / stddev**2
    return -measured.size * (math.log(stddev) + kept + (square + math.log(2 * math.pi)) / 2)


# ------------------------------------------------------------------------------------------------- single tests
def _bernstein(size: int, distance: float, variance: float, most: float) -> float:
    """Bound of the probability that a mean of so many terms, none above `most`, is this far above its expectation."""
    return math.exp(-size * distance**2 / (2 * (variance + most * distance / 3))) if distance > 0 else 1.0


def _ends(law: TruncatedNormal | Uniform) -> tuple[float, float]:
    """The law's support, cut where no drawn number lies."""
    low, high = law.support
    if isinstance(law, Uniform):
        return low, high
    nearest = min(max(0.0, law.low), law.high)
    return (
        max(low, law.centre + (nearest - _REACH) * law.stddev),
        min(high, law.centre + (nearest + _REACH) * law.stddev),
    )


@lru_cache(maxsize=256)
def _kurtosis(law: TruncatedNormal | Uniform) -> float:
    """Fourth moment about the mean, over the squared variance."""
    low, high = _ends(law)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = (low + high) / 2 + nodes * (high - low) / 2
    if isinstance(law, TruncatedNormal):
        nearest = min(max(low, law.centre), high)
        weights = weights * np.exp(((nearest - law.centre) ** 2 - (x - law.centre) ** 2) / (2 * law.stddev**2))
    return float(np.average((x - law.mean) ** 4, weights=weights)) / law.variance**2


def _size_doubt(law: Random, size: int, second: float, relative: float) -> float:
    expected = law.variance
    distance = abs(second - expected) - (_SLACK + relative**2) * expected
    if distance <= 0:
        return 1.0
    larger = second > expected
    if isinstance(law, Normal):
        from scipy.special import gammainc, gammaincc  # heavy: imported where it is used

        tail = gammaincc if larger else gammainc  # the distribution of chi squared
        moved = expected + (distance if larger else -distance)
        return min(1.0, 2 * float(tail(size / 2, size * moved / (2 * expected))))
    furthest = max(abs(end - law.mean) for end in _ends(law)) ** 2
    most = furthest - expected if larger else expected
    return min(1.0, 2 * _bernstein(size, distance, (_kurtosis(law) - 1) * expected**2, most))


def _mean_doubt(law: Random, measured: Measured) -> float:
    stddev = math.sqrt(law.variance)
    distance = abs(measured.mean - law.mean) - _SLACK * stddev / 10
    if distance <= 0:
        return 1.0
    if isinstance(law, Normal):
        return math.erfc(distance / stddev * math.sqrt(measured.size / 2))
    most = max(abs(end - law.mean) for end in _ends(law))
    return min(1.0, 2 * _bernstein(measured.size, distance, law.variance, most))


def _below(law: Random, x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The probability of an entry of at most x."""
    from scipy.special import ndtr  # heavy: imported where it is used

    match law:
        case Uniform(low, high):
            share = (np.asarray(x) - low) / (high - low)
        case TruncatedNormal(centre, stddev, low, high):
            share = (ndtr((np.asarray(x) - centre) / stddev) - ndtr(low)) / (ndtr(high) - ndtr(low))
        case Normal(mean, stddev):
            share = ndtr((np.asarray(x) - mean) / stddev)
    return np.clip(share, 0.0, 1.0)


def _mirrored(law: Random) -> Random:
    """The law of the negatives, whose lower end keeps the digits of this one's upper end."""
    match law:
        case Uniform(low, high):
            return Uniform(-high, -low)
        case TruncatedNormal(centre, stddev, low, high):
            return TruncatedNormal(-centre, stddev, -high, -low)
        case Normal(mean, stddev):
            return Normal(-mean, stddev)


def _range_doubt(law: Random, measured: Measured) -> float:
    """Of the smallest and the largest entry: too far out among all, or too near among the sample."""
    found = []
    for each, outer, inner in (
        (law, measured.low, float(measured.sample[0])),
        (_mirrored(law), -measured.high, -float(measured.sample[-1])),
    ):
        slack = (measured.relative + _GENERATED) * max(abs(outer), abs(inner)) + measured.absolute
        found.append(measured.size * float(_below(each, outer + slack)))
        if inner > each.mean - _SHORTEST_REACH * math.sqrt(law.variance):
            beyond = min(float(_below(each, inner - slack)), 1 - 2.0**-53)
            found.append(math.exp(measured.sample.size * math.log1p(-beyond)))
    return min(1.0, 4 * min(found))


def _shape_doubt(law: Random, measured: Measured) -> float:
    """Of the largest distance between distribution functions, where each entry stands for all that round to it."""
    x = measured.sample
    half = measured.relative * np.abs(x) + measured.absolute
    steps = np.arange(x.size + 1) / x.size
    # Among equal entries the outer ones carry the whole step.
    above = float(np.max(steps[np.searchsorted(x, x, side="right")] - _below(law, x + half)))
    under = float(np.max(_below(law, x - half) - steps[np.searchsorted(x, x, side="left")]))
    distance = max(above, under) - _SLACK / 10
    return min(1.0, 2 * math.exp(-2 * x.size * distance**2)) if distance > 0 else 1.0


TESTS: Mapping[str, Callable[[Random, Measured], float]] = MappingProxyType({
    "size": lambda law, measured: _size_doubt(law, measured.size, measured.second(law.mean), measured.relative),
    "mean": _mean_doubt,
    "range": _range_doubt,
    "shape": _shape_doubt,
})  # fmt: skip
"""By name a bound of the probability that entries of a law look this wrong or worse: their mean square about the law's
mean, their mean, the smallest and the largest of them, their distribution function."""


# ---------------------------------------------------------------------------------------------------- structure
def fault(law: Draw, blocks: Array, middle: int, dtype: str, level: float) -> str:
    """What is wrong with blocks that should follow a random law with structure; empty for nothing.

    Args:
        law: Orthogonal, mirrored, sparse, or orthogonal at the kernel's centre.
        blocks: Shape (blocks, kernel positions, inputs, units); each block a weight of its own.
        middle: The position of the kernel's centre.
        dtype: The parameter's type, whose rounding is allowed.
        level: Rate of false alarms of each test that is not certain.
    """
    count, receptive, rows, columns = blocks.shape
    matrices = blocks.reshape(count, receptive * rows, columns)
    match law:
        case Orthogonal():
            return _orthogonal_fault(law, matrices, dtype, level)
        case Centred(matrix=Orthogonal() as matrix):
            if np.any(np.delete(blocks, middle, axis=1)):
                return "is not zero beside the kernel's centre"
            return _orthogonal_fault(matrix, blocks[:, middle], dtype, level)
        case Mirrored(block, inputs, outputs):
            for axis in [2] * inputs + [3] * outputs:
                first, second = np.split(blocks, 2, axis=axis)
                if not np.array_equal(first, -second):
                    return "its halves are not each other's negatives"
                blocks = first
            return _orthogonal_fault(block, blocks.reshape(count, -1, blocks.shape[3]), dtype, level)
        case Sparse():
            return _sparse_fault(law, matrices, dtype, level)
        case _:
            raise TypeError(law)


def _orthogonal_fault(law: Orthogonal, matrices: Array, dtype: str, level: float) -> str:
    """Columns are taken evenly spread where there are many; rows where they are fewer."""
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.swapaxes(1, 2)
    _, length, width = matrices.shape
    chosen = matrices[:, :, np.linspace(0, width - 1, min(width, _COLUMNS)).round().astype(int)] / law.gain
    error = np.abs(chosen.swapaxes(1, 2) @ chosen - np.eye(chosen.shape[2], dtype=chosen.dtype)).max()
    if not error <= _ORTHONORMAL + 4 * rounding(dtype)[0]:
        what = "columns" if law.rows >= law.columns else "rows"
        return f"its {what} are not orthogonal with the length {abs(law.gain):.4g}: off by {error:.2g}"
    from scipy.special import betainc  # heavy: imported where it is used

    largest = float(np.abs(matrices).max() / abs(law.gain))
    # The squared entries of a random direction follow a beta law.
    beyond = float(betainc((length - 1) / 2, 0.5, max(0.0, 1 - largest**2))) if length > 1 else 1.0
    if matrices.size * beyond <= level:
        return f"orthogonal, but no random rotation: it has an entry of {largest * abs(law.gain):.4g}"
    return ""


def _sparse_fault(law: Sparse, matrices: Array, dtype: str, level: float) -> str:
    zeros = np.count_nonzero(matrices == 0, axis=1)
    if (zeros != law.zeros).any():
        return f"{zeros.min()} to {zeros.max()} inputs of a unit are cut off instead of {law.zeros}"
    rest = matrices[matrices != 0]
    if not rest.size or not failed(Normal(0.0, law.stddev), measure(rest, dtype), level):
        return ""
    return f"its entries that are not zero are not normal with standard deviation {law.stddev:.4g}"
