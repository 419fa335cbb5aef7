"""Derive the polynomial coefficients of `fanin.initializers.transforms`.

Run it with ``python tools/fit_transforms.py`` (needs mpmath). Each function is interpolated at
Chebyshev nodes in 40-digit arithmetic, which is within a small factor of the minimax polynomial, and
the coefficients are printed as the float32 values that the library uses, lowest degree first.
"""

from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def interpolate(f: Callable[[mp.mpf], mp.mpf], low: mp.mpf, high: mp.mpf, degree: int) -> list[np.float32]:
    """Coefficients (lowest first) of the polynomial through f at the Chebyshev nodes of [low, high]."""
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2)) for k in range(degree + 1)
    ]
    vandermonde = mp.matrix([[x**j for j in range(degree + 1)] for x in nodes])
    return [np.float32(c) for c in mp.lu_solve(vandermonde, mp.matrix([f(x) for x in nodes]))]


def away_from_zero(f: Callable[[mp.mpf], mp.mpf]) -> Callable[[mp.mpf], mp.mpf]:
    """f with its removable singularity at 0 stepped over by a distance that 40 digits do not see."""
    return lambda x: f(x if abs(x) > mp.mpf("1e-8") else mp.mpf("1e-8"))


CENTRE = mp.mpf("0.6825")


def central(v2: mp.mpf) -> mp.mpf:
    """z / s for the standard normal z cut at +-2 whose centred uniform is s = sqrt(1.1 - v2)."""
    s = mp.sqrt(max(mp.mpf(11) / 10 - v2, mp.mpf("1e-24")))
    return mp.sqrt(2) * mp.erfinv(s * mp.erf(mp.sqrt(2))) / s


def main() -> None:
    tables = {
        "LOG": interpolate(
            away_from_zero(lambda f: (mp.log(1 + f) - f + f * f / 2) / f**3),
            mp.sqrt(mp.mpf(1) / 2) - 1,
            mp.sqrt(2) - 1,
            8,
        ),
        "SIN": interpolate(
            away_from_zero(lambda y: (mp.sin(mp.sqrt(y)) / mp.sqrt(y) - 1) / y), mp.mpf(0), mp.pi**2 / 16, 3
        ),
        "COS": interpolate(
            away_from_zero(lambda y: (mp.cos(mp.sqrt(y)) - 1 + y / 2) / y**2), mp.mpf(0), mp.pi**2 / 16, 3
        ),
        # sqrt(2) erfinv(s erf(sqrt 2)) / s as a function of t = sqrt(1.1 - s^2) - 0.6825: the square root
        # moves the logarithmic singularity at |s| = 1/erf(sqrt 2) away from the interval, the shift keeps
        # Horner's rule well conditioned in float32.
        "CENTRAL": interpolate(
            lambda t: central((t + CENTRE) ** 2),
            mp.sqrt(mp.mpf(1) / 10) - CENTRE,
            mp.sqrt(mp.mpf(11) / 10) - CENTRE,
            12,
        ),
    }
    for name, coefficients in tables.items():
        print(f"{name} = ({', '.join(repr(float(c)) for c in coefficients)})")


if __name__ == "__main__":
    main()
