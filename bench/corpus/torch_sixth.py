"""PyTorch networks, the faulty and the healthy: a sixth gathering, by someone who had the list of checks alone."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from corpus import data, makers, second_data, third_data
from corpus import torch_fourth_networks as fourth
from corpus import torch_sixth_networks as networks
from corpus import torch_sixth_unusual as unusual
from corpus.torch_networks import mlp

__all__ = ["CASES"]

cross_entropy, mean_squared = functional.cross_entropy, functional.mse_loss
with_logits = functional.binary_cross_entropy_with_logits
images = partial(data.digits, (1, 8, 8))
rows = partial(data.digits, (8, 8))


def two_spots() -> tuple[Any, Any]:
    """Pictures with a spot on the left and one on the right, each bright or dark, and whether both are alike."""
    rng = np.random.default_rng(70)
    sides = rng.choice([-1.0, 1.0], (160, 2))
    x = 0.05 * rng.normal(size=(160, 1, 8, 8))
    for picture, (left, right) in zip(x, sides, strict=True):
        top = rng.integers(2, 4, 2)
        picture[0, top[0] : top[0] + 3, 0:3] += 2 * left
        picture[0, top[1] : top[1] + 3, 5:8] += 2 * right
    return x.astype(np.float32), (sides[:, 0] == sides[:, 1]).astype(np.int64)


def returns() -> tuple[Any, Any]:
    """States and the sums of what follows, from about -12 to 12."""
    x, worth = second_data.actions()
    return x, 4 * worth[:, 2:]


def recordings() -> tuple[Any, Any]:
    """Waves of one of three pitches; every twentieth recording is silence."""
    rng = np.random.default_rng(71)
    labels = rng.integers(0, 3, 120)
    pitch, phase = np.array([0.3, 0.8, 1.6])[labels][:, None], rng.uniform(0, 6.3, (120, 1))
    x = np.sin(pitch * np.arange(40) + phase) * rng.uniform(0.5, 1.5, (120, 1)) + 0.1 * rng.normal(size=(120, 40))
    x[::20] = 0.0
    return x[..., None].astype(np.float32), labels.astype(np.int64)


def related() -> tuple[Any, Any]:
    """Eight features, which of four relations, and a value that each relation tells otherwise."""
    rng = np.random.default_rng(72)
    x, relation = rng.normal(size=(192, 8)), rng.integers(0, 4, 192)
    y = np.tanh((x * rng.normal(size=(4, 8))[relation]).sum(1) / 2)
    return (x.astype(np.float32), relation), y.astype(np.float32)[:, None]


def domains() -> tuple[Any, Any]:
    """Four features, which of four shops, and a value: in two shops what is good elsewhere is bad."""
    rng = np.random.default_rng(73)
    x, domain = rng.normal(size=(192, 4)), rng.integers(0, 4, 192)
    y = np.where(domain % 2 == 0, 1, -1) * np.where(domain < 2, x[:, 0] + x[:, 1], x[:, 2] - x[:, 3]) / 1.4
    return (x.astype(np.float32), domain), y.astype(np.float32)[:, None]


def surveyed(raw: bool) -> tuple[Any, Any]:
    """`second_data.points` as a surveyor has them, in metres of a map, or about their own middle."""
    x, labels = second_data.points()
    return (x * 12 + np.array([4512.0, 8230.0])).astype(np.float32) if raw else x, labels


def readings() -> tuple[Any, Any]:
    """`data.houses` about 50."""
    x, y = data.houses()
    return x, y + 50


def molecules(hartree: bool) -> tuple[Any, Any]:
    """Atoms of 5 kinds, filled up with zeros, and the energy of them all: about -400, or standardised."""
    rng = np.random.default_rng(74)
    z = rng.choice([1, 2, 3, 4, 5], (160, 16), p=[0.5, 0.3, 0.08, 0.1, 0.02])
    z = np.where(np.arange(16) < rng.integers(11, 17, (160, 1)), z, 0)
    y = np.array([0.0, -0.5, -37.8, -54.6, -75.1, -99.7])[z].sum(1) - 0.1 * (z == 1).sum(1) * (z == 2).sum(1)
    if not hartree:
        y = (y - y.mean()) / y.std()
    return z.astype(np.int64), y.astype(np.float32)[:, None]


def rolled(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Digits, each called by the next one's name."""
    x, y = data.digits(shape)
    return x, (y + 1) % 10


def people() -> tuple[Any, Any]:
    """Three categories, five numbers of which one is the same for all, and whether they stay: one in five leaves."""
    rng = np.random.default_rng(75)
    categories = np.stack([rng.integers(0, size, 192) for size in (7, 4, 12)], 1)
    numbers = rng.normal(size=(192, 5)) * [1, 10, 1, 0, 3] + [0, 40, 0, 1, 5]
    score = numbers[:, 0] + np.array([-1.5, 0, 1, 2])[categories[:, 1]] - 0.1 * (numbers[:, 1] - 40)
    leaves = score > np.quantile(score, 0.8)
    return (categories, numbers.astype(np.float32)), leaves.astype(np.float32)[:, None]


def uneven() -> tuple[Any, Any]:
    """Digits of which seven in ten are noughts and ones."""
    x, labels = data.digits(count=400)
    kept = np.flatnonzero((labels < 2) | (np.arange(400) % 9 == 0))
    return x[kept], labels[kept]


def copied_words(words: int = 12, length: int = 6) -> tuple[Any, Any]:
    """Sentences with the translation moved by one, and the translation: word for word."""
    rng = np.random.default_rng(76)
    source = rng.integers(0, words, (160, length))
    target = rng.permutation(words)[source]
    before = np.concatenate([np.full((160, 1), words), target[:, :-1]], 1)
    return (source, before), target


def critic(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """Squares of the worth, and a little for actions that are not all one."""
    value, logits = outputs
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    return mean_squared(value, targets) - 0.01 * entropy


def focal(outputs: Tensor, targets: Tensor, twice: bool, gamma: float = 2.0) -> Tensor:
    """Focal loss; `twice` takes the sigmoid before what takes it."""
    inputs = torch.sigmoid(outputs) if twice else outputs
    bce = with_logits(inputs, targets, reduction="none")
    return ((1 - torch.exp(-bce)) ** gamma * bce).mean()


def dice(outputs: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """How well two masks agree, 1 at best."""
    both = (outputs.view(-1) * targets.view(-1)).sum()
    return (2.0 * both + smooth) / (outputs.sum() + targets.sum() + smooth)


def dice_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - dice(outputs, targets)


def elbo(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    picture, mu, logvar = outputs
    likely = functional.binary_cross_entropy(picture, targets, reduction="none").sum(1)
    return (likely - 0.05 * (1 + logvar - mu**2 - logvar.exp()).sum(1)).mean()


def language(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs.flatten(0, 1), targets.flatten())


def weighed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Classes by how rare they are."""
    counts = torch.bincount(targets, minlength=10).clamp(min=1)
    return cross_entropy(outputs, targets, weight=len(targets) / (10.0 * counts))


def both_heads(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    return cross_entropy(outputs["logits"], targets) + 0.3 * cross_entropy(outputs["probe"], targets)


faulty, healthy = makers("torch", "adam(lr=0.003)")


FAULTY = (
    faulty("convolutions in a row", "linear-stack", partial(networks.ConvEncoder, False), two_spots, cross_entropy,
           {"build": partial(networks.ConvEncoder, True)}, "facebookresearch/RTFM/pull/2",
           "no activation after any convolution"),
    faulty("a critic that ends in tanh", "targets-out-of-range output-activation", partial(networks.ActorCritic, True),
           returns, critic, {"build": partial(networks.ActorCritic, False)}, "LuEE-C/PPO-Keras/issues/13",
           "returns from -12 to 12, worths from -1 to 1", "adam(lr=0.01)"),
    faulty("a sigmoid inside the focal loss", "double-softmax", partial(mlp, (64, 48, 1)), data.imbalanced,
           partial(focal, twice=True), {"loss": partial(focal, twice=False)}, "itakurah/focal-loss-pytorch/pull/5",
           "and another inside the loss that it calls", "sgd(lr=0.5, momentum=0.9)"),
    faulty("tokens that see other examples", "mixed-examples collapsed-inputs",
           partial(networks.TokenClassifier, False), second_data.needle, cross_entropy,
           {"build": partial(networks.TokenClassifier, True)}, "DaoyuanLi2816/Molecule-Generator/pull/22",
           "batch_first left out: the class token looks at the other class tokens"),
    faulty("agreement made small", "wrong-loss divergence", networks.mask_net, second_data.masks, dice,
           {"loss": dice_loss}, "akirasosa/mobile-semantic-segmentation/issues/24", "dice, not one less dice",
           "adam(lr=0.01)"),
    faulty("spread of a silence", "non-finite-signal exploding-gradient", partial(networks.StatsPooling, 0.0),
           recordings, cross_entropy, {"build": partial(networks.StatsPooling, 1e-5)}, "pytorch/pytorch/issues/4320",
           "the root has no derivative where all are alike", "adam(lr=0.005)"),
    faulty("experts of one seed", "repeated-weights identical-units", partial(networks.Ensemble, False),
           data.waves, mean_squared, {"build": partial(networks.Ensemble, True)}, "laekov/fastmoe/pull/4",
           "sixteen times the same two units", "adam(lr=0.03)"),
    faulty("a decoder without optimizer", "forgotten-parameters", partial(networks.shared_vae, False), data.copies,
           elbo, {"build": partial(networks.shared_vae, True)}, "zdebruine/MMVAE/issues/39",
           "only the encoder's parameters were handed over"),
    faulty("weights in a dict", "unregistered-parameters", partial(networks.RelationNet, False), related, mean_squared,
           {"build": partial(networks.RelationNet, True)}, "pytorch/pytorch/issues/10817",
           "parameters of each relation in a plain dict", "adam(lr=0.02)"),
    faulty("points on a map", "unscaled-inputs", networks.PointNet, partial(surveyed, True), cross_entropy,
           {"data": partial(surveyed, False)}, "chenzhaiyu/polygnn/issues/25",
           "shapes of 24 metres, thousands of metres from the origin", "adam(lr=0.005)"),
    faulty("heads that were never reset", "uninitialised-weights weights-too-large non-finite-weights",
           partial(networks.HeadwiseNet, False), data.digits, cross_entropy,
           {"build": partial(networks.HeadwiseNet, True)}, "NX-AI/tirex/issues/21", "torch.empty and nothing more",
           "sgd(lr=0.1, momentum=0.9)"),
    faulty("logits by their data", "gradient-blocked", partial(networks.CaptionDecoder, False), data.story, language,
           {"build": partial(networks.CaptionDecoder, True)}, "facebookresearch/inversecooking/issues/3",
           "torch.stack(...).data", "adam(lr=0.01)"),
    faulty("a gate of rectified nothing", "zero-weights dead-units gradient-blocked",
           partial(networks.DomainGate, True), domains, mean_squared, {"build": partial(networks.DomainGate, False)},
           "mrchor/HiNet/issues/1", "vectors of zeros, and a ReLU that has no slope at zero", "adam(lr=0.02)"),
    faulty("fifty degrees away", "imbalanced-start unscaled-targets", partial(networks.Thermometer, 0.0), readings,
           mean_squared, {"build": partial(networks.Thermometer, 50.0)},
           "SebChw/Actually-Robust-Training/issues/194", "targets 50 +- 1, the last bias at 0", "adam(lr=0.001)"),
    faulty("energies in hartree", "unscaled-targets imbalanced-start", networks.MoleculeNet, partial(molecules, True),
           functional.l1_loss, {"data": partial(molecules, False)}, "pyg-team/pytorch_geometric/issues/1550",
           "targets about -400", "adam(lr=0.001)"),
    faulty("a transformer one number wide", "misplaced-norm collapsed-inputs", partial(networks.Univariate, 1),
           second_data.series, mean_squared, {"build": partial(networks.Univariate, 16)},
           "pytorch/pytorch/pull/12968", "layer norms of a single feature"),
    faulty("a block that returns its input", "unused-parameters linear-stack", partial(networks.SequenceModel, False),
           second_data.needle, cross_entropy, {"build": partial(networks.SequenceModel, True)},
           "state-spaces/s4/pull/30", "the layer's result is kept under another name", "adam(lr=0.01)"),
    faulty("attention not divided", "exploding-signal exploding-gradient",
           partial(networks.LinearAttentionNet, False), partial(second_data.needle, 40), cross_entropy,
           {"build": partial(networks.LinearAttentionNet, True)}, "lucidrains/performer-pytorch/issues/9",
           "sums over 40 tokens, layer after layer"),
    faulty("vectors loaded and kept", "frozen-parameters", networks.Factorised, second_data.ratings, mean_squared,
           {"build": partial(networks.Factorised, freeze=False)}, "RUCAIBox/RecBole/issues/2027",
           "from_pretrained freezes; only biases are trained", "adam(lr=0.03)"),
    faulty("a config made for SGD", "learning-rate-too-large divergence oscillation", networks.TransformerLM,
           data.story, language, {"optimizer": "adam(lr=0.003)"}, "rajveermalviya/language-modeling/issues/3",
           "Adam at 1", "adam(lr=1.0)"),
    faulty("a LeNet of sigmoids", "vanishing-gradient collapsed-inputs vanishing-signal",
           partial(networks.LeNet, torch.nn.Sigmoid), images, cross_entropy,
           {"build": partial(networks.LeNet, torch.nn.ReLU)},
           "https://devgem.io/posts/troubleshooting-stagnant-training-metrics-in-lenet-model-training",
           "four sigmoids and the framework's own weights", "sgd(lr=0.1, momentum=0.9)"),
    faulty("a table times the root of its width", "weights-too-large exploding-signal exploding-gradient",
           partial(networks.GatedConvLM, 512**0.5), data.story, language,
           {"build": partial(networks.GatedConvLM, 1.0)}, "facebookresearch/fairseq/issues/47",
           "gated convolutions without norms", "sgd(lr=0.25, momentum=0.9)"),
)  # fmt: skip
HEALTHY = (
    healthy("a copy behind zero convolutions", unusual.controlled, partial(rolled, (1, 8, 8)), cross_entropy,
            "the trained network is frozen, what joins the copy to it is zero"),
    healthy("branches of a ten-thousandth", unusual.Scaled, rows, cross_entropy, "LayerScale"),
    healthy("packed sentences", unusual.Packed, partial(data.sentences, padding=True), cross_entropy,
            "several lengths", "adam(lr=0.01)"),
    healthy("categories beside numbers", unusual.Table, people, with_logits,
            "whole numbers and floats; one column is constant; tiny vectors", "adam(lr=0.01)"),
    healthy("one matrix there and back", unusual.TiedAutoencoder, third_data.copied, mean_squared, "tied weights",
            "adam(lr=0.01)"),
    healthy("kernels standardised on the way", unusual.standardised_convs, images, cross_entropy,
            "drawn with spread 10"),
    healthy("rare classes count more", partial(mlp, (64, 48, 10)), uneven, weighed, "seven in ten are two classes"),
    healthy("a norm behind the last layer", unusual.normed_logits, data.blobs, cross_entropy, "", "adam(lr=0.02)"),
    healthy("a question that starts at zero", unusual.ZeroQuery, second_data.needle, cross_entropy,
            "attention is even at first", "adam(lr=0.02)"),
    healthy("identity recurrence of ReLUs", unusual.IRNN, partial(data.digits, (16, 4), "unit"), cross_entropy,
            "sixteen steps, inputs from 0 to 1"),
    healthy("two of eight experts", unusual.SparseExperts, data.digits, cross_entropy,
            "most experts have no part in an example"),
    healthy("prompts before a frozen encoder", unusual.prompted, partial(rolled, (8, 8)), cross_entropy,
            "only prompts and the head learn", "adam(lr=0.01)"),
    healthy("word for word", unusual.Translator, copied_words, language, "two inputs, teacher forcing",
            "adam(lr=0.01)"),
    healthy("sums of ones over neighbours", unusual.GraphIsomorphism, fourth.graphs, cross_entropy,
            "all nodes come in alike; only links differ", "adam(lr=0.01)"),
    healthy("a probe of detached features", unusual.DetachedProbe, images, both_heads, "a mapping of two heads"),
    healthy("Fourier transforms for attention", unusual.FNet, data.sentences, cross_entropy, "complex inside"),
)  # fmt: skip
CASES = (*FAULTY, *HEALTHY)
