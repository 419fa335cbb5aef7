"""Scaling recipes and the numbers of research/theory.md that need no integral of the theory."""

import math

import mpmath as mp
import pytest

from fanin.errors import InvalidValueError
from fanin.initializers.laws import TRUNCATED_STD, TruncatedNormal
from fanin.theory import MUP, deepnorm, fixup, gpt2, t_fixup

COUNTS = [0, -1, 2.5, 3.0, True, None, "3", math.nan, [3]]


def test_fixup():
    """Zhang et al. 2019: L^(-1 / (2 m - 2))."""
    assert fixup(16) == 0.25
    assert fixup(1) == 1
    assert fixup(27, 3) == pytest.approx(27**-0.25, rel=1e-15)
    assert fixup(54, 2) == pytest.approx(1 / math.sqrt(54), rel=1e-15)
    # L branches of m layers, m - 1 of which are scaled: each adds 1 / L to the change of the function.
    for blocks, layers in ((10, 2), (10, 3), (100, 5)):
        assert fixup(blocks, layers) ** (2 * (layers - 1)) == pytest.approx(1 / blocks, rel=1e-13)


def test_t_fixup():
    """Huang et al. 2020: 0.67 N^(-1/4) and (9 N)^(-1/4)."""
    assert t_fixup(1) == pytest.approx(0.67, rel=1e-15)
    assert t_fixup(16) == pytest.approx(0.335, rel=1e-15)
    assert t_fixup(9, "decoder") == pytest.approx(1 / 3, rel=1e-15)
    assert t_fixup(9, "embedding") == t_fixup(9, "decoder")


def test_deepnorm():
    """Wang et al. 2022, table: encoder only, decoder only, both; research/theory.md for N = 12."""
    only, none = deepnorm(encoder=12)
    assert none is None
    assert only.alpha == pytest.approx(2.2134, abs=5.1e-5)
    assert only.beta == pytest.approx(0.31947, abs=5.1e-6)
    assert only.alpha == pytest.approx(24**0.25, rel=1e-15)
    assert only.beta == pytest.approx(96**-0.25, rel=1e-15)
    none, decoder = deepnorm(decoder=12)
    assert none is None
    assert decoder == only
    encoder, decoder = deepnorm(6, 12)
    assert encoder.alpha == pytest.approx(0.81 * (6**4 * 12) ** 0.0625, rel=1e-14)
    assert encoder.beta == pytest.approx(0.87 * (6**4 * 12) ** -0.0625, rel=1e-14)
    assert decoder.alpha == pytest.approx(36**0.25, rel=1e-14)
    assert decoder.beta == pytest.approx(144**-0.25, rel=1e-14)


def test_gpt2():
    assert gpt2(12) == pytest.approx(0.0040825, abs=5.1e-8)
    assert gpt2(12) == pytest.approx(0.02 / math.sqrt(24), rel=1e-15)
    assert gpt2(2, stddev=0.1) == pytest.approx(0.05, rel=1e-15)


def test_mup_is_table_8():
    assert MUP["hidden"]["adam_learning_rate"] == "1 / width"
    assert MUP["hidden"]["sgd_learning_rate"] == "1"
    assert MUP["output"]["multiplier"] == "1 / width"
    assert MUP["attention"]["scale"].startswith("1 / d ")
    for kind in ("input", "hidden", "output"):
        assert set(MUP[kind]) == {"variance", "multiplier", "adam_learning_rate", "sgd_learning_rate"}
    with pytest.raises(TypeError):
        MUP["hidden"] = {}


@pytest.mark.parametrize("wrong", COUNTS)
def test_wrong_counts(wrong):
    calls = [
        lambda: fixup(wrong),
        lambda: fixup(3, wrong),
        lambda: t_fixup(wrong),
        lambda: t_fixup(wrong, "decoder"),
        lambda: gpt2(wrong),
    ]
    if wrong not in (0, None):  # nothing is no encoder or no decoder
        calls += [lambda: deepnorm(wrong), lambda: deepnorm(decoder=wrong), lambda: deepnorm(3, wrong)]
    for call in calls:
        with pytest.raises(InvalidValueError, match="out of range") as error:
            call()
        assert error.value.allowed == "whole numbers from 1"


def test_other_mistakes():
    with pytest.raises(InvalidValueError, match="two layers in a branch"):
        fixup(3, 1)
    with pytest.raises(InvalidValueError, match="no such side") as error:
        t_fixup(3, "left")
    assert error.value.allowed == "encoder, decoder, embedding"
    with pytest.raises(InvalidValueError, match="needs a depth"):
        deepnorm()


@pytest.mark.parametrize("wrong", [-0.02, math.nan, math.inf, "x", None])
def test_wrong_standard_deviations(wrong):
    with pytest.raises(InvalidValueError, match="standard deviation is out of range"):
        gpt2(12, stddev=wrong)


@pytest.mark.parametrize(("cut", "published"), [(1, 0.5395600938), (2, 0.87962566103), (3, 0.9865783926)])
def test_truncated_normal(cut, published):
    """The standard deviation of a normal number cut at whole sigmas: research/theory.md, and by parts."""
    law = TruncatedNormal(0.0, 1.0, -float(cut), float(cut))
    exact = mp.sqrt(1 - 2 * cut * mp.npdf(cut) / (2 * mp.ncdf(cut) - 1))
    assert math.sqrt(law.variance) == pytest.approx(float(exact), rel=1e-12)
    digits = len(str(published)) - 2
    assert math.sqrt(law.variance) == pytest.approx(published, abs=0.51 * 10.0**-digits)
    if cut == 2:
        assert pytest.approx(float(exact), rel=1e-15) == TRUNCATED_STD


def test_a_cut_far_away_is_none():
    """Pitfall 6: a cut at [-2, 2] is 100 sigma away where sigma is .02, and nothing must be corrected."""
    assert math.sqrt(TruncatedNormal(0.0, 0.02, -100.0, 100.0).variance) == pytest.approx(0.02, rel=1e-12)
