"""Random networks in plain NumPy: forward and backward passes by hand, many seeds at once.

Arrays of signals have the shape (seeds, inputs, width); weights (seeds, out, in).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import erf

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _bell(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _below(z):
    return (1 + erf(z / math.sqrt(2))) / 2


def _logistic(z):
    return (1 + np.tanh(z / 2)) / 2


PHI = {
    "linear": (lambda z: z, lambda z: np.ones_like(z)),
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: np.where(np.abs(z) < 1, 1.0, 0.0)),
    "erf": (erf, lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z)),
    "gelu": (lambda z: z * _below(z), lambda z: _below(z) + z * _bell(z)),
    "silu": (lambda z: z * _logistic(z), lambda z: _logistic(z) * (1 + z * _logistic(-z))),
    "selu": (
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * (np.exp(np.minimum(z, 0)) - 1)),
        lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    ),
}
"""The activations and their slopes."""


@dataclass(frozen=True)
class Block:
    """``W phi(norm(h)) + b``, with `residual` as the branch of ``h + residual * (...)``, then a norm behind."""

    phi: str
    sigma_w2: float
    sigma_b2: float = 0.0
    residual: float | None = None
    norm: str = "none"


SETTINGS = {
    "relu": (2.0, 0.0, 1.0),
    "tanh": (1.7609546396, 0.05, 0.5700478816),
    "gelu": (1.9830582574, 0.1729223908, (3 + math.sqrt(17)) / 2),
    "selu": (1.0, 0.0, 1.0),
    "erf": (1.3758390073, 0.05, 0.5171768379),
    "silu": (1.9880046831, 0.2, 1.0),
    "hard_tanh": (1.5, 0.0, 1.0),
    "linear": (1.0, 0.0, 1.0),
}
"""sigma_w2, sigma_b2 and q: at the edge of chaos, or near it; SELU at its own point."""


def stack(kind, phi, depth):
    """Blocks of one kind, and q; ``residual by depth`` has branches of the scale 1 / sqrt(depth)."""
    sigma_w2, sigma_b2, q = SETTINGS[phi]
    residual = {"plain": None, "batch": None, "residual by depth": 1 / math.sqrt(depth)}.get(kind, 1.0)
    norm = kind if kind in ("pre", "post", "batch") else "none"
    return [Block(phi, sigma_w2, sigma_b2, residual, norm)] * depth, q


class Replay:
    """Draws that are made once and given again to one network after the other: drawing costs more than all else."""

    def __init__(self, rng):
        self.rng, self.drawn, self.at = rng, [], 0

    def again(self):
        self.at = 0
        return self

    def standard_normal(self, shape, dtype):
        if self.at == len(self.drawn):
            self.drawn.append(self.rng.standard_normal(shape, dtype=dtype))
        self.at += 1
        assert self.drawn[self.at - 1].shape == shape
        return self.drawn[self.at - 1].copy()


@dataclass(frozen=True)
class Passes:
    """What was measured, each of the shape (layers + 1, seeds).

    `signal` and `gradient` are those of the first input, or means over the batch where there is batch normalisation;
    `gradient` is relative to the end. `uneven` is the relative variance of the sizes of inputs less their mean.
    """

    signal: np.ndarray
    gradient: np.ndarray
    cosine: np.ndarray
    uneven: np.ndarray


def normal(rng, shape, variance):
    """Normal numbers, drawn in float32: 1e-7 of their size is far below any error bar."""
    drawn = rng.standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(math.sqrt(variance))
    return drawn


def square_mean(x):
    return np.mean(np.square(x, dtype=float), axis=-1)


def mean_square_norm(h):
    """What a norm over units without a mean does: the size of every input becomes 1."""
    return h / np.sqrt(square_mean(h))[..., None].astype(h.dtype)


def mean_square_norm_back(h, gradient):
    size = np.sqrt(square_mean(h))[..., None].astype(h.dtype)
    x = h / size
    return (gradient - x * np.mean(gradient * x, axis=-1, keepdims=True)) / size


def batch_norm(h):
    """Each unit over the inputs."""
    return (h - h.mean(axis=1, keepdims=True)) / h.std(axis=1, keepdims=True)


def batch_norm_back(h, gradient):
    x, size = batch_norm(h), h.std(axis=1, keepdims=True)
    centred = gradient - gradient.mean(axis=1, keepdims=True)
    return (centred - x * np.mean(gradient * x, axis=1, keepdims=True)) / size


FRONT = {"pre": (mean_square_norm, mean_square_norm_back), "batch": (batch_norm, batch_norm_back)}


def forward(block, h, weight, bias):
    """One layer; also what its backward pass needs."""
    x = FRONT[block.norm][0](h) if block.norm in FRONT else h
    branch = PHI[block.phi][0](x) @ weight.transpose(0, 2, 1) + bias[:, None]
    total = branch if block.residual is None else h + block.residual * branch
    return (mean_square_norm(total) if block.norm == "post" else total), (h, x, total)


def backward(block, kept, weight, gradient):
    """From the gradient of what a layer gave to that of what it was given."""
    h, x, total = kept
    if block.norm == "post":
        gradient = mean_square_norm_back(total, gradient)
    branch = gradient if block.residual is None else block.residual * gradient
    inside = (branch @ weight) * PHI[block.phi][1](x)
    if block.norm in FRONT:
        inside = FRONT[block.norm][1](h, inside)
    return inside if block.residual is None else gradient + inside


def run(blocks, inputs, width, seeds, rng, *, back=True):
    """Measure networks of one width with fresh weights for each seed, on the same inputs (inputs, units)."""
    h = np.broadcast_to(inputs, (seeds, *inputs.shape))
    batch = any(block.norm == "batch" for block in blocks)
    history, signal, cosine, uneven = [], [], [], []

    def measured(size):
        return size.mean(axis=1) if batch else size[:, 0]

    def record():
        size = square_mean(h)
        signal.append(measured(size))
        cosine.append(_cosine(h, size))
        if batch:
            centred = square_mean(h - h.mean(axis=1, keepdims=True))
            uneven.append(centred.var(axis=1) / centred.mean(axis=1) ** 2)

    record()
    for block in blocks:
        weight = normal(rng, (seeds, width, h.shape[-1]), block.sigma_w2 / h.shape[-1]).astype(inputs.dtype, copy=False)
        bias = normal(rng, (seeds, width), block.sigma_b2).astype(inputs.dtype)
        h, kept = forward(block, h, weight, bias)
        if back:
            history.append((block, kept, weight))
        record()
    gradient = normal(rng, h.shape, 1.0).astype(inputs.dtype)
    sizes = [measured(square_mean(gradient))]
    for block, kept, weight in reversed(history):
        gradient = backward(block, kept, weight, gradient)
        sizes.append(measured(square_mean(gradient)))
    return Passes(np.array(signal), np.array(sizes[::-1]) / sizes[0], np.array(cosine), np.array(uneven))


def _cosine(h, size):
    """Of the first two inputs, or the mean over all pairs of a batch."""
    many, units = h.shape[1:]
    if many == 1:
        return np.ones(len(h))
    whole = np.square(h.sum(axis=1, dtype=float)).sum(axis=1) / units
    return (
        (whole - size.sum(axis=1)) / (many - 1) / size.sum(axis=1)
        if many > 2
        else ((whole - size.sum(axis=1)) / 2 / np.sqrt(size.prod(axis=1)))
    )


def quantiles(width, q):
    """One input whose units are spread like N(0, q): at its quantiles, of exactly that second moment."""
    row = np.array([NormalDist().inv_cdf((i + 0.5) / width) for i in range(width)])
    return (row * math.sqrt(q / np.mean(row**2)))[None]


def pair(width, q, c):
    """Two inputs whose units are spread like a pair of normal numbers: a lattice, of exactly these moments."""
    golden = (math.sqrt(5) - 1) / 2
    first, second = (
        np.array([NormalDist().inv_cdf(at % 1) for at in places])
        for places in ([(i + 0.5) / width for i in range(width)], [(i + 0.5) * golden for i in range(width)])
    )
    first = first / math.sqrt(np.mean(first**2))
    second = second - first * np.mean(first * second)
    second = second / math.sqrt(np.mean(second**2))
    return math.sqrt(q) * np.stack([first, c * first + math.sqrt(1 - c * c) * second])


def crowd(rng, batch, width, q, c):
    """A batch: each unit has a mean over inputs, of second moment q c, and around it exactly the variance q (1 - c)."""
    means = math.sqrt(q * c) * quantiles(width, 1.0) if c else 0.0
    return means + math.sqrt(q * (1 - c)) * batch_norm(rng.normal(size=(1, batch, width)))[0]
