import sys

import pytest

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.experiments.sources import call_function, load_function


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def build():\n    return 'first'\n\n_hidden = build\nNUMBER = 3\n")
    return path


def test_function_from_a_file(file):
    function, fingerprint = load_function(f"{file}:build", "model")
    assert function() == "first"
    assert len(fingerprint) == 32


def test_function_from_a_package():
    function, _ = load_function("json:dumps", "task")
    assert function([1]) == "[1]"


def test_fingerprint_is_of_the_content(file, tmp_path):
    _, before = load_function(f"{file}:build", "model")
    copy = tmp_path / "copy.py"
    copy.write_bytes(file.read_bytes())
    assert load_function(f"{copy}:build", "model")[1] == before
    file.write_text(file.read_text() + "# a remark of another length\n")
    assert load_function(f"{file}:build", "model")[1] != before


def test_files_of_one_name_do_not_meet(tmp_path):
    functions = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "same.py"
        path.write_text(f"def build():\n    return {folder!r}\n")
        functions.append(load_function(f"{path}:build", "model")[0])
    assert [function() for function in functions] == ["a", "b"]


def test_file_finds_its_neighbours_and_leaves_the_path_alone(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("VALUE = 5\n")
    (tmp_path / "mine.py").write_text("from neighbour_of_mine import VALUE\n\ndef build():\n    return VALUE\n")
    before = list(sys.path)
    assert load_function(f"{tmp_path / 'mine.py'}:build", "model")[0]() == 5
    assert sys.path == before
    del sys.modules["neighbour_of_mine"]


def test_relative_path(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load_function("mine.py:build", "model")[0]() == "first"


def test_missing_file(tmp_path):
    with pytest.raises(UnknownNameError, match=r"The model's file does not exist. Given: .*none\.py"):
        load_function(f"{tmp_path / 'none.py'}:build", "model")


@pytest.mark.parametrize("name", ["buidl", "", "_hidden", "NUMBER"])
def test_missing_function_lists_those_there_are(file, name):
    with pytest.raises(UnknownNameError, match="no such function") as error:
        load_function(f"{file}:{name}", "model")
    assert error.value.allowed == "build"


def test_near_name_is_offered(file):
    with pytest.raises(UnknownNameError, match="Did you mean build"):
        load_function(f"{file}:biuld", "model")


@pytest.mark.parametrize("source", ["def build(:\n", "import no_such_module_at_all\n", "1 / 0\n"])
def test_file_that_cannot_be_run(tmp_path, source):
    path = tmp_path / "bad.py"
    path.write_text(source)
    before = list(sys.path)
    with pytest.raises(InvalidValueError, match="The task's file cannot be run") as error:
        load_function(f"{path}:build", "task")
    assert error.value.given == f"{path}:build"
    assert sys.path == before


def test_missing_package():
    with pytest.raises(InvalidValueError, match="ModuleNotFoundError"):
        load_function("no_such_package_at_all.module:build", "model")


def test_a_function_is_called_or_one_error_says_why_not(tmp_path):
    (tmp_path / "made.py").write_text("def good():\n    return 5\ndef needs(x):\n    pass\ndef fails():\n    1 / 0\n")
    assert call_function(f"{tmp_path}/made.py:good", "model") == 5
    with pytest.raises(InvalidValueError, match="needs arguments: missing a required argument: 'x'"):
        call_function(f"{tmp_path}/made.py:needs", "model")
    with pytest.raises(InvalidValueError, match="fails: ZeroDivisionError: division by zero"):
        call_function(f"{tmp_path}/made.py:fails", "model")
