"""PyTorch networks of a fifth gathering that do not train, by someone who had the list of checks alone."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus.torch_networks import mlp

__all__ = [
    "FCN",
    "GCN",
    "AttentionPool",
    "Composition",
    "CurveFit",
    "CustomModel",
    "DigitCNN",
    "Factors",
    "Heads",
    "LastStep",
    "NaiveLSTM",
    "Pick",
    "PooledNorm",
    "QNetwork",
    "RawAttention",
    "RowLSTM",
    "Subnet",
    "Tabular",
    "Tagger",
    "TextTransformer",
]


class RowLSTM(nn.Module):
    """Pictures read row by row; examples are the first axis, or by mistake the second."""

    def __init__(self, batch_first: bool, hidden: int = 64) -> None:
        super().__init__()
        self.batch_first, self.hidden = batch_first, hidden
        self.lstm = nn.LSTM(8, hidden, 1, batch_first=batch_first)
        self.fc = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        size = x.size(0) if self.batch_first else x.size(1)
        h0, c0 = torch.zeros(1, size, self.hidden), torch.zeros(1, size, self.hidden)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


class Composition(nn.Module):
    """Shares of four substances, which sum to one along `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = mlp((6, 64, 32, 4), nn.LeakyReLU)
        self.softmax = nn.Softmax(dim=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.net(x))


class AttentionPool(nn.Module):
    """Tokens weighed by a small network, summed and classified; the weights sum to one along `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.value = nn.Linear(4, 32)
        self.attn = nn.Linear(32, 32)
        self.v = nn.Linear(32, 1, bias=False)
        self.classifier = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.value(x)
        weights = functional.softmax(self.v(torch.tanh(self.attn(h))), dim=self.dim)
        return self.classifier((weights * h).sum(1))


class TextTransformer(nn.Module):
    """Encoder and a mean over words; what it returns is up to `final`."""

    def __init__(self, final: nn.Module) -> None:
        super().__init__()
        self.src_embed = nn.Embedding(50, 32)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True), 2, enable_nested_tensor=False
        )
        self.fc = nn.Linear(32, 3)
        self.final = final

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.fc(self.encoder(self.src_embed(x) * math.sqrt(32)).mean(1)))


class Tagger(nn.Module):
    """Which of six tags fit; several can. Shares of one, or a chance for each."""

    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        self.fc1, self.fc2, self.fc3 = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        x = self.fc3(x)
        return functional.softmax(x, dim=1) if self.softmax else torch.sigmoid(x)


class DigitCNN(nn.Module):
    """Two convolutions and two dense layers; with a softmax or not."""

    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = self.fc2(functional.relu(self.fc1(x.view(-1, 64))))
        return functional.softmax(x, dim=1) if self.softmax else x


class Head(nn.Module):
    """One head: a learned question to all tokens."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(width))
        self.key, self.value = nn.Linear(features, width), nn.Linear(features, width)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.key(x) @ self.query / self.query.numel() ** 0.5).softmax(1)
        return (weights[..., None] * self.value(x)).sum(1)


class Heads(nn.Module):
    """Several heads, in a list of either kind, and a classifier."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        heads = [Head(4, 16) for _ in range(4)]
        self.heads = nn.ModuleList(heads) if registered else heads
        self.out = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([head(x) for head in self.heads], dim=-1))


class RawAttention(nn.Module):
    """Attention of weights that are as memory was, until `fill` gets each of them."""

    def __init__(self, fill: Callable[[Tensor], object], width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.W_Q, self.W_K, self.W_V, self.W_O = (nn.Parameter(torch.empty(width, width)) for _ in range(4))
        self.norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, 3)
        for weight in (self.W_Q, self.W_K, self.W_V, self.W_O):
            fill(weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        q, k, v = h @ self.W_Q, h @ self.W_K, h @ self.W_V
        pattern = functional.softmax(q @ k.transpose(1, 2) / math.sqrt(q.size(-1)), dim=-1)
        return self.unembed(self.norm((pattern @ v) @ self.W_O).mean(1))


class Factors(nn.Module):
    """Ratings as a product of what is learned of users and of items, which starts as one constant or at random."""

    def __init__(self, constant: bool, width: int = 8) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(30, width), nn.Embedding(20, width)
        for table in (self.user, self.item):
            if constant:
                nn.init.constant_(table.weight, 0.1)
            else:
                nn.init.normal_(table.weight, std=0.3)

    def forward(self, pair: Tensor) -> Tensor:
        u, i = pair[:, 0], pair[:, 1]
        return (self.user(u) * self.item(i)).sum(1, keepdim=True)


class QNetwork(nn.Module):
    """What each of three actions is worth, from a ReLU or not."""

    def __init__(self, last_relu: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.last_relu = last_relu

    def forward(self, state: Tensor) -> Tensor:
        x = functional.relu(self.fc1(state))
        x = functional.relu(self.fc2(x))
        x = self.fc3(x)
        return functional.relu(x) if self.last_relu else x


class FCN(nn.Module):
    """A tanh network of one number, of the kind that solves differential equations."""

    def __init__(self, hidden: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.fcs = nn.Sequential(nn.Linear(1, hidden), nn.Tanh())
        self.fch = nn.Sequential(*[nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh()) for _ in range(layers - 1)])
        self.fce = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fce(self.fch(self.fcs(x)))


class CurveFit(nn.Module):
    """Fifty units between one number and another."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features=1, out_features=50)
        self.fc2 = nn.Linear(in_features=50, out_features=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.fc1(x)))


class LastStep(nn.Module):
    """A recurrent layer whose last state is classified; an LSTM starts by keeping what it has."""

    def __init__(self, kind: str, hidden: int = 48) -> None:
        super().__init__()
        self.kind = kind
        if kind == "rnn":
            self.rnn = nn.RNN(4, hidden, batch_first=True)
        else:
            self.rnn = nn.LSTM(4, hidden, batch_first=True)
            with torch.no_grad():
                self.rnn.bias_ih_l0[hidden : 2 * hidden].fill_(4.0)
                self.rnn.bias_ih_l0[:hidden].fill_(-1.0)
        self.fc = nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.fc(out[:, -1])


class PooledNorm(nn.Module):
    """Convolutions, the largest over all places, a group norm and a classifier."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.gn = nn.GroupNorm(groups, 32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = functional.adaptive_max_pool2d(x, 1)
        return self.fc(functional.relu(self.gn(x)).flatten(1))


class CustomModel(nn.Module):
    """A small classifier of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(7, 60), nn.Linear(60, 100)
        self.fc3, self.fc4 = nn.Linear(100, 30), nn.Linear(30, 2)
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight.data)
            nn.init.constant_(module.bias.data, 0)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.fc1, self.fc2, self.fc3):
            x = functional.relu(layer(x))
        return self.fc4(x)


class Pick(nn.Module):
    """The token with the highest score is classified; `soft` mixes tokens by score."""

    def __init__(self, soft: bool) -> None:
        super().__init__()
        self.soft = soft
        self.score = mlp((4, 16, 1), nn.Tanh)
        self.classify = mlp((4, 32, 3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.score(x).squeeze(-1)
        if self.soft:
            chosen = (scores.softmax(1)[..., None] * x).sum(1)
        else:
            chosen = x[torch.arange(len(x)), torch.argmax(scores, dim=1)]
        return self.classify(chosen)


class GCN(nn.Module):
    """Two graph convolutions; links are normalised here, each node first linked with itself or not."""

    def __init__(self, adjacency: Tensor, loops: bool) -> None:
        super().__init__()
        a = adjacency + torch.eye(len(adjacency)) if loops else adjacency
        d = a.sum(1).pow(-0.5)
        self.register_buffer("a_hat", torch.diag(d) @ a @ torch.diag(d))
        self.lin1, self.lin2 = nn.Linear(60, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.a_hat @ self.lin1(x))
        return self.a_hat @ self.lin2(x)


class Subnet(nn.Module):
    """Four convolutions and one that scores each place, whose bias starts at the log odds of one in ten."""

    def __init__(self, kaiming: bool, channels: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(4):
            layers += [nn.Conv2d(channels if number else 1, channels, 3, padding=1), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.cls_score = nn.Conv2d(channels, 1, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                if kaiming:
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(layer.weight, mean=0, std=0.01)
                nn.init.constant_(layer.bias, 0)
        nn.init.constant_(self.cls_score.bias, -math.log((1 - 0.1) / 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.cls_score(self.tower(x))


class Tabular(nn.Module):
    """Dense layers with batch norm and dropout; the activation is made, and called or not."""

    def __init__(self, activated: bool) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(2, 64), nn.BatchNorm1d(64)
        self.fc2, self.bn2 = nn.Linear(64, 64), nn.BatchNorm1d(64)
        self.fc3 = nn.Linear(64, 1)
        self.act, self.drop = nn.ReLU(), nn.Dropout(0.1)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.fc1(x))
        if self.activated:
            x = self.act(x)
        x = self.bn2(self.fc2(self.drop(x)))
        if self.activated:
            x = self.act(x)
        return self.fc3(self.drop(x))


class NaiveLSTM(nn.Module):
    """A recurrent cell by hand; `scale` multiplies what is drawn."""

    def __init__(self, scale: float, hidden: int = 64, inputs: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.hidden = hidden
        self.W = nn.Parameter(scale * torch.randn(inputs, 4 * hidden))
        self.U = nn.Parameter(scale * torch.randn(hidden, 4 * hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.fc = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.size(0), self.hidden)
        for t in range(x.size(1)):
            i, f, g, o = (x[:, t] @ self.W + h @ self.U + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.fc(h)
