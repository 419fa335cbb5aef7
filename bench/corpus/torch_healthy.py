"""PyTorch networks that train well, many of which look as if something were wrong."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import Case, data
from corpus.torch_networks import (
    Bag,
    Encoder,
    Experts,
    Halved,
    Language,
    Logarithm,
    Make,
    Named,
    Pair,
    Recurrent,
    Stacked,
    UNet,
    adapted,
    changed,
    convolutional,
    depthwise,
    equal_rows,
    mlp,
    normed,
    pretrained,
    prior,
    remembering,
    residual,
    sine_network,
    zero_head,
)

__all__ = ["CASES", "cross_entropy", "images", "mean_squared", "rows", "with_logits"]


def named_loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs["scores"], targets)


def first_loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs[0], targets)


def one_hot_columns() -> tuple[Any, Any]:
    """Sentences as counts of words."""
    rows, labels = data.sentences()
    counts = functional.one_hot(torch.from_numpy(rows), 50).sum(1).float()
    return counts.numpy(), labels


def small_or_large() -> tuple[Any, Any]:
    x, labels = data.digits()
    return x, labels // 5


def positive() -> tuple[Any, Any]:
    x, y = data.waves()
    return x, y + 2


cross_entropy, with_logits = functional.cross_entropy, functional.binary_cross_entropy_with_logits
mean_squared = functional.mse_loss
images = partial(data.digits, (1, 8, 8))
rows = partial(data.digits, (8, 8))


def healthy(name: str, build: Make, batch: Callable[[], Any], loss: Callable[..., Tensor],
            note: str = "", optimizer: str = "adam(lr=0.003)") -> Case:  # fmt: skip
    return Case(name, "torch", build, batch, loss, optimizer, note=note)


CASES = (
    healthy("relu mlp", partial(mlp, (64, 64, 64, 10)), data.digits, cross_entropy),
    healthy("inputs from 0 to 1", partial(mlp, (64, 64, 64, 10)), partial(data.digits, scale="unit"), cross_entropy),
    healthy("pixels behind a norm", lambda: nn.Sequential(nn.BatchNorm1d(64), *mlp((64, 64, 10))),
            partial(data.digits, scale="pixels"), cross_entropy, "inputs from 0 to 255, standardised inside"),
    healthy("counts of words", partial(mlp, (50, 32, 3)), one_hot_columns, cross_entropy, "inputs mostly zero"),
    healthy("convolutions, batch norm", convolutional, images, cross_entropy),
    healthy("convolutions", partial(convolutional, norm=False), images, cross_entropy),
    healthy("residual, zero norm last", partial(residual, True), images, cross_entropy, "a norm's scale starts at 0"),
    healthy("residual, zero branch", partial(residual, False), images, cross_entropy, "branches start at 0, no norm"),
    healthy("depthwise convolutions", depthwise, images, cross_entropy, "two linear layers in a row"),
    healthy("transformer, pre-norm", Encoder, rows, cross_entropy, "position embeddings start at 0"),
    healthy("transformer, equal layers", Stacked, rows, cross_entropy, "all layers start as copies of one"),
    healthy("gru", partial(Recurrent, nn.GRU), rows, cross_entropy),
    healthy("lstm, forget gate open", remembering, data.sentences, cross_entropy),
    healthy("bag of words, padding", Bag, partial(data.sentences, padding=True), cross_entropy, "a row of zeros"),
    healthy("equal words, adam", changed(Bag, equal_rows, "words"), data.sentences, cross_entropy,
            "one vector for all words, which their own gradients part"),
    healthy("siamese", Pair, data.pairs, with_logits, "one tower used twice"),
    healthy("unet", UNet, data.squares, cross_entropy, optimizer="adam(lr=0.01)"),
    healthy("autoencoder, sigmoid", partial(mlp, (64, 48, 16, 48, 64), last=nn.Sigmoid()), data.copies,
            functional.binary_cross_entropy, "targets between 0 and 1"),
    healthy("autoencoder, linear bottleneck", partial(mlp, (64, 12, 64), nn.Identity),
            partial(data.copies, scale="unit"), mean_squared, "two linear layers in a row on purpose"),
    healthy("autoencoder, tanh output", partial(mlp, (64, 64, 24, 64, 64), last=nn.Tanh()),
            partial(data.copies, low=-1.0), mean_squared, "targets from -1 to 1"),
    healthy("zero head", zero_head, data.digits, cross_entropy, "the last layer starts at 0"),
    healthy("adapters at zero", adapted, small_or_large, cross_entropy, "all but small products frozen"),
    healthy("frozen backbone, new head", partial(pretrained, True), data.digits, cross_entropy,
            "all but the head frozen",
            "adam(lr=0.01)"),
    healthy("pretrained, new head", partial(pretrained, False), data.digits, cross_entropy, "weights of no known law"),
    healthy("linear regression", partial(nn.Linear, 6, 1), data.houses, mean_squared, "no hidden layer",
            "sgd(lr=0.1)"),
    healthy("logistic regression at zero", partial(zero_head, 0), data.digits, cross_entropy, "all weights start at 0",
            "adam(lr=0.01)"),
    healthy("regression", partial(mlp, (6, 48, 48, 1)), data.houses, mean_squared),
    healthy("regression without columns", lambda: nn.Sequential(mlp((6, 48, 1)), nn.Flatten(0)),
            partial(data.houses, column=False), mean_squared, "outputs and targets of shape (n,)"),
    healthy("positive output", partial(mlp, (1, 64, 64, 1), nn.Tanh, nn.Softplus()), positive, mean_squared,
            "an activation on the output that fits the targets", "adam(lr=0.01)"),
    healthy("logits with their loss", partial(mlp, (64, 48, 1)), data.parity, with_logits),
    healthy("softmax, then log", lambda: mlp((64, 48, 10), last=nn.Sequential(nn.Softmax(1), Logarithm())), data.digits,
            functional.nll_loss, "probabilities made into what the loss takes"),
    healthy("log softmax, then cross entropy", partial(mlp, (64, 48, 10), last=nn.LogSoftmax(1)), data.digits,
            cross_entropy, "the loss's own log softmax changes nothing"),
    healthy("sigmoid with its loss", partial(mlp, (64, 48, 1), last=nn.Sigmoid()), data.parity,
            functional.binary_cross_entropy),
    healthy("rare class, prior as bias", prior, data.imbalanced, with_logits, "outputs start far from 0"),
    healthy("low-rank layers", lambda: nn.Sequential(nn.Linear(64, 16, bias=False), nn.Linear(16, 64), nn.ReLU(),
            nn.Linear(64, 16, bias=False), nn.Linear(16, 10)), data.digits, cross_entropy,
            "two linear layers in a row"),
    healthy("selu", partial(mlp, (20, *[48] * 6, 4), nn.SELU), data.blobs, cross_entropy),
    healthy("gelu", partial(mlp, (20, 48, 48, 4), nn.GELU), data.blobs, cross_entropy),
    healthy("silu", partial(mlp, (64, 48, 48, 10), nn.SiLU), data.digits, cross_entropy),
    healthy("tanh", partial(mlp, (2, 32, 32, 2), nn.Tanh), data.moons, cross_entropy),
    healthy("sine network", sine_network, data.waves, mean_squared, "small weights, sines of frequency 30"),
    healthy("mixture of experts", Experts, data.digits, cross_entropy),
    healthy("returns a mapping", partial(Named, True), data.digits, named_loss),
    healthy("returns a pair", partial(Named, False), data.digits, first_loss),
    healthy("bfloat16", Halved, data.digits, cross_entropy),
    healthy("weight norm", partial(normed, nn.utils.parametrizations.weight_norm), data.digits, cross_entropy),
    healthy("spectral norm", partial(normed, nn.utils.parametrizations.spectral_norm), data.digits, cross_entropy,
            optimizer="adam(lr=0.01)"),
    healthy("very wide", partial(mlp, (64, 2048, 10)), data.digits, cross_entropy, optimizer="adam(lr=0.001)"),
    healthy("very narrow", partial(mlp, (20, *[6] * 4, 4), nn.Tanh), data.blobs, cross_entropy,
            optimizer="adam(lr=0.02)"),
    healthy("momentum", partial(mlp, (64, 64, 64, 10)), data.digits, cross_entropy,
            optimizer="sgd(lr=0.05, momentum=0.9)"),
    healthy("half dropped", lambda: nn.Sequential(*mlp((64, 128)), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
            data.digits, cross_entropy, "dropout of one half"),
    healthy("tied words", Language, data.story, cross_entropy, "one table reads words and writes scores"),
)  # fmt: skip
