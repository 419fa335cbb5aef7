import csv
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from fanin import cli
from fanin.experiments.datasets import TASKS
from fanin.experiments.store import Store
from fanin.initializers import INITIALIZERS
from fanin.records import Plan

pytestmark = pytest.mark.usefixtures("short_measurements")


def made(folder):
    """Every file in a folder, but not what SQLite keeps beside an open database."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))
    )


def commands():
    import typer.main

    return typer.main.get_command(cli.app).commands


def test_help_lists_every_command(fanin):
    code, out, _ = fanin("--help")
    assert code == 0
    for name, command in commands().items():
        assert name in out
        assert command.help


@pytest.mark.parametrize("name", sorted(commands()))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_flag_with_its_text(fanin, name, flag):
    code, out, _ = fanin(name, flag)
    assert code == 0
    plain = re.sub(r"[\s│]+", " ", out)
    for parameter in commands()[name].params:
        assert parameter.help, parameter.name
        assert parameter.opts[0] in plain
        shown = re.sub(r"\s*\[default: .*\]", "", parameter.help)
        assert shown in plain, parameter.name


def test_help_says_what_holds_where_nothing_is_given(fanin):
    _, out, _ = fanin("compare", "--help")
    defaults = [re.search(r"\[default: (.*)\]", parameter.help or "") for parameter in commands()["compare"].params]
    told = [default[1] for default in defaults if default]
    assert len(told) == 7
    assert all(each in re.sub(r"[\s│]+", " ", out) for each in told)


def test_nothing_given_shows_help(fanin):
    code, out, err = fanin()
    assert code in (0, 2)
    assert "compare" in out + err


def test_list(fanin):
    code, out, err = fanin("list")
    assert (code, err) == (0, "")
    for entry in INITIALIZERS.values():
        assert re.search(rf"^ ?{entry.name} ", out, flags=re.MULTILINE), entry.name
    for name in (*TASKS, "mlp", "cnn", "file.py:build", "kaiming_normal", "xavier_uniform"):
        assert name in out


def test_list_as_json(fanin):
    code, out, _ = fanin("list", "--json")
    assert code == 0
    record = json.loads(out)
    assert set(record["initializers"]) == set(INITIALIZERS)
    assert record["initializers"]["random_normal"]["parameters"] == {"mean": 0.0, "stddev": 0.05}
    assert record["initializers"]["he_normal"]["also"] == ["kaiming_normal"]
    assert all(each["summary"] and each["source"] for each in record["initializers"].values())
    assert set(record["tasks"]) == set(TASKS)
    assert set(record["models"]) == {"mlp", "cnn", "file.py:build"}


@pytest.mark.parametrize("as_json", [False, True])
def test_dry_run_says_how_many_and_writes_nothing(fanin, toy, tmp_path, as_json):
    code, out, _ = fanin("compare", *toy.flags, "--dry-run", *(["--json"] if as_json else []))
    assert code == 0
    assert made(tmp_path) == []
    if as_json:
        record = json.loads(out)
        assert (record["runs"], record["missing"]) == (4, 4)
        assert record["seconds"] > 0
    else:
        assert out.startswith("4 runs, 0 of them finished in fanin.sqlite; about ")
        assert out.count("\n") == 1


def test_dry_run_does_not_change_a_store(fanin, toy, tmp_path):
    Store(tmp_path / "fanin.sqlite").close()
    before = (tmp_path / "fanin.sqlite").read_bytes()
    code, _, _ = fanin("compare", *toy.flags, "--dry-run")
    assert code == 0
    assert (tmp_path / "fanin.sqlite").read_bytes() == before
    assert made(tmp_path) == ["fanin.sqlite"]


def test_compare_as_json_writes_everything(fanin, toy, tmp_path):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    arguments = ("compare", *toy.flags, "--json", "--figure", "plots.png", "--csv", "runs.csv")
    code, out, err = fanin(*arguments)
    assert code == 0
    record = json.loads(out, parse_constant=refuse)  # exactly one document
    assert out.endswith("}\n")
    assert [arm["label"] for arm in record["arms"]] == ["glorot_uniform", "he_normal"]
    assert len(record["runs"]) == 4
    assert "training" in err
    assert made(tmp_path) == ["fanin.sqlite", "plots.png", "report.html", "runs.csv"]
    assert (tmp_path / "plots.png").read_bytes().startswith(b"\x89PNG")
    report = (tmp_path / "report.html").read_text()
    assert report.startswith("<!doctype html>")
    assert "fanin compare --task" in report
    with (tmp_path / "runs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [row["id"] for row in record["runs"]]
    code, again, err = fanin(*arguments)
    assert code == 0
    assert json.loads(again)["runs"] == record["runs"]
    assert "training" not in err


def test_compare_for_people(fanin, toy, tmp_path):
    code, out, err = fanin("compare", *toy.flags, "--report", "mine.html")
    assert code == 0
    assert "\x1b" not in out + err
    assert "too few seeds" in out
    assert "he_normal differs from glorot_uniform by" in out
    assert "Report: mine.html" in out
    assert "Next:" in out
    assert made(tmp_path) == ["fanin.sqlite", "mine.html"]


BAD_MODEL = "import keras\n\ndef build():\n    return keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])\n"

WRONG = {
    "no seeds": (["--seeds", "0"], "number of seeds is too small"),
    "negative rate": (["--lr", "-0.1"], "learning rate is not positive"),
    "rate nan": (["--lr", "nan"], "learning rate is not positive"),
    "rate inf": (["--lr", "inf"], "learning rate is not positive"),
    "rate a word": (["--lr", "fast"], "learning rate cannot be read"),
    "auto and a rate": (["--lr", "auto"], "auto alone"),
    "no epochs": (["--epochs", "0"], "number of epochs is too small"),
    "no batch": (["--batch-size", "0"], "batch size is too small"),
    "large batch": (["--batch-size", "1000"], "batch is larger than the training data"),
    "unknown initializer": (["--init", "he_norml"], "Did you mean he_normal"),
    "unknown parameter": (["--init", "random_normal(std=1)"], "no such parameter"),
    "bad parameter": (["--init", "random_normal(stddev=-1)"], "out of range"),
    "unreadable initializer": (["--init", "random_normal("], "cannot be read"),
    "stft in a dense layer": (["--init", "stft"], "does not fit the layer"),
    "unknown activation": (["--activation", "rellu"], "Did you mean relu"),
    "unknown activation of an initializer": (["--init", "he_normal+rellu"], "Did you mean relu"),
    "unknown optimizer": (["--optimizer", "adamm"], "Did you mean adam"),
    "rate in the optimizer": (["--optimizer", "adam(learning_rate=0.1)"], "Use --lr"),
    "parameter of the optimizer": (["--optimizer", "adam(beta=1)"], "optimizer cannot be made"),
    "unknown task": (["--task", "mnits"], "Did you mean mnist"),
    "no such npz": (["--task", "none.npz"], "does not exist"),
    "no such file": (["--task", "none.py:load"], "does not exist"),
    "unknown model": (["--model", "mpl:4"], "Did you mean mlp"),
    "unreadable model": (["--model", "mlp:0"], "model cannot be read"),
    "cnn on rows": (["--model", "cnn:4"], "A cnn needs images"),
    "model of another shape": (["--model", "{place}/bad.py:build"], "do not fit together"),
    "baseline not in it": (["--baseline", "zeros"], "baseline is not among"),
    "picture's format": (["--figure", "plots.jpg"], "format is unknown"),
    "report in no folder": (["--report", "missing/report.html"], "cannot be written"),
    "report a folder": (["--report", "{place}"], "cannot be written"),
    "table in no folder": (["--csv", "missing/runs.csv"], "cannot be written"),
    "picture in no folder": (["--figure", "missing/plots.png"], "cannot be written"),
    "store in no folder": (["--store", "missing/store.sqlite"], "cannot be written"),
    "store no database": (["--store", "{place}/bad.py"], "could not be opened"),
    "scalar labels": (["--task", "{place}/scalar.npz"], "y"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Files that are wrong in some way."""
    import numpy as np

    folder = tmp_path_factory.mktemp("place")
    (folder / "bad.py").write_text(BAD_MODEL)
    np.savez(folder / "scalar.npz", x=np.zeros((60, 4), np.float32), y=np.array(3))
    return folder


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_message(fanin, toy, tmp_path, place, name):
    arguments, expected = WRONG[name]
    before = made(place)
    code, out, err = fanin("compare", *toy.flags, *(text.format(place=place) for text in arguments))
    assert (code, out) == (2, "")
    message = [line for line in err.splitlines() if line]
    assert sum(line.startswith("Error: ") for line in message) == 1
    assert len(message) <= 2
    assert expected in err
    assert "Traceback" not in err
    assert made(tmp_path) == []
    assert [each for each in made(place) if "__pycache__" not in each] == [e for e in before if "__pycache__" not in e]


@pytest.mark.parametrize("arguments", [["--seeds", "many"], ["--sedes", "3"], ["--task"], ["extra"]])
def test_usage_errors_are_wrong_use_too(fanin, tmp_path, arguments):
    code, out, err = fanin("compare", *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.strip()
    assert made(tmp_path) == []


def test_unknown_command(fanin):
    code, _, err = fanin("comapre")
    assert code == 2
    assert "comapre" in err


def test_report_must_not_overwrite_the_store(fanin, toy, tmp_path):
    code, _, err = fanin("compare", *toy.flags, "--store", "same", "--report", "same")
    assert code == 2
    assert "Error: " in err
    assert made(tmp_path) == []


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interruption_exits_130_and_keeps_finished_runs(fanin, toy, tmp_path, monkeypatch, unmeasured):
    from fanin.progress import Lines

    told, done = Lines.finished, []

    def finished(self, runs):
        told(self, runs)
        done.append(self._done_runs)
        if self._done_runs >= 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Lines, "finished", finished)
    code, out, err = fanin("compare", *toy.flags, "--seeds", "10")
    assert (code, out) == (130, "")
    assert "Finished runs are kept; the same command continues." in err
    assert "Traceback" not in err
    assert made(tmp_path) == ["fanin.sqlite"]
    with Store(tmp_path / "fanin.sqlite") as store:
        assert len(store) == done[-1] < 20
    monkeypatch.setattr(Lines, "finished", told)
    code, out, _ = fanin("compare", *toy.flags, "--seeds", "10", "--json")
    assert code == 0
    assert len(json.loads(out)["runs"]) == 20


def test_as_a_process(toy, tmp_path):
    """The module as a script: plain output, progress and result apart, and a mistake without a traceback."""
    command = [sys.executable, "-m", "fanin.cli"]
    done = subprocess.run(
        [*command, "compare", "--task", "mnits"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: There is no such task. Given: mnits.")
    assert done.stderr.splitlines()[-1] == "Hint: Did you mean mnist?"
    done = subprocess.run(
        [*command, "compare", *toy.flags, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 4
    assert "training" in done.stderr
    assert "Warning" not in done.stderr


def test_theory_prints_a_card(fanin):
    code, out, err = fanin("theory", "gelu")
    assert (code, err) == (0, "")
    for words in ("1.5335304", "half-stable", "3.5615528", "unstable", "second-moment gain", "variances"):
        assert words in out


def test_theory_as_json_with_its_picture(fanin, tmp_path):
    code, out, _ = fanin("theory", "tanh", "--json", "--phase-diagram", "tanh.png")
    assert code == 0
    record = json.loads(out)
    assert record["gains"]["pytorch"] == 5 / 3
    assert record["universality"]["kind"] == "K*=0"
    assert len(record["phase_diagram"]["chi"]) == len(record["phase_diagram"]["sigma_b2"]) == 61
    assert (tmp_path / "tanh.png").read_bytes().startswith(b"\x89PNG")


def test_theory_of_a_function_of_ones_own(fanin, tmp_path):
    (tmp_path / "mine.py").write_text("def phi(z):\n    return 2.0 * (z > 0) - 1\n")
    code, out, _ = fanin("theory", "mine.py:phi")
    assert code == 0
    assert "gradients do not exist: the function jumps" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["relo"], "Did you mean relu"),
        (["missing.py:phi"], "missing.py"),
        (["bad.py:phi"], "not finite"),
        (["bad.py:scalar"], "NumPy array"),
        (["bad.py:nothing"], "nothing"),
        (["relu", "--phase-diagram", "picture.gif"], ".png"),
        (["relu", "--phase-diagram", "no/such/folder.png"], "folder"),
    ],
)
def test_theory_refuses_in_one_message(fanin, tmp_path, arguments, words):
    (tmp_path / "bad.py").write_text(
        "import math\nimport numpy as np\ndef phi(z):\n    return np.log(z)\ndef scalar(z):\n    return math.tanh(z)\n"
    )
    code, out, err = fanin("theory", *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("Error: ")
    assert words in err
    assert "Traceback" not in err
    assert [name for name in made(tmp_path) if "pyc" not in name] == ["bad.py"]


NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

def batch():
    return torch.zeros(2, 6)

def nothing():
    return 3
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return "net.py:build"


def test_plan_prints_a_table_with_reasons(fanin, net):
    code, out, err = fanin("plan", net, "--example", "net.py:batch")
    assert code == 0, err
    assert "tanh follows (2 layers in a row)" in out
    assert "auto, seed 0: 4 parameters get an initializer, 0 left alone." in out
    assert "Otherwise:" in out


def test_plan_as_json_is_the_plan(fanin, net):
    code, out, _ = fanin("plan", net, "--rule", "2.*=zeros", "--only", "*.weight", "--seed", "5", "--json")
    assert code == 0
    plan = Plan.from_dict(json.loads(out))
    assert plan.seed == 5
    assert [str(entry.init or "") for entry in plan.entries][1:] == ["", "zeros", ""]


def test_plan_against_another_shows_differences_alone(fanin, net):
    code, out, _ = fanin("plan", net, "--recipe", "he_normal", "--against", "lecun_normal")
    assert (code, out.splitlines()) == (
        0, ["0.weight: he_normal -> lecun_normal", "2.weight: he_normal -> lecun_normal"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.py:nothing"], "no model of a framework"),
        (["net.py:bild"], "Did you mean build"),
        (["none.py:build"], "does not exist"),
        (["net.py:build", "--recipe", "fixpu"], "Did you mean fixup"),
        (["net.py:build", "--rule", "x"], "pattern=initializer"),
        (["net.py:build", "--except", "9.*"], "no such parameter"),
    ],
)
def test_plan_refuses_in_one_message(fanin, net, arguments, words):
    code, out, err = fanin("plan", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
