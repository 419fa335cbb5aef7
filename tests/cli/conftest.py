import sys

import pytest

from fanin import cli


@pytest.fixture
def fanin(monkeypatch, capsys, tmp_path):
    """The command line in this process and in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fanin", *arguments])
        try:
            code = cli.main() or 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
