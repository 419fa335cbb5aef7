import dataclasses
import json
import math
import re

import numpy as np
import pytest

from fanin.doctor import Checkup
from fanin.records import Finding, ModelInfo, Op, ParamInfo, Setup, Trial, Vitals
from fanin.report.checkup import page

NASTY = "</script><script>alert('x & \"y\"')</script>"
OPS = (
    Op("input", (), (8, 3), name="input"),
    Op("param", (), (3, 4), ("hidden/kernel",)),
    Op("weight", (0, 1), (8, 4), ("hidden/kernel",), "hidden"),
    Op("activation", (2,), (8, 4), (), "hidden", "relu"),
    Op("activation", (3,), (8, 4), (), "late", "tanh"),
)
VITALS = Vitals(
    layers=tuple("abcde"), signal_rms=(1.0, 9.0, 0.5, 0.25, 0.0), gradient_rms=(math.nan, 9.0, 0.01, 0.02, 0.1),
    cosine=(0.1, 9.0, 0.2, 0.6, 0.9), rank=(2.0, 9.0, 1.5, 1.0, 1.0),
    highest=(np.ones(3), np.array([]), np.ones(4), np.array([0.0, 1.0, 0.0, 0.0]), -np.ones(4)), loss=1.25,
)  # fmt: skip


@pytest.fixture
def found():
    info = ModelInfo("keras", (ParamInfo("hidden/kernel", (3, 4), "float32", ("in", "out"), "dense"),), OPS, (4,))
    finding = Finding("zero-weights", "error", "hidden/kernel", f"seen {NASTY}", "less", "Because.", "Draw anew.")
    return Checkup((finding,), info, VITALS, Setup(optimizer="sgd", loss="mse"), Trial((1.25, 1.0, math.inf)), (NASTY,))


def drawn(written):
    """The panels that the page's script draws, one chart each."""
    found = json.loads(re.search(r'id="payload">(.*?)</script>', written, flags=re.DOTALL)[1])
    return {panel["name"]: panel["charts"][0] for panel in found["panels"]}


def lines_of(chart):
    return {line["label"]: dict(zip(line["x"], line["y"], strict=True)) for line in chart["lines"]}


def test_names_are_not_markup(found):
    written = page(found, NASTY)
    assert NASTY not in written
    assert written.count("&lt;script&gt;alert(&#x27;x &amp; &quot;y&quot;&#x27;)") == 3


def test_verdict_comes_first(found):
    written = page(found)
    assert f'<p class="verdict">{found.verdict}</p>' in written
    assert written.index("verdict") < written.index("Findings") < written.index("<figure")


def test_sizes_are_those_of_steps_that_have_one(found):
    sizes = lines_of(drawn(page(found))["sizes"])
    assert sizes["signal"] == {0: 1, 2: 0.5, 3: 0.25, 4: 0}
    assert sizes["gradient"] == {2: 0.01, 3: 0.02, 4: 0.1}


def test_a_rule_stands_at_the_first_step_at_fault(found):
    charts = drawn(page(found))
    assert {name: chart["rules"] for name, chart in charts.items() if name != "losses"} == {
        "sizes": [1], "geometry": [1], "dead": [1],
    }  # fmt: skip


def test_rank_is_relative_to_the_first(found):
    geometry = lines_of(drawn(page(found))["geometry"])
    assert geometry["cosine between examples"] == {0: 0.1, 2: 0.2, 3: 0.6, 4: 0.9}
    assert geometry["rank, relative to the input's"] == {0: 1, 2: 0.75, 3: 0.5, 4: 0.5}


def test_dead_units_are_those_of_a_relu(found):
    assert lines_of(drawn(page(found))["dead"]) == {"dead units": {3: 75}}


def test_losses_are_those_of_the_trial(found):
    assert lines_of(drawn(page(found))["losses"]) == {"loss": {0: 1.25, 1: 1, 2: None}}


def test_losses_that_are_no_numbers_draw_nothing(found):
    assert "losses" not in drawn(page(dataclasses.replace(found, trial=Trial((math.nan, math.nan)))))


def test_updates_are_those_of_weights_in_executed_order(found):
    updates = {"hidden/bias": (-1.0, -1.0), "hidden/kernel": (-3.0, -math.inf), "unused": (0.0, 0.0)}
    trial = dataclasses.replace(found.trial, updates=updates)
    chart = drawn(page(dataclasses.replace(found, trial=trial)))["updates"]
    assert (chart["rows"], chart["values"]) == (["hidden/kernel"], [[-3, None]])


def test_nothing_measured_draws_nothing(found):
    bare = dataclasses.replace(found, vitals=Vitals((), (), ()), trial=None, findings=())
    written = page(bare)
    assert drawn(written) == {}
    assert "<p>None.</p>" in written


def test_every_step_is_in_the_table(found):
    written = page(found)
    table = written[written.index('aria-label="Every step"') :]
    assert table.count('<th scope="row"') == len(OPS)
    assert "8 x 4" in table
