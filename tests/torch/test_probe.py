"""What a batch does to a model, against hooks and a plain backward pass; and weights rescaled as they run."""

import copy
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.torch.adapter import calibrate, describe, probe
from fanin.torch.probe import _SEED, observe

_spec = importlib.util.spec_from_file_location("networks_in_torch", Path(__file__).with_name("networks.py"))
networks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(networks)
NETWORKS, numbers = networks.NETWORKS, networks.numbers


def rms(tensor):
    return float(tensor.detach().double().square().mean().sqrt())


def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 5), nn.Tanh(), nn.Linear(5, 2)
    )


def by_hooks(model, x):
    """The oracle: sizes of every module's output, and of the gradient that a backward pass sends through it."""
    kept = []
    handles = [each.register_forward_hook(lambda _, __, out: kept.append(out)) for each in model]
    x = x.clone().requires_grad_()
    out = model(x)
    for handle in handles:
        handle.remove()
    generator = torch.Generator().manual_seed(_SEED)
    loss = (out * torch.randn(out.shape, generator=generator)).sum()
    return [rms(each) for each in (x, *kept)], [rms(each) for each in torch.autograd.grad(loss, [x, *kept])]


# ------------------------------------------------------------------------------------------------------ probe
@pytest.mark.parametrize("training", [False, True])
def test_sizes_are_those_of_hooks_and_a_backward_pass(training):
    model, x = plain().train(training), numbers(6, 3, 8, 8)
    signals, gradients = by_hooks(copy.deepcopy(model), x)
    found = probe(model, x)
    assert found.layers == ("0:0", "1:0", "2:1", "3:2", "4:3", "5:4", "6:5", "7:6")
    np.testing.assert_allclose(found.signal_rms, signals, rtol=1e-5)
    np.testing.assert_allclose(found.gradient_rms, gradients, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_there_is_one_entry_for_each_step(name):
    build, example = NETWORKS[name]
    model = build()
    info, found = describe(model, example), probe(model, example)
    assert found.layers == tuple(f"{index}:{op.place or op.kind}" for index, op in enumerate(info.ops))
    for op, signal, gradient in zip(info.ops, found.signal_rms, found.gradient_rms, strict=True):
        assert (signal > 0) is (op.name != "index"), op
        assert (gradient > 0) is (op.name != "index"), op
    assert observe(model, example)[0] == info


def test_a_frozen_model_with_words_has_gradients():
    model = NETWORKS["gpt"][0]()
    expected = probe(model, NETWORKS["gpt"][1])
    found = probe(model.requires_grad_(False), NETWORKS["gpt"][1])
    np.testing.assert_allclose(found.gradient_rms, expected.gradient_rms, rtol=0.2)  # other elements are dropped
    assert math.isnan(found.gradient_rms[0])
    with torch.no_grad():
        assert probe(model.eval(), NETWORKS["gpt"][1]) == probe(model.eval(), NETWORKS["gpt"][1])


def test_overwriting_an_input_does_not_break_it():
    torch.manual_seed(0)
    one = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
    other = copy.deepcopy(one)
    other[0], other[2] = nn.ReLU(), nn.ReLU()
    x = numbers(7, 4)
    given = x.clone()
    assert probe(one, x) == probe(other, x)
    assert torch.equal(x, given)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_stays_as_it_was(fails):
    model, x = plain(), numbers(6, 3, 8, 8)
    model[4].weight.grad = torch.ones(5, 144)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    parameters = dict(model.named_parameters())
    if fails:
        with pytest.raises(ModelError, match="could not be run"):
            probe(model, x[:, :2])
    else:
        probe(model, x)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert all(each is parameters[path] for path, each in model.named_parameters())
    assert [each.grad is None for each in model.parameters()].count(False) == 1
    assert model[4].weight.grad.eq(1).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_limit_on_the_rows_of_a_table_changes_nothing():
    """`max_norm` rewrites the table in the forward pass."""
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.1), nn.Linear(3, 2))
    before = model[0].weight.detach().clone()
    probe(model.requires_grad_(False), torch.tensor([[0, 1]]))
    assert torch.equal(model[0].weight, before)
    model(torch.tensor([[0, 1]]))
    assert not torch.equal(model[0].weight, before)


def test_a_model_without_memory_is_refused():
    for verb in (probe, lambda model, x: calibrate(model, x, {"0.weight": 1.0})):
        with pytest.raises(ModelError, match=r"0\.weight"):
            verb(plain().to("meta"), numbers(6, 3, 8, 8))


# -------------------------------------------------------------------------------------------------- calibrate
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
