"""The built-in networks, and the user's own."""

from typing import Any

import keras
import numpy as np
import pytest

from fanin.errors import FaninError, InvalidValueError, ModelError, UnknownNameError
from fanin.experiments.tasks import make_task
from fanin.keras.models import activation_names, build, fit_input
from fanin.keras.optimizers import optimizer
from fanin.keras.program import network
from fanin.records import Call, ModelSpec, Settings, Task

SETTINGS = Settings(Call("adam"), 8, 1, 1)


def user(function: Any) -> ModelSpec:
    return ModelSpec("my.py:build", "user", (), "", function)


def dense(units: int, activation: str | None = None, shape: tuple[int, ...] = (30, 2)) -> Any:
    return lambda: keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(units, activation)])


@pytest.mark.parametrize(
    ("spec", "shape", "kernels"),
    [
        (ModelSpec("mlp:7x5", "mlp", (7, 5)), (6,), [(6, 7), (7, 5), (5, 3)]),
        (ModelSpec("mlp:7", "mlp", (7,)), (6, 5, 2), [(60, 7), (7, 3)]),
        (ModelSpec("cnn:4x6", "cnn", (4, 6)), (8, 12, 2), [(3, 3, 2, 4), (3, 3, 4, 6), (36, 3)]),
        (ModelSpec("cnn:4", "cnn", (4,)), (3, 5), [(3, 3, 1, 4), (60, 3)]),
    ],
)
def test_built_in_networks(spec: ModelSpec, shape: tuple[int, ...], kernels: list[tuple[int, ...]]) -> None:
    model = build(spec, shape, 3, "tanh")
    assert [tuple(v.shape) for v in model.trainable_variables if v.path.endswith("kernel")] == kernels
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 3)
    again = build(spec, shape, 3, "tanh")
    assert [v.path for v in model.trainable_variables] == [v.path for v in again.trainable_variables]


def test_activations_are_keras_activations() -> None:
    assert {"relu", "tanh", "gelu", "silu", "selu", "sigmoid", "linear"} <= set(activation_names())
    for name in activation_names():
        assert callable(keras.activations.get(name))


def test_an_unknown_activation_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean relu"):
        build(ModelSpec("mlp:7", "mlp", (7,)), (6,), 3, "rellu")


def test_unnamed_layers_of_a_users_model_keep_their_names() -> None:
    paths = [[v.path for v in build(user(dense(3)), (30, 2), 3, "").variables] for _ in range(2)]
    assert paths[0] == paths[1]


@pytest.mark.parametrize(
    ("spec", "activation", "message"),
    [
        (ModelSpec("cnn:4", "cnn", (4,)), "relu", "A cnn needs images"),
        (user(lambda: 1 / 0), "", "could not be built: ZeroDivisionError"),
        (user(lambda: 42), "", "did not return a Keras model"),
        (user(dense(3)), "relu", "brings its own activations"),
        (user(dense(4)), "", "output and the data do not fit"),
        (user(dense(3, shape=(7, 7))), "", "The model and the data do not fit"),
    ],
)
def test_what_cannot_be_built_is_one_clear_error(spec: ModelSpec, activation: str, message: str, flat: Task) -> None:
    with pytest.raises(FaninError, match=message):
        network(spec, flat, activation, SETTINGS)


@pytest.fixture
def flat() -> Task:
    rng = np.random.default_rng(0)
    return make_task("flat", {"x": rng.normal(size=(40, 60)).astype(np.float32), "y": np.arange(40) % 3})


def test_the_same_numbers_in_another_shape_are_laid_out_as_the_model_wants(flat: Task) -> None:
    net = network(user(dense(3)), flat, "", SETTINGS)
    assert net.input_shape == (30, 2)
    assert fit_input(dense(3)(), (30, 2), "x") == (30, 2)


def _value(net: Any, y: Any, out: Any) -> float:
    return float(np.mean(np.asarray(net.loss(y, out))))


@pytest.mark.parametrize("last", [None, "softmax"])
def test_the_loss_follows_from_the_output(flat: Task, last: str | None) -> None:
    net = network(user(dense(3, last)), flat, "", SETTINGS)
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.array([0, 1, 2, 1, 0], np.int32)
    expected = -np.log(p[np.arange(5), y]).mean()
    assert _value(net, y, p if last else logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "logits"),
    [
        ("sparse_categorical_crossentropy", False),
        ("categorical_crossentropy", False),
        (keras.losses.CategoricalCrossentropy(from_logits=True), True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
    ],
)
def test_a_compiled_loss_is_used(flat: Task, loss: Any, logits: bool) -> None:
    def make() -> keras.Model:
        model = dense(3, None if logits else "softmax")()
        model.compile(loss=loss)
        return model

    net = network(user(make), flat, "", SETTINGS)
    out = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    p = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
    y = np.array([0, 1, 2, 1, 0], np.int32)
    assert _value(net, y, out if logits else p) == pytest.approx(-np.log(p[np.arange(5), y]).mean(), rel=1e-5)


@pytest.mark.parametrize(("last", "outputs"), [("sigmoid", [[0.9], [0.2], [0.6]]), (None, [[2.0], [-1.0], [0.5]])])
def test_one_unit_for_two_classes(last: str | None, outputs: list[list[float]]) -> None:
    rng = np.random.default_rng(0)
    task = make_task("two", {"x": rng.normal(size=(40, 60)).astype(np.float32), "y": np.arange(40) % 2})
    net = network(user(dense(1, last)), task, "", SETTINGS)
    y, out = np.array([1, 0, 0], np.int32), np.array(outputs, np.float32)
    assert np.asarray(net.metric(y, out)).tolist() == [1, 1, 0]
    p = out[:, 0] if last else 1 / (1 + np.exp(-out[:, 0]))
    assert _value(net, y, out) == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))), rel=1e-5)


def test_an_output_that_is_no_number_is_no_right_answer(flat: Task) -> None:
    net = network(user(dense(3)), flat, "", SETTINGS)
    out = np.array([[np.nan, 0, 0], [3, 1, 2]], np.float32)
    assert np.asarray(net.metric(np.zeros(2, np.int32), out)).tolist() == [0, 1]


def test_a_subclassed_model_must_say_its_loss(flat: Task) -> None:
    class Mine(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.out = keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.out(x)

    with pytest.raises(ModelError, match="logits or probabilities"):
        network(user(Mine), flat, "", SETTINGS)

    def compiled() -> keras.Model:
        model = Mine()
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    assert len(network(user(compiled), flat, "", SETTINGS).info.params) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (Call("adamm"), UnknownNameError, "Did you mean adam"),
        (Call("sgd", learning_rate=0.1), InvalidValueError, "Use --lr"),
        (Call("sgd", momentun=0.9), InvalidValueError, "momentun"),
    ],
)
def test_wrong_optimizers(call: Call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optimizer(call)


def test_optimizer_parameters_arrive() -> None:
    assert optimizer(Call("sgd", momentum=0.9)).momentum == 0.9
