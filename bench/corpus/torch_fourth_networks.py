"""PyTorch networks and batches of a fourth gathering, by someone who had not seen the doctor."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import data
from corpus.torch_networks import mlp

__all__ = [
    "Attentive",
    "Cooling",
    "Distilled",
    "Graphs",
    "Hats",
    "Kernels",
    "Levelled",
    "NarrowThenDropped",
    "PixelProduct",
    "Placeless",
    "Restorer",
    "Scene",
    "Spiking",
    "beside",
    "cooled",
    "disc",
    "driving",
    "early_or_late",
    "graphs",
    "ignored",
    "loudness",
    "noisy",
    "pixel_levels",
    "pixel_loss",
    "residual_loss",
    "restored",
    "teacher_loss",
]


def graphs() -> tuple[Any, Any]:
    """Ones for the nodes of 96 graphs, who is linked with whom and with itself, and how dense each graph is."""
    rng = np.random.default_rng(60)
    labels = rng.integers(0, 3, 96)
    upper = np.triu(rng.random((96, 12, 12)) < np.array([0.15, 0.4, 0.7])[labels][:, None, None], 1)
    links = upper | upper.transpose(0, 2, 1) | np.eye(12, dtype=bool)
    return (np.ones((96, 12, 1), np.float32), links.astype(np.float32)), labels.astype(np.int64)


def loudness() -> tuple[Any, Any]:
    """Energies of 8 bands, and whether all are low, middle or high."""
    rng = np.random.default_rng(61)
    labels = rng.integers(0, 3, 640)
    return ((labels - 1.0)[:, None] * 1.2 + 0.7 * rng.normal(size=(640, 8))).astype(np.float32), labels


def cooled() -> tuple[Any, Any]:
    """Seconds, and the degrees of a rod that cools from 70 towards 20."""
    seconds = np.linspace(0, 60, 96)[:, None]
    return seconds.astype(np.float32), (20 + 50 * np.exp(-0.05 * seconds)).astype(np.float32)


def disc() -> tuple[Any, Any]:
    """Places of pixels, and how bright they are: a shaded disc before white."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, 16)] * 2), -1).reshape(-1, 2)
    inside = (places**2).sum(1) < 0.5
    return places.astype(np.float32), np.where(inside, 0.3 + 0.3 * places[:, 0], 1.0).astype(np.float32)[:, None]


def noisy() -> tuple[Any, Any]:
    """Standardised digits with noise as large as they are, and without."""
    clean, _ = data.digits()
    return (clean + np.random.default_rng(62).normal(size=clean.shape)).astype(np.float32), clean


def pixel_levels() -> tuple[Any, Any]:
    """Digits as whole numbers from 0 to 16."""
    x, labels = data.digits(scale="unit")
    return np.rint(16 * x).astype(np.int64), labels


def driving(raw: bool) -> tuple[Any, Any]:
    """Speed, revolutions, angle and three distances, and how to steer and how to accelerate, from -1 to 1."""
    normal = np.random.default_rng(63).normal(size=(192, 6))
    steer = np.tanh(normal[:, 2] - 0.7 * normal[:, 3] * (normal[:, 0] > 0))
    speed_up = np.tanh(normal[:, 4] - normal[:, 0] + 0.5 * normal[:, 1])
    x = normal * [60, 2000, 0.5, 40, 40, 40] + [150, 5000, 0, 100, 100, 100] if raw else normal
    return x.astype(np.float32), np.stack([steer, speed_up], 1).astype(np.float32)


def beside() -> tuple[Any, Any]:
    """Two numbers from 3 to 8, and a smooth function of them."""
    x = np.random.default_rng(64).uniform(3, 8, (160, 2))
    return x.astype(np.float32), (np.sin(x[:, :1]) + 0.5 * np.cos(1.5 * x[:, 1:])).astype(np.float32)


def early_or_late() -> tuple[Any, Any]:
    """Rows of ten tokens, of which one is an A, one a B and all others alike, and whether the A comes first."""
    rng = np.random.default_rng(65)
    places = np.stack([rng.permutation(10)[:2] for _ in range(160)])
    x = np.tile(np.array([1.0, 0, 0, 0]), (160, 10, 1))
    for token in (0, 1):
        x[np.arange(160), places[:, token]] = np.eye(4)[1 + token]
    return x.astype(np.float32), (places[:, 0] < places[:, 1]).astype(np.int64)


def ignored() -> tuple[Any, Any]:
    """`data.story` with every next word marked as none to be learned."""
    rows, following = data.story()
    return rows, np.full_like(following, -100)


class Scene(nn.Module):
    """What a ray sees: density and brightness at 16 places of it, before white; the density starts below zero."""

    def __init__(self, smooth: bool) -> None:
        super().__init__()
        self.smooth = smooth
        self.field = mlp((3, 64, 64, 2))
        with torch.no_grad():
            self.field[-1].bias[0] = -1.0

    def forward(self, places: Tensor) -> Tensor:
        depths = torch.linspace(-1, 1, 16)
        x = torch.cat([places[:, None].expand(-1, 16, -1), depths.expand(len(places), 16)[..., None]], -1)
        density, bright = self.field(x).unbind(-1)
        density = functional.softplus(density) if self.smooth else functional.relu(density)
        through = torch.exp(-torch.cumsum(density * 0.25, 1))
        before = torch.cat([torch.ones(len(places), 1), through[:, :-1]], 1)
        return ((before - through) * torch.sigmoid(bright)).sum(1, keepdim=True) + through[:, -1:]


class Spike(torch.autograd.Function):
    """1 above zero, with the slope of a fast sigmoid."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return gradient / (1 + 25 * x.abs()) ** 2


class Spiking(nn.Module):
    """Three layers of neurons that leak and fire above a threshold, shown one picture ten times."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.layers = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)])
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        charges = [torch.zeros(len(x), 64) for _ in self.layers]
        total = torch.zeros(len(x), 10)
        for _ in range(10):
            signal = x
            for place, layer in enumerate(self.layers):
                charges[place] = 0.7 * charges[place] + layer(signal)
                signal = Spike.apply(charges[place] - self.threshold)
                charges[place] = charges[place] - signal.detach() * self.threshold
            total = total + self.head(signal)
        return total / 10


class Graphs(nn.Module):
    """Two rounds of messages in graphs, the mean or the sum over neighbours, then the mean over nodes."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.rounds = nn.ModuleList([nn.Linear(2, 24), nn.Linear(48, 24)])
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor, links: Tensor) -> Tensor:
        for each in self.rounds:
            told = links @ x
            told = told / links.sum(-1, keepdim=True) if self.mean else told / 4
            x = functional.relu(each(torch.cat([x, told], -1)))
        return self.head(x.mean(1))


class Levelled(nn.Module):
    """A layer norm on the inputs themselves, or none."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8) if norm else nn.Identity()
        self.rest = mlp((8, 16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.norm(x))


class Distilled(nn.Module):
    """A student and its frozen teacher, which is a copy or the very same network."""

    def __init__(self, copied: bool) -> None:
        super().__init__()
        self.student = mlp((64, 48, 10))
        self.teacher = deepcopy(self.student) if copied else self.student
        for parameter in self.teacher.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(x), self.teacher(x)


def teacher_loss(outputs: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """What the labels ask for, and a little of what the teacher says."""
    student, teacher = outputs
    return functional.cross_entropy(student, labels) + 0.01 * functional.mse_loss(student, teacher)


class PixelProduct(nn.Module):
    """How likely each kind of digit makes each level of each pixel, multiplied over pixels, or added as logarithms."""

    def __init__(self, logarithms: bool) -> None:
        super().__init__()
        self.logarithms = logarithms
        self.levels = nn.Parameter(torch.randn(10, 64, 17))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.levels.log_softmax(-1)[:, torch.arange(64), x].transpose(0, 1)
        if self.logarithms:
            return chosen.sum(-1).log_softmax(-1)
        joint = chosen.exp().prod(-1)
        return torch.log(joint / joint.sum(-1, keepdim=True))


def pixel_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.nll_loss(outputs, labels)


class Restorer(nn.Module):
    """A picture without noise, and the picture that was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp((64, 96, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x), x


def restored(outputs: tuple[Tensor, Tensor], clean: Tensor, mistaken: bool) -> Tensor:
    """How far it is from the clean picture, or by mistake from the noisy one."""
    found, given = outputs
    return functional.mse_loss(found, given if mistaken else clean)


class Cooling(nn.Module):
    """Degrees at a time, and how far they are from the law of cooling; reckoned in units of about one, or not."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.time, self.middle, self.spread = (60.0, 20.0, 50.0) if scaled else (1.0, 0.0, 1.0)
        self.layers = mlp((1, 32, 32, 1), nn.Tanh)

    def forward(self, seconds: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            seconds = seconds.detach().requires_grad_(True)
            degrees = self.middle + self.spread * self.layers(seconds / self.time)
            (change,) = torch.autograd.grad(degrees.sum(), seconds, create_graph=True)
        return degrees, (change + 0.05 * (degrees - 20)) * self.time / self.spread


def residual_loss(outputs: tuple[Tensor, Tensor], degrees: Tensor, spread: float) -> Tensor:
    """The law at all times, and what is known at the first."""
    found, residual = outputs
    return (residual**2).mean() + 10 * ((found[0] - degrees[0]) / spread).square().mean()


class NarrowThenDropped(nn.Module):
    """Four linear layers with batch norm and dropout between them, the first as narrow as one wants."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in ((6, width), (width, 100), (100, 150)):
            layers += [nn.Linear(fan_in, fan_out), nn.BatchNorm1d(fan_out), nn.ReLU(), nn.Dropout(rate)]
        self.layers = nn.Sequential(*layers, nn.Linear(150, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Hats(nn.Module):
    """Two layers of sums of piecewise linear functions of one number each, on a grid."""

    def __init__(self, low: float, high: float, knots: int = 9) -> None:
        super().__init__()
        self.ranges = ((low, high), (-1.0, 1.0))
        self.layers = nn.ModuleList([nn.Linear(2 * knots, 12, bias=False), nn.Linear(12 * knots, 1, bias=False)])
        self.knots = knots

    def forward(self, x: Tensor) -> Tensor:
        for place, (layer, (low, high)) in enumerate(zip(self.layers, self.ranges, strict=True)):
            x = torch.tanh(x) if place else x
            away = (x[..., None] - torch.linspace(low, high, self.knots)).abs() * (self.knots - 1) / (high - low)
            x = layer(functional.relu(1 - away).flatten(1))
        return x


class Kernels(nn.Module):
    """Convolutions one after another without norms, all weights from N(0, spread^2)."""

    def __init__(self, spread: float, widths: Sequence[int] = (1, 16, 16, 16, 16, 16, 1)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU()]
            nn.init.normal_(layers[-2].weight, 0.0, spread)
            nn.init.zeros_(layers[-2].bias)
        self.layers = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Placeless(nn.Module):
    """Attention among tokens that know where they are, or do not, and the mean over them."""

    def __init__(self, places: bool) -> None:
        super().__init__()
        self.words = nn.Linear(4, 32)
        self.places = nn.Parameter(torch.randn(10, 32)) if places else None
        self.mixes = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        return self.head(self.mixes(x if self.places is None else x + self.places).mean(1))


class Attentive(nn.Module):
    """A weighted mean of tokens, whose weights add up to 1 over the tokens, or by mistake over the examples."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.score = nn.Linear(4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.score(x).softmax(self.axis) * x).sum(1))
