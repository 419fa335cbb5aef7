"""Weights that are rescaled while a model runs, against the sizes that its layers then give."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.torch.adapter import calibrate
from tests.torch.networks import numbers, plain, rms


def test_a_model_without_memory_is_refused():
    with pytest.raises(ModelError, match=r"0\.weight"):
        calibrate(plain().to("meta"), numbers(6, 3, 8, 8), {"0.weight": 1.0})


MOMENTS = {"second_moment": lambda x: x.square().mean(), "variance": lambda x: x.var(correction=0)}


@pytest.mark.parametrize("of", MOMENTS)
def test_every_output_has_the_wanted_size_after_all_earlier_ones_were_rescaled(of):
    model, x = plain().eval(), numbers(6, 3, 8, 8)
    old = copy.deepcopy(model.state_dict())
    targets = {"6.weight": 0.5, "0.weight": 2.0, "4.weight": 3.0}
    factors = calibrate(model, x, targets, of=of)
    assert list(factors) == ["0.weight", "4.weight", "6.weight"]
    signal = x
    for index, layer in enumerate(model):
        if f"{index}.weight" in targets:
            out = layer(signal)
            shift = layer.bias.view(-1, 1, 1) if out.dim() > 2 else layer.bias
            assert float(MOMENTS[of](out.detach() - shift.detach())) == pytest.approx(
                targets[f"{index}.weight"], rel=1e-4
            )
        signal = layer(signal)
    for path, factor in factors.items():
        torch.testing.assert_close(model.state_dict()[path], old[path] * factor)
    assert all(torch.equal(each, old[key]) for key, each in model.state_dict().items() if key not in factors)
    again = calibrate(model, x, targets, of=of)
    np.testing.assert_allclose(list(again.values()), 1, rtol=1e-4)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.raw = nn.Linear(4, 4), nn.Parameter(numbers(4, 6))
        self.conv = nn.ConvTranspose1d(1, 2, 3)

    def forward(self, x):
        x = functional.relu(self.layer(functional.relu(self.layer(x))))
        return self.conv((x @ (self.raw * 0.3) + 1).unsqueeze(1))


def test_a_shared_weight_counts_at_its_first_use_and_a_scaled_one_before_the_scale():
    model, x = Shared(), numbers(9, 4)
    calibrate(model, x, {"layer.weight": 2.0, "raw": 3.0, "conv.weight": 0.7})
    first = x @ model.layer.weight.T
    second = functional.relu(model.layer(functional.relu(model.layer(x))))
    assert rms(first) ** 2 == pytest.approx(2, rel=1e-4)
    assert rms(second @ model.raw) ** 2 == pytest.approx(3, rel=1e-4)
    given = (second @ (model.raw * 0.3) + 1).unsqueeze(1)
    assert rms(model.conv(given) - model.conv.bias[:, None]) ** 2 == pytest.approx(0.7, rel=1e-4)


def test_weight_normalisation_is_rescaled_with_its_lengths():
    model, x = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), numbers(9, 4)
    calibrate(model, x, {"parametrizations.weight.original1": 2.0})
    assert rms(x @ model.weight.T) ** 2 == pytest.approx(2, rel=1e-4)
    lengths = torch.norm_except_dim(model.parametrizations.weight.original1, 2, 0)
    torch.testing.assert_close(model.parametrizations.weight.original0, lengths)


MISTAKES = {
    "path": ({"0.wieght": 1.0}, UnknownNameError, "0.wieght"),
    "target": ({"0.weight": 0.0}, InvalidValueError, "0.weight"),
    "infinite": ({"0.weight": math.inf}, InvalidValueError, "0.weight"),
    "not a weight": ({"0.weight": 2.0, "1.weight": 1.0}, ModelError, "1.weight"),
    "zero": ({"0.weight": 2.0, "4.weight": 3.0, "6.weight": 1.0}, ModelError, "6.weight"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_after_a_mistake_every_weight_is_as_before(name):
    targets, kind, words = MISTAKES[name]
    model = plain()
    with torch.no_grad():
        model[6].weight.zero_()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(kind, match=words):
        calibrate(model, numbers(6, 3, 8, 8), targets)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


def test_a_weight_whose_scale_the_model_takes_out_again_is_refused():
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))
    with pytest.raises(ModelError, match="no effect"):
        calibrate(model, numbers(9, 4), {"parametrizations.weight.original": 2.0})
