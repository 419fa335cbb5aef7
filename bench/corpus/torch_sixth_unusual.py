"""PyTorch networks of a sixth gathering that train, though something about them may look wrong."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from corpus.torch_fifth_unusual import pretrain

__all__ = [
    "IRNN",
    "Controlled",
    "DetachedProbe",
    "FNet",
    "GraphIsomorphism",
    "Packed",
    "Scaled",
    "SparseExperts",
    "Table",
    "TiedAutoencoder",
    "Translator",
    "ZeroQuery",
    "controlled",
    "normed_logits",
    "prompted",
    "standardised_convs",
]


class Controlled(nn.Module):
    """A frozen trained network, a copy of its front that may learn, and a convolution of zeros between them."""

    def __init__(self, trained: nn.Sequential) -> None:
        super().__init__()
        self.front, self.back = trained[:4].requires_grad_(False), trained[4:].requires_grad_(False)
        self.control = copy.deepcopy(self.front).requires_grad_(True)
        self.zero = nn.Conv2d(16, 16, 1)
        nn.init.zeros_(self.zero.weight)
        nn.init.zeros_(self.zero.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.front(x) + self.zero(self.control(x)))


def controlled() -> nn.Module:
    """Such a network for digits."""
    layers = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
              nn.Flatten(), nn.Linear(256, 10))  # fmt: skip
    return Controlled(pretrain(nn.Sequential(*layers), 60, (1, 8, 8)))


class Scaled(nn.Module):
    """Six residual blocks whose branches are multiplied by vectors that start at a ten-thousandth."""

    def __init__(self, width: int = 32, depth: int = 6) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, width), nn.Linear(width, 10)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.attentions = nn.ModuleList(nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)) for _ in range(depth)
        )
        self.gammas = nn.ParameterList(torch.full((width,), 1e-4) for _ in range(2 * depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for i, (attention, layer) in enumerate(zip(self.attentions, self.layers, strict=True)):
            y = self.norms[2 * i](x)
            x = x + self.gammas[2 * i] * attention(y, y, y, need_weights=False)[0]
            x = x + self.gammas[2 * i + 1] * layer(self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


class Packed(nn.Module):
    """Sentences of several lengths, packed so that padding is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(64, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != 0).sum(1).cpu()
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.fc(torch.cat([h[0], h[1]], dim=1))


class Table(nn.Module):
    """Categories as small vectors beside numbers that a batch norm scales."""

    def __init__(self, sizes: tuple[int, ...] = (7, 4, 12), numbers: int = 5) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(size, 3) for size in sizes)
        for embed in self.embeds:
            nn.init.uniform_(embed.weight, -0.01, 0.01)
        self.bn = nn.BatchNorm1d(numbers)
        self.layers = nn.Sequential(nn.Linear(9 + numbers, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        vectors = [embed(categories[:, i]) for i, embed in enumerate(self.embeds)]
        return self.layers(torch.cat([*vectors, self.bn(numbers)], 1))


class TiedAutoencoder(nn.Module):
    """One matrix there and, turned, back."""

    def __init__(self, inputs: int = 64, code: int = 24) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(code, inputs))
        nn.init.orthogonal_(self.weight)
        self.encode_bias, self.decode_bias = nn.Parameter(torch.zeros(code)), nn.Parameter(torch.zeros(inputs))

    def forward(self, x: Tensor) -> Tensor:
        code = functional.softplus(functional.linear(x, self.weight, self.encode_bias))
        return functional.linear(code, self.weight.t(), self.decode_bias)


class StandardisedConv(nn.Conv2d):
    """A convolution whose kernels have mean 0 and spread 1 over the root of their size whenever it is called."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = w - w.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.std(dim=(1, 2, 3), keepdim=True) + 1e-5) / w[0].numel() ** 0.5
        return functional.conv2d(x, w, self.bias, self.stride, self.padding)


def standardised_convs() -> nn.Module:
    """Three of them with group norms, drawn 100 times too large, which does not matter."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 2)):
        conv = StandardisedConv(inputs, outputs, 3, stride, 1, bias=False)
        nn.init.normal_(conv.weight, std=10.0)
        layers += [conv, nn.GroupNorm(8, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


def normed_logits() -> nn.Module:
    """A norm behind the last layer as well, with scale and shift."""
    return nn.Sequential(nn.Linear(20, 48), nn.BatchNorm1d(48), nn.Hardswish(), nn.Linear(48, 4), nn.BatchNorm1d(4))


class ZeroQuery(nn.Module):
    """Attention of one learned question, which starts at zero: at first all tokens count alike."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.keys, self.values = nn.Linear(4, width, bias=False), nn.Linear(4, width)
        self.classes = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        look = torch.einsum("d,bnd->bn", self.query, self.keys(x)).softmax(-1)
        return self.classes(torch.einsum("bn,bnd->bd", look, self.values(x)))


class IRNN(nn.Module):
    """A plain recurrent layer of ReLUs that starts as the identity."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, hidden, nonlinearity="relu", batch_first=True)
        self.fc = nn.Linear(hidden, 10)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.03)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


class SparseExperts(nn.Module):
    """Eight experts, of which two are asked for each example."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem, self.router, self.head = nn.Linear(64, width), nn.Linear(width, 8, bias=False), nn.Linear(width, 10)
        self.w1 = nn.Parameter(torch.randn(8, width, 16) * width**-0.5)
        self.w2 = nn.Parameter(torch.randn(8, 16, width) * 0.25)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        best, chosen = self.router(h).topk(2, dim=-1)
        inner = torch.relu(torch.einsum("bd,bkdh->bkh", h, self.w1[chosen]))
        outer = torch.einsum("bkh,bkhd->bkd", inner, self.w2[chosen])
        return self.head(h + (best.softmax(-1).unsqueeze(-1) * outer).sum(1))


class Rows(nn.Module):
    """Digits row by row through an encoder, and a head of its mean."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class Prompted(nn.Module):
    """Such a network, frozen, with learned rows before the picture's and a new head."""

    def __init__(self, base: Rows, prompts: int = 4, width: int = 32) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.prompt = nn.Parameter(0.02 * torch.randn(prompts, width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.base.embed(x)
        h = self.base.encoder(torch.cat([self.prompt.expand(len(x), -1, -1), rows], 1))
        return self.head(h.mean(1))


def prompted() -> nn.Module:
    """Trained on digits for a little before it is frozen."""
    return Prompted(pretrain(Rows(), 40, (8, 8)))


class Translator(nn.Module):
    """Reads one sentence, and writes the other with the words before each given; attention between them."""

    def __init__(self, words: int = 12, width: int = 48) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words + 1, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.mix, self.out = nn.Linear(2 * width, width), nn.Linear(width, words)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        memory, state = self.encoder(self.source(source))
        h, _ = self.decoder(self.target(before), state)
        weights = torch.bmm(h, memory.transpose(1, 2)).softmax(-1)
        return self.out(torch.tanh(self.mix(torch.cat([h, weights @ memory], -1))))


class GraphIsomorphism(nn.Module):
    """Sums over neighbours and a learned share of oneself that starts at 0; all nodes come in alike."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(2))
        self.first = nn.Sequential(nn.Linear(1, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
        self.second = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
        self.read = nn.Linear(width, 3)

    def forward(self, x: Tensor, links: Tensor) -> Tensor:
        for eps, mlp in zip(self.eps, (self.first, self.second), strict=True):
            summed = links @ x + eps * x
            x = torch.relu(mlp(summed.flatten(0, 1)).view(*summed.shape[:2], -1))
        return self.read(x.mean(1))


class DetachedProbe(nn.Module):
    """Classes, and a probe that looks at the features in between without a say in them."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.upper = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head, self.probe = nn.Linear(96, 10), nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.lower(x)
        return {"logits": self.head(self.upper(h)), "probe": self.probe(h.detach().flatten(1))}


class FNet(nn.Module):
    """Words mixed by the real part of a Fourier transform in place of attention."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)) for _ in range(2)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for i, layer in enumerate(self.layers):
            x = self.norms[2 * i](x + torch.fft.fft2(x, dim=(1, 2)).real)
            x = self.norms[2 * i + 1](x + layer(x))
        return self.head(x.mean(1))
