"""`fanin.check` on real PyTorch models: each mistake is named with its layer, a healthy model gets a clean bill."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import fanin
from fanin.doctor import CHECKS
from fanin.errors import FaninError, InvalidValueError

DIGITS = load_digits()
X = torch.tensor((DIGITS.data[:192] - DIGITS.data.mean()) / DIGITS.data.std(), dtype=torch.float32)
Y = torch.tensor(DIGITS.target[:192])


def mlp(activation=nn.ReLU, depth=2, *ends):
    """Ends are modules, or called without arguments so that their weights are drawn here."""
    torch.manual_seed(1)
    layers = [nn.Linear(64, 40), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(40, 40), activation()]
    return nn.Sequential(
        *layers, nn.Linear(40, 10), *(each if isinstance(each, nn.Module) else each() for each in ends)
    )


def cnn(activation=nn.ReLU):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 12, 3, padding=1), activation(), nn.MaxPool2d(2),
        nn.Conv2d(12, 20, 3, padding=1), activation(), nn.Flatten(), nn.Linear(320, 10),
    )  # fmt: skip


def weights(model):
    return {path: each for path, each in model.named_parameters() if each.dim() > 1}


def changed(model, change):
    with torch.no_grad():
        for each in weights(model).values():
            change(each)
    return model


def without_biases(model):
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(each.dim() > 1)
    return model


def codes(found):
    return [each.code for each in found.findings if each.severity != "info"]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("make", [mlp, cnn])
def test_a_healthy_model_gets_a_clean_bill(make, activation):
    model = make(activation)
    fanin.init(model, example=X, quiet=True)
    assert fanin.check(model, X, Y).ok


@pytest.mark.parametrize("make", [mlp, cnn])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_zeros_are_one_finding(make, activation):
    model = without_biases(changed(make(activation), lambda each: each.zero_()))
    found = fanin.check(model, X, Y)
    assert codes(found) == ["zero-weights"]
    assert found.findings[0].where == next(iter(weights(model)))
    assert found.findings[0].outcome.helps


@pytest.mark.parametrize("make", [mlp, cnn])
def test_constants_make_units_the_same(make):
    model = without_biases(changed(make(), lambda each: each.fill_(0.05)))
    found = fanin.check(model, X, Y)
    assert codes(found)[0] == "identical-units"
    assert "1 different units of" in found.findings[0].observed


def test_tables_of_constants_stay_as_narrow_as_one_feature():
    class Factors(nn.Module):
        """The product of a user's and a film's features."""

        def __init__(self):
            super().__init__()
            self.user, self.film = nn.Embedding(12, 8), nn.Embedding(9, 8)

        def forward(self, pairs):
            return (self.user(pairs[:, 0]) * self.film(pairs[:, 1])).sum(1)

    torch.manual_seed(3)
    pairs = torch.stack([torch.randint(0, 12, (200,)), torch.randint(0, 9, (200,))], 1)
    y = (torch.randn(12, 3)[pairs[:, 0]] * torch.randn(9, 3)[pairs[:, 1]]).sum(1)
    model = changed(Factors(), lambda each: each.fill_(0.3))
    found = fanin.check(model, pairs, y, loss="mse_loss", optimizer="adam(lr=0.03)")
    assert (codes(found)[0], found.findings[0].where) == ("identical-units", "user.weight")
    fresh = fanin.check(changed(Factors(), lambda each: each.normal_(0, 0.3)), pairs, y, loss="mse_loss")
    assert "identical-units" not in codes(fresh)


@pytest.mark.parametrize("value", [0.0, 0.05])
def test_units_that_only_random_biases_tell_apart_are_a_warning(value):
    found = fanin.check(changed(cnn(), lambda each: each.fill_(value)), X, Y)
    assert codes(found) == ["identical-units" if value else "zero-weights"]
    assert found.findings[0].severity == "warning"


def dead(model):
    with torch.no_grad():
        for each in model.parameters():
            if each.dim() == 1 and len(each) > 10:
                each.fill_(-20.0)


@pytest.mark.parametrize("activation", [
    nn.SiLU, nn.LeakyReLU,
    *(pytest.param(each, marks=pytest.mark.slow) for each in (nn.ReLU, nn.ELU, nn.GELU, nn.Softplus, nn.Mish)),
])  # fmt: skip
def test_units_far_in_the_flat_part_of_their_activation_are_dead(activation):
    model = mlp(activation, 3)
    fanin.init(model, example=X, quiet=True)
    assert "dead-units" not in codes(fanin.check(model, X, Y))
    dead(model)
    found = fanin.check(model, X, Y)
    assert (codes(found)[0], found.findings[0].where) == ("dead-units", "1")
    assert "100% of 40 units are off for all 192 examples" in found.findings[0].observed


@pytest.mark.parametrize("kill", [False, True])
def test_places_of_images_count_where_images_are_few(kill):
    model = cnn()
    fanin.init(model, example=X, quiet=True)
    if kill:
        dead(model)
    found = fanin.check(model, X[:6], Y[:6], optimizer="adam(lr=0.01)")
    assert codes(found)[:1] == ["dead-units"] * kill


@pytest.mark.parametrize("kill", [False, True])
def test_an_activation_of_the_models_own_that_gives_one_number_is_dead(kill):
    class Own(nn.Module):
        """Half of what is above 0."""

        def forward(self, x):
            return 0.5 * torch.relu(x)

    model = nn.Sequential(nn.Linear(64, 40), Own(), nn.Linear(40, 10))
    fanin.init(model, example=X, quiet=True)
    if kill:
        dead(model)
    assert codes(fanin.check(model, X, Y, optimizer="adam(lr=0.01)"))[:1] == ["dead-units"] * kill


@pytest.mark.parametrize(("rate", "named"), [(1e-3, []), (30.0, ["learning-rate-too-large"])])
def test_a_rate_that_loses_all_is_named_where_nothing_can_be_learned(rate, named):
    """Noise of 1,920 numbers: what a smaller rate saves is the guess that it starts from."""
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    fanin.init(model, example=X, quiet=True)
    noise = torch.tensor(np.random.default_rng(3).normal(size=(len(X), 10)), dtype=torch.float32)
    found = fanin.check(model, X, noise, loss="mse_loss", optimizer=f"adam(lr={rate})")
    assert [each.code for each in found.findings if each.severity == "error"] == named


@pytest.mark.parametrize(("bias", "named"), [(0.0, []), (-10.0, ["imbalanced-start"])])
def test_a_start_worse_than_guessing_is_a_warning_where_it_stays_so(bias, named):
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    fanin.init(model, example=X, quiet=True)
    with torch.no_grad():
        model[-1].bias.fill_(bias)
    noise = torch.tensor(np.random.default_rng(3).normal(size=(len(X), 10)), dtype=torch.float32)
    assert codes(fanin.check(model, X, noise, loss="mse_loss", optimizer="adam(lr=0.001)"))[:1] == named


MISTAKES = {
    "zero": (lambda model: without_biases(changed(model, lambda each: each.zero_())), ("zero-weights",)),
    "constant": (lambda model: without_biases(changed(model, lambda each: each.fill_(0.1))), ("identical-units",)),
    "too small": (lambda model: changed(model, lambda each: each.mul_(0.005)), ("weights-too-small",)),
    "too large": (lambda model: changed(model, lambda each: each.mul_(30.0)), ("weights-too-large",)),
    "dead": (dead, ("dead-units", "saturated-units", "collapsed-inputs")),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("make", [
    lambda: mlp(nn.ReLU, 2), lambda: mlp(nn.ReLU, 8), lambda: mlp(nn.Tanh, 2), lambda: mlp(nn.Tanh, 8), cnn,
    lambda: cnn(nn.Tanh),
], ids=["relu 2", "relu 8", "tanh 2", "tanh 8", "cnn relu", "cnn tanh"])  # fmt: skip
def test_the_mistakes_of_the_lecture_notes_are_found_at_every_seed(make, mistake, seed):
    """A shallow network that trains for all that gets a warning at the least."""
    model, (change, codes_of) = make(), MISTAKES[mistake]
    fanin.init(model, "he_normal", example=X, seed=seed, quiet=True)
    change(model)
    found = fanin.check(model, X, Y)
    assert codes(found)[:1] in [[code] for code in codes_of]
    assert found.findings[0].where


@pytest.mark.parametrize(("stddev", "code"), [(0.001, "weights-too-small"), (3.0, "weights-too-large")])
@pytest.mark.parametrize("depth", [5, 8])
def test_sizes_that_keep_a_deep_model_from_training(stddev, code, depth):
    model = changed(mlp(nn.Tanh, depth), lambda each: each.normal_(0, stddev))
    found = fanin.check(model, X, Y)
    assert codes(found)[0] == code
    assert found.findings[0].severity == "error"
    assert found.findings[0].where == "0.weight"


def test_one_layer_at_fault_is_named():
    model = mlp(nn.Tanh, 4)
    fanin.init(model, example=X, quiet=True)
    with torch.no_grad():
        model[4].weight.mul_(1e-4)
    found = fanin.check(model, X, Y)
    assert (codes(found)[0], found.findings[0].where) == ("weights-too-small", "4.weight")
    assert [entry.param.path for entry in found.findings[0].plan.chosen] == ["4.weight"]


@pytest.mark.parametrize(("ends", "code"), [
    ((nn.ReLU(),), "output-activation"),
    ((nn.Tanh(),), "output-activation"),
    ((nn.Softmax(-1),), "double-softmax"),
    ((nn.Softmax(0),), "softmax-axis"),
    ((nn.ReLU(), nn.Softmax(-1)), "double-softmax"),
])  # fmt: skip
def test_what_stands_before_a_cross_entropy_of_logits(ends, code):
    found = fanin.check(mlp(nn.ReLU, 2, *ends), X, Y, loss="cross_entropy")
    assert found.findings[0].code == code
    assert found.findings[0].severity == "error"


def test_a_log_softmax_before_a_cross_entropy_is_harmless():
    assert fanin.check(mlp(nn.ReLU, 2, nn.LogSoftmax(-1)), X, Y, loss="cross_entropy", optimizer="adam(lr=0.003)").ok


@pytest.mark.parametrize(("ends", "y", "loss", "code"), [
    ((), Y, "nll_loss", "logits-into-probabilities"),
    ((), Y + 3, "cross_entropy", "targets-out-of-range"),
    ((lambda: nn.Linear(10, 1),), (Y > 4).float()[:, None], "binary_cross_entropy", "logits-into-probabilities"),
    ((nn.Softmax(-1),), Y, "nll_loss", "logits-into-probabilities"),
    ((lambda: nn.Linear(10, 1), nn.Softmax(-1)), (Y > 4).float()[:, None], "binary_cross_entropy", "one-unit-softmax"),
    ((lambda: nn.Linear(10, 1),), (Y > 4).float()[:, None], "cross_entropy", "one-unit-softmax"),
    ((lambda: nn.Linear(10, 1), nn.Tanh()), 25.0 * Y[:, None].float(), "mse_loss", "targets-out-of-range"),
    ((lambda: nn.Linear(10, 1), nn.ReLU()), Y[:, None].float() - 4.5, "mse_loss", "output-activation"),
    ((lambda: nn.Linear(10, 1), nn.ELU()), Y[:, None].float() - 4.5, "mse_loss", "output-activation"),
    ((lambda: nn.Linear(10, 1),), X[:, 20], "mse_loss", "broadcast-loss"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_outputs_that_do_not_fit_the_loss(ends, y, loss, code):
    assert fanin.check(mlp(nn.ReLU, 2, *ends), X, y, loss=loss).findings[0].code == code


def test_a_squared_error_of_huge_targets_is_not_taken_for_a_constant():
    x = torch.linspace(-100, 100, 120)[:, None]
    found = fanin.check(
        nn.Sequential(nn.Linear(1, 30), nn.ReLU(), nn.Linear(30, 1)),
        x,
        x**4,
        loss="mse_loss",
        optimizer="adam(lr=0.01)",
    )
    assert "one-unit-softmax" not in codes(found)
    assert codes(found)[0] in ("unscaled-targets", "unscaled-inputs")


def test_a_rate_that_is_too_large_and_one_that_is_too_small():
    assert codes(fanin.check(mlp(), X, Y, optimizer="adam(lr=3.0)"))[0] == "learning-rate-too-large"
    assert codes(fanin.check(mlp(), X, Y, optimizer="sgd(lr=1e-6)"))[0] == "learning-rate-too-small"


def test_inputs_that_are_not_scaled():
    found = fanin.check(mlp(nn.Tanh, 3), 300 * X + 4000, Y)
    assert codes(found)[0] == "unscaled-inputs"


def test_missing_numbers_in_the_inputs():
    x = X.clone()
    x[3, 5] = math.nan
    assert codes(fanin.check(mlp(), x, Y))[0] == "non-finite-inputs"


def test_layers_in_a_list():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(64, 40), nn.Linear(40, 40)]
            self.head = nn.Linear(40, 10)

        def forward(self, x):
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.head(x)

    assert fanin.check(Hidden(), X, Y).findings[0].code == "unregistered-parameters"


def test_parameters_that_are_not_trained():
    model = mlp()
    optimizer = torch.optim.Adam(model[-1].parameters())
    assert fanin.check(model, X, Y, optimizer=optimizer).findings[0].code == "forgotten-parameters"
    for each in model.parameters():
        each.requires_grad_(False)
    assert fanin.check(model, X, Y).findings[0].code == "frozen-parameters"


@pytest.mark.parametrize(("bent", "severity"), [(True, "error"), (False, "warning")])
def test_layers_without_an_activation_are_a_fault_where_no_line_will_do(bent, severity):
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(4)) * 2 - 1
    y = (x[:, 0] * (x[:, 1] if bent else 1.0) > 0).long()
    torch.manual_seed(1)
    found = fanin.check(nn.Sequential(nn.Linear(2, 24), nn.Linear(24, 2)), x, y, optimizer="adam(lr=0.01)")
    assert codes(found) == ["linear-stack"]
    assert found.findings[0].severity == severity


def test_random_layers_that_are_frozen_are_tried_without_that():
    """Three random features say too little; a copy trains all, and the model stays as frozen as it was."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 10))
    model[0].requires_grad_(False)
    found = fanin.check(model, X, Y, optimizer="adam(lr=0.01)")
    assert codes(found)[0] == "frozen-parameters"
    assert found.findings[0].severity == "error"
    assert found.findings[0].outcome.helps
    assert not model[0].weight.requires_grad


def test_a_recurrent_layer_at_its_bounds():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(8, 20, batch_first=True), nn.Linear(20, 10)

        def forward(self, x):
            return self.head(self.gru(x.reshape(-1, 8, 8))[0][:, -1])

    torch.manual_seed(1)
    model = Rows()
    with torch.no_grad():
        model.gru.bias_ih_l0.fill_(-10.0)
        model.gru.bias_hh_l0.fill_(-10.0)
    found = fanin.check(model, X, Y, optimizer="adam(lr=0.01)", steps=30)
    assert codes(found)[0] == "saturated-units"
    assert found.findings[0].where == "gru"


def test_a_model_is_not_changed():
    model = mlp(nn.ReLU, 2, nn.Dropout(0.1))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    fanin.check(changed(model, lambda each: None), X, Y, optimizer="sgd(lr=100.0)")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(each.grad is None for each in model.parameters())


def test_without_targets_the_weights_and_the_signal_are_looked_at():
    found = fanin.check(changed(mlp(), lambda each: each.zero_()), X)
    assert codes(found) == ["zero-weights"]
    assert found.trial is None


def test_what_was_found_is_told_in_words_and_numbers():
    found = fanin.check(changed(mlp(), lambda each: each.zero_()), X, Y)
    record = found.to_dict()
    assert not found.ok
    assert record["findings"][0]["code"] == "zero-weights"
    assert "0.weight" in str(found)
    assert "zero-weights" in found.to_pandas()["code"].tolist()
    assert "Weights are zero" in found._repr_html_()
    assert np.isfinite(record["vitals"]["signal_rms"][0])


@pytest.mark.parametrize("wrong", [
    lambda: fanin.check(mlp(), X[:, :5], Y),
    lambda: fanin.check(mlp(), X, Y, loss="no_such_loss"),
    lambda: fanin.check(mlp(), X, Y, optimizer="no_such_optimizer"),
    lambda: fanin.check("mlp", X, Y),
    lambda: fanin.check(mlp(), X, Y[:5]),
])  # fmt: skip
def test_mistakes_are_one_clear_error(wrong):
    with pytest.raises(FaninError):
        wrong()


def test_steps_may_not_be_negative():
    with pytest.raises(InvalidValueError, match="steps"):
        fanin.check(mlp(), X, Y, steps=-1)


def test_each_check_has_its_place_in_the_documentation():
    from pathlib import Path

    text = (Path(__file__).parents[1] / "docs" / "check.md").read_text()
    assert [code for code in CHECKS if f"### {code}\n" not in text] == []
