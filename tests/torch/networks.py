"""Networks of the kinds that people build, small, with no two sizes alike where that can be."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NETWORKS", "RMSNorm", "numbers", "plain", "rms"]


class Residual(nn.Module):
    """A basic block of a residual network, whose additions and activations overwrite their input."""

    def __init__(self, inputs, units, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, units, 3, stride, 1, bias=False), nn.BatchNorm2d(units)
        self.conv2, self.norm2 = nn.Conv2d(units, units, 3, 1, 1, bias=False), nn.BatchNorm2d(units)
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Conv2d(inputs, units, 1, stride, bias=False) if inputs != units else None

    def forward(self, x):
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += x if self.skip is None else self.skip(x)
        return self.relu(out)


class DenseBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3 + 4 * i) for i in range(2))

    def forward(self, x):
        features = [x]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(functional.relu(norm(torch.cat(features, 1)), inplace=True)))
        return torch.cat(features, 1).mean((2, 3))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 7, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(7, 5, 2, stride=2), nn.Conv2d(10, 2, 1)

    def forward(self, x):
        skip = functional.leaky_relu(self.down(x), 0.2)
        inner = functional.silu(self.inner(functional.max_pool2d(skip, 2)))
        return self.out(torch.cat([self.up(inner), skip], dim=1))


class Tagger(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.table, self.rnn, self.head = nn.Embedding(11, 6), kind(6, 5, 2, batch_first=True), nn.Linear(5, 3)

    def forward(self, ids):
        return self.head(self.rnn(self.table(ids))[0][:, -1])


class CausalAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = (each.view(b, t, self.heads, -1).transpose(1, 2) for each in self.qkv(x).split(w, dim=2))
        scores = (q @ k.transpose(-2, -1)) / (w // self.heads) ** 0.5
        scores = scores.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, w))


class GPT(nn.Module):
    """Pre-norm, with a table of positions and an output layer tied to the table of words."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(13, 6), nn.Parameter(torch.randn(9, 6))
        self.attention, self.norm1, self.norm2 = CausalAttention(6, 2), nn.LayerNorm(6), nn.LayerNorm(6)
        self.mlp = nn.Sequential(nn.Linear(6, 20), nn.GELU(approximate="tanh"), nn.Linear(20, 6), nn.Dropout(0.1))
        self.head = nn.Linear(6, 13, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        x = self.words(ids) + self.places[: ids.shape[1]]
        x = x + self.attention(self.norm1(x))
        return {"logits": self.head(x + self.mlp(self.norm2(x)))}


class Experts(nn.Module):
    """Each token goes through all experts, weighted by a softmax."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(5, 3)
        self.up, self.down = nn.Parameter(torch.randn(3, 5, 8)), nn.Parameter(torch.randn(3, 8, 5))

    def forward(self, x):
        stacked = x.expand(3, *x.shape)
        inner = torch.bmm(functional.relu(torch.bmm(stacked, self.up)), self.down)
        return torch.einsum("etd,te->td", inner, self.gate(x).softmax(-1))


class Vision(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 5, 6))
        self.encoder = nn.TransformerEncoderLayer(6, 2, 14, activation="gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.encoder(x)[:, 0])


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.channels, self.norm = nn.Linear(7, 7), nn.Linear(4, 4), nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.full((4,), 0.1))

    def forward(self, x):
        x = x + self.scale * self.tokens(self.norm(x).mT).mT
        return (x + functional.gelu(self.channels(x))).mean(1)


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6, 3))

    def forward(self, x, adjacency):
        return adjacency @ functional.elu(adjacency @ x @ self.one) @ self.two


class Siren(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(2, 9), nn.Linear(9, 1)

    def forward(self, x):
        return self.two(torch.sin(30 * self.one(x)))


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Gated(nn.Module):
    """A gated layer after a norm that is written by hand, added to its input by a learned factor."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.gate = RMSNorm(5), nn.Linear(5, 8, bias=False), nn.Linear(5, 8, bias=False)
        self.down, self.factor = nn.Linear(8, 5, bias=False), nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x):
        h = self.norm(x)
        return x + self.factor * self.down(functional.silu(self.gate(h)) * self.up(h))


class Twice(nn.Module):
    """One layer that is used two times, one of whose parameters is frozen, and several inputs and outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.layer.bias.requires_grad_(False)
        self.pair = nn.Bilinear(4, 3, 2)

    def forward(self, x: Tensor, other: Tensor):
        x = torch.tanh(self.layer(torch.tanh(self.layer(x))))
        return self.pair(x, other), (x.sum(1), [x])


def mobile():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU6(inplace=True), nn.Conv2d(6, 6, 3, groups=6),
        nn.Hardswish(), nn.Conv2d(6, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 3),
    )  # fmt: skip


def vgg():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(True), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(), nn.Linear(80, 6), nn.ReLU(True), nn.Linear(6, 3),
    )  # fmt: skip


def image(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def rms(tensor):
    return float(tensor.detach().double().square().mean().sqrt())


def plain():
    """A convolution with its normalisation, then dense layers, in a row."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 5), nn.Tanh(), nn.Linear(5, 2)
    )


def words(*shape):
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(3))


NETWORKS = {
    "vgg": (vgg, image(8)),
    "resnet": (lambda: nn.Sequential(Residual(3, 3, 1), Residual(3, 5, 2), nn.Flatten(), nn.Linear(80, 4)), image(8)),
    "densenet": (DenseBlock, image(6)),
    "mobile": (mobile, image(9)),
    "unet": (UNet, image(8)),
    "lstm": (lambda: Tagger(nn.LSTM), words(2, 7)),
    "gru": (lambda: Tagger(nn.GRU), words(2, 7)),
    "post-norm": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 14, batch_first=True), 2),
                  numbers(2, 5, 6)),
    "pre-norm": (lambda: nn.TransformerEncoderLayer(6, 3, 14, batch_first=True, norm_first=True), numbers(2, 5, 6)),
    "decoder": (lambda: nn.TransformerDecoderLayer(6, 2, 14), (numbers(5, 2, 6), numbers(4, 2, 6))),
    "gpt": (GPT, words(2, 7)),
    "experts": (Experts, numbers(7, 5)),
    "vision": (Vision, image(8)),
    "mixer": (Mixer, numbers(2, 7, 4)),
    "graph": (GraphNet, {"x": numbers(7, 4), "adjacency": numbers(7, 7)}),
    "siren": (Siren, numbers(7, 2)),
    "gated": (Gated, numbers(2, 7, 5)),
    "twice": (Twice, (numbers(7, 4), numbers(7, 3))),
}  # fmt: skip
"""By name: how to build it, and an example of its input."""
