"""Keras networks that do not train, or far worse than they could, as people ask about them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from corpus import Case, data
from corpus.keras_healthy import (
    BINARY,
    BINARY_SCORES,
    MEAN_SQUARED,
    ROWS,
    SCORES,
    SPARSE,
    Batch,
    convolutional,
    images,
    mlp,
    sequential,
)

__all__ = ["CASES"]

GITHUB = "https://github.com/"
SGD = "sgd(learning_rate=0.05)"
constant = keras.initializers.Constant


def normal(spread: float) -> Any:
    return keras.initializers.RandomNormal(stddev=spread)


def normed(norm_last: bool) -> Any:
    """A layer norm over the one output, or none."""
    norm = [layers.LayerNormalization()] if norm_last else []
    return sequential((6,), layers.Dense(48, "relu"), layers.Dense(1), *norm)


def batch_normed() -> Any:
    hidden = (part for _ in range(2) for part in (layers.Dense(48), layers.BatchNormalization(), layers.ReLU()))
    return sequential((64,), *hidden, layers.Dense(10, "softmax"))


def dropped(rate: float) -> Any:
    hidden = (part for _ in range(2) for part in (layers.Dense(64, "relu"), layers.Dropout(rate)))
    return sequential((64,), *hidden, layers.Dense(10, "softmax"))


def recurrent(kind: Any, readout: Mapping[str, Any] | None = None, depth: int = 1, **options: Any) -> Any:
    """Recurrent layers over the rows of a digit; `options` go to them, `readout` to the last layer."""
    hidden = (kind(32, return_sequences=index < depth - 1, **options) for index in range(depth))
    return sequential((8, 8), *hidden, layers.Dense(10, "softmax", **(readout or {})))


def frozen(first: int, last: int | None, hidden: tuple[int, ...] = (48,)) -> Any:
    """An mlp of which some layers are not trained."""
    model = mlp(64, hidden, 10, last="softmax")
    for layer in model.layers[first:last]:
        layer.trainable = False
    return model


def blocked(function: Callable[[Any], Any] | None) -> Any:
    """An encoder to three features, perhaps something without a gradient, and a head."""
    x = given = keras.Input((64,))
    for width, activation in ((32, "relu"), (3, None)):
        x = layers.Dense(width, activation)(x)
    x = x if function is None else function(x)
    return keras.Model(given, layers.Dense(10, "softmax")(layers.Dense(32, "relu")(x)))


def tower(gain: float, depth: int = 20, width: int = 48) -> Any:
    """Residual blocks without a norm, each branch `gain` times what He's law gives."""
    spread = normal(gain * (2 / width) ** 0.5)
    x = given = keras.Input((64,))
    x = layers.Dense(width)(x)
    for _ in range(depth):
        hidden = layers.Dense(width, "relu", kernel_initializer=spread)(x)
        x = layers.Add()([x, layers.Dense(width, kernel_initializer=spread)(hidden)])
    return keras.Model(given, layers.Dense(10)(x))


def one_example() -> tuple[Any, Any]:
    x, y = data.digits()
    return x[:1], y[:1]


def broken_inputs() -> tuple[Any, Any]:
    """One feature has no spread and was divided by it."""
    x, y = data.houses()
    x = x.copy()
    x[:, 3] = np.nan
    return x, y


def raw_numbers() -> tuple[Any, Any]:
    """Digits with their class as one number."""
    x, labels = data.digits()
    return x, labels.astype(np.float32)[:, None]


def summed(targets: Any, outputs: Any) -> Any:
    return keras.ops.sum(keras.losses.sparse_categorical_crossentropy(targets, outputs))


def faulty(name: str, causes: str, build: Callable[[], Any], batch: Batch, loss: Any, mended: Mapping[str, Any],
           source: str = "commonplace", note: str = "",
           optimizer: str = "adam(learning_rate=0.005)") -> Case:  # fmt: skip
    """A case; sources of GitHub without the site."""
    seen = source if source.startswith(("http", "commonplace")) else GITHUB + source
    return Case(name, "keras", build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)


SMALL = partial(mlp, 64, (48,), 10, last="softmax")
SOUND = {"build": SMALL}
HE = partial(mlp, 64, (48,) * 4, 10, last="softmax", kernel_initializer="he_normal")
CASES = (
    faulty("all zero", "zero-weights", lambda: sequential((64,), layers.Dense(48, "relu", kernel_initializer="zeros"),
           layers.Dense(10, "softmax", kernel_initializer="zeros")), data.digits, SPARSE, SOUND,
           "https://upskilled.consulting/courses/supplement/weight-initialization/reading/r1/"),
    faulty("all one", "identical-units", lambda: sequential((64,), layers.Dense(48, "relu", kernel_initializer="ones"),
           layers.Dense(10, "softmax", kernel_initializer="ones")), data.digits, SPARSE, SOUND,
           "https://upskilled.consulting/courses/supplement/weight-initialization/reading/r1/"),
    faulty("constant convolutions", "identical-units", partial(convolutional, False,
           kernel_initializer=constant(0.02)), images, SPARSE, {"build": partial(convolutional, False)},
           optimizer="sgd(learning_rate=0.05, momentum=0.9)"),
    faulty("lstm of zeros", "zero-weights", partial(recurrent, layers.LSTM, depth=2, kernel_initializer="zeros",
           recurrent_initializer="zeros"), partial(data.digits, (8, 8)), SPARSE,
           {"build": partial(recurrent, layers.LSTM, depth=2)}, "tianzhi0549/CTPN/issues/62",
           optimizer="adam(learning_rate=0.01)"),
    faulty("deep, N(0, .01)", "weights-too-small vanishing-signal", partial(mlp, 64, (48,) * 8, 10, last="softmax",
           kernel_initializer=normal(0.01)), data.digits, SPARSE, {"build": HE}, note="eight ReLU layers",
           optimizer="sgd(learning_rate=0.1)"),
    faulty("deep, N(0, 1)", "weights-too-large", partial(mlp, 64, (48,) * 5, 10, kernel_initializer=normal(1.0)),
           data.digits, SCORES, {"build": HE, "loss": SPARSE}, "keras-team/keras/issues/6259", "five ReLU layers", SGD),
    faulty("sigmoid, N(0, 100)", "weights-too-large saturated-units", partial(mlp, 64, (32, 32, 32), 10, "sigmoid",
           "softmax", kernel_initializer=normal(10.0)), partial(data.digits, count=256), SPARSE,
           {"build": partial(mlp, 64, (32,), 10, "tanh", "softmax")}, optimizer="sgd(learning_rate=0.2)"),
    faulty("large recurrent weights", "weights-too-large saturated-units exploding-gradient",
           partial(recurrent, layers.SimpleRNN, recurrent_initializer=normal(3.0)), partial(data.digits, (8, 8)),
           SPARSE,
           {"build": partial(recurrent, layers.SimpleRNN)}, note="a recurrent matrix from N(0, 9)",
           optimizer="adam(learning_rate=0.002)"),
    faulty("residual tower without norm", "exploding-signal weights-too-large", partial(tower, 1.0), data.digits,
           SCORES,
           {"build": partial(tower, 0.2)}, note="20 full-size branches", optimizer=SGD),
    faulty("relu before cross entropy", "output-activation", partial(mlp, 64, (48,), 10, last="relu"), data.one_hot,
           ROWS,
           {"build": SMALL}, "huyng/tensorflow-vgg/issues/13", "where the loss wants probabilities",
           "adam(learning_rate=0.001)"),
    faulty("relu on the scores", "output-activation", partial(mlp, 64, (48, 48, 48), 10, last="relu"),
           partial(data.digits, scale="unit"), SCORES, {"build": partial(mlp, 64, (48, 48, 48), 10)},
           "sfujim/BCQ/issues/6", "classes whose score starts below 0 never learn", "sgd(learning_rate=0.1)"),
    faulty("tanh before cross entropy", "output-activation logits-into-probabilities",
           partial(mlp, 64, (48,), 10, last="tanh"), data.one_hot, ROWS, SOUND, note="half the outputs below 0"),
    faulty("double softmax", "double-softmax", partial(mlp, 64, (48, 48), 10, last="softmax"), data.digits, SCORES,
           {"loss": SPARSE}, "mmalekzadeh/dana/issues/1", "from_logits=True behind a softmax", SGD),
    faulty("double sigmoid", "double-softmax", partial(mlp, 64, (48, 48, 48), 1, last="sigmoid"), data.parity,
           BINARY_SCORES, {"loss": BINARY}, "keras-team/keras/issues/15271", "from_logits=True behind a sigmoid",
           "sgd(learning_rate=0.02)"),
    faulty("softmax of one", "one-unit-softmax", partial(mlp, 64, (48,), 1, last="softmax"), data.parity, BINARY,
           {"build": partial(mlp, 64, (48,), 1, last="sigmoid")}, "keras-team/keras/issues/18909"),
    faulty("softmax over the batch", "softmax-axis", lambda: sequential((64,), layers.Dense(48, "relu"),
           layers.Dense(10), layers.Softmax(axis=0)), data.digits, SCORES, {"build": partial(mlp, 64, (48,), 10)},
           "falloutdurham/beginners-pytorch-deep-learning/pull/36", "axis=0", SGD),
    faulty("scores as probabilities", "logits-into-probabilities", partial(mlp, 64, (48,), 10), data.digits, SPARSE,
           {"loss": SCORES}, "keras-team/keras-hub/pull/1008", "from_logits left False", SGD),
    faulty("score as probability", "logits-into-probabilities", partial(mlp, 64, (48, 48), 1), data.parity, BINARY,
           {"loss": BINARY_SCORES}, "keras-team/keras/issues/12573", "from_logits left False",
           "sgd(learning_rate=0.2)"),
    faulty("tanh against pixels", "targets-out-of-range", partial(mlp, 64, (48,), 64, last="tanh"),
           partial(data.copies, high=255.0), MEAN_SQUARED, {"data": data.copies}, "togheppi/DCGAN/issues/2"),
    faulty("sigmoid against prices", "targets-out-of-range", partial(mlp, 6, (48,), 1, last="sigmoid"), data.houses,
           MEAN_SQUARED, {"build": partial(mlp, 6, (48,), 1)}, note="standardised prices, half of them below 0"),
    faulty("relu against negative targets", "output-activation targets-out-of-range",
           partial(mlp, 1, (48, 48), 1, last="relu"), data.waves, MEAN_SQUARED, {"build": partial(mlp, 1, (48, 48), 1)},
           "ProteomicsML/ProteomicsML/pull/203", optimizer="adam(learning_rate=0.01)"),
    faulty("squares of class numbers", "wrong-loss one-unit-softmax output-activation targets-out-of-range",
           partial(mlp, 64, (48,), 1, last="softmax"), raw_numbers, MEAN_SQUARED, {"build": SMALL, "data": data.digits,
           "loss": SPARSE}, "keras-team/keras/issues/126", "the numbers 0 to 9 from a softmax of one"),
    faulty("loss summed", "sum-reduction learning-rate-too-large", partial(mlp, 64, (48, 48), 10, last="softmax"),
           data.digits, summed, {"loss": SPARSE}, note="128 times the gradient",
           optimizer="sgd(learning_rate=0.1, momentum=0.9)"),
    faulty("linear layers alone", "linear-stack", partial(mlp, 2, (32, 32), 2, None, "softmax"), data.moons, SPARSE,
           {"build": partial(mlp, 2, (32, 32), 2, last="softmax")}, "keras-team/keras/issues/9286", "no activation",
           "adam(learning_rate=0.01)"),
    faulty("sigmoid, 20 layers", "vanishing-gradient collapsed-inputs vanishing-signal",
           partial(mlp, 64, (48,) * 20, 10, "sigmoid", "softmax"), data.digits, SPARSE, SOUND,
           "https://ai.stackexchange.com/questions/16557/"
           "what-could-be-the-problem-when-a-neural-network-with-four-hidden-layers-with-the"),
    faulty("biases of -10", "dead-units", lambda: sequential((64,), layers.Dense(48, "relu",
           bias_initializer=constant(-10.0)), layers.Dense(10, "softmax")), data.digits, SPARSE, SOUND,
           "keras-team/keras/issues/7057"),
    faulty("nineteen of twenty dropped", "heavy-dropout", partial(dropped, 0.95), data.digits, SPARSE,
           {"build": partial(dropped, 0.1)}, "titu1994/Inception-v4/issues/5", "keep probability as drop rate"),
    faulty("batch norm, one example", "batch-norm-of-one", batch_normed, one_example, SPARSE, {"data": data.digits},
           "d2l-ai/d2l-en/issues/1722", "each feature minus itself"),
    faulty("norm over one output", "misplaced-norm", partial(normed, True), data.houses, MEAN_SQUARED,
           {"build": partial(normed, False)}, "naoto0804/chainer-cyclegan/pull/2", "a norm of one number is 0"),
    faulty("features stopped", "gradient-blocked", lambda: blocked(keras.ops.stop_gradient), data.digits, SPARSE,
           {"build": partial(blocked, None)}, "lucidrains/CoCa-pytorch/issues/6", optimizer="adam(learning_rate=0.01)"),
    faulty("features rounded", "gradient-blocked", lambda: blocked(keras.ops.round), data.digits, SPARSE,
           {"build": partial(blocked, None)}, note="the derivative of rounding is 0",
           optimizer="adam(learning_rate=0.01)"),
    faulty("pixels as they are", "unscaled-inputs", partial(mlp, 64, (48, 48), 10, last="softmax"),
           partial(data.digits, scale="pixels"), SPARSE, {"data": data.digits},
           "https://stats.stackexchange.com/questions/372762/why-normalize-when-all-features-are-on-the-same-scale"
           "?noredirect=1", "0 to 255", SGD),
    faulty("houses as they are", "unscaled-inputs", partial(mlp, 6, (48, 48), 1), partial(data.houses, raw_inputs=True),
           MEAN_SQUARED, {"data": data.houses}, note="rooms beside incomes and populations"),
    faulty("prices in dollars", "unscaled-targets", partial(mlp, 6, (48, 48), 1), partial(data.houses,
           raw_targets=True),
           MEAN_SQUARED, {"data": data.houses},
           "http://stackoverflow.com.mevn.net/questions/52800582/why-do-i-fail-to-predict-y-x4-with-keras-y-x3-works"),
    faulty("years as they are", "unscaled-inputs", partial(mlp, 1, (48, 48), 1, "tanh"), partial(data.waves,
           years=True),
           MEAN_SQUARED, {"data": data.waves},
           "https://datascience.stackexchange.com/questions/31499/neural-network-only-converges-when-data-cloud-is-close-to-0",
           "1900 to 2020", "adam(learning_rate=0.01)"),
    faulty("a feature is missing", "non-finite-inputs", partial(mlp, 6, (48, 48), 1), broken_inputs, MEAN_SQUARED,
           {"data": data.houses}, "keras-team/keras/issues/2134", "divided by a spread of 0"),
    faulty("all frozen", "frozen-parameters", partial(frozen, 0, None), data.digits, SPARSE, SOUND,
           "keras-team/keras/issues/2506"),
    faulty("encoder frozen by mistake", "frozen-parameters", partial(frozen, 0, 2, (32, 3, 32)), data.digits, SPARSE,
           {"build": partial(mlp, 64, (32, 3, 32), 10, last="softmax")}, note="three random features",
           optimizer="adam(learning_rate=0.01)"),
    faulty("adam at 3", "learning-rate-too-large", partial(mlp, 64, (48, 48, 48), 10, last="softmax"), data.digits,
           SPARSE, {"optimizer": "adam(learning_rate=0.003)"}, "keras-team/keras/issues/4066",
           optimizer="adam(learning_rate=3.0)"),
    faulty("sgd at 20", "learning-rate-too-large", partial(mlp, 64, (48, 48), 10, last="softmax"), data.digits, SPARSE,
           {"optimizer": "sgd(learning_rate=0.1)"}, "NLeSC/mcfly/issues/43", optimizer="sgd(learning_rate=20.0)"),
    faulty("sgd at .000001", "learning-rate-too-small", partial(mlp, 64, (48, 48), 10, last="softmax"), data.digits,
           SPARSE, {"optimizer": "sgd(learning_rate=0.1)"}, "https://taourl.com/read-2391810.html",
           optimizer="sgd(learning_rate=0.000001)"),
)  # fmt: skip
