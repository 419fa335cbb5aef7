"""Statistics of one array, taken where it is."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fanin import vitals

__all__ = ["finished", "gathered", "root_mean_square"]


def root_mean_square(value: Any) -> Any:
    """Of all elements, in float32."""
    return vitals.root_mean_square(jnp, value.astype(jnp.float32))


def gathered(value: Any, axis: int, alike: bool) -> dict[str, Any]:
    """`fanin.vitals.gathered` of a floating array."""
    return vitals.gathered(jnp, value.astype(jnp.float32), axis, alike)


def finished(found: Mapping[str, Any]) -> vitals.Statistics:
    """The statistics that follow from what was gathered."""
    return vitals.finished({name: np.asarray(value) for name, value in found.items()})
