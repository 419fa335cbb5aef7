"""PyTorch networks that can be built with a fault or without it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corpus.torch_networks import (
    Attention,
    Make,
    changed,
    mlp,
)

__all__ = [
    "After",
    "Cut",
    "Listed",
    "Looks",
    "Pixels",
    "Scores",
    "Tower",
    "copy_units",
    "dropped",
    "forgotten",
    "frozen",
    "he",
    "leftovers",
    "normalised",
    "swapped",
    "unrolled",
    "weights",
]


def weights(change: Callable[[Tensor], Any]) -> Callable[[str, Tensor], Any]:
    """The change to what has two axes or more, and zeros for the rest."""
    return lambda _, parameter: change(parameter) if parameter.dim() > 1 else parameter.zero_()


def copy_units(_: str, parameter: Tensor) -> None:
    """All units of a hidden layer are copies of its first, and the next layer reads them alike."""
    parameter.copy_(parameter[:1].expand_as(parameter))
    if (parameter.dim() > 1 and parameter.shape[1] != 64) or parameter.shape[0] == 10:
        parameter.copy_(parameter.mean(-1, keepdim=True).expand_as(parameter))


def he(build: Make) -> Make:
    return changed(build, weights(nn.init.kaiming_normal_))


def leftovers(shape: Sequence[int]) -> nn.Parameter:
    """What ``torch.empty`` finds in memory that pointers and counts were in before, the same every time.

    Read as float32 they are tiny, zero, or up to 10^13.
    """
    size = int(np.prod(shape))
    rng = np.random.default_rng(0)
    pointers = 0x7F0000000000 + rng.integers(0, 1 << 32, size // 2) * 8
    counts = rng.integers(0, 1000, size - size // 2)
    words = np.concatenate([pointers, counts])[rng.permutation(size)].astype("<i8").view("<u4")[:size]
    floats = words.view("<f4").astype(np.float32)
    return nn.Parameter(torch.from_numpy(np.where(np.abs(floats) < 1e13, floats, 0).astype(np.float32).reshape(shape)))


class Scores(nn.Module):
    """A hidden layer and a readout made by hand, whose weights were never given values."""

    def __init__(self, filled: bool) -> None:
        super().__init__()
        self.first, self.second = leftovers((64, 48)), leftovers((48, 10))
        if filled:
            nn.init.xavier_uniform_(self.first)
            nn.init.xavier_uniform_(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.first) @ self.second


def forgotten(everything: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """An encoder to few features, and an optimizer of the head alone or of everything."""
    model = Cut(None)
    return model, torch.optim.Adam((model if everything else model.head).parameters(), 0.01)


def swapped(late: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A new head, put in after the optimizer was made or before."""
    model = mlp((64, 32, 10))
    early = torch.optim.Adam(model.parameters(), 0.01)
    model[2] = nn.Linear(32, 10)
    model[0].requires_grad_(False)
    return model, early if late else torch.optim.Adam(model[2].parameters(), 0.01)


def frozen(build: Make) -> Make:
    return lambda: build().requires_grad_(False)


def unrolled(spread: float, kind: str = "tanh") -> nn.Module:
    """A plain recurrent network over 64 pixels, one at a time."""
    model = Pixels(kind)
    nn.init.normal_(model.layers.weight_hh_l0, std=spread)
    return model


class Listed(nn.Module):
    """Keeps its layers in a list of Python's, or one that PyTorch knows of."""

    def __init__(self, known: bool) -> None:
        super().__init__()
        layers = [nn.Linear(64, 64) for _ in range(3)]
        layers[0] = nn.Linear(64, 4)
        layers[1] = nn.Linear(4, 4)
        layers[2] = nn.Linear(4, 64)
        self.layers = nn.ModuleList(layers) if known else layers
        self.readout = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.readout(x)


class Cut(nn.Module):
    """An encoder to few features and a head; between them something that lets no gradient through, or nothing."""

    def __init__(self, between: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.encoder, self.head, self.between = mlp((64, 32, 3)), mlp((3, 32, 10)), between

    def forward(self, x: Tensor) -> Tensor:
        features = self.encoder(x)
        return self.head(features if self.between is None else self.between(features))


class Tower(nn.Module):
    """Residual blocks without a norm, each branch `gain` times what He's law gives."""

    def __init__(self, gain: float, depth: int = 24, width: int = 48) -> None:
        super().__init__()
        self.embed, self.readout = nn.Linear(64, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(mlp((width, width, width)) for _ in range(depth))
        for block in self.blocks:
            for layer in (block[0], block[2]):
                nn.init.normal_(layer.weight, std=gain * (2 / width) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.readout(x)


class After(nn.Module):
    """A transformer with the norm after each sum; the branches are `gain` times Glorot's law."""

    def __init__(self, gain: float, depth: int = 6, width: int = 32) -> None:
        super().__init__()
        self.embed, self.readout = nn.Linear(8, width), nn.Linear(width, 10)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.branches = nn.ModuleList()
        for _ in range(depth):
            self.branches.extend([Attention(width), mlp((width, 64, width))])
        for parameter in self.branches.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter, gain)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for norm, branch in zip(self.norms, self.branches, strict=True):
            x = norm(x + branch(x))
        return self.readout(x.mean(1))


class Looks(nn.Module):
    """Attention over the words of a sentence, its scores scaled or not, from weights of the given spread."""

    def __init__(self, scale: float | None, spread: float, width: int = 64) -> None:
        super().__init__()
        self.embed, self.readout = nn.Embedding(50, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(Attention(width, scale) for _ in range(2))
        for layer in self.layers:
            nn.init.normal_(layer.query.weight, std=spread)
            nn.init.normal_(layer.key.weight, std=spread)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.readout(x.mean(1))


class Pixels(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layers, self.readout = nn.RNN(8, 48, nonlinearity=kind, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(x)[0][:, -1])


def normalised(training: bool) -> nn.Module:
    """Batch norms between many layers, left in evaluation mode or not."""
    layers: list[nn.Module] = [nn.Linear(64, 48)]
    for _ in range(12):
        layers += [nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10)).train(training)


def dropped(rate: float) -> nn.Module:
    hidden = (layer for a, b in ((64, 64), (64, 64)) for layer in (nn.Linear(a, b), nn.ReLU(), nn.Dropout(rate)))
    return nn.Sequential(*hidden, nn.Linear(64, 10))
