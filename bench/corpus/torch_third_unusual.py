"""PyTorch networks of the third gathering that are odd and sound.

Gates that start shut, layers run many times, weights that are made by weights, masks, codes and curious outputs.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import third_data
from corpus.torch_networks import mlp

__all__ = [
    "Attentive",
    "Bumps",
    "Chrono",
    "Conditioned",
    "Decays",
    "Dollars",
    "Flow",
    "Latents",
    "Made",
    "Masked",
    "Mixture",
    "Pointer",
    "Pressed",
    "RootMeanSquare",
    "Rotary",
    "Sometimes",
    "Squeezed",
    "Ternary",
    "Towers",
    "Tree",
    "Waves",
    "autoregressive",
    "mixture_loss",
    "only_norms",
    "pruned",
    "rotated",
]


class Squeezed(nn.Module):
    """Convolutions whose channels are weighed by what the whole picture holds, between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        self.weigh = mlp((24, 6, 24), last=nn.Hardsigmoid())
        self.readout = nn.Linear(24 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu6(self.second(torch.relu(self.first(x)))), 2)
        return self.readout((x * self.weigh(x.mean((2, 3)))[:, :, None, None]).flatten(1))


class RootMeanSquare(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def rotated(x: Tensor) -> Tensor:
    """Each half of the features turned with the other by an angle that grows with the place."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    one, two = x.split(half, -1)
    return torch.cat([one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos()], -1)


class Rotary(nn.Module):
    """Two blocks as of late language models: no biases, root mean square norms, turned attention, gated layers."""

    def __init__(self) -> None:
        super().__init__()
        linear = partial(nn.Linear, bias=False)
        self.words, self.readout, self.last = nn.Embedding(32, 24), linear(24, 32), RootMeanSquare(24)
        self.blocks = nn.ModuleList([nn.ModuleDict({
            "norm": RootMeanSquare(24), "mix": linear(24, 72), "out": linear(24, 24),
            "middle": RootMeanSquare(24), "gate": linear(24, 64), "up": linear(24, 64), "down": linear(64, 24),
        }) for _ in range(2)])  # fmt: skip
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = self.words(x)
        for block in self.blocks:
            query, key, value = block["mix"](block["norm"](x)).chunk(3, -1)
            scores = rotated(query) @ rotated(key).transpose(1, 2) / 24**0.5
            x = x + block["out"](scores.masked_fill(future, -torch.inf).softmax(-1) @ value)
            hidden = block["middle"](x)
            x = x + block["down"](functional.silu(block["gate"](hidden)) * block["up"](hidden))
        return self.readout(self.last(x)).transpose(1, 2)


class Mixture(nn.Module):
    """The mean of a mixture of three normal laws, and what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((1, 48, 48, 9), nn.Tanh)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scores, centres, spreads = self.layers(x).chunk(3, 1)
        return (scores.softmax(1) * centres).sum(1, keepdim=True), scores, centres, spreads


def mixture_loss(outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    _, scores, centres, spreads = outputs
    law = torch.distributions.Normal(centres, functional.softplus(spreads) + 0.05)
    return -(scores.log_softmax(1) + law.log_prob(targets)).logsumexp(1).mean()


class Made(nn.Module):
    """A layer for each example, whose weights another network makes, small at first."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.readout = mlp((2, 24, 3 * 16)), nn.Linear(16, 2)
        self.make[-1].weight.data *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        weights = self.make(x).view(-1, 16, 3)
        ones = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        return self.readout(torch.tanh(weights @ ones[:, :, None])[..., 0])


class Conditioned(nn.Module):
    """Residual layers scaled, shifted and let in by what the second input says, at first not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.readout = nn.Linear(6, 32), nn.Linear(32, 1)
        self.layers = nn.ModuleList([mlp((32, 64, 32), nn.GELU) for _ in range(3)])
        self.control = nn.ModuleList([nn.Linear(3, 96) for _ in range(3)])
        self.norm = nn.LayerNorm(32, elementwise_affine=False)
        for layer in self.control:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        x = self.lift(state)
        for layer, control in zip(self.layers, self.control, strict=True):
            scale, shift, gate = control(action).chunk(3, 1)
            x = x + gate * layer(self.norm(x) * (1 + scale) + shift)
        return self.readout(self.norm(x))[:, 0]


class Ternary(nn.Linear):
    """Weights of -1, 0 and 1 times a scale; the gradient takes them for what they were."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean()
        three = (self.weight / scale).round().clamp(-1, 1) * scale
        return functional.linear(x, self.weight + (three - self.weight).detach(), self.bias)


class Flow(nn.Module):
    """Twelve small steps along a field that is nearly still at first."""

    def __init__(self) -> None:
        super().__init__()
        self.field, self.readout = mlp((9, 32, 8), nn.Tanh), nn.Linear(8, 2)
        self.field[-1].weight.data *= 0.01

    def forward(self, x: Tensor) -> Tensor:
        state = functional.pad(x, (0, 6))
        for step in range(12):
            now = torch.full((len(x), 1), step / 12)
            state = state + self.field(torch.cat([state, now], 1)) / 3
        return self.readout(state)


class Bumps(nn.Module):
    """Bumps around fixed places, most of which are far from any one point."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.rand(60, 2) * 4 - 2)
        self.readout = nn.Linear(60, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.exp(-4 * torch.cdist(x, self.places) ** 2))


class Chrono(nn.Module):
    """An LSTM told to remember for as long as the rows are, from a state that is learnt from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.readout = nn.LSTM(4, 24, batch_first=True), nn.Linear(24, 3)
        self.state = nn.Parameter(torch.zeros(2, 1, 1, 24))
        span = torch.log(torch.empty(24).uniform_(1, 15))
        with torch.no_grad():
            self.layers.bias_ih_l0[:24], self.layers.bias_ih_l0[24:48] = -span, span

    def forward(self, x: Tensor) -> Tensor:
        start = self.state.expand(2, 1, len(x), 24).contiguous()
        return self.readout(self.layers(x, (start[0], start[1]))[0][:, -1])


class Latents(nn.Module):
    """Four learnt vectors, all close to 0, that look at the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.02 * torch.randn(4, 24))
        self.lift, self.look = nn.Linear(4, 24), nn.MultiheadAttention(24, 2, batch_first=True)
        self.layers, self.readout = mlp((24, 48, 24), nn.GELU), nn.Linear(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.lift(x)
        seen = self.latents + self.look(self.latents.expand(len(x), -1, -1), tokens, tokens, need_weights=False)[0]
        return self.readout((seen + self.layers(seen)).flatten(1))


class Attentive(nn.Module):
    """Each node of a graph looks at its neighbours; all others get -10^9."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("links", torch.from_numpy(third_data.links()) > 0)
        self.lift, self.sends, self.takes = nn.Linear(60, 16, bias=False), nn.Linear(16, 1), nn.Linear(16, 1)
        self.readout = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        scores = functional.leaky_relu(self.takes(x) + self.sends(x).T, 0.2).masked_fill(~self.links, -1e9)
        return self.readout(functional.elu(scores.softmax(1) @ x))


def only_norms() -> nn.Module:
    """Random frozen layers; what is trained are the norms between them and the last layer."""
    model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 96),
                          nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 10))  # fmt: skip
    for layer in (model[0], model[3]):
        layer.requires_grad_(False)
    return model


class Masked(nn.Linear):
    """A layer of which a fixed part of the weights is zero for good, and the others the larger for it."""

    def __init__(self, fan_in: int, fan_out: int, kept: Tensor) -> None:
        super().__init__(fan_in, fan_out)
        self.register_buffer("kept", kept.float())
        self.weight.data *= kept.float().mean() ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.kept, self.bias)


def autoregressive() -> nn.Module:
    """Each pixel from those before it; of the first nothing can be said."""
    place, order = torch.arange(64), torch.randint(0, 63, (128,))
    return nn.Sequential(Masked(64, 128, order[:, None] >= place), nn.ReLU(),
                         Masked(128, 64, place[:, None] > order))  # fmt: skip


def pruned() -> nn.Module:
    """Nine in ten weights are gone."""
    return nn.Sequential(Masked(64, 128, torch.rand(128, 64) < 0.1), nn.ReLU(),
                         Masked(128, 64, torch.rand(64, 128) < 0.1), nn.ReLU(), nn.Linear(64, 10))  # fmt: skip


class Dollars(nn.Module):
    """Answers in dollars: the layers work in units of their own and the last step is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((6, 48, 1))

    def forward(self, x: Tensor) -> Tensor:
        return 3e5 + 9e4 * self.layers(x)


class Towers(nn.Module):
    """How well each picture goes with each text: cosines times a learnt factor, 14 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.text = mlp((24, 48, 16)), mlp((16, 48, 16))
        self.factor = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, picture: Tensor, text: Tensor) -> Tensor:
        one, two = functional.normalize(self.picture(picture)), functional.normalize(self.text(text))
        return self.factor.exp() * one @ two.T


class Waves(nn.Module):
    """Dilated convolutions over time with gates; only what leaves them sideways is read."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.readout = nn.Conv1d(1, 16, 1), mlp((16, 16, 1))
        self.gated = nn.ModuleList([nn.Conv1d(16, 32, 2, dilation=2**index) for index in range(4)])
        self.onward = nn.ModuleList([nn.Conv1d(16, 16, 1) for _ in range(4)])
        self.aside = nn.ModuleList([nn.Conv1d(16, 16, 1) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        x, heard = self.lift(x.transpose(1, 2)), torch.zeros(())
        for gated, onward, aside in zip(self.gated, self.onward, self.aside, strict=True):
            signal, gate = gated(functional.pad(x, (gated.dilation[0], 0))).chunk(2, 1)
            hidden = torch.tanh(signal) * torch.sigmoid(gate)
            x, heard = x + onward(hidden), heard + aside(hidden)[..., -1]
        return self.readout(torch.relu(heard))


class Decays(nn.Module):
    """A linear recurrence with one factor for each unit, close to 1, of which the logarithm's logarithm is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.log(-torch.log(torch.empty(48).uniform_(0.9, 0.999))))
        self.lift, self.readout = nn.Linear(4, 48), mlp((48, 48, 3), nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        factor, state = torch.exp(-torch.exp(self.rate)), torch.zeros(())
        given = self.lift(x) * torch.sqrt(1 - factor**2)
        for step in given.unbind(1):
            state = factor * state + step
        return self.readout(state)


class Sometimes(nn.Module):
    """Residual layers each of which is left out for half of the examples while training."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.readout = nn.Linear(64, 48), nn.Linear(48, 10)
        self.layers = nn.ModuleList([nn.Sequential(nn.LayerNorm(48), mlp((48, 96, 48))) for _ in range(5)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        for layer in self.layers:
            kept = (torch.rand(len(x), 1) < 0.5).float() * 2 if self.training else 1.0
            x = x + kept * layer(x)
        return self.readout(x)


class Tree(nn.Module):
    """A tree of soft decisions, each leaf with scores of its own that start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.decide, self.leaves = nn.Linear(64, 15), nn.Parameter(torch.zeros(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        right, reach = torch.sigmoid(self.decide(x)), torch.ones(len(x), 1)
        for level in range(4):
            here = right[:, 2**level - 1 : 2 ** (level + 1) - 1]
            reach = torch.stack([reach * (1 - here), reach * here], 2).flatten(1)
        return reach @ self.leaves


class Pointer(nn.Module):
    """As many scores as there are tokens: which of them is meant."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.query = mlp((4, 24, 24)), nn.Parameter(torch.randn(24) / 24**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.lift(x) @ self.query


class Pressed(nn.Module):
    """Raw features pressed together by a logarithm that keeps the sign."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layers = nn.BatchNorm1d(6, affine=False), mlp((6, 48, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.norm(torch.sign(x) * torch.log1p(x.abs())))
