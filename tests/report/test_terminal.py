import io
from dataclasses import replace

import pytest
from rich.console import Console

from fanin.report.terminal import table, text


def shown(results, width=200):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(table(results))
    return console.file.getvalue()


@pytest.fixture(scope="module")
def results(fabricate):
    def quality(name, seed, rate):
        if name == "orthogonal":
            return None if seed < 6 else 0.05
        return 0.7 + 0.01 * (seed % 4) + (0.15 if name == "he_normal" else 0)

    return fabricate(quality, init=("glorot_uniform", "he_normal", "orthogonal"))


def line(results, label):
    (found,) = [row for row in shown(results).splitlines() if label in row and "│" in row]
    return [cell.strip() for cell in found.strip("│").split("│")]


def test_row_of_the_baseline(results):
    assert line(results, "glorot_uniform") == [
        "glorot_uniform",
        "0.1",
        "71.5",
        "",
        "",
        "",
        "never",
        "8 trained",
        "baseline",
    ]


def test_row_of_a_better_one(results):
    cells = line(results, "he_normal")
    assert cells[:5] == ["he_normal", "0.1", "86.5", "+15.0", "+15.0 to +15.0"]
    assert cells[6:] == ["40", "8 trained", "better"]


def test_row_of_what_failed(results):
    cells = line(results, "orthogonal")
    assert cells[2] == "0.0"
    assert cells[6:] == ["never", "2 stuck, 6 diverged", "worse"]


def test_title_and_caption(results):
    whole = shown(results)
    assert "made up, mlp:4, adam, 20 epochs, 8 seeds" in whole
    assert "difference: mean over seeds against glorot_uniform" in whole


def test_below_six_seeds_there_is_no_interval(fabricate):
    cells = line(fabricate(lambda name, *_: 0.5 + 0.1 * (name == "he_normal"), seeds=3), "he_normal")
    assert (cells[3], cells[4], cells[-1]) == ("+10.0", "", "too few seeds")


def test_loss_is_no_percentage(fabricate):
    made = fabricate(lambda name, *_: 0.5 - 0.25 * (name == "he_normal"), kind="regression")
    assert line(made, "he_normal")[2:4] == ["0.25", "+0.25"]
    assert "test loss" in shown(made)
    assert "%" not in shown(made).replace("95 %", "")


@pytest.mark.parametrize("part", ["label", "task"])
def test_names_with_brackets_are_shown_as_they_are(fabricate, part):
    made = fabricate(lambda *_: 0.5)
    name = "data[v2].npz"
    if part == "label":
        arms = tuple(replace(arm, arm=replace(arm.arm, label=name)) for arm in made.analysis.arms)
        made = replace(made, analysis=replace(made.analysis, arms=arms))
    else:
        task = replace(made.experiment.task, name=name)
        made = replace(made, experiment=replace(made.experiment, task=task))
    assert name in shown(made)


def test_text_is_every_sentence_and_note(results):
    lines = text(results)
    assert lines[:3] == [arm.sentence for arm in results.analysis.arms]
    assert lines[-1] == "A note."
    assert set(results.analysis.notes) <= set(lines)
