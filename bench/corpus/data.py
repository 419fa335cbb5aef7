"""Batches to train on: handwritten digits, and made-up data from which something can be learned.

Every function returns inputs and targets as NumPy arrays, the same at every call. Digits are 128 pictures of
8 x 8 pixels of scikit-learn, in random order.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

__all__ = [
    "blobs",
    "copies",
    "digits",
    "houses",
    "imbalanced",
    "moons",
    "one_hot",
    "pairs",
    "parity",
    "sentences",
    "squares",
    "story",
    "waves",
]

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
Regression = tuple[NDArray[np.float32], NDArray[np.float32]]
SCALES = {"standard": (4.88, 6.02), "unit": (0.0, 16.0), "pixels": (0.0, 16 / 255)}
"""What is subtracted from, and what divides, pixels from 0 to 16: mean 0 and spread 1, 0 to 1, 0 to 255."""


@cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order], labels[order].astype(np.int64)


def digits(shape: tuple[int, ...] = (64,), scale: str = "standard", count: int = 128, offset: float = 0.0) -> Batch:
    """Digits in one of `SCALES`, each of the given shape, and their labels."""
    pixels, labels = _digits()
    centre, spread = SCALES[scale]
    return ((pixels[:count] - centre) / spread + offset).reshape(-1, *shape).astype(np.float32), labels[:count]


def one_hot(shape: tuple[int, ...] = (64,), scale: str = "standard", count: int = 128) -> Regression:
    """Digits, their labels as rows of zeros and a one."""
    x, labels = digits(shape, scale, count)
    return x, np.eye(10, dtype=np.float32)[labels]


def parity(low: float = 0.0, column: bool = True, scale: str = "standard") -> Regression:
    """Digits, and for each 1 if it is odd, else `low`; in a column or not."""
    x, labels = digits(scale=scale)
    y = np.where(labels % 2 == 1, 1.0, low).astype(np.float32)
    return x, y[:, None] if column else y


def copies(shape: tuple[int, ...] = (64,), scale: str = "unit", low: float = 0.0, high: float = 1.0) -> Regression:
    """Digits to give back, the targets from `low` to `high`."""
    return digits(shape, scale)[0], digits(shape, "unit")[0] * (high - low) + low


def imbalanced() -> Regression:
    """Digits, of which the fours are to be found: one in ten."""
    x, labels = digits(count=256)
    return x, (labels == 4).astype(np.float32)[:, None]


def pairs() -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]:
    """Two digits of the first three, and whether they are the same; half are."""
    x, labels = digits(count=1024)
    rng = np.random.default_rng(1)
    groups = [np.flatnonzero(labels == digit) for digit in range(3)]
    first = rng.integers(0, 3, 192)
    second = np.where(np.arange(192) % 2 == 0, first, (first + rng.integers(1, 3, 192)) % 3)
    one, two = (x[[rng.choice(groups[digit]) for digit in side]] for side in (first, second))
    return (one, two), (first == second).astype(np.float32)[:, None]


def moons(scale: float = 1.0, offset: float = 0.0) -> Batch:
    """Points of a chequerboard of 2 x 2 fields with a gap, two classes that no line parts."""
    rng = np.random.default_rng(2)
    points = rng.uniform(0.15, 1.5, (192, 2)) * rng.choice([-1.0, 1.0], (192, 2))
    return (scale * points + offset).astype(np.float32), (points[:, 0] * points[:, 1] > 0).astype(np.int64)


def blobs(features: int = 20, classes: int = 4) -> Batch:
    """Standard normal clouds around centres that are 2 to 3 apart in each direction."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, classes, 160)
    centres = rng.normal(size=(classes, features)) * 1.5
    points = centres[labels] + rng.normal(size=(160, features))
    return ((points - points.mean(0)) / points.std(0)).astype(np.float32), labels.astype(np.int64)


def waves(column: bool = True, low: float = -1.0, scale: float = 1.0, years: bool = False) -> Regression:
    """A sum of two sines of one number from -2 to 2, or of the year 1900 to 2020; the mean is about 0."""
    x = np.sort(np.random.default_rng(4).uniform(-2, 2, 192))
    y = 0.7 * np.sin(2 * x) + 0.3 * np.cos(5 * x)
    y = (np.maximum(y, low) * scale).astype(np.float32)
    return ((1960 + 30 * x) if years else x).astype(np.float32)[:, None], y[:, None] if column else y


def houses(raw_inputs: bool = False, raw_targets: bool = False, column: bool = True) -> Regression:
    """Prices from rooms, area, age, year, income and population; standardised, or as they are: 1 to 10^5.

    Prices as they are stand in dollars.
    """
    rng = np.random.default_rng(5)
    normal = rng.normal(size=(192, 6))
    price = normal @ [0.5, 0.6, -0.3, 0.2, 0.6, -0.1] + 0.4 * normal[:, 0] * normal[:, 4] + 0.3 * np.abs(normal[:, 1])
    price = (price - price.mean()) / price.std()
    x = normal * [1.2, 60, 15, 20, 3e4, 4e5] + [5, 140, 30, 1975, 6e4, 1e6] if raw_inputs else normal
    y = (9e4 * price + 3e5 if raw_targets else price).astype(np.float32)
    return x.astype(np.float32), y[:, None] if column else y


def sentences(words: int = 50, length: int = 12, padding: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of words, and which of three kinds of words is the most frequent; with `padding` word 0 fills the end."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 192)
    kinds = np.where(rng.random((192, length)) < 0.6, labels[:, None], rng.integers(0, 3, (192, length)))
    rows = 1 + kinds + 3 * rng.integers(0, (words - 1) // 3, (192, length))
    if padding:
        rows = np.where(np.arange(length) < rng.integers(6, length + 1, 192)[:, None], rows, 0)
    return rows, labels


def story(words: int = 32, length: int = 16) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of words and the word after each, which a fixed random table mostly tells from the word before."""
    rng = np.random.default_rng(7)
    table = rng.permutation(words)
    rows = rng.integers(0, words, (96, length + 1))
    for place in range(length):
        follows = rng.random(96) < 0.9
        rows[:, place + 1] = np.where(follows, table[rows[:, place]], rows[:, place + 1])
    return rows[:, :-1], rows[:, 1:]


def squares(channels_last: bool = False, size: int = 16) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Noisy pictures with a bright and a dark square, and for each pixel 1, 2 or 0 for neither."""
    rng = np.random.default_rng(8)
    labels = np.zeros((64, size, size), np.int64)
    for label in (1, 2):
        for picture, (row, column) in zip(labels, rng.integers(0, size - 5, (64, 2)), strict=True):
            picture[row : row + 5, column : column + 5] = label
    pictures = np.array([0.0, 1.5, -1.5])[labels] + 0.5 * rng.normal(size=labels.shape)
    x = (pictures / pictures.std()).astype(np.float32)
    return (x[..., None] if channels_last else x[:, None]), labels
