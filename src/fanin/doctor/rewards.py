"""Whether a loss function likes right answers best: found out by giving it right and wrong ones.

Needed for losses that are not known. What outputs mean to such a loss is not known either, so a loss is doubted only if
it prefers right answers in none of the ways in which they can be put.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.losses import answers, class_axes

__all__ = [
    "asks_beyond", "blind_below", "blind_to_outputs", "blind_to_pairs", "blind_to_size", "blind_to_targets", "floor_of",
    "is_for_shares", "leaves_out", "rewards_distance", "rewards_right", "uneven", "wants_logits",
]  # fmt: skip

Array = NDArray[Any]
Floats = NDArray[np.float64]
Function = Callable[[Array, Array], float]

_FEWEST = 8
"""Examples; of fewer a constant may well be the right answer."""
_SURE = 4.0
"""The logit of a confident answer."""
_SHARE = 0.9
"""Its probability."""
_WAYS = ((_SURE, 0.0), (_SHARE - 0.5, 0.5), (0.5, 0.5))
"""Yes and no as logits, as probabilities, and as 1 and 0: how far from the middle, and where that is."""
_SURER = (4.0, 8.0, 16.0, 32.0)
"""Logits of answers that grow ever surer."""
_FAR = (1.0, 10.0, 100.0)
"""How many standard deviations an answer is off."""
_SAME = 1e-5
"""Relative; less is rounding."""
_OTHERS = 0.2
"""Share of the targets that have to be others."""
_ROUNDING = 1e-6
_CONSTANTS = 8
"""The most frequent classes, one of which the best answer for all examples is."""
_TRIED = 64
"""Examples whose answers are spoiled one by one."""


def rewards_right(function: Function, shape: tuple[int, ...], targets: Array, *, shares: bool = False) -> bool | None:
    """Whether right answers for classes, for yes and no or for shares cost less than any answer that ignores the input.

    Args:
        function: From outputs and targets to the loss.
        shape: Of the outputs.
        targets: Of the batch.
        shares: Whether the outputs are known to be probabilities of yes, and not logits or distances.

    Returns:
        None where targets are something else, or the loss cannot be computed of made-up outputs.

    Example:
        >>> y = np.array([0, 1, 1, 0, 1, 1, 0, 1])
        >>> rewards_right(lambda z, y: float(np.logaddexp(0, (1 - 2 * y) * z).mean()), (8,), y)
        True
        >>> rewards_right(lambda z, y: float(np.logaddexp(0, -y * z).mean()), (8,), y)  # made for -1 and 1
        False
    """
    if len(targets) < _FEWEST or not np.ptp(targets, axis=0).any():
        return None
    found = [_is_best(function, right, others, targets) for right, others in _put(shape, targets, bounded=shares)]
    known = [each for each in found if each is not None]
    return any(known) if known else None


def _is_best(function: Function, right: Floats, others: list[Floats], targets: Array) -> bool | None:
    """Whether outputs cost less than all others; None where that cannot be computed."""
    found = _costs(function, (right, *others), targets)
    if found is None:
        return None
    best, least = found[0], min(found[1:])
    return best < least - _SAME * abs(least)


def _cost(function: Function, outputs: Floats, targets: Array) -> float | None:
    """The loss of made-up outputs; None where it cannot be computed, or is not finite."""
    try:
        found = float(function(outputs.astype(np.float32), targets))
    except Exception:  # a user's function may raise anything; it is called properly elsewhere
        return None
    return found if np.isfinite(found) else None


def _costs(function: Function, outputs: Iterable[Floats], targets: Array) -> list[float] | None:
    """The losses of several made-up outputs; None where one cannot be computed."""
    found = [_cost(function, each, targets) for each in outputs]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else None


def _put(shape: tuple[int, ...], targets: Array, bounded: bool) -> Iterator[tuple[Floats, list[Floats]]]:
    """Right answers as outputs, in each way in which they can be put, with those that are the same for all examples."""
    kinds = np.unique(targets)
    if targets.size == np.prod(shape) and len(kinds) == 2:
        yes = (targets == kinds[1]).astype(np.float64).reshape(shape)
        for sign in (1.0,) if bounded else (1.0, -1.0):  # a distance is small where the answer is yes
            signed = sign * (2 * yes - 1)
            for size, middle in _WAYS[bounded:]:
                constants = [np.full(shape, middle + size * each) for each in (-1.0, 0.0, 1.0)]
                yield middle + size * signed, constants
    if targets.shape == shape and (targets >= 0).all() and np.allclose(targets.sum(axis=-1), 1, atol=1e-3):
        shares = np.clip(targets.astype(np.float64), 1e-4, None)
        constant = np.broadcast_to(shares.mean(axis=0), shape)
        alike = [constant, np.full(shape, 1 / shape[-1])]
        yield shares, alike
        yield np.log(shares), [np.log(each) for each in alike]
    elif np.issubdtype(targets.dtype, np.integer) and targets.shape != shape:
        for axis in class_axes(shape, targets):
            yield from _classes(shape, axis, targets)


def _classes(shape: tuple[int, ...], axis: int, targets: Array) -> Iterator[tuple[Floats, list[Floats]]]:
    """Class numbers as logits, shares and logarithms of shares along an axis."""
    count, places = shape[axis], shape[:axis] + shape[axis + 1 :]
    kinds, counts = np.unique(targets, return_counts=True)
    often, hot = kinds[np.argsort(-counts, kind="stable")[:_CONSTANTS]], np.eye(count)
    rows = (np.broadcast_to(row, (*places, count)) for row in (*hot[often], np.full(count, 1 / count)))
    right, *alike = (np.moveaxis(each, -1, axis) for each in (hot[targets.reshape(places)], *rows))
    rest = (1 - _SHARE) / max(1, count - 1)
    ways: tuple[Callable[[Floats], Floats], ...] = (
        lambda hot: _SURE * hot,
        lambda hot: rest + (_SHARE - rest) * hot,
        lambda hot: np.log(rest + (_SHARE - rest) * hot),
    )
    for put in ways:
        yield put(right), [put(each) for each in alike]


def floor_of(function: Function, shape: tuple[int, ...], targets: Array) -> float:
    """What the surest right answers still cost, over what logits of 0 cost; 0 where that is nothing, or not known.

    A loss of logits falls to 0 as right answers grow sure, and grows without end for wrong ones. One that squashes
    them twice stops on both sides.

    Example:
        >>> y = np.array([0, 1, 1, 0, 1, 1, 0, 1])
        >>> once = lambda z, y: float(np.logaddexp(0, (1 - 2 * y) * z).mean())
        >>> floor_of(once, (8,), y) < 1e-9, round(floor_of(lambda z, y: once(1 / (1 + np.exp(-z)), y), (8,), y), 2)
        (True, 0.69)
    """
    hot = _logits_of(shape, targets)
    if hot is None:
        return 0.0
    found = _costs(function, (sure * hot for sure in (0.0, *_SURER, -_SURER[-2], -_SURER[-1])), targets)
    if found is None:
        return 0.0
    unsure, *right, wrong, wronger = found
    falls = all(one >= two for one, two in pairwise((unsure, *right))) and right[-1] < unsure < wronger
    flat = abs(right[-1] - right[-2]) <= _SAME * unsure and abs(wronger - wrong) <= _SAME * unsure
    return right[-1] / unsure if falls and flat else 0.0


def _logits_of(shape: tuple[int, ...], targets: Array) -> Floats | None:
    """Right answers as 1 and -1, or 1 and 0 for classes; None where targets are something else."""
    kinds = np.unique(targets)
    if targets.size == np.prod(shape) and len(kinds) == 2 and kinds.tolist() == [0, 1]:
        return (2.0 * targets - 1).reshape(shape)
    axes = class_axes(shape, targets) if np.issubdtype(targets.dtype, np.integer) and targets.shape != shape else ()
    for axis in axes:
        places = shape[:axis] + shape[axis + 1 :]
        return np.moveaxis(np.eye(shape[axis])[targets.reshape(places)], -1, axis)
    return None


def wants_logits(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether a loss cannot fall far as long as answers lie between 0 and 1, and falls to nothing beyond.

    Example:
        >>> y = np.array([0, 1, 1, 0, 1, 1, 0, 1])
        >>> wants_logits(lambda z, y: float(np.logaddexp(0, (1 - 2 * y) * z).mean()), (8,), y)
        True
    """
    hot = _logits_of(shape, targets)
    if hot is None:
        return False
    found = _costs(function, (hot.clip(0), _SURER[-1] * hot, 0 * hot), targets)
    return found is not None and found[2] > found[0] > 0.1 * found[2] and 0 <= found[1] < 0.01 * found[0]


def is_for_shares(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether a loss of yes and no is made for probabilities, and is led astray by outputs beyond 0 and 1.

    Right answers cost least as 0 and 1, not as logits; and beyond 1 they cost less than nothing.

    Example:
        >>> y = np.array([0, 1, 0, 0, 1, 0, 0, 1])
        >>> is_for_shares(lambda out, y: 1 - 2 * float((out * y).sum() / (out.sum() + y.sum())), (8,), y)
        True
        >>> is_for_shares(lambda out, y: float(((out - y) ** 2).mean()), (8,), y)
        False
    """
    hot = _logits_of(shape, targets) if targets.size == np.prod(shape) else None
    if hot is None:
        return False
    yes = (hot + 1) / 2
    put = (yes, 10 * yes, np.full(shape, 0.5), np.ones(shape), _SURE * hot, np.full(shape, _SURE))
    found = _costs(function, put, targets)
    if found is None:
        return False
    exact, beyond, unsure, all_yes, logits, alike = found
    return beyond < exact < min(unsure, all_yes) and logits >= alike


def leaves_out(function: Function, outputs: Array, targets: Array, where: NDArray[np.bool_], axis: int) -> bool:
    """Whether a loss does not look at the outputs of some targets, as of padding.

    Args:
        where: Of the targets' shape.
        axis: That of the classes.
    """
    moved = np.moveaxis(outputs.astype(np.float64), axis, -1)
    changed = np.where(where.reshape(moved.shape[:-1])[..., None], 1 - moved[..., ::-1], moved)
    found = _costs(function, (outputs.astype(np.float64), np.moveaxis(changed, -1, axis)), targets)
    return found is not None and abs(found[1] - found[0]) <= _SAME * abs(found[0])


def rewards_distance(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether numbers cost the less the further off they are, on both sides, as where a sign was forgotten.

    Example:
        >>> y = np.arange(8.0)
        >>> rewards_distance(lambda out, y: -float(((out - y) ** 2).mean()), (8,), y)
        True
    """
    if targets.size != np.prod(shape) or not np.issubdtype(targets.dtype, np.floating):
        return False
    y = targets.astype(np.float64).reshape(shape)
    spread = float(y.std()) or 1.0
    for sign in (-1.0, 1.0):
        found = _costs(function, (y + sign * far * spread for far in (0.0, *_FAR)), targets)
        if found is None or not all(np.diff(found) < -_SAME * np.abs(found[:-1])):
            return False
    return True


def blind_to_outputs(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether a loss is the same whatever the outputs: small ones, their opposites, and such of the targets' size.

    Next to large targets small outputs are lost in rounding.

    Example:
        >>> blind_to_outputs(lambda out, y: float(((out - y) ** 2).mean()), (8,), 1e9 * np.arange(8.0))
        False
    """
    large = float(np.abs(targets).max(initial=1)) if np.issubdtype(targets.dtype, np.number) else 1.0
    found = answers(function, shape, targets)
    if found is None:
        return False
    (drawn, *_), costs = found
    changed = (_cost(function, factor * drawn, targets) for factor in (-1.0, large))
    every = [*costs, *(each for each in changed if each is not None)]
    return bool(np.isfinite(every).all() and np.ptp(every) <= _ROUNDING * max(1.0, abs(every[0])))


def blind_to_targets(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether a loss is the same when other examples' targets take the place of each one's.

    Example:
        >>> blind_to_targets(lambda out, y: float((out**2).mean()), (8, 1), np.arange(8.0)[:, None])
        True
    """
    other = np.roll(targets, 1, axis=0)
    if len(targets) < _FEWEST or np.mean(other != targets) < _OTHERS:
        return False
    drawn = np.random.default_rng(0).uniform(0.1, 0.9, shape)
    costs = [_cost(function, drawn, each) for each in (targets, other, np.roll(targets, 3, axis=0))]
    known = [each for each in costs if each is not None]
    return len(known) == len(costs) and bool(np.ptp(known) <= _ROUNDING * abs(known[0]))


def blind_to_pairs(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether a loss looks at numbers to be reached, but not at which example each belongs to: all meet all.

    Example:
        >>> y = np.arange(8.0)[:, None]
        >>> blind_to_pairs(lambda out, y: float(((out[:, 0] - y) ** 2).mean()), (8, 1), y)
        True
    """
    if targets.size != np.prod(shape) or not np.issubdtype(targets.dtype, np.floating):
        return False
    drawn, y = np.random.default_rng(0).normal(size=shape), targets
    given = ((drawn, y), (2 * drawn, y), (drawn, 2 * y + 1), (drawn, np.roll(y, 1, 0)))
    costs = [_cost(function, *each) for each in given]
    known = [each for each in costs if each is not None]
    if len(known) < len(costs):
        return False
    doubled, others, exchanged = (abs(each - known[0]) > _SAME * abs(known[0]) for each in known[1:])
    return doubled and others and not exchanged and blind_to_targets(function, shape, targets)


def blind_to_size(function: Function, shape: tuple[int, ...], targets: Array) -> bool:
    """Whether it is all the same to a loss how large single numbers are that should equal targets of many sizes.

    Example:
        >>> y = np.arange(8.0)[:, None]
        >>> blind_to_size(lambda out, y: -float((np.sign(out) * np.sign(y)).mean()), (8, 1), y)
        True
    """
    if targets.size != np.prod(shape) or shape[-1] != 1 or len(np.unique(np.abs(targets))) < 3:
        return False
    drawn = np.random.default_rng(0).normal(size=shape)
    found = _costs(function, (factor * drawn for factor in (1.0, 3.0, 10.0)), targets)
    return found is not None and bool(np.ptp(found) <= _SAME * abs(found[0]))


def asks_beyond(
    function: Callable[[Any, Array], float], outputs: tuple[Array, ...], at: int, y: Array, low: float, high: float
) -> bool:
    """Whether a loss of several outputs is least where one of them reaches targets outside of a range.

    Args:
        at: Which one; it has as many numbers as the targets.
        y: The targets.

    Example:
        >>> y, two = np.array([-3.0, 0.0, 3.0]), (np.zeros(3), np.zeros((3, 2)))
        >>> loss = lambda outputs, y: float(((outputs[0] - y) ** 2).mean() + outputs[1].mean())
        >>> asks_beyond(loss, two, 0, y, -1.0, 1.0)
        True
    """

    def alone(output: Array, targets: Array) -> float:
        return function((*outputs[:at], output, *outputs[at + 1 :]), targets)

    wanted = y.astype(np.float64).reshape(outputs[at].shape)
    found = _costs(alone, (wanted, wanted.clip(low, high)), y)
    return found is not None and found[1] - found[0] > _SAME * abs(found[0])


def blind_below(function: Function, shape: tuple[int, ...], targets: Array) -> float:
    """The share of the targets below 0 that a loss cannot tell from 0; 0 where it can, or there are none.

    Example:
        >>> y = np.arange(-4.0, 4.0)
        >>> blind_below(lambda out, y: float(((out.clip(0) - y.clip(0)) ** 2).mean()), (8,), y)
        0.5
    """
    below = float(np.mean(targets < 0))
    if targets.size != np.prod(shape) or not below or not np.issubdtype(targets.dtype, np.floating):
        return 0.0
    y = targets.astype(np.float64).reshape(shape)
    found = _costs(function, (y, y.clip(0), np.abs(y) + float(y.std()) + 1.0), targets)
    if found is None:
        return 0.0
    right, cut, far = found
    return below if far > right and abs(cut - right) <= _SAME * (far - right) else 0.0


def uneven(function: Function, shape: tuple[int, ...], targets: Array) -> tuple[float, int]:
    """How much more the same error costs at the dearest example than at the middle one, and which one that is.

    Example:
        >>> y = np.array([0.0001, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 1.0])
        >>> factor, example = uneven(lambda out, y: float(np.abs((out - y) / y).mean()), (8,), y)
        >>> round(factor), example
        (10000, 0)
    """
    if targets.size != np.prod(shape) or not np.issubdtype(targets.dtype, np.floating) or len(targets) < _FEWEST:
        return 1.0, 0
    y = targets.astype(np.float64).reshape(shape)
    found = _costs(function, (y, *(_spoiled(y, index) for index in range(min(len(y), _TRIED)))), targets)
    if found is None:
        return 1.0, 0
    constant = _cost(function, np.full(shape, y.mean()), targets)
    if constant is not None and constant < found[0]:
        return 1.0, 0  # outputs are not in the targets' unit, as logarithms of rates
    more = np.array(found[1:]) - found[0]
    middle = float(np.median(more))
    return (float(more.max() / middle), int(more.argmax())) if middle > 0 else (1.0, 0)


def _spoiled(y: Floats, index: int) -> Floats:
    """Numbers of which one is a standard deviation too large."""
    spoiled = y.copy()
    spoiled[index] += float(y.std())
    return spoiled
