"""More PyTorch networks that train well and look as if they might not, by someone who had not seen the doctor."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import Case, data, second_data
from corpus.torch_networks import Make, mlp

__all__ = ["CASES"]

cross_entropy, with_logits = functional.cross_entropy, functional.binary_cross_entropy_with_logits
mean_squared = functional.mse_loss
images = partial(data.digits, (1, 8, 8))
rows = partial(data.digits, (8, 8))


class Rezero(nn.Module):
    """Transformer layers without a norm, each branch times a number that starts at 0 (ReZero, 2020)."""

    def __init__(self, depth: int = 4, width: int = 24) -> None:
        super().__init__()
        self.embed, self.readout = nn.Linear(8, width), nn.Linear(width, 10)
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, 3, batch_first=True) for _ in range(depth))
        self.layers = nn.ModuleList(mlp((width, 2 * width, width), nn.GELU) for _ in range(depth))
        self.amounts = nn.Parameter(torch.zeros(depth, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for attention, layer, (first, second) in zip(self.attention, self.layers, self.amounts, strict=True):
            x = x + first * attention(x, x, x, need_weights=False)[0]
            x = x + second * layer(x)
        return self.readout(x.mean(1))


class Causal(nn.Module):
    """A small language model; places to come have scores of -inf."""

    def __init__(self, words: int = 32, width: int = 32, length: int = 16) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.readout = nn.Linear(width, words, bias=False)
        self.register_buffer("hidden", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.words(x) + self.places.weight
        return self.readout(self.layers(embedded, self.hidden, is_causal=True)).transpose(1, 2)


class Cloud(nn.Module):
    """The largest of each feature over a set of points."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.whole = mlp((2, 32, 64)), mlp((64, 32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(self.point(x).amax(1))


class Graph(nn.Module):
    """Two steps of a graph convolution over one graph, whose links are a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(60, 16, bias=False), nn.Linear(16, 3, bias=False)
        self.register_buffer("links", torch.from_numpy(second_data.adjacency()))

    def forward(self, x: Tensor) -> Tensor:
        return self.links @ self.second(torch.relu(self.links @ self.first(x)))


class Variational(nn.Module):
    """Returns the picture, and the mean and log variance of what it was made from."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp((64, 48, 32)), mlp((16, 48, 64), last=nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logarithm = self.encoder(x).chunk(2, -1)
        return self.decoder(mean + torch.randn_like(mean) * torch.exp(0.5 * logarithm)), mean, logarithm


def evidence(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    picture, mean, logarithm = outputs
    apart = (mean**2 + logarithm.exp() - logarithm - 1).sum(1).mean() / 2
    return functional.binary_cross_entropy(picture, targets, reduction="sum") / len(targets) + 0.1 * apart


class Spread(nn.Module):
    """Returns a mean and a log variance."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((6, 48, 48, 2), nn.Tanh)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logarithm = self.layers(x).chunk(2, -1)
        return mean, logarithm


def likelihood(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    return functional.gaussian_nll_loss(outputs[0], targets, outputs[1].exp())


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    """What is known well counts little (RetinaNet, 2017)."""
    loss = with_logits(outputs, targets, reduction="none")
    return (loss * (1 - torch.exp(-loss)) ** 2).mean()


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs, targets, label_smoothing=0.2)


def poisson(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.poisson_nll_loss(outputs, targets, log_input=False)


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x)


class Cosine(nn.Module):
    """Sixteen times the cosine between features and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.classes = mlp((64, 48, 16)), nn.Parameter(torch.randn(10, 16))

    def forward(self, x: Tensor) -> Tensor:
        return 16 * functional.normalize(self.features(x)) @ functional.normalize(self.classes).T


class Highway(nn.Module):
    """Ten layers whose gates start nearly shut, at sigmoid(-2)."""

    def __init__(self, depth: int = 10, width: int = 48) -> None:
        super().__init__()
        self.embed, self.readout = nn.Linear(64, width), nn.Linear(width, 10)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for gate in self.gates:
            nn.init.constant_(gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer, gate in zip(self.layers, self.gates, strict=True):
            share = torch.sigmoid(gate(x))
            x = share * torch.relu(layer(x)) + (1 - share) * x
        return self.readout(x)


def orthogonal(depth: int = 15) -> nn.Module:
    """Fifteen tanh layers that keep lengths at first."""
    model = mlp((64, *[48] * depth, 10), nn.Tanh)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


class Factors(nn.Module):
    """The dot product of a user and an item, from N(0, .0025)."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(30, 8), nn.Embedding(20, 8)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return (self.users(x[:, 0]) * self.items(x[:, 1])).sum(1, keepdim=True)


class Reservoir(nn.Module):
    """A large recurrent layer that is never trained, and its readout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.readout = nn.RNN(8, 200, batch_first=True), nn.Linear(200, 10)
        nn.init.orthogonal_(self.layers.weight_hh_l0, 0.9)
        self.layers.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(x)[0][:, -1])


class Waves(nn.Module):
    """Fixed random sines of one number, and layers on top."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 3 * torch.randn(1, 32))
        self.layers = mlp((64, 48, 1))

    def forward(self, x: Tensor) -> Tensor:
        angles = x @ self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], 1))


class Signs(nn.Module):
    """Hidden units of -1 and 1, whose gradient is passed on as if they were not rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.second(hidden + (hidden.sign() - hidden).detach())


class Followed(nn.Module):
    """A network and a slow copy of it, which nothing here uses or trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((64, 48, 10))
        self.copy = copy.deepcopy(self.layers).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Dilated(nn.Module):
    """Gated convolutions over time, each reaching twice as far back."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed, self.readout = nn.Conv1d(1, width, 1), nn.Linear(width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**index) for index in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2))
        for layer in self.layers:
            value, gate = layer(x).chunk(2, 1)
            x = x[..., -value.shape[-1] :] + torch.tanh(value) * torch.sigmoid(gate)
        return self.readout(x[..., -1])


class Mixer(nn.Module):
    """Layers over the rows and over the places of a picture in turn."""

    def __init__(self, width: int = 24, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.readout = nn.Linear(8, width), nn.Linear(width, 10)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.places = nn.ModuleList(mlp((8, 16, 8), nn.GELU) for _ in range(depth))
        self.features = nn.ModuleList(mlp((width, 48, width), nn.GELU) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for index, (places, features) in enumerate(zip(self.places, self.features, strict=True)):
            x = x + places(self.norms[2 * index](x).transpose(1, 2)).transpose(1, 2)
            x = x + features(self.norms[2 * index + 1](x))
        return self.readout(x.mean(1))


class Scaled(nn.Module):
    """A sigmoid stretched over the range of the targets."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((6, 48, 48, 1), nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        return 12 * torch.sigmoid(self.layers(x)) - 6


class Binary(nn.Module):
    """Reads pixels of 0 and 255, which it scales itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 12, 3, bias=False), nn.GroupNorm(3, 12), nn.PReLU(), nn.Flatten(),
                                    nn.Linear(432, 10))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x / 127.5 - 1)


def few() -> tuple[Any, Any]:
    x, y = data.digits(count=8)
    return x, y


def slowly() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Two rates, the one of the body a twentieth of the head's."""
    model = mlp((64, 48, 48, 10), nn.LeakyReLU)
    groups = [{"params": model[:-1].parameters(), "lr": 5e-4}, {"params": model[-1].parameters(), "lr": 1e-2}]
    return model, torch.optim.AdamW(groups, weight_decay=0.05)


def normed_everywhere() -> nn.Module:
    """A norm before and after each activation and on the input, and no bias at all."""
    parts: list[nn.Module] = [nn.BatchNorm1d(64)]
    for _ in range(6):
        parts += [nn.Linear(parts[-1].num_features, 40, bias=False), nn.BatchNorm1d(40), nn.ELU(), nn.BatchNorm1d(40)]
    return nn.Sequential(*parts, nn.Linear(40, 10))


def healthy(name: str, build: Make, batch: Callable[[], Any], loss: Callable[..., Tensor],
            note: str = "", optimizer: str = "adam(lr=0.003)") -> Case:  # fmt: skip
    return Case(name, "torch", build, batch, loss, optimizer, note=note)


CASES = (
    healthy("rezero", Rezero, rows, cross_entropy, "all branches start at 0, no norm", "adam(lr=0.01)"),
    healthy("language model, causal", Causal, data.story, cross_entropy, "scores of -inf", "adam(lr=0.005)"),
    healthy("sets of points", Cloud, second_data.points, cross_entropy, "one point in each feature has the gradient",
            "adam(lr=0.01)"),
    healthy("graph convolution", Graph, second_data.community, cross_entropy, "rows of one one", "adam(lr=0.02)"),
    healthy("variational", Variational, data.copies, evidence, "noise inside, a loss of three outputs",
            "adam(lr=0.005)"),
    healthy("mean and variance", Spread, data.houses, likelihood, "a loss that can be below 0", "adam(lr=0.01)"),
    healthy("focal loss", partial(mlp, (64, 48, 1)), data.imbalanced, focal, "one in ten"),
    healthy("smoothed labels", partial(mlp, (64, 64, 10)), data.digits, smoothed, "the loss cannot reach 0"),
    healthy("counts by exp", partial(mlp, (5, 32, 32, 1), last=Exponential()), second_data.counts, poisson,
            "an output from 0 to infinity", "adam(lr=0.01)"),
    healthy("cosines", Cosine, data.digits, cross_entropy, "features of length 1", "adam(lr=0.01)"),
    healthy("highway", Highway, data.digits, cross_entropy, "gates that start nearly shut"),
    healthy("orthogonal tanh, 15 layers", orthogonal, data.digits, cross_entropy, "deep, no norm", "adam(lr=0.001)"),
    healthy("users and items", Factors, second_data.ratings, mean_squared, "small weights, outputs of .007",
            "adam(lr=0.05)"),
    healthy("reservoir", Reservoir, rows, cross_entropy, "nearly all frozen on purpose", "adam(lr=0.02)"),
    healthy("random sines", Waves, data.waves, mean_squared, "a fixed first layer", "adam(lr=0.01)"),
    healthy("signs, gradient passed on", Signs, data.digits, cross_entropy, "rounded, detached", "adam(lr=0.005)"),
    healthy("slow copy", Followed, data.digits, cross_entropy, "half the parameters unused and frozen"),
    healthy("convolutions over time", Dilated, second_data.series, mean_squared, "", "adam(lr=0.01)"),
    healthy("mixer", Mixer, rows, cross_entropy, "", "adam(lr=0.005)"),
    healthy("stretched sigmoid", Scaled, data.houses, mean_squared, "a bounded output that fits", "adam(lr=0.01)"),
    healthy("pixels scaled inside", Binary, partial(data.digits, (1, 8, 8), "pixels"), cross_entropy,
            "inputs from 0 to 255, a group norm"),
    healthy("eight examples", partial(mlp, (64, 32, 10)), few, cross_entropy, "a tiny batch", "adam(lr=0.01)"),
    healthy("two rates", slowly, data.digits, cross_entropy, "groups and decay in the optimizer"),
    healthy("norms everywhere", normed_everywhere, data.digits, cross_entropy, "13 batch norms, no bias"),
    healthy("sparse counts", partial(mlp, (600, 24, 3)), second_data.bags, cross_entropy, "97 of 100 inputs are 0"),
    healthy("hinges", partial(mlp, (64, 48, 10)), data.digits, functional.multi_margin_loss, "no probabilities"),
    healthy("absolute errors, outliers", partial(mlp, (6, 48, 1)), second_data.outliers, functional.smooth_l1_loss,
            "targets of up to 10", "adam(lr=0.02)"),
)  # fmt: skip
