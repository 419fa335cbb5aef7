"""Every study really run at its small size: some ten minutes on two cores."""

import json
from pathlib import Path

import pytest

from fanin.studies import STUDIES, Conditions

KEPT = json.loads((Path(__file__).parents[2] / "docs" / "results" / "studies.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_quick_study_judges_what_its_kept_answer_does(name):
    """Verdicts themselves may turn with versions and machines where they are narrow; clear ones may not."""
    answer, kept = STUDIES[name](Conditions()), KEPT[f"{name} quick"]
    assert [each.claim for each in answer.claims] == [each["claim"] for each in kept["claims"]]
    for each, before in zip(answer.claims, kept["claims"], strict=True):
        opposite = {"supported", "refuted"} == {each.verdict, before["verdict"]}
        assert not opposite or each.low <= before["high"] + 1, each.claim
        assert not opposite or each.high >= before["low"] - 1, each.claim
