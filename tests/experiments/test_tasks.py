import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.errors import DataError
from fanin.experiments.tasks import make_task
from fanin.initializers.streams import permutation

PARTS = ("train", "val", "test")


def numbered(examples, classes=2):
    """Data whose first feature is the example's number, so that a part shows where it came from."""
    x = np.stack([np.arange(examples), np.ones(examples)], axis=1).astype(np.float32)
    return {"x": x, "y": np.arange(examples) % classes}


def numbers(task, part):
    return getattr(task, f"x_{part}")[:, 0].astype(int).tolist()


def four(y_train, y_test, n=20):
    x = np.zeros((n, 3), np.float32)
    return {"x_train": x, "y_train": y_train, "x_test": x[: len(y_test)], "y_test": y_test}


@settings(deadline=None, max_examples=30)
@given(st.integers(40, 300))
def test_split_is_disjoint_and_whole(examples):
    task = make_task("t", numbered(examples))
    found = {part: numbers(task, part) for part in PARTS}
    assert sorted(number for part in found.values() for number in part) == list(range(examples))
    assert len(found["val"]) == len(found["test"]) == examples // 5


def test_split_follows_the_specified_permutation():
    task = make_task("t", numbered(50))
    order = permutation(0, "split", 50).tolist()
    assert numbers(task, "test") == order[:10]
    assert numbers(task, "val") == order[10:20]
    assert numbers(task, "train") == order[20:]


def test_split_keeps_each_example_with_its_label():
    task = make_task("t", numbered(60, classes=3))
    for part in PARTS:
        assert getattr(task, f"y_{part}").tolist() == [number % 3 for number in numbers(task, part)]


def test_split_is_the_same_each_time():
    first, second = make_task("t", numbered(64)), make_task("other name", numbered(64))
    assert first.fingerprint == second.fingerprint
    for entry in dataclasses.fields(first):
        if entry.name[:2] in ("x_", "y_"):
            assert np.array_equal(getattr(first, entry.name), getattr(second, entry.name))


def test_given_test_part_is_kept_and_a_tenth_goes_to_validation():
    data = numbered(100)
    other = {"x_test": data["x"] + 1000, "y_test": data["y"]}
    task = make_task("t", {"x_train": data["x"], "y_train": data["y"], **other})
    assert numbers(task, "test") == list(range(1000, 1100))
    assert len(task.x_val) == 10
    assert sorted(numbers(task, "val") + numbers(task, "train")) == list(range(100))


def test_validation_of_a_large_set_is_at_most_5000():
    data = numbered(60_000)
    task = make_task(
        "t", {"x_train": data["x"], "y_train": data["y"], "x_test": data["x"][:2], "y_test": data["y"][:2]}
    )
    assert (len(task.x_val), len(task.x_train)) == (5000, 55_000)


@pytest.mark.parametrize("whole", [True, False])
def test_given_validation_part_is_kept(whole):
    data = numbered(50)
    arrays = data if whole else {"x_train": data["x"], "y_train": data["y"], "x_test": data["x"], "y_test": data["y"]}
    task = make_task("t", {**arrays, "x_val": data["x"] + 500, "y_val": data["y"]})
    assert numbers(task, "val") == list(range(500, 550))
    others = numbers(task, "train") + (numbers(task, "test") if whole else [])
    assert sorted(others) == list(range(50))


def test_no_example_of_x_is_lost_when_a_test_part_is_given():
    data = numbered(50)
    task = make_task("t", {**data, "x_test": data["x"] + 500, "y_test": data["y"]})
    assert numbers(task, "test") == list(range(500, 550))
    assert sorted(numbers(task, "train") + numbers(task, "val")) == list(range(50))


def test_bytes_are_divided_by_255_and_floats_are_not():
    pixels = np.arange(256, dtype=np.uint8).repeat(2).reshape(-1, 2)
    y = np.arange(256) % 2
    task = make_task("t", {"x": pixels, "y": y})
    order = permutation(0, "split", 256)
    assert task.x_train.dtype == np.float32
    assert np.array_equal(task.x_train, pixels[order[102:]].astype(np.float32) / np.float32(255))
    assert np.array_equal(make_task("t", {"x": pixels.astype(float), "y": y}).x_train, pixels[order[102:]])


def test_one_hot_and_column_labels_are_the_classes():
    data = numbered(60, classes=3)
    plain = make_task("t", data)
    for y in (np.eye(3)[data["y"]], np.eye(3, dtype=int)[data["y"]], data["y"][:, None], data["y"].astype(np.uint8)):
        task = make_task("t", {"x": data["x"], "y": y})
        assert (task.kind, task.outputs, task.metric) == ("classification", 3, "accuracy")
        assert task.y_train.dtype == np.int32
        assert np.array_equal(task.y_train, plain.y_train)
        assert task.fingerprint == plain.fingerprint


def test_truth_values_are_two_classes():
    data = numbered(20)
    task = make_task("t", {"x": data["x"], "y": data["y"].astype(bool)})
    assert (task.kind, task.outputs) == ("classification", 2)


@pytest.mark.parametrize(("shape", "outputs"), [((40,), 1), ((40, 1), 1), ((40, 3), 3)])
def test_float_targets_are_regression(shape, outputs):
    y = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    task = make_task("t", {"x": np.zeros((40, 2)), "y": y})
    assert (task.kind, task.outputs, task.metric) == ("regression", outputs, "loss")
    assert task.y_train.shape == (24, outputs)
    assert task.y_train.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_number_that_is_not_finite_is_named_with_its_place(bad):
    data = four(np.arange(20) % 2, np.arange(20) % 2)
    data["x_test"] = data["x_test"].copy()
    data["x_test"][13, 2] = bad
    with pytest.raises(
        DataError, match=r"x_test holds numbers that are not finite.*1 nan, inf or beyond float32.*\[13, 2\]"
    ) as error:
        make_task("t", data)
    assert error.value.hint


def test_number_too_large_for_float32_is_an_error_and_no_warning():
    data = numbered(20)
    x = data["x"].astype(float)
    x[3, 1] = 1e300
    with pytest.raises(DataError, match="not finite"):
        make_task("t", {"x": x, "y": data["y"]})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_targets_that_are_not_finite(bad):
    y = np.linspace(0, 1, 20)
    y[7] = bad
    with pytest.raises(DataError, match="y_train holds numbers that are not finite"):
        make_task("t", {"x": np.zeros((20, 2)), "y": y})


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([0, 2], "labels 0, 2"),
        ([1, 2], "labels 1, 2"),
        ([-1, 1], "labels -1, 1"),
        ([0, 2**40], "labels 0, 1099511627776"),
        ([0, 0], "labels 0"),
        (["cat", "dog"], "of type <U3"),
        ([[0, 1], [1, 1]], "y of shape"),
    ],
)
def test_labels_that_are_no_classes(labels, shown):
    y = np.array(labels * 20)
    x = np.zeros((len(y), 2), np.float32)
    with pytest.raises(DataError, match="The labels are not classes") as error:
        make_task("t", {"x": x, "y": y})
    assert shown in str(error.value)
    assert error.value.allowed


def test_test_labels_that_training_lacks():
    """A rare class may be in one part only; it is a class all the same."""
    assert make_task("t", four(np.arange(20) % 2, np.arange(20) % 3)).outputs == 3
    with pytest.raises(DataError, match=r"labels 0, 1, 5"):
        make_task("t", four(np.arange(20) % 2, np.where(np.arange(20) % 3 == 2, 5, 0)))


GOOD = np.arange(20) % 2
REAL = np.linspace(0, 1, 20)


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"x": np.zeros((20, 2))}, id="no y"),
        pytest.param({"x": np.zeros((19, 2)), "y": GOOD}, id="unequal lengths"),
        pytest.param({**four(GOOD, GOOD), "x_test": np.zeros((19, 3))}, id="unequal test lengths"),
        pytest.param({**four(GOOD, GOOD), "x_val": np.zeros((3, 3)), "y_val": GOOD}, id="unequal val lengths"),
        pytest.param({**four(GOOD, GOOD), "x_test": np.zeros((20, 4))}, id="another shape"),
        pytest.param({**four(GOOD, GOOD), "x_val": np.zeros((20, 3, 1)), "y_val": GOOD}, id="another val shape"),
        pytest.param({"x": np.zeros((4, 2)), "y": GOOD[:4]}, id="too few"),
        pytest.param({"x": np.zeros(20), "y": GOOD}, id="no features axis"),
        pytest.param({"x": np.array(1.0), "y": GOOD}, id="x a scalar"),
        pytest.param({"x": np.full((20, 2), "a"), "y": GOOD}, id="x strings"),
        pytest.param({"x": np.zeros((20, 2), complex), "y": GOOD}, id="x complex"),
        pytest.param({"x": np.zeros((20, 2), object), "y": GOOD}, id="x objects"),
    ],
)
def test_data_that_is_none(arrays):
    with pytest.raises(DataError) as error:
        make_task("t", arrays)
    assert error.value.given


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({"x": np.zeros((20, 2)), "y": np.array(3)}, id="y a scalar"),
        pytest.param({**four(GOOD, GOOD), "x_test": np.array(1.0), "y_test": np.array(1)}, id="test a scalar"),
        pytest.param(four(GOOD, GOOD[:0]), id="empty test part"),
        pytest.param(four(GOOD, GOOD.astype(str)), id="test labels strings"),
        pytest.param(four(GOOD, GOOD + 0.5), id="test labels with fractions"),
        pytest.param(four(GOOD, np.stack([GOOD, GOOD], 1)), id="test labels of another shape"),
        pytest.param(four(REAL, np.stack([REAL, REAL], 1)), id="test targets of another width"),
        pytest.param({"x": np.zeros((20, 2)), "y": np.zeros((20, 0))}, id="no target column"),
    ],
)
def test_parts_that_do_not_fit_each_other(arrays):
    with pytest.raises(DataError):
        make_task("t", arrays)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 29), st.integers(0, 1), st.sampled_from(["x", "y"]))
def test_fingerprint_changes_with_every_element(row, column, which):
    data = numbered(30, classes=2)
    before = make_task("t", data).fingerprint
    changed = {key: value.copy() for key, value in data.items()}
    if which == "x":
        changed["x"][row, column] += 1
    else:
        changed["y"][row] = 1 - changed["y"][row]
    assert make_task("t", changed).fingerprint != before


def test_fingerprint_tells_shapes_apart():
    data = numbered(40)
    image = make_task("t", {"x": data["x"].reshape(40, 1, 2), "y": data["y"]})
    assert image.fingerprint != make_task("t", data).fingerprint


def test_fingerprint_sees_which_part_an_example_is_in():
    x, y = numbered(20)["x"], GOOD
    base = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "x_val": x, "y_val": y}
    one = make_task("t", {**base, "x_val": x + 1})
    other = make_task("t", {**base, "x_test": x + 1})
    assert one.fingerprint != other.fingerprint
