"""More PyTorch networks that do not train, gathered by someone who had not seen the doctor."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import Case, data, second_data
from corpus.torch_broken import leftovers
from corpus.torch_networks import Adapter, Make, changed, mlp

__all__ = ["CASES"]

GITHUB = "https://github.com/"
cross_entropy, with_logits = functional.cross_entropy, functional.binary_cross_entropy_with_logits
mean_squared = functional.mse_loss
images = partial(data.digits, (1, 8, 8))


class Low(nn.Module):
    """A frozen random network with small products beside its layers, all that is trained."""

    def __init__(self, both_zero: bool) -> None:
        super().__init__()
        self.first, self.second = Adapter(nn.Linear(64, 48)), Adapter(nn.Linear(48, 10))
        if both_zero:
            nn.init.zeros_(self.first.down)
            nn.init.zeros_(self.second.down)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


class Pooled(nn.Module):
    """Tokens summed up by the weights that a score of each gives, the softmax over `axis` of the scores."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.score, self.readout, self.axis = nn.Linear(4, 1), nn.Linear(4, 3), axis

    def forward(self, x: Tensor) -> Tensor:
        return self.readout((self.score(x).softmax(self.axis) * x).sum(1))


class Gated(nn.Module):
    """The same by a gate, which is reckoned and then used or not."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.gate, self.readout = mlp((4, 16, 1)), nn.Linear(4, 3)
        self.used = used

    def forward(self, x: Tensor) -> Tensor:
        gated = torch.sigmoid(self.gate(x)) * x
        return self.readout((gated if self.used else x).mean(1))


class Masked(nn.Module):
    """Attention that sees no padding: a sentence of nothing else divides zero by zero."""

    def __init__(self, careful: bool) -> None:
        super().__init__()
        self.words, self.careful = nn.Embedding(50, 16), careful
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.readout = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        padding = x == 0
        if self.careful:
            padding = padding & (x != 0).any(1, keepdim=True)
        embedded = self.words(x)
        return self.readout((embedded + self.attention(embedded, embedded, embedded, padding)[0]).mean(1))


class Distance(nn.Module):
    """How far two pictures are apart; the root has no derivative at zero."""

    def __init__(self, smallest: float) -> None:
        super().__init__()
        self.tower, self.smallest = mlp((64, 64, 8)), smallest

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        squares = (self.tower(one) - self.tower(two)).square().sum(1, keepdim=True)
        return torch.tanh(torch.sqrt(squares + self.smallest))


def contrastive(distances: Tensor, different: Tensor) -> Tensor:
    return ((1 - different) * distances**2 + different * torch.relu(1 - distances) ** 2).mean()


class Sequence(nn.Module):
    """A recurrent layer and a readout of its last state."""

    def __init__(self, kind: type[nn.RNNBase], outputs: int = 3, words: int = 0, dropped: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, 16) if words else nn.Identity()
        self.dropout = nn.Dropout(dropped)
        self.layers = kind(16 if words else 4, 32, batch_first=True)
        self.readout = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(self.dropout(self.embed(x)))[0][:, -1])


def forgetting(bias: float) -> nn.Module:
    """An LSTM whose forget gates start at the given bias."""
    model = Sequence(nn.LSTM)
    with torch.no_grad():
        model.layers.bias_hh_l0[32:64] = bias
    return model


def plain(identity: bool) -> nn.Module:
    """A plain recurrent network as PyTorch makes it, or one that starts by keeping its state."""
    model = Sequence(nn.RNN)
    if identity:
        nn.init.eye_(model.layers.weight_hh_l0)
    return model


class Apart(nn.Module):
    """A network of two named layers and one between them that the model does not know of, or made at every call."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.readout = kind, nn.Linear(48, 10)
        layers = {"down": nn.Linear(64, 3), "up": nn.Linear(3, 48)}
        self.layers = nn.ModuleDict(layers) if kind == "known" else layers

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "made anew":
            return self.readout(torch.relu(nn.Linear(64, 48)(x)))
        return self.readout(torch.relu(self.layers["up"](self.layers["down"](x))))


class Segments(nn.Module):
    """Convolutions at full size; `kept` is where the gradient may go through the first."""

    def __init__(self, kept: bool = True, width: int = 1) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1))
        self.head, self.kept = mlp((width * 4, 24, 10)), kept

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.kept and torch.is_grad_enabled()):
            features = self.encoder(x)
        return self.head(features.flatten(1))


def pixelwise(last: nn.Module | None = None) -> nn.Module:
    layers = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(12, 1, 1), *([] if last is None else [last]))


def dice(outputs: Tensor, targets: Tensor) -> Tensor:
    chosen = torch.sigmoid(outputs)
    return 1 - 2 * (chosen * targets).sum() / (chosen.sum() + targets.sum())


def hard_dice(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same of a mask of zeros and ones, which has no gradient."""
    chosen = (torch.sigmoid(outputs) > 0.5).float()
    return 1 - 2 * (chosen * targets).sum() / (chosen.sum() + targets.sum())


def late(resized: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Words of two numbers each, the table replaced by a larger one after the optimizer was made, or not."""
    model = nn.Sequential(nn.EmbeddingBag(40, 2), nn.Linear(2, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    model[0] = nn.EmbeddingBag(50, 2)
    return model, optimizer if resized else torch.optim.Adam(model.parameters(), 0.02)


def averaged(norm: Callable[[int], nn.Module]) -> nn.Module:
    """Convolutions, a norm and the mean over the picture."""
    return nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), norm(24),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))  # fmt: skip


def narrow(width: int, depth: int) -> nn.Module:
    """ReLU layers of few units, biases at zero, weights by He's law."""
    model = mlp((1, *[width] * depth, 1))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def deep_convolutions(spread: float | None, depth: int = 10) -> nn.Module:
    """Convolutions of one spread, or of He's."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layer = nn.Conv2d(16 if index else 1, 16, 3, padding=1)
        nn.init.zeros_(layer.bias)
        nn.init.normal_(layer.weight, std=spread or (2 / (layer.in_channels * 9)) ** 0.5)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))


class Projected(nn.Module):
    """Texts through a projection whose values were never set, or were."""

    def __init__(self, filled: bool) -> None:
        super().__init__()
        self.words, self.projection, self.readout = nn.EmbeddingBag(50, 24), leftovers((24, 16)), nn.Linear(16, 3)
        if filled:
            nn.init.normal_(self.projection, std=24**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.words(x) @ self.projection)


def positive_weights(build: Make) -> Make:
    return changed(build, lambda _, parameter: parameter.uniform_(0, 1))


def off(bias: float) -> nn.Module:
    """A count behind a ReLU, which may start at 0 for everything."""
    model = mlp((5, 32, 1), last=nn.ReLU())
    nn.init.constant_(model[2].bias, bias)
    return model


class Columns(nn.Module):
    """Three values from a picture, as a column of 1 x 1 pictures or as a row."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.layers, self.flat = mlp((6, 48, 3)), flat

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.layers(x)
        return outputs if self.flat else outputs[:, :, None, None]


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


def twice_scaled() -> tuple[Any, Any]:
    """Pixels divided by 255, and once more."""
    x, y = data.digits(scale="unit")
    return (x / 255 / 255).astype(np.float32), y


def logarithms(shift: float) -> tuple[Any, Any]:
    """The logarithm of pixels, of which half are zero."""
    x, y = data.digits(scale="unit")
    with np.errstate(divide="ignore"):
        return np.log(x + np.float32(shift)), y


def summed_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets, reduction="sum")


def faulty(name: str, causes: str, build: Make, batch: Callable[[], Any], loss: Callable[..., Tensor],
           mended: Mapping[str, Any], source: str = "commonplace", note: str = "",
           optimizer: str = "adam(lr=0.003)") -> Case:  # fmt: skip
    """A case; sources of GitHub without the site."""
    seen = source if source.startswith(("http", "commonplace")) else GITHUB + source
    return Case(name, "torch", build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)


HOLD = partial(second_data.first_step, 40)
SMALL = partial(mlp, (64, 48, 10))
PARAMETERS = (
    faulty("adapters zero on both sides", "zero-weights", partial(Low, True), data.digits, cross_entropy,
           {"build": partial(Low, False)}, "circle-hit/SAPT/issues/11",
           "A and B of each product are 0, the rest frozen", "adam(lr=0.01)"),
    faulty("gru of one constant", "identical-units", changed(partial(Sequence, nn.GRU, 10),
           lambda _, p: p.fill_(0.1)), partial(data.digits, (16, 4)), cross_entropy,
           {"build": partial(Sequence, nn.GRU, 10)}, "commonplace", "all weights .1", "adam(lr=0.01)"),
    faulty("weights from 0 to 1", "weights-too-large saturated-units collapsed-inputs",
           positive_weights(partial(mlp, (64, 15, 10), nn.Sigmoid)), partial(data.digits, scale="unit"), cross_entropy,
           {"build": partial(mlp, (64, 15, 10), nn.Sigmoid), "optimizer": "adam(lr=0.02)"},
           "https://stats.stackexchange.com/questions/286424/"
           "neural-network-success-after-changing-weights-initialization-strategy-whats",
           "64 positive weights on positive pixels", "sgd(lr=0.5)"),
    faulty("ten convolutions, N(0, .01)", "weights-too-small vanishing-signal", partial(deep_convolutions, 0.01),
           images, cross_entropy, {"build": partial(deep_convolutions, None)}, "https://arxiv.org/abs/1502.01852",
           "a fixed spread of .01, as of AlexNet", "sgd(lr=0.01, momentum=0.9)"),
    faulty("projection never set", "uninitialised-weights", partial(Projected, False), data.sentences, cross_entropy,
           {"build": partial(Projected, True)}, "openai/CLIP/issues/15", "torch.empty as a parameter", "adam(lr=0.01)"),
    faulty("narrow and deep", "dead-units collapsed-inputs vanishing-signal vanishing-gradient",
           partial(narrow, 2, 30), data.waves, mean_squared, {"build": partial(narrow, 64, 2)},
           "https://arxiv.org/abs/1903.06733", "two ReLU units a layer: some layer is dead for all inputs",
           "adam(lr=0.01)"),
    faulty("a ReLU that starts shut", "dead-units output-activation", partial(off, -4.0), second_data.counts,
           mean_squared, {"build": partial(off, 1.0)}, "jvargasmu/population_estimation/issues/68",
           "counts behind a ReLU that is 0 for everything", "adam(lr=0.01)"),
    faulty("forget gates shut", "vanishing-gradient vanishing-signal saturated-units", partial(forgetting, -6.0), HOLD,
           cross_entropy, {"build": partial(forgetting, 3.0)}, "craffel/nntools/issues/19",
           "of the first of 40 steps nothing is left", "adam(lr=0.01)"),
    faulty("plain recurrence, 40 steps", "vanishing-gradient vanishing-signal weights-too-small", partial(plain, False),
           HOLD, cross_entropy, {"build": partial(plain, True)}, "commonplace", "of the first step nothing is left",
           "adam(lr=0.001)"),
)  # fmt: skip
OUTPUTS = (
    faulty("worth of actions behind a ReLU", "output-activation targets-out-of-range",
           partial(mlp, (6, 48, 48, 3), last=nn.ReLU()), second_data.actions, mean_squared,
           {"build": partial(mlp, (6, 48, 48, 3))}, "dennybritz/reinforcement-learning/issues/186",
           "half the values are below 0", "adam(lr=0.01)"),
    faulty("three worths behind a sigmoid", "targets-out-of-range output-activation",
           partial(mlp, (6, 48, 48, 3), last=nn.Sigmoid()), second_data.actions, mean_squared,
           {"build": partial(mlp, (6, 48, 48, 3))}, "rasmusbergpalm/DeepLearnToolbox/issues/154",
           "regression through a sigmoid", "adam(lr=0.01)"),
    faulty("masks from 0 to 255", "targets-out-of-range", pixelwise, partial(second_data.masks, 255.0), with_logits,
           {"data": second_data.masks}, "milesial/Pytorch-UNet/issues/84", "a loss below 0 without end",
           "adam(lr=0.01)"),
    faulty("masks, two sigmoids", "double-softmax", partial(pixelwise, nn.Sigmoid()), second_data.masks, with_logits,
           {"build": pixelwise}, "MIC-DKFZ/nnUNet/issues/16", "probabilities never below one half",
           "sgd(lr=0.2, momentum=0.9)"),
    faulty("attention of one", "softmax-axis one-unit-softmax", partial(Pooled, 2), second_data.needle, cross_entropy,
           {"build": partial(Pooled, 1)}, "DEEP-PolyU/KEQA_WSDM19/issues/2",
           "the softmax goes over an axis of length 1: all weights are 1", "adam(lr=0.03)"),
    faulty("a column of pictures", "broadcast-loss", partial(Columns, False), second_data.actions, mean_squared,
           {"build": partial(Columns, True)}, "dingmyu/CamNet/pull/4", "(n, 3, 1, 1) against (n, 3)", "adam(lr=0.01)"),
    faulty("one score among one", "wrong-loss one-unit-softmax", partial(mlp, (2, 32, 1)), second_data.two_moons,
           cross_entropy, {"loss": with_logits},
           "https://errorhandle.ai/loss-and-accuracy-are-0-when-using-a-neural-network-with-a-single-output-neuron-tensorflow",
           "cross entropy over a single class is 0", "adam(lr=0.02)"),
    faulty("log of a softmax", "non-finite-signal unscaled-inputs",
           lambda: nn.Sequential(mlp((64, 48, 10), last=nn.Softmax(1)), Log()),
           partial(data.digits, scale="pixels"), functional.nll_loss,
           {"build": partial(mlp, (64, 48, 10), last=nn.LogSoftmax(1))}, "pytorch/pytorch/issues/1620",
           "the smallest probabilities round to 0"),
    faulty("squares summed", "sum-reduction learning-rate-too-large", partial(mlp, (64, 32, 64)), data.copies,
           summed_squares, {"loss": mean_squared, "optimizer": "adam(lr=0.01)"}, "commonplace",
           "over 128 pictures of 64 pixels", "sgd(lr=0.01)"),
)  # fmt: skip
FLOW = (
    faulty("a sentence of padding", "non-finite-signal", partial(Masked, False), second_data.some_empty, cross_entropy,
           {"build": partial(Masked, True)}, "pytorch/pytorch/issues/24816", "attention over no word at all",
           "adam(lr=0.01)"),
    faulty("root of no distance", "non-finite-signal exploding-gradient", partial(Distance, 0.0), second_data.twins,
           contrastive, {"build": partial(Distance, 1e-6)}, "pytorch/pytorch/issues/2421",
           "outputs are finite, gradients are not", "adam(lr=0.003)"),
    faulty("gate reckoned and not used", "unused-parameters", partial(Gated, False), second_data.needle, cross_entropy,
           {"build": partial(Gated, True)}, "kevinzakka/spatial-transformer-network/issues/3",
           "the input goes past it", "adam(lr=0.03)"),
    faulty("encoder without gradients", "gradient-blocked", partial(Segments, False), images, cross_entropy,
           {"build": partial(Segments, True)}, "coqui-ai/TTS/issues/2348", "torch.no_grad in forward", "adam(lr=0.01)"),
    faulty("dice of a hard mask", "gradient-blocked", pixelwise, second_data.masks, hard_dice, {"loss": dice},
           "jocpae/clDice/issues/21", "rounded before the loss", "adam(lr=0.01)"),
    faulty("layers in a dictionary", "unregistered-parameters", partial(Apart, "dictionary"), data.digits,
           cross_entropy, {"build": partial(Apart, "known")}, "pytorch/pytorch/issues/632", "", "adam(lr=0.01)"),
    faulty("layer made at every call", "unregistered-parameters", partial(Apart, "made anew"), data.digits,
           cross_entropy, {"build": partial(Apart, "known")}, "pytorch/pytorch/issues/1291",
           "a new random layer each time", "adam(lr=0.01)"),
    faulty("words resized too late", "forgotten-parameters", partial(late, True), data.sentences, cross_entropy,
           {"build": partial(late, False)}, "meta-pytorch/opacus/issues/432", "the optimizer holds the old table",
           "adam(lr=0.02)"),
    faulty("mean of what has none", "misplaced-norm collapsed-inputs", partial(averaged, nn.InstanceNorm2d), images,
           cross_entropy, {"build": partial(averaged, nn.BatchNorm2d)}, "commonplace",
           "an instance norm leaves each channel a mean of 0, which is all that is kept", "adam(lr=0.01)"),
    faulty("words dropped", "heavy-dropout", partial(Sequence, nn.GRU, 3, 50, 0.97), data.sentences, cross_entropy,
           {"build": partial(Sequence, nn.GRU, 3, 50, 0.03)}, "commonplace", "share kept as share dropped",
           "adam(lr=0.01)"),
)  # fmt: skip
DATA = (
    faulty("scaled twice", "unscaled-inputs vanishing-signal", SMALL, twice_scaled, cross_entropy,
           {"data": data.digits}, "IIC2433/Syllabus-2021-2/issues/32", "pixels of .00001", "sgd(lr=0.1)"),
    faulty("logarithm of zero", "non-finite-inputs", SMALL, partial(logarithms, 0.0), cross_entropy,
           {"data": partial(logarithms, 0.1)}, "summerlvsong/Aggregation-Cross-Entropy/issues/2", "half are -inf"),
    faulty("adam at 1", "learning-rate-too-large", partial(Sequence, nn.RNN, 10),
           partial(data.digits, (16, 4)), cross_entropy, {"optimizer": "adam(lr=0.01)"},
           "OpenNMT/OpenNMT-py/issues/805", "the default of another optimizer", "adam(lr=1.0)"),
    faulty("sgd at .000002", "learning-rate-too-small", partial(mlp, (6, 32, 10, 5, 1)), data.houses, mean_squared,
           {"optimizer": "sgd(lr=0.05, momentum=0.9)"}, "apache/mxnet/issues/1546", "",
           "sgd(lr=0.000002, momentum=0.9)"),
    faulty("steps too long for convolutions", "learning-rate-too-large oscillation divergence",
           partial(deep_convolutions, None, 4), images, cross_entropy, {"optimizer": "sgd(lr=0.02, momentum=0.9)"},
           "https://datascience.stackexchange.com/questions/28481/reason-for-having-both-low-loss-and-same-predicted-class",
           "", "sgd(lr=1.5, momentum=0.9)"),
)  # fmt: skip
CASES = (*PARAMETERS, *OUTPUTS, *FLOW, *DATA)
