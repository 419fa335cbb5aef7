"""PyTorch networks of a sixth gathering that do not train, each written as its asker might have."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus.torch_broken import leftovers

__all__ = [
    "VAE",
    "ActorCritic",
    "CaptionDecoder",
    "ConvEncoder",
    "DomainGate",
    "Ensemble",
    "Factorised",
    "GatedConvLM",
    "HeadwiseNet",
    "LeNet",
    "LinearAttentionNet",
    "MoleculeNet",
    "PointNet",
    "RelationNet",
    "SequenceModel",
    "StatsPooling",
    "Thermometer",
    "TokenClassifier",
    "TransformerLM",
    "Univariate",
    "mask_net",
    "shared_vae",
]


class ConvEncoder(nn.Module):
    """Three convolutions and a linear layer, with the activation between them or not."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 4 * 4, 2)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        for conv in [self.conv1, self.conv2, self.conv3]:
            x = conv(x)
            if self.relu:
                x = functional.relu(x)
        return self.fc(x.flatten(1))


class ActorCritic(nn.Module):
    """What a state is worth, and scores of three actions; the worth through a tanh or as it is."""

    def __init__(self, squash: bool, obs_dim: int = 6, n_actions: int = 3) -> None:
        super().__init__()
        self.base = nn.Sequential(nn.Linear(obs_dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.actor = nn.Linear(64, n_actions)
        self.critic = nn.Sequential(nn.Linear(64, 1), nn.Tanh()) if squash else nn.Linear(64, 1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        feat = self.base(obs)
        return self.critic(feat), self.actor(feat)


class TokenClassifier(nn.Module):
    """A class token in front of the tokens, an encoder, and a readout of the class token."""

    def __init__(self, batch_first: bool, d_model: int = 32, max_len: int = 10) -> None:
        super().__init__()
        self.inp = nn.Linear(4, d_model)
        self.cls = nn.Parameter(torch.randn(1, 1, d_model) * 0.02)
        self.pos = nn.Parameter(torch.randn(1, max_len + 1, d_model) * 0.02)
        layer = nn.TransformerEncoderLayer(d_model, 4, 64, dropout=0.0, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(d_model, 3)

    def forward(self, src: Tensor) -> Tensor:
        h = torch.cat([self.cls.repeat(src.size(0), 1, 1), self.inp(src)], dim=1) + self.pos
        return self.out(self.encoder(h)[:, 0])


def mask_net() -> nn.Module:
    """A chance for each pixel."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 1, 1),
        nn.Sigmoid(),
    )


class StatsPooling(nn.Module):
    """Frames of a recording, their mean and spread over time, and a class; `eps` is added below the root."""

    def __init__(self, eps: float, channels: int = 16) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv1d(1, channels, 5), nn.ReLU(), nn.Conv1d(channels, channels, 3, dilation=2), nn.ReLU()
        )
        self.segment = nn.Linear(2 * channels, 32)
        self.out = nn.Linear(32, 3)
        self.eps = eps

    def forward(self, wav: Tensor) -> Tensor:
        h = self.frames(wav.transpose(1, 2))
        std = torch.sqrt(h.var(dim=2) + self.eps)
        return self.out(functional.relu(self.segment(torch.cat([h.mean(dim=2), std], dim=1))))


class Ensemble(nn.Module):
    """The mean of many small experts; each is made after the seed is set, to one number or to its rank."""

    def __init__(self, by_rank: bool, num_experts: int = 16) -> None:
        super().__init__()
        start = torch.initial_seed() % 1000
        self.experts = nn.ModuleList()
        for rank in range(num_experts):
            torch.manual_seed(start + rank if by_rank else start)
            self.experts.append(nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([expert(x) for expert in self.experts]).mean(0)


class VAE(nn.Module):
    """Pictures through six random numbers, encoder and decoder apart."""

    def __init__(self, z: int = 6) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2 * z))
        self.decoder = nn.Sequential(nn.Linear(z, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


def shared_vae(whole: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network, and an optimizer of all of it or of the encoder."""
    vae = VAE()
    return vae, torch.optim.Adam(vae.parameters() if whole else vae.encoder.parameters(), lr=5e-3)


class RelationNet(nn.Module):
    """Features of a pair and which of four relations it has; each relation has weights of its own, in a dict."""

    def __init__(self, registered: bool, num_feat: int = 8, hidden: int = 4) -> None:
        super().__init__()
        self.w: Any = nn.ParameterDict() if registered else {}
        for rel in range(4):
            self.w[f"rel{rel}"] = nn.Parameter(torch.randn(num_feat, hidden) / num_feat**0.5)
        self.out = nn.Linear(hidden, 1)

    def forward(self, feat: Tensor, rel: Tensor) -> Tensor:
        stacked = torch.stack([self.w[f"rel{r}"] for r in range(4)])
        return self.out(torch.tanh(torch.einsum("bf,bfh->bh", feat, stacked[rel])))


class PointNet(nn.Module):
    """Each point through the same layers, the largest over points, a class."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp1, self.mlp2 = nn.Conv1d(2, 32, 1), nn.Conv1d(32, 64, 1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 3)

    def forward(self, pts: Tensor) -> Tensor:
        x = pts.permute(0, 2, 1)
        x = functional.relu(self.mlp1(x))
        x = functional.relu(self.mlp2(x))
        x = torch.max(x, 2)[0]
        return self.fc2(functional.relu(self.fc1(x)))


class LinearHeadwiseExpand(nn.Module):
    """A small square matrix for each head; `reset` gives them values."""

    def __init__(self, in_features: int, num_heads: int, reset: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        size = in_features // num_heads
        self.weight = leftovers((num_heads, size, size))
        self.bias = nn.Parameter(torch.zeros(in_features))
        if reset:
            nn.init.normal_(self.weight, mean=0.0, std=math.sqrt(2 / (5 * size)))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        x = x.view(*shape[:-1], self.num_heads, -1)
        return torch.einsum("...hd,hod->...ho", x, self.weight).reshape(*shape) + self.bias


class HeadwiseNet(nn.Module):
    """Pictures through such a layer between two ordinary ones."""

    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.up = nn.Linear(64, 48)
        self.qkv = LinearHeadwiseExpand(48, 4, reset)
        self.down = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.qkv(functional.silu(self.up(x)))))


class CaptionDecoder(nn.Module):
    """The next word at each step, collected in a list; what is returned is the tensor or its data."""

    def __init__(self, keep_graph: bool, vocab: int = 32, hidden: int = 48) -> None:
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(vocab, 32), nn.GRUCell(32, hidden), nn.Linear(hidden, vocab)
        self.keep_graph, self.hidden = keep_graph, hidden

    def forward(self, words: Tensor) -> Tensor:
        h = torch.zeros(words.size(0), self.hidden)
        logits = []
        for t in range(words.size(1)):
            h = self.cell(self.embed(words[:, t]), h)
            logits.append(self.out(h))
        if self.keep_graph:
            return torch.stack(logits, 1)
        return torch.stack(logits, 1).data


class DomainGate(nn.Module):
    """Linear experts mixed by the domain alone: its vector, a layer, a ReLU and a softmax; vectors of zeros or not."""

    def __init__(self, zero_embedding: bool, n_expert: int = 4) -> None:
        super().__init__()
        self.domain = nn.Embedding(4, 8)
        if zero_embedding:
            nn.init.zeros_(self.domain.weight)
        self.gate = nn.Linear(8, n_expert, bias=False)
        self.experts = nn.ModuleList(nn.Linear(4, 1) for _ in range(n_expert))

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        weight = torch.softmax(torch.relu(self.gate(self.domain(domain))), dim=1)
        outs = torch.cat([e(x) for e in self.experts], dim=1)
        return (weight * outs).sum(dim=1, keepdim=True)


class Thermometer(nn.Module):
    """A reading about 50; the last bias starts there or at nothing."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())
        self.head = nn.Linear(40, 1)
        nn.init.constant_(self.head.bias, start)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


class MoleculeNet(nn.Module):
    """Atoms by their kinds, a layer that sees the mean of all, their sum by how many there can be, and a readout."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.atom = nn.Embedding(6, width, padding_idx=0)
        self.message = nn.Linear(2 * width, width)
        self.largest = 16
        self.readout = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, z: Tensor) -> Tensor:
        mask = (z > 0).unsqueeze(-1).float()
        h = self.atom(z)
        others = (h * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        h = functional.silu(self.message(torch.cat([h, others.expand_as(h)], -1)))
        return self.readout((h * mask).sum(1) / self.largest)


class Univariate(nn.Module):
    """A series through an encoder as wide as `width`; the next value. One number a step needs no projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Identity() if width == 1 else nn.Linear(1, width)
        self.position = nn.Parameter(torch.zeros(20, width).uniform_(-0.1, 0.1))
        layer = nn.TransformerEncoderLayer(width, 1, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.decoder = nn.Linear(20 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(self.project(x) + self.position).flatten(1))


class SequenceBlock(nn.Module):
    """A norm, a layer over time, and perhaps a shortcut; without one the layer's result has to be returned."""

    def __init__(self, dim: int, fixed: bool) -> None:
        super().__init__()
        self.norm, self.residual, self.fixed = nn.LayerNorm(dim), None, fixed
        self.layer = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y, _ = self.layer(y)
        if self.residual is not None:
            x = self.residual(x, y)
        return y if self.fixed else x


class SequenceModel(nn.Module):
    """Such blocks between a linear encoder and decoder."""

    def __init__(self, fixed: bool, dim: int = 32) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, dim), nn.Linear(dim, 3)
        self.blocks = nn.Sequential(SequenceBlock(dim, fixed), SequenceBlock(dim, fixed))

    def forward(self, u: Tensor) -> Tensor:
        return self.decoder(self.blocks(self.encoder(u)).mean(dim=1))


class LinearAttentionNet(nn.Module):
    """Attention as products of rectified queries and keys, divided by their sum or not."""

    def __init__(self, renormalize: bool, dim: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(4, dim)
        self.qkv = nn.ModuleList(nn.Linear(dim, 3 * dim, bias=False) for _ in range(depth))
        self.head, self.renormalize = nn.Linear(dim, 3), renormalize

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.qkv:
            q, k, v = layer(x).chunk(3, dim=-1)
            q, k = torch.relu(q) + 1e-3, torch.relu(k) + 1e-3
            out = torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k, v))
            if self.renormalize:
                out = out / torch.einsum("bnd,bd->bn", q, k.sum(1)).unsqueeze(-1)
            x = x + out
        return self.head(x.mean(1))


class Factorised(nn.Module):
    """Ratings from vectors that are handed over, and a bias for each user and item."""

    def __init__(self, **settings: bool) -> None:
        super().__init__()
        self.user = nn.Embedding.from_pretrained(0.5 * torch.randn(30, 8), **settings)
        self.item = nn.Embedding.from_pretrained(0.5 * torch.randn(20, 8), **settings)
        self.user_bias, self.item_bias = nn.Embedding(30, 1), nn.Embedding(20, 1)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, pair: Tensor) -> Tensor:
        u, i = pair.unbind(1)
        return (self.user(u) * self.item(i)).sum(1, keepdim=True) + self.user_bias(u) + self.item_bias(i)


class TransformerLM(nn.Module):
    """The next word of a story, by two causal layers."""

    def __init__(self, d_model: int = 48) -> None:
        super().__init__()
        self.embedding, self.pos = nn.Embedding(32, d_model), nn.Embedding(16, d_model)
        layer = nn.TransformerEncoderLayer(d_model, 4, 96, dropout=0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.lm_head = nn.Linear(d_model, 32)

    def forward(self, x: Tensor) -> Tensor:
        length = x.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        h = self.embedding(x) + self.pos(torch.arange(length))
        return self.lm_head(self.blocks(h, mask=mask, is_causal=True))


class LeNet(nn.Module):
    """LeNet for pictures of 8 x 8, with one activation throughout."""

    def __init__(self, act: type[nn.Module]) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=3, padding=1), act(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, kernel_size=3, padding=1), act(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(64, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class GatedConvLM(nn.Module):
    """Convolutions with gates over words, no norm; what the table is drawn with is multiplied by `factor`."""

    def __init__(self, factor: float, dim: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, dim)
        self.embed.weight.data.normal_(0, 0.1)
        self.embed.weight.data.mul_(factor)
        self.convs = nn.ModuleList(nn.Conv1d(dim, 2 * dim, 3, padding=2) for _ in range(layers))
        for conv in self.convs:
            nn.init.normal_(conv.weight, std=math.sqrt(4 / (3 * dim)))
            nn.init.zeros_(conv.bias)
        self.fc = nn.Linear(dim, 32)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words).transpose(1, 2)
        for conv in self.convs:
            x = x + functional.glu(conv(x)[:, :, :-2], dim=1)
        return self.fc(x.transpose(1, 2))
