"""Fixed points, the edge of chaos and universality classes: against scans, root finders and iterated maps."""

import math

import mpmath as mp
import numpy as np
import pytest

from fanin.activations import ACTIVATIONS
from fanin.errors import InvalidValueError, UnknownNameError
from fanin.theory import (
    critical,
    depth_scales,
    fixed_points,
    gain,
    trainable_depth,
    universality,
    variance_map,
)
from fanin.theory.maps import moments_many
from tests.oracles import theory as oracle

CLASSES = {
    "scale-invariant": {"linear", "relu", "leaky_relu"},
    "K*=0": {"tanh", "hard_tanh", "softsign", "erf", "sin", "elu", "celu", "selu", "relu6"},
    "half-stable": {"gelu", "gelu_tanh", "silu", "mish", "hard_silu"},
    "none": {"softplus", "sigmoid", "hard_sigmoid", "step", "sign"},
}
CLASS = {name: kind for kind, names in CLASSES.items() for name in names}

# Fixed points ------------------------------------------------------------------------------------------------

NETWORKS = [
    ("tanh", 1.7609546396, 0.05), ("tanh", 2.0, 0.0), ("tanh", 0.5, 0.0), ("tanh", 1.0, 0.05),
    ("gelu", 2.0, 0.05), ("gelu", 2.0, 0.17), ("gelu", 1.9, 0.1), ("gelu", 3.0, 0.0), ("silu", 2.0, 0.05),
    ("hard_silu", 2.0, 0.05), ("relu6", 2.05, 0.0), ("hard_tanh", 1.05, 0.0), ("hard_tanh", 0.9, 0.1),
    ("selu", 1.0, 0.0), ("selu", 0.5, 0.0), ("elu", 1.5, 0.2), ("sigmoid", 8.0, 0.5), ("softplus", 1.5, 0.1),
    ("sin", 4.0, 0.1), ("erf", 0.8, 0.0), ("step", 2.0, 0.1), ("sign", 0.3, 0.0), ("hard_sigmoid", 3.0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "w", "b"), NETWORKS)
def test_all_fixed_points_and_nothing_else(name, w, b):
    found, true = fixed_points(name, w, b), oracle.fixed_points(name, w, b, count=110)
    assert not found.every
    alive = [point for point in found.points if point.q > 0]
    assert len(alive) == len(true)
    for point, (q, slope) in zip(alive, true, strict=True):
        # Means are good to 1e-13; the root divides that by how far its slope is from 1.
        assert point.q == pytest.approx(q, rel=1e-11 + 1e-12 / abs(slope - 1))
        # A difference over 1e-3 of log q: its error is 1e-6 times the third derivative.
        assert point.chi.parallel == pytest.approx(slope, abs=1e-5)
        assert point.stability == ("stable" if slope < 1 else "unstable")
        assert point.chi.perpendicular == pytest.approx(w * float(oracle.moments(name, q)["slope_second"]), rel=1e-9)
    dies = b == 0 and float(np.asarray(ACTIVATIONS[name].phi(np.zeros(1)))[0]) == 0 and name != "sign"
    assert [point.q for point in found.points if point.q == 0] == ([0.0] if dies else [])
    stable = [point for point in found.points if point.stability != "unstable"]
    assert found.reached == (stable[0] if stable else None)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - CLASSES["scale-invariant"]))
def test_a_fixed_point_on_a_round_number_is_found(name):
    """Variances that make a round number a fixed point, exactly or but for rounding."""
    living = [point.q for point in fixed_points(name, gain(name) ** 2).points if point.q > 0]
    slope = gain(name) ** 2 * float(moments_many(ACTIVATIONS[name], 1.0)["growth"][0])
    near = 1e-10 + 4e-15 / abs(slope - 1)  # what rounding of the map leaves of the point
    assert any(q == pytest.approx(1, rel=near) for q in living)
    for q in (0.01, 0.1, 1.0, 10.0, 100.0):
        for part in (0.0, 0.125, 0.25, 0.5):
            means = moments_many(ACTIVATIONS[name], q)
            w = (1 - part) * q / float(means["second"][0])
            slope = w * float(means["growth"][0])
            if abs(slope - 1) < 1e-6:  # rounding of w moves the fixed point as far as it likes
                continue
            for around in (math.nextafter(w, 0), w, math.nextafter(w, math.inf)):
                found = [point.q for point in fixed_points(name, around, part * q).points]
                near = 1e-9 + 1e-14 / abs(slope - 1)
                assert any(at == pytest.approx(q, rel=near) for at in found), (q, part, around)


def test_a_dead_signal():
    """Near q = 0 a layer multiplies q by sigma_w2 times the mean square of the two slopes there."""
    for name, slopes in (("tanh", 1.0), ("relu6", 0.5), ("gelu", 0.25), ("selu", 2.0974404623699), ("silu", 0.25)):
        for w in (0.3, 0.9 / slopes, 1.1 / slopes):
            point = fixed_points(name, w).points[0]
            assert point.q == 0
            assert point.chi.parallel == pytest.approx(w * slopes, rel=1e-5)
            assert point.chi.perpendicular == pytest.approx(w * slopes, rel=1e-5)
            assert point.stability == ("stable" if w * slopes < 1 else "unstable")
    assert fixed_points("tanh", 0.0).points[0].chi.parallel == 0
    assert fixed_points("tanh", 0.0, 0.3).points[0].q == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize(("name", "w"), [("relu", 2.0), ("linear", 1.0), ("leaky_relu", 2 / 1.0001)])
def test_homogeneous_functions(name, w):
    every = fixed_points(name, w)
    assert every.every
    assert every.points == ()
    assert every.reached is None
    more = fixed_points(name, w, 0.1)
    assert (more.points, more.every) == ((), False)
    below = fixed_points(name, w / 4, 0.3)
    assert [point.q for point in below.points] == [pytest.approx(0.4, rel=1e-12)]
    assert below.points[0].chi.parallel == pytest.approx(0.25, rel=1e-12)
    assert below.reached is below.points[0]
    assert fixed_points(name, 1.25 * w, 0.1).points == ()
    up = fixed_points(name, 1.25 * w)
    assert [(point.q, point.stability) for point in up.points] == [(0.0, "unstable")]
    assert up.reached is None
    assert depth_scales(name, 1.25 * w).phase == depth_scales(name, w, 0.1).phase == "diverging"


def test_small_biases_have_small_fixed_points():
    """q* = sigma_b2 / (1 - sigma_w2) for tanh, less 2 q*: at any size."""
    for b in (1e-4, 1e-7, 1e-9, 1e-12):
        found = fixed_points("tanh", 0.5, b)
        assert [point.q for point in found.points] == [pytest.approx(2 * b, rel=1e-12 + 8 * b)]
        assert depth_scales("tanh", 0.5, b).phase == "ordered"


@pytest.mark.parametrize(("name", "w"), [("hard_tanh", 1.0), ("relu6", 2.0)])
def test_fixed_points_that_only_rounding_makes(name, w):
    """On the line of slope 1 nothing but q = 0 is fixed; below q = .01 the difference is lost in rounding."""
    found = fixed_points(name, w)
    assert found.every or len(found.points) <= 1


def test_a_small_offset_is_no_death():
    """phi(0) = 5e-4: nothing in is something out."""
    found = fixed_points(lambda z: np.tanh(z) + 5e-4, 0.5)
    assert [point.q for point in found.points] == [pytest.approx(2.5e-7, rel=1e-5)]


# The edge of chaos -------------------------------------------------------------------------------------------


def test_published_edge_of_tanh():
    (edge,) = critical("tanh", sigma_b2=0.05)
    assert edge.sigma_w2 == pytest.approx(1.7609546396, abs=5.1e-11)
    assert edge.q == pytest.approx(0.5700478816, abs=5.1e-11)
    assert edge.sigma_b2 == pytest.approx(0.05, rel=1e-12)
    assert edge.stable
    assert edge.parallel < 1


@pytest.mark.parametrize("q", [1e-3, 0.5, 1.0, 4.0, 60.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_edge_at_a_size(name, q):
    true = oracle.moments(name, q)
    edges = critical(name, q=q)
    w = float(1 / true["slope_second"])
    b = float(q - true["second"] / true["slope_second"])
    if name in ("step", "sign") or b < -1e-9 * q:
        assert edges == ()
        return
    (edge,) = edges
    assert edge.q == q
    assert edge.sigma_w2 == pytest.approx(w, rel=1e-11)
    assert edge.sigma_b2 == pytest.approx(max(0, b), abs=1e-11 * q)
    assert edge.parallel == pytest.approx(float(true["growth"] / true["slope_second"]), rel=1e-9, abs=1e-11)
    if abs(edge.parallel - 1) > 1e-8:
        assert edge.stable == (edge.parallel < 1)
    if CLASS[name] == "scale-invariant":
        assert edge.sigma_b2 < 1e-11 * q
        return
    # Back again. Where the line of edges turns, sigma_b2 tells q to the root of its precision only.
    again = [other for other in critical(name, sigma_b2=edge.sigma_b2) if other.q == pytest.approx(q, rel=1e-5)]
    if edge.sigma_b2 > 1e-9 * q:
        assert len(again) == 1
        assert again[0].sigma_w2 == pytest.approx(edge.sigma_w2, rel=1e-6)


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "gelu", "silu", "hard_tanh", "selu", "elu", "hard_silu"])
@pytest.mark.parametrize("b", [0.05, 0.5])
def test_all_edges_at_a_bias(name, b):
    """sigma_b2 along the line of edges, q - E phi^2 / E phi'^2, passes b once for each."""
    grid = np.logspace(-6, 3.5 if name == "sin" else 6, 45)

    def bias(q):
        true = oracle.moments(name, q)
        return float(q - true["second"] / true["slope_second"]) - b

    values = [bias(q) for q in grid]
    true = [(grid[i], grid[i + 1]) for i in range(len(grid) - 1) if values[i] * values[i + 1] < 0]
    found = critical(name, sigma_b2=b)
    assert len(found) == len(true)
    for edge, (low, high) in zip(found, true, strict=True):
        assert low <= edge.q <= high
        assert abs(bias(edge.q)) < 1e-9 * edge.q
        assert variance_map(name, edge.q, edge.sigma_w2, b) == pytest.approx(edge.q, rel=1e-11)


@pytest.mark.parametrize("name", ["step", "sign", "softplus"])
def test_no_edge_without_bias(name):
    assert critical(name, sigma_b2=0.0) == ()


@pytest.mark.parametrize("name", ["sigmoid", "hard_sigmoid"])
def test_the_edge_of_sigmoids_without_bias(name):
    """One, at a size where the sigmoid is nearly a step: K* = 0 and half-stable points they have none."""
    (edge,) = critical(name, sigma_b2=0.0)

    def bias(q):
        means = oracle.moments(name, q)
        return q - means["second"] / means["slope_second"]

    with mp.workdps(20):
        true = mp.findroot(bias, 46)
    assert edge.q == pytest.approx(float(true), rel=1e-10)
    assert edge.stable
    assert edge.parallel < 0.1
    assert edge.sigma_b2 == pytest.approx(0, abs=1e-10)


def test_edges_without_bias():
    for name, w in (("tanh", 1.0), ("sin", 1.0), ("erf", math.pi / 4), ("softsign", 1.0), ("selu", 0.476771017883)):
        edge = critical(name, sigma_b2=0.0)[0]
        assert (edge.q, edge.sigma_b2, edge.stable, edge.parallel) == (0, 0, True, 1)
        assert edge.sigma_w2 == pytest.approx(w, rel=1e-11)
    for name in ("gelu", "silu", "mish"):  # a signal grows from nothing there
        edge = critical(name, sigma_b2=0.0)[0]
        assert edge.q == 0
        assert not edge.stable
    (relu,) = critical("relu", sigma_b2=0.0)
    assert relu.sigma_w2 == pytest.approx(2, rel=1e-12)
    assert math.isnan(relu.q)
    assert relu.stable
    assert critical("relu", sigma_b2=0.1) == ()


@pytest.mark.parametrize("name", ["gelu", "silu", "mish"])
def test_small_biases_have_unstable_edges(name):
    """Pitfall 5: chi.perpendicular = 1 is not enough."""
    for b in (0.001, 0.05):
        edge = critical(name, sigma_b2=b)[0]
        assert not edge.stable
        assert edge.parallel > 1.001
        point = min(fixed_points(name, edge.sigma_w2, b).points, key=lambda point: abs(point.q - edge.q))
        assert point.q == pytest.approx(edge.q, rel=1e-9)
        assert point.chi.perpendicular == pytest.approx(1, abs=1e-9)
        assert point.stability == "unstable"
        # And indeed signals leave it, to both sides.
        for start in (0.99, 1.01):
            q = start * edge.q
            for _ in range(20):
                q = edge.sigma_w2 * oracle.second(name, q) + b
            assert abs(q / edge.q - 1) > 0.0102
    k_star = universality(name).k_star
    (below,), (above,) = critical(name, q=0.98 * k_star), critical(name, q=1.02 * k_star)
    assert (below.stable, above.stable) == (False, True)


# Universality ------------------------------------------------------------------------------------------------


def test_every_activation_has_a_class():
    assert set(CLASS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_classes(name):
    found = universality(name)
    assert found.kind == CLASS[name]
    if found.kind == "none":
        assert math.isnan(found.k_star)
        assert math.isnan(found.sigma_w2)
        stable = [edge for edge in critical(name, sigma_b2=0.0) if edge.stable]
        assert bool(stable) == (name in ("sigmoid", "hard_sigmoid"))
        if stable:
            assert gain(name, kind="edge_of_chaos") == math.sqrt(stable[0].sigma_w2)
            return
        with pytest.raises(InvalidValueError, match="no edge of chaos"):
            gain(name, kind="edge_of_chaos")
        return
    assert gain(name, kind="edge_of_chaos") == math.sqrt(found.sigma_w2)
    if found.kind == "scale-invariant":
        assert math.isnan(found.k_star)
        assert found.sigma_b2 == 0
    if found.kind == "K*=0":
        assert (found.k_star, found.sigma_b2) == (0, 0)
    if found.kind == "half-stable":
        means = oracle.moments(name, found.k_star)
        assert float(means["growth"] / means["slope_second"]) == pytest.approx(1, abs=1e-10)
        assert found.sigma_w2 == pytest.approx(float(1 / means["slope_second"]), rel=1e-10)
        assert variance_map(name, found.k_star, found.sigma_w2, found.sigma_b2) == pytest.approx(found.k_star)


def test_published_half_stable_points():
    """Roberts, Yaida, Hanin 2022, section 5.3.4."""
    gelu, swish = universality("gelu"), universality("swish")
    assert gelu.k_star == pytest.approx((3 + math.sqrt(17)) / 2, rel=1e-10)
    assert gelu.sigma_w2 == pytest.approx(1.98305826, abs=5.1e-9)
    assert gelu.sigma_b2 == pytest.approx(0.17292239, abs=5.1e-9)
    assert swish.k_star == pytest.approx(14.32017362, abs=5.1e-9)
    assert swish.sigma_w2 == pytest.approx(1.98800468, abs=5.1e-9)
    assert swish.sigma_b2 == pytest.approx(0.55514317, abs=5.1e-9)


def test_half_stable_is_half_stable():
    """Signals of GELU come to K* from one side and leave it on the other."""
    edge = universality("gelu")
    offs = []
    for start in (0.9, 1.1):
        q = start * edge.k_star
        for _ in range(2000):
            q = edge.sigma_w2 * oracle.second("gelu", q) + edge.sigma_b2
        offs.append(abs(q / edge.k_star - 1))
    assert min(offs) < 0.09
    assert max(offs) > 0.103


# Mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, None, "one", [1.0]])
def test_bad_variances(wrong):
    for call in (fixed_points, depth_scales, trainable_depth):
        with pytest.raises(InvalidValueError, match="sigma_w2 is out of range"):
            call("tanh", wrong)
        with pytest.raises(InvalidValueError, match="sigma_b2 is out of range"):
            call("tanh", 1.0, wrong)
    if wrong is not None:
        with pytest.raises(InvalidValueError, match="sigma_b2 is out of range"):
            critical("tanh", sigma_b2=wrong)
        with pytest.raises(InvalidValueError, match="second moment q is out of range"):
            critical("tanh", q=wrong)


def test_other_mistakes():
    for given in ({}, {"sigma_b2": 0.1, "q": 1.0}):
        with pytest.raises(InvalidValueError, match="one of two") as error:
            critical("tanh", **given)
        assert error.value.allowed == "sigma_b2 or q"
    for call in (universality, lambda name: critical(name, q=1.0), lambda name: fixed_points(name, 1.0)):
        with pytest.raises(UnknownNameError, match="no such activation"):
            call("tahn")
