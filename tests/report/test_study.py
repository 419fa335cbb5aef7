import io
import re

import numpy as np
import pytest
from rich.console import Console

from fanin.report.study import claims_table, page, studies_table, text
from fanin.studies import STUDIES, Conditions, Contrast, Evidence, Study


def run(conditions):
    gains = np.linspace(2, 3, conditions.seeds)
    return Evidence(
        (
            Contrast("It is [more].", "a text", "more", gains, 1.0, "points"),
            Contrast("It is the same.", "me", "same", gains - 2.5, 1.0, "points", main=False),
        ),
        {"trial": {"arms": {"a & b": [0.5, float("nan")]}, "model": "mlp:4"}},
    )


STUDY = Study("own", "Is it <so>?", "It is.", ("a text", "me"), "Looked.", "More.", "Less.", run)


def shown(table):
    out = io.StringIO()
    Console(file=out, width=400).print(table)
    return out.getvalue()


def test_the_list_of_studies_has_a_row_each():
    table = shown(studies_table(STUDIES.values()))
    assert all(study.name in table and study.claim in table for study in STUDIES.values())


@pytest.mark.parametrize(("seeds", "interval"), [(8, "+2.11 to +2.89"), (5, "none below 6 seeds")])
def test_each_claim_has_a_row_with_its_numbers(seeds, interval):
    rows = shown(claims_table(STUDY(Conditions(seeds=seeds)))).splitlines()
    (row,) = [row for row in rows if "It is [more]." in row]
    for part in ("a text", "+2.5", "points", str(seeds)):
        assert part in row
    assert re.search(r"\+2\.\d+ to \+2\.\d+" if seeds == 8 else interval, row)
    assert any("It is the same." in row for row in rows)


def test_the_text_says_question_design_and_verdict():
    answer = STUDY()
    assert list(text(STUDY, answer)) == [
        "Is it <so>?", "Design (quick): Looked.", "For it: More. Against it: Less.", "", answer.sentence,
    ]  # fmt: skip


def test_the_page_is_whole_and_loads_nothing():
    written = page(STUDY, STUDY(), "fanin study own.py:study")
    for part in ("Is it &lt;so&gt;?", "Supported: It is.", "It is [more].", "It is the same.", "a text; me", "numpy",
                 "fanin study own.py:study", "trial / arms / a &amp; b", "[0.5, null]", "mlp:4"):  # fmt: skip
        assert part in written, part
    assert "<script" not in written
    assert not re.search(r"(src|href)=|url\(", written)
    assert written.count("<table>") == written.count("</table>") == 2


def test_the_page_has_no_empty_table():
    from dataclasses import replace

    assert page(STUDY, replace(STUDY(), numbers={})).count("<table>") == 1
