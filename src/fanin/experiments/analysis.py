"""What came out: from runs and their results to numbers for each initializer, and to sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fanin.experiments.spec import TUNING_SEEDS, Arm, Experiment
from fanin.records import Run, RunResult
from fanin.stats import Comparison, compare_paired, majority_bound, smallest_p, worst_for_failures

__all__ = ["Analysis", "ArmSummary", "RateSummary", "analyse", "choose_rates"]

Results = Mapping[Run, RunResult]
SIGNIFICANT = 0.05
MINIMUM_SEEDS = 6
"""Below this many seeds no sign-flip p reaches .05, so nothing is called better or worse."""
_TARGET_SHARE = 0.95


@dataclass(frozen=True)
class RateSummary:
    """One initializer at one learning rate, on validation data: median and quartiles over seeds.

    A run that diverged counts as the worst value; `diverged` says how many did.
    """

    learning_rate: float
    median: float
    low: float
    high: float
    seeds: int
    diverged: int


@dataclass(frozen=True)
class ArmSummary:
    """One initializer at its learning rate.

    Attributes:
        learning_rate: The fixed or chosen rate; `at_edge` if the choice fell on the end of the rates tried.
        values: Test metric by seed, not a number where the run diverged.
        median: Median over seeds, diverged runs at the worst.
        trained, stuck, diverged: Numbers of runs; stuck is no better than a constant prediction.
        steps_to_target: Median number of steps to the common target, infinite if most runs never arrive.
        comparison: Difference to the baseline in the direction of better; None for the baseline itself.
        verdict: ``baseline``, ``better``, ``worse``, ``not decided`` or ``too few seeds``.
        sentence: The verdict in words.
    """

    arm: Arm
    learning_rate: float
    at_edge: bool
    values: tuple[float, ...]
    median: float
    trained: int
    stuck: int
    diverged: int
    steps_to_target: float
    by_rate: tuple[RateSummary, ...]
    comparison: Comparison | None
    verdict: str
    sentence: str


@dataclass(frozen=True)
class Analysis:
    """All initializers, and what holds for the comparison as a whole.

    Attributes:
        metric: ``accuracy`` (higher is better) or ``loss`` (lower is better), on test data.
        constant: The metric of the best constant prediction on validation data.
        target: The validation metric whose arrival is timed: 95 % of the way from `constant` to the best median.
        notes: Sentences on learning rates, failures and the reach of the statistics.
    """

    metric: str
    constant: float
    target: float
    arms: tuple[ArmSummary, ...]
    notes: tuple[str, ...]


def _final(result: RunResult) -> float:
    """The last validation metric; not a number if the run diverged."""
    return result.val_metric[-1] if result.status == "finished" else math.nan


def _sign(experiment: Experiment) -> float:
    """+1 where a larger metric is better, -1 where a smaller one is."""
    return 1.0 if experiment.task.metric == "accuracy" else -1.0


def _constant(experiment: Experiment, part: str) -> float:
    """The metric of the best constant prediction on ``val`` or ``test``."""
    task = experiment.task
    train, y = task.y_train, getattr(task, f"y_{part}")
    if task.kind == "classification":
        return float(np.bincount(y).max() / len(y))
    return float(np.mean((y - train.mean(axis=0)) ** 2))


def _worst(experiment: Experiment, values: Sequence[float], part: str) -> float:
    """What a diverged run counts as: accuracy 0, or a loss that is the largest seen."""
    if experiment.task.metric == "accuracy":
        return 0.0
    finite = [value for value in values if math.isfinite(value)]
    return max([*finite, _constant(experiment, part)])


def choose_rates(experiment: Experiment, results: Results) -> dict[Arm, float]:
    """The learning rate of each arm: the best median validation metric over the tuning seeds.

    Ties go to the lower median validation loss, then to the smaller rate. The compared seeds and the test
    data have no part in it.
    """
    if not experiment.tuned:
        return dict.fromkeys(experiment.arms, experiment.learning_rates[0])
    sign = _sign(experiment)
    finals = {run: _final(result) for run, result in results.items()}
    worst = _worst(experiment, list(finals.values()), "val")

    def quality(arm: Arm, rate: float) -> tuple[float, float]:
        runs = [experiment.run(arm, seed, rate) for seed in TUNING_SEEDS]
        metric = np.median(worst_for_failures([finals[run] for run in runs], worst))
        loss = np.median([results[run].val_loss[-1] if results[run].status == "finished" else math.inf for run in runs])
        return sign * float(metric), -float(loss)

    # max keeps the first of equals, and the rates ascend
    return {arm: max(experiment.learning_rates, key=lambda rate: quality(arm, rate)) for arm in experiment.arms}


def _by_rate(experiment: Experiment, arm: Arm, results: Results) -> tuple[RateSummary, ...]:
    seeds = TUNING_SEEDS if experiment.auto else range(experiment.seeds)
    worst = _worst(experiment, [_final(result) for result in results.values()], "val")
    rows = []
    for rate in experiment.learning_rates:
        found = [results[experiment.run(arm, seed, rate)] for seed in seeds]
        low, median, high = np.quantile(worst_for_failures([_final(r) for r in found], worst), (0.25, 0.5, 0.75))
        diverged = sum(r.status == "diverged" for r in found)
        rows.append(RateSummary(rate, float(median), float(low), float(high), len(found), diverged))
    return tuple(rows)


def steps_to(result: RunResult, target: float, sign: float) -> float:
    """Steps until the validation metric is first at the target; infinite if it never is."""
    for step, value in zip(result.steps, result.val_metric, strict=True):
        if math.isfinite(value) and sign * (value - target) >= 0:
            return step
    return math.inf


def is_stuck(experiment: Experiment, result: RunResult) -> bool:
    """Whether a finished run is no better on validation data than a constant prediction could be by chance."""
    constant = _constant(experiment, "val")
    if experiment.task.kind == "classification":
        return not _final(result) > majority_bound(constant, len(experiment.task.y_val))
    return not _final(result) < constant


def analyse(experiment: Experiment, results: Results) -> Analysis:
    """Everything that the table, the report and the verdicts say.

    Args:
        experiment: What was compared.
        results: All its runs.
    """
    sign, metric = _sign(experiment), experiment.task.metric
    rates = choose_rates(experiment, results)
    runs = {a: [results[experiment.run(a, s, rates[a])] for s in range(experiment.seeds)] for a in experiment.arms}
    values = {a: [r.test_metric for r in rs] for a, rs in runs.items()}
    worst = _worst(experiment, [v for vs in values.values() for v in vs], "test")
    filled = {a: worst_for_failures(vs, worst) for a, vs in values.items()}
    others = [arm for arm in experiment.arms if arm != experiment.baseline]
    compared = {}
    if others:
        table = np.array([sign * filled[arm] for arm in others])
        compared = dict(zip(others, compare_paired(table, sign * filled[experiment.baseline]), strict=True))
    constant = _constant(experiment, "val")
    finals = {a: [_final(r) for r in rs] for a, rs in runs.items()}
    worst_val = _worst(experiment, [v for vs in finals.values() for v in vs], "val")
    medians = [np.median(worst_for_failures(vs, worst_val)) for vs in finals.values()]
    best = max(medians, key=lambda value: sign * value)
    target = float(constant + _TARGET_SHARE * (best - constant))
    by_rate = {arm: _by_rate(experiment, arm, results) for arm in experiment.arms}

    def summary(arm: Arm) -> ArmSummary:
        """What the runs of one initializer came to, at its learning rate."""
        diverged = sum(r.status == "diverged" for r in runs[arm])
        stuck = sum(r.status == "finished" and is_stuck(experiment, r) for r in runs[arm])
        comparison = compared.get(arm)
        verdict = _verdict(comparison)
        edges = (experiment.learning_rates[0], experiment.learning_rates[-1])
        return ArmSummary(
            arm=arm,
            learning_rate=rates[arm],
            at_edge=experiment.tuned and rates[arm] in edges,
            values=tuple(values[arm]),
            median=float(np.median(filled[arm])),
            trained=experiment.seeds - diverged - stuck,
            stuck=stuck,
            diverged=diverged,
            steps_to_target=float(np.median([steps_to(r, target, sign) for r in runs[arm]])),
            by_rate=by_rate[arm],
            comparison=comparison,
            verdict=verdict,
            sentence=_sentence(experiment, arm, verdict, comparison, stuck, diverged),
        )

    arms = tuple(summary(arm) for arm in experiment.arms)
    return Analysis(metric, constant, target, arms, _notes(experiment, arms, len(others)))


def _verdict(comparison: Comparison | None) -> str:
    if comparison is None:
        return "baseline"
    if comparison.seeds < MINIMUM_SEEDS:
        return "too few seeds"
    if comparison.p_adjusted > SIGNIFICANT:
        return "not decided"
    return "better" if comparison.difference > 0 else "worse"


def amount(experiment: Experiment, value: float, signed: bool = False) -> str:
    """A difference of the metric in words' units: percentage points of accuracy, or loss."""
    if not math.isfinite(value):
        return "unknown"
    plus = "+" if signed else ""
    return f"{100 * value:{plus}.1f}" if experiment.task.metric == "accuracy" else f"{value:{plus}.3g}"


def _sentence(
    experiment: Experiment, arm: Arm, verdict: str, comparison: Comparison | None, stuck: int, diverged: int
) -> str:
    name, base = arm.label, experiment.baseline.label
    troubles = [
        f"{count} of {experiment.seeds} runs {what}"
        for count, what in ((diverged, "diverged"), (stuck, "stayed at a constant prediction"))
        if count
    ]
    trouble = f" {' and '.join(troubles).capitalize()}." if troubles else ""
    if comparison is None:
        return f"{name} is the baseline.{trouble}"
    unit = "points of test accuracy" if experiment.task.metric == "accuracy" else "of test loss"
    low, high = amount(experiment, comparison.low, True), amount(experiment, comparison.high, True)
    interval = f"95 % interval {low} to {high}" if math.isfinite(comparison.low) else "no 95 % interval below 6 seeds"
    evidence = f"({interval}, p = {comparison.p_adjusted:.3f}, {comparison.seeds} seeds)"
    by = amount(experiment, comparison.difference, True)
    if verdict in ("better", "worse"):
        size = amount(experiment, abs(comparison.difference))
        return f"{name} is {verdict} than {base} by {size} {unit} {evidence}.{trouble}"
    if verdict == "too few seeds":
        few = f"but {comparison.seeds} seeds cannot decide"
        return f"{name} differs from {base} by {by} {unit}, {few} {evidence}.{trouble}"
    # By itself the interval may leave out 0 and yet not hold among so many comparisons.
    alone = " once all comparisons are adjusted for" if comparison.low * comparison.high > 0 else ""
    return f"{name} could not be told from {base}{alone}: {by} {unit} {evidence}.{trouble}"


def _notes(experiment: Experiment, arms: tuple[ArmSummary, ...], comparisons: int) -> tuple[str, ...]:
    notes = []
    if comparisons and experiment.seeds < MINIMUM_SEEDS:
        notes.append(
            f"With {experiment.seeds} seeds p cannot fall below {smallest_p(experiment.seeds):.3g}: "
            f"nothing can be called better or worse below {MINIMUM_SEEDS}."
        )
    if comparisons > 1:
        notes.append(f"p is adjusted for {comparisons} comparisons.")
    if not experiment.tuned:
        rate = experiment.learning_rates[0]
        notes.append(
            f"Everything ran at learning rate {rate:g}, as you asked: how far the order depends on it was not "
            "measured. Give several --lr, or --lr auto."
        )
        return tuple(notes)
    sign = _sign(experiment)
    winners = {}
    for index, rate in enumerate(experiment.learning_rates):
        winners[rate] = max(arms, key=lambda each: sign * each.by_rate[index].median).arm.label
    if len(set(winners.values())) > 1:
        listed = ", ".join(f"{name} at {rate:g}" for rate, name in winners.items())
        notes.append(f"The winner depends on the learning rate: best on validation data is {listed}.")
    else:
        notes.append(f"{next(iter(winners.values()))} is best on validation data at every learning rate tried.")
    notes += _reversals(experiment, arms)
    edge = [each.arm.label for each in arms if each.at_edge and each.trained]
    if edge:
        notes.append(
            f"The chosen rate is the smallest or largest tried for {', '.join(edge)}: wider rates may suit better."
        )
    return tuple(notes)


def _reversals(experiment: Experiment, arms: tuple[ArmSummary, ...]) -> list[str]:
    """Verdicts that one shared learning rate would have turned round."""
    sign = _sign(experiment)
    base = next(each for each in arms if each.arm == experiment.baseline)
    notes = []
    for each in arms:
        if each.verdict not in ("better", "worse"):
            continue
        direction = 1 if each.verdict == "better" else -1
        turned = [
            f"{own.learning_rate:g}"
            for own, other in zip(each.by_rate, base.by_rate, strict=True)
            if direction * sign * (own.median - other.median) < 0
        ]
        if turned:
            notes.append(
                f"{each.arm.label} is {each.verdict} than {base.arm.label} when each has its own learning rate, "
                f"but the order is the other way round when both train at {' or '.join(turned)}."
            )
    return notes
