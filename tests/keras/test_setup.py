"""What is trained by what, and what Keras does not find, against models that are made so."""

import types
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

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
