"""Steps that are written by hand in several functions and are one thing to a reader: norms, rotations."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fanin.torch.readings import MOVES, Reader, Reading
from fanin.torch.record import Call, Value, argument, values_in
from fanin.torch.replay import calls_between, number_of, replay

__all__ = ["is_rotation", "norm_of"]

_SIZE = 3
"""How long an axis is cut that a norm does not reduce: enough to see that it is not."""
_TOLERANCE = 0.03
"""Of bfloat16 in between, and of the small number beside the variance."""


def norm_of(reader: Reader, value: Value, call: Call) -> Reading | None:
    """The norm, or the softmax, that ends in this product or quotient; found by what it computes.

    What makes the value of one earlier value is run on random numbers, far from 0 and of a large scale, and
    compared to the norms over the axes that were reduced.
    """
    full, factor = argument(call, 0, "input"), argument(call, 1, "other")
    if full.shape != value.shape:
        full, factor = factor, full
    axes = tuple(
        axis - len(factor.shape) for axis in range(len(factor.shape))
        if factor.shape[axis] == 1 != full.shape[axis - len(factor.shape)]
    ) if len(factor.shape) == len(full.shape) == len(value.shape) else ()  # fmt: skip
    if not axes or factor.passive:
        return None
    for root in _candidates(full):
        found = _compared(value, root, axes)
        if found is not None:
            name, times = found
            size = math.prod(root.shape[axis] for axis in axes)
            reading = Reading("softmax", [root], value=size) if name == "softmax" else Reading("norm", [root], [], name)
            return reader.scaled(value, reading, times)
    return None


def _candidates(full: Value) -> Iterator[Value]:
    """What a norm that ends in `full` times something may be of: itself, or what it was cast or centred from."""
    value: Value | None = full
    while value is not None:
        yield value
        call, following = value.call, None
        if call is not None and call.name in (*MOVES, "sub", "add", "exp"):
            following = next((each for each in values_in(call.args) if each.shape == value.shape), None)
        value = following


def _compared(value: Value, root: Value, axes: tuple[int, ...]) -> tuple[str, float] | None:
    """Which norm of `root` over `axes` a value is, and times what."""
    calls = calls_between(value, (root,))
    if calls is None or root.shape != value.shape:
        return None
    rank = len(root.shape)
    reduced = {axis % rank for axis in axes}
    shape = [size if axis in reduced else min(size, _SIZE) for axis, size in enumerate(root.shape)]
    x = 7 + 30 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        results = {times: replay(value, {root: times * x}, calls).double() for times in (1.0, 0.01)}
    except Exception:  # sizes were cut that the functions count on: then it is not recognised
        return None
    for name, function in _NORMS.items():
        times = 0.01 if name == "softmax" else 1.0
        found, wanted = results[times], function(times * x, axes)
        if found.shape != wanted.shape:
            continue
        factor = float((found * wanted).sum() / (wanted * wanted).sum())
        if factor and torch.allclose(found, factor * wanted, rtol=_TOLERANCE, atol=_TOLERANCE * abs(factor)):
            near = abs(factor - 1) < _TOLERANCE
            return _kind(name, reduced, rank), 1.0 if near else factor
    return None


def _kind(name: str, reduced: set[int], rank: int) -> str:
    """What the field calls a norm over these axes."""
    if name != "layer":
        return name
    if 0 in reduced and rank > 1:
        return "batch"
    return "instance" if rank > 2 and reduced == set(range(2, rank)) and rank > 3 else "layer"


def _rms(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x / x.square().mean(axes, keepdim=True).sqrt()


def _standard(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return _rms(centred, axes)


def _shares(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (x - x.logsumexp(axes, keepdim=True)).exp()


_NORMS: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {"layer": _standard, "rms": _rms, "softmax": _shares}


def is_rotation(reader: Reader, first: Value, second: Value) -> Value | None:
    """What is rotated where a sum is a rotary embedding: ``x * cos + turned(x) * sin``, both of them constants.

    A rotation leaves every length as it is.
    """
    found: list[Value] = []
    for term in (first, second):
        call = term.call
        if call is None or call.name != "mul":
            return None
        pair = [each for each in (argument(call, 0, "input"), argument(call, 1, "other")) if isinstance(each, Value)]
        signals = [each for each in pair if not each.passive]
        if len(pair) != 2 or len(signals) != 1:
            return None
        found.append(signals[0])
    plain, turned = found
    return plain if plain is turned or _turned(reader, turned) == _turned(reader, plain) else None


def _turned(reader: Reader, value: Value) -> frozenset[Value]:
    """What a value is made of by moving, negating and putting side by side."""
    waiting, sources = [value], set()
    while waiting:
        each = waiting.pop()
        call = each.call
        negated = call is not None and (call.name == "neg" or (call.name == "mul" and _by_minus_one(call)))
        if call is not None and (call.name in MOVES or negated or call.name in ("cat", "stack")):
            waiting += [part for part in reader.readings[each].inputs if not part.passive]
        else:
            sources.add(each)
    return frozenset(sources)


def _by_minus_one(call: Call) -> bool:
    return -1.0 in [number_of(each) for each in call.args]
