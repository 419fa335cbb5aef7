"""Inputs made up for a Flax nnx model, to see what it computes where the user gives none."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

__all__ = ["examples"]

_IMAGES = (32, 224, 64, 28)
"""Sides of images to try: most models take one of them."""
_TOKENS = 7


def _linear(module: Any) -> Iterator[Any]:
    yield jax.ShapeDtypeStruct((2, module.in_features), jnp.float32)
    yield jax.ShapeDtypeStruct((2, _TOKENS, module.in_features), jnp.float32)


def _conv(module: Any) -> Iterator[Any]:
    kernel = module.kernel_size
    axes = len(kernel) if isinstance(kernel, tuple) else 1
    for side in _IMAGES:
        yield jax.ShapeDtypeStruct((2, *[side] * axes, module.in_features), jnp.float32)


def _embedding(_: Any) -> Iterator[Any]:
    yield jax.ShapeDtypeStruct((2, _TOKENS), jnp.int32)


_KINDS: tuple[tuple[Any, Callable[[Any], Iterator[Any]]], ...] = (
    (nnx.Linear, _linear),
    (nnx.Conv, _conv),
    (nnx.Embed, _embedding),
)


def examples(model: Any) -> Iterator[tuple[Any, str]]:
    """Inputs that an nnx model may take, likeliest first, each with words for the user; none for linen.

    Example:
        >>> [words for _, words in examples(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))]
        ['shape (2, 3)', 'shape (2, 7, 3)']
    """
    if not isinstance(model, nnx.Module):
        return
    for _, module in nnx.iter_modules(model):
        kind = next((make for kinds, make in _KINDS if isinstance(module, kinds)), None)
        if kind is not None:
            zeros = ((jnp.zeros(made.shape, made.dtype), made.shape) for made in kind(module))
            yield from ((made, f"shape {shape}") for made, shape in zeros)
            return
