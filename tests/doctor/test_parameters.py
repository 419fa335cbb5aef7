"""How many units are different, against a plain count."""

import numpy as np
import pytest

from fanin.doctor.parameters import distinct_units
from fanin.records import ParamInfo


@pytest.mark.parametrize("kinds", [1, 2, 3, 50])
@pytest.mark.parametrize("axes", [("out", "in"), ("in", "out")])
def test_different_units_are_those_of_a_set(kinds, axes):
    """Few kinds of numbers make many units whose first number is the same, and some that are the same throughout."""
    rng = np.random.default_rng(kinds)
    rows = rng.integers(0, kinds, (40, 3)).astype(np.float32)
    values = rows if axes[0] == "out" else rows.T
    param = ParamInfo("w", values.shape, "float32", axes, "dense")
    assert distinct_units(param, values, "out") == (len({tuple(row) for row in rows.tolist()}), 40)
