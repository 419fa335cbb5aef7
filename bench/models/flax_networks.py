"""Flax networks, in nnx: a transformer and a convolutional network."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from models import Case, images, vectors

__all__ = ["CASES", "Convolutional", "Transformer"]


class Convolutional(nnx.Module):
    """Pairs of 3 x 3 convolutions with ReLU, a maximum over 2 x 2 after each, and a hidden layer."""

    def __init__(self, rngs: nnx.Rngs, channels: int = 3, size: int = 32) -> None:
        self.convs = nnx.List()
        for width in (32, 64, 128):
            first = nnx.Conv(channels, width, (3, 3), rngs=rngs)
            self.convs.append(nnx.List([first, nnx.Conv(width, width, (3, 3), rngs=rngs)]))
            channels = width
        self.hidden = nnx.Linear(channels * (size // 8) ** 2, 128, rngs=rngs)
        self.readout = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for pair in self.convs:
            for conv in pair:
                x = jax.nn.relu(conv(x))
            x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.readout(jax.nn.relu(self.hidden(x.reshape(len(x), -1))))


class Block(nnx.Module):
    """Attention, then a layer pair, the norm before each."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)])
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norms[0](x))
        return x + self.down(jax.nn.gelu(self.up(self.norms[1](x))))


class Transformer(nnx.Module):
    """An encoder of a sequence of vectors."""

    def __init__(self, rngs: nnx.Rngs, depth: int = 6, features: int = 24, width: int = 128, heads: int = 4) -> None:
        self.embed = nnx.Linear(features, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.readout = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.readout(jnp.mean(self.norm(x), 1))


CASES = (
    Case("convolutional", "flax", "convolutional", lambda: Convolutional(nnx.Rngs(0)),
         partial(images, 16, 32, 3, True), quick=True),
    Case("transformer", "flax", "transformer", lambda: Transformer(nnx.Rngs(0)), partial(vectors, 16, 32, 24),
         quick=True),
)  # fmt: skip
