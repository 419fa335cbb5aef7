"""What a line can reach: against a fit by gradient steps, and against data whose answer is known."""

import numpy as np
import pytest

from fanin.doctor.linear import linear_share, neighbour_share

RNG = np.random.default_rng(5)


def test_the_linear_share_is_what_descent_on_a_line_ends_at() -> None:
    x, noise = RNG.normal(size=(90, 4)), RNG.normal(size=(90, 2))
    y = x @ RNG.normal(size=(4, 2)) + 0.7 * noise + 3
    weight, bias = np.zeros((4, 2)), np.zeros(2)
    for _ in range(4000):
        wrong = x @ weight + bias - y
        weight -= 0.1 * x.T @ wrong / len(x)
        bias -= 0.1 * wrong.mean(axis=0)
    reached = 1 - np.sum((x @ weight + bias - y) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)
    assert linear_share(x, y) == pytest.approx(reached, abs=1e-9)


def test_as_many_features_as_examples_explain_everything() -> None:
    assert linear_share(RNG.normal(size=(20, 19)), RNG.normal(size=(20, 1))) == 1.0


def test_neighbours_are_found_one_by_one() -> None:
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2))
    y[:, 0] = np.sign(x[:, 0] * x[:, 1])
    wrong = 0.0
    for at in range(len(x)):
        apart = [(float(np.sum((x[at] - x[other]) ** 2)), other) for other in range(len(x)) if other != at]
        near = [other for _, other in sorted(apart)[:5]]
        wrong += float(np.sum((y[at] - np.mean([y[other] for other in near], axis=0)) ** 2))
    assert neighbour_share(x, y) == pytest.approx(max(0.0, 1 - wrong / np.sum((y - y.mean(axis=0)) ** 2)))


def test_a_bend_is_told_from_noise() -> None:
    """Targets of noise alone: neighbours explain -1/5 in the mean, with a deviation of about 0.1 at 300 examples."""
    x = RNG.uniform(-1, 1, (300, 2))
    bent = np.sign(x[:, :1] * x[:, 1:])
    assert linear_share(x, bent) < 0.1
    assert neighbour_share(x, bent) > 0.7
    assert neighbour_share(x, RNG.normal(size=(300, 1))) < 0.2


def test_targets_that_are_all_the_same_leave_nothing_to_explain() -> None:
    assert linear_share(RNG.normal(size=(20, 2)), np.ones((20, 1))) == 0.0
