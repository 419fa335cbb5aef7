"""Stored results: which run of a study is shown, and what is said where there is none."""

import json
from typing import Any

import pytest
from fanin_docs.stored import RESULTS, claim_of, everything, number, stored_in

from fanin.studies import STUDIES

NAME = "symmetry"


def record(size: str, effect: float | None) -> dict[str, Any]:
    claim = {
        "claim": "It holds.", "source": "me", "verdict": "supported", "effect": effect, "low": "-inf", "high": "inf",
        "p": 0.25, "unit": "m", "seeds": 3, "main": True,
    }  # fmt: skip
    made = {"date": "2026-01-01", "machine": "one", "fanin": "1"}
    return {
        "study": NAME,
        "size": size,
        "verdict": "supported",
        "sentence": "",
        "claims": [claim],
        "numbers": {},
        "made": made,
    }


def test_the_full_run_is_shown_before_the_quick_one() -> None:
    both = {f"{NAME} quick": record("quick", 1.0), f"{NAME} full": record("full", 2.0)}
    assert stored_in(both, NAME).answer.claims[0].effect == 2.0
    assert stored_in({f"{NAME} quick": record("quick", 1.0)}, NAME).answer.size == "quick"


def test_numbers_that_json_lacks_are_read_back() -> None:
    (claim,) = stored_in({f"{NAME} quick": record("quick", None)}, NAME).answer.claims
    assert claim.effect != claim.effect
    assert (claim.low, claim.high) == (-float("inf"), float("inf"))
    assert number(claim.low) == "none"


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(LookupError, match="no study 'symetry'"):
        stored_in({}, "symetry")
    with pytest.raises(LookupError, match=r"no stored result.*bench/studies\.py symmetry"):
        stored_in({}, NAME)
    with pytest.raises(LookupError, match=r"(?s)does not claim 'It is so\.'.*It holds\."):
        claim_of(stored_in({f"{NAME} quick": record("quick", 1.0)}, NAME), "It is so.")


def test_every_study_has_a_result_and_keeps_its_numbers() -> None:
    shown = everything()
    assert [each.answer.study for each in shown] == list(STUDIES)
    records = json.loads(RESULTS.read_text())
    for each in shown:
        kept = records[f"{each.answer.study} {each.answer.size}"]["claims"]
        assert [(c.claim, c.effect, c.low, c.high) for c in each.answer.claims] == [
            (c["claim"], c["effect"], c["low"], c["high"]) for c in kept
        ]
