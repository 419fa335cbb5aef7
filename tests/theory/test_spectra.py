"""Singular values of products of random matrices against the predicted mean, variance and edge of their spectrum.

False alarms, were the seeds not fixed: 4.5 standard errors, or Student's t of as small a probability as is said.
"""

import math

import numpy as np
import pytest

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.theory.maps import moments
from fanin.theory.spectra import jacobian_spectrum
from tests.oracles import networks as oracle

TANH = (1.7609546396, 0.05, 0.5700478816)
SIGMA_W2 = {"linear": 1.0, "relu": 2.0, "tanh": TANH[0], "hard_tanh": 1.4}


def matrix(rng, width, sigma_w2, weights):
    """Gaussian, or orthogonal and uniform (QR with the signs of the diagonal taken off)."""
    drawn = rng.normal(size=(width, width))
    if weights == "gaussian":
        return drawn * math.sqrt(sigma_w2 / width)
    q, r = np.linalg.qr(drawn)
    return math.sqrt(sigma_w2) * q * np.sign(np.diag(r))


def assumed(rng, phi, depth, width, weights, q):
    """Squared singular values where pre-activations are independent normal numbers, as the theory has it."""
    product = np.eye(width)
    for _ in range(depth):
        slopes = oracle.PHI[phi][1](rng.normal(size=width) * math.sqrt(q))
        product = slopes[:, None] * (matrix(rng, width, SIGMA_W2[phi], weights) @ product)
    return np.linalg.svd(product, compute_uv=False) ** 2


def walked(rng, depth, width, weights):
    """The same for tanh at its fixed point on the edge of chaos, with the pre-activations of a forward pass."""
    sigma_w2, sigma_b2, q = TANH
    value, slope = oracle.PHI["tanh"]
    h, product = rng.permutation(oracle.quantiles(width, q)[0]), np.eye(width)
    for _ in range(depth):
        weight = matrix(rng, width, sigma_w2, weights)
        product = weight @ (slope(h)[:, None] * product)
        h = weight @ value(h) + math.sqrt(sigma_b2) * rng.normal(size=width)
    return np.linalg.svd(product, compute_uv=False) ** 2


def check(squares, predicted, spread_of_slopes, depth, weights, student):
    """`squares` by seed, `spread_of_slopes` the relative variance of phi'^2, `student` a quantile of t."""
    seeds, width = squares.shape
    # The mean is exact at any width. Between seeds it varies by that of phi'^2 over units, and by 2 / n^2 of W.
    error = 4.5 * math.sqrt(depth * (spread_of_slopes + 2 / width) / width / seeds)
    assert abs(squares.mean() / predicted.mean - 1) < error + 1e-9
    # To the mean fourth power each layer adds about 3 / n of what there is: 1 / n itself, 2 / n the mean's square.
    relative = squares.var(axis=1) / squares.mean(axis=1) ** 2
    expected = predicted.variance / predicted.mean**2
    allowed = student * relative.std(ddof=1) / math.sqrt(seeds) + 3 * depth * (1 + expected) / width
    assert abs(relative.mean() - expected) < (allowed if expected > 1e-12 else 1e-9)
    # The largest of n follows Tracy and Widom's law: -1.21 of a scale n^(-2/3) on the mean, 1.27 over seeds, so
    # it lies about one standard deviation below the edge; where sampled slopes move the edge, by less of them.
    largest = np.sqrt(squares.max(axis=1))
    bar = largest.std(ddof=1)
    below = predicted.largest - largest.mean()
    assert (
        -student * bar / math.sqrt(seeds) - 1e-6
        < below
        < (1 + student / math.sqrt(seeds)) * bar
        + 1e-5
        + (2 * predicted.largest * depth / width if weights == "gaussian" or spread_of_slopes > 0 else 0)
    )


def kurtosis_of_slopes(phi, q):
    z = np.random.default_rng(0).normal(size=200_000) * math.sqrt(q)
    squares = oracle.PHI[phi][1](z) ** 2
    return float(squares.var() / squares.mean() ** 2)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("phi", list(SIGMA_W2))
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_random_products_have_the_predicted_spectrum(phi, depth, weights):
    q = 0.6
    rng = np.random.default_rng([depth, len(phi), len(weights)])
    squares = np.array([assumed(rng, phi, depth, 128, weights, q) for _ in range(8)])
    predicted = jacobian_spectrum(phi, depth, SIGMA_W2[phi], q, weights)
    check(squares, predicted, kurtosis_of_slopes(phi, q), depth, weights, student=7.1)  # 2e-4 of t with 7


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_forward_passes_have_the_predicted_spectrum(weights):
    rng = np.random.default_rng(8)
    squares = np.array([walked(rng, 5, 300, weights) for _ in range(6)])
    predicted = jacobian_spectrum("tanh", 5, TANH[0], TANH[2], weights)
    assert predicted.mean == pytest.approx(1.0, abs=1e-8)
    # The pre-activations of a layer share their size, which strays by about 2 / n and moves phi'^2 by half as much.
    check(squares, predicted, kurtosis_of_slopes("tanh", TANH[2]) + 3, 5, weights, student=8.0)  # 5e-4 of t with 5


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("phi", "depth"), [("linear", 2), ("relu", 5), ("tanh", 20), ("hard_tanh", 10)])
def test_large_random_products_have_the_predicted_spectrum(phi, depth, weights):
    rng = np.random.default_rng(depth)
    squares = np.array([assumed(rng, phi, depth, 1000, weights, 0.6) for _ in range(5)])
    predicted = jacobian_spectrum(phi, depth, SIGMA_W2[phi], 0.6, weights)
    check(squares, predicted, kurtosis_of_slopes(phi, 0.6), depth, weights, student=8.6)  # 1e-3 of t with 4


@pytest.mark.parametrize("depth", [1, 2, 5, 30, 300])
def test_linear_networks_are_known(depth):
    gaussian = jacobian_spectrum("linear", depth, 1.0, 1.0)
    edge = math.exp((depth + 1) * math.log1p(depth) - depth * math.log(depth))  # Fuss and Catalan
    assert gaussian.largest**2 == pytest.approx(edge, rel=1e-9)
    assert (gaussian.mean, gaussian.variance) == pytest.approx((1.0, depth), rel=1e-9)
    orthogonal = jacobian_spectrum("linear", depth, 1.21, 1.0, "orthogonal")
    assert orthogonal.largest == pytest.approx(1.1**depth, rel=1e-9)
    assert orthogonal.mean == pytest.approx(1.21**depth, rel=1e-9)
    assert orthogonal.variance == pytest.approx(0.0, abs=1e-9 * 1.21 ** (2 * depth))


@pytest.mark.parametrize("depth", [1, 4, 40])
def test_networks_that_switch_units_off_are_known(depth):
    """Slopes of 0 and 1, as ReLU's at any q: each with probability p = 1/2, Pennington et al. 2018, section 4."""
    gaussian = jacobian_spectrum("relu", depth, 2.0, 3.0)
    assert gaussian.variance == pytest.approx(depth * (1 / 0.5 - 1 + 1), rel=1e-9)
    orthogonal = jacobian_spectrum("relu", depth, 2.0, 3.0, "orthogonal")
    assert orthogonal.variance == pytest.approx(depth, rel=1e-9)
    # With w = p / (y - 1): w y / (1 + w) = w + p over 1 + w, and the edge is a minimum over w, here by brute force.
    w = np.logspace(-6, 9, 2_000_001)
    for found, factor in ((gaussian, 1 + w), (orthogonal, 1.0)):
        edge = np.log1p(1 / w) + depth * np.log(2.0 * (w + 0.5) / (1 + w) * factor)
        assert found.largest**2 == pytest.approx(math.exp(edge.min()), rel=1e-7)


def test_a_single_layer_reaches_its_steepest_slope():
    assert jacobian_spectrum("relu", 1, 2.0, 1.0, "orthogonal").largest == pytest.approx(math.sqrt(2), rel=1e-9)
    assert jacobian_spectrum("tanh", 1, 1.0, 1.0, "orthogonal").largest == pytest.approx(1.0, abs=1e-3)
    # Marchenko and Pastur: half of the rows of a square matrix.
    assert jacobian_spectrum("relu", 1, 2.0, 1.0).largest == pytest.approx(math.sqrt(2) * (1 + math.sqrt(0.5)))


@pytest.mark.parametrize("phi", ["tanh", "gelu", "selu", "erf"])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_moments_are_those_of_pennington(phi, weights):
    grid = np.linspace(-10, 10, 400_000)  # a plain sum, with a kink at 0 between two points
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    slopes = oracle.PHI[phi][1](grid * math.sqrt(0.7))
    first, second = float(density @ slopes**2), float(density @ slopes**4)
    found = jacobian_spectrum(phi, 7, 1.3, 0.7, weights)
    extra = 1 if weights == "gaussian" else 0
    assert found.mean == pytest.approx((1.3 * first) ** 7, rel=1e-7)
    assert found.variance == pytest.approx((1.3 * first) ** 14 * 7 * (second / first**2 - 1 + extra), rel=1e-7)
    assert found.mean == pytest.approx((1.3 * moments(phi, 0.7).slope_second) ** 7, rel=1e-9)
    assert found.largest**2 > found.mean


def test_no_signal_has_no_jacobian():
    for given, sigma_w2 in (("relu", 0.0), (lambda z: 0 * z, 1.0)):
        found = jacobian_spectrum(given, 3, sigma_w2, 1.0)
        assert (found.mean, found.variance, found.largest) == (0.0, 0.0, 0.0)


def test_deep_networks_overflow_quietly():
    found = jacobian_spectrum("linear", 5000, 4.0, 1.0)
    assert (found.mean, found.variance, found.largest) == (math.inf, math.inf, math.inf)
    gone = jacobian_spectrum("linear", 5000, 0.1, 1.0, "orthogonal")
    assert (gone.mean, gone.variance, gone.largest) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth"),
        ({"depth": -1}, "depth"),
        ({"depth": 2.5}, "depth"),
        ({"depth": math.nan}, "depth"),
        ({"sigma_w2": -1.0}, "sigma_w2"),
        ({"sigma_w2": math.nan}, "sigma_w2"),
        ({"q": 0.0}, "second moment q"),
        ({"q": math.nan}, "second moment q"),
        ({"weights": "uniform"}, "weights"),
        ({"given": "step"}, "jumps"),
        ({"given": "rely"}, "rely"),
    ],
)
def test_mistakes(changes, message):
    settings = {"given": "relu", "depth": 3, "sigma_w2": 2.0, "q": 1.0, **changes}
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        jacobian_spectrum(**settings)
