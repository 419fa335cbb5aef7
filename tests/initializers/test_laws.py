"""Laws as data: mean, variance and support against brute force, SciPy and 30-digit arithmetic."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fanin.initializers.laws import (
    TRUNCATED_STD,
    Centred,
    Constant,
    Eye,
    Fourier,
    Hadamard,
    Mirrored,
    Normal,
    Orthogonal,
    Sinusoidal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from tests.oracles import structures as oracle

quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
sizes = st.integers(1, 40)
gains = st.sampled_from([1.0, 0.3, -2.0])


def assert_describes(law, array):
    """The law says what averaging the array says, to float64 rounding, and its support holds every entry."""
    square = (array**2).mean()
    assert law.mean == pytest.approx(array.mean(), abs=1e-12 * math.sqrt(square))
    assert law.variance == pytest.approx(array.var(), abs=1e-12 * square)
    low, high = law.support
    slack = 1e-15 * max(abs(low), abs(high))
    assert low <= high
    assert low - slack <= array.min() <= array.max() <= high + slack


# ------------------------------------------------------------------------------------------- independent laws
def test_the_simple_ones():
    assert (Constant(0.3).mean, Constant(0.3).variance, Constant(0.3).support) == (0.3, 0.0, (0.3, 0.3))
    assert (Normal(0.1, 0.5).variance, Normal(0.1, 0.5).support) == (0.25, (-math.inf, math.inf))
    law = Uniform(-1.0, 3.0)
    assert (law.mean, law.variance, law.support) == (1.0, pytest.approx(16 / 12), (-1.0, 3.0))


def test_truncated_std_is_that_of_the_cut_normal():
    assert pytest.approx(stats.truncnorm(-2, 2).std(), rel=1e-14) == TRUNCATED_STD


CUTS = [(-2, 2), (-1, 1), (-3, 3), (0, 1), (-1, 3), (0.5, 0.75), (5, 6), (-6, -5), (8, 30), (20, 21), (36, math.inf)]
CUTS += [(-math.inf, 1), (-1, math.inf), (-math.inf, math.inf), (-7, 7), (-40, 40), (-8, 1), (3, 3 + 1e-3), (37, 38)]


def cut_moments(low, high):
    """Mean and variance of a standard normal number cut to an interval, by quadrature with 40 digits."""
    with mp.workdps(40):
        low, high = (mp.mpf(bound) for bound in (low, high))
        # The density, scaled by its largest value, has all its weight within 60 of its mode.
        mode = min(max(mp.mpf(0), low), high)
        ends = [max(low, mode - 60), min(high, mode + 60)]
        width = 1 / (1 + abs(mode))
        inner = [mode + k * width for k in (-30, -10, -5, -3, -1, -0.3, 0, 0.3, 1, 3, 5, 10, 30)]
        limits = sorted({*ends, *(z for z in inner if ends[0] < z < ends[1])})
        density = lambda z: mp.exp((mode**2 - z**2) / 2)  # noqa: E731
        total = mp.quad(density, limits)
        mean = mp.quad(lambda z: z * density(z), limits) / total
        return float(mean), float(mp.quad(lambda z: (z - mean) ** 2 * density(z), limits) / total)


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_the_moments_of_a_cut(cut):
    # Far out a logarithm of size bound^2 / 2 is rounded, which its exponential passes on to the mean, whose square
    # is taken off: an error of 2^-53 bound^4 that no formula in doubles avoids; twice that is allowed.
    mean, variance = cut_moments(*cut)
    nearest = min(map(abs, cut)) if cut[0] * cut[1] > 0 else 1.0
    law = TruncatedNormal(0.5, 2.0, *cut)
    assert law.mean == pytest.approx(0.5 + 2 * mean, rel=1e-10)
    assert law.variance == pytest.approx(4 * variance, rel=1e-9 + 2.0**-52 * nearest**4 / variance)
    assert law.support == (0.5 + 2 * cut[0], 0.5 + 2 * cut[1])


def test_published_standard_deviations_of_cuts():
    for bound, std in ((1, 0.5395600938), (2, 0.87962566103), (3, 0.9865783926)):
        assert math.sqrt(TruncatedNormal(0.0, 1.0, -bound, bound).variance) == pytest.approx(std, rel=1e-9)


# --------------------------------------------------------------------------------------------- structured laws
@quick
@given(gains, sizes, sizes)
def test_eye(gain, rows, columns):
    assert_describes(Eye(gain, rows, columns), gain * np.eye(rows, columns))


@quick
@given(gains, sizes, st.integers(2, 70))
def test_hadamard(gain, rows, columns):
    rows = min(rows, columns - 1)
    law = Hadamard(gain, rows, columns)
    matrix = gain * oracle.zero_init(rows, columns)
    assert_describes(law, matrix)
    assert abs(law.entry) == pytest.approx(np.abs(matrix).max())


@quick
@given(gains, st.integers(1, 12), st.integers(1, 12), st.sampled_from([(3,), (2, 3), (1, 1), (2, 2, 2), (1,)]))
def test_centred_diagonals(gain, rows, columns, spatial):
    law = Centred(Eye(gain, rows, columns), math.prod(spatial), upper=False)
    assert_describes(law, oracle.centred(gain * np.eye(rows, columns), spatial, "lower"))


@pytest.mark.parametrize("spatial", [(1,), (3, 3), (2, 4)])
def test_centred_hadamard(spatial):
    law = Centred(Hadamard(1.5, 5, 11), math.prod(spatial), upper=True)
    assert_describes(law, oracle.centred(1.5 * oracle.zero_init(5, 11), spatial, "upper"))


@pytest.mark.parametrize("gain", [1.0, 2.5, -2.0])
@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (1, 4), (1, 1)])
def test_orthogonal_kinds(gain, rows, columns):
    # Entries of `min` orthonormal vectors of length `max`: mean 0 by symmetry, mean square 1 / max exactly.
    variance = gain**2 / max(rows, columns)
    for law in (Orthogonal(gain, rows, columns), Mirrored(Orthogonal(gain, rows, columns), True, False)):
        assert (law.mean, law.variance) == (0, pytest.approx(variance))
        assert law.support == (-abs(gain), abs(gain))
    for receptive in (1, 9):
        law = Centred(Orthogonal(gain, rows, columns), receptive, upper=False)
        assert (law.mean, law.variance) == (0, pytest.approx(variance / receptive))
        assert law.support == (-abs(gain), abs(gain))


def test_sparse():
    law = Sparse(0.5, 3, 12)
    assert (law.mean, law.variance) == (0.0, 0.25 * 0.75)
    assert law.support == (-math.inf, math.inf)
    assert Sparse(0.5, 12, 12).variance == 0


@quick
@given(sizes, sizes)
def test_sinusoidal(rows, columns):
    if rows <= 2 and columns <= 2:  # refused by the table
        return
    assert_describes(Sinusoidal(0.7, rows, columns), oracle.sinusoidal(rows, columns, 0.7))


def test_laws_are_values():
    laws = [Constant(1.0), Normal(0.0, 1.0), TruncatedNormal(0.0, 1.0), Uniform(0.0, 1.0), Orthogonal(1.0, 2, 3),
            Eye(1.0, 2, 3), Hadamard(1.0, 2, 3), Centred(Eye(1.0, 2, 3), 9, True), Sparse(1.0, 2, 3),
            Mirrored(Orthogonal(1.0, 2, 3), True, True), Sinusoidal(1.0, 3, 3),
            Fourier("real", "hann", None, False)]  # fmt: skip
    assert len({*laws, *laws}) == len(laws)
    with pytest.raises(AttributeError):
        laws[1].stddev = 2.0
