"""A fourth gathering of Keras networks, the faulty and the healthy, by someone who had not seen the doctor."""

import os
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers, ops

from corpus import data, makers, second_data
from corpus.keras_healthy import MEAN_SQUARED, SCORES, mlp, sequential

__all__ = ["CASES"]

images = partial(data.digits, (8, 8, 1))


def steps_that_are_zero(length: int = 100) -> tuple[Any, Any]:
    """Rows of noughts and then ones, and which share of them are noughts."""
    count = np.random.default_rng(80).integers(5, length - 5, 64)
    rows = (np.arange(length) >= count[:, None]).astype(np.float32)
    return rows[..., None], (count / length).astype(np.float32)[:, None]


def line() -> tuple[Any, Any]:
    """Seven points of a line."""
    x = np.arange(-1, 6, dtype=np.float32)[:, None]
    return x, 2 * x - 1


def counted(mask: bool) -> Any:
    """An LSTM that passes over noughts, or the mean over all steps of one that does not."""
    if mask:
        return sequential((100, 1), layers.Masking(0.0), layers.LSTM(10), layers.Dense(1, "relu"))
    return sequential((100, 1), layers.LSTM(10, return_sequences=True), layers.GlobalAveragePooling1D(),
                      layers.Dense(1))  # fmt: skip


def forecaster(last: str | None, *first: Any) -> Any:
    return sequential((20, 1), *first, layers.LSTM(24), layers.Dense(1, last))


def stock(small: bool) -> Any:
    """Two LSTMs and a wide layer; with small weights, ReLUs and dropout as it was asked about, or as they come."""
    start = keras.initializers.RandomUniform(-0.05, 0.05)
    options = {"kernel_initializer": start, "activation": "relu", "dropout": 0.5, "recurrent_dropout": 0.2}
    given = options if small else {}
    parts = [layers.BatchNormalization(), layers.Dropout(0.5)] if small else [layers.ReLU()]
    return sequential((20, 1), layers.LSTM(24, return_sequences=True, **given), layers.LSTM(16, **given),
                      layers.Dense(48, kernel_initializer=start if small else "glorot_uniform"), *parts,
                      layers.Dense(1, kernel_initializer="random_normal"))  # fmt: skip


def wrapped(hidden: bool) -> Any:
    """An LSTM that the model knows, or that a function of its own keeps."""
    inner = layers.LSTM(12)
    inner.build((None, 10, 4))
    return sequential((10, 4), layers.Lambda(lambda x: inner(x)) if hidden else inner, layers.Dense(3))


def slim_line(activation: str, last: str | None) -> Any:
    """Four, two and one units, with weights drawn as they are in most runs that get stuck."""
    starts = [keras.initializers.GlorotUniform(seed) for seed in (3, 5, 8)]
    return sequential((1,), layers.Dense(4, activation, kernel_initializer=starts[0]),
                      layers.Dense(2, activation, kernel_initializer=starts[1]),
                      layers.Dense(1, last, kernel_initializer=starts[2]))  # fmt: skip


def agreement(targets: Any, outputs: Any) -> Any:
    """The smaller size where the signs agree, less both sizes where they do not; it is to be large."""
    sizes = ops.abs(targets), ops.abs(outputs)
    return ops.sum(ops.where(targets * outputs > 0, ops.minimum(*sizes), -(sizes[0] + sizes[1])))


def pictures_back(last: str) -> Any:
    return mlp(64, (48, 24, 48), 64, last=last)


faulty, healthy = makers("keras", "adam(learning_rate=0.01)")


FAULTY = (
    faulty("noughts passed over that are counted", "collapsed-inputs saturated-units vanishing-signal",
           partial(counted, True), steps_that_are_zero, MEAN_SQUARED, {"build": partial(counted, False)},
           "https://datascience.stackexchange.com/questions/67599/"
           "use-lstm-to-predict-the-proportion-of-steps-with-nonzero-feature-values",
           "all that is left are ones, after which the states are alike"),
    faulty("a ReLU before and after", "output-activation", lambda: forecaster("relu", layers.ReLU()),
           second_data.series, MEAN_SQUARED, {"build": partial(forecaster, None)},
           "https://stackguides.com/questions/51432661/time-series-keras-lstm-echoing-instead-of-predicting",
           "half of the waves are below zero"),
    faulty("stock prices all alike", "weights-too-small vanishing-signal heavy-dropout collapsed-inputs",
           partial(stock, True), second_data.series, MEAN_SQUARED, {"build": partial(stock, False)},
           "https://techfeed.net/es/485530/", "weights from -.05 to .05 and half of all dropped thrice"),
    faulty("a network inside a function", "unregistered-parameters", partial(wrapped, True), second_data.needle,
           SCORES, {"build": partial(wrapped, False)}, "keras-team/keras-applications/issues/168",
           "a Lambda has no weights", "adam(learning_rate=0.03)"),
    faulty("pixels as shares of one", "output-activation", partial(pictures_back, "softmax"), data.copies,
           "binary_crossentropy", {"build": partial(pictures_back, "sigmoid")},
           "https://stackoverflow.com/questions/52441877/how-does-binary-cross-entropy-loss-work-on-autoencoders/"
           "52443301#52443301", "64 pixels cannot be bright at once"),
    faulty("a line through ReLUs", "dead-units output-activation", partial(slim_line, "relu", "relu"), line,
           MEAN_SQUARED, {"build": partial(slim_line, "tanh", None)},
           "https://community.deeplearning.ai/t/loss-values-do-not-change/324182", "stuck in 6 or 7 of 10 runs",
           "adam(learning_rate=0.03)"),
    faulty("signs of prices to disagree", "wrong-loss divergence", partial(mlp, 6, (48,), 1), data.houses, agreement,
           {"loss": MEAN_SQUARED}, "microsoft/CNTK/issues/2403", "what is to be large is made small"),
)  # fmt: skip


class Places(layers.Layer):
    """Each number of a row times its own vector, and one more vector for each."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1], 16), initializer="glorot_uniform")
        self.start = self.add_weight(shape=(shape[-1], 16), initializer="glorot_uniform")

    def call(self, x: Any) -> Any:
        return x[..., None] * self.scale + self.start


class Scale(layers.Layer):
    """A number for each channel, which starts at .0001."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer=keras.initializers.Constant(1e-4))

    def call(self, x: Any) -> Any:
        return x * self.scale


def rows_normed() -> Any:
    parts = [part for width in (12, 16) for part in (layers.Conv2D(width, 3, padding="same"),
             layers.BatchNormalization(axis=1), layers.ReLU())]  # fmt: skip
    return sequential((8, 8, 1), *parts, layers.Flatten(), layers.Dense(10))


def table_attention() -> Any:
    given = keras.Input((6,))
    x = Places()(given)
    x = x + layers.MultiHeadAttention(2, 8)(x, x)
    x = x + layers.Dense(16)(layers.Dense(32, "gelu")(layers.LayerNormalization()(x)))
    return keras.Model(given, layers.Dense(1)(layers.Flatten()(x)))


def scaled_blocks() -> Any:
    given = x = keras.Input((64,))
    x = layers.Dense(48)(x)
    for _ in range(4):
        x = x + Scale()(layers.Dense(48)(layers.Dense(96, "gelu")(layers.LayerNormalization()(x))))
    return keras.Model(given, layers.Dense(10)(x))


def sparse_codes() -> Any:
    return sequential((64,), layers.Dense(96, "relu", activity_regularizer=keras.regularizers.L1(1e-5)),
                      layers.Dense(64, "sigmoid"))  # fmt: skip


def binned() -> Any:
    given = keras.Input((6,))
    edges = [-1.5, -0.8, -0.3, 0.0, 0.3, 0.8, 1.5]
    bins = layers.Discretization(bin_boundaries=edges)(given)
    return keras.Model(given, layers.Dense(1)(layers.Flatten()(layers.Embedding(8, 6)(bins))))


HEALTHY = (
    healthy("norm over rows of pictures", rows_normed, images, SCORES,
            "the wrong axis, as in DCASE-REPO/dcase2018_baseline/issues/18, where it did no harm"),
    healthy("numbers that look at one another", table_attention, data.houses, MEAN_SQUARED),
    healthy("branches let in at .0001", scaled_blocks, data.digits, SCORES, "", "adam(learning_rate=0.003)"),
    healthy("codes that are mostly zero", sparse_codes, data.copies, "binary_crossentropy",
            "a penalty on what is active"),
    healthy("numbers in bins", binned, data.houses, MEAN_SQUARED, "no gradient can reach the inputs"),
)  # fmt: skip
CASES = FAULTY + HEALTHY
