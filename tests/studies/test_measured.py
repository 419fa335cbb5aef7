"""The studies that train in NumPy, really run: with two seeds, narrow networks and an epoch."""

from dataclasses import replace

import numpy as np
import pytest

from fanin.studies import STUDIES, Conditions
from fanin.studies.data import _headed, _Transfer
from fanin.studies.networks import Setting

TINY = Setting("digits", (8, 6), epochs=1)
DEEP = replace(TINY, widths=(8, 6, 7), activation="tanh")
DESIGNS = {
    "what-not-to-do": DEEP,
    "symmetry": TINY,
    "dead-units": TINY,
    "auto": {"deep": replace(DEEP, activation="silu"), "shallow": replace(TINY, activation="silu")},
    "transfer": _Transfer(TINY, replace(TINY, examples=30, batch_size=10)),
}


@pytest.fixture(scope="module")
def answers():
    """Each study, once."""
    found = {}
    for name, design in DESIGNS.items():
        study = replace(STUDIES[name], run=replace(STUDIES[name].run, quick=design))
        found[name] = study(Conditions(seeds=2))
    return found


def test_these_are_all_the_studies_that_are_no_comparison():
    assert set(DESIGNS) == {name for name, study in STUDIES.items() if not isinstance(study.run.quick, tuple)}


@pytest.mark.parametrize("name", DESIGNS)
def test_a_study_runs_and_two_seeds_decide_nothing(answers, name):
    answer = answers[name]
    assert (answer.study, answer.verdict) == (name, "not decided at this size")
    assert answer.numbers
    assert all(np.isfinite(each.effect) and each.seeds == 2 for each in answer.claims)
    assert any(each.main for each in answer.claims)


def test_equal_units_stay_equal_and_noise_parts_them(answers):
    numbers = answers["symmetry"].numbers
    for init in ("zeros", "constant(value=0.1)"):
        assert numbers[init]["start"] == numbers[init]["end"] == [pytest.approx(100 * 2 / 14, abs=1e-3)] * 2
    assert numbers["random_normal(stddev=0.001)"]["end"] == [100, 100]


def test_dead_units_at_the_start_do_not_depend_on_the_size_of_weights(answers):
    numbers = answers["dead-units"].numbers
    assert numbers["he_normal"]["start"] == numbers["glorot_normal"]["start"]


def test_the_four_mistakes_are_measured_by_layer(answers):
    numbers = answers["what-not-to-do"].numbers
    assert numbers["zeros"]["signal 3"] == [0, 0]
    assert numbers["zeros"]["gradient 1"] == [0, 0]
    assert numbers["zeros"]["no gradient 1"] == [100, 100]
    small = numbers["random_normal(stddev=0.001)"]
    assert 0 < max(small["gradient 1"]) < 1e-3 * min(small["gradient 3"])
    assert numbers["constant(value=0.5)"]["distinct"] == [pytest.approx(100 * 3 / 21, abs=1e-3)] * 2
    good, large = numbers["glorot_normal"], numbers["random_normal(stddev=1.0)"]
    assert min(large["saturated 1"]) > 5 * max(good["saturated 1"])
    assert len([name for name in good if name.startswith("signal")]) == 3


def test_auto_and_its_rivals_start_from_their_own_plans(answers):
    numbers = answers["auto"].numbers
    assert set(numbers) == {"deep", "shallow"}
    assert list(numbers["deep"]) == ["auto", "he_normal", "glorot_uniform", "fan_in_uniform", "orthogonal"]
    assert len({str(each["test_accuracy"]) for each in numbers["deep"].values()}) > 1
    assert {each["learning_rate"] for each in numbers["deep"].values()} <= {0.003, 0.001}


def test_transfer_keeps_none_to_all_hidden_layers(answers):
    assert list(answers["transfer"].numbers) == ["0 kept", "1 kept", "2 kept"]
    numbers = answers["transfer"].numbers["0 kept"]
    assert numbers["trained further"] == numbers["kept as they are"]


def test_a_transferred_network_has_outputs_for_half_of_the_classes():
    from fanin.studies.data import _half

    lower, upper = _half("digits", False, None), _half("digits", True, 30)
    assert (lower.outputs, upper.outputs) == (5, 5)
    assert len(upper.x_train) == 30
    assert set(upper.y_test.tolist()) == set(range(5))
    assert len(lower.x_test) + len(upper.x_test) == 359
    assert _headed(TINY, upper, 0).weights[-1].shape == (6, 5)
