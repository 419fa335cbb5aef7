"""Recipes that scale weights by depth or width, as numbers; each with its source."""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fanin.errors import InvalidValueError

__all__ = ["MUP", "DeepNorm", "deepnorm", "fixup", "gpt2", "t_fixup"]


def _count(value: int, name: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise InvalidValueError(f"The number of {name} is out of range", given=value, allowed="whole numbers from 1")
    return int(value)


def fixup(blocks: int, layers: int = 2) -> float:
    """By what Fixup multiplies a standard initialisation in each residual branch: ``L ** (-1 / (2 m - 2))``.

    The last layer of a branch and the classifier start at 0. Source: Zhang et al. 2019 (arXiv:1901.09321).

    Args:
        blocks: Number L of residual branches.
        layers: Number m of weighted layers in each; 2 or more.

    Example:
        >>> fixup(16)
        0.25
    """
    if _count(layers, "layers in a branch") < 2:
        raise InvalidValueError("Fixup needs two layers in a branch", given=layers, allowed="2 or more")
    return float(_count(blocks, "branches") ** (-1 / (2 * layers - 2)))


def t_fixup(layers: int, side: Literal["encoder", "decoder", "embedding"] = "encoder") -> float:
    """By what T-Fixup multiplies Xavier weights in a Transformer without norms and warm-up.

    Encoder: value and feed-forward weights times ``0.67 N ** (-1/4)``; decoder: ``(9 M) ** (-1/4)``; embeddings:
    ``(9 N) ** (-1/4)``. Source: Huang et al., ICML 2020.

    Example:
        >>> round(t_fixup(6), 4), round(t_fixup(6, "decoder"), 4)
        (0.4281, 0.3689)
    """
    count = _count(layers, "layers")
    small = float((9 * count) ** -0.25)
    scales = {"encoder": float(0.67 * count**-0.25), "decoder": small, "embedding": small}
    if side not in scales:
        raise InvalidValueError("T-Fixup knows no such side", given=side, allowed=", ".join(scales))
    return scales[side]


@dataclass(frozen=True)
class DeepNorm:
    """The residual path is multiplied by `alpha`, value and feed-forward weights by `beta`."""

    alpha: float
    beta: float


def deepnorm(encoder: int = 0, decoder: int = 0) -> tuple[DeepNorm | None, DeepNorm | None]:
    """The numbers of DeepNorm for encoder and decoder; None for the one that is not there.

    Source: Wang et al. 2022 (arXiv:2203.00555).

    Example:
        >>> only, _ = deepnorm(encoder=12)
        >>> round(only.alpha, 4), round(only.beta, 5)
        (2.2134, 0.31947)
    """
    if not encoder and not decoder:
        raise InvalidValueError("DeepNorm needs a depth", given="no layers", allowed="encoder=..., decoder=... or both")
    if not (encoder and decoder):
        count = _count(encoder or decoder, "layers")
        alone = DeepNorm((2 * count) ** 0.25, (8 * count) ** -0.25)
        return (alone, None) if encoder else (None, alone)
    n, m = _count(encoder, "encoder layers"), _count(decoder, "decoder layers")
    return (
        DeepNorm(0.81 * (n**4 * m) ** (1 / 16), 0.87 * (n**4 * m) ** (-1 / 16)),
        DeepNorm((3 * m) ** 0.25, (12 * m) ** -0.25),
    )


def gpt2(layers: int, stddev: float = 0.02) -> float:
    """GPT-2's standard deviation for the weights that end a residual branch: ``0.02 / sqrt(2 L)``.

    Source: Radford et al. 2019; two branches in each layer.

    Example:
        >>> round(gpt2(12), 7)
        0.0040825
    """
    number = stddev if isinstance(stddev, int | float) else math.nan
    if not number >= 0 or math.isinf(number):
        raise InvalidValueError("The standard deviation is out of range", given=stddev, allowed="a number of 0 or more")
    return float(number / (2 * _count(layers, "layers")) ** 0.5)


MUP = MappingProxyType(
    {
        "input": {"variance": "1 / fan_in", "multiplier": "1", "adam_learning_rate": "1", "sgd_learning_rate": "width"},
        "hidden": {"variance": "1 / fan_in", "multiplier": "1", "adam_learning_rate": "1 / width",
                   "sgd_learning_rate": "1"},
        "output": {"variance": "1", "multiplier": "1 / width", "adam_learning_rate": "1", "sgd_learning_rate": "width"},
        "attention": {"scale": "1 / d (in place of 1 / sqrt(d))"},
    }
)  # fmt: skip
"""The maximal update parametrisation, relative to a base width: Yang et al. 2022 (arXiv:2203.03466), table 8."""
