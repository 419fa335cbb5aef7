"""Predicted second moments of signal and gradient, against plain NumPy on wide networks."""

import numpy as np
import pytest

from fanin.recipes import decided
from fanin.recipes.flow import backward, forward
from fanin.recipes.graph import Graph
from fanin.records import ModelInfo, Op
from tests.recipes.models import mlp, residual_mlp, run


@pytest.mark.parametrize("info", [mlp(4, 1500, "relu"), mlp(4, 1500, "gelu"), residual_mlp(3, 600, "tanh")])
def test_forward_predicts_what_he_weights_do(info):
    """Six standard errors of a width of 600 (2 / 600 per layer in relative variance): 35 %; seeds are fixed."""
    plan = decided(info, "he_normal", rules={"*.bias": "zeros"}, seed=1)
    predicted = forward(Graph(info), lambda i, _: 2.0, lambda i, _: 1.0)
    for step, output in zip(predicted[1:], run(info, plan)[1:], strict=True):
        assert np.square(output).mean() == pytest.approx(step.second, rel=0.35)


def test_backward_multiplies_by_what_each_step_does():
    info = mlp(3, 50, "relu")
    graph = Graph(info)
    signals = forward(graph, lambda i, _: 1.5, lambda i, _: 1.0)
    norms = backward(graph, signals, {i: 1.5 for i, op in enumerate(info.ops) if op.kind == "weight"})
    np.testing.assert_allclose(norms[::-1], [1, 1.5, 0.75, 1.125, 0.5625, 0.84375], rtol=1e-9)


def test_a_residual_addition_hands_the_gradient_to_both():
    ops = (Op("input", (), (2, 4)), Op("weight", (0,), (2, 4), ("w",)), Op("add", (0, 1), (2, 4)))
    graph = Graph(ModelInfo("torch", (), ops, (2,)))
    signals = forward(graph, lambda i, _: 0.25, lambda i, _: 1.0)
    assert [signal.second for signal in signals] == [1.0, 0.25, 1.25]
    assert backward(graph, signals, {1: 0.25}) == [1.25, 1.0, 1.0]


def test_a_rectified_stream_passes_relu_again():
    ops = (
        Op("input", (), (2, 4)), Op("activation", (0,), (2, 4), name="relu"), Op("weight", (1,), (2, 4), ("w",)),
        Op("add", (1, 2), (2, 4)), Op("activation", (3,), (2, 4), name="relu"),
    )  # fmt: skip
    signals = forward(Graph(ModelInfo("torch", (), ops, (4,))), lambda i, _: 0.02, lambda i, _: 1.0)
    assert (signals[4].second, signals[4].rectified) == (signals[3].second, True)


def test_batch_normalisation_takes_the_common_part_off_before_it_divides():
    """ReLU's mean is 1 / pi of its second moment, so gradients grow by pi / (pi - 1): Yang et al. 2019."""
    ops = (
        Op("input", (), (2, 4)), Op("activation", (0,), (2, 4), name="relu"), Op("weight", (1,), (2, 4), ("w",)),
        Op("norm", (2,), (2, 4), name="batch"),
    )  # fmt: skip
    graph = Graph(ModelInfo("torch", (), ops, (3,)))
    signals = forward(graph, lambda i, _: 2.0, lambda i, _: 1.0)
    assert backward(graph, signals, {2: 2.0})[2] == pytest.approx(np.pi / (np.pi - 1))
