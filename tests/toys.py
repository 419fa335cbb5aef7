"""Short trainings on a toy task, the same for the trainers of all frameworks, and what their results must be."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.experiments.tasks import make_task
from fanin.initializers import draw_param
from fanin.recipes import single
from fanin.records import Call, ModelInfo, Program, Run, RunResult, Settings, Task
from fanin.training import Weights

SETTINGS = Settings(Call("adam"), batch_size=16, epochs=2, evaluations=3)
LARGEST_TOLERANCE = 2e-3
"""No comparison may be looser, or it could not tell one run from another."""


def toy_task() -> Task:
    """150 examples of shape 6 x 5 x 2 in 3 classes: no two axes alike, so that a swapped layout shows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    x = rng.normal(size=(150, 6, 5, 2)) + y[:, None, None, None]
    return make_task("toy", {"x": x.astype(np.float32), "y": y})


def run(seed: int, init: str = "glorot_uniform", rate: float = 0.01) -> Run:
    return Run("toy", "", "m", "", "", init, seed, rate, "adam", 16, 2, 3, "test")


def weights_for(info: ModelInfo) -> Weights:
    """A run's initial weights, drawn as a comparison draws them."""
    plans: dict[str, Any] = {}

    def weights(each: Run) -> Mapping[str, NDArray[np.float32]]:
        plan = plans.setdefault(each.init, single(info, each.init))
        return {entry.param.path: draw_param(entry.param, entry.init, each.seed) for entry in plan.chosen}

    return weights


def ours(trained: Any, program: Program, runs: list[Run]) -> dict[Run, RunResult]:
    return dict(trained.train(program, runs))


def facts(result: RunResult) -> str:
    """All of a result but its time, comparable bit for bit."""
    return replace(result, seconds=0.0).to_json()


def assert_near(
    results: Sequence[RunResult],
    plain: NDArray[np.float64],
    jolted: NDArray[np.float64],
    marks: Sequence[int],
    task: Task,
) -> None:
    """Results are those of a plain loop, but for rounding.

    The yardstick is what rounding can do: the effect of changing the start by a few units in the last place.

    Args:
        results: Of one run, however it was executed.
        plain: The training loss of each step, then loss and accuracy on the test data, and accuracy on as many
            training examples as there are for validation.
        jolted: The same of a loop whose weights were moved at random by a share of 1e-6.
        marks: Steps done before each evaluation.
        task: What was trained on.
    """
    means = [plain[a:b].mean() for a, b in itertools.pairwise((0, *marks))]
    tolerance = 1e-5 + 10 * np.abs(plain - jolted)[:-2].max()
    assert tolerance < LARGEST_TOLERANCE
    assert results
    for result in results:
        np.testing.assert_allclose([*result.train_loss, result.test_loss], [*means, plain[-3]], rtol=0, atol=tolerance)
        assert abs(result.test_metric - plain[-2]) <= 1.5 / len(task.x_test)
        assert abs(result.train_metric[-1] - plain[-1]) <= 1.5 / len(task.x_val)


def dense_signals(
    x: NDArray[Any],
    y: NDArray[Any],
    weights: Sequence[NDArray[Any]],
    biases: Sequence[NDArray[Any] | float] = (0.0, 0.0),
) -> tuple[list[NDArray[np.float64]], list[float]]:
    """The oracle for two dense layers with tanh between and cross-entropy behind, in plain NumPy.

    Args:
        x: Rows of 60 numbers.
        y: Classes.
        weights: Of the shapes (60, 7) and (7, 3).
        biases: One for each layer.

    Returns:
        The pre-activations of both layers; the root mean squares of these and of the loss's gradients for them.
    """
    first, last = (each.astype(np.float64) for each in weights)
    before = x.astype(np.float64) @ first + biases[0]
    hidden = np.tanh(before)
    logits = hidden @ last + biases[1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    back = (shares - np.eye(logits.shape[1])[y]) / len(x)
    sides = before, logits, (back @ last.T) * (1 - hidden**2), back
    return [before, logits], [float(np.sqrt(np.mean(np.square(each)))) for each in sides]
