"""Working points against their definition and against theory's maps."""

import math

import numpy as np
import pytest

from fanin.activations import ACTIVATIONS, activation
from fanin.recipes.points import TOLERANCE, mirrors, working_point
from fanin.theory import chi, variance_map


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "linear", "tanh", "selu", "elu", "gelu", "silu", "mish", "erf"])
@pytest.mark.parametrize("depth", [1, 5, 50, 200])
def test_the_signal_stays_and_gradients_hold_over_the_depth(name, depth):
    point = working_point(activation(name), depth, False)
    assert variance_map(name, point.q, point.gain2) == pytest.approx(point.q, rel=1e-9)
    assert chi(name, point.q, point.gain2).perpendicular == pytest.approx(point.chi, rel=1e-9)
    assert 1 / TOLERANCE <= point.chi**depth <= TOLERANCE


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_where_the_mean_drowns_the_signal_it_has_to_be_cancelled(name):
    assert not working_point(activation(name), 20, False).holds(20)
    point = working_point(activation(name), 20, True)
    assert point.centred
    assert point.holds(20)
    rng = np.random.default_rng(0)
    values = activation(name).phi(rng.normal(size=1_000_000) * math.sqrt(point.q))
    assert point.gain2 * values.var() == pytest.approx(point.q, rel=0.01)  # 1e6 draws: 5 sigma is 0.7 %


def test_deeper_networks_work_at_smaller_signals():
    sizes = [working_point(activation("tanh"), depth, False).q for depth in (2, 10, 50, 250)]
    assert sizes == sorted(sizes, reverse=True)
    assert working_point(activation("relu"), 1000, False).gain2 == pytest.approx(2.0)  # He, at any depth


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_mirrored_pairs_are_linear_exactly_where_it_is_said(name):
    entry, z = ACTIVATIONS[name], np.linspace(-12, 12, 999)
    difference = np.asarray(entry.phi(z)) - np.asarray(entry.phi(-z))
    slope = mirrors(entry)
    odd = np.allclose(np.asarray(entry.phi(z)) + np.asarray(entry.phi(-z)), 0, atol=1e-9)
    line = np.polyfit(z, difference, 1)
    is_linear = np.allclose(np.polyval(line, z), difference, atol=1e-6) and abs(line[0]) > 1e-6
    assert bool(slope) == (is_linear and not odd)
    if slope:
        assert slope == pytest.approx(line[0], rel=1e-6)
