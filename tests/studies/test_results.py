"""The kept answers of the studies, and the page that is written from them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from fanin.studies import STUDIES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    """bench/studies.py as a module."""
    sys.path.insert(0, str(ROOT / "bench"))
    spec = importlib.util.spec_from_file_location("bench_studies", ROOT / "bench" / "studies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kept_answer_belongs_to_a_study(script):
    records = script.kept()
    assert records
    for key, record in records.items():
        name, size = key.split()
        assert (record["study"], record["size"]) == (name, size)
        assert size in ("quick", "full")
        assert STUDIES[name].claim in record["sentence"], key
        assert {"date", "machine", "commit", "python", "numpy", "seconds"} <= set(record["made"])


def test_every_study_has_an_answer(script):
    assert {key.split()[0] for key in script.kept()} == set(STUDIES)


def test_the_kept_answers_are_small(script):
    assert script.RESULTS.stat().st_size < 200_000


def test_the_page_is_as_the_script_writes_it(script):
    text = script.PAGE.read_text()
    assert script.page(text) == text
    for record in script.kept().values():
        assert record["sentence"] in text
        for claim in record["claims"]:
            assert f"| {claim['claim']} |" in text


def test_an_answer_is_kept_in_place_of_the_one_before(script, tmp_path, monkeypatch):
    from dataclasses import replace

    from fanin.studies import Answer

    monkeypatch.setattr(script, "RESULTS", tmp_path / "results" / "studies.json")
    one = Answer("symmetry", "quick", "supported", "Yes.", (), {"x": float("inf")})
    script.keep(one, 1.4, 2.6)
    script.keep(replace(one, study="depth"), 1.0, 1.0)
    script.keep(replace(one, sentence="No."), 2.0, 3.0)
    records = json.loads(script.RESULTS.read_text())
    assert list(records) == ["symmetry quick", "depth quick"]
    assert (records["symmetry quick"]["sentence"], records["symmetry quick"]["numbers"]) == ("No.", {"x": "inf"})
    assert (records["symmetry quick"]["made"]["seconds"], records["symmetry quick"]["made"]["cpu_seconds"]) == (2, 3)
