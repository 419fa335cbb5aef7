"""The card of an activation: every number on it is one of the functions', every sentence fits its numbers."""

import json
import math

import pytest

from fanin.activations import ACTIVATIONS
from fanin.theory import critical, depth_scales, gain, universality, variance_map
from fanin.theory.card import BIAS, card


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_card_holds_the_numbers_of_the_functions(name):
    found = card(name)
    assert found.universality.kind == universality(name).kind
    assert found.edges == critical(name, sigma_b2=BIAS)
    for usual in found.usual:
        assert usual.signal == pytest.approx(variance_map(name, 1.0, usual.sigma_w2))
        assert usual.verdict
    for kind, value in found.gains.items():
        if value is not None:
            assert value == gain(name, kind)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ["linear", "relu", "tanh", "gelu", "sigmoid", "sign"])
def test_a_card_holds_the_scales_of_the_function(name):
    """One activation of each class, because a chaotic fixed point costs most."""
    for usual in card(name).usual:
        assert repr(usual.scales) == repr(depth_scales(name, usual.sigma_w2))


def verdicts(name):
    return {usual.name: usual.verdict for usual in card(name).usual}


def test_sentences():
    assert "keep their size" in verdicts("relu")["he"]
    assert "die, x0.5 a layer" in verdicts("relu")["lecun, glorot"]
    assert "angles of inputs stay" in verdicts("linear")["lecun, glorot"]
    assert "die slowly" in verdicts("tanh")["lecun, glorot"]
    assert "gradients grow" in verdicts("tanh")["he"]
    assert "knife's edge" in verdicts("gelu")["second-moment gain"]
    assert "without end" in verdicts("selu")["he"]
    assert "gradients shrink" in verdicts("sigmoid")["he"]
    assert "jumps" in verdicts("step")["lecun, glorot"]


def test_a_function_of_ones_own_has_a_card():
    def phi(z):
        return z * (z > 0)

    own, known = card(phi), card("relu")
    assert own.activation == "phi"
    assert own.gains["second_moment"] == pytest.approx(known.gains["second_moment"], rel=1e-12)
    assert own.gains["pytorch"] is None
    assert [usual.verdict for usual in own.usual] == [usual.verdict for usual in known.usual]
    assert math.isnan(own.universality.k_star)
