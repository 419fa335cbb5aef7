"""The drop-in initializers in Keras's layers and models: each weight has the values of its path."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import fanin.keras as initializers
from fanin import sample
from fanin.keras import backend

backend.start(None)


def expect(variable: Any, law: str, seed: int = 7, **layout: Any) -> None:
    expected = sample(law, tuple(variable.shape), seed=seed, name=variable.path, **layout)
    np.testing.assert_array_equal(np.asarray(variable.value), expected, variable.path, strict=True)


def assert_same_weights(one: keras.Model, other: keras.Model) -> None:
    for ours, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours.value), np.asarray(theirs.value), strict=True)


def test_kernels_of_one_shape_under_one_seed_differ() -> None:
    init = initializers.RandomNormal(seed=7)
    cell = layers.LSTM(4, kernel_initializer=init, recurrent_initializer=init, name="memory")
    cell.build((None, 5, 4))
    dense = [layers.Dense(16, kernel_initializer=init, name=name) for name in ("first", "second")]
    for layer in dense:
        layer.build((None, 4))
    kernels = [*cell.weights[:2], *(layer.kernel for layer in dense)]
    assert {tuple(kernel.shape) for kernel in kernels} == {(4, 16)}
    # Numbers on a grid of 2**-24 or finer: 6 pairs of 64 collide with probability below 6 * 64 * 2**-23 = 5e-5.
    arrays = [np.asarray(kernel.value) for kernel in kernels]
    assert all((one != other).all() for i, one in enumerate(arrays) for other in arrays[:i])
    for kernel in kernels:
        expect(kernel, "random_normal")


@pytest.mark.parametrize("name", ["HeNormal", "VarianceScaling", "GlorotUniform"])
def test_attention_and_einsum_have_the_fans_that_keras_gives_them(name: str) -> None:
    # Keras 3.15 tells its own variance scaling which axes of these kernels are inputs.
    init = getattr(initializers, name)(seed=7)
    attention = layers.MultiHeadAttention(2, 3, value_dim=5, kernel_initializer=init, name="attention")
    attention.build((None, 9, 6), (None, 9, 6))
    for part in (attention.query_dense, attention.key_dense, attention.value_dense):
        expect(part.kernel, name, axes=("in", "out", "out"))
    expect(attention.output_dense.kernel, name, axes=("in", "in", "out"))
    dense = layers.EinsumDense("abc,cde->abde", (9, 2, 5), kernel_initializer=init, name="dense")
    dense.build((None, 9, 6))
    expect(dense.kernel, name, axes=("in", "out", "out"))


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self, **given: Any):
        super().__init__(**given)
        self.inner, self.head = stack("inner"), layers.Dense(3, kernel_initializer=initializers.HeNormal(seed=7))

    def call(self, inputs: Any) -> Any:
        return self.head(self.inner(inputs))


def stack(name: str) -> keras.Model:
    init = initializers.HeNormal(seed=7)
    return keras.Sequential(
        [keras.Input((3,))] + [layers.Dense(3, "relu", kernel_initializer=init) for _ in range(2)], name=name
    )


def functional() -> keras.Model:
    inputs = keras.Input((3,))
    outputs = layers.Dense(3, kernel_initializer=initializers.HeNormal(seed=7), name="head")(stack("inner")(inputs))
    return keras.Model(inputs, outputs, name="whole")


def subclassed() -> keras.Model:
    model = Subclassed(name="whole")
    model(np.zeros((1, 3), "float32"))
    return model


MODELS = {"sequential": lambda: stack("whole"), "functional": functional, "subclassed": subclassed}


@pytest.mark.parametrize("kind", MODELS)
def test_the_stream_of_a_weight_is_its_path(kind: str) -> None:
    keras.utils.clear_session(free_memory=False)
    model = MODELS[kind]()
    kernels = [weight for weight in model.weights if weight.name == "kernel"]
    assert len({kernel.path for kernel in kernels}) == len(kernels) == (2 if kind == "sequential" else 3)
    for kernel in kernels:
        expect(kernel, "he_normal")
    keras.utils.clear_session(free_memory=False)
    again = MODELS[kind]()
    assert [weight.path for weight in again.weights] == [weight.path for weight in model.weights]
    assert_same_weights(again, model)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, from saving an optimizer
def test_a_model_is_saved_read_cloned_and_trained(tmp_path: Path) -> None:
    # Functional: a Sequential is given other paths by Keras when it is cloned, "dense/kernel" for "whole/dense/kernel".
    inputs, init = keras.Input((3,)), initializers.HeNormal(seed=7)
    hidden = layers.Dense(3, "relu", kernel_initializer=init, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, kernel_initializer=init, name="head")(hidden))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)).astype("float32"), rng.normal(size=(32, 3)).astype("float32")
    clone, told = keras.models.clone_model(model), keras.models.model_from_json(model.to_json())
    for twin in (clone, told):
        assert_same_weights(twin, model)
    model.compile("sgd", "mse")
    losses = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_weights(loaded, model)
    for layer in (*clone.layers[1:], *told.layers[1:], *loaded.layers[1:]):
        assert type(layer.kernel_initializer) is initializers.HeNormal
        assert layer.kernel_initializer.get_config() == {"seed": 7, "input_axes": None, "output_axes": None}
