"""Trials against plain loops with torch.optim on a deep copy; and the model, which has to stay as it was."""

import copy
import math
import random
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.torch.adapter import describe, trial
from tests.torch.networks import numbers, rms


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(144, 5), nn.Tanh(), nn.Linear(5, 2), nn.ReLU(),
    )  # fmt: skip


X, Y = numbers(6, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1, 0])


def by_hand(model, optimizer, steps, loss=functional.cross_entropy, x=X, y=Y):
    """The oracle: what anybody would write, with the gradient's size and the size of each change."""
    model.train()
    losses, gradients, updates = [], [], []
    torch.manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        losses.append(float(value.detach()))
        before = {path: each.detach().clone() for path, each in model.named_parameters()}
        optimizer.step()
        gradients.append({path: rms(each.grad) for path, each in model.named_parameters()})
        updates.append({path: ratio(each - before[path], before[path]) for path, each in model.named_parameters()})
    outputs = model(x)
    losses.append(float(loss(outputs, y).detach()))
    return losses, outputs, gradients, updates


def ratio(change, values):
    return rms(change) / rms(values) if values.any() else math.inf * rms(change)


OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters),
    "sgd(learning_rate=0.05, momentum=0.9)": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw(lr=0.01, weight_decay=0.1)": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_a_trial_is_a_plain_loop(text):
    model, twin = network(), network()
    losses, outputs, gradients, updates = by_hand(twin, OPTIMIZERS[text](twin.parameters()), 7)
    for optimizer in (text, OPTIMIZERS[text](model.parameters())):
        found = trial(model, X, Y, loss="cross_entropy", optimizer=optimizer, steps=7)
        np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
        np.testing.assert_allclose(found.outputs[0], outputs.detach().numpy(), rtol=1e-4, atol=1e-6)
        assert found.outputs[0].dtype == np.float32
        assert list(found.values) == list(found.gradients) == list(found.updates) == list(gradients[0])
        for path, parameter in twin.named_parameters():
            np.testing.assert_allclose(found.values[path], parameter.detach().numpy(), rtol=1e-4, atol=1e-6)
            largest = max(each[path] for each in gradients)
            assert found.gradients[path] == pytest.approx(largest, rel=1e-3, abs=1e-7), path
            np.testing.assert_allclose(10 ** np.array(found.updates[path]), [each[path] for each in updates], rtol=1e-3)


def test_nothing_said_is_adam():
    losses, *_ = by_hand(twin := network(), torch.optim.Adam(twin.parameters(), lr=1e-3), 3)
    np.testing.assert_allclose(trial(network(), X, Y, loss="cross_entropy", steps=3).losses, losses, rtol=1e-5)


def test_the_learning_rate_is_overridden_and_groups_keep_their_ratios():
    def grouped(model, rate):
        groups = [{"params": model[0].parameters(), "lr": rate / 4}, {"params": model[5].parameters()}]
        return torch.optim.SGD(groups, lr=rate, momentum=0.5)

    model, twin = network(), network()
    losses, *_ = by_hand(twin, grouped(twin, 0.2), 5)
    optimizer = grouped(model, 0.001)
    found = trial(model, X, Y, loss="cross_entropy", optimizer=optimizer, learning_rate=0.2, steps=5)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    assert set(found.updates["7.weight"]) == {-math.inf}  # the optimizer does not hold it
    assert found.gradients["7.weight"] > 0


def test_a_schedule_starts_at_its_first_rate_and_the_users_optimizer_is_not_touched():
    model, twin = network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    optimizer.register_step_post_hook(lambda *_: pytest.fail("the user's hook was called"))
    losses, *_ = by_hand(twin, torch.optim.SGD(twin.parameters(), lr=0.3, momentum=0.9), 4)
    found = trial(model, X, Y, loss="cross_entropy", optimizer=optimizer, steps=4)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    assert (optimizer.state_dict()["state"], optimizer.param_groups[0]["lr"], scheduler.last_epoch) == ({}, 0.0, 0)


def test_an_optimizer_that_asks_several_times_in_a_step():
    def lbfgs(model):
        return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)

    model, twin, x, y = nn.Linear(4, 3), nn.Linear(4, 3), numbers(7, 4), numbers(7, 3) * 2
    twin.load_state_dict(model.state_dict())
    optimizer, losses = lbfgs(twin), []

    def closure():
        optimizer.zero_grad()
        value = functional.mse_loss(twin(x), y)
        value.backward()
        return value

    for _ in range(3):
        losses.append(float(functional.mse_loss(twin(x), y).detach()))
        optimizer.step(closure)
    found = trial(model, x, y, loss="mse_loss", optimizer=lbfgs(model), steps=3)
    np.testing.assert_allclose(found.losses[:3], losses, rtol=1e-5)


class Habits(nn.Module):
    """Draws from every random state, keeps a moving mean in a list, and overwrites what it is given."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.seen, self.hidden = [torch.zeros(4)], [nn.BatchNorm1d(4)]
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.seen[0] += x.mean(0)
        x = self.hidden[0](x).mul_(random.random() + np.random.rand())
        return self.drop(self.norm(self.layer(x)))


def state_of(model):
    """Everything that a trial must not change."""
    return copy.deepcopy((
        model.state_dict(), [each.grad for each in model.parameters()], model.training, model.calls,
        model.seen, model.hidden[0].state_dict(), random.getstate(),
    )), (torch.get_rng_state(), np.random.get_state()[1].copy(), [id(each) for each in model.parameters()])  # fmt: skip


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) or (one.isnan().any() and torch.equal(one.nan_to_num(), other.nan_to_num()))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other)


class BrokenError(Exception):
    pass


def breaking(outputs, targets):
    raise BrokenError


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("how", ["well", "cut", "diverging", "raising"])
def test_the_model_is_as_it_was_and_the_same_call_gives_the_same_numbers(training, how):
    torch.manual_seed(3)
    model, x, y = Habits().train(training), numbers(7, 4), numbers(7, 3)
    given = x.clone()
    model.layer.weight.grad = torch.ones(3, 4)
    before = state_of(model)
    settings = {
        "well": {"loss": "mse_loss"}, "cut": {"loss": "mse_loss", "cut": len(describe(model, x).ops) - 2},
        "diverging": {"loss": "mse_loss", "optimizer": "sgd(lr=1e30)"}, "raising": {"loss": breaking},
    }[how]  # fmt: skip
    if how == "raising":
        with pytest.raises(ModelError, match="Broken"):
            trial(model, x, y, **settings)
    else:
        one, two = (trial(model, x, y, steps=6, **settings) for _ in range(2))
        assert len(one.losses) == (7 if how != "diverging" else len(one.losses))
        assert one == two
        assert np.array_equal(one.outputs[0], two.outputs[0], equal_nan=True)
    assert same(state_of(model), before)
    assert torch.equal(x, given)
    assert not any(each._forward_hooks for each in model.modules())


def test_it_ends_at_the_first_loss_that_is_not_finite():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    found = trial(model, numbers(7, 4), numbers(7, 3), loss="mse_loss", optimizer="sgd(lr=1e9)", steps=30)
    assert found.diverged
    assert len(found.losses) < 10
    assert all(map(math.isfinite, found.losses[:-1]))
    assert math.isinf(max(found.gradients.values())) or max(found.gradients.values()) > 1e9


def test_a_loss_that_is_not_finite_at_once_has_taken_no_step():
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight[1, 2] = math.nan
    found = trial(model, numbers(7, 4), numbers(7, 3), loss="mse_loss")
    assert len(found.losses) == 1
    assert math.isnan(found.gradients["weight"])
    assert found.updates["weight"] == ()
    np.testing.assert_array_equal(found.values["weight"], model.weight.detach().numpy())


# ------------------------------------------------------------------------------------------------------- values
def test_values_are_what_the_copy_starts_with():
    other = network()
    with torch.no_grad():
        other[5].weight.mul_(3)
        other[5].bias.fill_(0.5)
    values = {path: dict(other.named_parameters())[path].detach().numpy() for path in ("5.weight", "5.bias")}
    found = trial(network(), X, Y, loss="cross_entropy", values=values, steps=4)
    wanted = trial(other, X, Y, loss="cross_entropy", steps=4)
    assert found == wanted


def test_values_of_a_frozen_parameter_count_and_stay():
    model, x, y = nn.Linear(4, 3), numbers(7, 4), numbers(7, 3)
    model.bias.requires_grad_(False)
    ours = np.full(3, 7.0, np.float32)
    found = trial(model, x, y, loss="mse_loss", values={"bias": ours}, optimizer="sgd(lr=0.1)", steps=3)
    with torch.no_grad():
        outputs = functional.linear(x, torch.from_numpy(found.values["weight"]), torch.from_numpy(ours))
    assert list(found.values) == ["weight"]
    np.testing.assert_allclose(found.outputs[0], outputs.numpy(), rtol=1e-5)


@pytest.mark.parametrize("given", ["text", "all", "trained"])
def test_a_thawed_copy_trains_as_one_that_was_never_frozen(given):
    """Whether the optimizer knew the frozen parameters or not; the model stays as frozen as it was."""
    model, twin, x, y = network(), network(), X, Y
    model[5].requires_grad_(False)
    held = {"all": model.parameters(), "trained": [each for each in model.parameters() if each.requires_grad]}
    optimizer = "sgd(lr=0.1)" if given == "text" else torch.optim.SGD(held[given], lr=0.1)
    found = trial(model, x, y, loss="cross_entropy", optimizer=optimizer, steps=4, thaw=True)
    wanted = trial(twin, x, y, loss="cross_entropy", optimizer="sgd(lr=0.1)", steps=4)
    assert found.losses == wanted.losses
    assert not any(each.requires_grad for each in model[5].parameters())


def test_tied_parameters_are_trained_as_one():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    twin, x, y = copy.deepcopy(model), numbers(7, 4), numbers(7, 4)
    losses, *_ = by_hand(twin, torch.optim.Adam(twin.parameters()), 5, functional.mse_loss, x, y)
    np.testing.assert_allclose(trial(model, x, y, loss="mse_loss", steps=5).losses, losses, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------- cut
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "end"), [("weight", 8), ("activation", 7), ("dropout", 4), ("norm", 2)])
def test_a_cut_model_is_the_model_without_what_comes_after(kind, end, training):
    """The ReLU after the norm overwrites its input, which must not be seen."""
    model, twin = network().train(training), network()[:end]
    info = describe(model, X)
    cut = next(
        index for index, op in reversed(list(enumerate(info.ops))) if (op.kind, op.place) == (kind, str(end - 1))
    )

    def loss(outputs, targets):
        return functional.cross_entropy(outputs.flatten(1), targets)

    losses, outputs, *_ = by_hand(twin, torch.optim.Adam(twin.parameters()), 4, loss)
    found = trial(model, X, Y, loss=loss, cut=cut, steps=4)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(found.outputs[0], outputs.detach().numpy(), rtol=1e-4, atol=1e-6)
    if end < 8:
        assert math.isnan(found.gradients["7.weight"])  # the loss does not depend on it


def test_a_cut_at_a_step_that_is_a_multiple_of_another():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(numbers(3, 4))

        def forward(self, x):
            return x @ (self.weight * -0.5).T

    model, x, y = Scaled(), numbers(7, 4), numbers(7, 3)
    cut = next(index for index, op in enumerate(describe(model, x).ops) if op.kind == "weight")
    found = trial(model, x, y, loss="mse_loss", cut=cut, steps=1)
    assert found.losses[0] == pytest.approx(float(functional.mse_loss(x @ model.weight.T, y).detach()), rel=1e-5)


@pytest.mark.parametrize("cut", [-1, 99])
def test_there_is_no_such_step(cut):
    with pytest.raises(InvalidValueError, match="no such step"):
        trial(network(), X, Y, loss="cross_entropy", cut=cut)


def test_an_input_is_no_step_to_cut_at():
    with pytest.raises(InvalidValueError, match="cannot be had"):
        trial(network(), X, Y, loss="cross_entropy", cut=0)


# ------------------------------------------------------------------------------------------------ unusual models
class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x, *, other):
        return {"logits": self.layer(x), "rest": (other * 2,)}


def test_several_inputs_and_outputs():
    model, x, other = Dictionary(), numbers(7, 4), numbers(7, 2)
    found = trial(
        model, {"x": x, "other": other}, numbers(7, 3), loss=lambda out, y: (out["logits"] - y).square().mean()
    )
    assert found.losses[-1] < found.losses[0]
    assert [each.shape for each in found.outputs] == [(7, 3), (7, 2)]
    assert math.isnan(found.gradients["unused.weight"])
    assert set(found.updates["unused.weight"]) == {-math.inf}


@pytest.mark.parametrize("build", [nn.ReLU, lambda: nn.Linear(4, 3).requires_grad_(False)])
def test_a_model_without_anything_to_train_is_only_run(build):
    y = torch.zeros(7, 4 if build is nn.ReLU else 3)
    found = trial(build(), numbers(7, 4), y, loss="mse_loss", optimizer="sgd", steps=4)
    assert len(found.losses) == 5
    assert len(set(found.losses)) == 1
    assert (found.values, found.gradients, found.updates) == ({}, {}, {})


def test_bfloat16_and_a_loss_without_gradient():
    model = nn.Linear(4, 3).to(torch.bfloat16)
    x, y = numbers(7, 4).numpy(), np.zeros((7, 3))
    found = trial(model, x, y, loss="mse_loss", optimizer="sgd(lr=0.1)", steps=9)
    assert found.losses[-1] < found.losses[0]
    assert found.values["weight"].dtype == np.float32
    blocked = trial(model, x, y, loss=lambda out, y: (out.detach() - y).square().mean(), steps=9)
    assert len(set(blocked.losses)) == 1
    assert math.isnan(blocked.gradients["weight"])


@pytest.mark.slow
def test_a_compiled_model_is_run_as_it_stands():
    model, x, y = network(), X, Y
    wanted = trial(model, x, y, loss="cross_entropy", steps=3)
    found = trial(torch.compile(model, backend="eager"), x, y, loss="cross_entropy", steps=3)
    assert found.losses == wanted.losses


def test_sparse_gradients():
    model, ids = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 3)), torch.tensor([1, 2, 2])
    found = trial(model, ids, torch.zeros(3, 3), loss="mse_loss", optimizer="sgd(lr=0.1)", steps=2)
    twin = copy.deepcopy(model)
    functional.mse_loss(twin(ids), torch.zeros(3, 3)).backward()
    assert found.gradients["0.weight"] == pytest.approx(rms(twin[0].weight.grad.to_dense()), rel=1e-5)
    with pytest.raises(ModelError, match=r"could not take a step.*sparse"):
        trial(model, ids, torch.zeros(3, 3), loss="mse_loss", steps=2)


def test_time_ends_it_after_two_steps_at_the_least():
    begun = time.perf_counter()
    found = trial(network(), X, Y, loss="cross_entropy", steps=10**6, seconds=0.05)
    assert 3 <= len(found.losses) < 10**5
    assert time.perf_counter() - begun < 5
    assert len(trial(network(), X, Y, loss="cross_entropy", seconds=0.0).losses) == 3


class Own(torch.optim.Optimizer):
    """An optimizer of somebody's, which finds its own rate and cannot do without `scale`."""

    def __init__(self, params, scale, lr=None):
        super().__init__(params, {"scale": scale, "lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for each in group["params"]:
                each.sub_(group["scale"] * each.grad)
        return loss


def test_an_optimizer_of_somebodys():
    model, twin, x, y = nn.Linear(4, 3), nn.Linear(4, 3), numbers(7, 4), numbers(7, 3)
    twin.load_state_dict(model.state_dict())
    losses, *_ = by_hand(twin, torch.optim.SGD(twin.parameters(), lr=0.2), 4, functional.mse_loss, x, y)
    found = trial(model, x, y, loss="mse_loss", optimizer=Own(model.parameters(), 0.2), steps=4)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


MISTAKES = {
    "path": ({"values": {"0.wieght": np.zeros(3)}}, UnknownNameError, "0.wieght"),
    "shape": ({"values": {"5.bias": np.zeros(3)}}, ModelError, "5.bias"),
    "steps": ({"steps": 0}, InvalidValueError, "number of steps"),
    "loss": ({"loss": None}, InvalidValueError, "This is no loss"),
    "optimizer": ({"optimizer": "adamm"}, UnknownNameError, "Did you mean adam"),
    "kind": ({"optimizer": "muon"}, InvalidValueError, "2D"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name):
    settings, kind, words = MISTAKES[name]
    with pytest.raises(kind, match=words):
        trial(network(), X, Y, **{"loss": "cross_entropy", **settings})


def test_a_model_without_values_is_refused():
    with pytest.raises(ModelError, match="no values"):
        trial(network().to("meta"), X, Y, loss="cross_entropy")
