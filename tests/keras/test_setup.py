"""What is trained by what, and what Keras does not find, against models that are made so."""

import types
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.keras.layouts import variables_of
from fanin.keras.setup import setup


def network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(5, name="one"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(3, name="two"),
        ]
    )


def test_nothing_given_is_nothing_said() -> None:
    found = setup(network())
    assert (found.training, found.optimizer, found.learning_rate, found.loss) == (True, "", None, "")
    assert found.frozen == found.forgotten == found.unregistered == ()


def test_frozen_are_parameters_of_layers_that_are_not_trained() -> None:
    model = network()
    model.get_layer("norm").trainable = False
    assert setup(model).frozen == ("norm/gamma", "norm/beta")  # its moving statistics are none
    model.get_layer("one").kernel.trainable = False
    assert set(setup(model).frozen) == {"one/kernel", "norm/gamma", "norm/beta"}
    model.trainable = False
    assert len(setup(model).frozen) == 6


def test_an_optimizer_that_was_built_before_forgets() -> None:
    model = network()
    model.get_layer("one").trainable = False
    model.compile(keras.optimizers.SGD(0.3, momentum=0.9), "mse")
    assert setup(model).forgotten == ()  # it is not built yet: fit will give it all
    model.optimizer.build(model.trainable_variables)
    model.get_layer("one").trainable = True
    found = setup(model)
    assert found.forgotten == ("one/kernel", "one/bias")
    assert (found.optimizer, found.learning_rate, found.momentum, found.loss) == ("sgd", 0.3, 0.9, "mean_squared_error")
    other = keras.optimizers.Adam()
    other.build(network().trainable_variables)
    assert setup(model, other).forgotten == tuple(variables_of(model))


def test_an_optimizer_as_a_text_and_a_schedule() -> None:
    model = network()
    found = setup(model, "SGD(learning_rate=0.1, momentum=0.5)", "mae")
    assert (found.optimizer, found.learning_rate, found.momentum) == ("sgd", 0.1, 0.5)
    assert found.loss == "mean_absolute_error"
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    found = setup(model, keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(schedule, momentum=0.2)))
    assert (found.optimizer, found.learning_rate, found.momentum) == ("rmsprop", None, 0.2)
    with pytest.raises(UnknownNameError, match="Did you mean adam"):
        setup(model, "adm")
    assert setup(model, "adam(lr=0.1)").learning_rate == 0.1
    with pytest.raises(InvalidValueError, match="speed"):
        setup(model, "adam(speed=0.1)")


class Hidden(keras.Model):
    """Keras looks into lists, tuples and dicts, and not into other objects, nor into functions."""

    def __init__(self) -> None:
        super().__init__(name="hidden")
        self.listed = [layers.Dense(3, name="listed")]
        self.named = {"a": (layers.Dense(3, name="deep"),)}
        self.parts = types.SimpleNamespace(dense=layers.Dense(3, name="lost"), table=keras.Variable(np.ones(3)))
        weight = keras.Variable(np.ones((7, 3)), name="weight")
        self.function = layers.Lambda(lambda x: x @ weight, name="function")

    def call(self, x: Any) -> Any:
        return self.listed[0](x) + self.named["a"][0](x) + self.parts.dense(x) * self.parts.table + self.function(x)


def test_what_keras_does_not_find_is_named() -> None:
    model = Hidden()
    model(np.ones((2, 7), np.float32))
    assert len(model.trainable_variables) == 4
    found = setup(model).unregistered
    assert set(found) == {"parts.dense.kernel", "parts.dense.bias", "parts.table", "function.function.weight"}


TABLE = keras.Variable(np.ones((7, 3)), name="table")
STILL = keras.Variable(np.ones(3), name="still", trainable=False)


class Borrowing(layers.Layer):
    """Keras sees no variable of a module or of a class."""

    factor = keras.Variable(np.ones(3), name="factor")

    def build(self, shape: Any) -> None:
        self.own = self.add_weight(shape=(3,), name="own")

    def call(self, x: Any) -> Any:
        return (x @ TABLE) * self.factor + self.own + STILL


def test_what_no_layer_holds_is_named_where_it_is_used() -> None:
    inputs = keras.Input((7,))
    shift = keras.Variable(np.ones(3), name="shift")
    model = keras.Model(inputs, ops.add(Borrowing(name="borrowing")(inputs), shift))
    assert setup(model).unregistered == ("borrowing.table", "borrowing.factor", "shift")
    mask = np.random.default_rng(1).normal(size=(7, 3))  # an array may be meant to stay
    assert setup(keras.Model(inputs, layers.Dense(2)(ops.matmul(inputs, mask)))).unregistered == ()


class Multiplied(layers.Layer):
    """The signal times an array, which may be drawn anew at each call."""

    def __init__(self, array: Any = None) -> None:
        super().__init__(name="multiplied")
        self.array, self.seed = array, keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        drawn = keras.random.normal((24, 10), stddev=0.2, seed=self.seed) if self.array is None else self.array
        return ops.matmul(x, drawn)


def constant_in(array: Any) -> tuple[str, ...]:
    return setup(keras.Sequential([keras.Input((24,)), Multiplied(array), layers.Dense(2)])).constant


@pytest.mark.parametrize(
    "name", ["glorot_uniform", "he_normal", "lecun_normal", "random_normal", "he_uniform", "truncated_normal"]
)
def test_arrays_that_were_drawn_as_weights_are_named(name: str) -> None:
    array = keras.initializers.get({"class_name": name, "config": {"seed": 4}})((24, 10))
    assert constant_in(array) == constant_in(np.asarray(array)) == ("multiplied",)
    model = keras.Sequential([keras.Input((24,)), layers.Dense(10, kernel_initializer=name, trainable=False)])
    assert setup(model).constant == ()  # the model knows of it


PLACES, WAVES = np.arange(24)[:, None], np.arange(10)


@pytest.mark.parametrize(
    "array",
    [
        None,
        np.eye(24)[:, :10],
        np.cos(np.pi / 24 * (PLACES + 0.5) * WAVES) * (2 / 24) ** 0.5,
        np.sin(PLACES / 1e4 ** (WAVES / 10)),
        np.exp(-0.5 * (PLACES - 2.4 * WAVES) ** 2),
        (np.random.default_rng(3).random((24, 10)) < 0.2) / 5.0,
        np.random.default_rng(3).dirichlet(np.ones(24), 10).T,
        np.sign(np.random.default_rng(3).normal(size=(24, 10))),
        np.full((24, 10), 0.1),
        np.ones((24, 1)) / 24,
    ],
    ids=["noise", "identity", "cosines", "places", "bumps", "graph", "shares", "signs", "constant", "mean"],
)
def test_arrays_that_are_meant_as_they_are_are_not_named(array: Any) -> None:
    assert constant_in(None if array is None else array.astype(np.float32)) == ()
