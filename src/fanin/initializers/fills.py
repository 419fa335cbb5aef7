"""From a draw to numbers, whole or any slice: the plain NumPy implementation, which is the specification."""

import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError
from fanin.initializers.fans import axes_of_shape, canonical_order, fans
from fanin.initializers.laws import Constant, Draw, Eye, Fourier, Normal, Orthogonal, TruncatedNormal, Uniform
from fanin.initializers.specs import canonical, decide
from fanin.initializers.streams import check_seed, words
from fanin.initializers.transforms import centred_uniform, normal, truncated_normal
from fanin.records import Axis, Init, ParamInfo

__all__ = ["draw_param", "fill", "sample"]

Floats = NDArray[np.float32]
_CHUNK = 1 << 20
"""Elements drawn at a time, so that the integers behind them never take much memory."""


def fill(
    out: Floats, draw: Constant | Normal | TruncatedNormal | Uniform, *, seed: int, name: str, start: int = 0
) -> None:
    """Fill a flat float32 array with elements ``start`` to ``start + len(out)`` of a parameter.

    Filling in slices gives the same bits as filling at once.

    Args:
        out: One-dimensional, contiguous; overwritten.
        draw: A law with independent elements.
        seed: 0 to 2**64 - 1.
        name: The parameter's name.
        start: The position of ``out[0]`` in the whole parameter.

    Example:
        >>> whole, part = np.empty(9, np.float32), np.empty(4, np.float32)
        >>> fill(whole, Normal(0.0, 1.0), seed=3, name="w")
        >>> fill(part, Normal(0.0, 1.0), seed=3, name="w", start=5)
        >>> bool((whole[5:] == part).all())
        True
    """
    for low in range(0, len(out), _CHUNK):
        high = min(low + _CHUNK, len(out))
        out[low:high] = _elements(draw, seed, name, start + low, start + high)


def _elements(
    draw: Constant | Normal | TruncatedNormal | Uniform, seed: int, name: str, start: int, stop: int
) -> Floats:
    match draw:
        case Constant(value):
            return np.full(stop - start, value, np.float32)
        case Uniform():
            half = np.float32((draw.high - draw.low) / 2)
            return centred_uniform(words(seed, name, start, stop)) * half + np.float32(draw.mean)
        case TruncatedNormal(mean, stddev):
            standard = truncated_normal(words(seed, name, start, stop))
        case Normal(mean, stddev):
            even, odd = start - start % 2, stop + stop % 2
            standard = normal(words(seed, name, even, odd))[start - even : stop - even]
    return standard * np.float32(stddev) + np.float32(mean)


def _matrix(draw: Orthogonal | Eye, rows: int, columns: int, seed: int, name: str, start: int) -> Floats:
    """One matrix of an orthogonal or identity law; the words from `start` on belong to it."""
    if isinstance(draw, Eye):
        return np.eye(rows, columns, dtype=np.float32) * np.float32(draw.gain)
    long, short = max(rows, columns), min(rows, columns)
    flat = np.empty(long * short, np.float32)
    fill(flat, Normal(0.0, 1.0), seed=seed, name=name, start=start)
    q, r = np.linalg.qr(flat.reshape(long, short).astype(np.float64))
    # Without this the signs of R's diagonal are LAPACK's choice and Q is not Haar (Mezzadri 2007).
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return ((q if rows >= columns else q.T) * draw.gain).astype(np.float32)


def _fourier(draw: Fourier, shape: tuple[int, ...]) -> Floats:
    if len(shape) != 3 or shape[1] != 1:
        raise InvalidValueError("stft does not fit this shape", given=shape, allowed="(frame, 1, frequencies)")
    frame, _, frequencies = shape
    angle = -2 * math.pi * np.outer(np.arange(frame), np.arange(frequencies)) / max(1, 2 * (frequencies - 1))
    kernel = np.cos(angle) if draw.side == "real" else np.sin(angle)
    if draw.window is not None:
        from scipy.signal import get_window  # heavy, and needed for this law alone

        window = get_window(draw.window, frame, draw.periodic)
        norms = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}
        kernel = kernel * window[:, None] / norms[draw.scaling]
    return kernel[:, None, :].astype(np.float32)


def _canonical_array(
    draw: Draw, shape: tuple[int, ...], axes: Sequence[Axis], gates: int, seed: int, name: str
) -> Floats:
    """The whole parameter in the canonical layout."""
    if isinstance(draw, Fourier):
        return _fourier(draw, shape)
    if isinstance(draw, Orthogonal | Eye):
        return _matrices(draw, shape, axes, gates, seed, name)
    flat = np.empty(math.prod(shape), np.float32)
    fill(flat, draw, seed=seed, name=name)
    return flat.reshape(shape)


def _matrices(
    draw: Orthogonal | Eye, shape: tuple[int, ...], axes: Sequence[Axis], gates: int, seed: int, name: str
) -> Floats:
    """One matrix (spatial x in, out) for each gate and each index of the batch axes, laid out as the parameter."""
    if isinstance(draw, Eye) and len(shape) != 2:
        raise InvalidValueError("identity does not fit this shape", given=shape, allowed="two axes")
    if len(shape) < 2:
        raise InvalidValueError("orthogonal does not fit this shape", given=shape, allowed="two axes or more")
    batch = [position for position, axis in enumerate(axes) if axis == "batch"]
    rest = [position for position in range(len(shape)) if position not in batch]
    columns = math.prod(shape[i] for i in rest if axes[i] == "out") // gates
    rows = math.prod(shape[i] for i in rest if axes[i] != "out")
    stack = math.prod(shape[i] for i in batch)
    blocks = [_matrix(draw, rows, columns, seed, name, start=index * rows * columns) for index in range(stack * gates)]
    joined = np.stack(blocks).reshape(stack, gates, rows, columns).transpose(0, 2, 1, 3)
    moved = joined.reshape([shape[i] for i in batch] + [shape[i] for i in rest])
    return np.ascontiguousarray(moved.transpose(np.argsort(batch + rest)))


def draw_param(param: ParamInfo, init: Init, seed: int) -> Floats:
    """The values of a described parameter in its framework's own layout.

    Args:
        param: Its named axes give the fans and the canonical layout, its path the stream.
        init: The initializer.
        seed: 0 to 2**64 - 1.
    """
    order = canonical_order(param.axes)
    draw = decide(init, fans(param.shape, param.axes, gates=param.gates, groups=param.groups))
    shape, axes = tuple(param.shape[i] for i in order), tuple(param.axes[i] for i in order)
    array = _canonical_array(draw, shape, axes, param.gates, seed, param.path)
    # Not ascontiguousarray, which would give a scalar an axis.
    return np.asarray(array.transpose(np.argsort(order)), order="C")


def sample(init: str | Init, shape: Sequence[int], *, seed: int, name: str = "weight") -> Floats:
    """Draw a weight of a canonical shape (spatial..., in, out).

    Args:
        init: An initializer, its name or its text.
        shape: The sizes of the axes.
        seed: 0 to 2**64 - 1. The same seed, name and shape give the same bits always and everywhere.
        name: Another name gives independent numbers under the same seed.

    Returns:
        A float32 array of this shape.

    Raises:
        UnknownNameError, InvalidValueError: If the initializer, the shape or the seed cannot be.

    Example:
        >>> sample("glorot_uniform", (3, 2), seed=0).shape
        (3, 2)
    """
    check_seed(seed)
    sizes = list(shape) if isinstance(shape, Iterable) else []
    if not isinstance(shape, Iterable) or any(not hasattr(size, "__index__") or size < 1 for size in sizes):
        raise InvalidValueError("The shape is no shape", given=shape, allowed="whole numbers of 1 or more")
    shape = tuple(operator.index(size) for size in sizes)
    return draw_param(ParamInfo(name, shape, "float32", axes_of_shape(shape), "dense"), canonical(init), seed)
