import itertools

import numpy as np
import pytest

from fanin.errors import InvalidValueError
from fanin.studies import Contrast, Evidence, Study
from fanin.studies.judge import answer, combined, judged, spoken

SUPPORTED, REFUTED, OPEN = "supported", "refuted", "not decided at this size"
CLEAR = [3.0, 4.0, 3.5, 2.5, 4.5, 3.0, 4.0, 3.5]
TINY = [0.1, -0.2, 0.15, 0.05, -0.1, 0.2, -0.05, 0.0]
WIDE = [6.0, -4.0, 5.0, -3.0, 2.0, -5.0, 3.0, 1.0]
SMALL_BUT_SURE = [0.1, 0.2, 0.15, 0.1, 0.2, 0.1, 0.15, 0.2]


def contrast(differences, rule="more", margin=1.0, main=True):
    return Contrast("A claim.", "a text", rule, np.array(differences, float), margin, "points", main)


@pytest.mark.parametrize(
    ("rule", "differences", "verdict"),
    [
        ("more", CLEAR, SUPPORTED),
        ("more", [-d for d in CLEAR], REFUTED),
        ("more", TINY, REFUTED),  # the interval excludes a gain of 1
        ("more", SMALL_BUT_SURE, REFUTED),  # there, but smaller than what would matter
        ("more", WIDE, OPEN),
        ("more", CLEAR[:5], OPEN),  # five seeds decide nothing
        ("more", [0.0] * 8, REFUTED),
        ("same", CLEAR, REFUTED),
        ("same", [-d for d in CLEAR], REFUTED),
        ("same", TINY, SUPPORTED),
        ("same", SMALL_BUT_SURE, SUPPORTED),
        ("same", WIDE, OPEN),
        ("same", TINY[:5], OPEN),
        ("same", [0.0] * 8, SUPPORTED),
    ],
)
def test_each_rule_reaches_each_verdict(rule, differences, verdict):
    (found,) = judged([contrast(differences, rule)])
    assert found.verdict == verdict
    assert found.effect == pytest.approx(np.mean(differences))
    assert found.seeds == len(differences)


def test_the_margin_decides_what_would_matter():
    assert judged([contrast(SMALL_BUT_SURE, margin=0.1)])[0].verdict == SUPPORTED
    assert judged([contrast(TINY, "same", margin=0.01)])[0].verdict == OPEN


def test_p_is_that_of_all_sign_patterns():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 1.5, 0.25, 2.5])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=7)]
    expected = np.mean([value >= abs(differences.sum()) - 1e-9 for value in sums])
    assert judged([contrast(differences)])[0].p == pytest.approx(expected)


def test_p_is_adjusted_for_all_claims_of_a_study():
    noise = [contrast(np.roll(WIDE, shift)) for shift in range(4)]
    alone, among = judged([contrast(CLEAR[:7])])[0], judged([contrast(CLEAR[:7]), *(contrast(WIDE[:7]),)])[0]
    assert among.p >= alone.p
    assert all(many.p >= judged([each])[0].p for many, each in zip(judged(noise), noise, strict=True))
    assert judged(noise)[1].p > judged(noise[1:2])[0].p


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, OPEN], OPEN),
        ([SUPPORTED, OPEN, REFUTED], REFUTED),
        ([OPEN], OPEN),
    ],
)
def test_parts_are_combined(verdicts, expected):
    assert combined(verdicts) == expected


STUDY = Study("mine", "Is it?", "It is.", ("me",), "", "", "", lambda _: Evidence(()))


def test_a_studys_verdict_rests_on_its_main_claims_alone():
    evidence = Evidence((contrast(CLEAR), contrast(TINY, main=False)))
    found = answer(STUDY, evidence, "quick")
    assert (found.verdict, [each.verdict for each in found.claims]) == (SUPPORTED, [SUPPORTED, REFUTED])
    assert found.sentence == ("Supported: It is. +3.5 points (95 % interval +3 to +4, p = 0.008, 8 seeds).")


def test_the_sentence_counts_the_parts():
    said = answer(STUDY, Evidence((contrast(CLEAR), contrast(WIDE), contrast(CLEAR))), "quick").sentence
    assert said == "Not decided at this size: It is. Parts not decided at this size: 1 of 3."


def test_few_seeds_are_said_to_decide_nothing():
    assert "no 95 % interval below 6 seeds" in spoken(judged([contrast(CLEAR[:5])])[0])


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (Evidence(()), "nothing that its claim rests on"),
        (Evidence((contrast(CLEAR, main=False),)), "nothing that its claim rests on"),
        (Evidence((contrast(CLEAR), contrast(CLEAR[:7]))), "differ in their number of seeds"),
        (Evidence((contrast([1.0, np.nan, 2.0]),)), "not a finite number"),
    ],
)
def test_evidence_that_cannot_be_judged_is_refused(evidence, message):
    with pytest.raises(InvalidValueError, match=message):
        answer(STUDY, evidence, "quick")
