"""PyTorch networks of a fourth gathering that look odd and train."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import data, second_data
from corpus.torch_networks import mlp

__all__ = [
    "Adversarial",
    "Distances",
    "Dueling",
    "Gated",
    "Linear",
    "Monotone",
    "Ordinal",
    "Quantiles",
    "TwoTasks",
    "adversarial_loss",
    "domains",
    "ordered",
    "ordinal_loss",
    "pinball",
    "rising",
    "taken",
    "taken_loss",
    "two_tasks",
    "weighed",
]


def ordered() -> tuple[Any, Any]:
    """Houses, and which of six prices, from low to high."""
    x, price = data.houses()
    return x, np.digitize(price[:, 0], [-1.0, -0.4, 0.0, 0.4, 1.0]).astype(np.int64)


def two_tasks() -> tuple[Any, Any]:
    """Houses, their price and a much harder number."""
    x, price = data.houses()
    other = np.sin(3 * x[:, :1]) + np.random.default_rng(70).normal(size=(len(x), 1))
    return x, np.hstack([price, 0.2 * other]).astype(np.float32)


def rising() -> tuple[Any, Any]:
    """Three numbers and something that rises with each."""
    x = np.random.default_rng(71).normal(size=(192, 3))
    y = np.tanh(x[:, :1]) + 0.5 * np.exp(0.5 * x[:, 1:2]) + np.maximum(x[:, 2:], 0)
    return x.astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def domains() -> tuple[Any, Any]:
    """Clouds of which every second is moved along one direction, and their kinds."""
    x, labels = data.blobs()
    x = x.copy()
    x[::2, 0] += 3.0
    return x, labels


def taken() -> tuple[Any, Any]:
    """A state, which action was taken, and what came of it."""
    states, worth = second_data.actions()
    action = np.random.default_rng(72).integers(0, 3, len(states))
    return (states, action.astype(np.int64)), worth[np.arange(len(states)), action][:, None]


class Distances(nn.Module):
    """Minus the squared distance from a point for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((64, 48, 16))
        self.points = nn.Parameter(torch.randn(10, 16))

    def forward(self, x: Tensor) -> Tensor:
        return -(self.layers(x)[:, None] - self.points).square().sum(-1)


class Linear(nn.Module):
    """Attention whose weights are products of positive features, divided by their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Linear(4, 24)
        self.query, self.key, self.value = (nn.Linear(24, 24, bias=False) for _ in range(3))
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        query, key = functional.elu(self.query(x)) + 1, functional.elu(self.key(x)) + 1
        told = query @ (key.transpose(1, 2) @ self.value(x))
        x = x + told / (query @ key.sum(1)[..., None])
        return self.head(functional.gelu(x).amax(1))


class Ordinal(nn.Module):
    """Chances of six grades from one number and five thresholds in order."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((6, 32, 1))
        self.gaps = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        thresholds = torch.cumsum(functional.softplus(self.gaps), 0) - 2.0
        above = torch.sigmoid(4 * self.layers(x) - thresholds)
        ends = above.new_ones(len(x), 1)
        return torch.cat([ends, above], 1) - torch.cat([above, 0 * ends], 1)


def ordinal_loss(chances: Tensor, grades: Tensor) -> Tensor:
    return functional.nll_loss(torch.log(chances + 1e-6), grades)


class TwoTasks(nn.Module):
    """Two numbers and how much is to be made of each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((6, 48, 48, 2))
        self.doubt = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x), self.doubt


def weighed(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """Squared errors over their variances, and the logarithms of these."""
    found, doubt = outputs
    return ((found - targets).square().mean(0) * torch.exp(-doubt) + doubt).sum()


class Monotone(nn.Module):
    """Layers with positive weights only."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 24), nn.Linear(24, 24), nn.Linear(24, 1)])
        for layer in self.layers:
            nn.init.normal_(layer.weight, -2.0, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.tanh(functional.linear(x, functional.softplus(layer.weight), layer.bias))
        return functional.linear(x, functional.softplus(self.layers[-1].weight), self.layers[-1].bias)


class Gated(nn.Module):
    """Tokens multiplied by a mixture over places, which starts as 1 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out, self.head = nn.Linear(4, 48), nn.Linear(24, 24), nn.Linear(24, 3)
        self.norm, self.places = nn.LayerNorm(24), nn.Conv1d(10, 10, 1)
        nn.init.normal_(self.places.weight, 0.0, 0.001)
        nn.init.ones_(self.places.bias)

    def forward(self, x: Tensor) -> Tensor:
        kept, mixed = functional.gelu(self.words(x)).chunk(2, -1)
        return self.head(functional.gelu(self.out(kept * self.places(self.norm(mixed)))).amax(1))


class Quantiles(nn.Module):
    """The middle, and with it a low and a high value."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((6, 48, 48, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle, below, above = self.layers(x).chunk(3, 1)
        return middle, torch.cat([middle - functional.softplus(below), middle, middle + functional.softplus(above)], 1)


def pinball(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """A tenth, a half and nine tenths are to lie below."""
    levels = torch.tensor([0.1, 0.5, 0.9])
    missing = targets - outputs[1]
    return torch.maximum(levels * missing, (levels - 1) * missing).mean()


class Turned(torch.autograd.Function):
    """The same going forward, and minus a part of it going back."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return -0.3 * gradient


class Adversarial(nn.Module):
    """Features that tell the kind and are to hide whether the example was moved."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.kind, self.moved = mlp((20, 32, 16)), nn.Linear(16, 4), mlp((16, 16, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return self.kind(features), self.moved(Turned.apply(features))


def adversarial_loss(outputs: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    kind, moved = outputs
    return functional.cross_entropy(kind, labels) + functional.cross_entropy(moved, torch.arange(len(labels)) % 2)


class Dueling(nn.Module):
    """What a state is worth and by how much each action is better than their mean; that of the one taken."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.value, self.better = mlp((6, 64, 64)), nn.Linear(64, 1), nn.Linear(64, 3)

    def forward(self, states: Tensor, action: Tensor) -> Tensor:
        features = functional.relu(self.features(states))
        better = self.better(features)
        return (self.value(features) + better - better.mean(1, keepdim=True)).gather(1, action[:, None])


def taken_loss(found: Tensor, worth: Tensor) -> Tensor:
    return functional.smooth_l1_loss(found, worth)
