"""How a model is set up, told from models that are set up wrongly in ways that people do."""

import copy

import pytest
import torch
from torch import nn

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.torch.adapter import setup


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_a_model_alone_is_told_without_an_optimizer():
    found = setup(network())
    assert (found.training, found.frozen, found.forgotten, found.unregistered) == (True, (), (), ())
    assert (found.optimizer, found.learning_rate, found.momentum, found.loss) == ("", None, 0.0, "")
    assert not setup(network().eval()).training


def test_frozen_parameters_are_not_forgotten_ones():
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([*model[1].parameters(), model[2].weight], lr=0.1, momentum=0.9)
    found = setup(model, optimizer, nn.MSELoss())
    assert found.frozen == ("0.weight",)
    assert found.forgotten == ("0.bias", "2.bias")
    assert (found.optimizer, found.learning_rate, found.momentum, found.loss) == ("sgd", 0.1, 0.9, "MSELoss")


def test_an_optimizer_of_another_copy_has_forgotten_everything():
    model = network()
    found = setup(model, torch.optim.Adam(copy.deepcopy(model).parameters()))
    assert found.forgotten == tuple(path for path, _ in model.named_parameters())


def test_tied_parameters_are_one():
    model = network()
    model.append(nn.Linear(4, 3))
    model[3].weight = model[0].weight
    assert setup(model, torch.optim.SGD(model.parameters(), lr=0.1)).forgotten == ()


class Parent(nn.Module):
    """A hidden layer may know its owner."""

    def __init__(self, owner):
        super().__init__()
        self.__dict__["owner"] = owner
        self.own = nn.Linear(2, 2)


class Hiding(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = nn.Linear(4, 3)
        self.blocks = [nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2)), self.seen]
        self.tables = {"a": nn.Parameter(torch.zeros(3)), "b": (torch.zeros(2, requires_grad=True), torch.zeros(2))}
        self.plain = torch.zeros(3, requires_grad=True)
        self.derived = self.plain * 2
        self.frozen = [nn.Linear(2, 2).requires_grad_(False)]
        self.registered = nn.ModuleList([nn.Linear(3, 2)])
        self.child = Parent(self)
        self.nested = self.child
        self.loop = []
        self.loop.append(self.loop)
        self.register_buffer("positions", torch.zeros(2, requires_grad=True))


def test_unregistered_tensors_are_found_wherever_they_are():
    assert set(setup(Hiding()).unregistered) == {
        "blocks[0].weight", "blocks[0].bias", "blocks[1].0.weight", "blocks[1].0.bias",
        "tables['a']", "tables['b'][0]", "plain", "positions",
    }  # fmt: skip


HEALTHY = {
    "recurrent": lambda: nn.LSTM(4, 3, 2),
    "normalised": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 7),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_pytorch_itself_keeps_beside_parameters_is_not_unregistered(name):
    assert setup(HEALTHY[name]()).unregistered == ()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_the_older_weight_norm_keeps_no_parameter_beside():
    assert setup(nn.utils.weight_norm(nn.Linear(4, 3))).unregistered == ()


@pytest.mark.parametrize(("text", "rate", "momentum"), [
    ("adam", 1e-3, 0), ("adam(lr=0.1)", 0.1, 0), ("sgd(learning_rate=0.2, momentum=0.9)", 0.2, 0.9),
    ("RMSprop(momentum=0.5)", 1e-2, 0.5), ("muon", 1e-3, 0.95),
])  # fmt: skip
def test_an_optimizer_may_be_a_text(text, rate, momentum):
    found = setup(network(), text, "cross_entropy")
    assert (found.learning_rate, found.momentum) == (rate, momentum)
    assert found.optimizer == text.partition("(")[0].lower()
    assert found.loss == "cross_entropy"


def test_of_several_groups_the_largest_rate_counts_and_a_scheduled_one_is_none():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters(), "lr": torch.tensor(0.5)}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    assert setup(model, optimizer).learning_rate == 0.5
    torch.optim.lr_scheduler.LinearLR(optimizer)
    assert setup(model, optimizer).learning_rate is None


MISTAKES = {
    "adamm": (UnknownNameError, "Did you mean adam"),
    "adam(rate=0.1)": (InvalidValueError, "rate"),
    "adam(lr=0.1, learning_rate=0.1)": (InvalidValueError, "twice"),
    "adam(lr=-1)": (InvalidValueError, "Invalid learning rate"),
    "adam(": (InvalidValueError, "cannot be read"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_text_that_names_no_optimizer_is_refused(text):
    kind, words = MISTAKES[text]
    with pytest.raises(kind, match=words):
        setup(network(), text)


def test_a_class_is_no_optimizer():
    with pytest.raises(InvalidValueError, match="no optimizer"):
        setup(network(), torch.optim.Adam)
