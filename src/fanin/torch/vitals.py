"""Statistics of one tensor, and which of its axes holds units."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanin.torch.record import Value, argument, memory_of, values_in
from fanin.vitals import COMPARED, DECILES, NOTHING, Statistics, distance, gradient_size, likeness

__all__ = ["Units", "measured", "numbers_of", "sent_size", "size_of"]

_SAFE = 1e-12, 1e12
"""Sizes whose squares, and sums of these, float32 can hold."""


def measured(tensor: Tensor, units: int, batch: int | None) -> Statistics:
    """The statistics of a tensor, taken in float32 at the least; only a few numbers of it are kept.

    Args:
        tensor: Floating.
        units: The axis of its units; it counts where there are two axes or more.
        batch: How many examples lie along the first axis; None where they do not.
    """
    if not tensor.numel():
        return NOTHING
    if tensor.layout != torch.strided:
        return Statistics(size_of(tensor))
    if tensor.is_complex():
        return Statistics(size_of(tensor), infinite=int((~tensor.detach().isfinite()).sum()))
    wide = tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()
    size = size_of(wide)
    infinite = 0 if math.isfinite(size) else int((~wide.isfinite()).sum())
    low = high = lying = wide.contiguous()  # what lies in another order is slow to reduce and to sample
    if wide.dim() > 1:  # innermost axes first, which is what reductions are fast at
        for axes in (tuple(range(units + 1, wide.dim())), tuple(range(units))):
            low, high = (low.amin(axes), high.amax(axes)) if axes else (low, high)
    ends = None if infinite else (float(low.min()), float(high.max()))
    cosine, rank = (math.nan, math.nan) if batch is None or infinite else _likeness(lying[:COMPARED], size)
    empty = np.empty(0, np.float32)
    return Statistics(
        size,
        float(wide.mean()),
        _quantiles(lying[lying.isfinite()] if infinite else lying, ends),
        cosine,
        rank,
        infinite,
        numbers_of(low) if wide.dim() > 1 else empty,
        numbers_of(high) if wide.dim() > 1 else empty,
    )


def size_of(tensor: Tensor) -> float:
    """The root mean square of all elements; not a number where there are none.

    It is zero only where all elements are: what is too small or too large for float32 to square is taken in float64.
    """
    own = tensor.detach()
    held = own if own.layout == torch.strided else own.coalesce().values()
    single = held.dtype not in (torch.float64, torch.complex128)
    norm = float(torch.linalg.vector_norm(held, dtype=None if held.is_complex() or not single else torch.float32))
    if single and not _SAFE[0] < norm < _SAFE[1]:
        norm = float(torch.linalg.vector_norm(held, dtype=torch.complex128 if held.is_complex() else torch.float64))
    return norm / math.sqrt(own.numel()) if own.numel() else math.nan


def sent_size(gradient: Tensor | None) -> float:
    """The size of a gradient: not a number where there is none, infinite where its numbers are not finite."""
    return math.nan if gradient is None or not gradient.numel() else gradient_size(size_of(gradient))


def _quantiles(tensor: Tensor, ends: tuple[float, float] | None) -> tuple[float, ...]:
    """The smallest, nine deciles and the largest; deciles from few elements at an even distance.

    The distance has no divisor in common with the number of elements, so that no axis is met at some places only.
    """
    count = tensor.numel()
    if not count:
        return NOTHING.quantiles
    ordered = np.sort(tensor.view(-1)[:: distance(count)].cpu().numpy())
    deciles = np.interp(DECILES * (len(ordered) - 1), np.arange(len(ordered)), ordered)
    low, high = ends or (float(tensor.min()), float(tensor.max()))
    return low, *deciles.tolist(), high


def _likeness(examples: Tensor, size: float) -> tuple[float, float]:
    """How much examples are alike: the mean cosine of two, and the effective rank of all.

    Args:
        examples: Finite, one in each row.
        size: Of all of them, and maybe more.
    """
    if len(examples) < 2 or not size:
        return math.nan, math.nan
    rows = examples.reshape(len(examples), -1)
    if not _SAFE[0] < size < _SAFE[1]:
        rows = rows / rows.abs().max().clamp_min(torch.finfo(rows.dtype).tiny)
    return likeness((rows @ rows.T).to("cpu", torch.float64).numpy())


def numbers_of(tensor: Tensor) -> NDArray[Any]:
    """An array of its own: float32 for what is floating, else of the tensor's type."""
    here = tensor.detach().resolve_conj().resolve_neg()
    dtype = torch.float32 if here.is_floating_point() else here.dtype
    return here.to("cpu", dtype, copy=True).numpy()  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------------- units
_PRODUCTS = frozenset((
    "linear", "matmul", "bilinear", "einsum", "tensordot", "embedding", "scaled_dot_product_attention", "outer", "kron",
))  # fmt: skip
"""What comes from these has its units on the last axis."""


@dataclass(frozen=True)
class _Lie:
    """How a value lies in memory, and on which axis its units are."""

    axis: int
    strides: tuple[int, ...]
    memory: int


class Units:
    """Follows the axis of units from step to step, beginning with convolutions, whose units come before places."""

    def __init__(self) -> None:
        self._known: dict[Value, _Lie] = {}

    def axis(self, value: Value, tensor: Tensor) -> int:
        """The axis of a value's units, the last where nothing else is known; values come in executed order."""
        strides = tensor.stride() if tensor.layout == torch.strided else ()
        lie = _Lie(tensor.dim() - 1, strides, memory_of(tensor))
        self._known[value] = lie = replace(lie, axis=self._found(value, tensor, lie))
        return lie.axis

    def _found(self, value: Value, tensor: Tensor, lie: _Lie) -> int:
        """The axis of a value that lies like this and has none yet."""
        call = value.call
        if call is None or call.name in _PRODUCTS:
            return lie.axis
        if call.name.startswith("conv"):
            weight: Value = argument(call, 1, "weight")
            return int(tensor.dim()) + 1 - len(weight.shape)
        taken = [self._known[each] for each in values_in([call.args, call.kwargs]) if each in self._known]
        if taken and taken[0].memory == lie.memory and taken[0].strides != lie.strides:  # a view: follow the step
            step = taken[0].strides[taken[0].axis] if taken[0].strides else None
            places = [at for at, size in enumerate(tensor.shape) if size > 1 and lie.strides[at] == step]
            return places[0] if len(places) == 1 else lie.axis
        return next((each.axis for each in taken if len(each.strides) == tensor.dim()), lie.axis)
