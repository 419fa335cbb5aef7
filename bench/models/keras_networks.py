"""Keras networks: by hand, and those of keras.applications with new weights."""

import os
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers

from models import Case, images, vectors

__all__ = ["CASES", "mlp", "recurrent", "transformer", "vgg"]


def mlp(depth: int, activation: str, width: int = 128, inputs: int = 64, outputs: int = 10) -> Any:
    """`depth` hidden layers of one width and a readout."""
    hidden = [layers.Dense(width, activation) for _ in range(depth)]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(outputs)])


def vgg(size: int = 32, channels: int = 3) -> Any:
    """3 x 3 convolutions with ReLU, a maximum over 2 x 2 after each stage, a hidden layer, no normalisation."""
    stages: list[Any] = []
    for widths in ((32, 32), (64, 64), (128, 128, 128)):
        stages += [layers.Conv2D(width, 3, padding="same", activation="relu") for width in widths]
        stages.append(layers.MaxPooling2D(2))
    head = [layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10)]
    return keras.Sequential([keras.Input((size, size, channels)), *stages, *head])


def recurrent(length: int = 30, features: int = 24, width: int = 64) -> Any:
    """Two layers of an LSTM over a sequence of vectors, and a readout of the last state."""
    hidden = [layers.LSTM(width, return_sequences=True), layers.LSTM(width)]
    return keras.Sequential([keras.Input((length, features)), *hidden, layers.Dense(10)])


def transformer(depth: int = 6, length: int = 32, features: int = 24, width: int = 128, heads: int = 4) -> Any:
    """Blocks of attention and of a layer pair, the norm before each."""
    x = given = keras.Input((length, features))
    x = layers.Dense(width)(x)
    for _ in range(depth):
        normed = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads)(normed, normed)])
        hidden = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(hidden)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(given, layers.Dense(10)(x))


def resnet50() -> Any:
    return keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)


def efficientnet() -> Any:
    return keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), classes=10)


def photographs() -> np.ndarray:
    """What EfficientNet takes: pixels from 0 to 255, which its first layers standardise themselves."""
    return np.clip(127 + 60 * images(8, 64, channels_last=True), 0, 255)


CASES = (
    Case("mlp 20 tanh", "keras", "mlp", partial(mlp, 20, "tanh"), partial(vectors, 64, 64), quick=True),
    Case("mlp 50 silu", "keras", "mlp", partial(mlp, 50, "silu"), partial(vectors, 64, 64)),
    Case("vgg", "keras", "convolutional", vgg, partial(images, 16, 32, 3, True), quick=True),
    Case("resnet 50", "keras", "residual", resnet50, partial(images, 8, 64, 3, True)),
    Case("efficientnet b0", "keras", "residual", efficientnet, photographs),
    Case("lstm", "keras", "recurrent", recurrent, partial(vectors, 32, 30, 24)),
    Case("transformer", "keras", "transformer", transformer, partial(vectors, 16, 32, 24), quick=True),
)
