"""The kind of a loss is found by its values; the losses of the frameworks themselves are the oracle."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from fanin.doctor.losses import identified

RNG = np.random.default_rng(3)
CLASSES = RNG.integers(0, 4, 7)
SHARES = RNG.dirichlet(np.ones(4), 7).astype(np.float32)
NUMBERS = RNG.normal(size=(7, 4)).astype(np.float32)
BINARY = RNG.integers(0, 2, (7, 4)).astype(np.float32)


def of_torch(function):
    """A loss of PyTorch as a function of arrays."""
    return lambda outputs, y: float(function(torch.from_numpy(np.array(outputs)), torch.from_numpy(np.array(y))))


KNOWN = [
    (functional.cross_entropy, CLASSES, "cross-entropy of logits", "mean", ""),
    (functional.cross_entropy, SHARES, "cross-entropy of logits", "mean", ""),
    (lambda z, y: functional.cross_entropy(z, y, reduction="sum"), CLASSES, "cross-entropy of logits", "sum", ""),
    (lambda z, y: functional.cross_entropy(z.softmax(-1), y), CLASSES, "cross-entropy of logits", "mean", "softmax"),
    (lambda z, y: functional.cross_entropy(z.relu(), y), CLASSES, "cross-entropy of logits", "mean", ""),
    (functional.nll_loss, CLASSES, "negative log-likelihood", "mean", ""),
    (lambda z, y: functional.nll_loss(z.log_softmax(-1), y), CLASSES, "cross-entropy of logits", "mean", ""),
    (functional.binary_cross_entropy, BINARY, "binary cross-entropy of probabilities", "mean", ""),
    (functional.binary_cross_entropy_with_logits, BINARY, "binary cross-entropy of logits", "mean", ""),
    (lambda z, y: functional.binary_cross_entropy_with_logits(z.sigmoid(), y), BINARY,
     "binary cross-entropy of logits", "mean", "sigmoid"),
    (functional.mse_loss, NUMBERS, "mean squared error", "mean", ""),
    (lambda z, y: ((z - y) ** 2).sum(1).mean(), NUMBERS, "mean squared error", "mean of sums", ""),
    (functional.l1_loss, NUMBERS, "mean absolute error", "mean", ""),
    (functional.huber_loss, NUMBERS, "Huber loss", "mean", ""),
]  # fmt: skip


@pytest.mark.parametrize(("function", "targets", "name", "reduction", "inside"), KNOWN)
def test_the_kind_of_a_loss(function, targets, name, reduction, inside):
    found = identified(of_torch(function), (7, 4), targets)
    assert found is not None
    assert (found.kind.name, found.reduction, found.inside) == (name, reduction, inside)


@pytest.mark.parametrize(("name", "targets", "kind"), [
    ("sparse_categorical_crossentropy", CLASSES, "cross-entropy of probabilities"),
    ("categorical_crossentropy", np.eye(4, dtype=np.float32)[CLASSES], "cross-entropy of probabilities"),
    ("binary_crossentropy", BINARY, "binary cross-entropy of probabilities"),
    ("mean_squared_error", NUMBERS, "mean squared error"),
])  # fmt: skip
def test_losses_of_keras(name, targets, kind):
    import keras

    function = keras.losses.get(name)
    found = identified(lambda outputs, y: float(np.mean(np.asarray(function(y, outputs)))), (7, 4), targets)
    assert found is not None
    assert found.kind.name == kind


def test_classes_on_axis_1():
    targets = RNG.integers(0, 4, (5, 3))
    found = identified(of_torch(functional.cross_entropy), (5, 4, 3), targets)
    assert found is not None
    assert found.axis == 1


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_shapes_that_meet_crosswise():
    crosswise = identified(of_torch(functional.mse_loss), (7, 1), NUMBERS[:, 0])
    squeezed = identified(of_torch(lambda z, y: functional.mse_loss(z[:, 0], y)), (7, 1), NUMBERS[:, 0])
    assert crosswise is not None
    assert squeezed is not None
    assert (crosswise.alignment, squeezed.alignment) == ("broadcast", "squeezed")


@pytest.mark.parametrize("function", [lambda z, y: 1 / 0, lambda z, y: float(np.sin(z).sum())])
def test_other_losses_are_unknown(function):
    assert identified(function, (7, 4), NUMBERS) is None
