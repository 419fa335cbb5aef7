"""Keras networks and batches of a fifth gathering, by someone who had the list of checks alone."""

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers, ops

from corpus import data, second_data
from corpus.keras_healthy import SCORES, sequential

__all__ = [
    "Factorised",
    "MoleculeNet",
    "Tagger",
    "TiedDecoder",
    "actor",
    "attention_pool",
    "autoencoder",
    "bit_rows",
    "conv_autoencoder",
    "discriminator_features",
    "few_squares",
    "fixup",
    "gru_attention",
    "gru_forecaster",
    "macro_f1_loss",
    "maxout",
    "odd_pictures",
    "poses",
    "post_norm_encoder",
    "power_net",
    "powers",
    "pretrain",
    "rare_fours",
    "raw_houses",
    "relu_rnn",
    "residual_regressor",
    "small_unet",
    "stock_rnn",
    "summed_squares",
    "topic_tagger",
    "transferred",
    "two_way_lstm",
]


def powers(raw: bool) -> tuple[Any, Any]:
    """Numbers from -100 to 100 and their fourth powers, or both brought to the size of 1."""
    x = np.linspace(-100, 100, 200, dtype=np.float32)[:, None]
    y = x**4
    return (x, y) if raw else ((x / x.std()).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32))


def bit_rows() -> tuple[Any, Any]:
    """Rows of twenty zeros and ones and a number that they are worth."""
    rng = np.random.default_rng(60)
    x = rng.integers(0, 2, (192, 20)).astype(np.float32)
    y = x @ rng.normal(size=20) + 1.5 * x[:, 0] * x[:, 1] - x[:, 2] * x[:, 3]
    return x, ((y - y.mean()) / y.std()).astype(np.float32)[:, None]


def poses(raw: bool) -> tuple[Any, Any]:
    """Poses in millimetres and degrees, or standardised, and three actions from -1 to 1."""
    x, worth = second_data.actions()
    spread, middle = np.array([400, 300, 250, 90, 90, 60]), np.array([900, 200, 1200, 0, 10, 180])
    return (x * spread + middle if raw else x).astype(np.float32), np.tanh(0.8 * worth).astype(np.float32)


def odd_pictures() -> tuple[Any, Any]:
    x, odd = data.parity()
    return x.reshape(-1, 8, 8, 1), odd


def few_squares() -> tuple[Any, Any]:
    """Eight pictures only."""
    x, y = data.squares(channels_last=True)
    return x[:8], y[:8]


def attention_pool(mended: bool) -> Any:
    """One score a step, a softmax over the scores' last axis (of one) or over the steps, then a weighted sum."""
    tokens = keras.Input((10, 4))
    score = layers.Dense(32, activation="tanh")(tokens)
    weight = layers.Dense(1, activation=None if mended else "softmax")(score)
    weight = layers.Softmax(axis=1)(weight) if mended else weight
    value = layers.Dense(16)(tokens)
    context = layers.Lambda(lambda both: ops.sum(both[0] * both[1], axis=1))([weight, value])
    return keras.Model(tokens, layers.Dense(3, activation="softmax")(context))


def stock_rnn(mended: bool) -> Any:
    """Two recurrent layers; the second gives its last step, or by mistake all of them."""
    return sequential((20, 1), layers.SimpleRNN(24, return_sequences=True), layers.Dropout(0.1),
                      layers.SimpleRNN(24, return_sequences=not mended), layers.Dense(1))  # fmt: skip


class Tagger(keras.Model):
    """A probability for each label."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.fc1 = layers.Dense(64, activation="relu")
        self.fc2 = layers.Dense(32, activation="relu")
        self.out = layers.Dense(labels, activation="sigmoid")

    def call(self, x: Any) -> Any:
        return self.out(self.fc2(self.fc1(x)))


def macro_f1_loss(targets: Any, outputs: Any) -> Any:
    """1 - F1, of predictions that are rounded first as they are in the metric."""
    outputs = ops.round(ops.clip(outputs, 0, 1))
    found = ops.sum(targets * outputs, axis=0)
    invented = ops.sum((1 - targets) * outputs, axis=0)
    missed = ops.sum(targets * (1 - outputs), axis=0)
    precision, recall = found / (found + invented + 1e-7), found / (found + missed + 1e-7)
    return 1 - ops.mean(2 * precision * recall / (precision + recall + 1e-7))


def gru_forecaster(mended: bool) -> Any:
    """Two recurrent layers with a norm between them, and by mistake one on the readings, of one number each."""
    series = keras.Input((20, 1))
    x = series if mended else layers.LayerNormalization()(series)
    x = layers.GRU(24, return_sequences=True)(x)
    x = layers.LayerNormalization()(x)
    x = layers.GRU(16)(x)
    return keras.Model(series, layers.Dense(1)(x))


def maxout(mended: bool) -> Any:
    """The larger of two affine maps; both from one initializer with one seed, or from two."""
    start = keras.initializers.GlorotNormal(seed=42)
    other = keras.initializers.GlorotNormal(seed=43) if mended else start
    x = point = keras.Input((2,))
    for units in (24, 24):
        left = layers.Dense(units, kernel_initializer=start)(x)
        right = layers.Dense(units, kernel_initializer=other)(x)
        x = layers.Maximum()([left, right])
    return keras.Model(point, layers.Dense(1, activation="sigmoid")(x))


def autoencoder(last: str) -> Any:
    x = pixels = keras.Input((64,))
    for units in (48, 24, 48):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(pixels, layers.Dense(64, activation=last)(x))


def power_net() -> Any:
    return sequential((1,), layers.Dense(50, "sigmoid"), layers.Dense(50, "elu"), layers.Dense(1))


class Fingerprint:
    """Not a layer: what it holds is seen by nobody."""

    def __init__(self, widths: Sequence[int]) -> None:
        self.inner = [layers.Dense(width, activation="tanh") for width in widths]

    def __call__(self, x: Any) -> Any:
        for dense in self.inner:
            x = dense(x)
        return x


class MoleculeNet(keras.Model):
    """Hidden layers that the model knows, or that a plain object of its own keeps."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        widths = (16, 3)
        if mended:
            self.hidden = keras.Sequential([layers.Dense(width, activation="tanh") for width in widths])
        else:
            self.hidden = Fingerprint(widths)
            self.hidden(np.zeros((1, 64), np.float32))
        self.head = layers.Dense(10)

    def call(self, x: Any) -> Any:
        return self.head(self.hidden(x))


def relu_rnn(mended: bool) -> Any:
    """A recurrent layer with a ReLU, which multiplies the state by 1 or by more than 2 at each step."""
    start = "orthogonal" if mended else keras.initializers.RandomNormal(stddev=0.5)
    return sequential((30, 1), layers.SimpleRNN(32, activation="relu", recurrent_initializer=start), layers.Dense(1))


def discriminator_features(mended: bool) -> Any:
    """A classifier on features that another model, trained before it, had frozen."""
    base = keras.Sequential(name="base")
    base.add(keras.Input((8, 8, 1)))
    for filters in (6, 6, 6):
        base.add(layers.Conv2D(filters, 3, padding="same"))
        base.add(layers.LeakyReLU(negative_slope=0.2))
    base.add(layers.MaxPooling2D(4))
    base.add(layers.Flatten())
    base.add(layers.Dense(4, activation="tanh"))
    noise = keras.Input((8, 8, 1))
    base.trainable = False
    keras.Model(noise, base(noise))  # the combined model, in which this half must not learn
    base.trainable = mended
    picture = keras.Input((8, 8, 1))
    return keras.Model(picture, layers.Dense(10, activation="softmax")(base(picture)))


def summed_squares(targets: Any, outputs: Any) -> Any:
    return ops.sum(ops.square(targets - outputs))


def residual_regressor() -> Any:
    """Blocks of two dense layers, the norm before them."""
    x = given = keras.Input((6,))
    x = layers.Dense(32)(x)
    for _ in range(3):
        branch = layers.LayerNormalization()(x)
        branch = layers.Dense(32, activation="relu")(branch)
        x = layers.Add()([x, layers.Dense(32)(branch)])
    return keras.Model(given, layers.Dense(1)(x))


def topic_tagger() -> Any:
    words = keras.Input((12,), dtype="int32")
    return keras.Sequential([words, layers.Embedding(50, 32), layers.GlobalAveragePooling1D(),
                             layers.Dense(64, "relu"), layers.Dense(3, "softmax")])  # fmt: skip


def actor() -> Any:
    """Three actions from -1 to 1."""
    state = keras.Input((6,))
    x = layers.Dense(64, activation="relu")(state)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(state, layers.Dense(3, activation="tanh")(x))


class FixupBlock(layers.Layer):
    """A residual branch that ends in a matrix of zeros, scaled by a number that is learned."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.a = layers.Dense(units, activation="relu", kernel_initializer="he_normal")
        self.b = layers.Dense(units, kernel_initializer="zeros")

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, x: Any) -> Any:
        return x + self.gain * self.b(self.a(x))


def fixup() -> Any:
    return sequential((64,), layers.Dense(48), *(FixupBlock(48) for _ in range(6)), layers.Dense(10))


class TiedDecoder(keras.Model):
    """A causal language model whose scores are products with the embeddings, which are scaled up on the way in."""

    def __init__(self, units: int = 128) -> None:
        super().__init__()
        start = keras.initializers.RandomNormal(stddev=units**-0.5)
        self.scale = units**0.5
        self.embed = layers.Embedding(32, units, embeddings_initializer=start)
        self.position = layers.Embedding(16, units)
        self.norm1, self.norm2 = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(4, units // 4)
        self.up, self.down = layers.Dense(2 * units, activation="gelu"), layers.Dense(units)

    def call(self, ids: Any) -> Any:
        x = self.embed(ids) * self.scale + self.position(ops.arange(16))
        h = self.norm1(x)
        x = x + self.attention(h, h, use_causal_mask=True)
        x = x + self.down(self.up(x))
        return ops.matmul(self.norm2(x), ops.transpose(self.embed.embeddings))


def post_norm_encoder() -> Any:
    """Attention and a feed-forward pair with the norm after each sum; padding is masked."""
    ids = keras.Input((12,), dtype="int32")
    token = layers.Embedding(50, 32, mask_zero=True)
    x, mask = token(ids), ops.not_equal(ids, 0)
    x = layers.Dropout(0.1)(x)
    for _ in range(2):
        attended = layers.MultiHeadAttention(4, 8)(x, x, attention_mask=mask[:, None, :])
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        hidden = layers.Dense(32)(layers.Dense(64, activation="relu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, hidden]))
    x = layers.GlobalAveragePooling1D()(x, mask=mask)
    return keras.Model(ids, layers.Dense(3)(x))


def two_way_lstm() -> Any:
    return sequential((20, 1), layers.Bidirectional(layers.LSTM(16, return_sequences=True)),
                      layers.LSTM(16, recurrent_dropout=0.1), layers.Dense(1))  # fmt: skip


def pretrain(base: Any) -> None:
    """Teach it the digits, with a head that nobody keeps."""
    whole = keras.Sequential([base, layers.Dense(10)])
    whole.compile(keras.optimizers.Adam(0.01), SCORES)
    x, y = data.digits((8, 8, 1), count=256)
    whole.fit(x, y, batch_size=256, epochs=60, verbose=0)


def transferred(frozen: bool) -> Any:
    """Convolutions with batch norm that know digits, frozen or to be tuned, and a head for odd and even."""
    parts = [part for filters in (12, 24) for part in (layers.Conv2D(filters, 3, padding="same", use_bias=False),
             layers.BatchNormalization(), layers.Activation("relu"), layers.MaxPooling2D(2))]  # fmt: skip
    base = sequential((8, 8, 1), *parts, layers.Flatten())
    pretrain(base)
    base.trainable = not frozen
    picture = keras.Input((8, 8, 1))
    x = base(picture, training=False) if frozen else base(picture)
    x = layers.Dropout(0.2)(x)
    return keras.Model(picture, layers.Dense(1, activation="sigmoid")(x))


def rare_fours() -> Any:
    """A head of zeros whose bias is the log odds of one in ten."""
    head = layers.Dense(1, "sigmoid", kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(-2.2))
    return sequential((64,), layers.Dense(64, "swish"), layers.Dense(32, "swish"), head)


def conv_autoencoder() -> Any:
    """Pictures of 8 x 8 down to 2 x 2 and back."""
    x = given = keras.Input((8, 8, 1))
    for filters in (16, 8):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(given, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x))


def raw_houses() -> Any:
    """Raw features into a layer that standardises them."""
    norm = layers.Normalization()
    norm.adapt(data.houses(raw_inputs=True)[0])
    return sequential((6,), norm, layers.Dense(48, "relu"), layers.Dense(1))


class Factorised(keras.Model):
    """Products of small random embeddings, and biases that start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = layers.Embedding(30, 8), layers.Embedding(20, 8)
        self.user_bias = layers.Embedding(30, 1, embeddings_initializer="zeros")
        self.item_bias = layers.Embedding(20, 1, embeddings_initializer="zeros")

    def call(self, ids: Any) -> Any:
        user, item = ids[:, 0], ids[:, 1]
        fit = ops.sum(self.user(user) * self.item(item), axis=-1, keepdims=True)
        return fit + self.user_bias(user) + self.item_bias(item)


def normed(x: Any, filters: int) -> Any:
    """A convolution with group norm."""
    return layers.LeakyReLU()(layers.GroupNormalization(4)(layers.Conv2D(filters, 3, padding="same")(x)))


def small_unet() -> Any:
    """One step down and up, the fine level handed across."""
    given = keras.Input((16, 16, 1))
    top = normed(given, 8)
    low = normed(layers.MaxPooling2D(2)(top), 16)
    both = layers.Concatenate()([top, layers.UpSampling2D(2)(low)])
    return keras.Model(given, layers.Conv2D(3, 1)(normed(both, 8)))


def gru_attention() -> Any:
    """A score for each step of a recurrent layer, whose softmax weighs the steps."""
    tokens = keras.Input((10, 4))
    h = layers.GRU(24, return_sequences=True)(tokens)
    score = layers.Dense(1)(layers.Dense(16, activation="tanh")(h))
    weight = layers.Softmax(axis=1)(score)
    context = layers.Flatten()(layers.Dot(axes=1)([weight, h]))
    return keras.Model(tokens, layers.Dense(3, activation="softmax")(context))
