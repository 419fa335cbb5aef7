"""PyTorch networks that the corpus is made of, the sound and the broken."""

import copy
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import data

__all__ = [
    "Adapter",
    "Attention",
    "Bag",
    "Block",
    "Encoder",
    "Experts",
    "Halved",
    "Language",
    "Logarithm",
    "Make",
    "Named",
    "Pair",
    "Recurrent",
    "Sine",
    "Stacked",
    "UNet",
    "adapted",
    "changed",
    "convolutional",
    "depthwise",
    "equal_rows",
    "mlp",
    "normed",
    "pretrained",
    "prior",
    "remembering",
    "residual",
    "sine_network",
    "zero_head",
]

Activation = Callable[[], nn.Module]
Make = Callable[[], Any]


def mlp(widths: Sequence[int], activation: Activation = nn.ReLU, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with an activation between them, and perhaps something at the end."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1], *([] if last is None else [last]))


def convolutional(norm: bool = True) -> nn.Module:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise((1, 16, 32)):
        layers.append(nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=not norm))
        layers += [*([nn.BatchNorm2d(fan_out)] if norm else []), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


def changed(build: Make, change: Callable[[str, Tensor], object], only: str = "") -> Make:
    """The model with a change in place to each parameter whose path has a word in it."""

    def make() -> nn.Module:
        model = build()
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                if only in path:
                    change(path, parameter)
        return model

    return make


def equal_rows(_: str, parameter: Tensor) -> None:
    """Every row as the last one; the first may be padding."""
    parameter.copy_(parameter[-1:].expand_as(parameter))


class Block(nn.Module):
    """Two convolutions beside a shortcut; the last of the branch starts at zero, by its norm or by itself."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=not norm) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(2))
        nn.init.zeros_(self.norms[1].weight if norm else self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norms[1](self.second(torch.relu(self.norms[0](self.first(x)))))


def residual(norm: bool) -> nn.Module:
    blocks = (Block(16, norm) for _ in range(4))
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), *blocks, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                         nn.Linear(256, 10))  # fmt: skip


def depthwise() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.Conv2d(16, 16, 1, bias=False)]
        layers += [nn.BatchNorm2d(16), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))


class Attention(nn.Module):
    """Scaled dot products between all places, of one head, and the sums they weigh."""

    def __init__(self, width: int, scale: float | None = None) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.scale = width**-0.5 if scale is None else scale

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) * self.scale
        return self.out(scores.softmax(-1) @ self.value(x))


class Encoder(nn.Module):
    """A transformer over the rows of a digit, the norm before each branch; its position embeddings start at zero."""

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.places = nn.Parameter(torch.zeros(8, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.branches = nn.ModuleList()
        for _ in range(depth):
            self.branches.extend([Attention(width), mlp((width, 4 * width, width), nn.GELU)])
        self.readout = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.places
        for norm, branch in zip(self.norms, self.branches, strict=True):
            x = x + branch(norm(x))
        return self.readout(x.mean(1))


class Stacked(nn.Module):
    """PyTorch's encoder as its documentation has it: all layers are copies of one."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.embed, self.readout = nn.Linear(8, 32), nn.Linear(32, 10)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """A recurrent layer over the rows of a digit or over looked-up words, and a readout of its last state."""

    def __init__(self, kind: type[nn.RNNBase], words: int = 0, outputs: int = 10, layers: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, 8) if words else nn.Identity()
        self.layers = kind(8, 48, layers, batch_first=True)
        self.readout = nn.Linear(48, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(self.embed(x))[0][:, -1])


def remembering() -> nn.Module:
    """An LSTM whose forget gate starts open."""
    model = Recurrent(nn.LSTM, words=50, outputs=3)
    with torch.no_grad():
        model.layers.bias_hh_l0[48:96] = 1.0
    return model


class Bag(nn.Module):
    """The mean of the words of a sentence, of which word 0 is padding with a row of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(50, 16, padding_idx=0)
        self.layers = mlp((16, 32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.words(x))


class Pair(nn.Module):
    """One tower for both pictures, and whether they are the same from how far apart its outputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = mlp((64, 64, 16))
        self.readout = nn.Linear(16, 1)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return self.readout((self.tower(one) - self.tower(two)).abs())


class UNet(nn.Module):
    """One level down and up, the fine level handed across."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(24, 12, 2, 2)
        self.merge = nn.Sequential(nn.Conv2d(24, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        return self.merge(torch.cat([fine, self.up(self.coarse(fine))], 1))


def zero_head(depth: int = 2) -> nn.Module:
    model = mlp((64, *[64] * depth, 10))
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return model


@cache
def _trained() -> nn.Sequential:
    """A network that knows even from odd; not to be changed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mlp((64, 64, 64, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = map(torch.from_numpy, data.digits())
    for _ in range(300):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y % 2).backward()
        optimizer.step()
    return model


def pretrained(frozen: bool) -> nn.Module:
    """That network with a new head; the rest frozen or not."""
    model = copy.deepcopy(_trained())
    model[:-1].requires_grad_(not frozen)
    model[-1] = nn.Linear(64, 10)
    return model


class Adapter(nn.Module):
    """A frozen layer and a small product beside it that starts at zero, B A with B = 0 (LoRA, 2021)."""

    def __init__(self, layer: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.T @ self.up.T


def adapted() -> nn.Module:
    """The trained network taught to tell small digits from large ones by adapters alone."""
    model = copy.deepcopy(_trained())
    for index in (0, 2, 4):
        model[index] = Adapter(model[index])
    return model


def prior() -> nn.Module:
    """The output's bias is the log odds of a class that is one in ten."""
    model = mlp((64, 48, 1))
    nn.init.constant_(model[-1].bias, -2.2)
    return model


class Sine(nn.Module):
    def __init__(self, frequency: float = 1.0) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.frequency * x)


def sine_network(width: int = 48) -> nn.Module:
    """SIREN (NeurIPS 2020): the first layer's weights are U(-1/n, 1/n), later ones' U(-sqrt(6/n)/30, +)."""
    model = nn.Sequential(nn.Linear(1, width), Sine(6), nn.Linear(width, width), Sine(30), nn.Linear(width, 1))
    for index, bound in ((0, 1.0), (2, (6 / width) ** 0.5 / 30), (4, (6 / width) ** 0.5 / 30)):
        nn.init.uniform_(model[index].weight, -bound, bound)
    return model


class Experts(nn.Module):
    """Four small networks, mixed by a router's shares."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(64, 4)
        self.experts = nn.ModuleList(mlp((64, 24, 10), nn.GELU) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.stack([expert(x) for expert in self.experts], 1)
        return (self.router(x).softmax(-1)[..., None] * outputs).sum(1)


class Named(nn.Module):
    """Returns a mapping, or a pair, of scores and features."""

    def __init__(self, mapping: bool) -> None:
        super().__init__()
        self.body, self.readout, self.mapping = mlp((64, 64, 32)), nn.Linear(32, 10), mapping

    def forward(self, x: Tensor) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        features = torch.relu(self.body(x))
        scores = self.readout(features)
        return {"scores": scores, "features": features} if self.mapping else (scores, features)


class Halved(nn.Module):
    """A network in bfloat16 whose inputs and scores are float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((64, 64, 10)).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.bfloat16()).float()


def normed(kind: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A reparametrisation on each layer."""
    return nn.Sequential(
        kind(nn.Linear(64, 64)), nn.ReLU(), kind(nn.Linear(64, 64)), nn.ReLU(), kind(nn.Linear(64, 10))
    )


class Language(nn.Module):
    """The next word from the word before; the words' table is also the readout, N(0, .02)."""

    def __init__(self, scale: float = 0.02, words: int = 32, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.body = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, words, bias=False)
        nn.init.normal_(self.words.weight, std=scale)
        self.readout.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.words(x)
        return self.readout(self.norm(embedded + self.body(embedded))).transpose(1, 2)


class Logarithm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x + 1e-8)
