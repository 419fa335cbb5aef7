"""Keras networks and batches of a sixth gathering, of ordinary questions, by someone who did not know the doctor."""

import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers, ops

from corpus import data, second_data
from corpus.keras_healthy import SCORES, sequential

__all__ = [
    "Adapted",
    "Codes",
    "GraphNet",
    "Reader",
    "SuperResolution",
    "attentive",
    "blurred",
    "board",
    "board_player",
    "bright",
    "crowd",
    "curve_fitter",
    "curves",
    "dice_loss",
    "district_and_house",
    "from_bytes",
    "gathered",
    "gaussian_units",
    "heads",
    "highway",
    "kinds_and_numbers",
    "landing",
    "landing_error",
    "linear_codec",
    "log_prices",
    "mask_net",
    "median_loss",
    "multi_query_net",
    "price_from_mean",
    "repeated_block",
    "sine_net",
    "softened",
    "standardiser",
    "stored_bytes",
    "unit_kernels",
    "weighted_heads",
]


def blurred() -> tuple[Any, Any]:
    """Digits of half the size, enlarged again, and the digits themselves."""
    sharp = data.digits((8, 8, 1), "unit")[0]
    small = sharp.reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
    return small.repeat(2, 1).repeat(2, 2), sharp


def board() -> tuple[Any, Any]:
    """Boards of six fields with a player (8) and a goal (5), and what a step to the left or the right is worth."""
    rng = np.random.default_rng(90)
    player = rng.integers(0, 6, 64)
    goal = (player + rng.integers(1, 6, 64)) % 6
    x = np.zeros((64, 6), np.float32)
    x[np.arange(64), player], x[np.arange(64), goal] = 8.0, 5.0
    after = player[:, None] + np.array([-1, 1])
    worth = np.where((after < 0) | (after > 5), -1.0, 0.8 ** np.abs(after - goal[:, None]))
    return x, worth.astype(np.float32)


def crowd() -> tuple[Any, Any]:
    """Sixty people of three groups, told by eight noisy features."""
    rng = np.random.default_rng(91)
    labels = np.repeat(np.arange(3), 20)
    x = 1.2 * rng.normal(size=(3, 8))[labels] + rng.normal(size=(60, 8))
    return x.astype(np.float32), labels.astype(np.int64)


def acquainted() -> Any:
    """Who of the sixty knows whom, and everybody himself: ones and zeros, about twenty to a row."""
    rng = np.random.default_rng(92)
    group = np.repeat(np.arange(3), 20)
    likely = np.where(group[:, None] == group, 0.8, 0.12)
    upper = np.triu(rng.random((60, 60)) < likely, 1)
    return (upper + upper.T + np.eye(60)).astype(np.float32)


def curves() -> tuple[Any, Any]:
    """Sixteen readings of a curve, and the four numbers that it was drawn from."""
    rng = np.random.default_rng(93)
    numbers = rng.uniform(-1, 1, (192, 4))
    t = np.linspace(-1, 1, 16)
    readings = numbers @ np.stack([np.ones(16), t, np.sin(4 * t), np.cos(4 * t)])
    x = readings + 0.3 * numbers[:, :1] * np.sin(9 * t) + 0.02 * rng.normal(size=(192, 16))
    x = (x - x.mean(0)) / x.std(0)
    return x.astype(np.float32), (numbers * [8, 5, 10, 6] + [40, 25, 60, 30]).astype(np.float32)


def landing() -> tuple[Any, Any]:
    """Six features of a throw and the two coordinates of where it lands."""
    x, worth = second_data.actions()
    return x, worth[:, 1:]


def bright() -> tuple[Any, Any]:
    """Noisy pictures, and for each pixel 1 where the bright square is, else 0."""
    x, labels = data.squares(channels_last=True)
    return x, (labels == 1).astype(np.int64)


def log_prices() -> tuple[Any, Any]:
    """Houses and the logarithms of their prices, 12 and a half on average."""
    x, y = data.houses()
    return x, (12.5 + 0.5 * y).astype(np.float32)


def stored_bytes() -> tuple[Any, Any]:
    """Digits as they are stored: whole numbers from 0 to 255."""
    x, y = data.digits((8, 8, 1), "pixels")
    return x.astype(np.uint8), y


def kinds_and_numbers() -> tuple[Any, Any]:
    """Which of eight districts a house is in, four numbers, and the price."""
    rng = np.random.default_rng(95)
    district, numbers = rng.integers(0, 8, (192, 1)), rng.normal(size=(192, 4))
    y = rng.normal(size=8)[district[:, 0]] + numbers @ [0.6, -0.4, 0.5, 0.0] + 0.4 * numbers[:, 0] * numbers[:, 3]
    y = (y - y.mean()) / y.std()
    return (district.astype(np.int64), numbers.astype(np.float32)), y.astype(np.float32)[:, None]


def dice_loss(targets: Any, outputs: Any) -> Any:
    """1 - twice what both have in common by what both have."""
    targets = ops.cast(targets, outputs.dtype)
    common = ops.sum(targets * outputs, axis=(1, 2))
    both = ops.sum(targets, axis=(1, 2)) + ops.sum(outputs, axis=(1, 2))
    return 1 - ops.mean((2 * common + 1) / (both + 1))


def landing_error(column: bool) -> Any:
    """The squared distance of two places; `column`: the targets are cut as columns, the outputs as rows."""

    def distance(targets: Any, outputs: Any) -> Any:
        east, north = (targets[:, :1], targets[:, 1:]) if column else (targets[:, 0], targets[:, 1])
        return ops.mean(ops.square(east - outputs[:, 0]) + ops.square(north - outputs[:, 1]))

    return distance


def median_loss(targets: Any, outputs: Any) -> Any:
    """The pinball loss at one half."""
    error = targets - outputs
    return ops.mean(ops.maximum(0.5 * error, -0.5 * error))


def weighted_heads(targets: Any, outputs: Any) -> Any:
    """Three errors, weighed by how much each task matters."""
    weights = ops.convert_to_tensor([1.0, 0.5, 2.0])
    return ops.sum(weights * ops.mean(ops.square(targets - outputs), axis=0))


def standardiser(adapted: bool) -> Any:
    """A network on raw features behind a layer that standardises, once it has been shown the data."""
    norm = layers.Normalization(axis=-1)
    if adapted:
        norm.adapt(data.houses(raw_inputs=True)[0])
    model = keras.Sequential([keras.Input((6,)), norm])
    for units in (64, 32):
        model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(1))
    return model


class RBFLayer(layers.Layer):
    """How close an input is to each of some centres."""

    def __init__(self, units: int, gamma: float) -> None:
        super().__init__()
        self.units, self.gamma = units, gamma

    def build(self, shape: Any) -> None:
        self.mu = self.add_weight(shape=(shape[-1], self.units), initializer="uniform", name="mu")

    def call(self, x: Any) -> Any:
        apart = ops.expand_dims(x, -1) - self.mu
        return ops.exp(-self.gamma * ops.sum(ops.square(apart), axis=1))


def gaussian_units(gamma: float) -> Any:
    """Centres, and what their closeness says of the digit."""
    return sequential((8, 8, 1), layers.Flatten(), RBFLayer(64, gamma), layers.Dense(10, activation="softmax"))


def mask_net(last: str | None) -> Any:
    """A few convolutions at full size and one number for each pixel."""
    picture = x = keras.Input((16, 16, 1))
    for rate in (1, 2, 1):
        x = layers.Conv2D(8, 3, padding="same", dilation_rate=rate, activation="relu")(x)
    return keras.Model(picture, layers.Reshape((16, 16))(layers.Conv2D(1, 1, activation=last)(x)))


class Weighed(layers.Layer):
    """Steps summed by weights: each row's own, or, where the product takes rows for a matrix, everybody's."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.own = own

    def call(self, alpha: Any, steps: Any) -> Any:
        if self.own:
            return ops.squeeze(ops.matmul(alpha[:, None, :], steps), 1)
        return ops.mean(ops.matmul(alpha, steps), axis=1)


def attentive(own: bool) -> Any:
    """A score for each step, whose softmax weighs the steps."""
    tokens = keras.Input((10, 4))
    hidden = layers.TimeDistributed(layers.Dense(16, activation="tanh"))(tokens)
    alpha = layers.Flatten()(layers.TimeDistributed(layers.Dense(1))(hidden))
    alpha = layers.Activation("softmax")(alpha)
    summed = Weighed(own)(alpha, layers.Dense(8)(tokens))
    return keras.Model(tokens, layers.Dense(3, activation="softmax")(summed))


class Codes(keras.Model):
    """Pictures by way of a few entries of a codebook.

    `handed_on`: the decoder is given the entries with a gradient that passes over the choice, not their numbers.
    """

    def __init__(self, handed_on: bool) -> None:
        super().__init__()
        self.handed_on = handed_on
        self.encoder = keras.Sequential([layers.Dense(48, activation="relu"), layers.Dense(16), layers.Reshape((2, 8))])
        self.decoder = keras.Sequential([layers.Flatten(), layers.Dense(48, activation="relu"), layers.Dense(64)])
        self.token = layers.Embedding(16, 8)

    def build(self, shape: Any) -> None:
        """The codebook and the layers."""
        self.codebook = self.add_weight(shape=(16, 8), initializer="random_uniform", name="codebook")
        self.encoder.build(shape)
        self.token.build((None, 2))
        self.decoder.build((None, 2, 8))

    def call(self, x: Any) -> Any:
        """The picture that the codes give."""
        z = self.encoder(x)
        apart = ops.sum(ops.square(z[:, :, None] - self.codebook), -1)
        number = ops.argmin(apart, -1)
        if not self.handed_on:
            return self.decoder(self.token(number))
        entry = ops.take(self.codebook, number, axis=0)
        fixed, fixed_entry = ops.stop_gradient(z), ops.stop_gradient(entry)
        self.add_loss(ops.mean(ops.square(entry - fixed)) + 0.25 * ops.mean(ops.square(z - fixed_entry)))
        return self.decoder(z + ops.stop_gradient(entry - z))


def softplus(z: Any) -> Any:
    """The logarithm of 1 + exp(z), written out as it stands."""
    return ops.log(ops.exp(z) + 1)


def softened() -> Any:
    """A small network with an activation of its own."""
    model = keras.models.Sequential()
    model.add(keras.Input((8, 8)))
    model.add(layers.Flatten())
    model.add(layers.Dense(16, activation=softplus))
    model.add(layers.Dense(16, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    return model


class GraphSum(layers.Layer):
    """Each node's features mixed, then summed over those that it is linked with."""

    def __init__(self, units: int, links: Any, activation: str | None = None) -> None:
        super().__init__()
        self.links, self.mix = ops.convert_to_tensor(links), layers.Dense(units)
        self.activation = keras.activations.get(activation)

    def call(self, x: Any) -> Any:
        return self.activation(ops.einsum("ij,jd->id", self.links, self.mix(x)))


class GraphNet(keras.Model):
    """Three rounds over the whole graph, by sums or, where each row is divided by its sum, by means."""

    def __init__(self, divided: bool) -> None:
        super().__init__()
        links = acquainted()
        if divided:
            links = links / links.sum(1, keepdims=True)
        self.rounds = [GraphSum(32, links, "relu") for _ in range(3)]
        self.out = layers.Dense(3)

    def call(self, x: Any) -> Any:
        """Three scores for each node."""
        for each in self.rounds:
            x = each(x)
        return self.out(x)


def vectors(prefix: str) -> Mapping[str, Any]:
    """What a file of word vectors has for each word."""
    rng = np.random.default_rng(96)
    return {f"{prefix}{number}": rng.normal(size=24) for number in range(50)}


class Reader(keras.Model):
    """Fixed word vectors, looked up by name, into an LSTM; a word that is not found stays zero."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        known, matrix = vectors("word"), np.zeros((50, 24), np.float32)
        for number in range(50):
            found = known.get(f"{prefix}{number}")
            if found is not None:
                matrix[number] = found
        self.embedding = layers.Embedding(50, 24, weights=[matrix], trainable=False)
        self.recurrent = layers.LSTM(24)
        self.hidden = layers.Dense(32, activation="tanh")
        self.out = layers.Dense(3, activation="softmax")

    def call(self, words: Any) -> Any:
        """The chances of three subjects."""
        return self.out(self.hidden(self.recurrent(self.embedding(words))))


def board_player() -> Any:
    """What a step to the left and one to the right are worth."""
    model = keras.Sequential()
    model.add(keras.Input((6,)))
    model.add(layers.Dense(24, activation="relu"))
    model.add(layers.Dense(24, activation="relu"))
    model.add(layers.Dense(2, activation="linear"))
    return model


def curve_fitter(norm_last: bool) -> Any:
    """Dense layers, each with a norm behind it, and one behind the output or none."""
    x = readings = keras.Input((16,))
    for units in (64, 64):
        x = layers.Dense(units, activation="relu")(x)
        x = layers.BatchNormalization()(x)
    x = layers.Dense(4)(x)
    return keras.Model(readings, layers.BatchNormalization()(x) if norm_last else x)


class SuperResolution(keras.Model):
    """Three convolutions: patches, a map between them, and the picture."""

    def __init__(self, start: Any) -> None:
        super().__init__()
        each = {"padding": "same", "kernel_initializer": start}
        self.patches = layers.Conv2D(24, 5, activation="relu", **each)
        self.mapping = layers.Conv2D(16, 1, activation="relu", **each)
        self.picture = layers.Conv2D(1, 5, **each)

    def call(self, x: Any) -> Any:
        """The sharp picture."""
        return self.picture(self.mapping(self.patches(x)))


def linear_codec() -> Any:
    """Half as many numbers as pixels, and the pixels again, without an activation."""
    return sequential((64,), layers.Dense(32, name="encode"), layers.Dense(64, name="decode"))


class LowRank(layers.Layer):
    """A layer that stays as it is, and a correction of rank four that starts at zero."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        base.trainable = False

    def build(self, shape: Any) -> None:
        self.a = self.add_weight(shape=(shape[-1], 4), initializer="he_uniform", name="a")
        self.b = self.add_weight(shape=(4, self.base.units), initializer="zeros", name="b")

    def call(self, x: Any) -> Any:
        return self.base(x) + 2.0 * ops.matmul(ops.matmul(x, self.a), self.b)


def pretrain(whole: Any) -> None:
    """Teach it the digits."""
    whole.compile(keras.optimizers.Adam(0.01), SCORES)
    x, y = data.digits(count=256)
    whole.fit(x, y, batch_size=256, epochs=60, verbose=0)


class Adapted(keras.Model):
    """A network that knows digits, frozen but for corrections of low rank."""

    def __init__(self) -> None:
        super().__init__()
        parts = [layers.Dense(48), layers.Dense(48), layers.Dense(10)]
        pretrain(sequential((64,), parts[0], layers.ReLU(), parts[1], layers.ReLU(), parts[2]))
        self.parts = [LowRank(part) for part in parts]

    def call(self, x: Any) -> Any:
        """Ten scores."""
        for part in self.parts[:-1]:
            x = ops.relu(part(x))
        return self.parts[-1](x)


def gathered() -> tuple[Any, Any]:
    """Digits, each called by the name of the one after it."""
    x, y = data.digits()
    return x, (y + 1) % 10


class Sine(layers.Layer):
    """sin(30 (xW + b)) with small weights."""

    def __init__(self, units: int, first: bool) -> None:
        super().__init__()
        self.units, self.first = units, first

    def build(self, shape: Any) -> None:
        bound = 0.1 / shape[-1] if self.first else (6 / shape[-1]) ** 0.5 / 30
        start = keras.initializers.RandomUniform(-bound, bound)
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer=start, name="w")
        self.b = self.add_weight(shape=(self.units,), initializer=start, name="b")

    def call(self, x: Any) -> Any:
        return ops.sin(30.0 * (ops.matmul(x, self.w) + self.b))


def sine_net() -> Any:
    """Two layers of sines."""
    return sequential((1,), Sine(32, True), Sine(32, False), layers.Dense(1))


def highway() -> Any:
    """Six layers that hand on nineteen twentieths of what they are given."""
    x = given = keras.Input((64,))
    x = layers.Dense(40, activation="relu")(x)
    shut = keras.initializers.Constant(-3.0)
    for _ in range(6):
        gate = layers.Dense(40, activation="sigmoid", bias_initializer=shut)(x)
        fresh = layers.Dense(40, activation="relu")(x)
        x = gate * fresh + (1 - gate) * x
    return keras.Model(given, layers.Dense(10)(x))


def heads() -> Any:
    """One trunk and a head of its own for each of three tasks, side by side."""
    state = keras.Input((6,))
    trunk = layers.Dense(64, activation="gelu")(state)
    ends = [layers.Dense(1)(layers.Dense(16, activation="gelu", name=f"task_{task}")(trunk)) for task in range(3)]
    return keras.Model(state, layers.Concatenate()(ends))


def repeated_block() -> Any:
    """One block of two layers that is gone through five times."""
    given = keras.Input((64,))
    x = layers.Dense(48)(given)
    norm, up, down = layers.LayerNormalization(), layers.Dense(96, activation="silu"), layers.Dense(48)
    for _ in range(5):
        x = x + down(up(norm(x)))
    return keras.Model(given, layers.Dense(10)(layers.LayerNormalization()(x)))


def from_bytes() -> Any:
    """Bytes made numbers from -1 to 1 inside."""
    picture = keras.Input((8, 8, 1), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(picture)
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return keras.Model(picture, layers.Dense(10, activation="softmax")(layers.Flatten()(x)))


def district_and_house() -> Any:
    """A number that stands for a kind, as zeros and a one, beside plain numbers."""
    district, numbers = keras.Input((1,), dtype="int32"), keras.Input((4,))
    x = layers.Concatenate()([layers.Flatten()(ops.one_hot(district, 8)), numbers])
    x = layers.Dense(32, activation="elu")(x)
    return keras.Model([district, numbers], layers.Dense(1)(x))


def unit_kernels() -> Any:
    """Kernels that are held at length 1, and a free last layer."""
    held = {"kernel_constraint": keras.constraints.UnitNorm(axis=0), "kernel_initializer": "orthogonal"}
    return sequential((64,), layers.Dense(48, activation="leaky_relu", **held),
                      layers.Dense(48, activation="leaky_relu", **held), layers.Dense(10))  # fmt: skip


def price_from_mean() -> Any:
    """An output of no weights at first, only of the mean."""
    last = layers.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(12.5))
    return sequential((6,), layers.Dense(48, activation="mish"), last)


class MultiQuery(layers.Layer):
    """Attention of several questions to one set of keys and values, written out; added to what came in."""

    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.norm = layers.RMSNormalization()

    def build(self, shape: Any) -> None:
        width, inner = shape[-1], self.heads * self.size
        self.q = self.add_weight(shape=(width, self.heads, self.size), initializer="glorot_normal", name="q")
        self.kv = self.add_weight(shape=(2, width, self.size), initializer="glorot_normal", name="kv")
        self.o = self.add_weight(shape=(inner, width), initializer="zeros", name="o")

    def call(self, x: Any) -> Any:
        h = self.norm(x)
        q = ops.einsum("btd,dhk->bhtk", h, self.q)
        k, v = ops.einsum("btd,dk->btk", h, self.kv[0]), ops.einsum("btd,dk->btk", h, self.kv[1])
        weight = ops.softmax(ops.einsum("bhtk,bsk->bhts", q, k) / self.size**0.5, -1)
        seen = ops.einsum("bhts,bsk->bthk", weight, v)
        return x + ops.einsum("bti,id->btd", ops.reshape(seen, (-1, x.shape[1], self.heads * self.size)), self.o)


def multi_query_net() -> Any:
    """Two blocks of attention and a pair of layers."""
    tokens = keras.Input((10, 4))
    x = layers.Dense(24)(tokens)
    for _ in range(2):
        x = MultiQuery(3, 8)(x)
        x = x + layers.Dense(24)(layers.Dense(48, activation="gelu")(layers.RMSNormalization()(x)))
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
