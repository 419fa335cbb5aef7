"""`fanin check` as a user types it: exit codes, files, and one clear message for each mistake."""

import json

import pytest

NET = """
import torch
from torch import nn
from sklearn.datasets import load_digits

DIGITS = load_digits()


def healthy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))


def zeros():
    model = healthy()
    for each in model.parameters():
        nn.init.zeros_(each)
    return model


def trained():
    model = healthy()
    return model, torch.optim.Adam(model.parameters(), lr=0.003)


def batch():
    x = torch.tensor((DIGITS.data[:128] - 5) / 6, dtype=torch.float32)
    return x, torch.tensor(DIGITS.target[:128])


def inputs():
    return batch()[0]


def short():
    return torch.zeros(3, 5)


def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)


def broken(outputs, targets):
    raise RuntimeError("no loss today")
"""


@pytest.fixture
def check(fanin, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return lambda *arguments: fanin("check", *arguments)


def test_a_healthy_model_ends_with_0(check):
    code, out, _ = check("net.py:trained", "--data", "net.py:batch")
    assert code == 0
    assert out.startswith("No fault found")


def test_a_fault_ends_with_1_and_is_told_in_words(check):
    code, out, _ = check("net.py:zeros", "--data", "net.py:batch", "--loss", "net.py:loss")
    assert code == 1
    assert "Weights are zero at 0.weight [zero-weights]" in out
    assert "with the cure" in out


def test_one_json_document(check):
    code, out, _ = check("net.py:zeros", "--data", "net.py:batch", "--json", "--steps", "20")
    record = json.loads(out)
    assert code == 1
    assert record["findings"][0]["code"] == "zero-weights"
    assert record["findings"][0]["plan"]["recipe"] == "auto"


def test_layers_and_a_page_that_loads_nothing(check, tmp_path):
    code, out, _ = check("net.py:zeros", "--data", "net.py:batch", "--layers", "--report", "check.html")
    page = (tmp_path / "check.html").read_text()
    assert code == 1
    assert "signal rms" in out
    assert "Weights are zero at 0.weight" in page
    assert "<script src" not in page
    assert "<link" not in page
    assert "net.py:zeros" in page


def test_without_data_only_the_model_itself_is_looked_at(check):
    code, out, _ = check("net.py:zeros")
    assert code == 1
    assert "zero-weights" in out
    assert "made-up input" in out
    assert check("net.py:healthy", "--data", "net.py:inputs")[0] == 0


@pytest.mark.parametrize(("arguments", "words"), [
    (("net.py:missing", "--data", "net.py:batch"), "function in net.py"),
    (("gone.py:healthy", "--data", "net.py:batch"), "does not exist"),
    (("net.py:loss", "--data", "net.py:batch"), "needs arguments"),
    (("net.py:healthy", "--data", "net.py:short"), "could not be run"),
    (("net.py:healthy", "--data", "net.py:batch", "--loss", "cross_entropi"), "cross_entropy"),
    (("net.py:healthy", "--data", "net.py:batch", "--loss", "net.py:broken"), "no loss today"),
    (("net.py:healthy", "--data", "net.py:batch", "--optimizer", "adan"), "adam"),
    (("net.py:trained", "--data", "net.py:batch", "--optimizer", "adam"), "Two optimizers"),
    (("net.py:healthy", "--data", "net.py:batch", "--steps", "-1"), "steps"),
    (("net.py:healthy", "--data", "net.py:batch", "--seed", "-1"), "seed"),
    (("net.py:healthy", "--data", "net.py:batch", "--report", "no/such/check.html"), "cannot be written"),
])  # fmt: skip
def test_a_mistake_is_one_message_and_exit_code_2(check, tmp_path, arguments, words):
    code, out, err = check(*arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert not (tmp_path / "check.html").exists()
