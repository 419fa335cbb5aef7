"""The corpus that the doctor is measured on: every case can be built and fits its data."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fanin.keras.backend import start

start(None)
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import keras  # noqa: E402
from corpus import CODES, FILES, PARTS, Case, cases, keras_fifth_networks, keras_sixth_networks, mend  # noqa: E402
from corpus.validate import quality, seed_all, split  # noqa: E402

CASES = {fw: tuple(case for part in range(len(PARTS)) for case in cases(fw, part + 1)) for fw in FILES}
EVERY = [case for found in CASES.values() for case in found]


def outputs(case: Case) -> Any:
    """What the model returns for its batch; for Keras what it is like, from weights that were not drawn."""
    x, _ = case.data()
    parts = x if isinstance(x, tuple) else (x,)
    if case.framework == "keras":
        with keras.StatelessScope(initialize_variables=False):  # drawing each shape's first values is what takes long
            given = [keras.KerasTensor(part.shape, str(part.dtype)) for part in parts]
            model = case.build()
            if type(model).build is not keras.Model.build and not model.built:  # a subclass that makes weights there
                model.build(given[0].shape)
            return model.compute_output_spec(given if len(given) > 1 else given[0])
    seed_all(case.framework, 0)
    built = case.build()
    with torch.no_grad():
        return (built[0] if isinstance(built, tuple) else built)(*map(torch.from_numpy, parts))


def first(found: Any) -> Any:
    """The first of several outputs."""
    if isinstance(found, dict):
        return next(iter(found.values()))
    return found[0] if isinstance(found, tuple) else found


@pytest.fixture(autouse=True)
def _forget_what_was_not_drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Or Keras would draw it after the next such scope. What was not drawn cannot be trained either."""
    for networks in (keras_fifth_networks, keras_sixth_networks):
        monkeypatch.setattr(networks, "pretrain", lambda model: None)
    yield
    keras.utils.clear_session(free_memory=False)


@pytest.mark.parametrize("framework", FILES)
def test_names_are_unique_and_causes_are_known(framework: str) -> None:
    names = [case.name for case in CASES[framework]]
    assert len(set(names)) == len(names)
    for case in CASES[framework]:
        assert case.framework == framework
        assert set(case.causes) <= CODES
        assert len(set(case.causes)) == len(case.causes)
        assert bool(case.causes) == bool(case.mended)
        assert case.source == "commonplace" or case.source.startswith("http")
        assert split(case.optimizer)[1][{"torch": "lr", "keras": "learning_rate"}[framework]] > 0


@pytest.mark.parametrize(("framework", "faulty", "healthy"), [("torch", 70, 60), ("keras", 40, 40)])
def test_there_are_enough_of_both(framework: str, faulty: int, healthy: int) -> None:
    assert sum(bool(case.causes) for case in CASES[framework]) >= faulty
    assert sum(not case.causes for case in CASES[framework]) >= healthy


@pytest.mark.filterwarnings("ignore:.*(softmax over axis|duplicate parameters)")  # what is wrong with some of them
@pytest.mark.parametrize("case", EVERY, ids=lambda case: f"{case.framework} {case.name}")
def test_it_is_built_and_fits_its_data(case: Case) -> None:
    x, y = case.data()
    again = case.data()[1]
    np.testing.assert_array_equal(y, again)
    assert all(len(part) == len(y) for part in (x if isinstance(x, tuple) else (x,)))
    assert len(y) <= 800  # trained in seconds
    assert first(outputs(case)).shape[0] == len(y)


@pytest.mark.parametrize("case", [case for case in CASES["torch"] if case.causes], ids=lambda case: case.name)
def test_a_mended_case_has_a_loss(case: Case) -> None:
    cured = mend(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.isfinite(cured.loss(outputs(cured), torch.from_numpy(cured.data()[1])))


def test_quality_is_the_share_of_the_way_to_perfection() -> None:
    labels = np.array([0, 0, 1, 2])
    right = np.eye(3)[labels]
    assert quality(right, labels) == ("accuracy", 1.0)
    assert quality(np.eye(3)[[0, 0, 0, 0]], labels) == ("accuracy", 0.0)
    assert quality(np.full((4, 3), np.nan), labels) == ("accuracy", 0.0)
    halves = np.array([[0.0], [1.0], [1.0], [0.0]])
    assert quality(np.array([[-2.0], [3.0], [1.0], [-1.0]]), halves) == ("accuracy", 1.0)
    assert quality(np.array([[0.1], [0.9], [0.8], [0.6]]), halves) == ("accuracy", 0.5)
    numbers = np.array([[1.0], [3.0]])
    assert quality(np.array([2.0, 2.0]), numbers) == ("explained variance", 0.0)
    assert quality(np.array([1.0, 2.0]), numbers) == ("explained variance", 0.5)
