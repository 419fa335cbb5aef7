import io
import json
import re
from dataclasses import replace

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
    page_alone = re.sub(r"<(script|style).*?</\1>", "", written, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#)|url\(', page_alone)
    assert page_alone.count("<table>") == page_alone.count("</table>") == 3


def test_the_lead_names_each_main_claim_with_its_numbers():
    written = page(STUDY, STUDY())
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', written)
    assert lead.startswith("It is [more]. Supported: +2.5 points (95 % interval ")
    assert lead.endswith("8 seeds).")


def test_the_page_has_no_empty_table():
    assert "What was measured" not in page(STUDY, replace(STUDY(), numbers={}))


NASTY = "</script><script>alert(1)</script>"


def test_names_are_not_markup():
    answer = STUDY()
    claims = tuple(replace(each, claim=NASTY, source=NASTY, unit=NASTY) for each in answer.claims)
    named = replace(STUDY, name=NASTY, question=NASTY, claim=NASTY, design=NASTY)
    written = page(named, replace(answer, claims=claims, numbers={NASTY: NASTY}), NASTY)
    assert NASTY not in written
    assert "&lt;script&gt;alert(1)" in written


def drawn(written):
    """The panels that the page's script draws."""
    found = json.loads(re.search(r'id="payload">(.*?)</script>', written, flags=re.DOTALL)[1])
    return {panel["name"]: panel["charts"] for panel in found["panels"]}


def test_effects_are_drawn_with_their_intervals():
    answer = STUDY()
    ((chart,),) = drawn(page(STUDY, answer)).values()
    assert [row["label"] for row in chart["rows"]] == [each.claim for each in answer.claims]
    assert [row["group"] for row in chart["rows"]] == [each.verdict for each in answer.claims]
    first = answer.claims[0]
    assert [chart["rows"][0][key] for key in ("effect", "low", "high")] == pytest.approx(
        [first.effect, first.low, first.high], rel=1e-5
    )
    low, high = chart["x"]["domain"]
    assert low <= 0 < first.high <= high * (1 + 1e-5)
    assert [row["matters"] for row in chart["rows"]] == [[1], [-1, 1]]
    assert '<td class="n">-1 or 1</td>' in page(STUDY, answer)


def test_effects_of_different_units_stand_on_axes_of_their_own():
    answer = STUDY()
    mixed = replace(answer, claims=(answer.claims[0], replace(answer.claims[1], unit="%")))
    panels = drawn(page(STUDY, mixed))
    assert [chart["x"]["label"] for (chart,) in panels.values()] == ["points", "%"]
    assert all(len(chart["rows"]) == 1 for (chart,) in panels.values())


def spread(*medians):
    return {"median": list(medians), "low": [m - 0.1 for m in medians], "high": [m + 0.1 for m in medians]}


CURVES = {
    "he + relu": {"epochs": [1, 2], "train_accuracy": spread(0.5, 0.75), "val_accuracy": spread(0.4, 0.5),
                  "train_loss": spread(2.0, 1.0), "val_loss": spread(2.5, 1.5)},
    "xavier + tanh": {"epochs": [1, 2], "val_accuracy": spread(0.3, 0.6), "val_loss": spread(2.5, 1.25)},
}  # fmt: skip


def test_curves_are_drawn_where_the_answer_has_them():
    answer = replace(STUDY(), numbers={"curves": CURVES, "other": 3})
    written = page(STUDY, answer)
    accuracy, loss = drawn(written)["curves"]
    assert [(line["label"], line["name"], line["kind"]) for line in accuracy["lines"]] == [
        ("he + relu", "training", "plain"), ("he + relu", "validation", "dashed"),
        ("xavier + tanh", "validation", "dashed"),
    ]  # fmt: skip
    first = accuracy["lines"][0]
    assert (first["x"], first["y"]) == ([1, 2], [50, 75])
    assert (first["low"], first["high"]) == (pytest.approx([40, 65]), pytest.approx([60, 85]))
    assert [line["y"] for line in loss["lines"]] == [[2, 1], [2.5, 1.5], [2.5, 1.25]]
    assert loss["y"]["log"]
    assert "other" in written
    assert "curves /" not in written


@pytest.mark.parametrize("curves", [3, {"a": 1}, {"a": {"loss": [1, 2]}}, {"a": {"epochs": [1]}}])
def test_other_things_of_that_name_are_tabled(curves):
    written = page(STUDY, replace(STUDY(), numbers={"curves": curves}))
    assert list(drawn(written)) == ["claims"]
    assert '<th scope="row">curves' in written
