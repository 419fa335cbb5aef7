"""The transforms against 30-digit arithmetic and double precision.

Every tolerance counts roundings: EPS is the largest relative error of one float32 operation. Functions are
compared at the float32 argument that they are handed, so that a tolerance is about the function alone.
"""

import importlib.util
from itertools import product
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from fanin.initializers import transforms
from fanin.initializers.transforms import _cos_sin, _log, centred_uniform, normal, truncated_normal

EPS = 2.0**-24
LOG_EPS = 2e-7 / EPS  # what _log documents: 3.4 roundings; see test_log
TRIG_EPS = 3.0  # see test_cos_sin
EDGES = sorted(
    {0, 1, 2, 2**8 - 1, 2**8, 2**24 - 1, 2**24, 2**24 + 1, 2**32 - 1, 2**32 - 2, 2**32 - 2**8, 2**32 - 2**8 - 1}
    | {(k * 2**29 + d) % 2**32 for k in range(8) for d in (-1, 0, 1)}
)
edges = np.array(EDGES, np.uint32)
drawn = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
both = np.concatenate([edges, drawn])


def unit(word):
    """The uniform number behind a radius, as the specification rounds it."""
    return (word.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)


def assert_close(ours, exact, tolerance):
    error = np.abs(ours.astype(float) - exact)
    assert (error <= tolerance).all(), f"{(error / np.maximum(tolerance, 1e-300)).max()} times the tolerance"


def assert_finite_float32(values):
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


# ---------------------------------------------------------------------------------------------- logarithm
def log_arguments():
    half = np.float32(np.sqrt(0.5))
    special_points = [np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(1)), 1.0, 2.0**-126]
    around_one = [np.nextafter(np.float32(1), np.float32(side)) for side in (0, 2)]
    return np.array([*special_points, *around_one, *unit(edges)], np.float32)


def test_log_at_the_edges():
    x = log_arguments()
    exact = [float(mp.log(mp.mpf(float(value)))) for value in x]
    assert_finite_float32(_log(x))
    assert_close(_log(x), np.array(exact), LOG_EPS * EPS * np.abs(exact))


def test_log():
    # The last sum rounds once (1 EPS). Where the exponent is not 0 the result is at least log(2)/2 = .347; the
    # inner sum is below that and rounds to 2**-26, its terms add 2**-28 + 2**-27.5 + 2**-27: 1.5 EPS of .347.
    # The fit itself has less than 1/2. Three roundings, within the 2e-7 that is documented.
    x = unit(both)
    exact = np.log(x.astype(float))
    assert_close(_log(x), exact, 3 * EPS * np.abs(exact))


def test_uniform_behind_the_radius_rounds_twice():
    exact = (both.astype(float) + 0.5) * 2.0**-32
    assert_close(unit(both), exact, 2 * EPS * exact)


# ---------------------------------------------------------------------------------------- cosine and sine
def test_cos_sin_at_the_edges():
    cosine, sine = _cos_sin(edges)
    angles = [mp.mpf(word) * mp.pi / 2**31 for word in EDGES]
    assert_close(cosine, np.array([float(mp.cos(angle)) for angle in angles]), TRIG_EPS * EPS)
    assert_close(sine, np.array([float(mp.sin(angle)) for angle in angles]), TRIG_EPS * EPS)


def test_cos_sin():
    # |t| <= pi/4 carries 2.5 roundings (integer to float, the constant, the product): up to 1.96 EPS, which the
    # sine passes on and the cosine shrinks by sin(t) <= .71; its last sum adds 1/2, the terms before it .3 to .9.
    angle = both.astype(float) * (np.pi * 2.0**-31)
    cosine, sine = _cos_sin(both)
    assert_finite_float32(cosine)
    assert_finite_float32(sine)
    assert_close(cosine, np.cos(angle), TRIG_EPS * EPS)
    assert_close(sine, np.sin(angle), TRIG_EPS * EPS)


def test_cos_sin_is_exact_on_the_axes_and_symmetric():
    cosine, sine = _cos_sin(np.array([0, 2**30, 2**31, 3 * 2**30], np.uint32))
    assert cosine.tolist() == [1, 0, -1, 0]
    assert sine.tolist() == [0, 1, 0, -1]
    for ours, opposite in zip(_cos_sin(both), _cos_sin(both + np.uint32(2**31)), strict=True):
        assert (ours == -opposite).all()


# ------------------------------------------------------------------------------------------------- normal
def test_normal():
    # The radius takes half of the logarithm's error and rounds once, the product rounds once, the angle adds its
    # own: LOG_EPS / 2 + 1 + 1 + TRIG_EPS roundings of the radius.
    pairs = np.concatenate([np.array(list(product(EDGES, EDGES)), np.uint32).reshape(-1), drawn])
    radius = np.sqrt(-2 * np.log(unit(pairs[0::2]).astype(float)))
    angle = pairs[1::2].astype(float) * (np.pi * 2.0**-31)
    exact = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    values = normal(pairs)
    assert_finite_float32(values)
    assert_close(values, exact, (LOG_EPS / 2 + 2 + TRIG_EPS) * EPS * np.repeat(radius, 2))


def test_normal_is_bounded_by_the_smallest_uniform():
    bound = float(mp.sqrt(-2 * mp.log(mp.mpf(2) ** -33)))
    assert round(bound, 4) == 6.7637
    largest = normal(np.array([0, 0], np.uint32))[0]
    assert largest == pytest.approx(bound, rel=3 * EPS)
    assert np.abs(normal(np.array(list(product([0, 1], EDGES)), np.uint32).reshape(-1))).max() == largest


def test_normal_makes_each_pair_from_its_own_two_words():
    values = normal(both[:40])
    assert (normal(both[10:20]) == values[10:20]).all()


# --------------------------------------------------------------------------------------- truncated normal
def truncated_tolerance(s):
    """The roundings of `truncated_normal`, to first order, in EPS of the result."""
    v2, c = 1.1 - s * s, np.array(transforms.CENTRAL)
    v = np.sqrt(v2)
    t = v - 0.6825
    evaluate = np.polynomial.polynomial.polyval
    constants = [abs(float(np.float32(value)) - value) / EPS for value in (1.1, 0.6825)]
    # 1.1 is rounded, s * s rounds, their difference rounds; the root halves that, rounds, and the shift rounds.
    error_t = (constants[0] + s * s + v2) / (2 * v) + v + constants[1] + np.abs(t)
    slope = np.abs(evaluate(t, np.polynomial.polynomial.polyder(c)))
    # Horner: coefficient k is touched by k products and k + 1 sums. Then one product with s, and the fit.
    horner = evaluate(np.abs(t), np.abs(c) * (2 * np.arange(len(c)) + 1))
    return (horner + slope * error_t) / evaluate(t, c) + 1 + FIT_EPS


FIT_EPS = 1.0
"""Degree 12 was chosen so that the fit is below one rounding; test_the_fit_is_below_one_rounding."""


def quantile(s):
    return np.sqrt(2) * special.erfinv(s * special.erf(np.sqrt(2)))


def test_the_fit_is_below_one_rounding():
    s = np.linspace(2.0**-24, 1, 20_001)
    fitted = s * np.polynomial.polynomial.polyval(np.sqrt(1.1 - s * s) - 0.6825, np.array(transforms.CENTRAL))
    assert (np.abs(fitted / quantile(s) - 1) <= FIT_EPS * EPS).all()


def test_truncated_normal():
    s = centred_uniform(both).astype(float)
    tolerance = truncated_tolerance(np.abs(s))
    assert (tolerance * EPS).max() < 1e-6  # what is documented
    assert_finite_float32(truncated_normal(both))
    assert_close(truncated_normal(both), quantile(s), tolerance * EPS * np.abs(quantile(s)))


def test_truncated_normal_at_the_edges():
    s = [mp.mpf(float(value)) for value in centred_uniform(edges)]
    exact = np.array([float(mp.sqrt(2) * mp.erfinv(value * mp.erf(mp.sqrt(2)))) for value in s])
    assert_close(truncated_normal(edges), exact, 1e-6 * np.abs(exact))


def test_truncated_normal_stays_strictly_inside_and_is_odd():
    ends = np.concatenate([np.arange(0, 2**16, 2**8), np.arange(2**32 - 2**16, 2**32, 2**8)]).astype(np.uint32)
    values = truncated_normal(np.concatenate([ends, both]))
    assert np.abs(values).max() < 2
    assert (truncated_normal(~both) == -truncated_normal(both)).all()


# ---------------------------------------------------------------------------------------- centred uniform
def test_centred_uniform_is_exact():
    exact = [(2 * (word >> 8) + 1 - 2**24) * 2.0**-24 for word in both.tolist()]
    assert centred_uniform(both).tolist() == exact


def test_centred_uniform_is_odd_and_open():
    values = centred_uniform(both)
    assert_finite_float32(values)
    assert (centred_uniform(~both) == -values).all()
    assert (values != 0).all()
    assert np.abs(values).max() == 1 - 2.0**-24


# ------------------------------------------------------------------------------------------- coefficients
def test_the_coefficients_are_those_of_the_tool(capsys):
    path = Path(__file__).parents[2] / "tools" / "fit_transforms.py"
    spec = importlib.util.spec_from_file_location("fit_transforms", path)
    tool = importlib.util.module_from_spec(spec)
    digits = mp.mp.dps
    try:
        spec.loader.exec_module(tool)
        tool.main()
    finally:
        mp.mp.dps = digits
    printed = {}
    exec(capsys.readouterr().out, printed)
    for name in ("LOG", "SIN", "COS", "CENTRAL"):
        assert printed[name] == getattr(transforms, name), name
        assert all(float(np.float32(value)) == value for value in printed[name])
