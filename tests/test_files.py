import os
import stat

import pytest

from fanin.files import write_whole


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.html"
    write_whole(path, b"first")
    assert path.read_bytes() == b"first"
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert [each.name for each in tmp_path.iterdir()] == ["a.html"]


class NoBytes:
    """Content that cannot be written."""


def test_old_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_whole(path, NoBytes())
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.parametrize("step", ["replace", "chmod"])
def test_nothing_is_left_when_the_move_fails(tmp_path, monkeypatch, step):
    path = tmp_path / "a.html"
    path.write_bytes(b"old")

    def refuse(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(f"pathlib.Path.{step}", refuse)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.html"]


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    path = tmp_path / "a"
    write_whole(path, b"old")
    with path.open("rb") as reader:
        write_whole(path, b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_rights_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "a", b"")


def test_relative_name(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    write_whole(Path("a.html"), b"here")
    assert (tmp_path / "a.html").read_bytes() == b"here"
