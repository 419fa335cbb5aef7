"""Means, the variance map and the correlation map: against closed forms and 30-digit sums, for every activation."""

import math

import mpmath as mp
import numpy as np
import pytest
from scipy.special import erf

from fanin.activations import ACTIVATIONS
from fanin.errors import FaninError, InvalidValueError, UnknownNameError
from fanin.theory import chi, correlation_map, moments, variance_map
from fanin.theory.integrals import pair_mean
from fanin.theory.maps import deficit_map, deficit_slope, moments_many
from tests.oracles import theory as oracle

Q = (1e-6, 1e-3, 0.3, 1.0, 30.0, 1e3, 1e6, 1e8)
EPSILON = 2.0**-52
SMOOTH = sorted(oracle.NUMPY)


def exact(name, q):
    """The oracle's means, and the size that each error is measured by."""
    found = oracle.moments(name, q)
    return found, oracle.scales(found, mp.mpf(q))


# Means -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_mean_and_its_error(name, q):
    found, (true, scale) = moments(name, q), exact(name, q)
    # sin(u) is known to EPSILON |u| at best, which is EPSILON q of the scale of its growth, 1 / (2 q).
    tolerance = max(1e-10, 2 * EPSILON * q) if name == "sin" else 1e-10
    for key, value in true.items():
        if value == mp.inf:
            assert getattr(found, key) == math.inf, key
            continue
        off = float(abs(mp.mpf(getattr(found, key)) - value) / scale[key])
        assert off <= tolerance, key
        assert off <= found.error, key
    assert 0 < found.error <= 100 * tolerance
    assert found.q == q
    assert found.variance == found.second - found.mean**2


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_many_q_at_once_are_the_same_as_one_by_one(name):
    q = np.array(Q[1:6])
    many = moments_many(ACTIVATIONS[name], q)
    for i, at in enumerate(q):
        one = moments(name, at)
        for key, values in many.items():
            size = one.second / at if key == "growth" else max(1.0, one.second)
            # sin is cut at other places where a larger q is beside it.
            assert values[i] == pytest.approx(getattr(one, key), rel=1e-12, abs=1e-12 * size), key


@pytest.mark.parametrize("q", [1e-300, 1e-40, 1e30, 1e100])
@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"sin", "step", "sign"}))
def test_far_beyond_every_size(name, q):
    """Near 0 the function is its value there plus lines on both sides; far out a constant or a line on each side."""
    entry, found = ACTIVATIONS[name], moments(name, q)
    reach = 1e-20 if q < 1 else 1e12
    low, high = (float(np.asarray(entry.phi(np.array([sign * reach])))[0]) for sign in (-1, 1))
    at_zero = float(np.asarray(entry.phi(np.zeros(1)))[0])
    if q < 1:
        # At sigma = 1e-20 or less, what is left of the square beside the value at 0 is below 1e-19.
        if at_zero == 0:
            slopes = (low / reach) ** 2 + (high / reach) ** 2
            assert found.second / q == pytest.approx(slopes / 2, rel=1e-13)
            assert found.slope_second == pytest.approx(slopes / 2, rel=1e-13)
        else:
            assert found.second == pytest.approx(at_zero**2, rel=1e-13)
    elif max(abs(low), abs(high)) > 1e11:
        # What is beside the lines is of size 1 where u is of size 1e15, and matters to 1e-15.
        assert found.second / q == pytest.approx(((low / reach) ** 2 + (high / reach) ** 2) / 2, rel=1e-12)
    else:
        # Bounded: softsign(1e12) lacks 1e-12 of its end, its mean square at q = 1e30 less than 1e-13.
        assert found.second == pytest.approx((low**2 + high**2) / 2, rel=3e-12)


def test_sin_over_too_many_periods_is_refused():
    with pytest.raises(InvalidValueError, match="too many periods") as error:
        moments("sin", 1e12)
    assert "1e+12" in error.value.given


def test_variance_map_and_chi():
    for name in ("relu", "tanh", "gelu"):
        true = oracle.moments(name, 0.7)
        assert variance_map(name, 0.7, 1.3, 0.2) == pytest.approx(float(1.3 * true["second"]) + 0.2, rel=1e-13)
        both = chi(name, 0.7, 1.3)
        assert both.perpendicular == pytest.approx(float(1.3 * true["slope_second"]), rel=1e-13)
        assert both.parallel == pytest.approx(float(1.3 * true["growth"]), rel=1e-12)
    assert variance_map("relu", 1.0, 0.0) == 0.0
    assert variance_map("softplus", 1.0, 0.0, 0.5) == 0.5


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"step", "sign"}))
def test_growth_is_the_slope_of_the_variance_map(name):
    q, h = 0.8, 1e-4
    numeric = (variance_map(name, q + h, 1.0) - variance_map(name, q - h, 1.0)) / (2 * h)
    # The third derivative of E phi^2 is below 2 here: h^2 / 6 of it, and 1e-13 / h of rounding.
    assert chi(name, q, 1.0).parallel == pytest.approx(numeric, abs=2e-8)


def test_published_facts_of_one_layer():
    """research/theory.md: E phi'^2 over var phi of ReLU, which is what batch normalisation leaves, and SELU."""
    relu = moments("relu", 1.0)
    assert relu.slope_second / relu.variance == pytest.approx(math.pi / (math.pi - 1), rel=1e-12)
    assert relu.slope_second / relu.variance == pytest.approx(1.4669422069, abs=5.1e-11)
    selu = moments("selu", 1.0)
    assert (selu.mean, selu.second) == (pytest.approx(0, abs=1e-12), pytest.approx(1, abs=1e-12))


def test_gauss_hermite_would_not_have_done():
    """Pitfall 1: 256 nodes are off by 97 % for E tanh'^2 at q = 400, by 1.6e-3 for the mean of ReLU."""
    z, weights = np.polynomial.hermite_e.hermegauss(256)
    weights = weights / weights.sum()
    hermite = float(weights @ (1 - np.tanh(20 * z) ** 2) ** 2)
    assert hermite / moments("tanh", 400.0).slope_second - 1 == pytest.approx(-0.97, abs=0.005)
    off = abs(float(weights @ np.maximum(z, 0)) - moments("relu", 1.0).mean)
    assert off > 5e-4
    assert moments("relu", 1.0).mean == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-14)


# The correlation map -----------------------------------------------------------------------------------------


def arc_cosine(c):
    return float(1 - oracle.kink_kernel(1 - c))


CLOSED = {  # E phi(u) phi(v) / E phi^2
    "relu": lambda c, _: arc_cosine(c),
    # (1 - a) relu(u) + a u, and E relu(u) v = c q / 2.
    "leaky_relu": lambda c, _: (0.99**2 * arc_cosine(c) / 2 + 0.99 * 0.01 * c + 1e-4 * c) / (0.5 * (1 + 1e-4)),
    "erf": lambda c, q: math.asin(2 * q * c / (1 + 2 * q)) / math.asin(2 * q / (1 + 2 * q)),
    "linear": lambda c, _: c,
    "sin": lambda c, q: math.sinh(q * c) / math.sinh(q),
    "sign": lambda c, _: 2 / math.pi * math.asin(c),
    "step": lambda c, _: 1 - math.acos(c) / math.pi,
}


@pytest.mark.parametrize("q", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name, q):
    for c in (-1.0, -0.8, -0.05, 0.0, 0.3, 0.9, 1.0):
        true = CLOSED[name](c, q)
        assert correlation_map(name, c, q, 1.7) == pytest.approx(true, abs=1e-11), c
        # With a bias the cosine is of covariances, and both gain sigma_b2.
        second = 1.7 * float(oracle.moments(name, q)["second"])
        assert correlation_map(name, c, q, 1.7, 0.4) == pytest.approx((second * true + 0.4) / (second + 0.4), abs=1e-11)


@pytest.mark.parametrize("name", ["relu", "relu6", "elu", "selu", "hard_tanh", "hard_sigmoid", "hard_silu"])
def test_kinks_against_hermite_polynomials(name):
    for q in (0.5, 9.0):
        second = oracle.moments(name, q)["second"]
        for c in (-0.35, 0.2, 0.35):
            # The rest of the expansion is below 0.35^28 = 2e-13.
            true = float(oracle.mehler(name, c, q, 28) / second)
            assert correlation_map(name, c, q, 1.0) == pytest.approx(true, abs=1e-11), (q, c)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_against_a_sum_over_the_plane(name):
    phi = oracle.NUMPY[name]
    for q in (0.05, 2.0):
        second = oracle.line(lambda u: phi(u) ** 2, q)
        for c in (-0.7, 0.0, 0.5, 0.8):
            true = oracle.plane(phi, phi, c, q) / second
            assert correlation_map(name, c, q, 3.0) == pytest.approx(true, abs=1e-11), (q, c)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_ends_and_the_middle(name):
    found = moments(name, 1.3)
    assert correlation_map(name, 1.0, 1.3, 0.7, 0.1) == 1.0
    # Two signals without correlation: only the mean is common to both.
    assert correlation_map(name, 0.0, 1.3, 2.0) == pytest.approx(found.mean**2 / found.second, abs=1e-11)
    if name in ("linear", "softsign", "tanh", "hard_tanh", "erf", "sin", "sign"):
        assert correlation_map(name, -1.0, 1.3, 2.0) == pytest.approx(-1, abs=1e-11)
        left, right = correlation_map(name, -0.4, 1.3, 2.0), correlation_map(name, 0.4, 1.3, 2.0)
        assert left == pytest.approx(-right, abs=1e-11)


@pytest.mark.parametrize("deficit", [1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "erf", "sin", "softplus"])
def test_near_one_smooth_functions(name, deficit):
    """f(d) = chi d - r(d), where r lies between 0 and d^2 / 2 times sigma_w2 q E phi''^2 (by Mehler's series)."""
    q, h = 1.5, 1e-4
    phi = oracle.NUMPY[name]
    bend = oracle.line(lambda u: ((phi(u + h) - 2 * phi(u) + phi(u - h)) / h**2) ** 2, q)
    slope = chi(name, q, 1.2).perpendicular
    ratio = deficit_map(ACTIVATIONS[name], deficit, q, 1.2) / deficit
    # u - v is a difference of two rounded numbers sqrt(d) apart.
    noise = 1e-11 + EPSILON / math.sqrt(deficit)
    assert -noise <= slope - ratio <= 1.01 * 1.2 * q * bend * deficit / 2 + noise
    assert deficit_slope(ACTIVATIONS[name], deficit, q, 1.2) == pytest.approx(
        slope, abs=1.01 * 1.2 * q * bend * deficit + 1e-11
    )


@pytest.mark.parametrize("deficit", [1e-2, 1e-6, 1e-10, 1e-14])
def test_near_one_relu(deficit):
    """1 - 2 sqrt(2) / (3 pi) sqrt(1 - c) and so on: the slope of the map is not smooth at 1."""
    relu = ACTIVATIONS["relu"]
    found = deficit_map(relu, deficit, 1.0, 2.0)
    noise = 1e-11 + EPSILON / math.sqrt(deficit)
    assert found / deficit == pytest.approx(float(oracle.kink_kernel(deficit)) / deficit, rel=noise)
    # The next term of the series is (1 - c)^(3/2) sqrt(2) / (30 pi) times 2 or less.
    series = 1 - 2 * math.sqrt(2) / (3 * math.pi) * math.sqrt(deficit)
    assert found / deficit == pytest.approx(series, abs=0.05 * deficit**1.5 + noise)
    # Cho and Saul's kernel of degree 0.
    zeroth = 1 - math.acos(1 - deficit) / math.pi if deficit > 1e-7 else 1 - math.sqrt(2 * deficit) / math.pi
    assert deficit_slope(relu, deficit, 1.0, 2.0) == pytest.approx(zeroth, abs=1e-9)


@pytest.mark.parametrize("name", ["step", "sign"])
def test_near_one_jumps(name):
    """acos(c) / pi and twice that: infinitely steep."""
    for deficit in (1e-2, 1e-6, 1e-10):
        true = math.sqrt(2 * deficit) * (1 + deficit / 12) / math.pi * (2 if name == "sign" else 1)
        second = 1.0 if name == "sign" else 0.5
        # The next term of the arc cosine is 3/160 d^2.
        assert deficit_map(ACTIVATIONS[name], deficit, second, 1.0) * second == pytest.approx(
            true * second, rel=0.02 * deficit**2 + 1e-9
        )


def test_a_mean_over_two_numbers():
    """Moments of the pair itself: q c, and the fourth order q^2 (1 + 2 c^2)."""
    linear = ACTIVATIONS["linear"]
    for c in (-1.0, -0.3, 0.0, 0.999, 1.0):
        assert pair_mean(linear, 2.0, 1 - c, lambda u, v: u * v) == pytest.approx(2 * c, abs=1e-12)
        fourth = pair_mean(linear, 2.0, 1 - c, lambda u, v: u**2 * v**2)
        assert fourth == pytest.approx(4 * (1 + 2 * c * c), rel=1e-12)
        assert pair_mean(linear, 2.0, 1 - c, lambda u, v: u - 3 * v + 1) == pytest.approx(1, abs=1e-12)


def test_correlation_facts_of_research():
    """ReLU's map at C'(1): rescaled to variance 1 its slope is pi / (pi - 1), and He's map has 1 / pi at c = 0."""
    assert correlation_map("relu", 0.0, 1.0, 2.0) == pytest.approx(1 / math.pi, abs=1e-12)
    assert correlation_map("relu", -1.0, 1.0, 2.0) == pytest.approx(0, abs=1e-12)
    assert correlation_map("erf", 0.5, 0.5, 1.0) == pytest.approx(math.asin(0.25) / math.asin(0.5), abs=1e-12)


# What cannot be ----------------------------------------------------------------------------------------------

HUGE = pytest.param(10**400, id="huge")
BAD_Q = [0.0, -1.0, math.nan, math.inf, None, "one", [1.0], 1j, HUGE]
BAD_VARIANCE = [-1e-9, math.nan, math.inf, None, "one", [1.0], HUGE]


@pytest.mark.parametrize("wrong", BAD_Q)
def test_bad_second_moments(wrong):
    for call in (
        lambda: moments("relu", wrong),
        lambda: chi("relu", wrong, 1.0),
        lambda: variance_map("relu", wrong, 1.0),
        lambda: correlation_map("relu", 0.5, wrong, 1.0),
    ):
        with pytest.raises(InvalidValueError, match="second moment q is out of range") as error:
            call()
        assert error.value.allowed == "a finite number above 0"


@pytest.mark.parametrize("wrong", BAD_VARIANCE)
def test_bad_variances(wrong):
    for call in (
        lambda: chi("relu", 1.0, wrong),
        lambda: variance_map("relu", 1.0, wrong),
        lambda: variance_map("relu", 1.0, 1.0, wrong),
        lambda: correlation_map("relu", 0.5, 1.0, wrong),
        lambda: correlation_map("relu", 0.5, 1.0, 1.0, wrong),
    ):
        with pytest.raises(InvalidValueError, match=r"sigma_.2 is out of range") as error:
            call()
        assert error.value.allowed == "a finite number of 0 or more"


@pytest.mark.parametrize("wrong", [1.0000001, -2, math.nan, None, "one", [0.5]])
def test_bad_cosines(wrong):
    with pytest.raises(InvalidValueError, match="cosine c is out of range") as error:
        correlation_map("relu", wrong, 1.0, 1.0)
    assert error.value.allowed == "-1 to 1"


def test_other_mistakes():
    with pytest.raises(InvalidValueError, match="no signal left"):
        correlation_map("relu", 0.5, 1.0, 0.0)
    for call in (moments, lambda name, q: chi(name, q, 1.0), lambda name, q: correlation_map(name, 0.1, q, 1.0)):
        with pytest.raises(UnknownNameError, match="no such activation"):
            call("tahn", 1.0)
        with pytest.raises(FaninError):
            call(3, 1.0)


def test_oracles_agree_with_each_other():
    """Two routes to the same number, where the oracle has two."""
    for q in (0.3, 30.0):
        for name in ("erf", "gelu", "sin"):
            phi = oracle.NUMPY[name]
            true = oracle.moments(name, q)
            assert oracle.line(lambda u, phi=phi: phi(u) ** 2, q) == pytest.approx(float(true["second"]), rel=1e-12)
    assert oracle.plane(erf, erf, 0.4, 2.0) == pytest.approx(2 / math.pi * math.asin(0.8 * 2 / 5), rel=1e-12)
    assert float(oracle.mehler("relu", 0.4, 1.0)) == pytest.approx(arc_cosine(0.4) / 2, rel=1e-13)
