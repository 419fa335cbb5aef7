import json
import math

import numpy as np
import pytest

from fanin.errors import InvalidValueError
from fanin.studies import Conditions, Contrast, Designed, Evidence, Study


def study(evidence):
    return Study("mine", "Is it?", "It is.", ("me",), "Looked at.", "More.", "Less.", lambda _: evidence)


def test_a_study_is_called_to_be_run():
    seen = []

    def run(conditions):
        seen.append(conditions)
        return Evidence((Contrast("A", "me", "more", np.full(7, 2.0), 1.0, "apples"),), {"left": [math.inf, 1.0]})

    answer = Study("mine", "Is it?", "It is.", ("me",), "Looked.", "More.", "Less.", run)(Conditions("full", 7))
    assert seen == [Conditions("full", 7)]
    assert (answer.study, answer.size, answer.verdict) == ("mine", "full", "supported")
    assert answer.numbers == {"left": [math.inf, 1.0]}
    assert str(answer) == answer.sentence


def test_conditions_are_quick_with_eight_seeds_where_nothing_is_said():
    seen = []

    def run(conditions):
        seen.append((conditions.size, conditions.seeds, conditions.store))
        return Evidence((Contrast("A", "me", "more", np.ones(conditions.seeds), 1.0, "apples"),))

    Study("mine", "?", ".", ("me",), "", "", "", run)()
    assert seen == [("quick", 8, None)]


@pytest.mark.parametrize("seeds", [3, 8])
def test_an_answer_is_plain_json(seeds):
    contrast = Contrast("A", "me", "more", np.arange(1.0, 1.0 + seeds), 1.0, "apples")
    record = study(Evidence((contrast,), {"x": math.nan}))().to_dict()
    read = json.loads(json.dumps(record, allow_nan=False))
    assert read["numbers"] == {"x": None}
    assert read["claims"][0]["effect"] == (seeds + 1) / 2
    assert (read["claims"][0]["high"] == "inf") == (seeds < 6)


@pytest.mark.parametrize(("size", "expected"), [("quick", "small"), ("full", "large")])
def test_a_design_is_measured_at_the_size_asked_for(size, expected):
    seen = []
    designed = Designed("small", "large", lambda design, conditions: seen.append((design, conditions.seeds)))
    designed(Conditions(size, 5))
    assert seen == [(expected, 5)]


@pytest.mark.parametrize(("given", "message"), [({"size": "huge"}, "quick or full"), ({"seeds": 0}, "too small")])
def test_conditions_that_cannot_be_are_refused(given, message):
    with pytest.raises(InvalidValueError, match=message):
        Conditions(**given)
