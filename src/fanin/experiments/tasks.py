"""Data checked and divided: from plain arrays to a `Task` that can be trained on."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import DataError
from fanin.initializers.streams import permutation
from fanin.records import Task

__all__ = ["ALLOWED_ARRAYS", "Arrays", "make_task"]

Arrays = Mapping[str, NDArray[Any]]
ALLOWED_ARRAYS = "x, y; or x_train, y_train, x_test, y_test; and x_val, y_val where there are any"


def make_task(name: str, arrays: Arrays) -> Task:
    """Check data and divide it into training, validation and test parts.

    With `x` and `y` alone, a fifth each goes to test and validation; with test data given, a tenth of the
    training data, at most 5,000, goes to validation; given parts stay as they are. The division is always
    the same. Pixels stored as bytes are divided by 255; everything else is used as it is.

    Args:
        name: The task's name.
        arrays: Arrays by name: `x`, `y` or `x_train`, `y_train`, `x_test`, `y_test`, with or without `x_val`, `y_val`.

    Raises:
        DataError: If something is missing, not finite, of unequal length or shape, or no class labels.

    Example:
        >>> task = make_task("toy", {"x": np.zeros((10, 3), np.float32), "y": np.arange(10) % 2})
        >>> len(task.x_train), len(task.x_val), len(task.x_test)
        (6, 2, 2)
    """
    parts = _parts(arrays)
    kind, outputs, labels = _targets({key: y for key, (_, y) in parts.items()})
    digest = hashlib.blake2b(digest_size=16)
    final: dict[str, NDArray[Any]] = {}
    for key in ("train", "val", "test"):
        x = _inputs(f"x_{key}", parts[key][0])
        if x.shape[1:] != parts["train"][0].shape[1:]:
            raise DataError(
                f"x_{key} has another shape than x_train",
                given=f"{x.shape[1:]} and {parts['train'][0].shape[1:]}",
            )
        final |= {f"x_{key}": x, f"y_{key}": labels[key]}
        for array in (x, labels[key]):
            digest.update(str((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return Task(name, kind, outputs, **final, fingerprint=digest.hexdigest())


def _parts(arrays: Arrays) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """The three parts, as given or divided."""
    given = {key: np.asarray(value) for key, value in arrays.items() if value is not None}
    if "x" in given and "x_train" not in given:
        given |= {f"{axis}_train": given[axis] for axis in "xy" if axis in given}
    for part in ("train", "val", "test"):
        if part == "train" or {f"x_{part}", f"y_{part}"} & set(given):
            _check_pair(given, part)
    x, y = given["x_train"], given["y_train"]
    order = permutation(0, "split", len(x))
    test = 0 if "x_test" in given else len(x) // 5
    val = 0 if "x_val" in given else len(x) // 5 if test else min(max(1, len(x) // 10), 5000)
    cuts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}
    parts = {part: (x[rows], y[rows]) for part, rows in cuts.items()}
    for part in ("val", "test"):
        if f"x_{part}" in given:
            parts[part] = (given[f"x_{part}"], given[f"y_{part}"])
    return parts


def _check_pair(given: Mapping[str, NDArray[Any]], part: str) -> None:
    """Refuse a part that lacks an array, or whose arrays are no examples with a target each."""
    missing = [name for name in (f"x_{part}", f"y_{part}") if name not in given]
    if missing:
        raise DataError(
            f"The data lacks {' and '.join(missing)}",
            given=", ".join(sorted(given)) or "no arrays",
            allowed=ALLOWED_ARRAYS,
        )
    x, y = given[f"x_{part}"], given[f"y_{part}"]
    least = 5 if part == "train" else 1
    if x.ndim < 2 or len(x) < least or 0 in x.shape:
        raise DataError(
            f"x_{part} is no set of examples",
            given=f"shape {x.shape}",
            allowed=f"(examples, features...), {least} or more",
        )
    if y.ndim not in (1, 2) or 0 in y.shape:
        raise DataError(f"y_{part} is no set of targets", given=f"shape {y.shape}", allowed="one row for each example")
    if len(x) != len(y):
        raise DataError(f"x_{part} and y_{part} differ in length", given=f"{len(x)} and {len(y)}")


def _inputs(name: str, x: NDArray[Any]) -> NDArray[np.float32]:
    if x.dtype.kind not in "buif":
        raise DataError(f"{name} does not hold numbers", given=str(x.dtype))
    values = _finite(name, x)
    return values / np.float32(255) if x.dtype == np.uint8 else values


def _finite(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """The array in float32, if every number is finite there."""
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        first = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(
            f"{name} holds numbers that are not finite",
            given=f"{bad} nan, inf or beyond float32, the first at {first}",
            hint="Drop or fill these examples before comparing.",
        )
    return values


def _targets(parts: Mapping[str, NDArray[Any]]) -> tuple[Any, int, dict[str, NDArray[Any]]]:
    """Kind of task, number of outputs, and the targets in the form that the losses take."""
    flat = {key: y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for key, y in parts.items()}
    for key, y in flat.items():
        if y.dtype.kind not in "buif":
            raise DataError(
                "The labels are not classes",
                given=f"y_{key} of type {y.dtype}",
                allowed="integers from 0",
                hint=_NUMBER,
            )
        if (y.shape[1:], y.dtype.kind == "f") != (flat["train"].shape[1:], flat["train"].dtype.kind == "f"):
            raise DataError(
                f"y_{key} is of another kind than y_train",
                given=f"{y.dtype} of shape {y.shape}, and {flat['train'].dtype} of shape {flat['train'].shape}",
            )
    if all(_is_one_hot(y) for y in flat.values()):
        flat = {key: y.argmax(axis=1) for key, y in flat.items()}
    if flat["train"].dtype.kind == "f":
        return _regression(flat)
    return _classification(flat)


def _regression(flat: Mapping[str, NDArray[Any]]) -> tuple[str, int, dict[str, NDArray[Any]]]:
    targets = {key: _finite(f"y_{key}", y.reshape(len(y), -1)) for key, y in flat.items()}
    return "regression", targets["train"].shape[1], targets


def _classification(flat: Mapping[str, NDArray[Any]]) -> tuple[str, int, dict[str, NDArray[Any]]]:
    if flat["train"].ndim != 1:
        raise DataError(
            "The labels are not classes",
            given=f"y of shape {flat['train'].shape}",
            allowed="one integer for each example, or rows with a single 1",
        )
    present = np.unique(np.concatenate(list(flat.values())))
    classes = len(present)
    if classes < 2 or present.tolist() != list(range(classes)):
        shown = ", ".join(str(value) for value in present[:8].tolist()) + (", ..." if classes > 8 else "")
        raise DataError(
            "The labels are not classes",
            given=f"labels {shown}",
            allowed="two or more classes numbered 0, 1, 2, ... without a gap",
            hint=_NUMBER,
        )
    return "classification", classes, {key: y.astype(np.int32) for key, y in flat.items()}


_NUMBER = "Number them with numpy.unique(y, return_inverse=True)."


def _is_one_hot(y: NDArray[Any]) -> bool:
    return y.ndim == 2 and bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())
