"""Statistics of one tensor, taken where it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from fanin import vitals

__all__ = ["finished", "gathered", "root_mean_square"]


def root_mean_square(value: Any) -> Any:
    """Of all elements, in float32."""
    return vitals.root_mean_square(ops, ops.cast(value, "float32"))


def gathered(value: Any, axis: int, alike: bool) -> dict[str, Any]:
    """`fanin.vitals.gathered` of a floating tensor."""
    return vitals.gathered(ops, ops.cast(value, "float32"), axis, alike)


def finished(found: Mapping[str, Any]) -> vitals.Statistics:
    """The statistics that follow from what was gathered."""
    return vitals.finished({name: np.array(ops.convert_to_numpy(value)) for name, value in found.items()})
