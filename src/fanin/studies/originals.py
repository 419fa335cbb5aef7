"""The experiments of the texts themselves: four initializers on MNIST, Xavier against He on CIFAR-10."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from fanin.experiments.results import Results
from fanin.studies.comparisons import POINTS, Training, Variant, points, trained
from fanin.studies.records import Contrast, Study
from fanin.studies.sources import ASSIGNMENT, OWN, TUTORIAL

__all__ = ["ORIGINALS"]

_RANDOM = "random_normal(stddev=0.01)"
_FOUR = ("zeros", _RANDOM, "glorot_uniform", "he_normal")


def _better(
    results: Results, good: str, poor: str, claim: str, source: str, *, main: bool = True,
    rule: Literal["more", "same"] = "more",
) -> Contrast:  # fmt: skip
    """That one arm's accuracy is above another's by a point; an arm is ``he_normal`` or ``he_normal + relu``."""
    difference = points(results, *good.split(" + ")) - points(results, *poor.split(" + "))
    return Contrast(claim, source, rule, difference, 1.0, POINTS, main)


def _four(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    results = outcomes["mnist"]
    said = (
        (_RANDOM, "zeros", "Small random weights are better than zeros."),
        ("glorot_uniform", _RANDOM, "Xavier is better than small random weights."),
        ("he_normal", "glorot_uniform", "He is better than Xavier."),
    )
    return tuple(_better(results, good, poor, claim, ASSIGNMENT) for good, poor, claim in said)


_FOUR_QUICK = Training("mnist", _FOUR, "mlp:256", lr=(0.001,), epochs=20)
_FOUR_FULL = replace(_FOUR_QUICK, task="mnist", epochs=10, batch_size=64)


def _blamed(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    """What the output's activation alone does to the same initial weights."""
    return tuple(
        Contrast(
            f"With {init}, taking the ReLU off the output changes nothing.", ASSIGNMENT, "same",
            points(outcomes["linear output"], init) - points(outcomes["relu output"], init), 1.0, POINTS,
        )
        for init in _FOUR[1:]
    )  # fmt: skip


_BUG_QUICK = tuple(
    Training(f"{output} output", _FOUR, Variant((256,), output=output), lr=(0.001,)) for output in ("relu", "linear")
)
_BUG_FULL = tuple(replace(each, task="mnist", batch_size=64) for each in _BUG_QUICK)


def _crossed(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    tuned, told = outcomes["tuned"], outcomes["as told"]
    pair = ("he_normal + relu", "glorot_uniform + tanh")
    told_claim = "At the tutorial's learning rate, He with ReLU is better than Xavier with tanh."
    tuned_claim = "With a learning rate each, He with ReLU is better than Xavier with tanh."

    def alike(one: str, other: str, claim: str) -> Contrast:
        return _better(tuned, one, other, claim, OWN, main=False, rule="same")

    return (
        _better(told, *pair, told_claim, TUTORIAL, main=False),
        _better(tuned, *pair, tuned_claim, TUTORIAL),
        alike("he_normal + relu", "glorot_uniform + relu", "Under ReLU, He and Xavier are the same."),
        alike("he_normal + tanh", "glorot_uniform + tanh", "Under tanh, He and Xavier are the same."),
        alike("he_normal + relu", "he_normal + tanh", "With He, ReLU and tanh are the same."),
        alike("glorot_uniform + relu", "glorot_uniform + tanh", "With Xavier, ReLU and tanh are the same."),
    )


_TOLD_QUICK = Training(
    "as told",
    ("he_normal+relu", "glorot_uniform+tanh"),
    "mlp:128x64x32",
    lr=(0.001,),
    epochs=5,
    curves=True,
)
_TUNED_QUICK = replace(
    _TOLD_QUICK, name="tuned", curves=False, init=("he_normal", "glorot_uniform"), activation=("relu", "tanh"),
    lr=(0.0003, 0.001, 0.003, 0.01),
)  # fmt: skip
_CROSSED_QUICK = (_TOLD_QUICK, _TUNED_QUICK)
_CROSSED_FULL = tuple(
    replace(each, task="cifar10", model="mlp:1024x512x256", lr=rates)
    for each, rates in zip(_CROSSED_QUICK, ((0.001,), (0.0001, 0.0003, 0.001)), strict=True)
)

ORIGINALS = (
    Study(
        "mnist-four-initializers",
        "Zeros, small random numbers, Xavier, He on MNIST: which differences are real?",
        "Zeros, small random weights, Xavier and He form a ladder on which each is better than the one before.",
        (ASSIGNMENT,),
        "The assignment's network (784-256-10, ReLU, softmax cross-entropy, Adam at 0.001, batches of 64, 10 epochs) "
        "from four initializers. Quick: a hidden layer of 256 on the small digits, batches of 32, 20 epochs.",
        "Each step of the ladder is above 0.",
        "A step whose interval excludes a gain of 1 point of test accuracy.",
        trained((_FOUR_QUICK,), (_FOUR_FULL,), _four),
    ),
    Study(
        "mnist-notebook-bug",
        "A notebook ends at .0980 with all four initializers. Are they to blame?",
        "The failure of all four comes from the initial weights, not from the ReLU on the output.",
        (ASSIGNMENT,),
        "The same initial weights in two networks: one with the ReLU on the output that the notebook has in front of "
        "its cross-entropy of probabilities, one with a plain output; 10 epochs. An output of zeros only makes the "
        "loss 0 / 0; such a run counts as diverged, with accuracy 0 (it shows as .0980, the share of the digit 0).",
        "Taking the ReLU off changes accuracy by less than 1 point.",
        "Taking the ReLU off changes accuracy.",
        trained(_BUG_QUICK, _BUG_FULL, _blamed),
    ),
    Study(
        "cifar10-xavier-vs-he",
        "Does He win on CIFAR-10, or do ReLU and the learning rate?",
        "He with ReLU is better than Xavier with tanh.",
        (TUTORIAL,),
        "The tutorial's network (1024-512-256-10, Adam, batches of 32, 5 epochs), first as told, at learning rate "
        "0.001 for both; then both initializers crossed with both activations, each pair at the learning rate that "
        "suits it best on validation data and seeds of their own. Quick: 128-64-32-10 on the small digits.",
        "The difference is above 0 when each has its own learning rate.",
        "Its interval then excludes a gain of 1 point of test accuracy.",
        trained(_CROSSED_QUICK, _CROSSED_FULL, _crossed),
    ),
)
"""The studies of this file."""
