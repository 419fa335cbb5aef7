"""Networks of many kinds as people write them, each with an example input: what whole-model initialisation must serve.

One file for each framework and kind of network. A `Case` says how to build a network and what it takes;
`cases()` lists them. Nothing here knows of fanin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Case", "cases", "images", "tokens", "vectors"]

FILES = {
    "torch": ("torch_dense", "torch_images", "torch_sequences"),
    "keras": ("keras_networks",),
    "flax": ("flax_networks",),
}
"""The files of each framework; each has a tuple `CASES`."""


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: Unique among the cases of its framework.
        framework: ``torch``, ``keras`` or ``flax``.
        family: The kind of network, for grouping.
        build: Returns a new network with its framework's own initial weights, from the framework's global
            random state.
        example: Returns an input: a NumPy array, or a mapping of keyword arguments. Floats are standardised.
        quick: Whether a short run takes it.
    """

    name: str
    framework: str
    family: str
    build: Callable[[], Any]
    example: Callable[[], Any]
    quick: bool = False


def cases(framework: str, quick: bool = False) -> tuple[Case, ...]:
    """The cases of a framework, which is imported; with `quick` a small choice."""
    found = [case for file in FILES[framework] for case in import_module(f"models.{file}").CASES]
    return tuple(case for case in found if case.quick or not quick)


def vectors(*shape: int) -> NDArray[np.float32]:
    """Standard normal numbers of this shape, the batch in front."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def images(count: int, size: int, channels: int = 3, channels_last: bool = False) -> NDArray[np.float32]:
    """Standardised square pictures, half of whose variance lies in patches of 4 x 4 pixels, as neighbours are alike."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(count, channels, -(-size // 4), -(-size // 4)))
    patches = np.kron(coarse, np.ones((4, 4)))[..., :size, :size]
    mixed = patches + rng.normal(size=(count, channels, size, size))
    pictures = ((mixed - mixed.mean()) / mixed.std()).astype(np.float32)
    return pictures.transpose(0, 2, 3, 1) if channels_last else pictures


def tokens(count: int, length: int, vocabulary: int) -> NDArray[np.int64]:
    """Rows of words, numbers below the size of the vocabulary."""
    return np.random.default_rng(0).integers(0, vocabulary, (count, length))
