"""Phases and depth scales: against the iterated maps, series near the edge, and published numbers."""

import math

import mpmath as mp
import numpy as np
import pytest

from fanin.theory import (
    correlation_map,
    critical,
    depth_scales,
    fixed_points,
    gain,
    moments,
    trainable_depth,
    variance_map,
)
from tests.oracles import theory as oracle


def test_published_depth_scale():
    scales = depth_scales("tanh", 1.0, 0.05)
    assert scales.xi_c == pytest.approx(3.626976, abs=5.1e-7)
    assert (scales.phase, scales.c_star) == ("ordered", 1.0)
    depth = trainable_depth("tanh", 1.0, 0.05)
    assert (depth.low, depth.typical, depth.high) == (4 * scales.xi_c, 6 * scales.xi_c, 9 * scales.xi_c)


SCALES = [("tanh", 1.0, 0.05), ("tanh", 3.0, 0.05), ("tanh", 3.0, 0.0), ("gelu", 1.5, 0.1), ("erf", 0.7, 0.1),
          ("sin", 3.0, 0.1), ("sin", 1.2, 0.4), ("silu", 1.2, 0.3), ("softplus", 1.2, 0.2)]  # fmt: skip


@pytest.mark.parametrize(("name", "w", "b"), SCALES)
def test_scales_are_those_of_the_iterated_maps(name, w, b):
    found, phi = depth_scales(name, w, b), oracle.NUMPY[name]
    sizes = [found.q * 1.05]
    while abs(sizes[-1] / found.q - 1) > 1e-6:
        sizes.append(w * oracle.line(lambda u: phi(u) ** 2, sizes[-1]) + b)
        assert len(sizes) < 500
    # The last differences are 1e-6 of q: means are good to 1e-14, and the map bends by as much as 1e-5 of its slope.
    rate = (sizes[-1] - found.q) / (sizes[-2] - found.q)
    assert abs(rate) == pytest.approx(math.exp(-1 / found.xi_q), rel=1e-4)
    cosines = [0.5]
    for _ in range(400):
        cosines.append((w * oracle.plane(phi, phi, min(1.0, cosines[-1]), found.q, 0.06) + b) / found.q)
        if abs(cosines[-1] - cosines[-2]) < 1e-7:
            break
    # What is left of the way is the last step times rate / (1 - rate).
    rate = math.exp(-1 / found.xi_c)
    assert cosines[-1] == pytest.approx(found.c_star, abs=1e-9 + 1.01e-7 * rate / (1 - rate))
    late = (cosines[-2] - cosines[-3]) / (cosines[-3] - cosines[-4])
    assert late == pytest.approx(rate, rel=1e-3)
    assert found.phase == ("ordered" if found.c_star == 1 else "chaotic")
    assert (found.chi.perpendicular < 1) == (found.phase == "ordered")


def test_chaos_with_kinks_and_jumps():
    hard = depth_scales("hard_tanh", 3.0, 0.05)
    c = [0.14, 0.15]
    while abs(c[-1] - c[-2]) > 1e-9:
        c.append(correlation_map("hard_tanh", c[-1], hard.q, 3.0, 0.05))
        assert len(c) < 200
    rate = math.exp(-1 / hard.xi_c)
    assert (hard.phase, hard.c_star) == ("chaotic", pytest.approx(c[-1], abs=1e-9 + 1.1e-9 * rate / (1 - rate)))
    assert (c[-1] - c[-2]) / (c[-2] - c[-3]) == pytest.approx(rate, rel=1e-3)
    sign = depth_scales("sign", 2.0, 0.1)
    assert sign.q == pytest.approx(2.1, rel=1e-12)
    c = float(mp.findroot(lambda c: (4 / mp.pi * mp.asin(c) + mp.mpf("0.1")) / mp.mpf("2.1") - c, 0.1))
    assert sign.c_star == pytest.approx(c, abs=1e-9)
    rate = 2 / 2.1 * 2 / math.pi / math.sqrt(1 - c * c)
    assert sign.xi_c == pytest.approx(-1 / math.log(rate), rel=1e-6)
    assert (sign.phase, sign.chi.perpendicular, sign.xi_q) == ("chaotic", math.inf, 0.0)


@pytest.mark.parametrize("off", [1e-4, 1e-5, 1e-6, 1e-7, -1e-4, -1e-6, -1e-7])
def test_near_the_edge(off):
    """f(d) = chi d - A d^2 + ..., so d* = (chi - 1) / A and the slope there is 2 - chi, both but for O(chi - 1)."""
    (edge,) = critical("tanh", sigma_b2=0.05)
    found = depth_scales("tanh", edge.sigma_w2 * (1 + off), 0.05)
    over = found.chi.perpendicular - 1
    assert 0.2 * abs(off) < abs(over) < 2 * abs(off)
    tolerance = 10 * abs(over) + 1e-12 / abs(over)
    assert found.xi_c == pytest.approx(1 / abs(over), rel=tolerance)
    if off < 0:
        assert (found.phase, found.c_star) == ("ordered", 1)
        return
    bend = oracle.line(lambda u: (2 * np.tanh(u) * (1 - np.tanh(u) ** 2)) ** 2, found.q)
    a = edge.sigma_w2 * (1 + off) * found.q * bend / 2
    assert found.phase == "chaotic"
    assert 1 - found.c_star == pytest.approx(over / a, rel=tolerance)


@pytest.mark.parametrize("off", [1e-9, 1e-10, 0.0, -1e-9])
def test_on_the_edge(off):
    (edge,) = critical("tanh", sigma_b2=0.05)
    found = depth_scales("tanh", edge.sigma_w2 * (1 + off), 0.05)
    assert (found.phase, found.c_star, found.xi_c) == ("critical", 1.0, math.inf)
    assert 0 < found.xi_q < 2
    assert trainable_depth("tanh", edge.sigma_w2, 0.05).low == math.inf


def test_phases_of_relu():
    he = depth_scales("relu", 2.0)
    assert (he.phase, he.xi_q, he.xi_c, he.c_star) == ("critical", math.inf, math.inf, 1.0)
    small = depth_scales("relu", 1.0, 0.1)
    assert (small.phase, small.q) == ("ordered", pytest.approx(0.2))
    assert small.xi_q == pytest.approx(1 / math.log(2), rel=1e-12)
    assert small.xi_c == pytest.approx(1 / math.log(2), rel=1e-12)
    wide = depth_scales("relu", 2.5, 0.1)
    assert (wide.phase, wide.q) == ("diverging", math.inf)
    assert all(map(math.isnan, (wide.xi_q, wide.xi_c, wide.c_star, wide.chi.perpendicular, wide.chi.parallel)))
    assert math.isnan(trainable_depth("relu", 2.5, 0.1).typical)


def test_a_dying_signal():
    found = depth_scales("tanh", 0.5)
    assert (found.phase, found.q) == ("ordered", 0.0)
    assert found.xi_q == pytest.approx(1 / math.log(2), rel=1e-9)
    assert found.xi_c == math.inf


@pytest.mark.parametrize("given", ["linear", lambda z: -2 * z])
def test_a_linear_network_keeps_every_cosine(given):
    """Where sizes stay, where they die, and not where biases, which all signals share, are added."""
    w = 1.0 if given == "linear" else 0.25
    found = depth_scales(given, w)
    assert (found.phase, found.xi_q, found.xi_c) == ("linear", math.inf, math.inf)
    assert math.isnan(found.c_star)
    for c in (-0.3, 0.6):
        assert correlation_map(given, c, 1.0, w) == pytest.approx(c, abs=1e-12)
    assert math.isnan(depth_scales(given, w / 2).c_star)
    assert (depth_scales(given, w / 2, 0.1).phase, depth_scales(given, w / 2, 0.1).c_star) == ("ordered", 1.0)


DYING = {  # at half of the variance that keeps signals small, and whether angles close
    "relu": (1.0, True), "leaky_relu": (1.0, True), "selu": (0.238, True), "relu6": (1.0, True),
    "hard_silu": (2.0, False), "elu": (0.5, False), "tanh": (0.5, False), "gelu": (2.0, False),
}  # fmt: skip


@pytest.mark.parametrize("name", DYING)
def test_angles_of_a_dying_signal(name):
    """A kink at 0 closes them, as slowly as ReLU does; a smooth function is a line there, which keeps them.

    Layer by layer, from q = 1e-8: the correlation map alone.
    """
    w, closes = DYING[name]
    found = depth_scales(name, w)
    assert (found.phase, found.q, found.xi_c) == ("ordered", 0.0, math.inf)
    assert found.c_star == 1.0 if closes else math.isnan(found.c_star)
    cosines, q = [-0.2], 1e-8
    for _ in range(30):
        cosines.append(correlation_map(name, cosines[-1], q, w))
        q = variance_map(name, q, w)
    assert (cosines[-1] > 0.5) if closes else cosines[-1] == pytest.approx(-0.2, abs=1e-3)
    steps = np.diff(cosines)
    assert (steps > 0).all() if closes else np.abs(steps[-1]) < 1e-9


@pytest.mark.parametrize(("w", "c_star"), [(0.476771017883, 1.0), (0.4, 1.0)])
def test_angles_close_at_and_below_the_edge_of_selu(w, c_star):
    assert depth_scales("selu", w).c_star == c_star


@pytest.mark.parametrize("name", ["tanh", "sin", "erf"])
def test_the_edge_without_bias_is_critical(name):
    """What `critical` calls the edge, `depth_scales` must not call ordered."""
    edge = critical(name, sigma_b2=0.0)[0]
    found = depth_scales(name, edge.sigma_w2, 0.0)
    assert (found.phase, found.xi_q) == ("critical", math.inf)


def test_tanh_with_pytorch_gain():
    """research/theory.md: stationary standard deviation of activations .65135; 5.394 % of them are beyond .97."""
    reached = fixed_points("tanh", gain("tanh", "pytorch") ** 2).reached
    assert math.sqrt(moments("tanh", reached.q).second) == pytest.approx(0.65135, abs=5.1e-6)
    assert math.erfc(math.atanh(0.97) / math.sqrt(2 * reached.q)) == pytest.approx(0.05394, abs=5.1e-6)
