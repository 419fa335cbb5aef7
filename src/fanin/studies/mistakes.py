"""Starts that the texts warn of: zeros, constants, the wrong size, equal units, dead units, biases."""

from collections.abc import Mapping

import numpy as np

from fanin.experiments.results import Results
from fanin.studies.comparisons import POINTS, Training, Variant, points, trained
from fanin.studies.networks import (
    Array,
    Setting,
    accuracy,
    distinct_share,
    fit,
    forward,
    gradients,
    measured,
    silent_share,
    started,
)
from fanin.studies.records import Conditions, Contrast, Designed, Evidence, Study
from fanin.studies.sources import ARTICLE, ASSIGNMENT, NOTES, OWN

__all__ = ["MISTAKES"]

_GOOD = "glorot_normal"
_WRONG = {
    "zeros": "zero",
    "constant(value=0.5)": "a constant",
    "random_normal(stddev=0.001)": "too small",
    "random_normal(stddev=1.0)": "too large",
}
_UNITS = "% of the hidden units"
_VALUES = "% of the last hidden layer's values"
_DECADES = "decades (powers of 10)"
_GRADIENTS = "% of the first layer's gradients that are exactly 0"
_SATURATED = 0.97
_LOOKED_AT = 256
Found = Mapping[str, Mapping[str, Array]]


def _rounded(found: Found) -> dict[str, dict[str, list[float]]]:
    """To five digits, however small the numbers are."""
    return {arm: {name: [float(f"{x:.5g}") for x in v] for name, v in each.items()} for arm, each in found.items()}


def _first_pass(setting: Setting, init: str, seed: int) -> dict[str, float]:
    """Signal, gradient, saturation and symmetry at the start by layer, and the accuracy after training."""
    task, net = setting.data, started(setting, init, seed)
    x, y = task.x_train[:_LOOKED_AT], task.y_train[:_LOOKED_AT]
    before, back = forward(net, x)[0], gradients(net, x, y)[2]
    layers = {}
    for i, (z, g) in enumerate(zip(before[:-1], back, strict=False), 1):
        layers[f"signal {i}"] = float(np.sqrt(np.mean(z**2)))
        layers[f"gradient {i}"] = float(np.sqrt(np.mean(g**2)))
        layers[f"no gradient {i}"] = 100 * float(np.mean(g == 0))
        layers[f"saturated {i}"] = 100 * float(np.mean(np.abs(np.tanh(z)) > _SATURATED))
    end = fit(net, task, setting, seed)
    return {**layers, "distinct": distinct_share(net), "accuracy": accuracy(end, task.x_test, task.y_test)}


def _four_mistakes(setting: Setting, conditions: Conditions) -> Evidence:
    found = measured(conditions, (_GOOD, *_WRONG), lambda init, seed: _first_pass(setting, init, seed))
    good, last = found[_GOOD], len(setting.widths)
    zero, constant, small, large = (found[init] for init in _WRONG)
    first, none, signal, saturated = "gradient 1", "no gradient 1", f"signal {last}", f"saturated {last}"

    def beside(claim: str, difference: Array, margin: float, unit: str) -> Contrast:
        return Contrast(claim, NOTES, "more", difference, margin, unit, main=False)

    def shrunk(name: str) -> Array:
        """By how many powers of ten a size of weights too small is below that of good ones."""
        return np.log10(good[name]) - np.log10(small[name])

    return Evidence(
        (
            *(
                Contrast(f"A start that is {word} costs test accuracy.", NOTES, "more",
                         good["accuracy"] - found[init]["accuracy"], 1.0, POINTS)
                for init, word in _WRONG.items()
            ),
            beside("Zeros let no gradient reach the first layer.", zero[none] - good[none], 50.0, _GRADIENTS),
            beside("A constant makes the units of a layer equal.", good["distinct"] - constant["distinct"], 50.0,
                   _UNITS),
            beside("Weights too small let the signal vanish.", shrunk(signal), 1.0, _DECADES),
            beside("Weights too small let the gradient vanish.", shrunk(first), 1.0, _DECADES),
            beside("Weights too large saturate tanh.", large[saturated] - good[saturated], 20.0, _VALUES),
        ),
        _rounded(found),
    )  # fmt: skip


def _lines(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    linear, deep = outcomes["linear"], outcomes["network"]
    straight = points(linear, "glorot_uniform")
    return (
        *(
            Contrast(f"A linear model is better than a {each} network that starts at zero.", NOTES, "more",
                     straight - points(deep, "zeros", each), 1.0, POINTS)
            for each in ("relu", "sigmoid")
        ),
        Contrast("A linear model itself may start at zero.", OWN, "same",
                 points(linear, "zeros") - straight, 1.0, POINTS, main=False),
    )  # fmt: skip


_LINE_QUICK = (
    Training("linear", ("zeros", "glorot_uniform"), Variant(()), ("linear",), epochs=20),
    Training("network", ("zeros",), Variant((64, 64)), ("relu", "sigmoid"), epochs=20),
)
_LINE_FULL = tuple(
    Training(each.name, each.init, each.model, each.activation, task="mnist", epochs=5, batch_size=64)
    for each in _LINE_QUICK
)


def _biases(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    zero = points(outcomes["0.0"], "he_normal")
    return tuple(
        Contrast(f"Biases that start at {name} and at 0 are the same.", source, "same",
                 points(outcomes[name], "he_normal") - zero, 1.0, POINTS, main)
        for name, source, main in (("0.01", ASSIGNMENT, True), ("0.1", ASSIGNMENT, True), ("1.0", OWN, False))
    )  # fmt: skip


def _bias_trainings(task: str, widths: tuple[int, ...], epochs: int, batch_size: int) -> tuple[Training, ...]:
    return tuple(
        Training(str(bias), ("he_normal",), Variant(widths, bias=bias), task=task, lr=(0.003,), epochs=epochs,
              batch_size=batch_size)
        for bias in (0.0, 0.01, 0.1, 1.0)
    )  # fmt: skip


_EQUAL = ("zeros", "constant(value=0.1)")
_NOISE = "random_normal(stddev=0.001)"


def _symmetry(setting: Setting, conditions: Conditions) -> Evidence:
    def one(init: str, seed: int) -> dict[str, float]:
        """Distinct units before and after training."""
        task, net = setting.data, started(setting, init, seed)
        end = fit(net, task, setting, seed)
        return {"start": distinct_share(net), "end": distinct_share(end),
                "accuracy": accuracy(end, task.x_test, task.y_test)}  # fmt: skip

    found = measured(conditions, (*_EQUAL, _NOISE, _GOOD), one)
    noise, constant = found[_NOISE], found[_EQUAL[1]]
    return Evidence(
        (
            *(
                Contrast(f"Units that start equal ({init}) are as equal after training.", NOTES, "same",
                         found[init]["end"] - found[init]["start"], 1.0, _UNITS)
                for init in _EQUAL
            ),
            Contrast("Noise of 0.001 is enough to make units differ in the end.", OWN, "more",
                     noise["end"] - constant["end"], 50.0, _UNITS, main=False),
            Contrast("Equal units cost test accuracy.", NOTES, "more",
                     found[_GOOD]["accuracy"] - constant["accuracy"], 1.0, POINTS, main=False),
        ),
        _rounded(found),
    )  # fmt: skip


def _dead(setting: Setting, conditions: Conditions) -> Evidence:
    def one(init: str, seed: int) -> dict[str, float]:
        """Dead units before and after training."""
        task, net = setting.data, started(setting, init, seed)
        end = fit(net, task, setting, seed)
        return {"start": silent_share(net, task.x_train), "end": silent_share(end, task.x_train),
                "accuracy": accuracy(end, task.x_test, task.y_test)}  # fmt: skip

    found = measured(conditions, ("he_normal", "glorot_normal", "random_normal(stddev=1.0)"), one)
    he, xavier, large = found.values()
    return Evidence(
        (
            Contrast("After training, He has fewer dead units than Xavier.", ARTICLE, "more",
                     xavier["end"] - he["end"], 1.0, _UNITS),
            Contrast("At the start, He and Xavier have as many dead units.", OWN, "same",
                     xavier["start"] - he["start"], 1.0, _UNITS, main=False),
            Contrast("After training, weights of standard deviation 1 have more dead units than He.", ARTICLE, "more",
                     large["end"] - he["end"], 1.0, _UNITS, main=False),
        ),
        _rounded(found),
    )  # fmt: skip


MISTAKES = (
    Study(
        "what-not-to-do",
        "Zero, a constant, too small, too large: what does each do to a network, layer by layer?",
        "Weights that are zero, constant, too small or too large each ruin the training.",
        (NOTES,),
        "A tanh network with six hidden layers from four wrong starts and from Xavier, trained with Adam. Before "
        "training, signal, gradient and saturation of each layer and the number of distinct units are measured on a "
        "batch of 256. Quick: 64 units on the small digits, 10 epochs. Full: 256 units on MNIST, 3 epochs.",
        "Each of the four costs test accuracy.",
        "One of the four whose interval excludes a loss of 1 point.",
        Designed(
            Setting("digits", (64,) * 6, "tanh", epochs=10),
            Setting("mnist", (256,) * 6, "tanh", epochs=3, batch_size=64, learning_rate=0.001),
            _four_mistakes,
        ),
    ),
    Study(
        "zero-is-linear",
        "Is a network that starts at zero no better than a linear model, or worse?",
        "A network whose weights start at zero is worse than a linear model.",
        (NOTES,),
        "Networks of two hidden layers with ReLU and with sigmoid that start at zero, against a linear model on the "
        "same data, each at the better of two learning rates. Quick: small digits, 20 epochs. Full: MNIST, 5 epochs.",
        "The linear model is better than both.",
        "One of the two whose interval excludes that it is 1 point of test accuracy worse.",
        trained(_LINE_QUICK, _LINE_FULL, _lines),
    ),
    Study(
        "biases-at-zero",
        "May biases start at zero?",
        "Biases may start at zero as well as at a small positive number.",
        (ASSIGNMENT,),
        "A ReLU network with He's weights whose biases all start at 0, 0.01, 0.1 or 1. Quick: two hidden layers of 64 "
        "on the small digits, 10 epochs. Full: one of 256 on MNIST, 5 epochs.",
        "Neither 0.01 nor 0.1 differs from 0 by 1 point of test accuracy.",
        "One of them does differ.",
        trained(_bias_trainings("digits", (64, 64), 10, 32), _bias_trainings("mnist", (256,), 5, 64), _biases),
    ),
    Study(
        "symmetry",
        "How many distinct units does a layer have, before and after training?",
        "Units that start equal stay equal: symmetry has to be broken at the start.",
        (ASSIGNMENT, NOTES),
        "The number of distinct units before and after training (Adam, float64, so that rounding breaks nothing) from "
        "zeros, a constant, noise of 0.001 and Xavier. Quick: two ReLU layers of 32 on the small digits, 20 epochs. "
        "Full: two of 128 on MNIST, 3 epochs.",
        "The share of distinct units does not change from zeros and from a constant.",
        "It changes.",
        Designed(
            Setting("digits", (32, 32)),
            Setting("mnist", (128, 128), epochs=3, batch_size=64, learning_rate=0.001),
            _symmetry,
        ),
    ),
    Study(
        "dead-units",
        "Does He leave fewer dead ReLU units than Xavier?",
        "He leaves fewer dead ReLU units than Xavier.",
        (ARTICLE,),
        "The share of hidden units that are 0 for every training example, before and after training with Adam. At the "
        "start, with biases of 0, it cannot depend on the size of the weights. Quick: four layers of 64 on the small "
        "digits, 10 epochs at 0.01. Full: four of 256 on MNIST, 3 epochs at 0.003.",
        "After training Xavier's share is above He's.",
        "The interval excludes that it is 1 % of the units above.",
        Designed(
            Setting("digits", (64,) * 4, epochs=10, learning_rate=0.01),
            Setting("mnist", (256,) * 4, epochs=3, batch_size=64),
            _dead,
        ),
    ),
)  # fmt: skip
"""The studies of this file."""
