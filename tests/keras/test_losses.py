"""Losses found as `compile` finds them, against formulas in NumPy and against `evaluate`."""

import keras
import numpy as np
import pytest
from keras import layers

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.keras.losses import loss_function, loss_name

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 5, 7)


def cross_entropy(logits: np.ndarray, classes: np.ndarray) -> float:
    exponents = np.exp(logits.astype(np.float64))
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    return float(-np.mean([np.log(row[label]) for row, label in zip(shares, classes, strict=True)]))


def test_a_loss_is_found_by_object_function_and_name() -> None:
    exponents = np.exp(LOGITS)
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    expected = pytest.approx(cross_entropy(LOGITS, CLASSES), rel=1e-5)
    assert loss_function(keras.losses.SparseCategoricalCrossentropy(from_logits=True))(LOGITS, CLASSES) == expected
    for loss in ("sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy):
        assert loss_function(loss)(shares, CLASSES) == expected
    assert loss_function("CategoricalCrossentropy")(shares, np.eye(5)[CLASSES]) == expected


def test_outputs_come_first() -> None:
    def signed(targets: object, outputs: object) -> object:
        return keras.ops.mean(outputs - 2 * targets, axis=-1)  # type: ignore[operator]

    assert loss_function(signed)(np.full((3, 2), 5.0), np.full((3, 2), 1.0)) == pytest.approx(3.0)


def test_a_reduction_is_kept() -> None:
    targets = np.zeros((7, 5), np.float32)
    summed = loss_function(keras.losses.MeanSquaredError(reduction="sum"))(LOGITS, targets)
    assert summed == pytest.approx(7 * loss_function("mse")(LOGITS, targets), rel=1e-5)
    assert loss_function("mse")(LOGITS, targets) == pytest.approx(np.mean(LOGITS**2), rel=1e-5)


def test_the_compiled_loss_of_several_outputs_is_that_of_evaluate() -> None:
    inputs = keras.Input((3,))
    outputs = {"b": layers.Dense(2, name="b")(inputs), "a": layers.Dense(4, name="a")(inputs)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 0.25, "b": 3.0})
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    targets = {"a": RNG.normal(size=(6, 4)).astype(np.float32), "b": RNG.normal(size=(6, 2)).astype(np.float32)}
    found = model.predict_on_batch(x)
    expected = 0.25 * np.mean((found["a"] - targets["a"]) ** 2) + 3 * np.mean(np.abs(found["b"] - targets["b"]))
    flat = tuple(found[name] for name in sorted(found))
    assert loss_function(None, model)(flat, targets) == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(model.evaluate(x, targets, verbose=0, return_dict=True)["loss"], rel=1e-5)
    assert loss_name(None, model) == "mean_squared_error, mean_absolute_error"


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean mean_squared_error"):
        loss_function("mean_squared_eror")
    with pytest.raises(InvalidValueError, match="This is no loss"):
        loss_function(3)
    with pytest.raises(InvalidValueError, match="There is no loss"):
        loss_function(None, keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    with pytest.raises(ModelError, match=r"cannot be computed.*outputs \(7, 5\), targets \(3, 4\)"):
        loss_function("mse")(LOGITS, np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (None, ""), ("kld", "kl_divergence"), ("KLDivergence", "kl_divergence"), ("bce", "binary_crossentropy"),
        (keras.losses.LogCosh(), "log_cosh"), (cross_entropy, "cross_entropy"),
    ],
)  # fmt: skip
def test_names(loss: object, name: str) -> None:
    assert loss_name(loss) == name
