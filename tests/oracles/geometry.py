"""How a layer's pre-activations lie: cosines, dead units, saturated values, counted one by one."""

import itertools
import math


def geometry(z, bound, compared=32):
    """Mean cosine of two examples, share of units above 0 for none, share of values beyond the bound.

    Args:
        z: NumPy array of shape (examples, ..., units).
        bound: Infinite where nothing is saturated.
        compared: So many examples have their cosines taken.
    """
    rows = [row.reshape(-1).tolist() for row in z[:compared]]
    lengths = [math.sqrt(sum(a * a for a in row)) for row in rows]
    cosines = [
        sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) / (lengths[i] * lengths[j])
        for i, j in itertools.combinations(range(len(rows)), 2)
    ]
    units = z.reshape(-1, z.shape[-1]).T.tolist()
    dead = sum(all(value <= 0 for value in unit) for unit in units)
    beyond = [abs(value) > bound for unit in units for value in unit]
    return sum(cosines) / len(cosines), dead / len(units), sum(beyond) / len(beyond)
