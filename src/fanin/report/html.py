"""The page of a comparison: the verdict first, then the figures, then every run."""

import math
from collections.abc import Mapping
from typing import Any

from fanin.experiments.analysis import ArmSummary, amount
from fanin.experiments.results import Results, system
from fanin.records import to_plain
from fanin.report.markup import Html, bullets, facts, joined, table, tag
from fanin.report.page import Section, command_box, document, folded
from fanin.report.panels import panels

__all__ = ["html"]

_GROUPS = (
    ("better", "Better than {base}"),
    ("worse", "Worse than {base}"),
    ("not decided", "Not to be told from {base}"),
    ("too few seeds", "Measured on too few seeds to be compared with {base}"),
)
"""What is said of the initializers of each verdict."""


def html(results: Results, command: str = "") -> str:
    """The report of a comparison as one document that loads nothing from elsewhere.

    Args:
        results: A finished comparison.
        command: The command that made it, shown so that it can be repeated.
    """
    experiment = results.experiment
    looked = "Test data is shown only where it was used: compared seeds at the chosen learning rate."
    return document(
        brand="fanin compare",
        title=f"{len(experiment.arms)} initializers on {experiment.task.name}",
        verdict=_verdict(results),
        lead=_lead(results),
        before=(
            Section("Each initializer", joined((_summary(results), _in_words(results)))),
            Section("Caveats", bullets([*results.analysis.notes, *results.notes])),
        ),
        panels=panels(results),
        after=(
            Section("By learning rate", _rates(results)),
            Section("How it was done", joined((command_box(command), _settings(results)))),
            Section(
                "Every run",
                joined((tag("p", looked, class_="caption"), folded("Show the table of runs", _runs(results)))),
            ),
        ),
    )


def _in_words(results: Results) -> Html:
    """The comparisons, a sentence each."""
    sentences = [arm.sentence for arm in results.analysis.arms if arm.comparison is not None]
    return folded("The same in words", bullets(sentences)) if sentences else Html()


def _difference(arm: ArmSummary) -> float:
    """Mean difference to the baseline; 0 for the baseline itself."""
    return 0.0 if arm.comparison is None else arm.comparison.difference


def _verdict(results: Results) -> str:
    """The answer: the best initializer, by how much and how sure, or that there is none."""
    base = results.experiment.baseline.label
    others = [arm for arm in results.analysis.arms if arm.comparison is not None]
    verdicts = {arm.verdict for arm in others}
    if not others:
        return f"{base} alone was run."
    if "better" in verdicts:
        return max((arm for arm in others if arm.verdict == "better"), key=_difference).sentence
    if "too few seeds" in verdicts:
        return f"{results.experiment.seeds} seeds cannot decide between {base} and the others."
    if verdicts == {"worse"}:
        return f"{base} is better than all others." if len(others) > 1 else others[0].sentence
    return f"No initializer is shown to be better than {base}."


def _lead(results: Results) -> list[str]:
    """The best median, who falls into which group, and what failed."""
    best, base = results.best, results.experiment.baseline.label
    unit = " %" if results.analysis.metric == "accuracy" else ""
    told = [f"Best median test {results.analysis.metric}: {best.arm.label}, "
            f"{amount(results.experiment, best.median)}{unit}."]  # fmt: skip
    if best.verdict in ("not decided", "too few seeds"):
        told.append(best.sentence)
    for verdict, words in _GROUPS:
        names = [arm.arm.label for arm in results.analysis.arms if arm.verdict == verdict]
        told += [f"{words.format(base=base)}: {', '.join(names)}."] if names else []
    return [*told, _failures(results)]


def _failures(results: Results) -> str:
    """How many of the compared runs did not train, and of which initializers."""
    arms, seeds = results.analysis.arms, results.experiment.seeds
    failed = {
        arm.arm.label: " and ".join(
            f"{count} of {seeds} {what}" for count, what in ((arm.stuck, "stuck"), (arm.diverged, "diverged")) if count
        )
        for arm in arms
        if arm.trained < seeds
    }
    if not failed:
        return f"All {len(arms) * seeds} compared runs trained."
    lost = len(arms) * seeds - sum(arm.trained for arm in arms)
    told = "; ".join(f"{label} {counts}" for label, counts in failed.items())
    return f"{lost} of {len(arms) * seeds} compared runs failed: {told}."


def _summary(results: Results) -> Html:
    experiment = results.experiment
    unit = " %" if results.analysis.metric == "accuracy" else ""

    def row(arm: ArmSummary) -> tuple[str, ...]:
        """The numbers of one initializer."""
        found = arm.comparison
        interval = (
            f"{amount(experiment, found.low, True)} to {amount(experiment, found.high, True)}"
            if found and math.isfinite(found.low)
            else ""
        )
        return (
            arm.arm.label, arm.verdict, f"{arm.learning_rate:g}", amount(experiment, arm.median),
            amount(experiment, found.difference, True) if found else "", interval,
            f"{found.p_adjusted:.3f}" if found else "", f"{arm.trained} / {arm.stuck} / {arm.diverged}",
            f"{arm.steps_to_target:.0f}" if math.isfinite(arm.steps_to_target) else "never",
        )  # fmt: skip

    head = (
        "initializer", "verdict", "learning rate", f"median test {results.analysis.metric}{unit}", "mean difference",
        "95 % interval", "p (adjusted)", "trained / stuck / diverged", "median steps to target",
    )  # fmt: skip
    return table("Each initializer", head, map(row, results.analysis.arms), head[2:])


def _rates(results: Results) -> Html:
    experiment = results.experiment
    rows = [
        (
            arm.arm.label, f"{each.learning_rate:g}", amount(experiment, each.median),
            f"{amount(experiment, each.low)} to {amount(experiment, each.high)}", str(each.seeds), str(each.diverged),
        )
        for arm in results.analysis.arms
        for each in arm.by_rate
    ]  # fmt: skip
    metric = f"median validation {results.analysis.metric}"
    head = ("initializer", "learning rate", metric, "quartiles", "seeds", "diverged")
    return folded("Show the table by learning rate", table("By learning rate", head, rows, head[1:]))


def _runs(results: Results) -> Html:
    shown = (
        "label", "seed", "learning_rate", "purpose", "status", "diverged_at", "train_loss", "val_loss", "val_metric",
        "test_loss", "test_metric", "seconds", "id",
    )  # fmt: skip
    rows = [tuple(_number(row[name]) for name in shown) for row in to_plain(results.rows())]
    head = tuple(name.replace("_", " ") for name in shown)
    return table("Every run", head, rows, set(head) - {"label", "purpose", "status", "id"})


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _settings(results: Results) -> Html:
    experiment, settings, task = results.experiment, results.experiment.settings, results.experiment.task
    made = "made with" if len(results.environments) == 1 else "made with ({})"
    return facts({
        "task": f"{task.name}: {len(task.x_train)} training, {len(task.x_val)} validation, {len(task.x_test)} test "
        f"examples of shape {task.x_train.shape[1:]}, {task.outputs} outputs (data {task.fingerprint[:12]})",
        "model": experiment.model.text,
        "training": f"{settings.optimizer}, batch size {settings.batch_size}, {settings.epochs} epochs, whole batches",
        "learning rates": ", ".join(f"{rate:g}" for rate in experiment.learning_rates)
        + (", chosen for each initializer on validation data and separate seeds" if experiment.tuned else ", fixed"),
        "seeds": f"{experiment.seeds}, the same for every initializer",
        "statistics": "exact sign-flip tests on paired seeds, adjusted over initializers by Holm's step-down on the "
        "joint distribution of the p values; a diverged run counts as the worst value",
        **{made.format(i): _facts(env) for i, env in enumerate(results.environments, 1)},
        "reported with": _facts(system()),
    })  # fmt: skip


def _facts(record: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in record.items())
