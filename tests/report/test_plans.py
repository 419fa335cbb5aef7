"""Plans and audits as tables."""

import io

import numpy as np
import pytest
from rich.console import Console

from fanin.recipes.audit import audit
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry
from fanin.report.plans import lines, table

WEIGHT = ParamInfo("hidden[0].weight", (20, 30), "float32", ("out", "in"), "dense")
BIAS = ParamInfo("lstm.bias", (8,), "float32", ("out",), "bias", gates=4)
TABLE = ParamInfo("table", (7, 3), "float32", ("batch", "out"), "embedding")


def made(scales=()):
    entries = (
        PlanEntry(WEIGHT, Init("he_normal"), "relu follows [see docs]"),
        PlanEntry(BIAS, Init("ones"), "the forget gate's bias", scales=scales),
        PlanEntry(TABLE, None, "nothing uses it"),
    )
    return Plan(entries, "auto", 7, ("Read on a made-up input.",))


@pytest.fixture
def audited():
    arrays = {WEIGHT.path: np.zeros(WEIGHT.shape), BIAS.path: np.ones(8), TABLE.path: np.full(TABLE.shape, 0.25)}
    return audit(ModelInfo("torch", (WEIGHT, BIAS, TABLE)), arrays.__getitem__, made())


def shown(thing, width=200, **more):
    console = Console(file=io.StringIO(), width=width, highlight=False, **more)
    console.print(table(thing))
    return console.file.getvalue()


def title(thing):
    return shown(thing).splitlines()[0].strip()


def rows(thing):
    return [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
            for line in shown(thing).splitlines() if "│" in line or "┃" in line]  # fmt: skip


def test_a_plan():
    assert rows(made()) == [
        ["parameter", "shape", "initializer", "why"],
        ["hidden[0].weight", "20 x 30", "he_normal", "relu follows [see docs]"],
        ["lstm.bias", "8", "ones", "the forget gate's bias"],
        ["table", "7 x 3", "left alone", "nothing uses it"],
    ]
    assert title(made()) == "auto"
    assert lines(made()) == [
        "auto, seed 7: 2 parameters get an initializer, 1 left alone.", "Read on a made-up input.",
    ]  # fmt: skip


def test_factors_stand_in_a_column_of_their_own():
    found = rows(made((0.0, 1.0, 0.0, 0.0)))
    assert found[0] == ["parameter", "shape", "initializer", "factor by gate", "why"]
    assert [row[3] for row in found[1:]] == ["", "0, 1, 0, 0", ""]


def test_an_audit(audited):
    assert rows(audited) == [
        ["parameter", "follows", "expected", "looks like", "std", "expected std", "reason"],
        ["hidden[0].weight", "no", "he_normal", "zeros", "0", "0.2582", "holds zeros"],
        ["lstm.bias", "yes", "ones", "ones", "0", "0", "holds just that"],
        ["table", "", "", "constant(value=0.25)", "0", "", ""],
    ]
    assert title(audited) == "audit against auto"
    assert lines(audited) == [audited.summary]


def test_what_deviates_is_red(audited):
    coloured = shown(audited, force_terminal=True, color_system="standard").splitlines()
    assert any("\x1b[31m" in line and "hidden" in line for line in coloured)
    assert any("\x1b[32m" in line and "lstm.bias" in line for line in coloured)


def test_nothing_is_cut_off_on_a_narrow_terminal(audited):
    narrow = "".join(shown(audited, width=60).split())
    assert "..." not in narrow
    assert "…" not in narrow


def test_without_a_name():
    assert title(Plan(())) == "plan"
    assert lines(Plan(())) == ["plan, seed 0: 0 parameters get an initializer, 0 left alone."]
    assert title(audit(ModelInfo("torch", (WEIGHT,)), lambda _: np.zeros((20, 30)))) == "audit"


def test_in_a_notebook(audited):
    for thing in (made(), audited):
        assert "lstm.bias" in table(thing)._repr_mimebundle_([], [])["text/html"]
