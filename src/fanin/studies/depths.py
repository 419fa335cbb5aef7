"""What depth and normalisation do to the choice of an initializer."""

from collections.abc import Mapping
from dataclasses import replace

from fanin.experiments.results import Results
from fanin.studies.comparisons import POINTS, Training, Variant, points, trained
from fanin.studies.networks import Array
from fanin.studies.records import Contrast, Study
from fanin.studies.sources import ARTICLE, ASSIGNMENT, OWN, TUTORIAL

__all__ = ["DEPTHS"]


def _gap(results: Results, good: str, poor: str) -> Array:
    """By how much one initializer is better than another, by seed."""
    return points(results, good) - points(results, poor)


def _deeper(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    shallow, *_, deep = outcomes.values()

    def grows(poor: str, source: str, main: bool) -> Contrast:
        """That He's lead over another initializer grows."""
        growth = _gap(deep, "he_normal", poor) - _gap(shallow, "he_normal", poor)
        claim = f"He's lead over {poor} is larger in the deep network."
        return Contrast(claim, source, "more", growth, 1.0, POINTS, main)

    return (
        grows("glorot_uniform", ARTICLE, main=True),
        grows("fan_in_uniform", ARTICLE, main=True),
        Contrast("In the shallow network, He and Xavier are the same.", OWN, "same",
                 _gap(shallow, "he_normal", "glorot_uniform"), 1.0, POINTS, main=False),
    )  # fmt: skip


def _stacks(
    init: tuple[str, ...], depths: tuple[int, ...], width: int, *, task: str = "digits", activation: str = "relu",
    epochs: int = 10, batch_size: int = 32, lr: tuple[float, ...] = (0.001, 0.003),
) -> tuple[Training, ...]:  # fmt: skip
    """The same comparison in networks of several depths."""
    return tuple(
        Training(f"{depth} layers", init, "mlp:" + "x".join([str(width)] * depth), (activation,), task=task, lr=lr,
              epochs=epochs, batch_size=batch_size)
        for depth in depths
    )  # fmt: skip


_RELU = ("he_normal", "glorot_uniform", "fan_in_uniform")
_TANH = ("orthogonal", "variance_scaling(distribution='untruncated_normal')")


def _orthogonal(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    shallow, *_, deep = outcomes.values()
    return (
        Contrast("In the deep network, orthogonal weights are better than independent ones.", ARTICLE, "more",
                 _gap(deep, *_TANH), 1.0, POINTS),
        Contrast("Their lead is larger in the deep network than in the shallow one.", ARTICLE, "more",
                 _gap(deep, *_TANH) - _gap(shallow, *_TANH), 1.0, POINTS, main=False),
        Contrast("In the shallow network, they are the same.", OWN, "same", _gap(shallow, *_TANH), 1.0, POINTS,
                 main=False),
    )  # fmt: skip


_BAD = {"random_normal(stddev=0.001)": "too small", "random_normal(stddev=1.0)": "too large"}


def _forgiven(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    plain, normed = outcomes["plain"], outcomes["batch norm"]
    return (
        *(
            Contrast(f"Batch normalisation makes up for part of what weights that are {word} cost.", TUTORIAL, "more",
                     _gap(plain, "he_normal", bad) - _gap(normed, "he_normal", bad), 1.0, POINTS)
            for bad, word in _BAD.items()
        ),
        *(
            Contrast(f"Behind batch normalisation, weights that are {word} cost nothing.", OWN, "same",
                     -_gap(normed, "he_normal", bad), 1.0, POINTS, main=False)
            for bad, word in _BAD.items()
        ),
    )  # fmt: skip


def _norm_trainings(widths: tuple[int, ...]) -> tuple[Training, ...]:
    return tuple(
        Training(name, ("he_normal", *_BAD), Variant(widths, batch_norm=norm))
        for name, norm in (("plain", False), ("batch norm", True))
    )


_NORM_QUICK = _norm_trainings((64,) * 5)
_NORM_FULL = tuple(replace(each, task="mnist", epochs=3, batch_size=64) for each in _norm_trainings((256,) * 5))

DEPTHS = (
    Study(
        "depth",
        "Does the choice matter more in a deeper network?",
        "The deeper a ReLU network, the more it matters to start with He.",
        (ARTICLE, ASSIGNMENT),
        "He, Xavier and PyTorch's default in ReLU networks of several depths, at the better of two learning rates of "
        "Adam; He's lead in the deepest network less its lead in the shallowest, seed by seed. Quick: 2 and 12 layers "
        "of 64, small digits, 10 epochs. Full: 2, 5, 10, 20 and 30 layers of 128, MNIST, 2 epochs.",
        "He's lead over Xavier and over PyTorch's default is larger in the deepest network.",
        "One of the two whose interval excludes that the lead grows by 1 point of test accuracy.",
        trained(
            _stacks(_RELU, (2, 12), 64),
            _stacks(_RELU, (2, 5, 10, 20, 30), 128, task="mnist", epochs=2, batch_size=64, lr=(0.0003, 0.001)),
            _deeper,
        ),
    ),
    Study(
        "batch-norm",
        "Does batch normalisation forgive a bad start?",
        "With batch normalisation a bad start costs less.",
        (TUTORIAL,),
        "ReLU networks of five hidden layers with and without batch normalisation, each from He, from weights too "
        "small and too large, at the better of two learning rates. Quick: 64 units, small digits, 10 epochs. Full: 256 "
        "units, MNIST, 3 epochs.",
        "For both bad starts, what is lost against He is less with batch normalisation.",
        "One of the two whose interval excludes that 1 point of test accuracy is made up for.",
        trained(_NORM_QUICK, _NORM_FULL, _forgiven),
    ),
    Study(
        "orthogonal-depth",
        "Do orthogonal weights pay off in deep networks?",
        "In a deep network orthogonal weights train better than independent ones of the same variance.",
        (ARTICLE,),
        "Orthogonal against independent normal weights of variance 1 / fan-in in tanh networks of several depths, "
        "at the better of two learning rates of Adam. Quick: 2 and 16 layers of 64, small digits, 10 epochs. Full: 2, "
        "10, 30 and 60 layers of 128, MNIST, 2 epochs.",
        "Orthogonal weights are better in the deepest network.",
        "The interval excludes a gain of 1 point of test accuracy.",
        trained(
            _stacks(_TANH, (2, 16), 64, activation="tanh", lr=(0.0003, 0.001)),
            _stacks(_TANH, (2, 10, 30, 60), 128, task="mnist", activation="tanh", epochs=2, batch_size=64,
                    lr=(0.0003, 0.001)),
            _orthogonal,
        ),
    ),
)  # fmt: skip
"""The studies of this file."""
