"""From a law whose entries depend on each other to an array: orthogonal matrices, diagonals, waves.

All arrays are in the canonical layout (spatial..., batch..., in..., out...), drawn block by block: one block
for each index of the batch axes and for each gate or group.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError
from fanin.initializers.fills import fill
from fanin.initializers.laws import (
    Centred,
    Eye,
    Fourier,
    Hadamard,
    Mirrored,
    Normal,
    Orthogonal,
    Sinusoidal,
    Sparse,
    Structured,
)
from fanin.initializers.streams import words
from fanin.records import Axis

__all__ = ["build", "check"]

Floats = NDArray[np.float32]


def build(draw: Structured, shape: tuple[int, ...], axes: Sequence[Axis], blocks: int, seed: int, name: str) -> Floats:
    """The whole parameter in the canonical layout.

    Args:
        draw: The law of one block.
        shape, axes: In the canonical order.
        blocks: How many blocks lie side by side in the `out` axes: gates times groups.
        seed, name: As in `fills.fill`.

    Raises:
        InvalidValueError: If the law does not fit the shape.
    """
    check(draw, shape, axes)
    if isinstance(draw, Fourier):
        return _fourier(draw, shape)
    spatial = tuple(size for size, axis in zip(shape, axes, strict=True) if axis == "spatial")
    stack, rows, columns = (
        math.prod(size for size, axis in zip(shape, axes, strict=True) if axis == wanted)
        for wanted in ("batch", "in", "out")
    )
    whole = np.empty((math.prod(spatial), stack, rows, blocks, columns // blocks), np.float32)
    block = (*spatial, rows, columns // blocks)
    for index in range(stack * blocks):
        part = _block(draw, block, index * math.prod(block), seed, name)
        whole[:, index // blocks, :, index % blocks, :] = part.reshape(-1, rows, columns // blocks)
    return whole.reshape(shape)


def check(draw: Structured, shape: Sequence[int], axes: Sequence[Axis], shown: tuple[int, ...] | None = None) -> None:
    """Refuse a shape (in the canonical order) on which the law means nothing; `shown` is the user's own."""
    shown = shown or tuple(shape)
    if isinstance(draw, Fourier):
        if len(shape) != 3 or shape[1] != 1:
            raise InvalidValueError("stft does not fit this shape", given=shown, allowed="(frame, 1, frequencies)")
        return
    names = {Centred: "The law at the kernel's centre", Eye: "identity"}
    name = names.get(type(draw), type(draw).__name__.lower())
    if len(shape) < 2:
        raise InvalidValueError(f"{name} does not fit this shape", given=shown, allowed="two axes or more")
    if isinstance(draw, Eye) and len(shape) != 2:
        raise InvalidValueError(
            "identity does not fit this shape", given=shown, allowed="two axes", hint="dirac is for convolutions."
        )
    if isinstance(draw, Centred) and axes.count("spatial") > 3:
        raise InvalidValueError(f"{name} does not fit this shape", given=shown, allowed="up to three spatial axes")


def _block(draw: Structured, shape: tuple[int, ...], start: int, seed: int, name: str) -> Floats:
    """One block, whose random words begin at `start`."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    match draw:
        case Orthogonal(gain):
            orthonormal: Floats = _haar(rows, columns, seed, name, start) * np.float32(gain)
            return orthonormal
        case Eye(gain):
            return np.eye(rows, columns, dtype=np.float32) * np.float32(gain)
        case Hadamard():
            parity = np.bitwise_and.outer(np.arange(rows), np.arange(columns))
            for shift in (16, 8, 4, 2, 1):
                parity ^= parity >> shift
            return np.where(parity & 1, -draw.entry, draw.entry).astype(np.float32)
        case Centred(matrix, _, upper):
            whole = np.zeros(shape, np.float32)
            middle = tuple(size // 2 if upper else (size - 1) // 2 for size in shape[:-2])
            whole[middle] = _block(matrix, shape[-2:], start, seed, name)
            return whole
        case Mirrored(_, inputs, outputs):
            half = (*shape[:-2], shape[-2] // (1 + inputs), columns // (1 + outputs))
            part = _block(draw.block, half, start, seed, name).reshape(half)
            part = np.concatenate([part, -part], axis=-2) if inputs else part
            return np.concatenate([part, -part], axis=-1) if outputs else part
        case Sparse(stddev, zeros):
            return _sparse(rows, columns, stddev, zeros, seed, name, start)
        case Sinusoidal():
            unit, position = np.arange(1, columns + 1), np.arange(rows)
            # Whole turns are taken off in integers, so that high frequencies lose no digits.
            turns = np.outer(position, unit) % rows / rows + unit % columns / columns
            waves: Floats = (draw.amplitude * np.sin(2 * np.pi * turns)).astype(np.float32)
            return waves
        case _:
            raise TypeError(draw)


def _haar(rows: int, columns: int, seed: int, name: str, start: int) -> Floats:
    """A Haar-distributed matrix with orthonormal columns, or rows where there are fewer of them.

    The product of Householder reflections along normal vectors of falling length, which is the Q of a normal
    matrix without the work of factorising one (Stewart 1980). Float64 inside, so that the result is
    orthonormal to the rounding of its entries.
    """
    from scipy.linalg import lapack  # heavy, and needed for this law alone

    long, short = max(rows, columns), min(rows, columns)
    flat = np.empty(long * short, np.float32)
    fill(flat, Normal(0.0, 1.0), seed=seed, name=name, start=start)
    vectors = flat.reshape(short, long).astype(np.float64)
    for k in range(1, short):
        vectors[k, :k] = 0.0
    lengths = np.sqrt(np.einsum("kj,kj->k", vectors, vectors))
    # A normal number can be 0, and the last vector has one alone.
    np.fill_diagonal(vectors, np.where(lengths > 0, vectors.diagonal(), 1.0))
    first = vectors.diagonal().copy()
    # A reflection sends its vector to beta times a unit vector; the sign is the one that cancels no digits.
    beta = -np.copysign(np.where(lengths > 0, lengths, 1.0), first)
    vectors /= (first - beta)[:, None]
    q, _, info = lapack.dorgqr(vectors.T, (beta - first) / beta, lwork=64 * short, overwrite_a=True)
    if info:
        raise ArithmeticError(f"dorgqr: {info}")
    # Without this the signs would be the reflections' choice and Q not Haar (Mezzadri 2007).
    q *= np.sign(beta)
    return np.asarray(q if rows >= columns else q.T, np.float32, order="C")


def _sparse(rows: int, columns: int, stddev: float, zeros: int, seed: int, name: str, start: int) -> Floats:
    """Normal numbers; in each column those `zeros` rows are cut off whose keys are smallest."""
    flat = np.empty(rows * columns, np.float32)
    fill(flat, Normal(0.0, stddev), seed=seed, name=name, start=start)
    values = flat.reshape(rows, columns)
    # The row's number behind its word breaks ties.
    keys = words(seed, f"{name}/sparse", start, start + flat.size).astype(np.uint64).reshape(rows, columns)
    order = np.argsort((keys << np.uint64(32)) | np.arange(rows, dtype=np.uint64)[:, None], axis=0)
    np.put_along_axis(values, order[:zeros], np.float32(0), axis=0)
    return values


def _fourier(draw: Fourier, shape: tuple[int, ...]) -> Floats:
    frame, _, frequencies = shape
    angle = -2 * math.pi * np.outer(np.arange(frame), np.arange(frequencies)) / max(1, 2 * (frequencies - 1))
    trigonometric: Callable[..., NDArray[np.float64]] = np.cos if draw.side == "real" else np.sin
    kernel = trigonometric(angle)
    if draw.window is not None:
        from scipy.signal import get_window  # heavy, and needed for this law alone

        window = get_window(draw.window, frame, draw.periodic)
        norms = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}
        kernel = kernel * window[:, None] / norms[draw.scaling]
    return kernel[:, None, :].astype(np.float32)
