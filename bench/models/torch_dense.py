"""PyTorch networks of vectors: deep multilayer perceptrons, a sine network, a graph network, a mixture of experts."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from models import Case, vectors

__all__ = ["ACTIVATIONS", "CASES", "GraphNetwork", "MixtureOfExperts", "Sine", "mlp", "sine_network"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "selu": nn.SELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
}
DEPTHS = (5, 20, 50, 100, 200)
QUICK = {(5, "sigmoid"), (20, "gelu"), (50, "silu"), (50, "tanh")}


def mlp(depth: int, activation: str, width: int = 128, inputs: int = 64, outputs: int = 10) -> nn.Module:
    """`depth` hidden layers of one width and a readout."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([inputs, *[width] * depth]):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30 * x)


def sine_network(depth: int = 5, width: int = 128) -> nn.Module:
    """From points in space to colour and density, every layer a sine of frequency 30 (SIREN, NeurIPS 2020)."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([3, *[width] * depth]):
        layers += [nn.Linear(fan_in, fan_out), Sine()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


class GraphNetwork(nn.Module):
    """Graph convolutions: each node takes the mean over its neighbours on a ring and itself, then a layer."""

    def __init__(self, nodes: int = 24, features: int = 16, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        ring = torch.eye(nodes)
        near = ring + ring.roll(1, 0) + ring.roll(-1, 0)
        self.register_buffer("mean_over_neighbours", near / near.sum(1, keepdim=True))
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([features, *[width] * depth]))
        self.readout = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(self.mean_over_neighbours @ layer(x))
        return self.readout(x.mean(1))


class Experts(nn.Module):
    """Two-layer experts as stacks of weights (expert, in, out), mixed by a router's shares."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, width, 2 * width) * 0.02)
        self.down = nn.Parameter(torch.randn(experts, 2 * width, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        hidden = nn.functional.gelu(torch.einsum("bi,eio->ebo", x, self.up))
        return torch.einsum("be,ebo->bo", shares, torch.bmm(hidden, self.down))


class MixtureOfExperts(nn.Module):
    """Residual blocks of experts over vectors, a normalisation in front of each."""

    def __init__(self, inputs: int = 48, width: int = 96, experts: int = 4, depth: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.blocks = nn.ModuleList(Experts(width, experts) for _ in range(depth))
        self.readout = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.readout(x)


CASES = (
    *(
        Case(f"mlp {depth} {activation}", "torch", "mlp", partial(mlp, depth, activation), partial(vectors, 64, 64),
             quick=(depth, activation) in QUICK)
        for depth in DEPTHS for activation in ACTIVATIONS
    ),
    Case("sine network", "torch", "other", sine_network, partial(vectors, 256, 3), quick=True),
    Case("graph network", "torch", "other", GraphNetwork, partial(vectors, 16, 24, 16)),
    Case("mixture of experts", "torch", "other", MixtureOfExperts, partial(vectors, 64, 48), quick=True),
)  # fmt: skip
