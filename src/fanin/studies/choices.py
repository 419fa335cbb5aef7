"""Which initializer for what: activations, laws, fans, learning rates, and `auto` against all."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fanin.experiments.results import Results
from fanin.experiments.spec import TUNING_SEEDS, experiment
from fanin.initializers import draw_param
from fanin.recipes import decided
from fanin.records import Plan
from fanin.studies.comparisons import POINTS, Training, arm_of, points, trained
from fanin.studies.networks import Array, Net, Setting, accuracy, fit, measured
from fanin.studies.records import Conditions, Contrast, Designed, Evidence, Study
from fanin.studies.sources import ARTICLE, NOTEBOOK, NOTES, OWN, TUTORIAL

__all__ = ["CHOICES"]

_MATCHES = {
    "sigmoid": ("glorot_uniform", "he_normal", ARTICLE),
    "tanh": ("glorot_uniform", "he_normal", TUTORIAL),
    "relu": ("he_normal", "glorot_uniform", TUTORIAL),
    "selu": ("lecun_normal", "he_normal", NOTEBOOK),
    "gelu": ("he_normal", "glorot_uniform", OWN),
    "silu": ("he_normal", "glorot_uniform", OWN),
}
"""By activation: what the texts match with it, what they do not, and who says so."""


def _matching(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    results = outcomes["crossed"]
    there = {arm.activation for arm in results.experiment.arms}
    return tuple(
        Contrast(
            f"For {name}, {match} is better than {other}.", source, "more",
            points(results, match, name) - points(results, other, name), 1.0, POINTS, source != OWN,
        )
        for name, (match, other, source) in _MATCHES.items() if name in there
    )  # fmt: skip


_CROSSED_QUICK = Training(
    "crossed", ("glorot_uniform", "he_normal", "lecun_normal"), "mlp:64x64x64x64", ("sigmoid", "tanh", "relu", "selu")
)
_CROSSED_FULL = replace(
    _CROSSED_QUICK, init=("glorot_uniform", "he_normal", "lecun_normal", "fan_in_uniform", "orthogonal"),
    model="mlp:256x256x256x256", activation=tuple(_MATCHES), task="mnist", epochs=3, batch_size=64,
)  # fmt: skip


def _shapes(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    results = outcomes["laws"]
    return tuple(
        Contrast(f"{law}_normal and {law}_uniform are the same.", NOTEBOOK, "same",
                 points(results, f"{law}_uniform") - points(results, f"{law}_normal"), 1.0, POINTS)
        for law in ("he", "glorot", "lecun")
    )  # fmt: skip


_LAWS_QUICK = Training(
    "laws", tuple(f"{law}_{shape}" for law in ("he", "glorot", "lecun") for shape in ("normal", "uniform")),
    "mlp:128x128",
)  # fmt: skip
_LAWS_FULL = replace(_LAWS_QUICK, model="mlp:256", task="mnist", epochs=5, batch_size=64)


def _fan(mode: str) -> str:
    return f"variance_scaling(mode='{mode}', scale=2.0)"


def _fans(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    results = outcomes["fans"]
    average, inwards, outwards = (points(results, _fan(mode)) for mode in ("fan_avg", "fan_in", "fan_out"))
    return (
        Contrast("The average of the fans is better than fan-in.", ARTICLE, "more",
                 average - inwards, 1.0, POINTS),
        Contrast("Fan-in and fan-out are the same.", OWN, "same", outwards - inwards, 1.0, POINTS, main=False),
    )  # fmt: skip


_FANS_QUICK = Training("fans", tuple(_fan(mode) for mode in ("fan_in", "fan_avg", "fan_out")), "mlp:256x32x256x32")
_FANS_FULL = replace(_FANS_QUICK, model="mlp:1024x128x1024x128", task="mnist", epochs=3, batch_size=64)

_SCALES = ("0.5", "2.0", "8.0", "32.0")


def _scaled(scale: str) -> str:
    return f"variance_scaling(distribution='untruncated_normal', scale={scale})"


def _best_rate(results: Results, init: str) -> NDArray[np.float64]:
    """By seed, the logarithm of the learning rate with the best accuracy on validation data; ties go to the lower."""
    decided = results.experiment
    arm = arm_of(results, init).arm

    def final(seed: int, rate: float) -> float:
        """The last validation accuracy, 0 for a run that diverged."""
        result = results.runs[decided.run(arm, seed, rate)]
        return result.val_metric[-1] if result.status == "finished" else 0.0

    best = [max(decided.learning_rates, key=lambda rate: final(seed, rate)) for seed in range(decided.seeds)]
    return np.log10(best)


def _rates(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    results = outcomes["rates"]
    usual = _best_rate(results, _scaled("2.0"))
    unit = "decades of the best learning rate"
    return (
        Contrast("Weights of 16 times He's variance want a smaller learning rate.", NOTES, "more",
                 usual - _best_rate(results, _scaled("32.0")), 0.25, unit),
        Contrast("Weights of 4 times He's variance want a smaller learning rate.", NOTES, "more",
                 usual - _best_rate(results, _scaled("8.0")), 0.25, unit, main=False),
        Contrast("Weights of a quarter of He's variance want a larger learning rate.", NOTES, "more",
                 _best_rate(results, _scaled("0.5")) - usual, 0.25, unit, main=False),
        Contrast("At the best rate of each, 16 times He's variance costs test accuracy.", OWN, "more",
                 points(results, _scaled("2.0")) - points(results, _scaled("32.0")), 1.0, POINTS, main=False),
    )  # fmt: skip


_RATES_QUICK = Training(
    "rates", tuple(map(_scaled, _SCALES)), "mlp:64x64", lr=(0.01, 0.03, 0.1, 0.3, 1.0), optimizer="sgd",
    every_rate=True,
)  # fmt: skip
_RATES_FULL = replace(
    _RATES_QUICK, model="mlp:256x256", task="mnist", epochs=3, batch_size=64, lr=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
)

_RIVALS = ("he_normal", "glorot_uniform", "fan_in_uniform", "orthogonal")


def _plans(setting: Setting) -> dict[str, Plan]:
    """What `auto` and its rivals decide for the network."""
    shape = "x".join(map(str, setting.widths))
    spec = experiment(task=setting.data, model=f"mlp:{shape}", init=_RIVALS, activation=setting.activation, lr=0.001)
    trainer = spec.engine.trainer(spec.model, spec.task, setting.activation, spec.settings, lambda _: {})
    return {recipe: decided(trainer.net.info, recipe) for recipe in ("auto", *_RIVALS)}


def _planned(plan: Plan, activation: str, seed: int) -> Net:
    """The network that a plan starts; what it leaves alone are biases, which are 0."""
    arrays = {
        entry.param.path: draw_param(entry.param, entry.init, seed).astype(np.float64)
        if entry.init else np.zeros(entry.param.shape)
        for entry in plan.entries
    }  # fmt: skip
    weights = tuple(array for array in arrays.values() if array.ndim == 2)
    return Net(weights, tuple(array for array in arrays.values() if array.ndim == 1), activation)


def _auto(settings: Mapping[str, Setting], conditions: Conditions) -> Evidence:
    contrasts: list[Contrast] = []
    numbers = {}
    for place, setting in settings.items():
        plans = _plans(setting)
        rates = {recipe: _suiting_rate(plan, setting) for recipe, plan in plans.items()}
        score = partial(_after_training, plans, rates, setting)
        found = {arm: each["accuracy"] for arm, each in measured(conditions, ("auto", *_RIVALS), score).items()}
        contrasts += _against(place, found)
        numbers[place] = {
            arm: {"test_accuracy": np.round(values, 2).tolist(), "learning_rate": rates[arm]}
            for arm, values in found.items()
        }
    return Evidence(tuple(contrasts), numbers)


def _suiting_rate(plan: Plan, setting: Setting) -> float:
    """The learning rate, the setting's or a third of it, with the better validation accuracy on the tuning seeds."""
    task = setting.data

    def quality(rate: float) -> float:
        """Mean validation accuracy."""
        ends = [
            fit(_planned(plan, setting.activation, seed), task, replace(setting, learning_rate=rate), seed)
            for seed in TUNING_SEEDS
        ]
        return float(np.mean([accuracy(end, task.x_val, task.y_val) for end in ends]))

    return max((setting.learning_rate / 3, setting.learning_rate), key=quality)


def _after_training(
    plans: Mapping[str, Plan], rates: Mapping[str, float], setting: Setting, recipe: str, seed: int
) -> dict[str, float]:
    """Test accuracy of one recipe and seed."""
    task, chosen = setting.data, replace(setting, learning_rate=rates[recipe])
    end = fit(_planned(plans[recipe], setting.activation, seed), task, chosen, seed)
    return {"accuracy": accuracy(end, task.x_test, task.y_test)}


def _against(place: str, found: Mapping[str, Array]) -> list[Contrast]:
    """`auto` against each rival: in a deep network better, in a shallow one no worse."""
    if place == "deep":
        return [
            Contrast(f"In a deep network, auto is better than {rival}.", OWN, "more",
                     found["auto"] - found[rival], 1.0, POINTS)
            for rival in _RIVALS
        ]  # fmt: skip
    return [
        Contrast(f"In a shallow network, auto and {rival} are the same.", OWN, "same",
                 found["auto"] - found[rival], 1.0, POINTS, main=False)
        for rival in _RIVALS
    ]  # fmt: skip


CHOICES = (
    Study(
        "matching-activation",
        "Does each activation have an initializer of its own?",
        "Each activation trains better with its own initializer: Xavier for sigmoid and tanh, He for ReLU, LeCun for "
        "SELU.",
        (ARTICLE, NOTEBOOK, TUTORIAL),
        "Networks of four hidden layers; each activation with each initializer, at the better of two learning rates. "
        "Quick: sigmoid, tanh, ReLU, SELU and three initializers, 64 units, small digits, 10 epochs. Full: GELU, SiLU, "
        "PyTorch's default and orthogonal as well, 256 units, MNIST, 3 epochs.",
        "For each activation, its initializer is better than the other one of the pair.",
        "A pair whose interval excludes a gain of 1 point of test accuracy.",
        trained((_CROSSED_QUICK,), (_CROSSED_FULL,), _matching),
    ),
    Study(
        "uniform-or-normal",
        "Uniform or normal?",
        "At equal variance it does not matter whether weights are drawn uniformly or normally.",
        (NOTEBOOK,),
        "He, Xavier and LeCun, each in both shapes, at the better of two learning rates. Quick: two hidden layers of "
        "128, small digits, 10 epochs. Full: one of 256, MNIST, 5 epochs.",
        "All three pairs differ by less than 1 point of test accuracy.",
        "A pair that differs.",
        trained((_LAWS_QUICK,), (_LAWS_FULL,), _shapes),
    ),
    Study(
        "fan-in-or-average",
        "Divide by the fan-in, or by the average of both fans?",
        "Dividing by the average of fan-in and fan-out trains better than dividing by fan-in.",
        (ARTICLE,),
        "Variance 2 over fan-in, over the average, over fan-out, in a ReLU network whose layers are wide and narrow in "
        "turn, so that the three differ. Quick: 256-32-256-32, small digits, 10 epochs. Full: 1024-128-1024-128, "
        "MNIST, 3 epochs.",
        "The average is better than fan-in.",
        "The interval excludes a gain of 1 point of test accuracy.",
        trained((_FANS_QUICK,), (_FANS_FULL,), _fans),
    ),
    Study(
        "learning-rate",
        "Do large variances need small learning rates?",
        "The larger the variance of the weights, the smaller the learning rate has to be.",
        (NOTES,),
        "A quarter, 1, 4 and 16 times He's variance at five or six rates of plain gradient descent. For each seed the "
        "rate with the best validation accuracy is found, and its logarithms are compared. Quick: two layers of 64, "
        "small digits, 10 epochs. Full: two of 256, MNIST, 3 epochs.",
        "The best rate of 16 times He's variance is below that of He's.",
        "The interval excludes that it is a quarter of a decade below.",
        trained((_RATES_QUICK,), (_RATES_FULL,), _rates),
    ),
    Study(
        "auto",
        "Is it worth deciding weight by weight?",
        "In a deep network, fanin's auto is better than any one initializer for all layers.",
        (OWN,),
        "auto, He, Xavier, PyTorch's default and orthogonal in a deep and in a shallow SiLU network, trained with "
        "Adam, each at the better of two rates. Quick: 16 layers and 2 of 64, small digits, 6 epochs. Full: 30 and 2 "
        "layers of 128, MNIST, 2 epochs.",
        "In the deep network auto is better than each of the four.",
        "One of the four against which the interval excludes a gain of 1 point of test accuracy.",
        Designed(
            {"deep": Setting("digits", (64,) * 16, "silu", epochs=6),
             "shallow": Setting("digits", (64,) * 2, "silu", epochs=6)},
            {"deep": Setting("mnist", (128,) * 30, "silu", epochs=2, batch_size=64, learning_rate=0.001),
             "shallow": Setting("mnist", (128,) * 2, "silu", epochs=2, batch_size=64, learning_rate=0.001)},
            _auto,
        ),
    ),
)  # fmt: skip
"""The studies of this file."""
