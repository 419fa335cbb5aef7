"""What a batch does to a model, against hooks and a plain backward pass; `test_vitals.py` has the other statistics."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fanin.torch.probe as fanin_probe
from fanin.errors import ModelError, UnknownNameError
from fanin.torch.adapter import describe, probe
from fanin.torch.probe import _SEED, observe
from tests.torch.networks import NETWORKS, numbers, plain, rms


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


def test_other_values_are_those_of_a_model_that_holds_them():
    """A tied parameter has them twice; the model keeps its own."""
    model, x, y = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), numbers(9, 6), numbers(9, 6)
    model[2].weight = model[0].weight
    other = copy.deepcopy(model)
    with torch.no_grad():
        for each in other.parameters():
            each.mul_(-3)
    before = copy.deepcopy(model.state_dict())
    values = {path: each.detach().numpy() for path, each in other.named_parameters()}
    assert probe(model, x, y, "mse_loss", values=values) == probe(other, x, y, "mse_loss")
    assert probe(model, x, y, "mse_loss") != probe(other, x, y, "mse_loss")
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    with pytest.raises(UnknownNameError, match="no_such"):
        probe(model, x, values={"no_such": values["0.bias"]})


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


class _Turned(nn.Module):
    """Uses a view, and then multiplies the memory that it lies in, or a copy of that."""

    def __init__(self, in_place):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.shift, self.in_place = nn.Linear(4, 6), nn.Parameter(numbers(6, 7)), in_place

    def forward(self, x):
        h = self.linear(x)
        turned = h.t() + self.shift
        h = h.mul_(3) if self.in_place else h * 3
        return turned.t() + h


def test_overwriting_what_a_view_lies_in_does_not_change_what_the_view_was():
    x = numbers(7, 4)
    assert probe(_Turned(True), x) == probe(_Turned(False), x)


def test_what_is_no_step_is_not_measured(monkeypatch):
    """Parameters, and views that only lead to another view, which wait no longer than the run."""
    measured, counts = fanin_probe.measured, []
    monkeypatch.setattr(fanin_probe, "measured", lambda *given: counts.append(given) or measured(*given))
    model = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.Unflatten(1, (3, 2)), nn.ReLU())
    info, found = observe(model, numbers(7, 4))
    assert [op.kind for op in info.ops] == ["input", "weight", "move", "activation"]
    assert len(counts) == len(info.ops)
    assert all(size > 0 for size in (*found.signal_rms, *found.gradient_rms))


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
    with pytest.raises(ModelError, match=r"0\.weight"):
        probe(plain().to("meta"), numbers(6, 3, 8, 8))


# --------------------------------------------------------------------------------------------------------- loss
class Several(nn.Module):
    """A dictionary with a tuple inside; one parameter that the loss does not see, one frozen, one without effect."""

    def __init__(self):
        super().__init__()
        self.first, self.unseen, self.frozen = nn.Linear(4, 3), nn.Linear(4, 2), nn.Linear(3, 2)
        self.frozen.requires_grad_(False)
        self.gate = nn.Parameter(torch.zeros(3))

    def forward(self, x, other):
        hidden = torch.tanh(self.first(x)) + self.gate * 0.0
        return {"logits": self.frozen(hidden), "rest": (self.unseen(x) + other, x.argmax(1))}


def test_with_a_loss_gradients_are_the_losss_and_outputs_come_in_order():
    torch.manual_seed(0)
    model, x, other, y = Several(), numbers(5, 4), numbers(5, 2), torch.tensor([0, 1, 1, 0, 1])

    def loss(outputs, targets):
        return functional.cross_entropy(outputs["logits"], targets)

    found, plainly = probe(model, (x, other), y, loss), copy.deepcopy(model).requires_grad_()
    outputs = plainly(x, other)
    value = loss(outputs, y)
    value.backward()
    assert found.loss == pytest.approx(float(value.detach()), rel=1e-6)
    for path, parameter in plainly.named_parameters():
        wanted = math.nan if parameter.grad is None else rms(parameter.grad)
        assert found.param_gradients[path] == pytest.approx(wanted, rel=1e-5, nan_ok=True), path
    assert found.param_gradients["gate"] == 0
    assert math.isnan(found.param_gradients["unseen.weight"])
    for array, tensor in zip(found.outputs, (outputs["logits"], *outputs["rest"]), strict=True):
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-6)
    assert [each.dtype for each in found.outputs] == [np.float32, np.float32, np.int64]


def test_a_loss_of_numpy_targets_and_a_mode_of_the_model():
    model, x = plain().eval(), numbers(6, 3, 8, 8).numpy()
    y = np.array([0, 1, 1, 0, 1, 0], np.int32)
    wanted = functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y).long())
    assert probe(model, x, y, "cross_entropy").loss == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert probe(model.train(), x, y, nn.CrossEntropyLoss()).loss != pytest.approx(float(wanted.detach()), rel=1e-3)


def test_a_loss_that_depends_on_nothing_gives_no_gradients():
    found = probe(nn.Linear(4, 3), numbers(5, 4), numbers(5, 3), lambda out, y: (out.detach() - y).square().mean())
    assert math.isfinite(found.loss)
    assert all(math.isnan(each) for each in (*found.gradient_rms, *found.param_gradients.values()))
    none = probe(nn.ReLU(), numbers(5, 4), -numbers(5, 4), "mse_loss")
    assert (none.param_gradients, none.gradient_rms[0] > 0) == ({}, True)


def test_a_gradient_that_is_not_finite_is_infinite_and_told_from_none():
    layer = nn.Linear(4, 3)
    found = probe(layer, numbers(5, 4), numbers(5, 3), lambda out, y: torch.sqrt((out - out.detach()).square()).mean())
    assert (found.gradient_rms[-1], found.param_gradients["weight"]) == (math.inf, math.inf)


def broken(outputs, targets):
    raise KeyError("no such head")


@pytest.mark.parametrize(("loss", "kind", "words"), [
    (broken, ModelError, "broken could not be computed: KeyError"),
    (nn.MSELoss(reduction="none"), ModelError, "MSELoss is not one number"),
    ("mse", UnknownNameError, "mse_loss"),
])  # fmt: skip
def test_the_model_stays_as_it_was_when_the_loss_fails(loss, kind, words):
    model, x = plain(), numbers(6, 3, 8, 8)
    model[4].weight.grad = torch.ones(5, 144)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    parameters = dict(model.named_parameters())
    with pytest.raises(kind, match=words):
        probe(model, x, torch.zeros(6, 2), loss)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert all(each is parameters[path] and each.requires_grad for path, each in model.named_parameters())
    assert model[4].weight.grad.eq(1).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_lies_in_lists_stays_as_it_was():
    class Hiding(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.seen = [nn.BatchNorm1d(4)], [torch.zeros(4)]
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            self.seen[0] += x.detach().mean(0)
            return self.last(self.layers[0](x))

    model = Hiding()
    probe(model, numbers(6, 4) + 1, numbers(6, 2), "mse_loss")
    assert model.layers[0].running_mean.eq(0).all()
    assert model.seen[0].eq(0).all()
    assert model.layers[0].weight.grad is None


class Ended(nn.Module):
    """What a recurrent layer ends with: as it gives it, or taken from its states at all times."""

    def __init__(self, kind: str, taken: bool, *, packed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.taken, self.packed = taken, packed

    def forward(self, x: Tensor) -> Tensor:
        """The last states of both directions of the last layer."""
        lengths = torch.tensor([6, 2, 5, 1, 3])
        given = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False) if self.packed else x
        states, last = self.layer(given)
        if not self.taken:
            last = last[0] if isinstance(last, tuple) else last
            return torch.cat([last[-2], last[-1]], 1)
        if self.packed:
            states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
        ends = lengths - 1 if self.packed else torch.full((5,), 5)
        return torch.cat([states[torch.arange(5), ends, :4], states[:, 0, 4:]], 1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_the_gradient_of_a_last_state_goes_through_the_states(kind: str, packed: bool) -> None:
    x = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(2))
    model, other = Ended(kind, False, packed=packed), Ended(kind, True, packed=packed)
    torch.testing.assert_close(model(x), other(x), rtol=0, atol=0)
    (info, found), (told, expected) = (observe(each, x, torch.zeros(5, 8), "mse_loss") for each in (model, other))
    ways = [at for at, op in enumerate(info.ops) if op.kind == "recurrent"]
    same = [at for at, op in enumerate(told.ops) if op.kind == "recurrent"]
    assert len(ways) == len(same) == 4
    for at, as_taken in zip(ways, same, strict=True):
        assert found.gradient_rms[at] == pytest.approx(expected.gradient_rms[as_taken], rel=1e-5)
        assert found.gradient_rms[at] > 0
    assert found.loss == pytest.approx(float((model(x).detach() ** 2).mean()), rel=1e-6)
    for path, size in found.param_gradients.items():
        assert size == pytest.approx(expected.param_gradients[path], rel=1e-4)


def test_a_gradient_that_comes_through_cells_alone_reaches_the_layer() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x)[1][1][-1])

    model, x = Cells(), torch.randn(6, 5, 3)
    info, found = observe(model, x, torch.zeros(5, 2), "mse_loss")
    cells = model.layer(x)[1][1]
    outputs = model.head(cells[-1])
    (sent,) = torch.autograd.grad((outputs**2).mean(), cells)
    at = next(at for at, op in enumerate(info.ops) if op.kind == "recurrent")
    assert found.gradient_rms[at] == pytest.approx(float((sent**2).sum() / (6 * 5 * 4)) ** 0.5, rel=1e-5)
