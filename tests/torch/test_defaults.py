"""The recipe torch_default against what PyTorch's own modules draw: bounds are exact, so none is ever passed."""

import pytest
import torch
from torch import nn

from fanin.recipes import decided
from fanin.torch.adapter import describe

MODULES = {
    "linear": lambda: nn.Linear(70, 90),
    "conv": lambda: nn.Conv2d(12, 18, (3, 2), groups=3),
    "transposed": lambda: nn.ConvTranspose2d(12, 18, (3, 2), groups=3),
    "lstm": lambda: nn.LSTM(20, 24, proj_size=10),
    "gru": lambda: nn.GRU(20, 24),
    "rnn": lambda: nn.RNN(20, 24),
    "bilinear": lambda: nn.Bilinear(20, 24, 15),
    "attention": lambda: nn.MultiheadAttention(24, 2),
    "attention, separate": lambda: nn.MultiheadAttention(24, 2, kdim=16, vdim=20),
}


@pytest.mark.parametrize("name", MODULES)
def test_bounds_are_those_of_torch(name: str) -> None:
    """The largest of n uniform numbers misses its bound by more than 3 % once in (1 / 0.97) ** n: n is 50 or more
    for weights; a bias of 15 comes within 40 %."""
    torch.manual_seed(1)
    module = MODULES[name]()
    for entry in decided(describe(module), "torch_default").entries:
        largest = module.get_parameter(entry.param.path).abs().max().item()
        if entry.init.name == "zeros":
            assert largest == 0, entry
            continue
        if entry.init.name == "glorot_uniform":
            rows, columns = entry.param.shape
            bound = (6 / (rows + columns)) ** 0.5
        else:
            bound = entry.init.params["maxval"]
        share = 0.97 if len(entry.param.shape) > 1 else 0.6
        assert share * bound < largest <= bound * (1 + 1e-6), entry
