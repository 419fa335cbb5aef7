"""A third gathering of Keras networks, the faulty and the healthy, by someone who had not seen the doctor."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers, ops

from corpus import Case, data, second_data, third_data
from corpus.keras_healthy import MEAN_SQUARED, SCORES, SPARSE, Batch, mlp, sequential

__all__ = ["CASES"]

GITHUB = "https://github.com/"
images = partial(data.digits, (8, 8, 1))
constant = keras.initializers.Constant


class Unheld(layers.Layer):
    """Weights that are a plain tensor, or a variable of the layer."""

    def __init__(self, units: int, held: bool) -> None:
        super().__init__()
        self.units, self.held = units, held

    def build(self, shape: Any) -> None:
        start = keras.random.normal((shape[-1], self.units), stddev=shape[-1] ** -0.5)
        self.weights_in = self.add_weight(shape=start.shape) if self.held else start
        if self.held:
            self.weights_in.assign(start)

    def call(self, x: Any) -> Any:
        return ops.tanh(ops.matmul(x, self.weights_in))


class OwnLength(layers.Layer):
    """Each row divided by its own length, and perhaps a little more than that."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    def call(self, x: Any) -> Any:
        return x / (ops.sqrt(ops.sum(x * x, -1, keepdims=True)) + self.more)


class Control(layers.Layer):
    """How bright a picture is, and what two convolutions add, of which the last or both start at zero."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.features = layers.Conv2D(12, 3, padding="same", activation="relu")
        self.before = layers.Conv2D(12, 1, kernel_initializer=first)
        self.after = layers.Conv2D(1, 1, kernel_initializer="zeros")

    def call(self, x: Any) -> Any:
        return ops.mean(x, (1, 2), keepdims=True) + self.after(self.before(self.features(x)))


def controlled(first: str) -> Any:
    return sequential((8, 8, 1), Control(first), layers.Flatten(), layers.Dense(10))


def sentence_reader(masked: bool) -> Any:
    """An LSTM whose last step is read, which passes over word 0 or does not."""
    return sequential((72,), layers.Embedding(50, 16, mask_zero=masked), layers.LSTM(24), layers.Dense(3, "softmax"))


def words() -> Any:
    return sequential((12,), layers.Embedding(51, 16), layers.GlobalAveragePooling1D(), layers.Dense(3))


def faulty(name: str, causes: str, build: Callable[[], Any], batch: Batch, loss: Any, mended: Mapping[str, Any],
           source: str = "commonplace", note: str = "",
           optimizer: str = "adam(learning_rate=0.01)") -> Case:  # fmt: skip
    """A case; sources of GitHub without the site."""
    seen = source if source.startswith(("http", "commonplace")) else GITHUB + source
    return Case(name, "keras", build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)


FAULTY = (
    faulty("percents of nothing", "wrong-loss exploding-gradient", partial(mlp, 5, (48,), 1), second_data.counts,
           "mean_absolute_percentage_error", {"loss": MEAN_SQUARED}, "keras-team/keras/issues/2908",
           "some targets are 0: the error is divided by them"),
    faulty("logarithms of frost", "targets-out-of-range wrong-loss", partial(mlp, 1, (48, 48), 1, "tanh"),
           third_data.frost, "mean_squared_logarithmic_error", {"loss": MEAN_SQUARED}, "keras-team/keras/issues/9713",
           "Keras cuts what is below 0 off, targets too"),
    faulty("fractions of words", "collapsed-inputs constant-inputs unscaled-inputs", words,
           third_data.scaled_words, SCORES, {"data": data.sentences}, "keras-team/keras/issues/13906",
           "numbers of words divided by 50 are all word 0"),
    faulty("sixty words of padding", "vanishing-gradient vanishing-signal collapsed-inputs",
           partial(sentence_reader, False), third_data.padded, SPARSE, {"build": partial(sentence_reader, True)},
           "keras-team/keras/issues/1855", "of the sentence nothing is left after the padding"),
    faulty("softmax all the way", "vanishing-signal collapsed-inputs vanishing-gradient hidden-softmax",
           partial(mlp, 64, (48, 48, 48), 10, "softmax", "softmax"), data.digits, SPARSE,
           {"build": partial(mlp, 64, (48, 48, 48), 10, "relu", "softmax")},
           "https://stackoverflow.com/questions/75378819/issues-with-calculating-new-weights-in-a-neural-network",
           "hidden values of 1/48; the fourth code came later", "sgd(learning_rate=0.05, momentum=0.9)"),
    faulty("gradients cut to .001", "learning-rate-too-small plateau", partial(mlp, 64, (48,), 10), data.digits,
           SCORES, {"optimizer": "sgd(learning_rate=0.1, clipnorm=1.0)"}, "fizyr/keras-retinanet/issues/942",
           "what does for Adam leaves steps of .0001 here", "sgd(learning_rate=0.1, clipnorm=0.001)"),
    faulty("weights of no layer", "unregistered-parameters", lambda: sequential((64,), Unheld(3, False),
           layers.Dense(48, "relu"), layers.Dense(10)), data.digits, SCORES,
           {"build": lambda: sequential((64,), Unheld(3, True), layers.Dense(48, "relu"), layers.Dense(10))},
           "keras-team/keras/issues/4401", "a tensor, not a variable"),
    faulty("pixels that never change", "non-finite-inputs", partial(mlp, 64, (48,), 10),
           partial(third_data.z_scores, 0.0), SCORES, {"data": partial(third_data.z_scores, 0.05)},
           "deeplearning4j/deeplearning4j/issues/1646", "divided by a spread of 0"),
    faulty("grades from three to eight", "targets-out-of-range", partial(mlp, 20, (48,), 6), third_data.grades, SCORES,
           {"data": partial(third_data.grades, 0)}, "keras-team/keras/issues/11786",
           "six grades, six outputs, and half of the grades are not among 0 to 5"),
    faulty("cosine of one number", "wrong-loss", partial(mlp, 6, (48,), 1), data.houses, "cosine_similarity",
           {"loss": MEAN_SQUARED}, "keras-team/keras/issues/2672", "only the sign of the output matters"),
    faulty("seconds since 1970", "unscaled-inputs", partial(mlp, 7, (48, 48), 1), partial(third_data.stamped, True),
           MEAN_SQUARED, {"data": partial(third_data.stamped, False)},
           "https://cs.stackexchange.com/questions/14634/how-to-encode-date-as-input-in-neural-network",
           "one feature is 10^9, six are standardised"),
    faulty("two convolutions of zero", "zero-weights gradient-blocked", partial(controlled, "zeros"), images, SCORES,
           {"build": partial(controlled, "he_normal")}, "lllyasviel/ControlNet/issues/510",
           "one after the other, neither ever changes"),
    faulty("dollars beside shares", "unscaled-targets", partial(mlp, 6, (48,), 2), third_data.two_scales,
           MEAN_SQUARED, {"data": partial(third_data.two_scales, 1.0)}, "commonplace",
           "one loss over a target of 3 * 10^5 and one of 1"),
    faulty("length of an empty text", "non-finite-signal", lambda: sequential((600,), OwnLength(0.0),
           layers.Dense(24, "relu"), layers.Dense(3)), third_data.bags_with_empty, SCORES,
           {"build": lambda: sequential((600,), OwnLength(1e-6), layers.Dense(24, "relu"), layers.Dense(3))},
           "neo4j/graph-data-science/issues/94", "0 divided by 0"),
)  # fmt: skip


class Gated(layers.Layer):
    """A convolution over time times the sigmoid of another."""

    def __init__(self, units: int, dilation: int) -> None:
        super().__init__()
        self.both = layers.Conv1D(2 * units, 3, padding="causal", dilation_rate=dilation)

    def call(self, x: Any) -> Any:
        signal, gate = ops.split(self.both(x), 2, -1)
        return signal * ops.sigmoid(gate)


def let_in() -> Any:
    """Layers scaled and shifted by a second input, at first not at all."""
    state, action = keras.Input((6,)), keras.Input((3,))
    x = layers.Dense(32, "relu")(state)
    for _ in range(2):
        scale, shift = (layers.Dense(32, kernel_initializer="zeros")(action) for _ in range(2))
        x = layers.ReLU()(layers.Add()([x, layers.Multiply()([layers.Dense(32)(x), scale]), shift]))
    return keras.Model([state, action], layers.Dense(1)(x))


def reward_columns() -> tuple[Any, Any]:
    x, y = third_data.rewards()
    return x, y[:, None]


def dense_blocks() -> Any:
    """Each convolution takes all that were before it; the norms come first."""
    x = given = keras.Input((8, 8, 1))
    for _ in range(4):
        new = layers.Conv2D(8, 3, padding="same", use_bias=False)(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.Concatenate()([x, new])
    return keras.Model(given, layers.Dense(10)(layers.Flatten()(layers.AveragePooling2D(2)(x))))


class Places(layers.Layer):
    """A learnt vector for each place, zero at first."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer="zeros")

    def call(self, x: Any) -> Any:
        return x + self.table


def causal() -> Any:
    given = keras.Input((16,), dtype="int32")
    x = Places()(layers.Embedding(32, 24)(given))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 12)(x, x, use_causal_mask=True)])
    x = layers.Add()([x, layers.Dense(24)(layers.Dense(64, "gelu")(layers.LayerNormalization()(x)))])
    return keras.Model(given, layers.Dense(32)(layers.LayerNormalization()(x)))


def ends_of_ten() -> tuple[Any, Any]:
    """`second_data.needle` filled up to 16 steps by -10."""
    x, labels = second_data.needle()
    return np.pad(x, ((0, 0), (0, 6), (0, 0)), constant_values=-10.0), labels


class Minimal(layers.Layer):
    """A recurrent cell of one gate, which is almost shut at the start."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.state_size = units
        self.gate = layers.Dense(units, "sigmoid", bias_initializer=constant(-2.0))
        self.fresh = layers.Dense(units, "tanh")

    def build(self, shape: Any) -> None:
        self.gate.build((shape[0], shape[-1] + self.state_size))
        self.fresh.build((shape[0], shape[-1]))

    def call(self, x: Any, states: Any) -> Any:
        gate = self.gate(ops.concatenate([x, states[0]], -1))
        state = (1 - gate) * states[0] + gate * self.fresh(x)
        return state, [state]


class Cosines(layers.Layer):
    """Cosines with a learnt direction for each class, times a learnt factor."""

    def build(self, shape: Any) -> None:
        self.directions = self.add_weight(shape=(shape[-1], 10), initializer="glorot_normal")
        self.factor = self.add_weight(shape=(), initializer=constant(10.0))

    def call(self, x: Any) -> Any:
        directions = self.directions / ops.norm(self.directions, axis=0)
        return self.factor * ops.matmul(x / (ops.norm(x, axis=-1, keepdims=True) + 1e-6), directions)


class Signs(layers.Layer):
    """Signs whose gradient is that of the number, as long as it is small."""

    def call(self, x: Any) -> Any:
        small = ops.clip(x, -1.0, 1.0)
        return small + ops.stop_gradient(ops.where(x > 0, 1.0, -1.0) - small)


class Asked(layers.Layer):
    """Tokens summed by how well they answer a learnt question that is zero at first."""

    def build(self, shape: Any) -> None:
        self.question = self.add_weight(shape=(shape[-1], 1), initializer="zeros")

    def call(self, x: Any) -> Any:
        return ops.sum(ops.softmax(ops.matmul(x, self.question), 1) * x, 1)


class Capped(layers.Layer):
    """Scores that come close to 20 and never reach it."""

    def call(self, x: Any) -> Any:
        return 20.0 * ops.tanh(x / 20.0)


def random_features() -> Any:
    """Many random convolutions that stay as they are, and a layer that reads them."""
    fixed = layers.Conv2D(64, 3, padding="same", activation="relu", trainable=False)
    return sequential((8, 8, 1), fixed, layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10))


def largest_of_three() -> Any:
    given = keras.Input((64,))
    x = layers.Maximum()([layers.Dense(32)(given) for _ in range(3)])
    return keras.Model(given, layers.Dense(10)(layers.PReLU()(layers.Dense(32)(x))))


def healthy(name: str, build: Callable[[], Any], batch: Batch, loss: Any, note: str = "",
            optimizer: str = "adam(learning_rate=0.01)") -> Case:  # fmt: skip
    return Case(name, "keras", build, batch, loss, optimizer, note=note)


HEALTHY = (
    healthy("gated convolutions over time", lambda: sequential((20, 1), Gated(16, 1), Gated(16, 2), Gated(16, 4),
            layers.Flatten(), layers.Dense(1)), second_data.series, MEAN_SQUARED),
    healthy("conditions let in by nothing", let_in, reward_columns, MEAN_SQUARED, "scales and shifts start at 0"),
    healthy("all that came before", dense_blocks, images, SCORES),
    healthy("causal, places at zero", causal, data.story, SCORES, "a table of zeros that is added"),
    healthy("steps of -10 skipped", lambda: sequential((16, 4), layers.Masking(-10.0), layers.GRU(32),
            layers.Dense(3)), ends_of_ten, SCORES, "padding of an odd size, masked", "adam(learning_rate=0.02)"),
    healthy("noise at every layer", lambda: sequential((64,), layers.GaussianNoise(0.5), layers.Dense(64, "elu"),
            layers.GaussianNoise(0.5), layers.Dense(10)), data.digits, SCORES),
    healthy("cell of one gate", lambda: sequential((12, 4), layers.RNN(Minimal(32)), layers.Dense(3)),
            partial(second_data.first_step, 12), SCORES, "a gate of .1", "adam(learning_rate=0.02)"),
    healthy("cosines times ten", lambda: sequential((64,), layers.Dense(48, "relu"), Cosines()), data.digits, SCORES),
    healthy("signs with a way back", lambda: sequential((64,), layers.Dense(96), layers.BatchNormalization(), Signs(),
            layers.Dense(10)), data.digits, SCORES, "stop_gradient and a step in the middle"),
    healthy("a question of zero", lambda: sequential((10, 4), layers.Dense(24, "tanh"), Asked(), layers.Dense(3)),
            second_data.needle, SCORES, "equal attention at the start", "adam(learning_rate=0.03)"),
    healthy("capped scores", lambda: sequential((64,), layers.Dense(48, "silu"), layers.Dense(10), Capped()),
            data.digits, SCORES, "a tanh at the end"),
    healthy("random features", random_features, images, SCORES, "one layer is trained"),
    healthy("largest of three", largest_of_three, data.digits, SCORES),
    healthy("rare class, focal", partial(mlp, 64, (48,), 1, last="sigmoid"), data.imbalanced,
            keras.losses.BinaryFocalCrossentropy(gamma=1.0), "one in ten; small losses"),
)  # fmt: skip
CASES = (*FAULTY, *HEALTHY)
