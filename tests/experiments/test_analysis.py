import dataclasses
import math

import numpy as np
import pytest

from fanin.experiments.analysis import MINIMUM_SEEDS, analyse, choose_rates, is_stuck, steps_to
from fanin.experiments.spec import TUNING_SEEDS
from fanin.stats import compare_paired

BASE, OTHER = "glorot_uniform", "he_normal"


def by_label(results):
    return {arm.arm.label: arm for arm in results.analysis.arms}


def shift(amount, label=OTHER):
    """A quality in which one initializer lies beside the baseline by the same amount at every seed."""
    return lambda name, seed, rate: 0.7 + 0.01 * (seed % 8) + (amount if name == label else 0.0)


@pytest.mark.parametrize(("amount", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "not decided")])
def test_verdicts(fabricate, amount, verdict):
    arm = by_label(fabricate(shift(amount)))[OTHER]
    assert arm.verdict == verdict
    assert arm.comparison.difference == pytest.approx(amount, abs=1e-12)
    assert arm.comparison.seeds == 8
    assert (arm.trained, arm.stuck, arm.diverged) == (8, 0, 0)


def test_verdict_is_that_of_the_paired_test(fabricate):
    def quality(name, seed, rate):
        return 0.7 + 0.03 * ((7 * seed) % 5) + (0.02 * (seed - 2) if name == OTHER else 0)

    results = fabricate(quality)
    arm = by_label(results)[OTHER]
    expected = compare_paired(
        np.array([[quality(OTHER, s, 0) for s in range(8)]]), np.array([quality(BASE, s, 0) for s in range(8)])
    )[0]
    assert arm.comparison == expected
    assert arm.values == tuple(quality(OTHER, s, 0) for s in range(8))
    assert arm.median == pytest.approx(np.median(arm.values))


def test_pairing_matters(fabricate):
    """Large differences between seeds do not hide a small one that all seeds share."""
    arm = by_label(fabricate(lambda name, seed, rate: 0.3 + 0.08 * seed + (0.005 if name == OTHER else 0)))[OTHER]
    assert arm.verdict == "better"


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_too_few_seeds(fabricate, seeds):
    arm = by_label(fabricate(shift(0.2), seeds=seeds))[OTHER]
    assert arm.verdict == "too few seeds"
    assert "cannot decide" in arm.sentence
    assert "better" not in arm.sentence
    assert not math.isfinite(arm.comparison.low)


def test_six_seeds_are_enough_for_one_comparison(fabricate):
    assert by_label(fabricate(shift(0.2), seeds=MINIMUM_SEEDS))[OTHER].verdict == "better"
    assert by_label(fabricate(shift(0.2), seeds=MINIMUM_SEEDS - 1))[OTHER].verdict == "too few seeds"


def test_sentence_says_by_how_much_and_how_surely(fabricate):
    arm = by_label(fabricate(shift(0.1)))[OTHER]
    assert arm.sentence == (
        "he_normal is better than glorot_uniform by 10.0 points of test accuracy "
        "(95 % interval +10.0 to +10.0, p = 0.008, 8 seeds)."
    )
    worse = by_label(fabricate(shift(-0.1)))[OTHER]
    assert worse.sentence.startswith("he_normal is worse than glorot_uniform by 10.0 points")


def test_diverged_runs_count_as_the_worst(fabricate):
    results = fabricate(lambda name, seed, rate: None if name == OTHER else 0.3)
    arm = by_label(results)[OTHER]
    assert (arm.trained, arm.stuck, arm.diverged) == (0, 0, 8)
    assert arm.median == 0.0
    assert all(math.isnan(value) for value in arm.values)
    assert arm.verdict == "worse"
    assert arm.comparison.difference == pytest.approx(-0.3)
    assert arm.steps_to_target == math.inf
    assert "8 of 8 runs diverged" in arm.sentence
    assert arm.by_rate[0].diverged == 8


def test_a_diverged_run_is_not_dropped(fabricate):
    """Seven runs a little better and one diverged: the mean over the survivors would say better."""
    arm = by_label(
        fabricate(lambda name, seed, rate: None if (name, seed) == (OTHER, 3) else 0.7 + 0.01 * (name == OTHER))
    )[OTHER]
    assert arm.comparison.difference == pytest.approx((7 * 0.01 - 0.7) / 8)
    assert arm.verdict == "not decided"
    assert (arm.trained, arm.diverged) == (7, 1)


def test_diverged_loss_is_the_largest_seen(fabricate):
    results = fabricate(lambda name, seed, rate: None if name == OTHER else 0.2 + 0.5 * seed, kind="regression")
    arm = by_label(results)[OTHER]
    assert arm.median == pytest.approx(0.2 + 0.5 * 7)
    assert arm.verdict in ("worse", "not decided")
    assert arm.comparison.difference <= 0


def test_diverged_loss_is_at_least_that_of_a_constant(fabricate):
    results = fabricate(lambda name, seed, rate: None if name == OTHER else 0.01, kind="regression")
    task = results.experiment.task
    constant = float(np.mean((task.y_test - task.y_train.mean(axis=0)) ** 2))
    assert by_label(results)[OTHER].median == pytest.approx(constant)
    assert by_label(results)[OTHER].verdict == "worse"


def test_stuck_is_no_better_than_a_constant(fabricate):
    results = fabricate(lambda name, seed, rate: 0.05 if name == OTHER else 0.9)
    arm = by_label(results)[OTHER]
    assert (arm.trained, arm.stuck, arm.diverged) == (0, 8, 0)
    assert "8 of 8 runs stayed at a constant prediction" in arm.sentence
    assert by_label(results)[BASE].stuck == 0


def test_every_constant_prediction_is_stuck(fabricate):
    """Whichever class a run came to predict for everything, it has learned nothing."""
    decided = fabricate.experiment()
    for share in np.bincount(decided.task.y_val) / len(decided.task.y_val):
        assert is_stuck(decided, fabricate.result(float(share), 0.2, 0))


def test_stuck_looks_at_validation_data(fabricate):
    decided = fabricate.experiment()
    good, bad = fabricate.result((0.9, 0.0), 0.2, 0), fabricate.result((0.05, 0.9), 0.2, 0)
    assert not is_stuck(decided, good)
    assert is_stuck(decided, bad)


def test_direction_of_a_loss(fabricate):
    def quality(name, seed, rate):
        return 0.5 + 0.01 * seed - (0.2 if name == OTHER else 0.0)

    results = fabricate(quality, kind="regression")
    arm = by_label(results)[OTHER]
    assert results.analysis.metric == "loss"
    assert arm.verdict == "better"
    assert arm.comparison.difference == pytest.approx(0.2)
    assert "better than glorot_uniform by 0.2 of test loss" in arm.sentence
    assert results.best.arm.label == OTHER
    assert by_label(fabricate(lambda n, s, r: 0.5 + 0.2 * (n == OTHER), kind="regression"))[OTHER].verdict == "worse"


def test_stuck_at_a_loss(fabricate):
    results = fabricate(lambda name, seed, rate: 5.0 if name == OTHER else 0.1, kind="regression")
    assert (by_label(results)[OTHER].stuck, by_label(results)[BASE].stuck) == (8, 0)


def test_finished_run_without_a_number_has_not_trained(fabricate):
    """The last step can leave weights that give no number although each training loss was finite."""
    decided = fabricate.experiment("regression")
    runs = fabricate.runs(decided, lambda *_: 0.1)
    broken = {
        run: dataclasses.replace(
            result, test_metric=math.nan, test_loss=math.nan, val_metric=(*result.val_metric[:-1], math.nan),
            val_loss=(*result.val_loss[:-1], math.nan),
        )
        if run.init == OTHER else result
        for run, result in runs.items()
    }  # fmt: skip
    arm = next(each for each in analyse(decided, broken).arms if each.arm.label == OTHER)
    assert arm.trained == 0


RATES = (0.01, 0.1, 1.0)


def peaked(best, test=None):
    """Best on validation data at its own rate; tuning and compared seeds may be given different peaks."""

    def quality(name, seed, rate):
        peak = best(name, seed)
        value = 0.9 - 0.2 * abs(math.log10(rate / peak))
        return (value, value if test is None else test(name, seed, rate))

    return quality


def test_each_initializer_gets_its_own_rate(fabricate):
    results = fabricate(peaked(lambda name, seed: 0.01 if name == OTHER else 0.1), lr=RATES)
    assert {label: arm.learning_rate for label, arm in by_label(results).items()} == {OTHER: 0.01, BASE: 0.1}
    assert [each.learning_rate for each in by_label(results)[OTHER].by_rate] == list(RATES)
    assert by_label(results)[OTHER].values == (pytest.approx(0.9),) * 8


def test_rates_are_chosen_by_tuning_seeds_only(fabricate):
    """Compared seeds that prefer another rate have no say."""
    results = fabricate(peaked(lambda name, seed: 0.01 if seed in TUNING_SEEDS else 1.0), lr=RATES)
    assert {arm.learning_rate for arm in results.analysis.arms} == {0.01}


def test_rates_are_chosen_by_the_median_over_tuning_seeds(fabricate):
    def quality(name, seed, rate):
        # One lucky seed at 1.0, two seeds a little better at 0.1.
        return {0.01: 0.3, 0.1: 0.5, 1.0: 0.99 if seed == TUNING_SEEDS[0] else 0.4}[rate]

    assert {arm.learning_rate for arm in fabricate(quality, lr=RATES).analysis.arms} == {0.1}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_test_data_has_no_part_in_the_choice(fabricate, kind):
    sign = 1 if kind == "classification" else -1

    def val(name, rate):
        return 0.5 - sign * 0.1 * abs(math.log10(rate / 0.1))

    decided = fabricate.experiment(kind, lr=RATES)
    choices = []
    for test in (
        lambda rate: 0.5,
        lambda rate: 0.5 + 0.1 * math.log10(rate),
        lambda rate: 0.5 - 0.1 * math.log10(rate),
    ):
        runs = fabricate.runs(decided, lambda name, seed, rate, test=test: (val(name, rate), test(rate)))
        choices.append(choose_rates(decided, runs))
        assert {arm.learning_rate for arm in analyse(decided, runs).arms} == {0.1}
    assert choices[0] == choices[1] == choices[2] == dict.fromkeys(decided.arms, 0.1)


def test_diverged_tuning_runs_count_against_a_rate(fabricate):
    def quality(name, seed, rate):
        return None if rate == 1.0 and seed != TUNING_SEEDS[0] else {0.01: 0.3, 0.1: 0.4, 1.0: 0.99}[rate]

    assert {arm.learning_rate for arm in fabricate(quality, lr=RATES).analysis.arms} == {0.1}


def test_equal_rates_go_to_the_smaller_loss_then_to_the_smaller_rate(fabricate):
    decided = fabricate.experiment(lr=RATES)
    runs = fabricate.runs(decided, lambda name, seed, rate: 0.5)
    assert set(choose_rates(decided, runs).values()) == {0.01}
    lower = {
        run: dataclasses.replace(result, val_loss=(*result.val_loss[:-1], 0.01))
        if run.learning_rate == 1.0 and run.init == OTHER else result
        for run, result in runs.items()
    }  # fmt: skip
    assert {arm.label: rate for arm, rate in choose_rates(decided, lower).items()} == {BASE: 0.01, OTHER: 1.0}


def test_rates_of_runs_that_all_diverged(fabricate):
    results = fabricate(lambda name, seed, rate: None, lr=RATES)
    assert {arm.learning_rate for arm in results.analysis.arms} == {0.01}
    assert all(arm.diverged == 8 for arm in results.analysis.arms)
    assert by_label(results)[OTHER].verdict == "not decided"


def test_auto_needs_compared_runs_at_the_chosen_rate_only(fabricate):
    decided = fabricate.experiment(lr="auto")
    quality = peaked(lambda name, seed: 0.003 if name == OTHER else 0.03)
    tuning = {run: result for run, result in fabricate.runs(decided, quality).items() if run.seed in TUNING_SEEDS}
    chosen = choose_rates(decided, tuning)
    assert {arm.label: rate for arm, rate in chosen.items()} == {OTHER: 0.003, BASE: 0.03}
    runs = fabricate.runs(decided, quality, chosen)
    assert len(runs) == 2 * 3 * 8 + 2 * 8
    for arm in analyse(decided, runs).arms:
        assert arm.learning_rate == chosen[arm.arm]
        assert {each.seeds for each in arm.by_rate} == {len(TUNING_SEEDS)}


def test_rate_summary_is_over_compared_seeds_where_they_ran_at_every_rate(fabricate):
    arm = by_label(fabricate(lambda name, seed, rate: 0.5 + 0.01 * seed if seed < 8 else 0.1, lr=RATES))[BASE]
    for each in arm.by_rate:
        assert each.seeds == 8
        assert each.median == pytest.approx(0.535)
        assert (each.low, each.high) == (pytest.approx(0.5175), pytest.approx(0.5525))


def notes(results):
    return "\n".join(results.analysis.notes)


def test_one_rate_is_said_to_be_one_rate(fabricate):
    assert "Everything ran at learning rate 0.1, as you asked" in notes(fabricate(shift(0.1)))


def test_winner_that_depends_on_the_rate(fabricate):
    results = fabricate(peaked(lambda name, seed: 0.01 if name == OTHER else 1.0), lr=RATES)
    assert "The winner depends on the learning rate" in notes(results)
    assert "he_normal at 0.01" in notes(results)
    assert "glorot_uniform at 1" in notes(results)


def test_winner_at_every_rate(fabricate):
    text = notes(fabricate(shift(0.1), lr=RATES))
    assert "he_normal is best on validation data at every learning rate tried" in text
    assert "depends" not in text


def test_reversal_is_told(fabricate):
    """Better at its own rate 0.01, and behind the baseline where both train at 1."""

    def quality(name, seed, rate):
        if name == OTHER:
            return {0.01: 0.9, 0.1: 0.8, 1.0: 0.3}[rate]
        return {0.01: 0.4, 0.1: 0.7, 1.0: 0.6}[rate]

    results = fabricate(quality, lr=RATES)
    assert by_label(results)[OTHER].verdict == "better"
    expected = (
        "he_normal is better than glorot_uniform when each has its own learning rate, "
        "but the order is the other way round when both train at 1."
    )
    assert expected in results.analysis.notes
    assert "the other way round" not in notes(fabricate(shift(0.1), lr=RATES))
    assert "the other way round" not in notes(fabricate(shift(0.0), lr=RATES))


def test_reversal_of_a_loss(fabricate):
    def quality(name, seed, rate):
        if name == OTHER:
            return {0.01: 0.1, 0.1: 0.2, 1.0: 0.7}[rate]
        return {0.01: 0.6, 0.1: 0.3, 1.0: 0.4}[rate]

    results = fabricate(quality, kind="regression", lr=RATES)
    assert by_label(results)[OTHER].verdict == "better"
    assert "the other way round when both train at 1." in notes(results)


def test_rate_at_the_edge_is_told(fabricate):
    results = fabricate(peaked(lambda name, seed: 1.0 if name == OTHER else 0.1), lr=RATES)
    assert by_label(results)[OTHER].at_edge
    assert not by_label(results)[BASE].at_edge
    assert "smallest or largest tried for he_normal: wider" in notes(results)
    inside = fabricate(peaked(lambda name, seed: 0.1), lr=RATES)
    assert "smallest or largest" not in notes(inside)


def test_edge_of_what_does_not_train_is_not_told(fabricate):
    results = fabricate(
        lambda name, seed, rate: 0.05 if name == OTHER else {0.01: 0.7, 0.1: 0.9, 1.0: 0.7}[rate], lr=RATES
    )
    assert by_label(results)[OTHER].at_edge
    assert "smallest or largest" not in notes(results)


def test_adjustment_is_told_for_several_comparisons(fabricate):
    three = fabricate(shift(0.1), init=(BASE, OTHER, "orthogonal"))
    assert "p is adjusted for 2 comparisons." in three.analysis.notes
    assert "adjusted" not in notes(fabricate(shift(0.1)))


def test_target_and_steps(fabricate):
    """The curve rises from 0.2 in four equal parts; the target is 95 % of the way to the best median."""
    results = fabricate(lambda name, seed, rate: 1.0 if name == OTHER else 0.6)
    y = results.experiment.task.y_val.tolist()
    constant = max(y.count(label) for label in set(y)) / len(y)
    assert results.analysis.constant == constant
    assert results.analysis.target == pytest.approx(constant + 0.95 * (1.0 - constant))
    assert by_label(results)[OTHER].steps_to_target == 40
    assert by_label(results)[BASE].steps_to_target == math.inf


def test_steps_to_is_the_first_arrival(fabricate):
    result = fabricate.result(1.0, 0.2, 0)  # 0.4, 0.6, 0.8, 1.0 at steps 10, 20, 30, 40
    assert steps_to(result, 0.6, 1.0) == 20
    assert steps_to(result, 0.61, 1.0) == 30
    assert steps_to(result, 1.01, 1.0) == math.inf
    falling = fabricate.result(0.2, 1.0, 0)
    assert steps_to(falling, 0.6, -1.0) == 20
    assert steps_to(fabricate.result(None, 0.2, 0), 0.9, 1.0) == math.inf


def test_most_runs_never_arriving_is_never(fabricate):
    results = fabricate(lambda name, seed, rate: 0.9 if name == BASE or seed < 3 else None)
    assert by_label(results)[OTHER].steps_to_target == math.inf


def test_target_does_not_look_at_test_data(fabricate):
    targets = {
        fabricate(lambda name, seed, rate, t=t: (0.1, t) if seed < 2 else None, kind="regression").analysis.target
        for t in (0.1, 7.0)
    }
    assert len(targets) == 1


def test_baseline_alone(fabricate):
    results = fabricate(lambda name, seed, rate: 0.8, init=(BASE,))
    (arm,) = results.analysis.arms
    assert (arm.verdict, arm.comparison) == ("baseline", None)
    assert arm.sentence == "glorot_uniform is the baseline."
    assert "adjusted" not in notes(results)


def test_baseline_that_is_not_the_first(fabricate):
    arms = by_label(fabricate(shift(0.1), baseline=OTHER))
    assert (arms[OTHER].verdict, arms[BASE].verdict) == ("baseline", "worse")


def test_order_of_the_arms_is_the_users(fabricate):
    inits = ("orthogonal", "zeros", BASE, OTHER)
    assert [arm.arm.label for arm in fabricate(shift(0.1), init=inits).analysis.arms] == list(inits)
