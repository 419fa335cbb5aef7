"""Models that the tests read on every backend, each with an example of shapes that have no two axes alike."""

import keras
import numpy as np
from keras import layers, ops

WIDTH = 8


class Block(layers.Layer):
    """A pre-norm or post-norm transformer block with a multiplier of its own."""

    def __init__(self, before: bool, **kwargs):
        super().__init__(**kwargs)
        self.before = before
        self.attention = layers.MultiHeadAttention(2, 4, dropout=0.1, name="attention")
        self.norms = [layers.LayerNormalization(name="first"), layers.LayerNormalization(name="second")]
        self.up = layers.Dense(2 * WIDTH, "gelu", name="up")
        self.down = layers.Dense(WIDTH, name="down")
        self.drop = layers.Dropout(0.1, name="drop")

    def build(self, shape):
        self.alpha = self.add_weight(shape=(), name="alpha", initializer="ones")

    def call(self, x, training=None, mask=None):
        if not self.before:
            x = self.norms[0](x + self.attention(x, x, training=training))
            return self.norms[1](x + self.down(self.up(x)))
        h = self.norms[0](x)
        x = x + self.drop(self.attention(h, h, use_causal_mask=True, training=training), training=training)
        return x + self.alpha * self.down(self.up(self.norms[1](x)))


class Transformer(keras.Model):
    """Token and position tables, a class token, blocks, a head of its own variables and one tied to the tokens."""

    def __init__(self, before: bool):
        super().__init__(name="transformer")
        self.tokens = layers.Embedding(13, WIDTH, mask_zero=True, name="tokens")
        self.positions = layers.Embedding(9, WIDTH, name="positions")
        self.block = Block(before, name="block")

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, WIDTH), name="token")
        self.table = self.add_weight(shape=(1, 9, WIDTH), name="table")
        self.head = self.add_weight(shape=(WIDTH, 5), name="head")
        self.shift = self.add_weight(shape=(5,), name="shift")

    def call(self, ids, training=None):
        x = self.tokens(ids) + self.positions(ops.arange(ops.shape(ids)[1])) + self.table
        x = ops.concatenate([ops.broadcast_to(self.token, (ops.shape(x)[0], 1, WIDTH)), x], axis=1)
        x = self.block(x, training=training)
        return x[:, 0] @ self.head + self.shift, ops.matmul(x, ops.transpose(self.tokens.embeddings))


class Odd(keras.Model):
    """Operations on variables, chains of functions of each element, an attention by hand."""

    def __init__(self):
        super().__init__(name="odd")
        self.norm = layers.BatchNormalization(scale=False, name="norm")
        self.never = layers.Dense(3)

    def build(self, shape):
        self.experts = self.add_weight(shape=(4, 6, 5), name="experts")
        self.kernel = self.add_weight(shape=(3, 5, 2), name="kernel")
        self.log = self.add_weight(shape=(2,), name="log")
        self.row = self.add_weight(shape=(7, 2), name="row")

    def call(self, x):
        h = ops.matmul(ops.expand_dims(x, 1), self.experts)
        h = ops.max(h, axis=1)
        h = h * ops.sigmoid(1.702 * h)
        h = ops.conv(h, self.kernel, padding="same") * ops.exp(self.log)
        h = ops.einsum("bni,oi->bno", h / 2.0, self.row)
        h = 0.5 * h * (1 + ops.tanh(0.7978845608028654 * (h + 0.044715 * h**3)))
        scores = ops.matmul(h, ops.transpose(h, (0, 2, 1))) / np.sqrt(7)
        scores = scores + ops.convert_to_tensor(np.triu(np.full((9, 9), -1e9, np.float32), 1))
        h = self.norm(ops.matmul(ops.softmax(scores), h))
        return ops.sin(30 * h) - 1, h - ops.mean(h, axis=1, keepdims=True)


def convolutions():
    inputs = keras.Input((9, 8, 6))
    x = layers.Rescaling(1 / 4)(inputs)
    x = layers.Conv2D(4, (3, 2), groups=2, activation="relu", name="grouped")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.MaxPooling2D((2, 3))(x)
    x = layers.DepthwiseConv2D((3, 2), depth_multiplier=2, padding="same", name="depthwise")(x)
    skip = layers.ReLU(6.0)(x)
    x = layers.SeparableConv2D(8, 2, padding="same", activation="silu", name="separable")(skip)
    x = layers.Add()([x, skip])
    x = layers.Conv2DTranspose(5, 3, strides=(3, 2), name="up")(x)
    x = layers.Concatenate()([x, layers.ZeroPadding2D(1)(x)[:, 1:-1, 1:-1]])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(3, "softmax", name="head")(x), name="convolutions")


def recurrent():
    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(11, 6, mask_zero=True, name="tokens")(inputs)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True, name="lstm"), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(5, name="each"), name="times")(layers.GRU(3, return_sequences=True)(x))
    x = layers.SimpleRNN(4, activation="relu", name="rnn")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="recurrent")


def _image(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _built(model, example):
    """Built on a symbolic input, which is much faster than a first run."""
    model(keras.Input(batch_shape=example.shape, dtype="float32" if example.dtype == np.float32 else "int32"))
    return model, example


MODELS = {
    "convolutions": lambda: (convolutions(), _image(2, 9, 8, 6)),
    "recurrent": lambda: (recurrent(), np.random.default_rng(0).integers(0, 11, (2, 9))),
    "before": lambda: _built(Transformer(True), np.random.default_rng(0).integers(0, 13, (3, 9))),
    "after": lambda: _built(Transformer(False), np.random.default_rng(0).integers(0, 13, (3, 9))),
    "odd": lambda: _built(Odd(), _image(3, 9, 6)),
}
