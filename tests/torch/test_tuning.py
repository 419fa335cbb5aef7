"""MetaInit and GradInit in PyTorch, against a plain second implementation in NumPy: derivatives by differences."""

import copy
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from fanin.errors import FaninError, InvalidValueError, ModelError, UnknownNameError
from fanin.torch.tuning import gradinit, metainit

WEIGHTS = ["0.weight", "2.weight"]
VERBS = {"metainit": metainit, "gradinit": gradinit}


# ---------------------------------------------------------------------------------------------------- the oracle
# A network of 3 inputs, 4 tanh units and 2 outputs; parameters are [W1 (4, 3), b1, W2 (2, 4), b2].
def oracle_loss(theta, x, y):
    w1, b1, w2, b2 = theta
    return np.mean((np.tanh(x @ w1.T + b1) @ w2.T + b2 - y) ** 2)


def oracle_gradient(theta, x, y):
    w1, b1, w2, b2 = theta
    h = np.tanh(x @ w1.T + b1)
    error = 2 * (h @ w2.T + b2 - y) / y.size
    back = (error @ w2) * (1 - h**2)
    return [back.T @ x, back.sum(0), error.T @ h, error.sum(0)]


def oracle_quotient(theta, x, y, share):
    """Over the two weights, for a share of the loss; the Hessian's product by a difference of the gradient."""

    def gradient(p):
        return [share * g for g in oracle_gradient(p, x, y)]

    g1, _, g2, _ = gradient(theta)
    h = 1e-5 / share
    ahead, behind = (gradient([theta[0] + s * g1, theta[1], theta[2] + s * g2, theta[3]]) for s in (h, -h))
    total = 0.0
    for i, g in ((0, g1), (2, g2)):
        product = (ahead[i] - behind[i]) / (2 * h)
        total += np.abs((g - product) / (g + np.where(g >= 0, 1e-5, -1e-5)) - 1).sum()
    return (False, total / (g1.size + g2.size))


def oracle_after_step(theta, x, y, optimizer, learning_rate, gamma):
    """Whether the norm is too large, and the norm itself or else the loss after the step."""
    gradient = oracle_gradient(theta, x, y)
    flat = np.concatenate([g.ravel() for g in gradient])
    norm = np.abs(flat).sum() if optimizer == "adam" else np.sqrt((flat**2).sum())
    if norm > gamma:
        return True, norm
    step = [np.sign(g) if optimizer == "adam" else g for g in gradient]
    return False, oracle_loss([p - learning_rate * s for p, s in zip(theta, step, strict=True)], x, y)


def oracle_factors(theta, measure, steps, rate):
    """Signs of slopes, momentum 0.9, a rate that falls to zero; the best factors met."""

    def at(logs):
        return measure([theta[0] * np.exp(logs[0]), theta[1], theta[2] * np.exp(logs[1]), theta[3]])

    logs, velocity, met = np.zeros(2), np.zeros(2), []
    for step in range(steps + 1):
        met.append((at(logs), tuple(np.exp(logs))))
        for i in range(2):
            nudge = 1e-4 * np.eye(2)[i]
            slope = at(logs + nudge)[1] - at(logs - nudge)[1]
            velocity[i] = 0.9 * velocity[i] - 0.1 * rate * (1 - step / steps) * np.sign(slope)
        logs = logs + velocity
    return min(met)


def small(seed=0, factor=1.0):
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(factor * rng.normal(size=tuple(parameter.shape))))
    return net, rng.normal(size=(6, 3)), rng.normal(size=(6, 2))


def arrays(net):
    return [parameter.detach().numpy().copy() for parameter in net.parameters()]


@pytest.mark.parametrize(("seed", "factor", "share"), [(0, 1.0, 1.0), (1, 0.3, 1.0), (2, 3.0, 1.0), (0, 1.0, 1e-4)])
def test_metainit_takes_the_way_of_the_oracle(seed, factor, share):
    """With a ten-thousandth of the loss, gradients are so small that the guard against zero decides."""
    net, x, y = small(seed, factor)
    theta = arrays(net)
    (_, lowest), factors = oracle_factors(theta, lambda p: oracle_quotient(p, x, y, share), 12, 0.2)
    assert lowest < oracle_quotient(theta, x, y, share)[1]
    found = metainit(net, x, y, loss=lambda o, t: share * (o - t).square(), paths=WEIGHTS, steps=12, rate=0.2)
    assert list(found.values()) == pytest.approx(factors, rel=1e-9)
    for i, each in ((0, factors[0]), (2, factors[1])):
        np.testing.assert_allclose(arrays(net)[i], theta[i] * each, rtol=1e-9)
    for i in (1, 3):
        np.testing.assert_array_equal(arrays(net)[i], theta[i])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("share", [10.0, 0.7])
def test_gradinit_takes_the_way_of_the_oracle(optimizer, share):
    """With the bound below the first norm, it begins by making the gradient smaller."""
    net, x, y = small(3, 1.5)
    theta = arrays(net)
    gamma = share * oracle_after_step(theta, x, y, optimizer, 0.02, gamma=0)[1]

    def measure(p):
        return oracle_after_step(p, x, y, optimizer, 0.02, gamma)

    assert measure(theta)[0] == (share < 1)
    best, factors = oracle_factors(theta, measure, 40, 0.2)
    assert best < measure(theta)
    assert not best[0]
    found = gradinit(net, x, y, paths=WEIGHTS, steps=40, rate=0.2, learning_rate=0.02, gamma=gamma, optimizer=optimizer)
    assert list(found.values()) == pytest.approx(factors, rel=1e-9)


def test_the_default_bound_lets_a_step_take_a_tenth_off_the_loss():
    for optimizer, learning_rate, gamma in (("adam", 1e-3, 100.0), ("sgd", 0.1, 1.0), ("sgd", 0.4, 0.5)):
        given = {"paths": WEIGHTS, "steps": 8, "optimizer": optimizer, "learning_rate": learning_rate}
        (net, x, y), (other, _, _) = small(4, 2.0), small(4, 2.0)
        assert gradinit(net, x, y, **given) == gradinit(other, x, y, gamma=gamma, **given)
    (net, x, y), (other, _, _) = small(4, 2.0), small(4, 2.0)
    assert gradinit(net, x, y, paths=WEIGHTS, steps=8) == gradinit(
        other, x, y, paths=WEIGHTS, steps=8, learning_rate=1e-3, optimizer="adam"
    )


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_step_is_that_of_the_real_optimizer(kind):
    """A loss of one's own is seen by GradInit at the parameters where PyTorch's optimizer ends."""
    net, x, y = small(5)
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.detach().clone())
        return nn.functional.mse_loss(outputs, targets)

    real = copy.deepcopy(net)
    gradinit(net, x, y, loss=loss, paths=WEIGHTS, steps=1, learning_rate=0.05, gamma=1e9, optimizer=kind)
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[kind](real.parameters(), lr=0.05)
    nn.functional.mse_loss(real(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    optimizer.step()
    torch.testing.assert_close(seen[1], real(torch.from_numpy(x)).detach(), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------- what models there are
class Attention(nn.Module):
    """An embedding, attention without returned weights (one fused call), a tied output."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.read = nn.Linear(6, 11, bias=False)
        self.read.weight = self.table.weight

    def forward(self, tokens):
        x = self.table(tokens)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.read(x.mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 5, batch_first=True)
        self.read = nn.Linear(5, 4)

    def forward(self, x, *, scale=1.0):
        return self.read(self.cell(x * scale)[0][:, -1])


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2)), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.4), nn.Flatten(), nn.Linear(32, 3)
    )


MODELS = {
    "attention": (Attention, lambda: torch.randint(11, (6, 5)), 11, ["table.weight", "attention.in_proj_weight"]),
    "lstm": (Recurrent, lambda: {"x": torch.randn(6, 7, 3), "scale": 0.5}, 4, ["cell.weight_ih_l0", "read.weight"]),
    "convolutions": (convolutions, lambda: (torch.randn(6, 2, 4, 5).numpy(),), 3, ["0.weight", "5.weight"]),
}


def assert_same(value, expected, rtol):
    torch.testing.assert_close(value, expected, rtol=rtol, atol=0)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", MODELS)
def test_nothing_but_the_tuned_weights_changes(name, verb, training):
    build, example, classes, paths = MODELS[name]
    torch.manual_seed(1)
    model = build().train(training)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    inputs, targets, twin = example(), torch.randint(classes, (6,)), copy.deepcopy(model)
    before, random, told = snapshot(model), torch.get_rng_state(), []
    with torch.no_grad():
        factors = VERBS[verb](model, inputs, targets, paths=paths, steps=3, progress=lambda *at: told.append(at))
    assert list(factors) == paths
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert any(factor != 1 for factor in factors.values())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training == training for module in model.modules())
    assert all(parameter.grad is not None and bool((parameter.grad == 2).all()) for parameter in model.parameters())
    shared = {"read.weight": "table.weight"} if name == "attention" else {}
    for path, value in snapshot(model).items():
        factor = factors.get(shared.get(path, path))
        assert_same(value, before[path] if factor is None else before[path] * factor, rtol=1e-6 if factor else 0)
    torch.rand(3)  # what is drawn while tuning does not depend on the random state
    assert VERBS[verb](twin, inputs, targets, paths=paths, steps=3) == factors


def test_dropout_is_at_work_in_train_mode_alone():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    x, y = torch.randn(9, 5), torch.randint(3, (9,))
    seen = {}
    for training in (True, False):
        model, kept = copy.deepcopy(first).train(training), []
        model[1].register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output == 0))
        gradinit(model, x, y, paths=["0.weight"], steps=2)
        assert all(torch.equal(kept[0], mask) for mask in kept)
        seen[training] = float(kept[0].float().mean())
    assert seen[False] == 0
    assert 0.2 < seen[True] < 0.8


def test_a_model_that_remembers_its_calls_forgets_these():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.seen = nn.Linear(3, 2), []
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            self.seen.append(np.random.default_rng(0))
            return self.linear(x) * self.count

    model, counts = Counting(), []

    def loss(outputs, targets):
        counts.append(outputs.detach().abs().sum().item())
        return nn.functional.cross_entropy(outputs, targets)

    x, y = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    settings = {"steps": 3, "rate": 1e-9, "learning_rate": 1e-9, "gamma": 1e9}
    gradinit(model, x, y, loss=loss, paths=["linear.weight"], **settings)
    np.testing.assert_allclose(counts, counts[0], rtol=1e-4)
    assert model.count == 0
    assert model.seen == []


def test_random_targets_are_classes_or_numbers_of_one_output():
    torch.manual_seed(0)
    for units in (4, 1):
        net, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, units)), torch.randn(7, 3)
        rng = np.random.default_rng(0)
        drawn = rng.normal(size=(7, 1)).astype(np.float32) if units == 1 else rng.integers(4, size=7)
        again = copy.deepcopy(net)
        assert metainit(net, x, paths=WEIGHTS, steps=4) == metainit(again, x, drawn, paths=WEIGHTS, steps=4)


def test_parameters_keep_their_type_and_single_numbers_can_be_tuned():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = nn.Linear(3, 2), nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            assert self.scale.dtype == x.dtype
            return self.scale * self.linear(x)

    model = Scaled().to(torch.bfloat16)
    x, y = torch.randn(5, 3).numpy(), [0, 1, 0, 1, 1]
    assert gradinit(model, x, y, paths=["scale", "linear.weight"], steps=3)["scale"] != 1
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.scale.shape == ()


# ------------------------------------------------------------------------------------------------------- failures
def interrupted(done, total):
    if done == 2:
        raise KeyboardInterrupt


def doctored(change):
    net, x, y = small()
    change(net)
    return net, x, y


def zeroed(net):
    net[2].weight.data.zero_()


def huge(net):
    net[2].weight.data.fill_(1e200)


def dead(net):
    net[0].bias.data.fill_(-1e3)
    net[1] = nn.ReLU()


def frozen(net):
    net[0].weight.requires_grad_(False)


def no_second_derivative(net):
    net[1] = nn.Hardsigmoid()


def untouched(net):
    """Leave the network as it is."""


MISTAKES = {
    "unknown": (untouched, {"paths": ["0.wieght"]}, UnknownNameError, "Did you mean 0.weight"),
    "none": (untouched, {"paths": []}, InvalidValueError, "No weight to tune"),
    "zero": (zeroed, {}, ModelError, r"all zero.*2\.weight"),
    "frozen": (frozen, {}, ModelError, r"frozen.*0\.weight"),
    "not finite": (huge, {}, ModelError, "loss is not finite"),
    "dead": (dead, {"paths": ["0.weight"]}, ModelError, "change nothing"),
    "not derived": (no_second_derivative, {"optimizer": "sgd"}, ModelError, "hardsigmoid_backward"),
    "steps": (untouched, {"steps": 0}, InvalidValueError, "steps is out of range"),
    "part of a step": (untouched, {"steps": 1.5}, InvalidValueError, "whole number"),
    "rate": (untouched, {"rate": -1.0}, InvalidValueError, "rate is out of range"),
    "targets": (untouched, {"targets": np.zeros((6, 3))}, ModelError, r"do not fit.*\(6, 2\)"),
    "classes": (untouched, {"targets": [0, 1, 2, 0, 1, 7]}, ModelError, "out of bounds"),
    "example": (untouched, {"example": np.zeros((6, 5))}, ModelError, "could not be run"),
    "no targets": (untouched, {"targets": None, "loss": nn.MSELoss()}, InvalidValueError, "needs targets"),
    "no loss": (untouched, {"loss": lambda outputs, targets: None}, ModelError, "not a number"),
    "interrupted": (untouched, {"progress": interrupted}, KeyboardInterrupt, ""),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_failure_names_its_reason_and_changes_nothing(mistake, verb):
    change, wrong, kind, text = MISTAKES[mistake]
    net, x, y = doctored(change)
    before = snapshot(net)
    given = {"example": x, "targets": y, "paths": WEIGHTS, "steps": 3, **wrong}
    if verb == "metainit":
        given.pop("optimizer", None)
    with pytest.raises(kind, match=f"(?s){text}"):
        VERBS[verb](net, **given)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "adma"}, {"gamma": 0.0}, {"learning_rate": float("nan")}, {"targets": None}]
)
def test_gradinit_checks_its_own_settings(wrong):
    net, x, y = small()
    with pytest.raises(FaninError):
        gradinit(net, x, **{"targets": y, "paths": WEIGHTS, **wrong})


def test_an_interruption_of_the_last_writes_is_rolled_back(monkeypatch):
    net, x, y = small()
    before, multiply, calls = snapshot(net), torch.Tensor.mul_, []

    def stopping(tensor, factor):
        calls.append(factor)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return multiply(tensor, factor)

    monkeypatch.setattr(torch.Tensor, "mul_", stopping)
    with pytest.raises(KeyboardInterrupt):
        metainit(net, x, y, paths=WEIGHTS, steps=2)
    assert len(calls) == 2
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# ----------------------------------------------------------------------------------------------- what they are for
DEPTH, WIDTH, SEEDS = 20, 24, 3


def deep(seed, activation, factor):
    """A deep network whose weights are `factor` times too large, and 512 examples of 16 numbers in 5 classes."""
    rng = np.random.default_rng(seed)
    sizes, parts = [16, *[WIDTH] * (DEPTH - 1), 5], []
    for size, units in pairwise(sizes):
        layer = nn.Linear(size, units)
        gain = 2.0 if activation is nn.ReLU else 1.0
        layer.weight.data = torch.from_numpy(factor * rng.normal(size=(units, size)) * np.sqrt(gain / size)).float()
        layer.bias.data.zero_()
        parts += [layer, activation()]
    x = rng.normal(size=(512, 16))
    y = (np.tanh(x @ rng.normal(size=(16, 8))) @ rng.normal(size=(8, 5))).argmax(1)
    return nn.Sequential(*parts[:-1]), torch.from_numpy(x).float(), torch.from_numpy(y)


def trained(net, x, y):
    """The mean loss of the last epoch of 60 steps of Adam."""
    net, losses = copy.deepcopy(net), []
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(60):
        rows = (torch.arange(128) + 128 * step) % 512
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses[-4:])


def measured_quotient(net, x, y):
    """The gradient quotient in float64, with a difference of gradients in place of the Hessian."""
    net = copy.deepcopy(net).double()
    weights = [module.weight for module in net if isinstance(module, nn.Linear)]

    def gradient():
        return torch.autograd.grad(nn.functional.cross_entropy(net(x.double()), y), weights)

    g = gradient()
    h = 1e-9 / max(float(each.abs().max()) for each in g)  # so little that no ReLU is switched on the way
    sides = []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, each in zip(weights, g, strict=True):
                weight.add_(each, alpha=sign * h)
        sides.append(gradient())
    terms = [
        ((each - (a - b) / (2 * h)) / (each + torch.where(each >= 0, 1e-5, -1e-5)) - 1).abs().flatten()
        for each, a, b in zip(g, *sides, strict=True)
    ]
    return float(torch.cat(terms).mean())


def stepped_loss(net, x, y):
    """The loss after one real step of Adam."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-30)
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    return nn.functional.cross_entropy(net(x), y).item()


CLEAR = {
    "metainit": (measured_quotient, lambda before, after: np.median(after / before) < 0.7),
    "gradinit": (stepped_loss, lambda before, after: np.mean(before - after) > 0.02),
}
"""What each verb makes smaller, measured without it, and when that is clear over the seeds of one setting."""


@pytest.mark.slow
@pytest.mark.parametrize("verb", CLEAR)
def test_badly_sized_deep_networks_train_better_once_tuned(verb):
    """Weights three times too small or too large, tanh and ReLU; a sign test over all networks and seeds."""
    measure, clear = CLEAR[verb]
    wins = 0
    for activation, factor in product((nn.Tanh, nn.ReLU), (1 / 3, 3.0)):
        measures = np.empty((SEEDS, 2))
        for seed in range(SEEDS):
            net, x, y = deep(seed, activation, factor)
            measures[seed, 0], before = measure(net, x[:128], y[:128]), trained(net, x, y)
            paths = [name for name, _ in net.named_parameters() if name.endswith("weight")]
            VERBS[verb](net, x[:128], y[:128], paths=paths, steps=30)
            measures[seed, 1], after = measure(net, x[:128], y[:128]), trained(net, x, y)
            wins += after < before
        assert (measures[:, 1] < measures[:, 0]).all()
        assert clear(*measures.T)
    assert binomtest(wins, 4 * SEEDS, alternative="greater").pvalue < 0.02
