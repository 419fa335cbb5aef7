"""Does the corpus hold what it says? Every case is trained on its batch; no doctor is asked."""

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus import Case, mend

__all__ = ["STEPS", "Verdict", "judge", "quality", "seed_all", "split", "train", "validate"]

STEPS = 200
LEARNS = {"accuracy": 0.5, "explained variance": 0.3}
"""A healthy network gets at least this share of the way from the constant predictor to a perfect one."""
WORSE = 0.75
"""A faulty network gets at most this share of the way that the mended one gets."""
UNSHOWN = {
    ("keras", "batch norm, one example"): "one example has no constant predictor that is worse",
}
"""Faulty cases that training on their own batch cannot show, and why."""


@dataclass(frozen=True)
class Verdict:
    """What training says of one case.

    Attributes:
        share: How much of the way from the best constant prediction (0) to a perfect one (1) was covered, the mean
            over seeds; accuracy or explained variance.
        mended: The same of the mended case; None for a healthy one.
        holds: Whether the case is what it says.
        note: Why it cannot be told or what was raised, or empty.
    """

    framework: str
    name: str
    measure: str
    share: float
    mended: float | None
    holds: bool
    note: str = ""


def split(optimizer: str) -> tuple[str, Mapping[str, Any]]:
    """The name and the settings of an optimizer.

    >>> split("sgd(lr=0.1, momentum=0.9)")
    ('sgd', {'lr': 0.1, 'momentum': 0.9})
    """
    name, settings = re.fullmatch(r"(\w+)\((.*)\)", optimizer).groups()
    call = ast.parse(f"f({settings})", mode="eval").body
    return name, {each.arg: ast.literal_eval(each.value) for each in call.keywords}


def seed_all(framework: str, seed: int) -> None:
    """Set the random state that cases are built from."""
    if framework == "torch":
        import torch

        torch.manual_seed(seed)
    elif framework == "keras":
        import keras

        keras.utils.set_random_seed(seed)


def train(case: Case, seed: int = 0, steps: int = STEPS) -> NDArray[np.floating[Any]]:
    """What the trained model returns for its batch, in the mode that it was built in; not a number if it diverged.

    Raises:
        Exception: Whatever the framework raises while it trains.
    """
    seed_all(case.framework, seed)
    return TRAINERS[case.framework](case, steps)


def _train_torch(case: Case, steps: int) -> NDArray[np.floating[Any]]:
    import torch

    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    built = case.build()
    name, settings = split(case.optimizer)
    if isinstance(built, tuple):
        model, optimizer = built
    else:
        # A model without parameters to train cannot be given to an optimizer; it is trained all the same: not at all.
        model, given = built, [each for each in built.parameters() if each.requires_grad]
        optimizer = kinds[name](given or [torch.zeros(1)], **settings)
    x, y = case.data()
    inputs = tuple(map(torch.from_numpy, x)) if isinstance(x, tuple) else (torch.from_numpy(x),)
    target = torch.from_numpy(y)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = case.loss(model(*inputs), target)
        if not torch.isfinite(loss):
            break
        if loss.requires_grad or not _frozen(model):
            loss.backward()
        optimizer.step()
    with torch.no_grad():
        return _first(model(*inputs)).float().numpy()


def _frozen(model: Any) -> bool:
    return not any(each.requires_grad for each in model.parameters())


def _train_keras(case: Case, steps: int) -> NDArray[np.floating[Any]]:
    import keras

    kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    name, settings = split(case.optimizer)
    model, (x, y) = case.build(), case.data()
    model.compile(kinds[name](**settings), case.loss)
    inputs = list(x) if isinstance(x, tuple) else x
    model.fit(inputs, y, batch_size=len(y), epochs=steps, shuffle=False, verbose=0)
    return np.asarray(_first(model(inputs, training=False)), np.float32)


TRAINERS: Mapping[str, Callable[[Case, int], NDArray[np.floating[Any]]]] = {
    "torch": _train_torch,
    "keras": _train_keras,
}


def _first(outputs: Any) -> Any:
    """The first of several outputs."""
    if isinstance(outputs, Mapping):
        return next(iter(outputs.values()))
    return outputs[0] if isinstance(outputs, tuple | list) else outputs


def quality(outputs: NDArray[Any], targets: NDArray[Any]) -> tuple[str, float]:
    """The measure, and the share of the way from the best constant prediction (0) to a perfect one (1).

    Whole numbers and zeros and ones are classes: read off the largest output, or where there is one output off
    whether it is above the middle of what it can be. Else it is the explained variance, at least -1.
    """
    whole = targets.dtype.kind in "iu"
    if not np.isfinite(outputs).all():
        return "accuracy" if whole else "explained variance", 0.0
    if whole or set(np.unique(targets)) == {0.0, 1.0}:
        labels, predicted = _classes(outputs, targets, whole)
        constant = np.unique(labels, return_counts=True)[1].max() / labels.size
        return "accuracy", float(np.mean(labels == predicted) - constant) / (1 - constant) if constant < 1 else 0.0
    error = np.mean((outputs.reshape(targets.shape) - targets) ** 2)
    return "explained variance", max(-1.0, float(1 - error / np.mean((targets - targets.mean(0)) ** 2)))


def _classes(outputs: NDArray[Any], targets: NDArray[Any], whole: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """The classes that are asked for and those that are predicted, of one shape."""
    if not whole and targets.ndim > 1 and targets.shape[1] > 1:  # rows of zeros and a one
        return targets.argmax(-1), outputs.argmax(-1)
    if outputs.size > targets.size:
        last = outputs.shape[:-1] == targets.shape
        return targets, outputs.argmax(-1 if last else 1)
    if whole and targets.max() > 1:
        return targets, np.rint(outputs).reshape(targets.shape)
    probabilities = outputs.min() >= 0 and outputs.max() <= 1
    return targets, (outputs > (0.5 if probabilities else 0.0)).reshape(targets.shape)


def judge(case: Case, seeds: int = 1, steps: int = STEPS) -> Verdict:
    """Train one case, and what it becomes when mended."""
    measure, share, error = _mean(case, seeds, steps)
    if not case.causes:
        holds = not error and share >= LEARNS.get(measure, math.inf)
        return Verdict(case.framework, case.name, measure, share, None, holds, error)
    better, mended, wrong = _mean(mend(case), seeds, steps)
    holds = not wrong and mended >= LEARNS.get(better, math.inf) and share <= WORSE * mended
    unshown = UNSHOWN.get((case.framework, case.name), "")
    note = unshown or error or (wrong and f"mended: {wrong}")
    return Verdict(case.framework, case.name, better, share, mended, holds or bool(unshown), note)


def _mean(case: Case, seeds: int, steps: int) -> tuple[str, float, str]:
    """The measure, its mean over seeds, and what was raised; a case that raises gets nowhere."""
    found = []
    for seed in range(seeds):
        try:
            found.append(quality(train(case, seed, steps), case.data()[1]))
        except Exception as error:  # of whatever kind: it is what the user of such a network sees
            return "", 0.0, f"{type(error).__name__}: {error}".splitlines()[0]
    return found[0][0], float(np.mean([share for _, share in found])), ""


def validate(chosen: tuple[Case, ...], seeds: int = 1, steps: int = STEPS) -> Iterator[Verdict]:
    """The verdict on each case."""
    for case in chosen:
        yield judge(case, seeds, steps)
