"""From a law with independent elements to numbers, whole or any slice.

The NumPy way is the specification; the compiled one gives the same bits and is taken where it pays.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fanin.initializers.laws import Constant, Independent, Normal, TruncatedNormal, Uniform
from fanin.initializers.streams import check_seed, stream, words
from fanin.initializers.transforms import centred_uniform, cut_normal, normal, truncated_normal

__all__ = ["fill", "fill_box", "threads"]

Floats = NDArray[np.float32]
_CHUNK = 1 << 20
"""Elements drawn at a time, so that the integers behind them never take much memory."""
_WORTH_LOADING = 1 << 24
"""Elements for which NumPy takes about as long as loading Numba does."""
_WORTH_CALLING = 1 << 10
_WORTH_WRITING_ACROSS = 16
_WORTH_A_THREAD = 1 << 16
_REACH = 6.77
"""No normal number of `transforms.normal` lies further out, so wider cuts change nothing."""

_drawn = 0
"""Elements drawn by NumPy so far: many small parameters are worth loading Numba, too."""


def threads() -> int:
    """How many threads a large fill takes: the cores of this process, or ``FANIN_THREADS``."""
    given = os.environ.get("FANIN_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fill(out: Floats, draw: Independent, *, seed: int, name: str, start: int = 0) -> None:
    """Fill a flat float32 array with elements ``start`` to ``start + len(out)`` of a parameter.

    Filling in slices gives the same bits as filling at once.

    Args:
        out: One-dimensional, contiguous; overwritten.
        draw: A law with independent elements.
        seed: 0 to 2**64 - 1.
        name: The parameter's name.
        start: The position of ``out[0]`` in the whole parameter.

    Raises:
        InvalidValueError: If the seed is not a 64-bit number.

    Example:
        >>> whole, part = np.empty(9, np.float32), np.empty(4, np.float32)
        >>> fill(whole, Normal(0.0, 1.0), seed=3, name="w")
        >>> fill(part, Normal(0.0, 1.0), seed=3, name="w", start=5)
        >>> bool((whole[5:] == part).all())
        True
    """
    _fill_runs(out[None], np.array([start], np.uint64), draw, check_seed(seed), name)


def fill_box(
    view: Floats,
    draw: Independent,
    *,
    seed: int,
    name: str,
    shape: Sequence[int] | None = None,
    corner: Sequence[int] | None = None,
) -> None:
    """Fill a rectangular part of a parameter, whatever its order in memory; a shard draws nothing else.

    Args:
        view: The part, its axes in the canonical order, its memory in any; overwritten.
        draw: A law with independent elements.
        seed, name: As in `fill`.
        shape: The shape of the whole parameter, in the canonical order; that of the part where none is given.
        corner: Where the part begins in the whole.

    Example:
        >>> whole, part = np.empty((4, 6), np.float32), np.empty((2, 3), np.float32)
        >>> fill_box(whole, Normal(0.0, 1.0), seed=3, name="w")
        >>> fill_box(part, Normal(0.0, 1.0), seed=3, name="w", shape=(4, 6), corner=(1, 2))
        >>> bool((whole[1:3, 2:5] == part).all())
        True
    """
    seed = check_seed(seed)
    if not view.size:
        return
    shape = view.shape if shape is None else tuple(shape)
    corner = (0,) * view.ndim if corner is None else corner
    whole = [size == full for size, full in zip(view.shape, shape, strict=True)]
    # The axes from the last one that is cut on hold consecutive elements.
    inner = max((axis for axis in range(view.ndim) if not whole[axis]), default=0)
    if view.flags.c_contiguous:
        runs = view.reshape(-1, math.prod(view.shape[inner:]))
        _fill_runs(runs, _starts(view.shape[:inner], shape, corner).reshape(-1), draw, seed, name)
    elif (
        view.shape[-1] >= _WORTH_WRITING_ACROSS
        and all(step > 0 for step in view.strides)
        and (law := _compiled_law(draw, view.size)) is not None
    ):
        _fill_across(view, _starts(view.shape[:-1], shape, corner), law, seed, name)
    else:
        buffer = np.empty(view.shape, np.float32)
        fill_box(buffer, draw, seed=seed, name=name, shape=shape, corner=corner)
        view[...] = buffer


def _starts(outer: Sequence[int], shape: Sequence[int], corner: Sequence[int]) -> NDArray[np.uint64]:
    """For each index of the outer axes of a part, the position of its first element in the whole parameter."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    starts = np.array(sum(at * stride for at, stride in zip(corner, strides, strict=True)), np.uint64)
    for size, stride in zip(outer, strides, strict=False):
        starts = starts[..., None] + np.arange(size, dtype=np.uint64) * np.uint64(stride)
    return starts


def _fill_runs(out: Floats, starts: NDArray[np.uint64], draw: Independent, seed: int, name: str) -> None:
    """Fill each row of an array with consecutive elements; the rows begin at `starts`."""
    if isinstance(draw, Constant):
        out[...] = draw.value
    elif (law := _compiled_law(draw, out.size)) is not None:
        _fill_compiled(out, starts, law, seed, name)
    else:
        for row, start in zip(out, starts.tolist(), strict=True):
            for low in range(0, len(row), _CHUNK):
                high = min(low + _CHUNK, len(row))
                row[low:high] = _elements(draw, seed, name, start + low, start + high)


def _elements(draw: Independent, seed: int, name: str, start: int, stop: int) -> Floats:
    match draw:
        case Uniform():
            scale, shift = np.float32((draw.high - draw.low) / 2), np.float32(draw.mean)
            return centred_uniform(words(seed, name, start, stop)) * scale + shift
        case TruncatedNormal(value, 0) | Constant(value):
            return np.full(stop - start, value, np.float32)
        case TruncatedNormal(centre, stddev, -2.0, 2.0):
            return truncated_normal(words(seed, name, start, stop)) * np.float32(stddev) + np.float32(centre)
        case TruncatedNormal(centre, stddev, low, high) if _is_uncommon(draw):
            values = (centre + stddev * cut_normal(words(seed, name, start, stop), low, high)).astype(np.float32)
            return _inside(values, *draw.support)
        case TruncatedNormal(mean, stddev) | Normal(mean, stddev):
            even, odd = start - start % 2, stop + stop % 2
            standard = normal(words(seed, name, even, odd))[start - even : stop - even]
            return standard * np.float32(stddev) + np.float32(mean)


def _is_uncommon(draw: Independent) -> bool:
    """Whether it is a cut that needs the general inverse distribution function."""
    cut = isinstance(draw, TruncatedNormal) and (draw.low, draw.high) != (-2.0, 2.0)
    return cut and (draw.low > -_REACH or draw.high < _REACH)  # type: ignore[union-attr]


def _inside(values: Floats, low: float, high: float) -> Floats:
    """The values with those that rounding to float32 has moved over a bound moved back by one step."""
    inward = [np.nextafter(np.float32(low), np.float32(np.inf)), np.nextafter(np.float32(high), np.float32(-np.inf))]
    lowest = np.float32(low) if float(np.float32(low)) >= low else inward[0]
    highest = np.float32(high) if float(np.float32(high)) <= high else inward[1]
    return np.clip(values, lowest, highest)


_Law = tuple[int, np.float32, np.float32]
"""What the compiled fills know of a law: the kind of its standard number, a scale and a shift."""


def _compiled_law(draw: Independent, count: int) -> _Law | None:
    """The law as the compiled fills take it, or None where NumPy is faster or the only way."""
    global _drawn  # noqa: PLW0603 - what it would cost to load Numba is paid once per process
    if isinstance(draw, Constant) or _is_uncommon(draw):
        return None
    if "fanin.initializers.compiled" not in sys.modules:
        _drawn += count
        if _drawn < _WORTH_LOADING or find_spec("numba") is None:
            return None
    if count < _WORTH_CALLING:
        return None
    from fanin.initializers import compiled

    match draw:
        case Uniform():
            return compiled.UNIFORM, np.float32((draw.high - draw.low) / 2), np.float32(draw.mean)
        case TruncatedNormal(centre, stddev, -2.0, 2.0):
            return compiled.TRUNCATED, np.float32(stddev), np.float32(centre)
        case TruncatedNormal(mean, stddev) | Normal(mean, stddev):
            return compiled.NORMAL, np.float32(stddev), np.float32(mean)


def _stream_and_key(seed: int, name: str) -> tuple[np.uint64, ...]:
    number = stream(name)
    low, high = number & 0xFFFFFFFF, number >> 32
    return np.uint64(low), np.uint64(high), np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)


def _fill_compiled(out: Floats, starts: NDArray[np.uint64], law: _Law, seed: int, name: str) -> None:
    """Cut the work into even pieces for the threads: by rows where there are many, else within each row."""
    from fanin.initializers import compiled

    count = min(threads(), out.size // _WORTH_A_THREAD)
    rows, length = out.shape
    if count <= 1:
        pieces = [(out, starts)]
    elif rows >= count:
        edges = np.linspace(0, rows, count + 1).astype(int)
        pieces = [(out[low:high], starts[low:high]) for low, high in pairwise(edges)]
    else:
        edges = np.linspace(0, length, count + 1).astype(int) // 1024 * 1024
        edges[-1] = length
        pieces = [(out[:, low:high], starts + np.uint64(low)) for low, high in pairwise(edges)]
    keys = _stream_and_key(seed, name)
    _in_threads([partial(compiled.fill_runs, *piece, law, keys) for piece in pieces])


def _fill_across(view: Floats, starts: NDArray[np.uint64], law: _Law, seed: int, name: str) -> None:
    """Fill an array whose memory is in another order than its elements: along its last axis, many rows at a time."""
    from fanin.initializers import compiled

    *outer, stride = (step // view.itemsize for step in view.strides)
    offsets = np.zeros((), np.int64)
    for size, step in zip(view.shape, outer, strict=False):
        offsets = offsets[..., None] + np.arange(size, dtype=np.int64) * step
    order = np.argsort(offsets, axis=None, kind="stable")
    offsets, starts = offsets.reshape(-1)[order], starts.reshape(-1)[order]
    length = view.shape[-1]
    flat = np.lib.stride_tricks.as_strided(view, (int(offsets[-1]) + (length - 1) * stride + 1,), (view.itemsize,))
    count = max(1, min(threads(), view.size // _WORTH_A_THREAD))
    edges = np.linspace(0, len(starts), count + 1).astype(int) // 64 * 64
    edges[-1] = len(starts)
    keys = _stream_and_key(seed, name)
    _in_threads(
        [
            partial(compiled.fill_columns, flat, starts[low:high], offsets[low:high], length, stride, law, keys)
            for low, high in pairwise(edges)
        ]
    )


def _in_threads(calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls at once: the last one here, the others in threads that are kept for the next time."""
    *others, mine = calls
    waiting = [_pool().submit(call) for call in others]
    mine()
    for done in waiting:
        done.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads() - 1), thread_name_prefix="fanin-fill")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child starts its own
    os.register_at_fork(after_in_child=_pool.cache_clear)
