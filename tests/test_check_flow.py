"""`fanin.check` on real PyTorch models whose signal or gradient ends somewhere."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import fanin
from fanin.doctor.units import all_off
from tests.test_check import X, Y, codes, mlp


class Attended(nn.Module):
    """The rows of a digit, summed up by shares over an axis."""

    def __init__(self, axis):
        super().__init__()
        self.score, self.head, self.axis = nn.Linear(8, 1), nn.Linear(8, 10), axis

    def forward(self, x):
        rows = x.reshape(-1, 8, 8)
        return self.head((self.score(rows).softmax(self.axis) * rows).sum(1))


class Gated(nn.Module):
    """A gate that is computed, and used or not."""

    def __init__(self, used):
        super().__init__()
        self.gate, self.head, self.used = nn.Linear(64, 64), nn.Linear(64, 10), used

    def forward(self, x):
        gated = torch.sigmoid(self.gate(x)) * x
        return self.head(gated if self.used else x)


class Behind(nn.Module):
    """Layers that get no gradient, and a head behind them alone, or behind a trained layer beside them as well."""

    def __init__(self, beside):
        super().__init__()
        self.slow, self.fast = nn.Linear(64, 12), nn.Linear(64, 20) if beside else None
        self.head = nn.Linear(32 if beside else 12, 10)

    def forward(self, x):
        with torch.no_grad():
            slow = torch.relu(self.slow(x))
        return self.head(slow if self.fast is None else torch.cat([slow, torch.relu(self.fast(x))], 1))


class Deaf(nn.Module):
    """Gives the same whatever it is given."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(torch.ones_like(x))


class Recurrent(nn.Module):
    """The rows of a digit one after the other, with states that are never below 0."""

    def __init__(self, bias):
        super().__init__()
        self.rnn, self.head = nn.RNN(8, 20, nonlinearity="relu", batch_first=True), nn.Linear(20, 10)
        nn.init.constant_(self.rnn.bias_ih_l0, bias)

    def forward(self, x):
        return self.head(self.rnn(x.reshape(-1, 8, 8))[0][:, -1])


class Fresh(nn.Module):
    """A layer that is drawn anew at each call."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(20, 10)

    def forward(self, x):
        return self.head(torch.relu(nn.Linear(64, 20)(x)))


class Rooted(nn.Module):
    """The root of what may be 0, where it has no slope."""

    def __init__(self, least):
        super().__init__()
        self.first, self.head, self.least = nn.Linear(64, 20), nn.Linear(20, 10), least

    def forward(self, x):
        some = self.first(x) * (torch.arange(20) > 3)
        return self.head(torch.sqrt(some.square() + self.least))


class Cosines(nn.Module):
    """Scores by the angle between features and a row for each class, whose size does not matter."""

    def __init__(self, size):
        super().__init__()
        self.features, self.classes = nn.Linear(64, 24), nn.Parameter(size * torch.randn(10, 24))

    def forward(self, x):
        found = torch.relu(self.features(x))
        features, classes = (nn.functional.normalize(each) for each in (found, self.classes))
        return 16 * features @ classes.T


class Drawn(nn.Module):
    """A head behind codes that are drawn around what was read, with a gradient or without, and the codes' middles."""

    def __init__(self, passed):
        super().__init__()
        self.encode, self.head, self.passed = nn.Linear(64, 12), nn.Linear(12, 10), passed

    def forward(self, x):
        middle = self.encode(x)
        law = torch.distributions.Normal(middle, 0.1 + 0 * middle)
        return self.head(torch.tanh(law.rsample() if self.passed else law.sample())), middle


class Rounded(nn.Linear):
    """A layer whose weights are rounded to whole numbers, or to hundredths with the gradient passed on."""

    passed = False

    def forward(self, x):
        if not self.passed:
            return nn.functional.linear(x, self.weight.round(), self.bias)
        near = (self.weight * 100).round() / 100
        return nn.functional.linear(x, self.weight + (near - self.weight).detach(), self.bias)


def rounded(passed):
    model = nn.Sequential(Rounded(64, 30), nn.ReLU(), nn.Linear(30, 10))
    model[0].passed = passed
    return model


class Masked(nn.Module):
    """The rows of a digit look at the rows before them, and at themselves or not: then the first sees nothing."""

    def __init__(self, diagonal):
        super().__init__()
        self.mix, self.head, self.diagonal = nn.Linear(8, 24), nn.Linear(64, 10), diagonal

    def forward(self, x):
        rows = x.reshape(-1, 8, 8)
        query, key, value = self.mix(rows).chunk(3, -1)
        hidden = torch.ones(8, 8, dtype=torch.bool).triu(self.diagonal)
        scores = (query @ key.transpose(1, 2) / 8**0.5).masked_fill(hidden, -torch.inf)
        return self.head((rows + scores.softmax(-1) @ value).flatten(1))


class Last(nn.Module):
    """A readout of the last state of a recurrent layer."""

    def __init__(self, kind, batch_first=True):
        super().__init__()
        self.states, self.head = kind(3, 16, batch_first=batch_first), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.states(x)[0][:, -1])


class Experts(nn.Module):
    """The mean of small experts, each made after a seed is set: to one number or to its own."""

    def __init__(self, apart):
        super().__init__()
        self.experts = nn.ModuleList()
        for seed in range(8):
            torch.manual_seed(seed if apart else 0)
            self.experts.append(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))

    def forward(self, x):
        return torch.stack([expert(x) for expert in self.experts]).mean(0)


class Near(nn.Module):
    """How near an input is to some centres, and a readout."""

    def __init__(self, narrow):
        super().__init__()
        self.centres, self.head, self.narrow = nn.Parameter(torch.randn(30, 64)), nn.Linear(30, 10), narrow

    def forward(self, x):
        return self.head(torch.exp(-self.narrow * (x[:, None] - self.centres).square().sum(-1)))


class First(nn.Module):
    """An encoder behind a token of its own, which alone is read: with its axes as they are, or exchanged."""

    def __init__(self, batch_first):
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, 16))
        self.wide = nn.Linear(8, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=batch_first)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.wide(x.reshape(-1, 8, 8))], 1)
        return self.head(self.encoder(tokens)[:, 0])


class Own(nn.Module):
    """Returns its loss with its outputs, as the models of transformers do."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(64, 40), nn.Linear(40, 10)

    def forward(self, x, labels=None):
        logits = self.head(torch.relu(self.first(x)))
        return {"loss": None if labels is None else nn.functional.cross_entropy(logits, labels), "logits": logits}


def normed(norm):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 9, 3), nn.ReLU(), nn.Conv2d(9, 12, 3), norm, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


def pooled(groups):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 9, 3), nn.ReLU(), nn.Conv2d(9, 12, 3), nn.AdaptiveAvgPool2d(1),
        nn.GroupNorm(groups, 12), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


def checked(make):
    torch.manual_seed(1)
    return fanin.check(make(), X, Y, optimizer="adam(lr=0.01)")


@pytest.mark.parametrize(("make", "code", "where"), [
    (lambda: Attended(2), "softmax-axis", "softmax"),
    (lambda: Attended(0), "softmax-axis", "softmax"),
    (lambda: nn.Sequential(nn.Linear(64, 1), nn.Dropout(0.4), nn.Linear(1, 10)), "heavy-dropout", "1"),
    (lambda: Gated(False), "unused-parameters", "gate.weight"),
    (lambda: Behind(False), "gradient-blocked", "slow"),
    (lambda: normed(nn.InstanceNorm2d(12)), "misplaced-norm", "4"),
    (lambda: normed(nn.GroupNorm(12, 12)), "misplaced-norm", "4"),
    (lambda: Recurrent(-20.0), "dead-units", "rnn"),
    (Fresh, "unregistered-parameters", "the model itself"),
    (lambda: Rooted(0.0), "non-finite-signal", "sqrt(square(x) + 0)"),
    (lambda: rounded(False), "gradient-blocked", "0"),
    (lambda: Masked(0), "non-finite-signal", "masked_fill"),
    (lambda: pooled(12), "misplaced-norm", "5"),
    (lambda: mlp(partial(nn.Softmax, -1), 3), "hidden-softmax", "1"),
    (lambda: nn.Sequential(nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10), nn.Dropout(0.3)), "heavy-dropout", "3"),
], ids=lambda value: value if isinstance(value, str) else None)  # fmt: skip
def test_where_a_signal_or_a_gradient_ends(make, code, where):
    found = checked(make)
    assert (codes(found)[0], found.findings[0].where) == (code, where)


@pytest.mark.parametrize("make", [
    lambda: Attended(1), lambda: Gated(True), lambda: Behind(True), lambda: normed(nn.BatchNorm2d(12)),
    lambda: Recurrent(0.0), lambda: Rooted(1e-3), lambda: rounded(True), lambda: Masked(1), lambda: pooled(3),
    lambda: Cosines(30.0),
], ids=[
    "attended", "gated", "slow copy", "batch norm", "recurrent", "root", "rounded", "masked", "group norm",
    "cosines",
])  # fmt: skip
def test_the_same_models_as_they_should_be(make):
    assert checked(make).ok


@pytest.mark.parametrize("passed", [False, True])
def test_a_draw_that_is_the_only_way_from_an_encoder_that_something_else_trains(passed):
    def loss(outputs, targets):
        scores, middle = outputs
        return nn.functional.cross_entropy(scores, targets) + 0.01 * middle.square().mean()

    torch.manual_seed(1)
    found = fanin.check(Drawn(passed), X, Y, loss=loss, optimizer="adam(lr=0.01)")
    assert codes(found) == ([] if passed else ["gradient-blocked"])
    if not passed:
        assert "the only way from encode to the output" in found.findings[0].observed


@pytest.mark.parametrize("apart", [False, True])
def test_whole_branches_of_one_seed(apart):
    x = torch.linspace(-3, 3, 120)[:, None]
    found = fanin.check(Experts(apart), x, torch.sin(2 * x), loss="mse_loss", optimizer="adam(lr=0.03)")
    assert codes(found)[:1] == ([] if apart else ["repeated-weights"])
    if not apart:
        assert found.findings[0].where == "experts.0.0.weight"
        assert "meets again" in found.findings[0].observed


@pytest.mark.parametrize("narrow", [0.003, 0.4])
def test_features_that_nothing_is_near_to(narrow):
    found = checked(lambda: Near(narrow))
    assert codes(found)[:1] == ([] if narrow < 0.1 else ["vanishing-signal"])


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_answer_that_is_the_same_for_all_examples_is_a_fault(batch_first):
    found = checked(lambda: First(batch_first))
    errors = [each.code for each in found.findings if each.severity == "error"]
    assert errors == ([] if batch_first else ["collapsed-inputs"])


@pytest.mark.parametrize(("kind", "code"), [(nn.LSTM, "dead-units"), (nn.GRU, "saturated-units")])
def test_gates_that_are_shut(kind, code):
    """An LSTM then lets nothing in and nothing out, a GRU takes its candidate, tanh(-20)."""
    torch.manual_seed(1)
    x = torch.randn(96, 5, 3)
    y = (x[:, -1, 0] > 0).long()
    model = Last(kind)
    assert fanin.check(model, x, y, optimizer="adam(lr=0.01)").ok
    with torch.no_grad():
        model.states.bias_ih_l0.fill_(-10.0)
        model.states.bias_hh_l0.fill_(-10.0)
    found = fanin.check(model, x, y, optimizer="adam(lr=0.01)")
    assert (codes(found)[0], found.findings[0].where) == (code, "states")


@pytest.mark.parametrize("batch_first", [False, True])
def test_examples_taken_for_steps_are_told_by_exchanging_them(batch_first):
    torch.manual_seed(1)
    x, y = torch.randn(96, 5, 3), torch.arange(96) % 3
    found = fanin.check(Last(nn.GRU, batch_first), x, y, optimizer="sgd(lr=0.01)", steps=3)
    assert ("mixed-examples" in codes(found)) is not batch_first


def test_a_loss_without_a_value_is_no_divergence():
    torch.manual_seed(1)
    loss = lambda outputs, y: nn.functional.poisson_nll_loss(outputs[:, 0], y.float(), log_input=False)  # noqa: E731
    found = fanin.check(nn.Linear(64, 1), X, Y, loss=loss)
    assert (codes(found), found.findings[0].where) == (["non-finite-signal"], "the loss")


def test_parameters_that_another_is_computed_from_are_used():
    layer = nn.utils.parametrizations.weight_norm
    model = nn.Sequential(layer(nn.Linear(64, 30)), nn.ReLU(), layer(nn.Linear(30, 10)))
    assert fanin.describe(model, X).discarded == ()
    assert fanin.describe(Gated(False), X).discarded == ("gate.weight", "gate.bias")


@pytest.mark.parametrize("weighed", [False, True])
def test_a_choice_sends_no_gradient_to_what_makes_the_scores(weighed):
    class Picks(nn.Module):
        """Answers by one of five steps: that of the largest score, or all by their shares."""

        def __init__(self):
            super().__init__()
            self.score, self.answer = nn.Linear(3, 1), nn.Linear(3, 2)

        def forward(self, x):
            scores = self.score(x)[..., 0]
            if weighed:
                return self.answer((x * scores.softmax(1)[..., None]).sum(1))
            return self.answer(x[torch.arange(len(x)), scores.argmax(1)])

    torch.manual_seed(1)
    x, y = torch.randn(90, 5, 3), torch.arange(90) % 2
    info = fanin.describe(Picks(), x)
    assert (info.choosing, info.discarded) == (() if weighed else ("score.weight", "score.bias"), ())
    found = fanin.check(Picks(), x, y, steps=5)
    assert ("gradient-blocked" in codes(found)) is not weighed


def test_a_buffer_that_is_not_finite_is_named():
    class Linked(nn.Module):
        """A graph convolution."""

        def __init__(self, links):
            super().__init__()
            self.register_buffer("links", links)
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.links @ self.layer(x)

    links = torch.eye(8)
    links[2, 5] = float("inf")
    found = fanin.check(Linked(links), torch.randn(8, 3), torch.arange(8) % 2, steps=3)
    assert (found.findings[0].code, found.findings[0].where) == ("non-finite-signal", "links")
    assert "1 numbers are not finite in links" in found.findings[0].observed


@pytest.mark.parametrize(("kind", "words"), [(nn.LSTM, "lstm"), (nn.RNN, "rnn_tanh")])
def test_states_that_forget_are_told_by_keeping_them(kind, words):
    """Nothing is seen after the first of 30 steps; with open gates, or the identity, it is kept."""
    torch.manual_seed(1)
    x = torch.zeros(96, 30, 3)
    x[:, 0] = torch.randn(96, 3)
    y = x[:, 0].argmax(1)
    model = Last(kind)
    if kind is nn.LSTM:
        nn.init.constant_(model.states.bias_ih_l0[16:32], -6.0)
    found = fanin.check(model, x, y, optimizer="adam(lr=0.003)")
    assert (codes(found), found.findings[0].where) == (["vanishing-gradient"], "states")
    assert found.findings[0].observed.startswith(f"what {words} saw")
    assert found.findings[0].outcome.helps


def test_a_loss_that_the_model_returns_is_the_one_to_train():
    torch.manual_seed(1)
    model = Own()
    found = fanin.check(model, {"x": X, "labels": Y}, optimizer="adam(lr=0.01)")
    assert found.ok
    assert found.vitals.loss == pytest.approx(float(model(X, Y)["loss"].detach()))
    assert found.trial.losses[-1] < 0.5 * found.trial.losses[0]
    nn.init.zeros_(model.first.weight)
    found = fanin.check(model, {"x": X, "labels": Y}, optimizer="adam(lr=0.01)")
    assert (codes(found)[0], found.findings[0].where) == ("zero-weights", "first.weight")
    assert fanin.check(Own(), {"x": X}).trial is None


@pytest.mark.parametrize(("rate", "severity"), [(0.01, "info"), (1e-7, "warning")])
def test_layers_of_the_same_numbers_are_a_warning_where_nothing_is_learned(rate, severity):
    layers = []
    for units in (64, 30, 30):
        torch.manual_seed(1)
        layers += [nn.Linear(units, 30), nn.Tanh()]
    found = fanin.check(nn.Sequential(*layers, nn.Linear(30, 10)), X, Y, optimizer=f"adam(lr={rate})")
    assert {each.severity for each in found.findings if each.code == "repeated-weights"} == {severity}


def test_a_model_that_learns_nothing_is_not_called_fit_to_be_trained():
    found = checked(Deaf)
    assert [(each.code, each.severity) for each in found.findings] == [("plateau", "info")]
    assert "hardly anything was learned in 50 steps" in found.verdict


@pytest.mark.parametrize(("units", "off", "dead"), [(12, 8, False), (120, 90, True)])
def test_units_are_dead_only_beyond_what_alike_examples_make_likely(units, off, dead):
    """Of examples that all look alike a unit is off for all or for none: 8 of 12 by chance, 90 of 120 hardly."""
    torch.manual_seed(1)
    x = torch.ones(96, 20) + 0.01 * torch.randn(96, 20)
    model = nn.Sequential(nn.Linear(20, units), nn.ReLU(), nn.Linear(units, 10))
    with torch.no_grad():
        signs = torch.where(torch.arange(units) < off, -1.0, 1.0)
        model[0].weight.copy_(model[0].weight.abs() * signs[:, None])
        model[0].bias.zero_()
    found = fanin.check(model, x, Y[:96], steps=0)
    assert ("units are off for all" in str(found)) is dead  # beside inputs that are not scaled


@pytest.mark.parametrize(("cosine", "count"), [(0.0, 3), (0.6, 8), (0.97, 40)])
def test_the_chance_to_be_off_for_all_is_that_of_drawn_numbers(cosine, count):
    """Against 40,000 draws; five standard deviations are allowed, beyond which one in two million falls."""
    draws = np.random.default_rng(4)
    common, own = draws.normal(size=(40_000, 1)), draws.normal(size=(40_000, count))
    share = (cosine**0.5 * common + (1 - cosine) ** 0.5 * own < 0).all(axis=1).mean()
    assert all_off(cosine, count) == pytest.approx(share, abs=5 * (share * (1 - share) / 40_000) ** 0.5)


class Placed(nn.Module):
    """A digit, read at places that a layer works out."""

    def __init__(self):
        super().__init__()
        self.look, self.head = nn.Linear(64, 6), nn.Linear(64, 10)
        nn.init.normal_(self.look.weight, std=0.01)
        self.look.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])

    def forward(self, x):
        grid = nn.functional.affine_grid(self.look(x).view(-1, 2, 3), (len(x), 1, 8, 8), align_corners=False)
        seen = nn.functional.grid_sample(x.view(-1, 1, 8, 8), grid, align_corners=False)
        return self.head(seen.flatten(1))


def test_a_layer_that_works_out_places_is_used():
    found = checked(Placed)
    assert codes(found) == []
    assert {"look.weight", "head.weight"} <= {path for op in found.info.ops for path in op.params}
    assert all(each.code != "unused-parameters" for each in found.findings)
