"""More batches to train on, for the second part of the corpus.

Every function returns inputs and targets as NumPy arrays, the same at every call.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus import data

__all__ = [
    "actions",
    "adjacency",
    "bags",
    "community",
    "counts",
    "first_step",
    "masks",
    "needle",
    "outliers",
    "points",
    "prices",
    "product",
    "ratings",
    "series",
    "some_empty",
    "twins",
    "two_moons",
]

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


def needle(length: int = 10) -> tuple[Floats, Whole]:
    """Rows of tokens, each with one of three kinds and a mark; the class is the kind of the one marked token."""
    rng = np.random.default_rng(20)
    kinds = rng.integers(0, 3, (192, length))
    place = rng.integers(0, length, 192)
    x = np.zeros((192, length, 4), np.float32)
    x[..., :3] = np.eye(3)[kinds]
    x[np.arange(192), place, 3] = 1.0
    return x, kinds[np.arange(192), place].astype(np.int64)


def first_step(length: int = 30) -> tuple[Floats, Whole]:
    """Rows whose first step alone tells which of three classes they are of; the rest is one noise for all."""
    rng = np.random.default_rng(21)
    labels = rng.integers(0, 3, 128)
    x = np.tile(0.3 * rng.normal(size=(length, 4)), (128, 1, 1))
    x[:, 0, :3] += 2 * np.eye(3)[labels]
    return x.astype(np.float32), labels.astype(np.int64)


def actions() -> tuple[Floats, Floats]:
    """Six features and what each of three actions is worth, from about -2 to 2."""
    rng = np.random.default_rng(22)
    x = rng.normal(size=(192, 6))
    worth = np.stack([x[:, 0] * x[:, 1], np.sin(2 * x[:, 2]) - x[:, 3], x[:, 4] - np.abs(x[:, 5])], 1)
    return x.astype(np.float32), ((worth - worth.mean(0)) / worth.std(0)).astype(np.float32)


def counts() -> tuple[Floats, Floats]:
    """Five features and a count from 0 to about 30."""
    rng = np.random.default_rng(23)
    x = rng.normal(size=(192, 5))
    rate = np.exp(1.0 + 0.6 * x[:, 0] - 0.5 * x[:, 1] * (x[:, 2] > 0))
    return x.astype(np.float32), rng.poisson(rate).astype(np.float32)[:, None]


def outliers() -> tuple[Floats, Floats]:
    """Prices of `data.houses`, of which one in twenty is ten times too far from the middle."""
    x, y = data.houses()
    wrong = np.arange(len(y)) % 20 == 7
    return x, np.where(wrong[:, None], 4 * y, y).astype(np.float32)


def ratings() -> tuple[Whole, Floats]:
    """A user and an item as numbers, and the rating, standardised."""
    rng = np.random.default_rng(24)
    users, items = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    pairs = np.stack([rng.integers(0, 30, 400), rng.integers(0, 20, 400)], 1)
    rating = (users[pairs[:, 0]] * items[pairs[:, 1]]).sum(1)
    return pairs.astype(np.int64), (rating / rating.std()).astype(np.float32)[:, None]


def product() -> tuple[Floats, Floats]:
    """Two numbers and their product."""
    x = np.random.default_rng(25).normal(size=(192, 2))
    return x.astype(np.float32), (x[:, :1] * x[:, 1:]).astype(np.float32)


def points() -> tuple[Floats, Whole]:
    """Sets of 24 points of a ring, of a cross or of a filled square."""
    rng = np.random.default_rng(26)
    labels = rng.integers(0, 3, 128)
    angle, along = rng.uniform(0, 2 * np.pi, (128, 24)), rng.uniform(-1, 1, (128, 24))
    side = rng.random((128, 24)) < 0.5
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    cross = np.where(side[..., None], np.stack([along, 0 * along], -1), np.stack([0 * along, along], -1))
    square = rng.uniform(-1, 1, (128, 24, 2))
    x = np.choose(labels[:, None, None], [ring, cross, square]) + 0.05 * rng.normal(size=(128, 24, 2))
    return x.astype(np.float32), labels.astype(np.int64)


def _community() -> tuple[NDArray[np.float64], Whole]:
    rng = np.random.default_rng(27)
    labels = np.repeat(np.arange(3), 20)
    likely = np.where(labels[:, None] == labels, 0.4, 0.03)
    upper = np.triu(rng.random((60, 60)) < likely, 1)
    return (upper + upper.T + np.eye(60)).astype(np.float64), labels.astype(np.int64)


def community() -> tuple[Floats, Whole]:
    """The nodes of a graph, each told only by its number, and the group that it is in."""
    return np.eye(60, dtype=np.float32), _community()[1]


def adjacency() -> Floats:
    """Who is linked with whom in `community`, divided by the roots of how many links each has."""
    links = _community()[0]
    root = np.sqrt(links.sum(1))
    return (links / root[:, None] / root).astype(np.float32)


def masks(high: float = 1.0, channels_last: bool = False) -> tuple[Floats, Floats]:
    """Noisy pictures and a mask of the bright square, 0 and `high`."""
    x, labels = data.squares(channels_last)
    mask = (labels == 1).astype(np.float32) * high
    return x, mask[..., None] if channels_last else mask[:, None]


def series(length: int = 20) -> tuple[Floats, Floats]:
    """Noisy waves of several lengths, and the next value."""
    rng = np.random.default_rng(28)
    step, phase = rng.uniform(0.2, 0.6, (160, 1)), rng.uniform(0, 2 * np.pi, (160, 1))
    wave = np.sin(step * np.arange(length + 1) + phase) + 0.03 * rng.normal(size=(160, length + 1))
    return wave[:, :-1, None].astype(np.float32), wave[:, -1:].astype(np.float32)


def prices(raw: bool) -> tuple[Floats, Floats]:
    """`series` as prices about 2500, or as it is."""
    x, y = series()
    return (2500 + 300 * x, 2500 + 300 * y) if raw else (x, y)


def bags(words: int = 600) -> tuple[Floats, Whole]:
    """Texts as rows of counts, of which 97 in 100 are zero, and which of three subjects they have."""
    rng = np.random.default_rng(29)
    labels = rng.integers(0, 3, 160)
    x = np.zeros((160, words), np.float32)
    for row, label in zip(x, labels, strict=True):
        kinds = np.where(rng.random(20) < 0.5, label, rng.integers(0, 3, 20))
        np.add.at(row, kinds + 3 * rng.integers(0, words // 3, 20), 1.0)
    return x, labels.astype(np.int64)


def some_empty() -> tuple[Whole, Whole]:
    """Sentences filled up with word 0, of which two are empty."""
    rows, labels = data.sentences(padding=True)
    rows = rows.copy()
    rows[[5, 90]] = 0
    return rows, labels


def twins() -> tuple[Any, Floats]:
    """`data.pairs` of which some are one picture twice; 1 if the two are different digits."""
    (one, two), same = data.pairs()
    two = two.copy()
    two[:8:2] = one[:8:2]
    return (one, two), 1 - same


def two_moons() -> tuple[Floats, Floats]:
    """`data.moons`, the class as 0 or 1 in a column."""
    x, labels = data.moons()
    return x, labels.astype(np.float32)[:, None]
