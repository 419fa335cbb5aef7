import json
import re

import pytest

from fanin.studies import STUDIES

OWN = """
import numpy as np
from fanin.studies import Contrast, Evidence, Study

def run(conditions):
    gain = np.linspace(1, 2, conditions.seeds) * (3 if conditions.size == "full" else 1)
    return Evidence((Contrast("It is <b>.", "me", "more", gain, 0.5, "points"),), {"a": {"b": [1, float("inf")]}})

study = Study("own", "Is it?", "It is.", ("me",), "Looked.", "More.", "Less.", run)
number = 3
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    return "mine.py:study"


def test_studies_lists_them_all(fanin):
    code, out, err = fanin("studies")
    assert (code, err) == (0, "")
    for name, study in STUDIES.items():
        assert name in out
        assert study.question.split()[0] in out
    assert "fanin study symmetry" in out


def test_studies_as_json(fanin):
    code, out, _ = fanin("studies", "--json")
    assert code == 0
    records = json.loads(out)
    assert [each["name"] for each in records] == list(STUDIES)
    assert set(records[0]) == {"name", "question", "claim", "sources", "design", "supports", "refutes"}


def test_a_study_of_ones_own_runs(fanin, own, tmp_path):
    code, out, _ = fanin("study", own)
    assert code == 0
    assert "Supported: It is. +1.5 points (95 % interval" in out
    assert "Design (quick): Looked." in out
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py"]


def test_size_and_seeds_are_handed_on(fanin, own):
    code, out, _ = fanin("study", own, "--full", "--seeds", "7", "--json")
    assert code == 0
    record = json.loads(out)
    assert (record["size"], record["verdict"], record["claims"][0]["seeds"]) == ("full", "supported", 7)
    assert record["claims"][0]["effect"] == pytest.approx(4.5)
    assert record["numbers"] == {"a": {"b": [1, "inf"]}}


def test_few_seeds_are_said_to_decide_nothing(fanin, own):
    code, out, _ = fanin("study", own, "--seeds", "3")
    assert code == 0
    assert "Not decided at this size" in out
    assert "none below 6 seeds" in out


def test_the_page_says_everything_and_escapes_it(fanin, own, tmp_path):
    code, out, _ = fanin("study", own, "--report", "study.html")
    assert code == 0
    assert "Report: study.html" in out
    page = (tmp_path / "study.html").read_text()
    assert page.startswith("<!doctype html>")
    for text in (
        "Is it?",
        "Supported: It is.",
        "It is &lt;b&gt;.",
        "fanin study mine.py:study",
        "a / b",
        "[1, &quot;inf",
    ):
        assert text in page, text
    # Scripts and styles aside, nothing is named but places of the page itself.
    assert not re.search(r'(src|href)="(?!#)', re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL))
    assert "<b>." not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("symetry",), "Did you mean symmetry"),
        (("{own}", "--quick", "--full"), "Two sizes"),
        (("{own}", "--seeds", "0"), "seeds is too small"),
        (("{own}", "--report", "nowhere/x.html"), "cannot be written"),
        (("{own}", "--report", "x", "--store", "x"), "same file"),
        (("mine.py:stady",), "Did you mean study"),
        (("mine.py:run",), "no study"),
        (("none.py:study",), "does not exist"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(fanin, own, tmp_path, arguments, message):
    code, out, err = fanin("study", *(each.format(own=own) for each in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py"]
