"""PyTorch networks that look odd and train: a third gathering, by someone who had not seen the doctor."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import Case, data, second_data, third_data
from corpus import torch_third_networks as networks
from corpus import torch_third_unusual as unusual
from corpus.torch_networks import Make, mlp

__all__ = ["CASES"]

cross_entropy, mean_squared = functional.cross_entropy, functional.mse_loss
images = partial(data.digits, (1, 8, 8))


def uneven() -> tuple[Any, Any]:
    """Digits, of which noughts and ones are five times as many as each other kind."""
    x, labels = data.digits(count=320)
    kept = np.flatnonzero((labels < 2) | (np.arange(320) % 5 == 0))
    return x[kept], labels[kept]


def few() -> tuple[Any, Any]:
    x, labels = images()
    return x[:4], labels[:4]


def bayesian_prior() -> nn.Module:
    """Class scores that start at the logarithm of a large share for two classes."""
    model = mlp((64, 48, 10))
    model[2].bias.data = torch.log(torch.tensor([0.28] * 2 + [0.055] * 8))
    return model


def healthy(name: str, build: Make, batch: Callable[[], Any], loss: Callable[..., Tensor], note: str = "",
            optimizer: str = "adam(lr=0.005)") -> Case:  # fmt: skip
    return Case(name, "torch", build, batch, loss, optimizer, note=note)


CASES = (
    healthy("channels weighed", unusual.Squeezed, images, cross_entropy, "hard sigmoids, ReLU up to 6"),
    healthy("turned attention", unusual.Rotary, data.story, cross_entropy, "no biases, words from N(0, .0004)"),
    healthy("mixture of three", unusual.Mixture, data.waves, unusual.mixture_loss, "four outputs, a custom loss",
            "adam(lr=0.01)"),
    healthy("weights from weights", unusual.Made, data.moons, cross_entropy, "a last layer of a tenth",
            "adam(lr=0.02)"),
    healthy("settles down", partial(networks.Iterated, 0.7), data.digits, cross_entropy, "one layer 30 times"),
    healthy("conditions let in by nothing", unusual.Conditioned, third_data.rewards, mean_squared,
            "all scales, shifts and gates start at 0", "adam(lr=0.01)"),
    healthy("codes with the gradient passed on", partial(networks.Quantised, True), data.digits,
            networks.quantised_loss, "an argmin in the middle", "adam(lr=0.01)"),
    healthy("three values for weights", lambda: nn.Sequential(unusual.Ternary(64, 64), nn.ReLU(),
            unusual.Ternary(64, 10)), data.digits, cross_entropy, "rounded weights, gradient passed on"),
    healthy("twelve small steps", unusual.Flow, data.moons, cross_entropy, "one layer pair, a hundredth at first",
            "adam(lr=0.02)"),
    healthy("bumps", unusual.Bumps, data.moons, cross_entropy, "fixed places, most features almost 0",
            "adam(lr=0.05)"),
    healthy("curvature of smooth lines", partial(networks.Curvature, nn.Tanh), third_data.bends, mean_squared,
            "the output is a second derivative", "adam(lr=0.01)"),
    healthy("long memory from the start", unusual.Chrono, partial(second_data.first_step, 15), cross_entropy,
            "input gates almost shut", "adam(lr=0.02)"),
    healthy("latents that look", unusual.Latents, second_data.needle, cross_entropy, "queries close to 0",
            "adam(lr=0.01)"),
    healthy("neighbours looked at", unusual.Attentive, second_data.community, cross_entropy, "-10^9 for all others",
            "adam(lr=0.02)"),
    healthy("only norms and the last layer", unusual.only_norms, data.digits, cross_entropy,
            "most weights are random and frozen", "adam(lr=0.02)"),
    healthy("each pixel from those before", unusual.autoregressive, third_data.copied, mean_squared,
            "half of the weights masked"),
    healthy("nine in ten pruned", unusual.pruned, data.digits, cross_entropy, "", "adam(lr=0.01)"),
    healthy("dollars inside", unusual.Dollars, partial(data.houses, raw_targets=True), mean_squared,
            "a loss of 10^10, the scale is in the network", "adam(lr=0.01)"),
    healthy("row numbers for labels", unusual.Towers, third_data.captions, cross_entropy,
            "as many classes as examples; cosines times 14"),
    healthy("gates over time", unusual.Waves, second_data.series, mean_squared, "", "adam(lr=0.01)"),
    healthy("slow decays", unusual.Decays, partial(second_data.first_step, 20), cross_entropy,
            "factors of almost 1", "adam(lr=0.01)"),
    healthy("layers left out", unusual.Sometimes, data.digits, cross_entropy, "half of all layers, at random"),
    healthy("soft tree", unusual.Tree, data.digits, cross_entropy, "all leaves alike at the start", "adam(lr=0.03)"),
    healthy("points at a token", unusual.Pointer, third_data.places, cross_entropy, "as many classes as tokens",
            "adam(lr=0.01)"),
    healthy("pressed together", unusual.Pressed, partial(data.houses, raw_inputs=True), mean_squared,
            "inputs up to 10^6, whose logarithm is taken inside", "adam(lr=0.01)"),
    healthy("uneven classes, prior as bias", bayesian_prior, uneven, cross_entropy, "two classes are most of it"),
    healthy("four pictures", lambda: nn.Sequential(nn.Conv2d(1, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Flatten(),
            nn.Linear(576, 10)), few, cross_entropy, "a tiny batch"),
    healthy("shares for labels", partial(mlp, (6, 48, 4)), third_data.mixtures,
            partial(functional.huber_loss, delta=0.1), "", "adam(lr=0.01)"),
)  # fmt: skip
