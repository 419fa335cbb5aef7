"""PyTorch networks and losses of the third gathering: each takes the setting by which it fails or trains."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributions, nn
from torch.nn import functional

from corpus.torch_networks import mlp

__all__ = [
    "Bare",
    "Causal",
    "Curvature",
    "Direction",
    "Fused",
    "Glimpse",
    "Iterated",
    "Last",
    "Lookup",
    "Neighbours",
    "Quantised",
    "Skipped",
    "Stepwise",
    "Variational",
    "WholeLayer",
    "Worth",
    "angle",
    "by_transpose",
    "by_view",
    "declared",
    "divergence",
    "evidence",
    "log_likelihood",
    "many_convolutions",
    "norms_of_zero",
    "one_half_twice",
    "pooled_norm",
    "quantised_loss",
    "soft_margin",
    "vectors",
    "whole",
]

cross_entropy, mean_squared = functional.cross_entropy, functional.mse_loss


class Curvature(nn.Module):
    """The second derivative of a network with regard to its input, of which alone something is known."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.height = mlp((1, 32, 32, 1), activation)

    def forward(self, x: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            place = x.detach().requires_grad_()
            slope = torch.autograd.grad(self.height(place).sum(), place, create_graph=True)[0]
            bend = torch.autograd.grad(slope.sum(), place, create_graph=True)[0]
        return bend if wanted else bend.detach()


class Variational(nn.Module):
    """Pictures from a random code around what was read off them; the draw passes gradients on or not."""

    def __init__(self, passed: bool = True) -> None:
        super().__init__()
        self.encode, self.decode, self.passed = mlp((64, 64, 16)), mlp((8, 64, 64)), passed

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x).chunk(2, 1)
        law = distributions.Normal(mean, torch.exp(log_variance / 2))
        return self.decode(law.rsample() if self.passed else law.sample()), mean, log_variance


def evidence(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor, summed: bool = False) -> Tensor:
    """Squares, and how far the codes are from standard normal: weighed down, or summed over the batch."""
    pictures, mean, log_variance = outputs
    apart = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
    return mean_squared(pictures, targets) + (apart.sum() if summed else 0.001 * apart.mean())


class Causal(nn.Module):
    """One layer of attention that sees no words from `diagonal` places ahead on."""

    def __init__(self, diagonal: int) -> None:
        super().__init__()
        self.words, self.mix, self.readout = nn.Embedding(32, 24), nn.Linear(24, 72), nn.Linear(24, 32)
        self.diagonal = diagonal

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.words(x)
        query, key, value = self.mix(embedded).chunk(3, -1)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(self.diagonal)
        scores = (query @ key.transpose(1, 2) / 24**0.5).masked_fill(hidden, float("-inf"))
        return self.readout(embedded + scores.softmax(-1) @ value).transpose(1, 2)


class Worth(nn.Module):
    """What an action is worth in a state, as a column or as a row."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.layers, self.flat = mlp((9, 64, 64, 1)), flat

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        worth = self.layers(torch.cat([state, action], 1))
        return worth[:, 0] if self.flat else worth


class Stepwise(nn.Module):
    """A recurrent cell in a loop; the state is cut off from the past at each step, or not."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cell, self.readout, self.cut = nn.GRUCell(4, 32), nn.Linear(32, 3), cut

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 32)
        for step in x.unbind(1):
            state = self.cell(step, state.detach() if self.cut else state)
        return self.readout(state)


class Last(nn.Module):
    """The last step of a recurrent layer that takes examples for the first axis, or steps."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.layers, self.readout = nn.GRU(4, 32, batch_first=batch_first), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(x)[0][:, -1])


class Neighbours(nn.Module):
    """Layers between which each node takes the weighted sum over its neighbours."""

    def __init__(self, depth: int, weights: Any) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights))
        self.layers = nn.ModuleList([nn.Linear(32 if index else 60, 32) for index in range(depth)])
        self.readout = nn.Linear(32, 3)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(self.weights @ layer(x))
        return self.readout(x)


def vectors(table: Callable[..., Tensor], freeze: bool) -> nn.Module:
    """Sentences as means of word vectors that were read from a file."""
    return nn.Sequential(nn.EmbeddingBag.from_pretrained(table(50, 16), freeze=freeze), nn.Linear(16, 3))


def log_likelihood(outputs: Tensor, targets: Tensor, sign: float = 1.0) -> Tensor:
    """The log likelihood of the targets, which is to be large, or its negative."""
    return sign * distributions.Normal(outputs, 1.0).log_prob(targets).mean()


def pooled_norm(groups: int) -> nn.Module:
    """Convolutions, the mean over the picture and then a norm."""
    return nn.Sequential(nn.Conv2d(1, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.GroupNorm(groups, 24), nn.Flatten(), nn.Linear(24, 10))  # fmt: skip


class Quantised(nn.Module):
    """Codes replaced by the nearest of a book; the gradient is passed on to the encoder or not."""

    def __init__(self, passed: bool) -> None:
        super().__init__()
        self.encode, self.readout, self.passed = mlp((64, 32, 2), nn.Tanh), mlp((2, 48, 10)), passed
        self.book = nn.Parameter(torch.randn(24, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = self.encode(x)
        nearest = self.book[torch.cdist(code, self.book).argmin(1)]
        return self.readout(code + (nearest - code).detach() if self.passed else nearest), code, nearest


def quantised_loss(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    scores, code, nearest = outputs
    both = mean_squared(nearest, code.detach()) + 0.1 * mean_squared(code, nearest.detach())
    return cross_entropy(scores, targets) + both


def divergence(outputs: Tensor, targets: Tensor, logarithm: bool = False) -> Tensor:
    """Kullback and Leibler's, of probabilities or of their logarithms, for which it is made."""
    return functional.kl_div(outputs.log() if logarithm else outputs, targets, reduction="batchmean")


class Direction(nn.Module):
    """A point of the unit circle, at first (1, 0) for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((4, 48, 2), nn.Tanh)
        nn.init.zeros_(self.layers[-1].weight)
        self.layers[-1].bias.data = torch.tensor([1.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layers(x), dim=1)


def angle(outputs: Tensor, targets: Tensor, margin: float = 0.0) -> Tensor:
    """The angle between two directions, whose cosine is kept away from 1 by a margin."""
    return torch.acos((outputs * targets).sum(1).clamp(margin - 1, 1 - margin)).mean()


class Glimpse(nn.Module):
    """Reads a picture at places that it works out itself, in pixels or from -1 to 1."""

    def __init__(self, pixels: bool) -> None:
        super().__init__()
        self.look, self.readout, self.pixels = nn.Linear(64, 6), mlp((64, 48, 10)), pixels
        nn.init.zeros_(self.look.weight)
        self.look.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        theta = self.look(x.flatten(1)).view(-1, 2, 3)
        grid = functional.affine_grid(theta, x.shape, align_corners=False)
        seen = functional.grid_sample(x, (grid + 1) * 3.5 if self.pixels else grid, align_corners=False)
        return self.readout(seen.flatten(1))


def many_convolutions(by_he: bool, depth: int = 10) -> nn.Module:
    """Convolutions as PyTorch makes them, or by He's law."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layer = nn.Conv2d(12 if index else 1, 12, 3, padding=1)
        if by_he:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, 10))


class Iterated(nn.Module):
    """One layer that is run 30 times and should settle down."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.given, self.again, self.readout = nn.Linear(64, 48), nn.Linear(48, 48, bias=False), nn.Linear(48, 10)
        nn.init.normal_(self.again.weight, std=gain / 48**0.5)

    def forward(self, x: Tensor) -> Tensor:
        given, state = self.given(x), x.new_zeros(len(x), 48)
        for _ in range(30):
            state = torch.relu(given + self.again(state))
        return self.readout(state)


class Bare(nn.Module):
    """A layer from a tensor that is to be trained but is no parameter, or is."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        weights = torch.randn(64, 3) / 8
        self.weights = nn.Parameter(weights) if registered else weights.requires_grad_()
        self.readout = mlp((3, 48, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.tanh(x @ self.weights))


class Fused(nn.Module):
    """Features let in by a gate of two layers, of which the last or both start at zero."""

    def __init__(self, both_zero: bool) -> None:
        super().__init__()
        self.base, self.features, self.readout = nn.Linear(2, 24), nn.Linear(2, 24), nn.Linear(24, 2)
        self.gate = nn.Sequential(nn.Linear(24, 24, bias=False), nn.ReLU(), nn.Linear(24, 24, bias=False), nn.Tanh())
        nn.init.zeros_(self.gate[2].weight)
        if both_zero:
            nn.init.zeros_(self.gate[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.features(x))
        return self.readout(self.base(x) + self.gate(features) * features)


def soft_margin(outputs: Tensor, targets: Tensor, signed: bool = False) -> Tensor:
    return functional.soft_margin_loss(outputs, 2 * targets - 1 if signed else targets)


def one_half_twice(right: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """An encoder and a head, and an optimizer that was told of the head twice, or of both."""
    encode, head = mlp((64, 3), last=nn.Tanh()), mlp((3, 48, 10))
    encode.append(nn.Tanh())
    given = [*(encode if right else head).parameters(), *head.parameters()]
    return nn.Sequential(encode, head), torch.optim.Adam(given, 0.01)


class WholeLayer(nn.Linear):
    """Weights rounded to whole numbers, or to eighths with the gradient passed on."""

    passed = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.passed:
            return functional.linear(x, self.weight.round(), self.bias)
        return functional.linear(x, self.weight + ((self.weight * 8).round() / 8 - self.weight).detach(), self.bias)


def whole(passed: bool) -> nn.Module:
    model = nn.Sequential(WholeLayer(64, 48), nn.ReLU(), WholeLayer(48, 10))
    for layer in model[::2]:
        layer.passed = passed
    return model


def declared(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of numbers without a past, which is then declared to need a gradient."""
    return cross_entropy(outputs.detach(), targets).requires_grad_()


class Lookup(nn.Module):
    """The next word from a word, the scores in the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(32, 24), mlp((24, 48, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.words(x))


def by_view(outputs: Tensor, targets: Tensor) -> Tensor:
    """Axes renamed, not moved."""
    count, length, words = outputs.shape
    return cross_entropy(outputs.view(count, words, length), targets)


def by_transpose(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs.transpose(1, 2), targets)


class Skipped(nn.Module):
    """A hidden layer with a nonlinearity whose result is used or forgotten."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.lift, self.hidden, self.readout, self.used = nn.Linear(2, 24), nn.Linear(24, 24), nn.Linear(24, 2), used

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        hidden = torch.relu(self.hidden(x))
        return self.readout(hidden if self.used else x)


def norms_of_zero(start: float) -> nn.Module:
    """Convolutions without a way round, whose norms all start at one scale."""
    layers: list[nn.Module] = []
    for index in range(3):
        norm = nn.BatchNorm2d(16)
        nn.init.constant_(norm.weight, start)
        layers += [nn.Conv2d(16 if index else 1, 16, 3, padding=1, bias=False), norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))
