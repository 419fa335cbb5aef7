"""What the trainers of all frameworks share."""

import threading
import time

import numpy as np
import pytest

from fanin.errors import InvalidValueError, ModelError
from fanin.records import Call, InitialSignals, ModelSpec, Program, Run, Task
from fanin.training import (
    EVALUATION_BATCH,
    Measured,
    batches_of,
    call_build,
    channels_first,
    data_parts,
    outcome,
    pick,
    refuse_rate,
    sample_run,
    spread,
    together_limit,
)


def measured(chunk: int, rate: float, bits: bytes = b"plain", eligible: bool = True) -> Measured:
    return Measured(Program("step", chunk, rate), bits, eligible)


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([], 1),
        ([measured(2, 1.5)], 2),
        ([measured(2, 1.9, b"other")], 1),
        ([measured(2, 2.1, b"other")], 2),
        ([measured(2, 9.0, eligible=False), measured(4, 1.1)], 4),
        ([measured(2, 1.5), measured(4, 2.5, b"other")], 2),
    ],
)
def test_other_bits_are_taken_only_where_they_pay(others: list[Measured], chosen: int) -> None:
    reference = measured(1, 1.0)
    assert pick(reference, [reference, *others], margin=2.0).chunk == chosen


def made_up_run(seed: int, init: str) -> Run:
    return Run("toy", "", "m", "", "", init, seed, 0.1, "sgd", 4, 3, 1, "test")


def test_each_run_gets_the_batches_of_its_seed() -> None:
    """Three epochs of 11 examples in batches of 4: two batches each, none with an example twice."""
    runs = [made_up_run(5, "zeros"), made_up_run(2, "zeros"), made_up_run(5, "ones")]
    found = batches_of(runs, 0, 6, 11, 4)
    assert found.shape == (3, 6, 4)
    np.testing.assert_array_equal(found[0], found[2])
    assert (found[0] != found[1]).any()
    for epochs in found.reshape(3, 3, 8):
        assert all(len(set(epoch.tolist())) == 8 and epoch.min() >= 0 and epoch.max() < 11 for epoch in epochs)
    np.testing.assert_array_equal(batches_of(runs, 3, 5, 11, 4), found[:, 3:5])


@pytest.mark.parametrize(("train", "val", "seen"), [(90, 30, 30), (20, 30, 20), (3000, 2000, EVALUATION_BATCH)])
def test_as_much_training_data_is_looked_at_as_validation_data(train: int, val: int, seen: int) -> None:
    x = np.arange(6000 * 3, dtype=np.float32).reshape(6000, 3)
    cuts = x[:train], x[train : train + val], x[-7:]
    parts = data_parts(
        Task("toy", "regression", 1, *(each for cut in cuts for each in (cut, cut[:, 0])), "fingerprint")
    )
    starts = {part: (len(rows), rows[0, 0] / 3) for part, (rows, _) in parts.items()}
    assert starts == {"train": (train, 0), "seen": (seen, 0), "val": (val, train), "test": (7, 6000 - 7)}
    assert all(np.array_equal(rows[:, 0], y) for rows, y in parts.values())


@pytest.mark.parametrize("name", ["lr", "learning_rate"])
def test_an_optimizer_brings_no_learning_rate(name: str) -> None:
    refuse_rate(Call("sgd", momentum=0.9))
    with pytest.raises(InvalidValueError, match=rf"sgd\({name}=0\.5\)"):
        refuse_rate(Call("sgd", **{name: 0.5}))


def test_a_function_is_told_what_it_has_parameters_for() -> None:
    def build(outputs: int, other: int = 5) -> tuple[int, int]:
        return outputs, other

    spec = ModelSpec("net.py:build", "user", (), "", build)
    assert call_build(spec, "", {"outputs": 3, "input_shape": (4,)}) == (3, 5)
    with pytest.raises(InvalidValueError, match="brings its own activations"):
        call_build(spec, "relu", {"outputs": 3})
    with pytest.raises(ModelError, match="could not be built: TypeError"):
        call_build(spec, "", {})


@pytest.mark.parametrize(
    ("shape", "expected"), [((5,), (5,)), ((5, 4), (1, 5, 4)), ((5, 4, 3), (3, 5, 4)), ((6, 5, 4, 3), (3, 6, 5, 4))]
)
def test_channels_come_first(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert channels_first(shape) == expected


@pytest.mark.parametrize(("diverged_at", "shown"), [(-1, 3), (3, 1), (4, 2), (0, 0)])
def test_what_came_after_a_divergence_is_not_shown(diverged_at: int, shown: int) -> None:
    curve = np.array([3.0, 2.0, 1.0])
    result = outcome((2, 4, 6), diverged_at, (curve,) * 4, (1.5, 0.5), InitialSignals((), (), ()), 1.0)
    assert np.isfinite(result.val_loss).sum() == shown
    assert result.status == ("finished" if diverged_at < 0 else "diverged")
    assert np.isfinite(result.test_loss) == (diverged_at < 0)


def test_weights_that_are_no_numbers_at_the_end_are_a_divergence() -> None:
    gone = np.array([1.0, np.nan])
    result = outcome((2, 4), -1, (np.ones(2), gone, gone, gone), (1.0, 1.0), InitialSignals((), (), ()), 1.0)
    assert (result.status, result.diverged_at) == ("diverged", 4)


def test_chunks_are_worked_on_by_all_devices_at_once() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def work(chunk: int, device: str, progress: object) -> tuple[int, str]:
        meeting.wait()  # would break if one device did everything
        return chunk, device

    done = dict(spread([1, 2], ["a", "b"], work, lambda _: None))
    assert set(done) == {1, 2}
    assert set(done.values()) == {"a", "b"}


def test_workers_stop_when_nobody_waits() -> None:
    started = []

    def work(chunk: int, device: str, progress: object) -> int:
        started.append(chunk)
        time.sleep(0.001)  # or all would be done before anybody stops waiting
        return chunk

    results = spread(range(10_000), ["a"], work, lambda _: None)
    assert next(results) == 0
    threads = threading.active_count()
    results.close()
    assert threading.active_count() == threads - 1
    assert len(started) < 10_000


def test_an_error_of_a_worker_is_raised() -> None:
    def work(chunk: int, device: str, progress: object) -> int:
        if chunk == 2:
            raise ValueError("no such chunk")
        return chunk

    with pytest.raises(ValueError, match="no such chunk"):
        list(spread([1, 2, 3], ["a"], work, lambda _: None))


def test_the_sample_is_a_run_whose_weights_vary() -> None:
    values = {"zeros": np.zeros((3, 2), np.float32), "he_normal": np.arange(6, dtype=np.float32)}
    runs = [made_up_run(0, "zeros"), made_up_run(0, "he_normal")]
    assert sample_run(lambda each: {"w": values[each.init]}, runs) == runs[1]
    assert sample_run(lambda each: {"w": values["zeros"]}, runs) == runs[0]


def test_at_least_one_run_is_trained() -> None:
    assert together_limit(10**15, 2) == 1
    assert together_limit(10, 2) > 1000
