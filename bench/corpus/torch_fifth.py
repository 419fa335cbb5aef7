"""PyTorch networks, the faulty and the healthy: a fifth gathering, by someone who had the list of checks alone."""

from functools import partial
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import data, makers, second_data, third_data
from corpus import torch_fifth_networks as networks
from corpus import torch_fifth_unusual as unusual
from corpus.torch_networks import Pair, mlp

__all__ = ["CASES"]

FORUM = "https://discuss.pytorch.org/t/"
cross_entropy, mean_squared = functional.cross_entropy, functional.mse_loss
with_logits = functional.binary_cross_entropy_with_logits
images = partial(data.digits, (1, 8, 8))
rows = partial(data.digits, (8, 8))


def tags() -> tuple[Any, Any]:
    """Twenty features and which of six tags fit, each for about half of the rows."""
    rng = np.random.default_rng(60)
    x = rng.normal(size=(192, 20))
    return x.astype(np.float32), (x @ rng.normal(size=(20, 6)) > 0).astype(np.int64)


def flat_series() -> tuple[Any, Any]:
    """`second_data.series` without a column for the next value."""
    x, y = second_data.series()
    return x, y[:, 0]


def costs() -> tuple[Any, Any]:
    """What actions cost: never above zero."""
    x, y = second_data.actions()
    return x, y - 3.5


def same_pictures() -> tuple[Any, Any]:
    """Standardised digits to give back."""
    x, _ = images()
    return x, x


def odd_pictures() -> tuple[Any, Any]:
    x, odd = data.parity()
    return x.reshape(-1, 1, 8, 8), odd


def oscillator(milliseconds: bool) -> tuple[Any, Any]:
    """Times over five seconds, in milliseconds or standardised, and a damped swing."""
    seconds = np.linspace(0, 5, 160)[:, None]
    y = np.exp(-0.3 * seconds) * np.cos(2.0 * seconds)
    x = 1000 * seconds if milliseconds else (seconds - 2.5) / 1.45
    return x.astype(np.float32), y.astype(np.float32)


def cubes(raw: bool) -> tuple[Any, Any]:
    """Whole numbers and their cubes, as they are or standardised."""
    x = np.arange(1.0, 400.0)[:, None]
    y = x**3
    if not raw:
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    return x.astype(np.float32), y.astype(np.float32)


def table() -> tuple[Any, Any]:
    """Seven features from 0 to 1 and two classes, sixty rows."""
    rng = np.random.default_rng(61)
    x = rng.uniform(0, 1, (60, 7))
    label = x[:, 0] + x[:, 3] - x[:, 5] + 0.2 * np.sin(6 * x[:, 1])
    return x.astype(np.float32), (label > np.median(label)).astype(np.int64)


def lonely() -> Tensor:
    """Links of `second_data.community` without own ones; two nodes have none at all."""
    links = third_data.links()
    links = links * (1 - np.eye(len(links), dtype=np.float32))
    links[[4, 33]] = 0
    links[:, [4, 33]] = 0
    return torch.from_numpy(links)


def rolled() -> tuple[Any, Any]:
    """Digits, each called by the next one's name."""
    x, y = data.digits()
    return x, (y + 1) % 10


def few_series() -> tuple[Any, Any]:
    x, following = second_data.series()
    return x[:12], following[:12]


def language(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of words in the last axis."""
    return cross_entropy(outputs.view(-1, outputs.size(-1)), targets.reshape(-1))


def tagging(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy(outputs, targets.float())


def evidence(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    picture, mu, logvar = outputs
    likely = functional.binary_cross_entropy(picture, targets, reduction="sum")
    divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (likely + 0.2 * divergence) / len(targets)


def gaussian(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    mean, log_var = outputs
    return 0.5 * (log_var + (targets - mean) ** 2 * torch.exp(-log_var)).mean()


def weighed(outputs: Tensor, targets: Tensor) -> Tensor:
    return with_logits(outputs, targets, pos_weight=torch.tensor(4.0))


class LoRALinear(nn.Module):
    """A frozen layer and a correction of low rank, of which one factor starts at zero, or both."""

    def __init__(self, base: nn.Linear, rank: int, zero_both: bool) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.zeros(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        if not zero_both:
            nn.init.kaiming_uniform_(self.lora_A, a=sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2.0 * (x @ self.lora_A.t() @ self.lora_B.t())


def adapted(zero_both: bool) -> nn.Module:
    """Trained on digits, then frozen but for corrections of low rank."""
    model = unusual.pretrain(mlp((64, 64, 10)), 80)
    for index in (0, 2):
        model[index] = LoRALinear(model[index], 8, zero_both)
    return model


class ClippedLinear(nn.Linear):
    """A linear layer whose weights are kept small on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.clamp(-1, 1), self.bias)


def replace_linear(model: nn.Module) -> None:
    """Exchange every linear layer, however deep it lies, for a new clipped one."""
    for name, child in model.named_children():
        if type(child) is nn.Linear:
            setattr(model, name, ClippedLinear(child.in_features, child.out_features))
        else:
            replace_linear(child)


def clipped(optimizer_last: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Linear layers exchanged before or after the optimizer was told of them."""
    model = nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48), nn.BatchNorm1d(48),
                          nn.ReLU(), nn.Linear(48, 10))  # fmt: skip
    if optimizer_last:
        replace_linear(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    if not optimizer_last:
        replace_linear(model)
    return model, optimizer


faulty, healthy = makers("torch", "adam(lr=0.003)")


FAULTY = (
    faulty("head tied to a table of spread 1", "tied-scale weights-too-large", partial(unusual.MiniGPT, None, True),
           data.story, language, {"build": partial(unusual.MiniGPT, 0.125, True)}, "jsboige/CoursIA/pull/12768",
           "nn.Embedding is N(0, 1), times the root of the width; as a head its logits have a spread of 8",
           "adam(lr=0.0003)"),
    faulty("rows read across the batch", "mixed-examples", partial(networks.RowLSTM, False), rows, cross_entropy,
           {"build": partial(networks.RowLSTM, True)}, "yunjey/pytorch-tutorial/issues/196",
           "without batch_first; the last pixel row of each picture decides", "sgd(lr=0.5)"),
    faulty("attention whose weights are all one", "one-unit-softmax softmax-axis gradient-blocked",
           partial(networks.AttentionPool, -1), second_data.needle, cross_entropy,
           {"build": partial(networks.AttentionPool, 1)}, "DEEP-PolyU/KEQA_WSDM19/issues/2",
           "softmax over the axis of size one", "adam(lr=0.01)"),
    faulty("likelihood of probabilities", "wrong-loss output-activation logits-into-probabilities",
           partial(networks.TextTransformer, nn.Softmax(1)), data.sentences, functional.nll_loss,
           {"build": partial(networks.TextTransformer, nn.LogSoftmax(1))},
           "AnubhavGupta3377/Text-Classification-Models-Pytorch/issues/9",
           "nll_loss after softmax, without the logarithm", "sgd(lr=0.01)"),
    faulty("six tags that share one", "output-activation wrong-loss targets-out-of-range",
           partial(networks.Tagger, True), tags, tagging, {"build": partial(networks.Tagger, False)},
           "https://errorhandle.ai/multilabel-classification-converges-to-all-zeroes",
           "softmax where several tags can fit"),
    faulty("probabilities for logits", "double-softmax output-activation", partial(networks.DigitCNN, True), images,
           cross_entropy, {"build": partial(networks.DigitCNN, False)},
           "https://datarekha.com/interview/deep-learning/debugging-model-not-learning/", "softmax and cross_entropy",
           "sgd(lr=0.05, momentum=0.9)"),
    faulty("a column less a row", "broadcast-loss", unusual.Forecaster, flat_series, mean_squared,
           {"data": second_data.series},
           FORUM + "output-of-the-model-depends-on-the-shape-of-the-weights-tensor/148155", "(160, 1) less (160,)",
           "adam(lr=0.01)"),
    faulty("correction of nothing times nothing", "zero-weights gradient-blocked", partial(adapted, True), rolled,
           cross_entropy, {"build": partial(adapted, False)}, "Guitaricet/relora/issues/18",
           "both factors are zero; the rest is frozen on purpose", "adam(lr=0.01)"),
    faulty("heads in a list", "unregistered-parameters", partial(networks.Heads, False), second_data.needle,
           cross_entropy, {"build": partial(networks.Heads, True)},
           "https://www.engineermaxxing.com/micro/lessons/pytorch-internals.html",
           "a plain list of modules; only the last layer is trained", "adam(lr=0.01)"),
    faulty("attention of whatever memory held",
           "uninitialised-weights zero-weights non-finite-weights gradient-blocked",
           partial(networks.RawAttention, lambda weight: None), second_data.needle, cross_entropy,
           {"build": partial(networks.RawAttention, nn.init.xavier_uniform_)}, "openai/CLIP/issues/15",
           "torch.empty and no initialization", "adam(lr=0.01)"),
    faulty("all users alike in all ways", "identical-units repeated-weights", partial(networks.Factors, True),
           second_data.ratings, mean_squared, {"build": partial(networks.Factors, False)},
           "https://pages.dogdog.run/machine_learning/weight_initialization.html",
           "constant tables: the eight factors stay one", "adam(lr=0.03)"),
    faulty("costs from a ReLU", "output-activation targets-out-of-range dead-units", partial(networks.QNetwork, True),
           costs, mean_squared, {"build": partial(networks.QNetwork, False)},
           "https://exchangetuts.com/rl-activation-functions-with-negative-rewards-1641000183587267",
           "worths are below zero, outputs are not"),
    faulty("time in milliseconds", "unscaled-inputs saturated-units", networks.FCN, partial(oscillator, True),
           mean_squared, {"data": partial(oscillator, False)}, "NeuroDiffGym/neurodiffeq/issues/90",
           "tanh of 0 to 5000", "adam(lr=0.003)"),
    faulty("cubes as they are", "unscaled-targets unscaled-inputs", networks.CurveFit, partial(cubes, True),
           mean_squared, {"data": partial(cubes, False), "optimizer": "adam(lr=0.01)"},
           FORUM + "neural-network-could-not-learn-on-this-type-of-data-why/96648/5", "targets up to 6e7",
           "adam(lr=0.001)"),
    faulty("sixty steps ago", "vanishing-gradient collapsed-inputs vanishing-signal",
           partial(networks.LastStep, "rnn"), partial(second_data.first_step, 60), cross_entropy,
           {"build": partial(networks.LastStep, "lstm")}, "https://www.chenk.top/en/time-series/lstm/",
           "a plain recurrent layer; only the first step matters", "adam(lr=0.003)"),
    faulty("groups of one", "batch-norm-of-one misplaced-norm gradient-blocked collapsed-inputs vanishing-signal",
           partial(networks.PooledNorm, 32), images, cross_entropy, {"build": partial(networks.PooledNorm, 4)},
           "d2l-ai/d2l-en/issues/1722", "one channel at one place less its mean is zero", "adam(lr=0.01)"),
    faulty("steps of a ten-thousandth", "learning-rate-too-small", networks.CustomModel, table, cross_entropy,
           {"optimizer": "sgd(lr=0.3)"}, FORUM + "loss-not-converging-on-a-binary-classification-problem/177433",
           "plain SGD", "sgd(lr=0.0001)"),
    faulty("a detector's tower, narrow", "weights-too-small vanishing-signal vanishing-gradient collapsed-inputs",
           partial(networks.Subnet, False), second_data.masks, with_logits, {"build": partial(networks.Subnet, True)},
           "kuangliu/pytorch-retinanet/issues/10", "spread 0.01 was meant for 256 channels",
           "sgd(lr=0.05, momentum=0.9)"),
    faulty("an activation never called", "linear-stack", partial(networks.Tabular, False), second_data.two_moons,
           with_logits, {"build": partial(networks.Tabular, True)}, "https://taourl.com/read-1959901.html",
           "norms and dropout, no ReLU", "adam(lr=0.01)"),
    faulty("a cell from randn", "weights-too-large saturated-units exploding-gradient exploding-signal",
           partial(networks.NaiveLSTM, 1.0), second_data.series, mean_squared,
           {"build": partial(networks.NaiveLSTM, 0.125)}, "TransformerLensOrg/TransformerLens/issues/518",
           "spread 1 for 64 units", "adam(lr=0.003)"),
    faulty("shares that sum to one over the batch", "softmax-axis", partial(networks.Composition, 0),
           third_data.mixtures, mean_squared, {"build": partial(networks.Composition, 1)},
           "ctallec/world-models/issues/10", "softmax(dim=0)", "adam(lr=0.01)"),
    faulty("layers exchanged behind the optimizer", "forgotten-parameters", partial(clipped, False), data.digits,
           cross_entropy, {"build": partial(clipped, True)}, "hustzxd/EfficientPyTorch/issues/1",
           "the optimizer has the old layers; of the new model only the norms"),
    faulty("standardised pictures from a sigmoid", "targets-out-of-range output-activation",
           partial(unusual.ConvAutoencoder, nn.Sigmoid()), same_pictures, mean_squared,
           {"build": partial(unusual.ConvAutoencoder, nn.Identity())}, "https://py4u.org/questions/63500337/",
           "targets from -0.8 to 1.9, outputs from 0 to 1"),
    faulty("the best token only", "gradient-blocked unused-parameters", partial(networks.Pick, False),
           second_data.needle, cross_entropy, {"build": partial(networks.Pick, True)},
           "https://www.codegenes.net/blog/pytorch-argmax-gradient", "argmax tells the scores nothing",
           "adam(lr=0.01)"),
    faulty("nodes without links", "non-finite-signal non-finite-weights", lambda: networks.GCN(lonely(), False),
           second_data.community, cross_entropy, {"build": lambda: networks.GCN(lonely(), True)},
           "aimat-lab/gcnn_keras/issues/42", "one over the root of zero links", "adam(lr=0.02)"),
)  # fmt: skip
HEALTHY = (
    healthy("transformer of pictures, all from zero", unusual.vit, images, cross_entropy,
            "branches and head are zero; AdamW"),
    healthy("post-norm encoder with a mask", unusual.Masked, partial(data.sentences, padding=True), cross_entropy,
            "padding is masked in attention and mean"),
    healthy("two-way LSTM, forget gates open", unusual.Sentiment, data.sentences, cross_entropy,
            "orthogonal gates, biases 0 and 1, padding_idx", "adam(lr=0.01)"),
    healthy("frozen backbone, head from zero", unusual.frozen_backbone, odd_pictures, with_logits,
            "only the head is meant to learn", "adam(lr=0.01)"),
    healthy("head tied to a small table", partial(unusual.MiniGPT, 0.02), data.story, language, "as GPT-2"),
    healthy("residual net, last norms zero", unusual.resnet, images, cross_entropy, "Nesterov and weight decay"),
    healthy("U-Net of group norms", unusual.SmallUNet, second_data.masks, weighed, "one pixel in ten; weighed",
            "adam(lr=0.01)"),
    healthy("digits renamed", unusual.tuned, rolled, cross_entropy, "trained weights; the old task's head",
            "sgd(lr=0.05, momentum=0.9)"),
    healthy("raw features behind a norm", unusual.normed_inputs, partial(data.houses, raw_inputs=True), mean_squared,
            "inputs from 1 to 1e6; RMSprop"),
    healthy("one in ten, told beforehand", unusual.rare, data.imbalanced, with_logits, "bias of the prior"),
    healthy("variational autoencoder", unusual.VAE, data.copies, evidence, "three outputs, sums over pixels",
            "adam(lr=0.005)"),
    healthy("pictures from a sigmoid", partial(unusual.ConvAutoencoder, nn.Sigmoid()),
            partial(data.copies, (1, 8, 8)), functional.binary_cross_entropy, "targets from 0 to 1", "adam(lr=0.01)"),
    healthy("mean and log variance", unusual.Heteroscedastic, data.houses, gaussian, "the second head is zero",
            "adam(lr=0.005)"),
    healthy("experts copied from one", unusual.upcycled, rolled, cross_entropy,
            "alike at first on purpose; the router tells them apart"),
    healthy("sines with their own law", unusual.siren, partial(oscillator, False), mean_squared,
            "omega 8, inputs about -1.7 to 1.7", "adam(lr=0.001)"),
    healthy("twelve series", unusual.Forecaster, few_series, mean_squared, "a small batch", "adam(lr=0.01)"),
    healthy("two pictures, one encoder", Pair, data.pairs, with_logits, "used twice"),
)  # fmt: skip
CASES = (*FAULTY, *HEALTHY)
