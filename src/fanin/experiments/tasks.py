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
    parts = _parts(name, arrays)
    kind, outputs, labels = _targets(name, {key: y for key, (_, y) in parts.items()})
    digest = hashlib.blake2b(digest_size=16)
    final: dict[str, NDArray[Any]] = {}
    for key in ("train", "val", "test"):
        x = _inputs(f"x_{key}", parts[key][0])
        if len(x) != len(labels[key]):
            raise DataError(f"x_{key} and y_{key} differ in length", given=f"{len(x)} and {len(labels[key])}")
        if x.shape[1:] != parts["train"][0].shape[1:]:
            raise DataError(
                f"x_{key} has another shape than x_train",
                given=f"{x.shape[1:]} and {parts['train'][0].shape[1:]}",
            )
        final |= {f"x_{key}": x, f"y_{key}": labels[key]}
        for array in (x, labels[key]):
            digest.update(str((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return Task(name, kind, outputs, **final, fingerprint=digest.hexdigest())


def _parts(name: str, arrays: Arrays) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    known = {"x", "y", *(f"{a}_{part}" for a in "xy" for part in ("train", "val", "test"))}
    given = {key: np.asarray(value) for key, value in arrays.items() if key in known}
    whole = {"x", "y"} <= set(given)
    if not whole and not {"x_train", "y_train", "x_test", "y_test"} <= set(given):
        raise DataError("The data lacks arrays", given=", ".join(sorted(arrays)) or "none", allowed=ALLOWED_ARRAYS)
    x, y = (given["x"], given["y"]) if whole else (given["x_train"], given["y_train"])
    if x.ndim < 2 or len(x) < 5:
        raise DataError(
            "x is no set of examples", given=f"shape {x.shape}", allowed="(examples, features...), 5 or more"
        )
    if len(x) != len(y):
        raise DataError("x and y differ in length", given=f"{len(x)} and {len(y)}")
    order = permutation(0, "split", len(x))
    test = len(x) // 5 if whole else 0
    val = len(x) // 5 if whole else min(max(1, len(x) // 10), 5000)
    if "x_val" in given and "y_val" in given:
        val = 0
    parts = {
        "test": (x[order[:test]], y[order[:test]]),
        "val": (x[order[test : test + val]], y[order[test : test + val]]),
    }
    parts["train"] = (x[order[test + val :]], y[order[test + val :]])
    for part in ("val", "test"):
        if f"x_{part}" in given and f"y_{part}" in given:
            parts[part] = (given[f"x_{part}"], given[f"y_{part}"])
    return parts


def _inputs(name: str, x: NDArray[Any]) -> NDArray[np.float32]:
    if x.dtype.kind not in "buif":
        raise DataError(f"{name} does not hold numbers", given=str(x.dtype))
    values = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        first = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(
            f"{name} holds numbers that are not finite",
            given=f"{bad} nan or inf, the first at {first}",
            hint="Drop or fill these examples before comparing.",
        )
    return values


def _targets(name: str, parts: Mapping[str, NDArray[Any]]) -> tuple[Any, int, dict[str, NDArray[Any]]]:
    """Kind of task, number of outputs, and the targets in the form that the losses take."""
    flat = {key: y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for key, y in parts.items()}
    train = flat["train"]
    if train.dtype.kind not in "buif":
        raise DataError("The labels are not classes", given=f"y of type {train.dtype}", allowed="integers from 0",
                        hint="Number them with numpy.unique(y, return_inverse=True).")  # fmt: skip
    if train.ndim == 2 and all(_is_one_hot(y) for y in flat.values()):
        flat = {key: y.argmax(axis=1) for key, y in flat.items()}
    if flat["train"].dtype.kind == "f":
        targets = {key: y.reshape(len(y), -1).astype(np.float32) for key, y in flat.items()}
        if not all(np.isfinite(y).all() for y in targets.values()):
            raise DataError("The targets hold numbers that are not finite", given=name)
        return "regression", targets["train"].shape[1], targets
    if flat["train"].ndim != 1:
        raise DataError(
            "The labels are not classes",
            given=f"y of shape {train.shape}",
            allowed="one integer for each example",
        )
    present = np.unique(flat["train"])
    classes = int(present[-1]) + 1
    if present[0] != 0 or len(present) != classes or classes < 2:
        shown = ", ".join(str(value) for value in present[:8].tolist()) + (", ..." if len(present) > 8 else "")
        raise DataError(
            "The labels are not classes",
            given=f"labels {shown}",
            allowed="two or more classes numbered 0, 1, 2, ... without a gap",
            hint="Number them with numpy.unique(y, return_inverse=True).",
        )
    for key, y in flat.items():
        if y.min() < 0 or y.max() >= classes:
            raise DataError(
                f"y_{key} has labels that y_train lacks",
                given=f"{y.min()} to {y.max()}",
                allowed=f"0 to {classes - 1}",
            )
    return "classification", classes, {key: y.astype(np.int32) for key, y in flat.items()}


def _is_one_hot(y: NDArray[Any]) -> bool:
    return y.ndim == 2 and bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())
