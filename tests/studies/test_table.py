import math
import re

import numpy as np
import pytest

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.experiments.analysis import analyse
from fanin.experiments.datasets import TASKS
from fanin.experiments.results import Results
from fanin.initializers import canonical
from fanin.studies import STUDIES, Conditions, Designed, Study, Training, find
from fanin.studies.networks import Setting

TRAINED = [name for name, study in STUDIES.items() if isinstance(study.run.quick, tuple)]


def settings(design):
    """Every `Training` and `Setting` of a design, however it holds them."""
    if isinstance(design, Training | Setting):
        return [design]
    parts = design if isinstance(design, tuple) else (vars(design) if hasattr(design, "__dict__") else design).values()
    return [each for part in parts for each in settings(part)]


def test_the_asked_for_studies_are_there():
    assert set(STUDIES) == {
        "mnist-four-initializers", "mnist-notebook-bug", "cifar10-xavier-vs-he", "what-not-to-do", "zero-is-linear",
        "biases-at-zero", "symmetry", "matching-activation", "uniform-or-normal", "fan-in-or-average", "depth",
        "learning-rate", "batch-norm", "small-data", "generalisation", "dead-units", "regularisation", "transfer",
        "orthogonal-depth", "auto",
    }  # fmt: skip


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_says_all_that_it_should(study):
    assert STUDIES[study.name] is study
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", study.name)
    assert study.question.endswith("?")
    for text in (study.claim, study.design, study.supports, study.refutes):
        assert text.endswith(".")
        assert len(text) > 10
    assert study.sources
    assert all(
        re.search(r"tutorial|assignment|notebook|notes|article|this project", source) for source in study.sources
    )


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_has_both_designs(study):
    assert isinstance(study.run, Designed)
    quick, full = settings(study.run.quick), settings(study.run.full)
    assert quick
    assert {each.task for each in quick} == {"digits"}
    assert {each.task for each in full} <= set(TASKS) - {"digits"}
    for training in (each for each in (*quick, *full) if isinstance(each, Training)):
        for init in training.init:
            canonical(init.partition("+")[0])


@pytest.mark.parametrize("name", TRAINED)
def test_the_full_design_compares_what_the_quick_one_does(name):
    quick, full = STUDIES[name].run.quick, STUDIES[name].run.full
    assert len({each.name for each in full}) == len(full) >= len(quick)
    assert {init for each in quick for init in each.init} <= {init for each in full for init in each.init}


def scores(**by_part):
    """A quality that belongs to the first part found in an arm's label or the model's text; .9 for all others."""
    return lambda label, model, _: next((v for k, v in by_part.items() if k in label or k in model), 0.9)


def equal(*_):
    return 0.9


def ladder(label, *_):
    return {"zeros": 0.1, "random_normal(stddev=0.01)": 0.7, "glorot_uniform": 0.8, "he_normal": 0.9}[label]


def matched(label, *_):
    pairs = ("glorot_uniform + sigmoid", "glorot_uniform + tanh", "he_normal + relu", "lecun_normal + selu")
    return 0.9 if label in pairs else 0.8


def deep(model):
    return model.count("x") > 5


WORLDS = {
    "mnist-four-initializers": (ladder, scores(zeros=0.1)),
    "mnist-notebook-bug": (equal, scores(output=0.1)),
    "cifar10-xavier-vs-he": (scores(tanh=0.8), equal),
    "zero-is-linear": (scores(zeros=0.1), equal),
    "biases-at-zero": (equal, lambda _, model, __: 0.5 if "bias=0.1" in model else 0.9),
    "matching-activation": (matched, equal),
    "uniform-or-normal": (equal, scores(uniform=0.8)),
    "fan-in-or-average": (lambda label, *_: 0.9 if "fan_avg" in label else 0.8, equal),
    "depth": (lambda label, model, _: 0.9 if "he_" in label or not deep(model) else 0.5, equal),
    "learning-rate": (
        lambda label, _, rate: 0.9 - abs(math.log10(rate) + (1.5 if "32.0" in label else 0.5)) / 5,
        lambda _, __, rate: 0.9 - abs(math.log10(rate) + 0.5) / 5,
    ),
    "batch-norm": (lambda label, model, _: 0.3 if "random" in label and "norm" not in model else 0.9, equal),
    "orthogonal-depth": (lambda label, model, _: 0.8 if "variance" in label and deep(model) else 0.9, equal),
    "small-data": (lambda label, *_: 0.9 if "0.1" in label else 0.8, equal),
    "generalisation": (equal, lambda label, *_: 0.5 if "20.0" in label else 0.9),
    "regularisation": (equal, lambda label, model, _: 0.5 if "l2" in model and "glorot" in label else 0.9),
}
"""By study a world in which its claim holds and one in which it does not: from label, model, rate to accuracy."""


def test_every_trained_study_has_its_worlds():
    assert set(WORLDS) == set(TRAINED)


@pytest.mark.parametrize("holds", [True, False], ids=["holds", "does not hold"])
@pytest.mark.parametrize("name", TRAINED)
def test_the_verdict_follows_the_world(name, holds, fabricate, monkeypatch):
    """Nothing is trained: results are made up, with a little noise that differs by seed."""
    world = WORLDS[name][0 if holds else 1]

    def made_up(decided, _):
        def quality(label, seed, rate):
            return world(label, decided.model.text, rate) + 0.0005 * (seed % 5)

        runs = fabricate.runs(decided, quality)
        return Results(decided, runs, analyse(decided, runs), ())

    monkeypatch.setattr("fanin.studies.comparisons.ran", made_up)
    answer = STUDIES[name](Conditions(seeds=8))
    assert answer.verdict == ("supported" if holds else "refuted"), answer.sentence
    assert STUDIES[name](Conditions(seeds=5)).verdict == "not decided at this size"
    for each in answer.claims:
        assert each.claim.endswith(".")
        assert np.isfinite([each.effect, each.low, each.high, each.p]).all()
    trainings = STUDIES[name].run.quick
    drawn = {"curves"} if any(each.curves for each in trainings) else set()
    assert set(answer.numbers) == {*drawn, *(each.name for each in trainings)}


def test_curves_are_medians_and_quartiles_over_seeds_and_a_lost_run_is_the_worst(fabricate, monkeypatch):
    def made_up(decided, _):
        ends = (0.5, 0.6, 0.7, 0.8, None)  # one of five diverges
        runs = fabricate.runs(decided, lambda label, seed, rate: ends[seed % 5])
        return Results(decided, runs, analyse(decided, runs), ())

    monkeypatch.setattr("fanin.studies.comparisons.ran", made_up)
    curves = STUDIES["cifar10-xavier-vs-he"](Conditions(seeds=5)).numbers["curves"]
    assert set(curves) == {"he_normal + relu", "glorot_uniform + tanh"}
    for each in curves.values():
        assert each["epochs"] == [1.25, 2.5, 3.75, 5.0]
        for name in ("train_accuracy", "val_accuracy"):
            assert (each[name]["low"][-1], each[name]["median"][-1], each[name]["high"][-1]) == (0.5, 0.6, 0.7)
        assert each["train_loss"]["median"][-1] < each["train_loss"]["high"][-1] < math.inf


OWN = """
import numpy as np
from fanin.studies import Contrast, Evidence, Study

def run(conditions):
    return Evidence((Contrast("It is.", "me", "more", np.ones(conditions.seeds), 0.5, "points"),))

study = Study("own", "Is it?", "It is.", ("me",), "Ones.", "More.", "Less.", run)

def build():
    return 1
"""


def test_a_users_own_study_is_found(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    found = find(f"{path}:study")
    assert isinstance(found, Study)
    assert found().verdict == "supported"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("symetry", UnknownNameError, "Did you mean symmetry"),
        ("", UnknownNameError, "no such study"),
        ("{}/mine.py:build", InvalidValueError, "no study"),
        ("{}/mine.py:studdy", UnknownNameError, "Did you mean study"),
        ("{}/other.py:study", UnknownNameError, "does not exist"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, text, error, message):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(error, match=message):
        find(text.format(tmp_path))
