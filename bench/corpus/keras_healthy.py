"""Keras networks that train well, many of which look as if something were wrong."""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from keras import layers
from sklearn.neural_network import MLPClassifier

from corpus import Case, data

__all__ = ["CASES", "convolutional", "mlp", "sequential"]

Batch = Callable[[], tuple[Any, Any]]


def sequential(shape: Sequence[int], *parts: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *parts])


def mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: str = "relu", last: str | None = None,
        **options: Any) -> Any:  # fmt: skip
    """Dense layers; `options` go to the hidden ones."""
    return sequential((inputs,), *(layers.Dense(width, activation, **options) for width in hidden),
                      layers.Dense(outputs, last))  # fmt: skip


def convolutional(norm: bool = True, **options: Any) -> Any:
    """Two convolutions with a maximum after each; `options` go to all layers."""
    parts: list[Any] = []
    for width in (12, 24):
        parts.append(layers.Conv2D(width, 3, padding="same", **options))
        parts += [*([layers.BatchNormalization()] if norm else []), layers.ReLU(), layers.MaxPooling2D(2)]
    return sequential((8, 8, 1), *parts, layers.Flatten(), layers.Dense(10, "softmax", **options))


def residual() -> Any:
    """Blocks whose last norm starts at zero."""
    x = given = keras.Input((8, 8, 1))
    x = layers.Conv2D(12, 3, padding="same")(x)
    for _ in range(3):
        branch = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(12, 3, padding="same", use_bias=False)(x)))
        branch = layers.Conv2D(12, 3, padding="same", use_bias=False)(branch)
        x = layers.Add()([x, layers.BatchNormalization(gamma_initializer="zeros")(branch)])
    return keras.Model(given, layers.Dense(10)(layers.Flatten()(layers.AveragePooling2D(2)(layers.ReLU()(x)))))


def separable() -> Any:
    parts = (layers.SeparableConv2D(width, 3, padding="same", activation="relu") for width in (16, 32))
    return sequential((8, 8, 1), *parts, layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10, "softmax"))


def transformer() -> Any:
    """Attention and a layer pair, the norm before each."""
    x = given = keras.Input((8, 8))
    x = layers.Dense(32)(x)
    for _ in range(2):
        normed = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 16)(normed, normed)])
        hidden = layers.Dense(64, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(32)(hidden)])
    return keras.Model(given, layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))))


def words(kind: Any) -> Any:
    return sequential((12,), layers.Embedding(50, 8), kind(32), layers.Dense(3, "softmax"))


def bag() -> Any:
    return sequential((12,), layers.Embedding(50, 16), layers.GlobalAveragePooling1D(), layers.Dense(24, "relu"),
                      layers.Dense(3, "softmax"))  # fmt: skip


def siamese() -> Any:
    """One tower for both pictures."""
    one, two = keras.Input((64,)), keras.Input((64,))
    tower = mlp(64, (64,), 16)
    apart = keras.ops.abs(layers.Subtract()([tower(one), tower(two)]))
    return keras.Model([one, two], layers.Dense(1, "sigmoid")(apart))


def unet() -> Any:
    given = keras.Input((16, 16, 1))
    fine = layers.Conv2D(12, 3, padding="same", activation="relu")(given)
    coarse = layers.Conv2D(24, 3, padding="same", activation="relu")(layers.MaxPooling2D(2)(fine))
    both = layers.Concatenate()([fine, layers.Conv2DTranspose(12, 2, 2)(coarse)])
    return keras.Model(given, layers.Conv2D(3, 1, activation="softmax")(layers.Conv2D(12, 3, padding="same",
                       activation="relu")(both)))  # fmt: skip


@cache
def _trained() -> tuple[Any, ...]:
    """The hidden weights, then the biases, of a network that scikit-learn has taught even from odd."""
    x, y = data.digits()
    taught = MLPClassifier((48, 48), solver="lbfgs", max_iter=50, random_state=0).fit(x, y % 2)
    return tuple(taught.coefs_[:2]), tuple(taught.intercepts_[:2])


def transferred() -> Any:
    """Those hidden layers, frozen, and a new head."""
    hidden = (
        layers.Dense(48, "relu", trainable=False, kernel_initializer=_given(kernel), bias_initializer=_given(bias))
        for kernel, bias in zip(*_trained(), strict=True)
    )
    return sequential((64,), *hidden, layers.Dense(10))


def _given(values: Any) -> Callable[..., Any]:
    return lambda shape, dtype=None: keras.ops.convert_to_tensor(values, dtype)


def healthy(name: str, build: Callable[[], Any], batch: Batch, loss: Any, note: str = "",
            optimizer: str = "adam(learning_rate=0.005)") -> Case:  # fmt: skip
    return Case(name, "keras", build, batch, loss, optimizer, note=note)


SPARSE, ROWS, BINARY = "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"
SCORES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY_SCORES = keras.losses.BinaryCrossentropy(from_logits=True)
MEAN_SQUARED = "mean_squared_error"
images = partial(data.digits, (8, 8, 1))
CASES = (
    healthy("softmax, class numbers", partial(mlp, 64, (48, 48), 10, last="softmax"), data.digits, SPARSE,
            "probabilities into the loss of probabilities"),
    healthy("softmax, rows", partial(mlp, 64, (48, 48), 10, last="softmax"), data.one_hot, ROWS),
    healthy("scores, class numbers", partial(mlp, 64, (48, 48), 10), data.digits, SCORES),
    healthy("sigmoid", partial(mlp, 64, (48,), 1, last="sigmoid"), data.parity, BINARY),
    healthy("scores of one", partial(mlp, 64, (48,), 1), data.parity, BINARY_SCORES),
    healthy("inputs from 0 to 1", partial(mlp, 64, (48,), 10, last="softmax"), partial(data.digits, scale="unit"),
            SPARSE),
    healthy("pixels, rescaled inside", lambda: sequential((64,), layers.Rescaling(1 / 255), layers.Dense(48, "relu"),
            layers.Dense(10, "softmax")), partial(data.digits, scale="pixels"), SPARSE, "inputs from 0 to 255"),
    healthy("convolutions, batch norm", convolutional, images, SPARSE),
    healthy("convolutions", partial(convolutional, norm=False), images, SPARSE),
    healthy("residual, zero norm last", residual, images, SCORES, "a norm's scale starts at 0"),
    healthy("separable convolutions", separable, images, SPARSE),
    healthy("transformer, pre-norm", transformer, partial(data.digits, (8, 8)), SCORES),
    healthy("gru", partial(words, layers.GRU), data.sentences, SPARSE),
    healthy("lstm", partial(words, layers.LSTM), data.sentences, SPARSE, "a forget gate's bias of 1"),
    healthy("bag of words", bag, data.sentences, SPARSE, "an embedding from U(-.05, .05)", "adam(learning_rate=0.01)"),
    healthy("siamese", siamese, data.pairs, BINARY, "one tower used twice"),
    healthy("unet", unet, partial(data.squares, True), SPARSE, optimizer="adam(learning_rate=0.01)"),
    healthy("autoencoder", partial(mlp, 64, (48, 16, 48), 64, last="sigmoid"), data.copies, BINARY,
            "targets between 0 and 1"),
    healthy("linear regression", partial(mlp, 6, (), 1), data.houses, MEAN_SQUARED, "no hidden layer",
            "sgd(learning_rate=0.1)"),
    healthy("logistic regression at zero", lambda: sequential((64,), layers.Dense(10, "softmax",
            kernel_initializer="zeros")), data.digits, SPARSE, "all weights start at 0", "adam(learning_rate=0.01)"),
    healthy("regression", partial(mlp, 6, (48, 48), 1), data.houses, MEAN_SQUARED),
    healthy("targets without a column", partial(mlp, 6, (48, 48), 1), partial(data.houses, column=False), MEAN_SQUARED,
            "Keras makes (n,) targets (n, 1) like the outputs"),
    healthy("tanh output", partial(mlp, 64, (64, 32, 64), 64, last="tanh"), partial(data.copies, low=-1.0),
            MEAN_SQUARED, "targets from -1 to 1"),
    healthy("frozen layers, new head", transferred, data.digits, SCORES, "all but the head frozen",
            "adam(learning_rate=0.02)"),
    healthy("rare class, prior as bias", lambda: sequential((64,), layers.Dense(48, "relu"), layers.Dense(1, "sigmoid",
            bias_initializer=keras.initializers.Constant(-2.2))), data.imbalanced, BINARY, "outputs start far from .5"),
    healthy("selu", partial(mlp, 20, (32,) * 6, 4, "selu", "softmax", kernel_initializer="lecun_normal"), data.blobs,
            SPARSE),
    healthy("silu", partial(mlp, 64, (48, 48), 10, "silu", "softmax"), data.digits, SPARSE),
    healthy("half dropped", lambda: sequential((64,), layers.Dense(96, "relu"), layers.Dropout(0.5), layers.Dense(10,
            "softmax")), data.digits, SPARSE, "dropout of one half"),
    healthy("momentum", partial(mlp, 64, (48, 48), 10, last="softmax"), data.digits, SPARSE,
            optimizer="sgd(learning_rate=0.05, momentum=0.9)"),
    healthy("very wide", partial(mlp, 64, (1024,), 10, last="softmax"), data.digits, SPARSE,
            optimizer="adam(learning_rate=0.001)"),
    healthy("tanh, narrow", partial(mlp, 2, (8, 8), 2, "tanh", "softmax"), data.moons, SPARSE,
            optimizer="adam(learning_rate=0.02)"),
)  # fmt: skip
