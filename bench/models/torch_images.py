"""PyTorch networks of pictures: plain, residual, dense, depthwise, encoder-decoder, patches."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from models import Case, images

__all__ = ["CASES", "DenseNet", "Mixer", "MobileNet", "ResNet", "UNet", "autoencoder", "vgg"]


def vgg(stages: Sequence[Sequence[int]] = ((32, 32), (64, 64), (128, 128, 128)), channels: int = 3) -> nn.Module:
    """3 x 3 convolutions with ReLU, a maximum over 2 x 2 after each stage, a hidden layer, no normalisation."""
    layers: list[nn.Module] = []
    for stage in stages:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(*layers, *head)


class Block(nn.Module):
    """A residual block: two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 around a bottleneck of a quarter."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool, norm: bool) -> None:
        super().__init__()
        inner = width // 4
        shapes = (
            ((inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, width, 1, 1))
            if bottleneck
            else ((inputs, width, 3, stride), (width, width, 3, 1))
        )
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=not norm) for a, b, k, s in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for _, b, *_ in shapes)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != width:
            self.shortcut.append(nn.Conv2d(inputs, width, 1, stride, bias=not norm))
            if norm:
                self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        branch = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            branch = norm(conv(torch.relu(branch) if index else branch))
        return torch.relu(branch + self.shortcut(x))


class ResNet(nn.Module):
    """He et al. 2016: four stages of residual blocks, with batch normalisation or without any."""

    def __init__(
        self,
        counts: Sequence[int],
        width: int = 64,
        bottleneck: bool = False,
        norm: bool = True,
        channels: int = 3,
        stem: int = 7,
    ) -> None:
        super().__init__()
        stride = 2 if stem == 7 else 1
        self.stem = nn.Conv2d(channels, width, stem, stride, stem // 2, bias=not norm)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
        blocks, inputs = [], width
        for stage, count in enumerate(counts):
            units = width * 2**stage * (4 if bottleneck else 1)
            for index in range(count):
                blocks.append(Block(inputs, units, 2 if stage and not index else 1, bottleneck, norm))
                inputs = units
        self.blocks = nn.Sequential(*blocks)
        self.readout = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        return self.readout(self.blocks(x).mean((2, 3)))


class DenseNet(nn.Module):
    """Huang et al. 2017: each layer takes everything before it in its block."""

    def __init__(self, counts: Sequence[int] = (4, 4, 4), growth: int = 16, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for stage, count in enumerate(counts):
            self.blocks.append(nn.ModuleList(self.layer(width + index * growth, growth, 3) for index in range(count)))
            width += count * growth
            if stage < len(counts) - 1:
                self.transitions.append(nn.Sequential(self.layer(width, width // 2, 1), nn.AvgPool2d(2)))
                width //= 2
        self.norm = nn.BatchNorm2d(width)
        self.readout = nn.Linear(width, 10)

    @staticmethod
    def layer(inputs: int, outputs: int, kernel: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            for layer in block:
                x = torch.cat([x, layer(x)], 1)
            if index < len(self.transitions):
                x = self.transitions[index](x)
        return self.readout(torch.relu(self.norm(x)).mean((2, 3)))


class Inverted(nn.Module):
    """MobileNetV2's block: wider, 3 x 3 for each channel by itself, narrower; added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, wider: int = 4) -> None:
        super().__init__()
        inner = wider * inputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.added else self.layers(x)


class MobileNet(nn.Module):
    """Sandler et al. 2018, small."""

    def __init__(self, widths: Sequence[int] = (16, 24, 24, 32, 32, 32, 64, 64)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(*(Inverted(a, b, 1 + (a != b)) for a, b in pairwise((16, *widths))))
        self.last = nn.Sequential(nn.Conv2d(widths[-1], 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU6())
        self.readout = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.last(self.blocks(self.stem(x))).mean((2, 3)))


class UNet(nn.Module):
    """Ronneberger et al. 2015: down by maxima, up by transposed convolutions, each level handed across."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), channels: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList(self.pair(a, b) for a, b in pairwise((channels, *widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(self.pair(2 * width, width) for width in widths[:-1])
        self.readout = nn.Conv2d(widths[0], classes, 1)

    @staticmethod
    def pair(inputs: int, outputs: int) -> nn.Module:
        first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for index, pair in enumerate(self.down):
            x = pair(nn.functional.max_pool2d(x, 2) if index else x)
            levels.append(x)
        for level, up, merge in reversed(list(zip(levels[:-1], self.up, self.merge, strict=True))):
            x = merge(torch.cat([level, up(x)], 1))
        return self.readout(x)


def autoencoder(widths: Sequence[int] = (3, 24, 48, 96)) -> nn.Module:
    """Convolutions with stride 2 down, transposed ones up."""
    down = [layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())]
    up: list[nn.Module] = []
    for a, b in pairwise(reversed(widths)):
        up += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*down, *up[:-1])


class MixerBlock(nn.Module):
    """One layer pair over the patches, one over the channels, each added to what it takes."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
        self.over_patches = nn.Sequential(nn.Linear(patches, 2 * patches), nn.GELU(), nn.Linear(2 * patches, patches))
        self.over_channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_patches(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norms[1](x))


class Mixer(nn.Module):
    """Tolstikhin et al. 2021: patches and channels mixed in turn."""

    def __init__(self, size: int = 32, patch: int = 4, width: int = 96, depth: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(MixerBlock((size // patch) ** 2, width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.readout(self.norm(self.blocks(x)).mean(1))


CASES = (
    Case("vgg", "torch", "convolutional", vgg, partial(images, 16, 32), quick=True),
    Case("resnet 18", "torch", "residual", partial(ResNet, (2, 2, 2, 2)), partial(images, 16, 64)),
    Case("resnet 50", "torch", "residual", partial(ResNet, (3, 4, 6, 3), bottleneck=True), partial(images, 16, 64)),
    Case("resnet 34 without norm", "torch", "residual", partial(ResNet, (3, 4, 6, 3), 32, norm=False, stem=3),
         partial(images, 8, 32)),
    Case("densenet", "torch", "convolutional", DenseNet, partial(images, 16, 32)),
    Case("mobilenet", "torch", "residual", MobileNet, partial(images, 16, 32), quick=True),
    Case("unet", "torch", "convolutional", UNet, partial(images, 8, 32), quick=True),
    Case("autoencoder", "torch", "convolutional", autoencoder, partial(images, 16, 32)),
    Case("mixer", "torch", "residual", Mixer, partial(images, 16, 32)),
)  # fmt: skip
