"""Losses by name, as modules and as functions, against PyTorch's own and against sums in NumPy."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.torch.adapter import loss_function
from fanin.torch.losses import loss_of, targets_of


def logits():
    return np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


LABELS = np.array([0, 3, 1, 2, 2, 1, 0])


def cross_entropy(outputs, labels):
    """The oracle, one example after the other."""
    each = [
        np.log(np.exp(row.astype(np.float64)).sum()) - row[label] for row, label in zip(outputs, labels, strict=True)
    ]
    return np.mean(each)


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        nn.CrossEntropyLoss(),
        functional.cross_entropy,
        lambda out, y: nn.NLLLoss()(out.log_softmax(1), y),
    ],
)
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_outputs_come_first_and_whole_numbers_of_any_width_are_labels(loss, kind):
    assert loss_function(loss)(logits(), LABELS.astype(kind)) == pytest.approx(
        cross_entropy(logits(), LABELS), rel=1e-6
    )


def test_order_matters_to_a_loss_that_is_not_symmetric():
    outputs, targets = np.full((3, 2), 0.9, np.float32), np.zeros((3, 2), np.float32)
    assert loss_function("binary_cross_entropy")(outputs, targets) == pytest.approx(-np.log(0.1), rel=1e-5)


def test_float64_is_computed_in_float32():
    assert loss_function("mse_loss")(logits().astype(np.float64), np.zeros((7, 4))) == pytest.approx(
        np.square(logits()).mean(), rel=1e-6
    )


def test_a_text_has_parameters():
    found = loss_function("cross_entropy(label_smoothing=0.1, reduction='sum')")(logits(), LABELS)
    wanted = functional.cross_entropy(
        torch.from_numpy(logits()), torch.from_numpy(LABELS), label_smoothing=0.1, reduction="sum"
    )
    assert found == pytest.approx(float(wanted))


def test_several_outputs_and_several_targets():
    def both(outputs, targets):
        return functional.mse_loss(outputs[0], targets["a"]) + functional.l1_loss(outputs[1], targets["b"])

    zeros = {"a": np.zeros((7, 4), np.float32), "b": np.ones((7, 4), np.float32)}
    wanted = np.square(logits()).mean() + np.abs(logits() - 1).mean()
    assert loss_function(both)((logits(), logits()), zeros) == pytest.approx(wanted, rel=1e-6)


class Counting(nn.Module):
    """A loss with a state."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, outputs, targets):
        self.count += 1
        return (outputs - targets).square().mean() + self.count.sum()


def test_a_loss_with_a_state_is_not_changed():
    loss = Counting()
    before = copy.deepcopy(loss.state_dict())
    compute = loss_function(loss)
    assert compute(logits(), logits()) == compute(logits(), logits()) == 1
    assert torch.equal(loss.count, before["count"])


NAMES = {
    "mse_loss": "mse_loss", "cross_entropy(reduction='sum')": "cross_entropy(reduction='sum')",
    nn.HuberLoss(): "HuberLoss", functional.l1_loss: "l1_loss",
    partial(functional.cross_entropy, label_smoothing=0.1): "cross_entropy",
}  # fmt: skip


@pytest.mark.parametrize("loss", NAMES)
def test_a_loss_has_a_name(loss):
    assert loss_of(loss).name == NAMES[loss]


MISTAKES = {
    "misspelt": ("mse_los", UnknownNameError, "Did you mean mse_loss"),
    "parameter": ("mse_loss(reduktion='sum')", UnknownNameError, "reduction"),
    "no loss": ("relu", UnknownNameError, "no such loss"),
    "three tensors": ("gaussian_nll_loss", UnknownNameError, "no such loss"),
    "unreadable": ("mse_loss(", InvalidValueError, "cannot be read"),
    "class": (nn.MSELoss, InvalidValueError, r"MSELoss\(\)"),
    "none": (None, InvalidValueError, "This is no loss. Given: None"),
    "number": (3, InvalidValueError, "This is no loss"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_no_loss_is_named(name):
    loss, kind, words = MISTAKES[name]
    with pytest.raises(kind, match=words):
        loss_function(loss)


FAILURES = {
    "shapes": ("cross_entropy", (logits(), LABELS[:5]), r"outputs of shape \(7, 4\).*targets of shape \(5,\)"),
    "each example": ("mse_loss(reduction='none')", (logits(), logits()), "not one number"),
    "no tensor": (lambda out, y: 1.5, (logits(), logits()), "not one number"),
    "two outputs": ("mse_loss", ((logits(), logits()), logits()), "the model returns 2"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_loss_that_cannot_be_computed_says_why(name):
    loss, given, words = FAILURES[name]
    with pytest.raises(ModelError, match=words):
        loss_function(loss)(*given)


def test_targets_get_the_models_type_but_tensors_keep_theirs():
    model = nn.Linear(3, 2).to(torch.bfloat16)
    found = targets_of(model, (np.zeros(3), np.arange(3, dtype=np.int32), torch.zeros(3, dtype=torch.int32), None))
    assert [getattr(each, "dtype", None) for each in found] == [torch.bfloat16, torch.int64, torch.int32, None]
