"""`fanin.check` on the network of the assignment: its text blames the initializers, at fault is the ReLU at the end."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

import fanin
from fanin.doctor import Checkup

DIGITS = load_digits()
X = (DIGITS.data[:128] / 16).astype(np.float32)
ROWS = np.eye(10, dtype=np.float32)[DIGITS.target[:128]]


def checked(kernel: Any, output: str) -> Checkup:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([
        keras.Input((64,)), layers.Dense(48, "relu", kernel_initializer=kernel, name="hidden"),
        layers.Dense(10, output, kernel_initializer=kernel, name="output"),
    ])  # fmt: skip
    return fanin.check(model, X, ROWS, loss="categorical_crossentropy", optimizer="adam(learning_rate=0.01)", steps=20)


RANDOM = keras.initializers.RandomNormal(stddev=0.01)


@pytest.mark.parametrize("kernel", [
    "zeros", "glorot_uniform", pytest.param(RANDOM, marks=pytest.mark.slow),
    pytest.param("he_normal", marks=pytest.mark.slow),
], ids=["zeros", "xavier", "random", "he"])  # fmt: skip
def test_the_output_is_at_fault_and_not_the_initializer(kernel: Any) -> None:
    found = checked(kernel, "relu")
    errors = [each.code for each in found.findings if each.severity == "error"]
    assert (found.findings[0].code, found.findings[0].where) == ("output-activation", "output")
    assert errors == ["output-activation", *["zero-weights"] * (kernel == "zeros")]


def test_a_softmax_for_targets_that_are_no_shares() -> None:
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, "softmax", name="output")])
    found = fanin.check(model, X, X, loss="binary_crossentropy", steps=0)
    assert (found.findings[0].code, found.findings[0].where) == ("output-activation", "output")
    assert "sum to" in found.findings[0].observed


def test_with_a_softmax_there_is_no_fault() -> None:
    assert checked("glorot_uniform", "softmax").ok
