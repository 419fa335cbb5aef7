"""Checks of the batch: inputs and targets that no start can make up for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.cures import Cure, can_help, features
from fanin.doctor.facts import Facts, array_of
from fanin.doctor.suspicions import Suspicion
from fanin.errors import FaninError
from fanin.records import Severity

__all__ = [
    "constant_inputs",
    "constant_targets",
    "mixed_examples",
    "non_finite_inputs",
    "unscaled_inputs",
    "unscaled_targets",
]

Array = NDArray[Any]

_LARGE = 5.0
"""Root mean square of inputs above which it is tried whether standardising helps."""
_SMALL = 0.05
_UNEVEN = 30.0
"""The same for the ratio of the features' standard deviations."""
_MOST = (0.1, 0.9)
"""The quantiles of the features between which they are compared: a pixel that is nearly always 0 is no other unit."""
_OFFSET = 3.0
"""The same for the mean of all inputs over their standard deviation."""
_CUT, _ONE = 0.5, 0.9
"""Share of numbers that are not whole, and share that is left of one row, where nearly all choose the same."""
_HALVES = 4
"""Examples, at least, of which half are exchanged."""
_MIXED = 1e-3
"""Share of the outputs' spread; less is rounding."""
_NOISE = 10.0
"""So many times what a model draws for itself changes them."""


def non_finite_inputs(facts: Facts) -> Iterator[Suspicion]:
    """Infinities or NaN in the inputs or the targets."""
    arrays = {f"input {at}": each for at, each in enumerate(facts.inputs)}
    if facts.targets is not None and np.issubdtype(facts.targets.dtype, np.floating):
        arrays["the targets"] = facts.targets
    for name, array in arrays.items():
        count = np.count_nonzero(~np.isfinite(array))
        if count:
            rows = np.count_nonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
            yield Suspicion(
                name, f"{count} numbers in {rows} of {len(array)} examples are not finite", "finite numbers",
                "Drop these examples or fill the gaps before training.",
            )  # fmt: skip


def constant_inputs(facts: Facts) -> Iterator[Suspicion]:
    """A batch of which all examples are the same."""
    for at, array in enumerate(facts.inputs):
        if len(facts.inputs) == 1 and len(array) > 1 and np.isfinite(array).all() and not np.ptp(array, axis=0).any():
            yield Suspicion(
                f"input {at}", f"all {len(array)} examples are the same", "examples that differ",
                "Look at what loads and scales the data.",
            )  # fmt: skip
    yield from _one_row(facts)


def _one_row(facts: Facts) -> Iterator[Suspicion]:
    """Fractions that choose rows of a table: cut off to whole numbers they are nearly all the same."""
    lookups = [index for index, op in enumerate(facts.ops) if op.kind == "lookup"]
    for index in lookups:
        before = [facts.ops[each].kind for each in facts.before(index)]
        if "input" in before and {*before} <= {"input", "move"} and len(facts.inputs) == 1:
            (array,) = facts.inputs
            rows = np.trunc(array)
            kinds, counts = np.unique(rows, return_counts=True)
            if rows.size and np.mean(rows != array) > _CUT and counts.max() > _ONE * rows.size:
                yield Suspicion(
                    "input 0", f"{facts.place(index)} takes the whole numbers of {array.min():.3g} to "
                    f"{array.max():.3g}: for {counts.max() / rows.size:.0%} of them row {kinds[counts.argmax()]:.0f}",
                    "the number of a row for each", "Give an embedding numbers of rows: do not scale them.",
                )  # fmt: skip
                return


def constant_targets(facts: Facts) -> Iterator[Suspicion]:
    """A batch of which all targets are the same."""
    y = facts.targets
    if y is not None and len(y) > 7 and np.isfinite(y).all() and not np.ptp(y, axis=0).any():
        # A loss of one's own may not look at the targets, or be about something else.
        severity: Severity = "warning" if facts.loss is not None else "info"
        yield Suspicion(
            "the targets", f"all {len(y)} are the same", "targets that differ", "Shuffle the data before batching.",
            severity=severity, unproven=severity,
        )  # fmt: skip


def mixed_examples(facts: Facts) -> Iterator[Suspicion]:
    """A model that learns little, and whose answer for an example depends on the others of the batch."""
    again, output, count = facts.patient.again, facts.output, len(facts.inputs[0]) if facts.inputs else 0
    fits = output is not None and count >= _HALVES and all(len(each) == count for each in (output, *facts.inputs))
    if again is None or output is None or not fits or not can_help(facts) or _mixes(facts, count):
        return
    spread = float(np.std(output, axis=0).max())
    for kept in (slice(0, count // 2), slice(count // 2, count)):
        off = _moved(again, facts.patient.example, kept)
        if off > _MIXED * spread:
            yield Suspicion(
                "", f"the outputs for {kept.stop - kept.start} examples change by up to {off:.3g} when the others are "
                "exchanged", "an answer for each example that depends on it alone",
                "Look for axes that were taken for others: batch_first, a view or reshape in place of a transpose.",
                severity="warning", unproven="warning",
            )  # fmt: skip
            return


def _moved(again: Callable[[Any], tuple[Array, ...]], example: Any, kept: slice) -> float:
    """By how much outputs for some examples change at most with the others, beyond what a model draws for itself."""
    try:
        before, noisy, after = (
            next(each for each in again(x) if np.issubdtype(each.dtype, np.floating))[kept].astype(np.float64)
            for x in (example, example, _exchanged(example, kept))
        )
    except FaninError:
        return 0.0
    off, noise = float(np.abs(after - before).max()), float(np.abs(noisy - before).max())
    return off if off > _NOISE * noise else 0.0


def _mixes(facts: Facts, count: int) -> bool:
    """Whether some step looks at the whole batch on purpose: batch normalisation, the links of a graph."""
    return any(
        (op.kind == "norm" and op.name == "batch") or (op.kind == "constant" and op.shape[-2:] == (count, count))
        for op in facts.ops
    )


def _exchanged(example: Any, kept: slice) -> Any:
    """An example of which all rows of floating numbers but the kept ones are turned round and have the other sign."""
    if isinstance(example, Mapping):
        return {key: _exchanged(value, kept) for key, value in example.items()}
    array = array_of(example)
    if array is None:
        nested = isinstance(example, tuple | list)
        return type(example)(_exchanged(value, kept) for value in example) if nested else example
    if not np.issubdtype(array.dtype, np.floating) or not array.ndim:
        return example
    turned = -array[::-1]
    turned[kept] = array[kept]
    return turned


def unscaled_inputs(facts: Facts) -> Iterator[Suspicion]:
    """Inputs far from mean 0 and variance 1, by what standardising them changes."""
    for at, array in enumerate(facts.inputs):
        if not np.isfinite(array).all() or not array.size:
            continue
        wide = array.astype(np.float64)
        rms, spread = float(np.sqrt(np.mean(wide**2))), float(wide.std())
        each = wide.std(axis=tuple(axis for axis in range(array.ndim) if axis != features(array)))
        low, high = np.quantile(each[each > 0], _MOST) if array.ndim == 2 and each.any() else (1.0, 1.0)
        uneven = float(high / low)
        far = rms > _LARGE or rms < _SMALL or abs(wide.mean()) > _OFFSET * spread
        if far or uneven > _UNEVEN:
            yield Suspicion(
                f"input {at}", f"from {wide.min():.4g} to {wide.max():.4g}, mean {wide.mean():.3g}, standard deviation "
                f"{spread:.3g}" + (f", of most features {low:.3g} to {high:.3g}" if uneven > _UNEVEN
                                   else ""),
                "mean about 0 and standard deviation about 1", "Standardise the inputs, feature by feature.",
                Cure(inputs=True, targets=_are_far(facts)), "warning" if far else "info", "info" if far else None,
                "error" if far else "warning",
            )  # fmt: skip


def unscaled_targets(facts: Facts) -> Iterator[Suspicion]:
    """Quantities far from mean 0 and variance 1, by what standardising them changes."""
    y = facts.targets
    if y is not None and _are_far(facts):
        yield Suspicion(
            "the targets", f"mean {y.mean():.4g}, standard deviation {y.std():.4g}",
            "mean about 0 and standard deviation about 1", "Standardise the targets, and undo it on predictions.",
            Cure(targets=True), "warning", "info",
        )  # fmt: skip


def _are_far(facts: Facts) -> bool:
    """Whether targets are quantities far from mean 0 and variance 1."""
    y = facts.targets
    if y is None or facts.loss is None or facts.loss.kind.takes != "values" or not np.isfinite(y).all():
        return False
    spread = float(y.std())
    return spread > 0 and (spread > _LARGE or spread < _SMALL or abs(float(y.mean())) > _OFFSET * spread)
