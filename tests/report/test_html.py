import dataclasses
import json
import math
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from fanin.experiments.analysis import analyse
from fanin.experiments.results import Results
from fanin.experiments.spec import DEFAULT_INITIALIZERS
from fanin.report.charts import tables
from fanin.report.html import html
from fanin.report.panels import panels

RATES = (0.01, 0.1, 1.0)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page as a browser would: tags balanced, tables as rows of texts, scripts by their id."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.tables = [], [], [], []
        self.scripts, self.words, self.problems = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append([dict(attrs), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.problems.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def table(self, *columns):
        """The body of the table with these columns, a record for each row."""
        for head, *rows in self.tables:
            if set(columns) <= set(head):
                return [dict(zip(head, row, strict=True)) for row in rows]
        raise AssertionError(f"no table with {columns}")

    @property
    def payload(self):
        return next(text for attrs, text in self.scripts if attrs.get("id") == "payload")


def quality(name, seed, rate):
    """Validation is best at 0.1; test metrics at unchosen rates and tuning seeds are unmistakable."""
    if name == "orthogonal":
        return None if rate == 1.0 or seed == 3 else (0.5 - abs(math.log10(rate) + 1) / 10, 0.456)
    value = 0.8 - 0.1 * abs(math.log10(rate) + 1) + 0.001 * (seed % 8)
    return value, (0.71 + 0.001 * seed if rate == 0.1 and seed < 8 else 0.98765)


@pytest.fixture(scope="module")
def results(fabricate):
    return fabricate(quality, init=("glorot_uniform", "he_normal", "orthogonal"), lr=RATES)


@pytest.fixture(scope="module")
def text(results):
    return html(results, "fanin compare --init 'a & b'")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_page_is_well_formed(page, text):
    assert page.problems == []
    assert page.open == []
    assert text.lower().startswith("<!doctype html>")
    assert page.tags.count("h1") == 1
    assert "$" not in re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)


def test_nothing_is_loaded_from_elsewhere(page, text):
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    for tag, key, value in page.attributes:
        if key in ("src", "href", "srcset", "action", "data", "poster") and not value.startswith("#"):
            raise AssertionError(f"<{tag} {key}={value}>")
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'") in (
        page.attributes
    )
    style = "".join(re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL))
    assert style
    assert "url(" not in style
    assert "@import" not in style
    own = page.scripts[-1][1]
    assert "fetch(" not in own
    assert "http" not in own


def test_it_is_small(text):
    assert len(text.encode()) < 2_000_000


def test_payload_is_the_panels(results, page):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    payload = json.loads(page.payload, parse_constant=refuse)
    made = panels(results)
    assert [panel["name"] for panel in payload["panels"]] == [panel.name for panel in made]
    for found, panel in zip(payload["panels"], made, strict=True):
        assert list(found["styles"]) == ["glorot_uniform", "he_normal", "orthogonal"]
        assert [chart["kind"] for chart in found["charts"]] == [chart.kind for chart in panel.charts]
    (curves,) = next(panel for panel in made if panel.name == "curves").charts
    (drawn,) = next(panel for panel in payload["panels"] if panel["name"] == "curves")["charts"]
    for found, line in zip(drawn["lines"], curves.lines, strict=True):
        assert [math.nan if y is None else y for y in found["y"]] == pytest.approx(
            [y if math.isfinite(y) else math.nan for y in line.y], rel=1e-5, nan_ok=True
        )


def test_each_panel_has_its_place_its_words_and_its_numbers(results, page):
    places = [value for tag, key, value in page.attributes if (tag, key) == ("figure", "data-panel")]
    assert places == [panel.name for panel in panels(results)]
    words = "".join(page.words)
    for number, panel in enumerate(panels(results), 1):
        assert panel.question in words
        assert f"Figure {number}. {panel.caption}" in words
        for shown in tables(panel):
            assert [list(shown.head), *map(list, shown.rows)] in page.tables


def test_summary_table(results, page):
    rows = page.table("initializer", "verdict", "p (adjusted)")
    assert len(rows) == 3
    for row, arm in zip(rows, results.analysis.arms, strict=True):
        assert (row["initializer"], row["verdict"]) == (arm.arm.label, arm.verdict)
        assert float(row["learning rate"]) == arm.learning_rate
        assert float(row["median test accuracy %"]) == pytest.approx(100 * arm.median, abs=0.05)
        assert row["trained / stuck / diverged"] == f"{arm.trained} / {arm.stuck} / {arm.diverged}"
        if arm.comparison is None:
            assert row["p (adjusted)"] == row["mean difference"] == row["95 % interval"] == ""
        else:
            assert float(row["p (adjusted)"]) == pytest.approx(arm.comparison.p_adjusted, abs=5e-4)
            assert float(row["mean difference"]) == pytest.approx(100 * arm.comparison.difference, abs=0.05)


def test_table_by_rate(results, page):
    rows = page.table("learning rate", "quartiles")
    assert len(rows) == 9
    arms = {arm.arm.label: arm for arm in results.analysis.arms}
    for row in rows:
        each = next(r for r in arms[row["initializer"]].by_rate if r.learning_rate == float(row["learning rate"]))
        assert float(row["median validation accuracy"]) == pytest.approx(100 * each.median, abs=0.05)
        assert (int(row["seeds"]), int(row["diverged"])) == (each.seeds, each.diverged)


def test_every_run_is_in_a_table(results, page):
    rows = {row["id"]: row for row in page.table("id", "status")}
    assert len(rows) == len(results.runs)
    for run, result in results.runs.items():
        row = rows[run.id]
        assert (int(row["seed"]), float(row["learning rate"]), row["status"]) == (
            run.seed, run.learning_rate, result.status,
        )  # fmt: skip
        if result.status == "finished":
            assert float(row["val metric"]) == pytest.approx(result.val_metric[-1], rel=1e-4)
        else:
            assert (row["diverged at"], row["val loss"]) == ("12", "")


def test_test_data_of_unchosen_runs_is_not_shown(results, page, text):
    assert {arm.learning_rate for arm in results.analysis.arms} == {0.1}
    for row in page.table("id", "status"):
        chosen = row["purpose"] == "comparison" and row["learning rate"] == "0.1" and row["status"] == "finished"
        assert (row["test metric"] != "") == (row["test loss"] != "") == chosen
    assert "98765" not in text
    assert "98.7" not in text


def test_auto_shows_test_data_of_the_chosen_rate_only(fabricate):
    def peaked(name, seed, rate):
        return 0.9 - abs(math.log10(rate / 0.01)) / 10, 0.7 if rate == 0.01 and seed < 8 else 0.98765

    decided = fabricate.experiment(lr="auto")
    runs = fabricate.runs(decided, peaked, dict.fromkeys(decided.arms, 0.01))
    text = html(Results(decided, runs, analyse(decided, runs), ({},)))
    assert "98765" not in text
    assert "0.7" in text


def test_command_is_shown_as_it_was(page):
    assert "fanin compare --init 'a & b'" in "".join(page.words)


def test_sentences_and_notes_are_shown(results, page):
    words = "".join(page.words)
    for arm in results.analysis.arms:
        assert (arm.sentence in words) == (arm.comparison is not None)
    for note in (*results.analysis.notes, *results.notes):
        assert note in words


NASTY = "</script><script>alert('$title & \"x\"')</script>"


def test_labels_from_elsewhere_are_escaped(fabricate, page):
    made = fabricate(lambda name, seed, rate: 0.7 + 0.1 * (name == "he_normal"), lr=RATES)
    arms = tuple(
        dataclasses.replace(arm, label=f"{arm.label}{NASTY}", activation=NASTY) for arm in made.experiment.arms
    )
    task = dataclasses.replace(made.experiment.task, name=NASTY)
    decided = dataclasses.replace(made.experiment, arms=arms, baseline=arms[0], task=task)
    runs = fabricate.runs(decided, lambda *_: 0.7)
    bad = Results(decided, runs, analyse(decided, runs), ({"keras": NASTY},), (NASTY,))
    found = Page(html(bad, NASTY))
    assert found.problems == []
    assert len(found.scripts) == len(page.scripts)
    for panel in json.loads(found.payload)["panels"]:
        assert list(panel["styles"]) == [arm.label for arm in arms]
    assert {row["initializer"] for row in found.table("verdict", "p (adjusted)")} == {arm.label for arm in arms}
    assert "".join(found.words).count(NASTY) >= 4
    assert page.problems == []


def test_everything_diverged(fabricate):
    page = Page(html(fabricate(lambda *_: None, lr=RATES)))
    assert page.problems == []
    assert {row["trained / stuck / diverged"] for row in page.table("verdict")} == {"0 / 0 / 8"}


def test_regression_and_a_baseline_alone(fabricate):
    page = Page(html(fabricate(lambda *_: 0.5, kind="regression", init=("zeros",), seeds=1)))
    (row,) = page.table("verdict", "median test loss")
    assert row["median test loss"] == "0.5"
    assert "zeros alone was run." in "".join(page.words)


def spoken(results):
    """The words at the top of the page: the verdict, and the sentences below it."""
    text = html(results)
    return [unescape(found) for found in re.findall(r'<p class="(?:verdict|lead)">(.*?)</p>', text, flags=re.DOTALL)]


def ends(**by_name):
    """Runs of an initializer end at its number, a little differently by seed; None is a run that diverged."""
    return lambda name, seed, rate: None if by_name[name] is None else by_name[name] + 0.001 * (seed % 3)


def test_verdict_names_the_best_with_its_evidence(fabricate):
    made = fabricate(
        ends(glorot_uniform=0.6, he_normal=0.7, orthogonal=0.8), init=("glorot_uniform", "he_normal", "orthogonal")
    )
    verdict, *lead = spoken(made)
    assert verdict == made.analysis.arms[2].sentence
    assert re.fullmatch(
        r"orthogonal is better than glorot_uniform by 20\.0 points .*95 % interval .*p = .*8 seeds\)\.", verdict
    )
    assert "Better than glorot_uniform: he_normal, orthogonal." in lead
    assert lead[0].startswith("Best median test accuracy: orthogonal, 80.1 %.")
    assert lead[-1] == "All 24 compared runs trained."


def test_verdict_where_nothing_is_decided(fabricate):
    made = fabricate(lambda name, seed, rate: 0.6 + 0.001 * ((3 * seed if name == "he_normal" else seed) % 8))
    verdict, *lead = spoken(made)
    assert verdict == "No initializer is shown to be better than glorot_uniform."
    assert "Not to be told from glorot_uniform: he_normal." in lead


@pytest.mark.parametrize("others", [("he_normal",), ("he_normal", "orthogonal")])
def test_verdict_where_all_are_worse(fabricate, others):
    by_name = {"glorot_uniform": 0.8, "he_normal": 0.6, "orthogonal": 0.5}
    made = fabricate(ends(**by_name), init=("glorot_uniform", *others))
    verdict, *lead = spoken(made)
    assert verdict == (
        "glorot_uniform is better than all others." if len(others) > 1 else made.analysis.arms[1].sentence
    )
    assert f"Worse than glorot_uniform: {', '.join(others)}." in lead


def test_too_few_seeds_decide_nothing(fabricate):
    verdict, *lead = spoken(fabricate(ends(glorot_uniform=0.6, he_normal=0.9), seeds=3))
    assert verdict == "3 seeds cannot decide between glorot_uniform and the others."
    assert "Measured on too few seeds to be compared with glorot_uniform: he_normal." in lead


def test_failures_are_counted(fabricate):
    def quality(name, seed, rate):
        if name == "zeros":
            return 0.2
        return None if name == "he_normal" and seed < 3 else 0.8

    made = fabricate(quality, init=("glorot_uniform", "he_normal", "zeros"))
    assert spoken(made)[-1] == "11 of 24 compared runs failed: he_normal 3 of 8 diverged; zeros 8 of 8 stuck."


def test_several_environments_are_told_apart(results):
    two = dataclasses.replace(results, environments=({"keras": "3.1"}, {"keras": "3.2"}))
    words = "".join(Page(html(two)).words)
    assert "made with (1)" in words
    assert "keras 3.2" in words


def test_a_large_comparison_stays_small(fabricate):
    """Eight initializers, eight seeds, three rates and a thousand evaluations each."""
    names = DEFAULT_INITIALIZERS
    made = fabricate(lambda name, seed, rate: 0.5 + 0.01 * (seed % 8), init=names, lr=RATES)
    losses = tuple(1 / (1 + i) + 0.123456789 for i in range(1000))

    def longer(result):
        return dataclasses.replace(
            result, steps=tuple(range(1, 1001)), train_loss=losses, val_loss=losses, val_metric=losses
        )

    runs = {run: longer(result) for run, result in made.runs.items()}
    assert len(runs) == 8 * (8 + 3) * 3
    assert len(html(Results(made.experiment, runs, analyse(made.experiment, runs), ({},))).encode()) < 2_000_000
