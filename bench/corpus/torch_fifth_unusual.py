"""PyTorch networks of a fifth gathering that train, and those that only a number or their data keep from it."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import data
from corpus.torch_networks import mlp

__all__ = [
    "VAE",
    "ConvAutoencoder",
    "Forecaster",
    "Heteroscedastic",
    "Masked",
    "MiniGPT",
    "Sentiment",
    "SmallUNet",
    "frozen_backbone",
    "normed_inputs",
    "pretrain",
    "rare",
    "resnet",
    "siren",
    "tuned",
    "upcycled",
    "vit",
]


def pretrain(model: nn.Module, steps: int, shape: tuple[int, ...] = (64,)) -> nn.Module:
    """Train on digits of the given shape for a little."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    x, y = map(torch.from_numpy, data.digits(shape))
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


class Block(nn.Module):
    """Pre-norm transformer block; `zero` starts both branches at nothing."""

    def __init__(self, width: int, heads: int = 4, zero: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = mlp((width, 4 * width, width), nn.GELU)
        self.causal = causal
        if zero:
            for layer in (self.attn.out_proj, self.mlp[2]):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln1(x)
        mask = torch.triu(torch.ones(x.size(1), x.size(1), dtype=torch.bool), 1) if self.causal else None
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class MiniGPT(nn.Module):
    """A language model whose head is its table of words, of spread `std` or as it comes; `multiplied` on the way in."""

    def __init__(self, std: float | None, multiplied: bool = False, width: int = 64, vocab: int = 32) -> None:
        super().__init__()
        self.scale = math.sqrt(width) if multiplied else 1.0
        self.emb = nn.Embedding(vocab, width)
        self.pos = nn.Parameter(torch.zeros(1, 16, width))
        self.blocks = nn.ModuleList([Block(width, causal=True) for _ in range(2)])
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.emb.weight
        if std is not None:
            nn.init.normal_(self.emb.weight, std=std)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.emb(idx) * self.scale + self.pos[:, : idx.size(1)]
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


class Forecaster(nn.Module):
    """Next value of a series, in a column."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc(h[-1])


class ConvAutoencoder(nn.Module):
    """Pictures of 8 x 8 through 32 numbers; `last` makes pixels."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
                                     nn.Linear(256, 32), nn.ReLU())  # fmt: skip
        self.decoder = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)),
                                     nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), last)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class ViT(nn.Module):
    """Patches of 2 x 2, a class token, blocks whose branches start at zero, and a head that does too."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, 17, width))
        nn.init.trunc_normal_(self.pos, std=0.02)
        self.blocks = nn.Sequential(*[Block(width, zero=True) for _ in range(3)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


class Masked(nn.Module):
    """A post-norm encoder that does not look at word 0."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        padding = x == 0
        h = self.encoder(self.embed(x), src_key_padding_mask=padding)
        keep = (~padding).float()[..., None]
        return self.fc((h * keep).sum(1) / keep.sum(1).clamp(min=1))


class Sentiment(nn.Module):
    """Two directions, forget gates open, dropout."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, hidden, 2, batch_first=True, bidirectional=True, dropout=0.2)
        for name, value in self.lstm.named_parameters():
            if "weight_hh" in name:
                for gate in value.data.chunk(4, 0):
                    nn.init.orthogonal_(gate)
            elif "bias" in name:
                value.data.zero_()
                if "bias_ih" in name:
                    value.data[hidden : 2 * hidden] = 1.0
        self.fc = nn.Linear(2 * hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embedding(x))
        return self.fc(torch.cat([h[-2], h[-1]], 1))


class Residual(nn.Module):
    """Two convolutions whose last norm starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(x + out)


class ResNet(nn.Module):
    """Four such blocks; weights as He has them, by what goes out."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.layers = nn.Sequential(*[Residual(channels) for _ in range(4)])
        self.fc = nn.Linear(channels * 4, 10)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.layers(self.stem(x)), 2)
        return self.fc(torch.flatten(x, 1))


def doubled(fan_in: int, fan_out: int) -> nn.Module:
    """Two convolutions with group norms."""
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.GroupNorm(4, fan_out), nn.SiLU(),
                         nn.Conv2d(fan_out, fan_out, 3, padding=1), nn.GroupNorm(4, fan_out), nn.SiLU())  # fmt: skip


class SmallUNet(nn.Module):
    """One step down and up, with group norms."""

    def __init__(self) -> None:
        super().__init__()
        self.down = doubled(1, 8)
        self.bottom = doubled(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.merge = doubled(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        x = self.up(self.bottom(functional.max_pool2d(skip, 2)))
        return self.out(self.merge(torch.cat([skip, x], 1)))


class NormedInputs(nn.Module):
    """Raw features, standardised by a batch norm in front."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.body = mlp((6, 48, 48), nn.ELU, nn.ELU())
        self.value = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(self.body(self.bn(x)))


class VAE(nn.Module):
    """Pictures through eight random numbers: the picture, and their means and log variances."""

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 64)
        self.mu, self.logvar = nn.Linear(64, latent), nn.Linear(64, latent)
        self.fc3, self.fc4 = nn.Linear(latent, 64), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = functional.relu(self.fc1(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(z)))), mu, logvar


class Heteroscedastic(nn.Module):
    """A mean and the logarithm of a variance, the second from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp((6, 64, 64), nn.Tanh, nn.Tanh())
        self.mean, self.log_var = nn.Linear(64, 1), nn.Linear(64, 1)
        nn.init.zeros_(self.log_var.weight)
        nn.init.zeros_(self.log_var.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mean(h), self.log_var(h)


class Upcycled(nn.Module):
    """Four copies of a trained layer as experts, and a router that tells them apart from the first step."""

    def __init__(self, trained: nn.Sequential) -> None:
        super().__init__()
        self.stem = trained[0]
        self.experts = nn.ModuleList([copy.deepcopy(trained[2]) for _ in range(4)])
        self.router = nn.Linear(48, 4)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.stem(x))
        gate = self.router(h).softmax(-1)
        mixed = torch.stack([expert(h) for expert in self.experts], 1)
        return self.head(functional.relu((gate[..., None] * mixed).sum(1)) + h)


class Sine(nn.Module):
    """A linear layer and a sine, with the weights of SIREN (NeurIPS 2020)."""

    def __init__(self, fan_in: int, fan_out: int, first: bool = False, omega: float = 8.0) -> None:
        super().__init__()
        self.omega, self.linear = omega, nn.Linear(fan_in, fan_out)
        bound = 1 / fan_in if first else math.sqrt(6 / fan_in) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


def vit() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = ViT()
    return model, torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)


def resnet() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = ResNet()
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)


def normed_inputs() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = NormedInputs()
    return model, torch.optim.RMSprop(model.parameters(), lr=2e-3)


def frozen_backbone() -> nn.Module:
    """Trained to tell digits, then kept; a new head, from zero, says which are odd."""
    model = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(),
                          nn.Linear(24 * 16, 10))  # fmt: skip
    pretrain(model, 40, (1, 8, 8)).requires_grad_(False)
    model[8] = nn.Linear(24 * 16, 1)
    nn.init.zeros_(model[8].weight)
    nn.init.zeros_(model[8].bias)
    return model


def tuned() -> nn.Module:
    """Trained on digits for a while; now they have other names."""
    first = (nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.2))
    return pretrain(nn.Sequential(*first, *mlp((96, 48, 10))), 150)


def rare() -> nn.Module:
    """For fours, one in ten; the last bias says so."""
    model = mlp((64, 48, 48, 1), nn.GELU)
    nn.init.constant_(model[4].bias, -2.2)
    return model


def upcycled() -> nn.Module:
    """A network trained on digits, whose middle becomes four experts."""
    layers = (nn.Linear(64, 48), nn.ReLU(), mlp((48, 64, 48), nn.GELU), nn.ReLU(), nn.Linear(48, 10))
    return Upcycled(pretrain(nn.Sequential(*layers), 60))


def siren() -> nn.Module:
    return nn.Sequential(Sine(1, 48, first=True), Sine(48, 48), nn.Linear(48, 1))
