import json

import numpy as np
import pytest

from fanin.studies import Conditions, Contrast, Training, Variant, points, trained
from fanin.studies.comparisons import arm_of, part_of

pytestmark = pytest.mark.usefixtures("short_measurements")


def difference(outcomes):
    results = outcomes["one"]
    gain = points(results, "xavier_uniform") - points(results, "zeros")
    return (Contrast("Xavier is better than zeros.", "me", "more", gain, 1.0, "points"),)


def test_a_study_trains_all_that_it_is_made_of(tmp_path):
    """Really trained, twice on one store: the second time nothing is."""
    small = Training("one", ("zeros", "glorot_uniform"), Variant((8, 6)), lr=(0.01,), epochs=2, examples=200)
    run = trained((small,), (), difference)
    conditions = Conditions(seeds=2, store=tmp_path / "runs.sqlite")
    evidence = run(conditions)
    numbers = evidence.numbers["one"]
    assert numbers["model"] == "8x6"
    assert numbers["task"] == "digits, 200 examples"
    assert numbers["training"] == "adam, 2 epochs of batches of 32"
    assert numbers["arms"]["zeros"]["stuck"] == 2
    assert numbers["arms"]["glorot_uniform"]["learning_rate"] == 0.01
    accuracies = [np.array(numbers["arms"][arm]["test_accuracy"]) for arm in ("glorot_uniform", "zeros")]
    np.testing.assert_allclose(evidence.contrasts[0].differences, 100 * (accuracies[0] - accuracies[1]), atol=0.02)
    assert evidence.contrasts[0].differences.min() > 5
    json.dumps(numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanin.experiments.executor.Executor._train", None)
        again = run(conditions)
    assert again.numbers == evidence.numbers


def test_a_run_that_diverged_has_accuracy_zero(fabricate):
    results = fabricate(lambda label, seed, _: None if seed == 1 and "he" in label else 0.75, seeds=3)
    assert points(results, "he_normal").tolist() == [75, 0, 75]
    assert points(results, "kaiming_normal").tolist() == [75, 0, 75]


def test_arms_are_found_by_initializer_and_activation(fabricate):
    results = fabricate(lambda *_: 0.5, activation=("relu", "tanh"), seeds=2)
    assert arm_of(results, "he_normal", "tanh").arm.label == "he_normal + tanh"
    assert arm_of(results, "glorot_uniform").arm.activation == "relu"


@pytest.mark.parametrize(("lr", "every", "auto"), [((0.1,), False, False), ((0.1, 0.2), False, True),
                                                   ((0.1, 0.2), True, False)])  # fmt: skip
def test_compared_seeds_run_at_the_chosen_rate_alone_unless_asked(lr, every, auto):
    decided = Training("t", ("zeros",), "mlp:4", lr=lr, every_rate=every).experiment(3)
    assert decided.auto == auto
    assert decided.learning_rates == lr
    assert (decided.seeds, decided.settings.epochs, decided.settings.batch_size) == (3, 10, 32)


def test_a_part_of_a_task_keeps_its_test_data():
    whole, part = part_of("digits"), part_of("digits", 50)
    assert {x.tobytes() for x in part.x_train} == {x.tobytes() for x in whole.x_train[:50]}
    assert sorted(part.y_train) == sorted(whole.y_train[:50])
    assert np.array_equal(part.x_test, whole.x_test)
    assert np.array_equal(part.y_val, whole.y_val)
    assert part.fingerprint != whole.fingerprint


def test_variants_are_told_apart_by_what_was_changed():
    variants = [Variant((8,)), Variant((8, 8)), Variant(()), Variant((8,), batch_norm=True), Variant((8,), l2=0.1)]
    specs = [variant.spec() for variant in variants]
    texts = [spec.text for spec in specs]
    assert texts == ["8", "8x8", "linear", "8 with batch_norm=True", "8 with l2=0.1"]
    assert len({spec.fingerprint for spec in specs}) == 5
    assert all(spec.kind == "user" for spec in specs)
