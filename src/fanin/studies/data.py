"""What initial weights have to do with data: few examples, generalisation, penalties, trained layers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.experiments.results import Results
from fanin.experiments.tasks import make_task
from fanin.records import RunResult, Task
from fanin.studies.comparisons import POINTS, Training, Variant, arm_of, part_of, points, trained
from fanin.studies.networks import Array, Net, Setting, accuracy, fit, measured, started
from fanin.studies.records import Conditions, Contrast, Designed, Evidence, Study
from fanin.studies.sources import ARTICLE, ASSIGNMENT, OWN

__all__ = ["DATA"]

_SMALL, _LARGE = (
    f"variance_scaling(distribution='untruncated_normal', scale={scale})" for scale in ("0.1", "20.0")
)  # fmt: skip


def _few(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    few, many = outcomes["few"], outcomes["many"]
    gain = points(few, _SMALL) - points(few, "he_normal")
    usual = points(many, _SMALL) - points(many, "he_normal")
    return (
        Contrast("On few examples, a twentieth of He's variance is better than He's.", ARTICLE, "more", gain, 1.0,
                 POINTS),
        Contrast("It gains more on few examples than on many.", ARTICLE, "more", gain - usual, 1.0, POINTS,
                 main=False),
        Contrast("On few examples, ten times He's variance is worse than He's.", OWN, "more",
                 points(few, "he_normal") - points(few, _LARGE), 1.0, POINTS, main=False),
    )  # fmt: skip


_SIZES = (_SMALL, "he_normal", _LARGE)
_FEW_QUICK = (
    Training("few", _SIZES, "mlp:128x128", epochs=40, batch_size=20, examples=100),
    Training("many", _SIZES, "mlp:128x128"),
)
_FEW_FULL = (
    Training("few", _SIZES, "mlp:256x256", task="mnist", epochs=40, batch_size=20, examples=500),
    Training("many", _SIZES, "mlp:256x256", task="mnist", epochs=3, batch_size=64),
)

_TARGET = 0.1
"""The training loss at which networks are compared: that of one that has all but learnt its data."""


def _when_learnt(result: RunResult) -> float:
    """Validation accuracy when the training loss first is at the target, or at the end if it never is."""
    if result.status != "finished":
        return 0.0
    reached = [value for loss, value in zip(result.train_loss, result.val_metric, strict=True) if loss <= _TARGET]
    return 100 * (reached or result.val_metric[-1:])[0]


def _learnt(results: Results, init: str) -> Array:
    decided, found = results.experiment, arm_of(results, init)
    runs = [decided.run(found.arm, seed, found.learning_rate) for seed in range(decided.seeds)]
    return np.array([_when_learnt(results.runs[run]) for run in runs])


def _generalise(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    results = outcomes["gap"]
    usual, unit = _learnt(results, "he_normal"), "points of validation accuracy at equal training loss"
    return (
        Contrast("Xavier and He generalise alike.", ASSIGNMENT, "same",
                 _learnt(results, "glorot_normal") - usual, 1.0, unit),
        Contrast("A twentieth of He's variance and He's generalise alike.", ARTICLE, "same",
                 _learnt(results, _SMALL) - usual, 1.0, unit),
        Contrast("Ten times He's variance and He's generalise alike.", ARTICLE, "same",
                 _learnt(results, _LARGE) - usual, 1.0, unit),
    )  # fmt: skip


_GAP_QUICK = Training(
    "gap", ("he_normal", "glorot_normal", _SMALL, _LARGE), "mlp:128x128", lr=(0.001,), epochs=30
)  # fmt: skip
_GAP_FULL = replace(_GAP_QUICK, model="mlp:256x256", task="mnist", epochs=10, batch_size=64)

_PENALTIES = {"L1": Variant((), l1=1e-4), "L2": Variant((), l2=1e-3), "dropout": Variant((), dropout=0.3)}


def _penalised(outcomes: Mapping[str, Results]) -> tuple[Contrast, ...]:
    plain = outcomes["plain"]

    def lead(results: Results) -> Array:
        return points(results, "he_normal") - points(results, "glorot_normal")

    return (
        *(
            Contrast(f"{name} does not change what He gains over Xavier.", ASSIGNMENT, "same",
                     lead(outcomes[name]) - lead(plain), 1.0, POINTS)
            for name in _PENALTIES
        ),
        *(
            Contrast(f"{name} raises test accuracy from He's start.", ASSIGNMENT, "more",
                     points(outcomes[name], "he_normal") - points(plain, "he_normal"), 1.0, POINTS, main=False)
            for name in _PENALTIES
        ),
    )  # fmt: skip


def _penalty_trainings(base: Training, widths: tuple[int, ...]) -> tuple[Training, ...]:
    return tuple(
        replace(base, name=name, model=replace(variant, widths=widths))
        for name, variant in {"plain": Variant(()), **_PENALTIES}.items()
    )


_PENALTY_BASE = Training("", ("he_normal", "glorot_normal"), lr=(0.003,), epochs=30, batch_size=20, examples=300)
_PENALTY_QUICK = _penalty_trainings(_PENALTY_BASE, (64, 64))
_PENALTY_FULL = _penalty_trainings(replace(_PENALTY_BASE, task="mnist", examples=1000), (256, 256))


@dataclass(frozen=True)
class _Transfer:
    """A network learns half of the classes, then the others from few examples."""

    first: Setting
    then: Setting


@lru_cache(maxsize=4)
def _half(name: str, upper: bool, examples: int | None) -> Task:
    """The task with its lower or its upper half of the classes, numbered from 0."""
    task = part_of(name)
    middle = task.outputs // 2
    arrays: dict[str, NDArray[Any]] = {}
    for part in ("train", "val", "test"):
        x, y = getattr(task, f"x_{part}"), getattr(task, f"y_{part}")
        rows = np.flatnonzero((y >= middle) == upper)[: examples if part == "train" else None]
        arrays |= {f"x_{part}": x[rows], f"y_{part}": y[rows] - middle * upper}
    return make_task(f"{name}, {'upper' if upper else 'lower'} half of the classes", arrays)


def _transferred(design: _Transfer, conditions: Conditions) -> Evidence:
    old, new = _half(design.first.task, False, None), _half(design.then.task, True, design.then.examples)
    layers = len(design.first.widths)

    @lru_cache(maxsize=1)
    def learnt(seed: int) -> Net:
        """The network that has learnt the first half."""
        return fit(_headed(design.first, old, seed), old, design.first, seed)

    def one(kept: str, seed: int) -> dict[str, float]:
        """Test accuracy on the second half with so many trained layers kept and the others drawn anew."""
        count, fresh, before = int(kept), _headed(design.then, new, seed), learnt(seed)
        net = Net(
            (*before.weights[:count], *fresh.weights[count:]), (*before.biases[:count], *fresh.biases[count:]),
            fresh.activation,
        )  # fmt: skip
        return {
            "trained further": accuracy(fit(net, new, design.then, seed), new.x_test, new.y_test),
            "kept as they are": accuracy(
                fit(net, new, design.then, seed, trained_from=count), new.x_test, new.y_test
            ),
        }  # fmt: skip

    found = measured(conditions, [str(count) for count in range(layers + 1)], one)
    none, most, every = (found[str(count)]["trained further"] for count in (0, layers - 1, layers))
    return Evidence(
        (
            Contrast("Layers trained on other classes are a better start than new ones.", ARTICLE, "more",
                     every - none, 1.0, POINTS),
            Contrast("Drawing the last hidden layer anew is better than keeping it.", ARTICLE, "more",
                     most - every, 1.0, POINTS, main=False),
            Contrast("Training kept layers further is better than keeping them as they are.", OWN, "more",
                     every - found[str(layers)]["kept as they are"], 1.0, POINTS, main=False),
        ),
        {f"{arm} kept": {name: np.round(values, 2).tolist() for name, values in each.items()}
         for arm, each in found.items()},
    )  # fmt: skip


def _headed(setting: Setting, task: Task, seed: int) -> Net:
    """He's start of the network, with an output for the classes of the task."""
    net = started(setting, "he_normal", seed)
    return Net(
        (*net.weights[:-1], net.weights[-1][:, : task.outputs]), (*net.biases[:-1], net.biases[-1][: task.outputs]),
        net.activation,
    )  # fmt: skip


DATA = (
    Study(
        "small-data",
        "Is a small variance better on few examples?",
        "On few examples, weights of a small variance train better than He's.",
        (ARTICLE,),
        "A twentieth, 1 and 10 times He's variance in a ReLU network, trained on few and on many examples at the "
        "better of two learning rates. Quick: 100 and 1,079 of the small digits. Full: 500 and 55,000 of MNIST.",
        "On few examples the small variance is better than He's.",
        "The interval excludes a gain of 1 point of test accuracy.",
        trained(_FEW_QUICK, _FEW_FULL, _few),
    ),
    Study(
        "generalisation",
        "Does the initializer change how a network generalises?",
        "At equal training loss, networks from all usual starts generalise alike.",
        (ARTICLE, ASSIGNMENT),
        "Validation accuracy at the moment when the training loss first falls to 0.1 (at the end, where it never "
        "does), from He, Xavier, a twentieth and 10 times He's variance, Adam at 0.001. Quick: two layers of 128, "
        "small digits, 30 epochs. Full: two of 256, MNIST, 10 epochs.",
        "Each differs from He by less than 1 point of validation accuracy.",
        "One that differs from He.",
        trained((_GAP_QUICK,), (_GAP_FULL,), _generalise),
    ),
    Study(
        "regularisation",
        "Do L1, L2 and dropout change which initializer is better?",
        "Which initializer is better does not depend on L1, L2 or dropout.",
        (ASSIGNMENT,),
        "He and Xavier without a penalty, with L1 (0.0001), L2 (0.001) and dropout (0.3), on few examples. Quick: two "
        "layers of 64, 300 of the small digits, 30 epochs. Full: two of 256, 1,000 of MNIST.",
        "He's lead over Xavier changes by less than 1 point of test accuracy with each penalty.",
        "A penalty that changes it.",
        trained(_PENALTY_QUICK, _PENALTY_FULL, _penalised),
    ),
    Study(
        "transfer",
        "Keep the layers of a trained network, or draw them anew?",
        "Layers trained on other classes are a better start than any drawn anew.",
        (ARTICLE,),
        "A ReLU network of three hidden layers learns the lower half of the classes. Then it learns the upper half "
        "from few examples, with 0 to 3 of its hidden layers kept and the others drawn anew by He. Quick: 64 units, "
        "small digits, 50 examples. Full: 256 units, MNIST, 100 examples.",
        "All layers kept are better than none.",
        "The interval excludes a gain of 1 point of test accuracy.",
        Designed(
            _Transfer(
                Setting("digits", (64,) * 3),
                Setting("digits", (64,) * 3, epochs=100, batch_size=10, examples=50),
            ),
            _Transfer(
                Setting("mnist", (256,) * 3, epochs=3, batch_size=64, learning_rate=0.001),
                Setting("mnist", (256,) * 3, epochs=100, batch_size=10, examples=100),
            ),
            _transferred,
        ),
    ),
)  # fmt: skip
"""The studies of this file."""
