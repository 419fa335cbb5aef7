"""What MetaInit and GradInit share; the methods themselves are tested with each framework."""

import numpy as np
import pytest

from fanin.errors import FaninError, InvalidValueError, ModelError, UnknownNameError
from fanin.recipes.tuning import (
    FirstStep,
    Measured,
    check_output,
    check_settings,
    check_targets,
    checked_paths,
    descended,
    drawn_targets,
    first_step,
    refuse_zero,
)

GOAL = np.array([0.3, -0.2, 0.0])


def bowl(logs):
    """Lowest at the goal, and only past a fence in the first direction does the constraint hold."""
    return Measured(float(((logs - GOAL) ** 2).sum()), bool(logs[0] > 0.1), 2 * (logs - GOAL) + 1e-9)


def test_the_descent_is_the_one_written_down():
    logs, velocity, met, told = [0.0] * 3, [0.0] * 3, [], []
    for step in range(9):
        value, holds, slopes = bowl(np.array(logs))
        met.append((not holds, value, list(logs)))
        for i in range(3):
            velocity[i] = 0.9 * velocity[i] - 0.1 * 0.5 * (1 - step / 8) * np.sign(slopes[i])
            logs[i] += velocity[i]
    best = min(met)
    assert met[0][0] > best[0]
    found = descended(bowl, ["a", "b", "c"], 8, 0.5, lambda *at: told.append(at))
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_allclose(list(found.values()), np.exp(best[2]), rtol=1e-12)
    assert told == [(step, 8) for step in range(9)]


@pytest.mark.parametrize(
    ("value", "slopes", "message"),
    [
        (np.nan, [1.0, 0.0], "derivative of the loss is not finite.*nan at step 0"),
        (1.0, [np.inf, 0.0], "derivative of the loss is not finite"),
        (1.0, [0.0, 0.0], "change nothing"),
    ],
)
def test_what_no_descent_can_follow_is_refused(value, slopes, message):
    with pytest.raises(ModelError, match=message):
        descended(lambda logs: Measured(value, True, np.array(slopes)), ["a", "b"], 3, 0.1, None)


def test_the_first_step_lets_a_tenth_be_taken_off_the_loss():
    """The norm to its power, times the learning rate."""
    for optimizer, rate in (("adam", None), ("adam", 0.02), ("sgd", None), ("sgd", 0.4)):
        step = first_step(optimizer, rate, None)
        assert step.gamma**step.norm * step.learning_rate == pytest.approx(0.1)
    assert first_step("adam", 0.5, 3.0) == FirstStep(1, 0.5, 3.0)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: first_step("adma", None, None), UnknownNameError, "Did you mean adam"),
        (lambda: first_step("sgd", 0.0, None), InvalidValueError, "learning_rate is out of range"),
        (lambda: first_step("sgd", 0.1, -1.0), InvalidValueError, "gamma is out of range"),
        (lambda: check_settings(rate=float("nan")), InvalidValueError, "rate is out of range"),
        (lambda: check_settings(steps=1.5), InvalidValueError, "steps is out of range.*whole number"),
        (lambda: checked_paths(["wieght"], ["weight"]), UnknownNameError, "Did you mean weight"),
        (lambda: checked_paths([], ["weight"]), InvalidValueError, "No weight to tune.*weight"),
        (lambda: refuse_zero(["a", "b"]), ModelError, "all zero.*a, b"),
        (lambda: check_output((1, 2), "(batch, units)"), ModelError, "No loss for these outputs.*tuple"),
        (lambda: check_output(np.zeros(2), "(batch, units)"), ModelError, r"No loss.*shape \(2,\)"),
        (lambda: check_targets((6,), (6, 3, 4), axis=1), ModelError, r"do not fit.*\(6, 4\) for outputs of"),
        (lambda: check_targets((6, 3), (6, 3, 4), axis=None), ModelError, r"do not fit.*\(6, 3, 4\)"),
    ],
)
def test_a_mistake_is_named(call, kind: type[FaninError], message):
    with pytest.raises(kind, match=message):
        call()


def test_what_is_right_passes():
    check_settings(steps=1, rate=1e-3)
    check_output(np.zeros((2, 1)), "")
    check_targets((6, 4), (6, 3, 4), axis=1)
    check_targets((6, 3), (6, 3, 4), axis=-1)
    check_targets((6, 3), (6, 3), axis=None)
    refuse_zero([])


def test_random_targets_are_classes_or_numbers_of_one_unit():
    """All 5 classes come among 140: none is missing with probability 1 - 5 * 0.8**140, and the seed is fixed."""
    drawn = drawn_targets((7, 5, 20), axis=1)
    assert drawn.shape == (7, 20)
    assert set(drawn.ravel().tolist()) == set(range(5))
    np.testing.assert_array_equal(drawn_targets((7, 20, 5), axis=-1), drawn)
    numbers = drawn_targets((9, 1), axis=-1)
    assert numbers.shape == (9, 1)
    assert numbers.dtype == np.float64
