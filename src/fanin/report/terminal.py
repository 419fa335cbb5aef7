"""The table and the sentences that end a comparison on the terminal."""

import math
from typing import TYPE_CHECKING

from fanin.experiments.analysis import ArmSummary, amount
from fanin.experiments.results import Results

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["table", "text"]

_STYLES = {"better": "green", "worse": "red", "baseline": "bold"}


def table(results: Results) -> "Table":
    """One row for each initializer."""
    from rich.markup import escape
    from rich.table import Table

    experiment, analysis = results.experiment, results.analysis
    rows = Table(
        title=escape(
            f"{experiment.task.name}, {experiment.model.text}, {experiment.settings.optimizer}, "
            f"{experiment.settings.epochs} epochs, {experiment.seeds} seeds"
        ),
        title_justify="left",
        title_style="bold",
        caption=escape(
            f"difference: mean over seeds against {experiment.baseline.label}; "
            f"steps: median until validation {analysis.metric} reaches {analysis.target:.3g}"
        ),
        caption_justify="left",
    )
    rows.add_column("initializer", no_wrap=True)
    unit = "%" if analysis.metric == "accuracy" else ""
    for name in ("lr", f"test {analysis.metric} {unit}".strip(), "difference", "95 % interval", "p", "steps"):
        rows.add_column(name, justify="right", no_wrap=True)
    rows.add_column("runs", no_wrap=True)
    rows.add_column("verdict", no_wrap=True)
    for arm in analysis.arms:
        rows.add_row(*map(escape, _row(results, arm)), style=_STYLES.get(arm.verdict))
    return rows


def _row(results: Results, arm: ArmSummary) -> list[str]:
    experiment, c = results.experiment, arm.comparison
    outcome = [
        f"{n} {what}" for n, what in ((arm.trained, "trained"), (arm.stuck, "stuck"), (arm.diverged, "diverged")) if n
    ]
    interval = ""
    if c is not None and math.isfinite(c.low):
        interval = f"{amount(experiment, c.low, True)} to {amount(experiment, c.high, True)}"
    return [
        arm.arm.label,
        f"{arm.learning_rate:g}",
        amount(experiment, arm.median),
        "" if c is None else amount(experiment, c.difference, True),
        interval,
        "" if c is None else f"{c.p_adjusted:.3f}",
        f"{arm.steps_to_target:.0f}" if math.isfinite(arm.steps_to_target) else "never",
        ", ".join(outcome),
        arm.verdict,
    ]


def text(results: Results) -> list[str]:
    """One sentence for each initializer, then what holds for all."""
    return [*(arm.sentence for arm in results.analysis.arms), "", *results.analysis.notes, *results.notes]
