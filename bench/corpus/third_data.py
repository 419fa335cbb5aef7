"""More batches to train on, for the third part of the corpus.

Every function returns inputs and targets as NumPy arrays, the same at every call.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus import data, second_data

__all__ = [
    "bags_with_empty",
    "bends",
    "captions",
    "copied",
    "double_division",
    "frost",
    "grades",
    "links",
    "mixtures",
    "padded",
    "places",
    "returns",
    "rewards",
    "scaled_words",
    "stamped",
    "turns",
    "two_scales",
    "z_scores",
]

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


def rewards() -> tuple[Any, Floats]:
    """A state and one of three actions, and the reward: one number for each, not in a column."""
    states, worth = second_data.actions()
    chosen = np.random.default_rng(40).integers(0, 3, len(states))
    return (states, np.eye(3, dtype=np.float32)[chosen]), worth[np.arange(len(states)), chosen]


def turns() -> tuple[Floats, Floats]:
    """Features of an angle, and the angle as a point of the unit circle; one in eight is the angle 0."""
    rng = np.random.default_rng(41)
    angle = np.where(np.arange(160) % 8 == 0, 0.0, rng.uniform(-2.5, 2.5, 160))
    x = np.stack([angle, np.sin(angle), np.abs(angle) - 1.0, rng.normal(size=160)], 1)
    return x.astype(np.float32), np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def bends() -> tuple[Floats, Floats]:
    """Places of a string and how much it bends there."""
    x = np.random.default_rng(42).uniform(-2, 2, (160, 1))
    return x.astype(np.float32), -np.sin(2 * x).astype(np.float32)


def mixtures() -> tuple[Floats, Floats]:
    """Six features and the shares of four substances, which are positive and sum to 1."""
    rng = np.random.default_rng(43)
    x = rng.normal(size=(192, 6))
    raised = np.exp(x @ rng.normal(size=(6, 4)) * 0.7)
    return x.astype(np.float32), (raised / raised.sum(1, keepdims=True)).astype(np.float32)


def links() -> Floats:
    """Who is linked with whom in `second_data.community`, each also with itself: ones and zeros."""
    return (second_data.adjacency() > 0).astype(np.float32)


def returns(scale: float = 0.001) -> tuple[Floats, Floats]:
    """`data.houses` with targets of the size of a daily return."""
    x, y = data.houses()
    return x, y * np.float32(scale)


def double_division() -> tuple[Floats, Whole]:
    """Pixels from 0 to 1 from which a mean and a spread are taken that were meant for 0 to 255."""
    x, y = data.digits(scale="unit")
    return ((x - 0.3 / 255) / (0.37 / 255)).astype(np.float32), y


def places(length: int = 10) -> tuple[Floats, Whole]:
    """Rows of noisy tokens, and at which place the marked one is."""
    rng = np.random.default_rng(44)
    place = rng.integers(0, length, 192)
    x = rng.normal(size=(192, length, 4))
    x[np.arange(192), place, :2] += 2.5
    return x.astype(np.float32), place.astype(np.int64)


def captions(count: int = 48) -> tuple[Any, Whole]:
    """Pictures and words for each, all turned by one random matrix, and the number of the row that goes with each."""
    rng = np.random.default_rng(45)
    picture = rng.normal(size=(count, 24))
    words = np.tanh(picture @ rng.normal(size=(24, 16)) / 5) + 0.1 * rng.normal(size=(count, 16))
    return (picture.astype(np.float32), words.astype(np.float32)), np.arange(count)


def padded(extra: int = 60) -> tuple[Whole, Whole]:
    """`data.sentences` followed by word 0 many times."""
    rows, labels = data.sentences()
    return np.pad(rows, ((0, 0), (0, extra))), labels


def scaled_words() -> tuple[Floats, Whole]:
    """Numbers of words divided by how many words there are."""
    rows, labels = data.sentences()
    return (rows / 50).astype(np.float32), labels


def grades(lowest: int = 3) -> tuple[Floats, Whole]:
    """Twenty features and one of six grades, the first of which is `lowest`."""
    x, labels = data.blobs(20, 6)
    return x, labels + lowest


def stamped(raw: bool) -> tuple[Floats, Floats]:
    """`data.houses` and the seconds since 1970 as one more feature, or the same standardised."""
    x, y = data.houses()
    moment = np.random.default_rng(46).normal(size=(len(x), 1))
    return np.hstack([x, 1.6e9 + 3e7 * moment if raw else moment]).astype(np.float32), y


def z_scores(smallest: float) -> tuple[Floats, Whole]:
    """Each pixel less its mean and divided by its spread; some pixels are the same in all pictures."""
    x, y = data.digits(scale="unit")
    with np.errstate(invalid="ignore"):
        return ((x - x.mean(0)) / (x.std(0) + np.float32(smallest))).astype(np.float32), y


def frost(shift: float = -3.0) -> tuple[Floats, Floats]:
    """`data.waves` moved below zero."""
    x, y = data.waves()
    return x, y + np.float32(shift)


def two_scales(dollars: float = 1e5) -> tuple[Floats, Floats]:
    """Six features, a share and a price in dollars, or a price of the share's size."""
    x, y = data.houses()
    share = np.tanh(x[:, :1] - x[:, 1:2])
    return x, np.hstack([share, y * dollars + 3 * dollars * (dollars > 1)]).astype(np.float32)


def bags_with_empty() -> tuple[Floats, Whole]:
    """`second_data.bags`, three of which have no word."""
    x, labels = second_data.bags()
    x = x.copy()
    x[[3, 40, 90]] = 0
    return x, labels


def copied() -> tuple[Floats, Floats]:
    """Standardised digits to give back."""
    x, _ = data.digits()
    return x, x
