"""Fan-in and fan-out from named axes: what feeds one unit, and what one input feeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fanin.records import Axis, ParamInfo

__all__ = ["Fans", "axes_of", "axes_of_shape", "canonical_order", "fans", "fans_of"]

_CANONICAL: tuple[Axis, ...] = ("spatial", "batch", "in", "out")


@dataclass(frozen=True)
class Fans:
    """Connections into one unit and out of one input.

    Attributes:
        fan_in: Inputs that one unit sums over.
        fan_out: Units that one input reaches.
        receptive: Positions of the kernel, counted in both; 1 for a plain matrix.
    """

    fan_in: int
    fan_out: int
    receptive: int = 1

    @property
    def fan_avg(self) -> float:
        """Their arithmetic mean."""
        return (self.fan_in + self.fan_out) / 2

    @property
    def fan_geo_avg(self) -> float:
        """Their geometric mean."""
        return math.sqrt(self.fan_in * self.fan_out)

    @property
    def rows(self) -> int:
        """Inputs of the weight at one position of the kernel."""
        return self.fan_in // self.receptive

    @property
    def columns(self) -> int:
        """Units of one block of the weight (one gate, one group)."""
        return self.fan_out // self.receptive


def fans(shape: Sequence[int], axes: Sequence[Axis], *, gates: int = 1, groups: int = 1) -> Fans:
    """Fan-in and fan-out of a weight whose axes are named.

    fan_in is the product of the `in` and `spatial` sizes, fan_out that of the `out` and `spatial` sizes
    divided by `gates` (blocks packed side by side, each a weight of its own) and by `groups` (an input of
    a grouped convolution reaches the outputs of its own group only; the stored `in` axis is already per
    group). `batch` axes stack independent weights and count in neither.

    Example:
        >>> fans((3, 3, 16, 32), ("spatial", "spatial", "in", "out"))
        Fans(fan_in=144, fan_out=288, receptive=9)
        >>> fans((3, 3, 16, 2), ("spatial", "spatial", "batch", "out"))  # depthwise
        Fans(fan_in=9, fan_out=18, receptive=9)
    """

    def size(*wanted: Axis) -> int:
        return math.prod(length for length, axis in zip(shape, axes, strict=True) if axis in wanted)

    return Fans(size("in", "spatial"), size("out", "spatial") // (gates * groups), size("spatial"))


def fans_of(param: ParamInfo) -> Fans:
    """Fan-in and fan-out of a described parameter; 1 for one that is no weight."""
    return fans(param.shape, axes_of(param), gates=param.gates, groups=param.groups)


def axes_of(param: ParamInfo) -> tuple[Axis, ...]:
    """The axes of a described parameter; those of one that is no weight (bias, scale, table) stack numbers."""
    stacked: list[Axis] = ["batch"] * len(param.shape)
    return param.axes or tuple(stacked)


def axes_of_shape(shape: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of a bare shape in the canonical layout (spatial..., in, out).

    Example:
        >>> axes_of_shape((3, 3, 16, 32))
        ('spatial', 'spatial', 'in', 'out')
    """
    spatial: list[Axis] = ["spatial"] * (len(shape) - 2)
    axes: list[Axis] = [*spatial, "in", "out"]
    return tuple(axes[len(axes) - len(shape) :])


def canonical_order(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The transposition that brings axes into the canonical order, keeping the order among equals.

    Example:
        >>> canonical_order(("spatial", "spatial", "out", "in"))  # a transposed convolution in Keras
        (0, 1, 3, 2)
    """
    return tuple(sorted(range(len(axes)), key=lambda position: _CANONICAL.index(axes[position])))
