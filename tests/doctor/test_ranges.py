"""What outputs can reach: each range against the layer itself, over numbers from -100 to 100."""

import numpy as np
import pytest
import torch
from torch import nn

from fanin.doctor.ranges import RANGES, outside

LAYERS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "tanh": nn.Tanh,
          "hard_sigmoid": nn.Hardsigmoid, "hard_tanh": nn.Hardtanh, "softsign": nn.Softsign, "elu": nn.ELU,
          "gelu": nn.GELU, "silu": nn.SiLU, "selu": nn.SELU, "mish": nn.Mish}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_range_holds_all_that_the_layer_gives_and_hardly_more(name: str) -> None:
    given = LAYERS[name]()(torch.linspace(-100, 100, 20001, dtype=torch.float64))
    low, high = RANGES[name]
    assert low <= given.min() <= low + 0.011
    assert given.max() == 100 * (1.0507009873554805 if name == "selu" else 1) if np.isinf(high) else (
        high - 0.011 <= given.max() <= high
    )  # fmt: skip


def test_the_share_of_targets_outside_leaves_smoothed_labels_alone() -> None:
    y = np.array([-0.01, 0.0, 0.5, 1.0, 1.01, 1.3, -0.2, 4.0])
    assert outside(y, 0.0, 1.0) == 3 / 8
    assert outside(y, 0.0, np.inf) == 1 / 8
    assert outside(y, -np.inf, np.inf) == 0
