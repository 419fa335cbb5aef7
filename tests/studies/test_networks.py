import math
from itertools import pairwise

import numpy as np
import pytest

from fanin.experiments.tasks import make_task
from fanin.studies import Conditions
from fanin.studies.networks import (
    Net,
    Setting,
    accuracy,
    distinct_share,
    fit,
    forward,
    gradients,
    measured,
    silent_share,
    started,
)


def small(activation="tanh", sizes=(3, 5, 4, 2)):
    rng = np.random.default_rng(1)
    weights = tuple(rng.normal(size=pair) for pair in pairwise(sizes))
    return Net(weights, tuple(rng.normal(size=units) for units in sizes[1:]), activation)


def loss(net, x, y):
    """The mean cross-entropy, example by example."""
    total = 0.0
    for row, label in zip(x, y, strict=True):
        values = row
        for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            values = (
                np.array([sum(values[k] * weight[k, j] for k in range(len(values))) for j in range(len(bias))]) + bias
            )
            if i + 1 < len(net.weights):
                values = np.tanh(values) if net.activation == "tanh" else np.maximum(values, 0)
        total -= values[label] - math.log(sum(math.exp(v) for v in values))
    return total / len(y)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_are_those_of_small_changes(activation):
    rng = np.random.default_rng(2)
    net, x, y = small(activation), rng.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0])
    by_weight, by_bias, back = gradients(net, x, y)
    step = 1e-6
    for layer in range(3):
        for values, found in ((net.weights, by_weight), (net.biases, by_bias)):
            for index in np.ndindex(values[layer].shape):
                changed = []
                for sign in (1, -1):
                    moved = values[layer].copy()
                    moved[index] += sign * step
                    parts = (*values[:layer], moved, *values[layer + 1 :])
                    other = (parts, net.biases) if values is net.weights else (net.weights, parts)
                    changed.append(loss(Net(*other, activation), x, y))
                assert found[layer][index] == pytest.approx((changed[0] - changed[1]) / (2 * step), abs=1e-7)
        assert back[layer].shape == (6, net.biases[layer].size)
        assert by_bias[layer] == pytest.approx(back[layer].sum(axis=0))


def toy(examples=60):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(examples, 6)).astype(np.float32)
    return make_task("toy", {"x": x, "y": (x @ rng.normal(size=(6, 3))).argmax(axis=1)})


def test_training_is_adam_step_by_step():
    """Against Adam written for one number at a time, on the batches that all engines see."""
    from fanin.training import batch_order

    task, net = toy(), small(sizes=(6, 4, 3))
    setting = Setting("toy", (4,), "tanh", epochs=2, batch_size=10, learning_rate=0.01)
    steps = 2 * (len(task.x_train) // 10)
    values = [np.array(v) for v in (*net.weights, *net.biases)]
    moments = [[[0.0, 0.0] for _ in range(v.size)] for v in values]
    for step, rows in enumerate(batch_order(7, 0, steps, len(task.x_train), 10), 1):
        now = Net(tuple(values[:2]), tuple(values[2:]), "tanh")
        by_weight, by_bias, _ = gradients(now, task.x_train[rows], task.y_train[rows])
        for value, slopes, both in zip(values, (*by_weight, *by_bias), moments, strict=True):
            for i in range(value.size):
                g = float(slopes.flat[i])
                both[i][0] = 0.9 * both[i][0] + 0.1 * g
                both[i][1] = 0.999 * both[i][1] + 0.001 * g * g
                m, v = both[i][0] / (1 - 0.9**step), both[i][1] / (1 - 0.999**step)
                value.flat[i] -= 0.01 * m / (math.sqrt(v) + 1e-7 / math.sqrt(1 - 0.999**step))
    end = fit(net, task, setting, seed=7)
    for ours, expected in zip((*end.weights, *end.biases), values, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_training_leaves_layers_below_as_they_are_and_its_start_alone():
    task, net = toy(), small(sizes=(6, 4, 5, 3))
    before = [weight.copy() for weight in net.weights]
    end = fit(net, task, Setting("toy", (4, 5), "tanh", epochs=1, batch_size=8), seed=0, trained_from=2)
    assert all(np.array_equal(a, b) for a, b in zip(net.weights, before, strict=True))
    assert [np.array_equal(a, b) for a, b in zip(end.weights, before, strict=True)] == [True, True, False]
    assert [np.array_equal(a, b) for a, b in zip(end.biases, net.biases, strict=True)] == [True, True, False]


def test_a_start_has_the_shapes_of_its_data_and_differs_by_seed():
    setting = Setting("digits", (7, 5))
    nets = [started(setting, "he_normal", seed) for seed in (0, 0, 1)]
    assert [weight.shape for weight in nets[0].weights] == [(64, 7), (7, 5), (5, 10)]
    assert np.array_equal(nets[0].weights[1], nets[1].weights[1])
    assert not np.array_equal(nets[0].weights[1], nets[2].weights[1])
    assert all(not bias.any() for bias in nets[0].biases)


def test_digits_are_learnt():
    setting = Setting("digits", (32,), epochs=5)
    end = fit(started(setting, "he_normal", 0), setting.data, setting, 0)
    assert accuracy(end, setting.data.x_test, setting.data.y_test) > 85  # chance is 10


def test_accuracy_does_not_count_what_is_no_number():
    net = Net((np.array([[np.nan, 1.0]]),), (np.zeros(2),), "relu")
    assert accuracy(net, np.ones((4, 1)), np.array([0, 0, 1, 1])) == 0
    net = Net((np.array([[1.0, -1.0]]),), (np.zeros(2),), "relu")
    assert accuracy(net, np.ones((4, 1)), np.array([0, 0, 0, 1])) == 75


def test_distinct_units_are_counted_once_each():
    before = np.array([[1.0, 1.0, 1.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
    after = np.array([[1.0], [1.0], [2.0], [1.0]])  # units 0 and 1 are equal, 2 differs in what goes out
    net = Net((before, after), (np.zeros(4), np.zeros(1)), "relu")
    assert distinct_share(net) == 75
    biased = Net((before, after), (np.array([0.0, 1.0, 0.0, 0.0]), np.zeros(1)), "relu")
    assert distinct_share(biased) == 100
    assert distinct_share(Net((np.zeros((2, 4)), np.zeros((4, 1))), (np.zeros(4), np.zeros(1)), "relu")) == 25


def test_silent_units_are_silent_for_every_example():
    weights = np.array([[1.0, -1.0, 1.0, 0.0]])
    net = Net((weights, np.ones((4, 2))), (np.array([0.0, 0.0, -10.0, 0.0]), np.zeros(2)), "relu")
    assert forward(net, np.array([[1.0], [2.0]]))[0][0].tolist() == [[1, -1, -9, 0], [2, -2, -8, 0]]
    assert silent_share(net, np.array([[1.0], [2.0]])) == 75
    assert silent_share(net, np.array([[1.0], [-2.0]])) == 50


def test_measured_puts_seeds_side_by_side():
    calls = []

    def measure(arm, seed):
        calls.append((arm, seed))
        return {"value": 10 * seed + len(arm)}

    found = measured(Conditions(seeds=3), ("a", "bb"), measure)
    assert found["bb"]["value"].tolist() == [2, 12, 22]
    assert len(calls) == 6
