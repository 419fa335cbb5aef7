import io
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from fanin.progress import Bar, Lines


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("fanin.progress.time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_lines_say_rate_and_time_left(clock):
    stream = io.StringIO()
    with Lines(stream) as progress:
        progress.total(10, 1000)
        clock.seconds += 10
        progress.finished(2)
        progress.advance(200)
    assert stream.getvalue() == "2 of 10 runs, 20 run-steps/s, 40 s left\n"


def test_lines_come_now_and_then(clock):
    stream = io.StringIO()
    progress = Lines(stream)
    progress.total(10, 1000)
    for _ in range(80):
        clock.seconds += 0.25
        progress.advance(10)
    # More than 5 seconds apart: after 5.25, 10.5 and 15.75 seconds, when 630 of 1000 steps are done.
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[-1] == "0 of 10 runs, 40 run-steps/s, 9 s left"


def test_lines_start_anew_with_each_total(clock):
    stream = io.StringIO()
    progress = Lines(stream)
    progress.total(4, 400)
    progress.finished(4)
    progress.advance(400)
    clock.seconds += 100
    progress.total(2, 200)
    clock.seconds += 10
    progress.finished(1)
    progress.advance(100)
    assert stream.getvalue() == "1 of 2 runs, 10 run-steps/s, 10 s left\n"


def test_notes_are_said_at_once(clock):
    stream = io.StringIO()
    Lines(stream).note("measuring: scan, 2 at a time")
    assert stream.getvalue() == "measuring: scan, 2 at a time\n"


def test_nothing_done_yet_is_no_division_by_zero(clock):
    stream = io.StringIO()
    progress = Lines(stream)
    progress.total(1, 10)
    clock.seconds += 6
    progress.advance(0)
    assert stream.getvalue().startswith("0 of 1 runs, 0 run-steps/s")


@pytest.mark.parametrize("kind", ["lines", "bar"])
def test_told_from_many_threads(kind):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Lines(io.StringIO()) if kind == "lines" else Bar(console) as progress:
        progress.total(100, 4000)
        threads = [threading.Thread(target=lambda: [progress.advance(1) for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = progress._done_steps if kind == "lines" else progress._progress.tasks[0].completed
    assert done == 4000


def test_bar_shows_runs_rate_and_note(clock):
    stream = io.StringIO()
    with Bar(Console(file=stream, force_terminal=True, width=120)) as bar:
        bar.note("measuring: step, 1 at a time")
        bar.total(8, 100)
        clock.seconds += 2
        bar.advance(30)
        bar.finished(3)
        bar._progress.refresh()
        shown = stream.getvalue()
        bar.total(2, 50)  # the second part of a search for rates
        bar.advance(50)
    assert "measuring: step, 1 at a time" in shown
    assert "3/8 runs" in shown
    assert "15 run-steps/s" in shown
    assert "30%" in shown


def test_bar_survives_an_error_and_an_empty_job():
    stream = io.StringIO()

    def fail():
        with Bar(Console(file=stream, force_terminal=True)) as bar:
            bar.total(0, 0)
            bar.advance(0)
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail()


def test_bar_leaves_a_plain_console_alone():
    stream = io.StringIO()
    with Bar(Console(file=stream, force_terminal=False)) as bar:
        bar.total(1, 10)
        bar.advance(10)
        bar.finished(1)
    assert "\x1b" not in stream.getvalue()
