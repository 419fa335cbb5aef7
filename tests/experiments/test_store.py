import dataclasses
import math
import sqlite3
import struct
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.errors import StoreError
from fanin.experiments.store import SCHEMA, Store
from fanin.records import InitialSignals, Program, Run, RunResult

RUN = Run("t", "th", "mlp:4", "", "relu", "zeros", 0, 0.1, "adam", 8, 2, 20, "engine")
RESULT = RunResult(
    "diverged", 3, (2, 4), (0.1, math.nan), (1 / 3, math.nan), (0.5, math.nan), math.nan, math.nan,
    InitialSignals(("a", "b"), (math.inf, 0.0), (math.nan, -math.inf)), 0.1,
)  # fmt: skip
ENVIRONMENT = {"keras": "3"}


def runs(count):
    return [dataclasses.replace(RUN, seed=seed) for seed in range(count)]


def bits(value):
    """The value with every float as its bytes, so that equal means the same bits."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, tuple | list):
        return [bits(entry) for entry in value]
    if isinstance(value, dict):
        return {key: bits(entry) for key, entry in value.items()}
    return value


def same(a, b):
    return bits(dataclasses.asdict(a)) == bits(dataclasses.asdict(b))


def test_round_trip_keeps_what_is_not_finite(tmp_path):
    with Store(tmp_path / "s") as store:
        store.put(RUN, RESULT, ENVIRONMENT)
        found = store.get([RUN])
    assert list(found) == [RUN]
    assert same(found[RUN], RESULT)
    with Store(tmp_path / "s") as again:
        assert same(again.get([RUN])[RUN], RESULT)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=5), NUMBERS, NUMBERS, st.booleans())
def test_round_trip_bit_for_bit(tmp_path_factory, rows, test_loss, test_metric, with_signals):
    train, val, metric = (tuple(column) for column in zip(*rows, strict=True))
    signals = InitialSignals(tuple(f"layer {i}" for i in range(len(rows))), val, metric) if with_signals else None
    steps = tuple(range(1, 1 + len(rows)))
    result = RunResult("finished", None, steps, train, val, metric, test_loss, test_metric, signals, 1.5)
    with Store(tmp_path_factory.mktemp("store") / "s") as store:
        store.put(RUN, result, ENVIRONMENT)
        assert same(store.get([RUN])[RUN], result)


def test_only_what_is_there_is_found(tmp_path):
    one, two, three = runs(3)
    with Store(tmp_path / "s") as store:
        store.put(one, RESULT, ENVIRONMENT)
        store.put(three, RESULT, {"keras": "4"})
        assert list(store.get([three, two, one])) == [three, one]
        assert len(store) == 2
        assert store.environments([one, two]) == [ENVIRONMENT]
        assert store.environments([one, two, three]) == [ENVIRONMENT, {"keras": "4"}]


def test_second_put_does_not_change_the_first(tmp_path):
    other = dataclasses.replace(RESULT, seconds=99.0)
    with Store(tmp_path / "s") as store:
        store.put(RUN, RESULT, ENVIRONMENT)
        store.put(RUN, other, {"keras": "4"})
        assert same(store.get([RUN])[RUN], RESULT)
        assert store.environments([RUN]) == [ENVIRONMENT]


def test_program_first_choice_holds(tmp_path):
    first, second = Program("scan", 4, 123.5), Program("step", 1, 7.0)
    with Store(tmp_path / "s") as store, Store(tmp_path / "s") as other:
        assert store.program("key") is None
        assert store.keep_program("key", first) == first
        assert other.keep_program("key", second) == first
        assert other.program("key") == first
        assert store.keep_program("another key", second) == second


def test_another_process_reads_while_one_writes(tmp_path):
    one, two = runs(2)
    with Store(tmp_path / "s") as writer, Store(tmp_path / "s") as reader:
        writer.put(one, RESULT, ENVIRONMENT)
        assert list(reader.get([one, two])) == [one]
        writer._connection.execute("BEGIN IMMEDIATE")
        writer.put(two, RESULT, ENVIRONMENT)
        # Not committed: a reader is neither held up nor shown the run.
        assert list(reader.get([one, two])) == [one]
        writer._connection.execute("COMMIT")
        assert list(reader.get([one, two])) == [one, two]


def test_two_writers(tmp_path):
    every = runs(40)
    stores = [Store(tmp_path / "s") for _ in range(2)]

    def write(store, part):
        for run in part:
            store.put(run, RESULT, ENVIRONMENT)

    threads = [threading.Thread(target=write, args=(store, every[i::2])) for i, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(stores[0].get(every)) == every
    for store in stores:
        store.close()


def test_made_by_several_at_once(tmp_path):
    errors = []
    for attempt in range(20):
        barrier = threading.Barrier(4)

        def make(path=tmp_path / f"s{attempt}", barrier=barrier):
            barrier.wait()
            try:
                Store(path).close()
            except Exception as error:
                errors.append(str(error))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from fanin.experiments.store import Store
from fanin.records import Run, RunResult
import dataclasses
run = Run(**{run!r})
result = RunResult("finished", None, (1,), (1.0,), (1.0,), (0.5,), 1.0, 0.5, None, 1.0)
store = Store({file!r})
store.put(run, result, {{}})
store._connection.execute("BEGIN IMMEDIATE")
store.put(dataclasses.replace(run, seed=1), result, {{}})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_half_written_by_a_process_that_is_killed(tmp_path):
    file = str(tmp_path / "s")
    script = KILLED.format(path=sys.path, run=RUN.to_dict(), file=file)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    with Store(file) as store:
        assert list(store.get(runs(2))) == [RUN]
        assert len(store) == 1
        assert store._connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_file_that_is_no_database_stays_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and no database at all. " * 40)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="could not be opened") as error:
        Store(path)
    assert error.value.hint
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "script",
    [
        "PRAGMA application_id = 5;",
        "CREATE TABLE theirs (a);",
        "PRAGMA application_id = 5; CREATE TABLE theirs (a);",
        f"PRAGMA user_version = {SCHEMA}; CREATE TABLE runs (a);",
    ],
)
def test_database_of_something_else(tmp_path, script):
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of something else") as error:
        Store(path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before


def test_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "s").touch()
    with Store(tmp_path / "s") as store:
        assert len(store) == 0


def test_store_of_another_version(tmp_path):
    path = tmp_path / "s"
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    with pytest.raises(StoreError, match=f"has version {SCHEMA + 1}. Allowed: version {SCHEMA}") as error:
        Store(path)
    assert error.value.hint


@pytest.mark.parametrize("place", ["file/below/s", "missing/s", ".", "/proc/fanin-store"])
def test_place_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="could not be opened") as error:
        Store(tmp_path / place)
    assert error.value.allowed


def test_store_that_turns_bad_while_open(tmp_path):
    with Store(tmp_path / "s") as store:
        store._connection.execute("DROP TABLE runs")
        for action, match in (
            (lambda: store.put(RUN, RESULT, ENVIRONMENT), "written"),
            (lambda: store.get([RUN]), "read"),
            (lambda: len(store), "read"),
            (lambda: store.environments([RUN]), "read"),
        ):
            with pytest.raises(StoreError, match=f"could not be {match}"):
                action()
