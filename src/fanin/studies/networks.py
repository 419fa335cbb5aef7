"""A dense network trained in plain NumPy, for what a comparison does not keep: the weights while they are trained.

Numbers are float64, and equal units get exactly equal numbers, so that symmetry is not broken by rounding alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.activations import activation
from fanin.initializers import sample
from fanin.records import Task
from fanin.studies.comparisons import part_of
from fanin.studies.records import Conditions
from fanin.training import batch_order, steps_per_epoch

__all__ = [
    "Array", "Net", "Setting", "accuracy", "distinct_share", "fit", "forward", "gradients", "measured", "silent_share",
    "started",
]  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What is trained: the design of a study that trains here.

    Attributes:
        widths: Units of the hidden layers.
        examples: Number of training examples; None for all.
    """

    task: str
    widths: tuple[int, ...]
    activation: str = "relu"
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 0.003
    examples: int | None = None

    @property
    def data(self) -> Task:
        """The task, or its first examples."""
        return part_of(self.task, self.examples)


@dataclass(frozen=True)
class Net:
    """A dense network; it is never changed, a step of training makes a new one.

    Attributes:
        weights: Of each layer, shape (in, out).
        biases: Of each layer, shape (out,).
        activation: Between the layers; the output is logits.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str


def started(setting: Setting, init: str, seed: int) -> Net:
    """The network with its initial weights; biases are 0."""
    task = setting.data
    sizes = (int(np.prod(task.x_train.shape[1:])), *setting.widths, task.outputs)
    weights = tuple(
        sample(init, (inputs, units), seed=seed, name=f"layer {i}").astype(np.float64)
        for i, (inputs, units) in enumerate(pairwise(sizes))
    )
    return Net(weights, tuple(np.zeros(units) for units in sizes[1:]), setting.activation)


def forward(net: Net, x: NDArray[Any]) -> tuple[list[Array], list[Array]]:
    """The pre-activations of each layer (the last are the logits), and what goes into each layer."""
    phi = activation(net.activation).phi
    inputs, before = [x.reshape(len(x), -1).astype(np.float64)], []
    for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        before.append(inputs[-1] @ weight + bias)
        if i + 1 < len(net.weights):
            inputs.append(phi(before[-1]))
    return before, inputs


def gradients(net: Net, x: NDArray[Any], y: NDArray[Any]) -> tuple[list[Array], list[Array], list[Array]]:
    """Gradients of the mean cross-entropy: for weights, biases and pre-activations of each layer."""
    slope = activation(net.activation).slope
    assert slope is not None  # every activation of the table has one
    before, inputs = forward(net, x)
    shares = np.exp(before[-1] - before[-1].max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(y)), y] -= 1
    back = [shares / len(y)]
    for weight, z in zip(net.weights[:0:-1], before[-2::-1], strict=True):
        back.append((back[-1] @ weight.T) * slope(z))
    back.reverse()
    return [a.T @ g for a, g in zip(inputs, back, strict=True)], [g.sum(axis=0) for g in back], back


def fit(net: Net, task: Task, setting: Setting, seed: int, *, trained_from: int = 0) -> Net:
    """The network after training with Adam.

    Args:
        net: As it starts.
        task: The data.
        setting: Epochs, batch size, learning rate.
        seed: Of the order of the data; a seed orders the data in the same way for all networks.
        trained_from: The first layer that is trained; those below stay as they are.
    """
    x, size = task.x_train.reshape(len(task.x_train), -1), min(setting.batch_size, len(task.x_train))
    values = [*net.weights[trained_from:], *net.biases[trained_from:]]
    first, second = ([np.zeros_like(value) for value in values] for _ in range(2))
    steps = setting.epochs * steps_per_epoch(len(x), size)
    for step, rows in enumerate(batch_order(seed, 0, steps, len(x), size), 1):
        by_weight, by_bias, _ = gradients(net, x[rows], task.y_train[rows])
        rate = setting.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for i, slope in enumerate([*by_weight[trained_from:], *by_bias[trained_from:]]):
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            values[i] = values[i] - rate * first[i] / (np.sqrt(second[i]) + 1e-7)
        half = len(values) // 2
        net = Net(
            (*net.weights[:trained_from], *values[:half]), (*net.biases[:trained_from], *values[half:]), net.activation
        )
    return net


def accuracy(net: Net, x: NDArray[Any], y: NDArray[Any]) -> float:
    """Percentage of examples that are predicted right; an output that is not a number is no prediction."""
    logits = forward(net, x)[0][-1]
    right = (logits.argmax(axis=1) == y) & np.isfinite(logits).all(axis=1)
    return 100 * float(right.mean())


def distinct_share(net: Net) -> float:
    """Percentage of the hidden units that differ from all others of their layer, each set of equal ones counted once.

    Units are equal if what goes in and what goes out are equal to six digits of the layer's largest weight.
    """
    units = found = 0
    for before, bias, after in zip(net.weights, net.biases, net.weights[1:], strict=False):
        rows = np.concatenate([before.T, bias[:, None], after], axis=1)
        largest = float(np.abs(rows).max())
        found += len(np.unique(np.round(rows / largest if largest else rows, 6) + 0.0, axis=0))
        units += len(rows)
    return 100 * found / units


def silent_share(net: Net, x: NDArray[Any]) -> float:
    """Percentage of the hidden units that are 0 or below for every example: dead ones under ReLU."""
    silent = [(z <= 0).all(axis=0) for z in forward(net, x)[0][:-1]]
    return 100 * float(np.concatenate(silent).mean())


def measured(
    conditions: Conditions, arms: Sequence[str], measure: Callable[[str, int], Mapping[str, float]]
) -> dict[str, dict[str, Array]]:
    """What `measure` finds for each arm and seed: arrays by seed, by arm and quantity."""
    conditions.progress.total(len(arms) * conditions.seeds, len(arms) * conditions.seeds)
    found: dict[str, list[Mapping[str, float]]] = {arm: [] for arm in arms}
    for seed in range(conditions.seeds):
        for arm in arms:
            found[arm].append(measure(arm, seed))
            conditions.progress.advance(1)
            conditions.progress.finished(1)
    return {arm: {name: np.array([row[name] for row in rows]) for name in rows[0]} for arm, rows in found.items()}
