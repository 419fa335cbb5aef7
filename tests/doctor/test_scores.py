import numpy as np
import pytest

from fanin.doctor.losses import LOSSES, Loss
from fanin.doctor.scores import best_constant, score

BY_NAME = {kind.name: kind for kind in LOSSES}
RNG = np.random.default_rng(5)


def loss(name, axis=None):
    return Loss(BY_NAME[name], "", "mean", "same", axis)


def test_accuracy_counts_and_learned_starts_at_the_largest_class():
    y = np.array([0, 0, 0, 1])
    found = score(np.eye(3)[[0, 0, 1, 1]], y, loss("cross-entropy of logits", 1))
    assert (found.value, found.constant, found.learned) == (0.75, 0.75, 0.0)
    assert score(np.eye(3)[y], y, loss("cross-entropy of logits", 1)).learned == 1.0


def test_classes_may_lie_on_axis_1_and_targets_be_shares():
    y = RNG.integers(0, 3, (4, 5))
    outputs = np.moveaxis(np.eye(3)[y], -1, 1)
    assert score(outputs, y, loss("cross-entropy of logits", 1)).value == 1.0
    assert score(outputs, outputs, loss("cross-entropy of logits", 1)).value == 1.0


def test_two_classes_are_told_at_one_half_or_at_zero():
    y = np.array([[1.0], [0.0], [1.0]])
    assert score(np.array([[0.6], [0.4], [0.4]]), y, loss("binary cross-entropy of probabilities")).value == 2 / 3
    assert score(np.array([[0.6], [-0.4], [0.4]]), y, loss("binary cross-entropy of logits")).value == 1.0


def test_explained_variance_is_that_of_a_regression():
    y = RNG.normal(size=(9, 2))
    assert score(np.broadcast_to(y.mean(axis=0), y.shape), y, loss("mean squared error")).value == pytest.approx(0)
    assert score(y, y, loss("mean squared error")).value == 1.0
    assert score(np.full_like(y, np.nan), y, loss("mean squared error")).learned == 0.0


@pytest.mark.parametrize(("name", "y", "axis"), [
    ("cross-entropy of logits", np.array([0, 0, 0, 1, 2]), 1),
    ("binary cross-entropy of logits", np.array([[0.0], [1.0], [1.0], [1.0]]), None),
    ("mean squared error", RNG.normal(size=(8, 1)), None),
    ("mean absolute error", RNG.normal(size=(7, 1)), None),
])  # fmt: skip
def test_no_constant_is_better_than_the_best(name, y, axis):
    """Against a search over constant outputs."""
    units = 3 if axis else y.shape[1]
    found = loss(name, axis)
    tried = [
        found.kind.each(np.broadcast_to(RNG.normal(size=units) * 1.5, (len(y), units)), y).mean() for _ in range(3000)
    ]
    best = best_constant(y, np.zeros((len(y), units)), found)
    assert best <= min(tried) + 1e-9
    assert min(tried) < best + 0.1
