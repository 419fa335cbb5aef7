"""`fanin.check` on the network of the assignment: its text blames the initializers, at fault is the ReLU at the end."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

import fanin
from fanin.doctor import Checkup
from fanin.errors import ModelError

DIGITS = load_digits()
X = (DIGITS.data[:128] / 16).astype(np.float32)
CLASSES = DIGITS.target[:128]
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


class Waiting(keras.Model):
    """Gets its layers at its first call, as most models that are classes do."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = layers.Dense(12, "tanh"), layers.Dense(10, "softmax")

    def call(self, x: Any) -> Any:
        """Shares."""
        return self.last(self.hidden(x))


def test_a_model_that_was_never_called_is_built_on_the_batch() -> None:
    model = Waiting()
    found = fanin.check(model, X, ROWS, loss="categorical_crossentropy", optimizer="adam(learning_rate=0.01)", steps=20)
    assert model.built
    assert [each.code for each in found.findings if each.severity == "error"] == []


def test_a_loss_that_rounds_answers_sends_no_gradient() -> None:
    def wrong(y: Any, outputs: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(y - keras.ops.round(outputs)))

    found = fanin.check(Waiting(), X, ROWS, loss=wrong, optimizer="adam", steps=5)
    assert (found.findings[0].code, found.findings[0].where) == ("gradient-blocked", "the loss")


def test_one_target_for_all_steps_of_a_sequence() -> None:
    x = np.random.default_rng(2).normal(size=(40, 12, 3)).astype(np.float32)
    for whole in (True, False):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((12, 3)), layers.GRU(8, return_sequences=whole), layers.Dense(1)])
        found = fanin.check(model, x, x[:, -1:, 0], loss="mean_squared_error", steps=10)
        assert ("broadcast-loss" in [each.code for each in found.findings]) is whole


def test_states_that_explode_in_time() -> None:
    keras.utils.set_random_seed(4)
    x = np.random.default_rng(2).normal(size=(40, 30, 3)).astype(np.float32)
    kernel = keras.initializers.RandomNormal(stddev=0.5)
    layer = layers.SimpleRNN(32, "relu", recurrent_initializer=kernel, name="states")
    model = keras.Sequential([keras.Input((30, 3)), layer, layers.Dense(1)])
    found = fanin.check(model, x, x[:, -1:, 0], loss="mean_squared_error", optimizer="adam", steps=20)
    assert (found.findings[0].code, found.findings[0].where) == ("exploding-signal", "states")


@pytest.mark.parametrize("seeds", [(5, 5), (5, 6)])
def test_halves_of_a_maxout_from_one_seed_stay_the_same(seeds: tuple[int, int]) -> None:
    x = keras.Input((64,))
    halves = [layers.Dense(24, kernel_initializer=keras.initializers.GlorotNormal(seed=seed))(x) for seed in seeds]
    model = keras.Model(x, layers.Dense(10, "softmax")(layers.Maximum()(halves)))
    found = fanin.check(model, X, ROWS, loss="categorical_crossentropy", optimizer="adam(learning_rate=0.01)", steps=20)
    warned = [each.code for each in found.findings if each.severity != "info"]
    assert warned == (["repeated-weights"] if seeds == (5, 5) else [])


class Two(keras.Model):
    """Takes both inputs in one argument, as `fit` gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = layers.Dense(9, "relu"), layers.Dense(9, "relu"), layers.Dense(10, "softmax")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Shares."""
        one, two = inputs
        return self.last(self.one(one) * self.two(two))


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("cut", [20, 32])
def test_several_inputs_of_a_model_with_one_argument(kind: Any, cut: int) -> None:
    parts = kind((X[:, :cut], X[:, cut:]))
    model = Two()
    found = fanin.check(model, parts, ROWS, loss="categorical_crossentropy", optimizer="adam(learning_rate=0.02)")
    assert found.ok
    assert fanin.describe(model, parts).ops


def test_targets_and_losses_by_name() -> None:
    x = keras.Input((64,))
    hidden = layers.Dense(24, "relu")(x)
    heads = {"kind": layers.Dense(10, "softmax", name="kind")(hidden), "size": layers.Dense(1, name="size")(hidden)}
    loss = {"kind": "categorical_crossentropy", "size": "mean_squared_error"}
    found = fanin.check(keras.Model(x, heads), X, {"kind": ROWS, "size": X[:, :1]}, loss=loss, steps=20)
    assert [each.code for each in found.findings if each.severity == "error"] == []
    assert found.trial.losses[-1] < found.trial.losses[0]


@pytest.mark.parametrize("shift", [1, 3])
def test_class_numbers_behind_the_last_class_are_told_where_they_are_passed_over(shift: int) -> None:
    model = keras.Sequential([keras.Input((64,)), layers.Dense(24, "relu"), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = fanin.check(model, X, DIGITS.target[:128] + shift, loss=loss, steps=5)
    assert found.findings[0].code == "targets-out-of-range"


@pytest.mark.parametrize("end", ["", "softmax"])
def test_without_a_loss_one_is_taken_that_fits(end: str) -> None:
    model = keras.Sequential([
        keras.Input((64,)), layers.Dense(24, "relu"), layers.Dense(10, end or None),
    ])  # fmt: skip
    found = fanin.check(model, X, CLASSES, optimizer="adam(learning_rate=0.01)")
    assert found.ok
    assert f"for {'shares' if end else 'logits'}" in found.notes[0]


def test_pictures_that_are_turned_on_the_way() -> None:
    model = keras.Sequential([
        keras.Input((64,)), layers.Reshape((8, 8, 1)), layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.02), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(),
        layers.Dense(10),
    ])  # fmt: skip
    found = fanin.check(model, X, CLASSES, optimizer="adam(learning_rate=0.01)")
    assert found.ok
    assert len(found.notes) == 1  # on the loss


def test_a_layer_that_takes_no_batch_while_it_is_trained() -> None:
    class Cut(layers.Layer):
        """As Keras's random crop does where it is compiled for JAX."""

        def call(self, x: Any, training: bool = False) -> Any:
            return x[:, : int(x.sum())] if training else x

    model = keras.Sequential([keras.Input((64,)), Cut(name="cut"), layers.Dense(10)])
    with pytest.raises(ModelError, match="cannot be computed: "):
        fanin.check(model, X, CLASSES)
