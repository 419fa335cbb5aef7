"""Small tasks and networks of every kind that the trainer must be able to train."""

from collections.abc import Callable

import pytest

from fanin.keras.backend import start
from fanin.records import Task
from tests.toys import toy_task

start(None)

import keras  # noqa: E402 - only after the backend is decided
from keras import layers  # noqa: E402


@pytest.fixture(scope="session")
def task() -> Task:
    return toy_task()


def _dense() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6, 5, 2)), layers.Flatten(), layers.Dense(7, "tanh"), layers.Dense(3, activation="softmax")]
    )


def _norm_dropout() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Flatten(),
            layers.Dense(9, use_bias=False),
            layers.BatchNormalization(momentum=0.8),
            layers.Activation("relu"),
            layers.Dropout(0.3),
            layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1e-2)),
        ]
    )


def _convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(4, (3, 2), groups=2, activation="relu"),
            layers.SeparableConv2D(5, 2, activation="gelu"),
            layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.Conv2DTranspose(3, 2, activation="silu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )


def _recurrent() -> keras.Model:
    inputs = keras.Input((6, 5, 2))
    x = layers.Reshape((6, 10))(inputs)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GRU(5)(x)))


def _attention() -> keras.Model:
    inputs = keras.Input((6, 5, 2))
    x = layers.EinsumDense("bsf,fd->bsd", output_shape=(6, 8), bias_axes="d")(layers.Reshape((6, 10))(inputs))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "dense": _dense,
    "norm_dropout": _norm_dropout,
    "convolutions": _convolutions,
    "recurrent": _recurrent,
    "attention": _attention,
}


COSTLY = ("attention", "convolutions", "recurrent")
"""Compiled for most of a minute."""


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in COSTLY)) for name in sorted(NETWORKS)])
def network_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build(network_name: str) -> Callable[[], keras.Model]:
    return NETWORKS[network_name]


@pytest.fixture(scope="session")
def networks() -> dict[str, Callable[[], keras.Model]]:
    return NETWORKS
