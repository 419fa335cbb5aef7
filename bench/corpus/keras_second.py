"""More Keras networks, the faulty and the healthy, gathered by someone who had not seen the doctor."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers, ops

from corpus import Case, data, second_data
from corpus.keras_healthy import BINARY, BINARY_SCORES, MEAN_SQUARED, ROWS, SCORES, SPARSE, Batch, mlp, sequential

__all__ = ["CASES"]

GITHUB = "https://github.com/"
images = partial(data.digits, (8, 8, 1))
rows = partial(data.digits, (8, 8))
constant = keras.initializers.Constant


class Low(layers.Layer):
    """A frozen layer and a small product beside it, of which one side starts at zero, or both."""

    def __init__(self, units: int, down: str, activation: str | None = None) -> None:
        super().__init__()
        self.base, self.activation = layers.Dense(units, trainable=False), keras.activations.get(activation)
        self.down = layers.Dense(8, use_bias=False, kernel_initializer=down)
        self.up = layers.Dense(units, use_bias=False, kernel_initializer="zeros")

    def call(self, x: Any) -> Any:
        return self.activation(self.base(x) + self.up(self.down(x)))


class Pooled(layers.Layer):
    """Tokens summed up by the weights that a score of each gives, the softmax over `axis` of the scores."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.score, self.axis = layers.Dense(1), axis

    def call(self, x: Any) -> Any:
        return ops.sum(ops.softmax(self.score(x), self.axis) * x, 1)


def nested(trained: bool) -> Any:
    """A model within a model, the inner one frozen or not."""
    inner = sequential((8, 8, 1), layers.Conv2D(1, 3, 2, "same", activation="relu"),
                       layers.Conv2D(1, 3, 2, "same", activation="relu"), layers.Flatten())  # fmt: skip
    inner.trainable = trained
    return sequential((8, 8, 1), inner, layers.Dense(32, "relu"), layers.Dense(10))


def distance(squash: Callable[[Any], Any]) -> Any:
    """How far the features of two pictures are apart, squashed."""
    one, two = keras.Input((64,)), keras.Input((64,))
    tower = mlp(64, (64,), 8)
    squares = ops.sum(ops.square(layers.Subtract()([tower(one), tower(two)])), 1, keepdims=True)
    return keras.Model([one, two], squash(ops.sqrt(squares + 1e-6)))


def contrastive(different: Any, distances: Any) -> Any:
    return ops.mean((1 - different) * ops.square(distances) + different * ops.square(ops.relu(1 - distances)))


def different() -> tuple[Any, Any]:
    x, same = data.pairs()
    return x, 1 - same


def recurrent(kind: Any, **options: Any) -> Any:
    """A recurrent layer over 40 steps, of which the first counts."""
    return sequential((40, 4), kind(32, **options), layers.Dense(3, "softmax"))


def forecast(**options: Any) -> Any:
    return sequential((20, 1), layers.LSTM(24, **options), layers.Dense(1))


def decoder(last: str | None) -> Any:
    """An autoencoder of convolutions."""
    return sequential((8, 8, 1), layers.Conv2D(16, 3, 2, "same", activation="relu"),
                      layers.Conv2DTranspose(16, 3, 2, "same", activation="relu"),
                      layers.Conv2D(1, 3, padding="same", activation=last))  # fmt: skip


def standardised() -> tuple[Any, Any]:
    """Digits to give back, of mean 0 and spread 1."""
    x, _ = images()
    return x, x


def lengths_of_one() -> tuple[Any, Any]:
    """A number from 1 to 5 and its wave; each row divided by its own length, so that all inputs are 1."""
    x, y = data.waves()
    return np.ones_like(x), y


def twice_standardised() -> tuple[Any, Any]:
    x, y = data.houses()
    return (x / 60000).astype(np.float32), y


def numbered() -> tuple[Any, Any]:
    """Digits and their class, a number, where a probability is wanted."""
    x, labels = data.digits()
    return x, labels.astype(np.float32)[:, None]


def numbered_masks() -> tuple[Any, Any]:
    x, mask = second_data.masks(channels_last=True)
    return x, mask[..., 0].astype(np.int64)


def deep(spread: float | None) -> Any:
    """Eight convolutions of one spread, or of He's."""
    law = keras.initializers.RandomNormal(stddev=spread) if spread else "he_normal"
    parts = (layers.Conv2D(12, 3, padding="same", activation="relu", kernel_initializer=law) for _ in range(8))
    return sequential((8, 8, 1), *parts, layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(10))


def averaged(norm: Any) -> Any:
    """A norm over each picture and channel, and the mean over the picture."""
    return sequential((8, 8, 1), layers.Conv2D(24, 3, activation="relu"), layers.Conv2D(24, 3), norm,
                      layers.GlobalAveragePooling2D(), layers.Dense(10))  # fmt: skip


def rare(bias: float) -> Any:
    return sequential((64,), layers.Dense(48, "relu"), layers.Dense(1, bias_initializer=constant(bias)))


def faulty(name: str, causes: str, build: Callable[[], Any], batch: Batch, loss: Any, mended: Mapping[str, Any],
           source: str = "commonplace", note: str = "",
           optimizer: str = "adam(learning_rate=0.005)") -> Case:  # fmt: skip
    """A case; sources of GitHub without the site."""
    seen = source if source.startswith(("http", "commonplace")) else GITHUB + source
    return Case(name, "keras", build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)


FAULTY = (
    faulty("adapters zero on both sides", "zero-weights",
           lambda: sequential((64,), Low(48, "zeros", "relu"), Low(10, "zeros")), data.digits, SCORES,
           {"build": lambda: sequential((64,), Low(48, "he_normal", "relu"), Low(10, "he_normal"))},
           "Lightning-AI/litgpt/issues/1229", "both sides of each product are 0, the rest is frozen",
           "adam(learning_rate=0.01)"),
    faulty("digits as one probability", "targets-out-of-range wrong-loss", partial(mlp, 64, (64,), 1, last="sigmoid"),
           numbered, BINARY, {"build": partial(mlp, 64, (64,), 10, last="softmax"), "data": data.digits,
           "loss": SPARSE},
           "https://datascience.stackexchange.com/questions/38604/"
           "too-low-accuracy-on-mnist-dataset-using-a-neural-network", "classes 0 to 9 into a loss of one probability"),
    faulty("one class among one", "wrong-loss one-unit-softmax", partial(mlp, 2, (24,), 1, last="sigmoid"),
           second_data.two_moons, ROWS, {"loss": BINARY},
           "https://errorhandle.ai/loss-and-accuracy-are-0-when-using-a-neural-network-with-a-single-output-neuron-tensorflow",
           "categorical cross entropy of a single output", "adam(learning_rate=0.02)"),
    faulty("distance behind a sigmoid", "output-activation targets-out-of-range", partial(distance, ops.sigmoid),
           different, contrastive, {"build": partial(distance, ops.tanh)}, "keras-team/keras-io/pull/2261",
           "distances that never fall below one half"),
    faulty("plain recurrence, 40 steps", "vanishing-gradient vanishing-signal weights-too-small",
           partial(recurrent, layers.SimpleRNN, recurrent_initializer=keras.initializers.RandomNormal(stddev=0.05)),
           partial(second_data.first_step, 40), SPARSE, {"build": partial(recurrent, layers.SimpleRNN)},
           "commonplace", "a recurrent matrix from N(0, .0025)", "adam(learning_rate=0.001)"),
    faulty("gates of zero and relu states", "dead-units output-activation", partial(forecast, activation="relu",
           bias_initializer=constant(-4.0)), second_data.series, MEAN_SQUARED, {"build": forecast},
           "keras-team/keras/issues/13891", "states that stay 0"),
    faulty("prices through an LSTM", "unscaled-inputs unscaled-targets", forecast, partial(second_data.prices, True),
           MEAN_SQUARED, {"data": partial(second_data.prices, False)},
           "https://errorhandle.ai/lstm-forecasted-a-straight-line", "prices of 2500, a flat line"),
    faulty("sigmoid against standardised pictures", "targets-out-of-range output-activation",
           partial(decoder, "sigmoid"), standardised, MEAN_SQUARED, {"build": partial(decoder, None)},
           "keras-team/keras/issues/14564", "targets of mean 0"),
    faulty("each row divided by its length", "constant-inputs", partial(mlp, 1, (48, 48), 1, "tanh"), lengths_of_one,
           MEAN_SQUARED, {"data": data.waves}, "commonplace", "a single feature normalised along the wrong axis is 1",
           "adam(learning_rate=0.01)"),
    faulty("divided once too often", "unscaled-inputs vanishing-signal", partial(mlp, 6, (48, 48), 1),
           twice_standardised, MEAN_SQUARED, {"data": data.houses}, "IIC2433/Syllabus-2021-2/issues/32",
           "inputs of .00002", "sgd(learning_rate=0.05)"),
    faulty("eight convolutions, N(0, .01)", "weights-too-small vanishing-signal", partial(deep, 0.01), images, SCORES,
           {"build": partial(deep, None)}, "https://arxiv.org/abs/1502.01852", "a fixed spread, as of AlexNet",
           "sgd(learning_rate=0.02, momentum=0.9)"),
    faulty("mean of what has none", "misplaced-norm collapsed-inputs", lambda: averaged(layers.GroupNormalization(24,
           scale=False, center=False)), images, SCORES, {"build": lambda: averaged(layers.BatchNormalization())},
           "commonplace", "each channel of each picture has mean 0", "adam(learning_rate=0.01)"),
    faulty("count for log odds", "imbalanced-start", partial(rare, 230.0), data.imbalanced, BINARY_SCORES,
           {"build": partial(rare, -2.2)}, "https://www.tensorflow.org/tutorials/structured_data/imbalanced_data",
           "how many are negative as the output's bias, not the logarithm of the odds", "adam(learning_rate=0.003)"),
    faulty("model within a model frozen", "frozen-parameters", partial(nested, False), images, SCORES,
           {"build": partial(nested, True)}, "keras-team/keras/issues/4674", "four random features",
           "adam(learning_rate=0.01)"),
    faulty("attention of one", "softmax-axis one-unit-softmax", lambda: sequential((10, 4), Pooled(2),
           layers.Dense(3)), second_data.needle, SCORES, {"build": lambda: sequential((10, 4), Pooled(1),
           layers.Dense(3))}, "phanideepgampa/stacked-capsule-networks/pull/5",
           "the softmax goes over an axis of length 1", "adam(learning_rate=0.03)"),
    faulty("product by linear layers", "linear-stack", partial(mlp, 2, (32, 32), 1, None), second_data.product,
           MEAN_SQUARED, {"build": partial(mlp, 2, (32, 32), 1)}, "keras-team/keras/issues/9286", "no activation",
           "adam(learning_rate=0.01)"),
)  # fmt: skip


def wide_and_deep() -> Any:
    """A linear path and a deep path, added up."""
    given = keras.Input((6,))
    deep_path = layers.Dense(24, "relu")(layers.Dense(48, "relu")(given))
    return keras.Model(given, layers.Add()([layers.Dense(1)(given), layers.Dense(1)(deep_path)]))


def branches() -> Any:
    """Convolutions of three sizes side by side, batch norms without scale, a share of channels squeezed."""
    given = keras.Input((8, 8, 1))
    sides = [layers.Conv2D(8, size, padding="same", use_bias=False)(given) for size in (1, 3, 5)]
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(layers.Concatenate()(sides)))
    share = layers.Dense(24, "sigmoid")(layers.Dense(6, "relu")(layers.GlobalAveragePooling2D()(x)))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 24))(share)])
    return keras.Model(given, layers.Dense(10)(layers.Flatten()(layers.MaxPooling2D(2)(x))))


def masked() -> Any:
    """Word 0 is padding that the recurrent layer skips."""
    return sequential((12,), layers.Embedding(50, 12, mask_zero=True), layers.Bidirectional(layers.GRU(16)),
                      layers.Dense(3))  # fmt: skip


class Scale(layers.Layer):
    """One factor for each feature, .0001 at first."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer=constant(1e-4))

    def call(self, x: Any) -> Any:
        return self.factor * x


def scaled_branches() -> Any:
    """Residual layers whose branches start at a ten-thousandth (LayerScale, 2021)."""
    x = given = keras.Input((64,))
    x = layers.Dense(48)(x)
    for _ in range(6):
        hidden = layers.Dense(96, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, Scale()(layers.Dense(48)(hidden))])
    return keras.Model(given, layers.Dense(10)(layers.LayerNormalization()(x)))


def factors() -> Any:
    """The dot product of a user and an item, each from U(-.05, .05)."""
    given = keras.Input((2,), dtype="int32")
    user, item = layers.Embedding(30, 8)(given[:, 0]), layers.Embedding(20, 8)(given[:, 1])
    return keras.Model(given, layers.Dot(1)([user, item]))


def adapted() -> Any:
    """Standardises raw features by what it has seen of them."""
    norm = layers.Normalization()
    norm.adapt(data.houses(raw_inputs=True)[0])
    return sequential((6,), norm, layers.Dense(48, "relu"), layers.Dense(1))


def halved() -> Any:
    """bfloat16 inside, float32 at the end."""
    return sequential((64,), layers.Dense(64, "relu", dtype="mixed_bfloat16"), layers.Dense(48, "relu",
                      dtype="mixed_bfloat16"), layers.Dense(10, dtype="float32"))  # fmt: skip


def spectral() -> Any:
    return sequential((8, 8, 1), layers.SpectralNormalization(layers.Conv2D(24, 3)), layers.LeakyReLU(0.2),
                      layers.Flatten(), layers.SpectralNormalization(layers.Dense(64)), layers.LeakyReLU(0.2),
                      layers.Dense(10))  # fmt: skip


def healthy(name: str, build: Callable[[], Any], batch: Batch, loss: Any, note: str = "",
            optimizer: str = "adam(learning_rate=0.005)") -> Case:  # fmt: skip
    return Case(name, "keras", build, batch, loss, optimizer, note=note)


HEALTHY = (
    healthy("wide and deep", wide_and_deep, data.houses, MEAN_SQUARED),
    healthy("branches of three sizes", branches, images, SCORES, "norms without a scale"),
    healthy("padding skipped", masked, partial(data.sentences, padding=True), SCORES, "", "adam(learning_rate=0.01)"),
    healthy("branches of .0001", scaled_branches, data.digits, SCORES, "six branches that start almost at 0"),
    healthy("users and items", factors, second_data.ratings, MEAN_SQUARED, "outputs of .002",
            "adam(learning_rate=0.05)"),
    healthy("norm that was adapted", adapted, partial(data.houses, raw_inputs=True), MEAN_SQUARED,
            "raw inputs, a fixed norm", "adam(learning_rate=0.01)"),
    healthy("bfloat16", halved, data.digits, SCORES),
    healthy("spectral norm", spectral, images, SCORES),
    healthy("smoothed labels", partial(mlp, 64, (64,), 10), data.one_hot,
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), "the loss cannot reach 0"),
    healthy("counts by exp", partial(mlp, 5, (32, 32), 1, last="exponential"), second_data.counts, "poisson",
            "an output from 0 to infinity", "adam(learning_rate=0.01)"),
    healthy("outliers", partial(mlp, 6, (48,), 1, "elu"), second_data.outliers, "huber", "targets of up to 10",
            "adam(learning_rate=0.02)"),
    healthy("pictures given back", partial(decoder, None), standardised, MEAN_SQUARED, "the pictures are the targets"),
    healthy("forecast", forecast, second_data.series, MEAN_SQUARED, "", "adam(learning_rate=0.01)"),
    healthy("masks of one in ten pixels", lambda: sequential((16, 16, 1), layers.Conv2D(8, 3, padding="same",
            activation="relu"), layers.Conv2D(8, 5, padding="same", activation="relu"),
            layers.Conv2D(2, 1)), numbered_masks, SCORES, "most pixels are of one class", "adam(learning_rate=0.01)"),
    healthy("sparse counts", partial(mlp, 600, (24,), 3), second_data.bags, SCORES, "97 of 100 inputs are 0"),
)  # fmt: skip
CASES = (*FAULTY, *HEALTHY)
