"""Statistics of one step's output: what all frameworks take of a tensor, and what follows from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import ModelError, unknown_name
from fanin.records import Op, Vitals

__all__ = ["COMPARED", "DECILES", "NOTHING", "Statistics", "assembled", "distance", "finished", "gathered",
           "gradient_size", "likeness", "refuse_misfits", "relative", "root_mean_square"]  # fmt: skip

DECILES = np.arange(1, 10) / 10
COMPARED = 32
"""Examples that are compared with each other."""
_SAMPLED = 4096


@dataclass(frozen=True)
class Statistics:
    """What `fanin.records.Vitals` says of one step; of one without numbers, nothing."""

    size: float = math.nan
    mean: float = math.nan
    quantiles: tuple[float, ...] = (math.nan,) * 11
    cosine: float = math.nan
    rank: float = math.nan
    infinite: int = 0
    lowest: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.float32))
    highest: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.float32))

    def times(self, factor: float) -> "Statistics":
        """Those of the same tensor, multiplied by a number."""
        low, high = self.lowest * factor, self.highest * factor
        turned = slice(None, None, -1 if factor < 0 else 1)
        return replace(
            self,
            size=self.size * abs(factor),
            mean=self.mean * factor,
            quantiles=tuple(each * factor for each in self.quantiles)[turned],
            lowest=low if factor >= 0 else high,
            highest=high if factor >= 0 else low,
        )


NOTHING = Statistics()
"""Of what has no numbers."""


def root_mean_square(xp: Any, wide: Any) -> Any:
    """Of all elements; scaled, because squares of what float32 holds may be outside of it.

    Args:
        xp: The functions of the tensor's library, named as in NumPy: `jax.numpy`, `keras.ops`.
        wide: In float32.
    """
    return _size(xp, wide, _unit(xp, xp.max(xp.abs(wide), initial=0.0)))


def _unit(xp: Any, largest: Any) -> Any:
    """What to divide by, so that squares can be taken."""
    return xp.where((largest > 0) & xp.isfinite(largest), largest, 1.0)


def _size(xp: Any, wide: Any, unit: Any) -> Any:
    return unit * xp.sqrt(xp.mean(xp.square(wide / unit)))


def gathered(xp: Any, wide: Any, axis: int, alike: bool) -> dict[str, Any]:
    """What is needed to know of a tensor's values, as tensors of a few numbers; for `finished`.

    Args:
        xp: As for `root_mean_square`.
        wide: In float32, with at least one element.
        axis: Of its units, where it has two axes or more.
        alike: Whether its first axis is that of the examples, so that these are compared.
    """
    finite = xp.isfinite(wide)
    low = xp.min(xp.where(finite, wide, math.inf))
    high = xp.max(xp.where(finite, wide, -math.inf))
    unit = _unit(xp, xp.maximum(-low, high))
    found = {
        "size": _size(xp, wide, unit),
        "mean": unit * xp.mean(wide / unit),
        "ends": xp.stack([low, high]),
        "infinite": xp.sum(xp.where(finite, 0, 1)),
        "sample": xp.reshape(wide, (-1,))[:: distance(math.prod(wide.shape))],
    }
    if len(wide.shape) > 1:
        others = tuple(each for each in range(len(wide.shape)) if each != axis % len(wide.shape))
        found |= {"lowest": xp.min(wide, others), "highest": xp.max(wide, others)}
    if alike:
        rows = xp.reshape(wide[:COMPARED] / unit, (min(wide.shape[0], COMPARED), -1))
        found["gram"] = xp.matmul(rows, xp.transpose(rows))
    return found


def finished(numbers: Mapping[str, NDArray[Any]]) -> Statistics:
    """The statistics that follow from what was gathered.

    Example:
        >>> x = np.array([[3.0, 4.0], [3.0, 4.0]], np.float32)
        >>> found = finished({name: np.asarray(value) for name, value in gathered(np, x, 1, True).items()})
        >>> round(found.size, 4), found.cosine, found.lowest.tolist()
        (3.5355, 1.0, [3.0, 4.0])
    """
    sample = numbers["sample"][np.isfinite(numbers["sample"])]
    low, high = numbers["ends"].tolist()
    deciles = np.quantile(sample, DECILES).tolist() if len(sample) else [math.nan] * len(DECILES)
    quantiles = (low, *deciles, high) if low <= high else NOTHING.quantiles
    cosine, rank = likeness(numbers["gram"].astype(np.float64)) if "gram" in numbers else (math.nan, math.nan)
    return Statistics(
        float(numbers["size"]), float(numbers["mean"]), quantiles, cosine, rank, int(numbers["infinite"]),
        numbers.get("lowest", NOTHING.lowest), numbers.get("highest", NOTHING.highest),
    )  # fmt: skip


def distance(count: int) -> int:
    """Between the elements of a sample; it has no divisor in common with their number, so that it meets all places.

    Example:
        >>> distance(100), distance(8192)
        (1, 3)
    """
    step = -(-count // _SAMPLED)
    while math.gcd(step, count) > 1:
        step += 1
    return step


def relative(changes: Any, sizes: Any) -> NDArray[np.float64]:
    """How much training changed arrays, as log10(change / size); minus infinity where nothing changed.

    Args:
        changes, sizes: Root mean squares of the changes and of the values before, of one shape.

    Example:
        >>> relative([0.002, 0.0, 0.0, 0.1], [2.0, 1.0, 0.0, 0.0]).tolist()
        [-3.0, -inf, -inf, inf]
    """
    change, size = (np.asarray(each, np.float64) for each in (changes, sizes))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(change == 0, -np.inf, np.log10(change / size))


def gradient_size(size: float) -> float:
    """The size of a gradient that there is, as records have it: infinite where its numbers are not finite.

    Example:
        >>> gradient_size(0.5), gradient_size(math.nan)
        (0.5, inf)
    """
    return math.inf if math.isnan(size) else float(size)


def assembled(
    ops: Sequence[Op],
    told: Sequence[Statistics],
    gradients: Sequence[float],
    sent: Mapping[str, float],
    loss: float,
    outputs: Sequence[NDArray[Any]],
) -> Vitals:
    """The record of what was measured of each step.

    Args:
        told, gradients: One for each step, see `Vitals.gradient_rms`.
        sent: As `Vitals.param_gradients`.
    """
    return Vitals(
        layers=tuple(f"{at}:{op.place or op.kind}" for at, op in enumerate(ops)),
        signal_rms=tuple(each.size for each in told),
        gradient_rms=tuple(gradients),
        mean=tuple(each.mean for each in told),
        quantiles=tuple(each.quantiles for each in told),
        cosine=tuple(each.cosine for each in told),
        rank=tuple(each.rank for each in told),
        infinite=tuple(each.infinite for each in told),
        lowest=tuple(each.lowest for each in told),
        highest=tuple(each.highest for each in told),
        param_gradients=sent,
        loss=loss,
        outputs=tuple(outputs),
    )


def refuse_misfits(given: Mapping[str, NDArray[Any]], own: Mapping[str, Any]) -> None:
    """Nothing, where arrays by path can stand for a model's own, which have a shape each.

    Raises:
        UnknownNameError, ModelError: If there is none of a path, or of another shape.
    """
    for path, array in given.items():
        if path not in own:
            raise unknown_name("parameter in the model", path, own)
        if np.shape(array) != tuple(own[path].shape):
            allowed = str(tuple(own[path].shape))
            raise ModelError(f"The array for {path} has another shape", given=np.shape(array), allowed=allowed)


@lru_cache(maxsize=COMPARED)
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The indices of every two of so many."""
    first, second = np.triu_indices(count, 1)
    return first, second


def likeness(gram: NDArray[np.float64]) -> tuple[float, float]:
    """How much examples are alike, from their products: the mean cosine of two, and the effective rank of all."""
    whole = float(np.square(gram).sum())
    if len(gram) < 2 or not (math.isfinite(whole) and whole > 0):
        return math.nan, math.nan
    lengths = np.sqrt(gram.diagonal())
    first, second = _pairs(len(gram))
    some = (lengths[first] > 0) & (lengths[second] > 0)
    pairs = gram[first, second][some] / (lengths[first] * lengths[second])[some]
    return float(pairs.mean().clip(-1, 1)) if some.any() else math.nan, float(gram.trace() ** 2 / whole)
