"""Whether the values of a parameter fit a law, and if not, what is wrong with them, in words."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fanin.initializers.draws import draw_law, gate_factors
from fanin.initializers.fans import axes_of, canonical_order
from fanin.initializers.laws import (
    Centred,
    Constant,
    Draw,
    Eye,
    Fourier,
    Hadamard,
    Normal,
    Sinusoidal,
)
from fanin.recipes.evidence import Measured, Random, failed, fault, measure, rounding
from fanin.records import ParamInfo

__all__ = ["Values", "expected_stddev", "held", "is_certain", "misfit", "planned", "same"]

Array = NDArray[np.floating]
_NEAR = 0.02
"""Relative difference of standard deviations below which a structure, not a size, is what is wrong."""


class Values:
    """The values of a parameter, all finite and at least one, in the shape of its description; measured when asked."""

    def __init__(self, param: ParamInfo, array: Array):
        self.param, self.array = param, array

    @cached_property
    def measured(self) -> Measured:
        """All of them."""
        return measure(self.array, self.param.dtype)

    def divided(self, scales: Sequence[float]) -> Array:
        """The values of the gates whose factor is not 0, each divided by it, one after the other."""
        factors = np.broadcast_to(gate_factors(self.param, scales), self.array.shape)
        kept = factors != 0
        return np.asarray(self.array[kept] / factors[kept])

    def blocks(self, param: ParamInfo, scales: Sequence[float]) -> Array:
        """The same as blocks, each a weight of its own: (blocks, kernel positions, inputs, units)."""
        axes = axes_of(param)
        receptive, stack, rows, columns = (
            math.prod(size for size, axis in zip(param.shape, axes, strict=True) if axis == wanted)
            for wanted in ("spatial", "batch", "in", "out")
        )
        side = param.gates * param.groups
        turned = self.array.transpose(canonical_order(axes)).reshape(receptive, stack, rows, side, columns // side)
        found = turned.transpose(1, 3, 0, 2, 4)
        if scales:
            factors = np.repeat(scales, side // len(scales))
            found = found[:, factors != 0] / factors[factors != 0, None, None, None]
        return found.reshape(-1, receptive, rows, columns // side)


def planned(param: ParamInfo, law: Draw, seed: int, scales: Sequence[float]) -> NDArray[np.float32]:
    """What a plan with this seed gives a parameter."""
    drawn = np.float32(law.value) if isinstance(law, Constant) else draw_law(param, law, seed)
    return np.broadcast_to(drawn * gate_factors(param, scales), param.shape)


def same(array: Array, wanted: NDArray[np.float32], dtype: str) -> NDArray[np.bool_]:
    """Which values are the wanted ones, rounded to a type."""
    relative, absolute = rounding(dtype)
    slack = 2.0**-22  # another order of the same operations in float32
    largest = slack * float(np.abs(wanted).max())
    return np.asarray(np.abs(array - wanted) <= (relative + slack) * np.abs(wanted) + absolute + largest)


def is_certain(law: Draw) -> bool:
    """Whether all that the law gives is one array, whatever the seed."""
    inner = law.matrix if isinstance(law, Centred) else law
    return isinstance(inner, Constant | Eye | Hadamard | Sinusoidal | Fourier) or inner.variance == 0


def expected_stddev(param: ParamInfo, law: Draw, scales: Sequence[float]) -> float:
    """The standard deviation of a parameter's entries under a law with a factor for each gate."""
    if isinstance(law, Fourier):  # it has no closed form
        return float(draw_law(param, law, 0).std(dtype=np.float64))
    factors = np.asarray(scales or (1.0,), float)
    second = float(np.mean(factors**2)) * (law.variance + law.mean**2)
    return math.sqrt(max(0.0, second - (float(factors.mean()) * law.mean) ** 2))


def misfit(param: ParamInfo, law: Draw, scales: Sequence[float], values: Values, level: float) -> str:
    """What keeps values from following a law, in a sentence without its full stop; empty where nothing does.

    Args:
        param: How the parameter is read.
        law: What each gate should follow, before its factor.
        scales: A factor for each gate; empty for none.
        values: What the parameter holds.
        level: Rate of false alarms of each test.
    """
    if is_certain(law):
        return _difference(values, planned(param, law, 0, scales))
    factors = gate_factors(param, scales)
    if np.any(values.array[np.broadcast_to(factors == 0, param.shape)]):
        return "is not 0 where its factor is"
    if not factors.any():
        return ""
    if values.measured.low == values.measured.high and values.measured.size > 1:
        return held(values.measured)
    if isinstance(law, Random):
        measured = measure(values.divided(scales), param.dtype) if scales else values.measured
        words = _sentence(failed(law, measured, level), law, measured)
        return f"{words}, before its factors" if words and scales else words
    spatial = [size for size, axis in zip(param.shape, axes_of(param), strict=True) if axis == "spatial"]
    centre = [size // 2 if isinstance(law, Centred) and law.upper else (size - 1) // 2 for size in spatial]
    middle = int(np.ravel_multi_index(centre, spatial)) if spatial else 0
    words = fault(law, values.blocks(param, scales), middle, param.dtype, level)
    found, expected = values.measured.stddev, expected_stddev(param, law, scales)
    return _wrong_size(found, expected) if words and not math.isclose(found, expected, rel_tol=_NEAR) else words


def held(measured: Measured) -> str:
    """What a parameter holds that is the same everywhere."""
    names = {0.0: "zeros", 1.0: "ones"}
    return f"holds {names.get(measured.low, f'{measured.low:.6g} everywhere')}"


def _difference(values: Values, wanted: NDArray[np.float32]) -> str:
    """Where values differ from the only ones that the law gives."""
    wrong = ~same(values.array, wanted, values.param.dtype)
    if not wrong.any():
        return ""
    first = tuple(int(each[0]) for each in np.nonzero(wrong))
    example = f"{values.array[first]:.6g} instead of {wanted[first]:.6g}"
    if values.measured.low == values.measured.high:
        return f"{held(values.measured)}" if wrong.all() else f"{held(values.measured)}, also where it should not"
    return f"{np.count_nonzero(wrong)} of {wrong.size} numbers are not the law's, the first {example}"


def _wrong_size(stddev: float, expected: float) -> str:
    """How a standard deviation differs from the expected one."""
    ratio = stddev / expected
    amount = f"{max(ratio, 1 / ratio):.2g} times" if not 1 / 1.5 < ratio < 1.5 else f"{100 * abs(ratio - 1):.2g} %"
    return (
        f"standard deviation {stddev:.3g} instead of {expected:.3g}: {amount} too {'large' if ratio > 1 else 'small'}"
    )


def _sentence(test: str, law: Random, measured: Measured) -> str:
    """What a failed test says."""
    expected = math.sqrt(law.variance)
    if test == "size" and abs(measured.mean - law.mean) > 6 * measured.stddev / math.sqrt(measured.size):
        test = "mean"
    match test:
        case "size":
            return _wrong_size(math.sqrt(measured.second(law.mean)), expected)
        case "mean":
            return f"mean {measured.mean:.3g} instead of {law.mean:.3g}"
        case "range":
            furthest = max(measured.high - law.mean, law.mean - measured.low) / expected
            far = furthest > math.sqrt(2 * math.log(2 * measured.size)) if isinstance(law, Normal) else (
                measured.low < law.support[0] or measured.high > law.support[1]
            )  # fmt: skip
            return (
                f"its numbers reach {furthest:.3g} standard deviations from the mean, "
                f"{'further' if far else 'less far'} than {measured.size} numbers of the law"
            )
        case "shape":
            return "size and mean are right, but the numbers are distributed differently"
        case _:
            return ""
