"""Inputs made up for a PyTorch model, to see what it computes where the user gives none."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["examples"]

_IMAGES = (32, 224, 64, 28)
"""Sides of images to try: most models take one of them."""
_TOKENS = 7


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _linear(module: Any) -> Iterator[Tensor]:
    yield _floats(2, module.in_features)
    yield _floats(2, _TOKENS, module.in_features)


def _conv(module: Any) -> Iterator[Tensor]:
    axes = len(module.kernel_size)
    for side in _IMAGES:
        yield _floats(2, module.in_channels, *[side] * axes)


def _embedding(_: Any) -> Iterator[Tensor]:
    yield torch.zeros((2, _TOKENS), dtype=torch.long, device="meta")


def _recurrent(module: Any) -> Iterator[Tensor]:
    yield _floats(2, _TOKENS, module.input_size)


def _attention(module: Any) -> Iterator[Tensor]:
    yield _floats(2, _TOKENS, module.embed_dim)


_KINDS: tuple[tuple[Any, Callable[[Any], Iterator[Tensor]]], ...] = (
    (nn.MultiheadAttention, _attention),
    (nn.Linear, _linear),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    (nn.Embedding, _embedding),
    (nn.RNNBase, _recurrent),
)


def examples(model: nn.Module) -> Iterator[tuple[Any, str]]:
    """Inputs that the model may take, likeliest first, each with words for the user.

    Those that the model offers itself come first (`dummy_inputs`, in `transformers`), then what its first layer
    takes. Most hold shapes alone.

    Example:
        >>> [words for _, words in examples(nn.Sequential(nn.Linear(3, 2)))]
        ['shape (2, 3)', 'shape (2, 7, 3)']
    """
    offered = getattr(model, "dummy_inputs", None)
    if offered:
        yield offered, f"the model's own dummy_inputs ({', '.join(offered)})"
    for module in model.modules():
        kind = next((make for kinds, make in _KINDS if isinstance(module, kinds)), None)
        if kind is not None:
            yield from ((made, f"shape {tuple(made.shape)}") for made in kind(module))
            return
