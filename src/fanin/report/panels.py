"""What each plot shows, as plain rows: decided once, drawn by the HTML report and by Matplotlib alike."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fanin.experiments.analysis import ArmSummary, steps_to
from fanin.experiments.results import Results
from fanin.experiments.spec import TUNING_SEEDS
from fanin.records import RunResult
from fanin.stats import kaplan_meier

__all__ = ["COLOURS", "Panel", "panels"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#8C6D1F")
"""Told apart with any common colour blindness (after Okabe and Ito); used in the order of the initializers."""

_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        name: Which drawing function takes it.
        question: What the plot answers; its title.
        caption: What its marks and bands mean.
        data: Rows and scalars, ready for JSON but for numbers that are not finite.
    """

    name: str
    question: str
    caption: str
    data: dict[str, Any]


def panels(results: Results) -> list[Panel]:
    """The plots that the data allows, in the order in which they are read."""
    made = (
        _forest(results),
        _rates(results),
        _outcomes(results),
        _arrival(results),
        _curves(results),
        _signals(results),
    )
    return [panel for panel in made if panel is not None]


def _chosen(results: Results, arm: ArmSummary) -> list[RunResult]:
    """The compared runs of an initializer at its learning rate, by seed."""
    experiment = results.experiment
    return [results.runs[experiment.run(arm.arm, seed, arm.learning_rate)] for seed in range(experiment.seeds)]


def _unit(results: Results) -> tuple[float, str]:
    """Factor and unit in which the metric is shown."""
    return (100.0, "accuracy, %") if results.analysis.metric == "accuracy" else (1.0, "loss")


def _forest(results: Results) -> Panel | None:
    scale, unit = _unit(results)
    rows: list[dict[str, Any]] = [
        {
            "label": arm.arm.label,
            "difference": scale * arm.comparison.difference,
            "low": scale * arm.comparison.low,
            "high": scale * arm.comparison.high,
            "note": f"n = {arm.comparison.seeds}" + (f", {arm.diverged} diverged" if arm.diverged else ""),
            "verdict": arm.verdict,
            "trains": 2 * arm.trained > results.experiment.seeds,
        }
        for arm in results.analysis.arms
        if arm.comparison is not None
    ]
    if not rows:
        return None
    # An initializer that does not train lies so far off that the others could not be told apart beside it.
    near = [row for row in rows if row["trains"]] or rows
    ends = [row[key] for row in near for key in ("difference", "low", "high") if math.isfinite(row[key])]
    domain = [min(0.0, *ends), max(0.0, *ends)]
    for row in rows:
        row["off"] = not domain[0] <= row["difference"] <= domain[1]
    what = "points of test accuracy" if scale == 100 else "test loss (sign turned: right is better)"
    return Panel(
        "forest",
        f"Is it better than {results.experiment.baseline.label}?",
        "Mean difference over paired seeds with its 95 % interval (exact, by subset means), each initializer at its "
        "own learning rate. Right of zero is better. The verdict also adjusts for the number of comparisons. A "
        "triangle at the edge stands for an initializer far outside, with its value.",
        {"rows": rows, "domain": domain, "x": f"difference in {what}", "unit": unit},
    )


def _rates(results: Results) -> Panel | None:
    experiment = results.experiment
    if not experiment.tuned:
        return None
    seeds = TUNING_SEEDS if experiment.auto else tuple(range(experiment.seeds))
    rows = []
    for arm in results.analysis.arms:
        for rate in experiment.learning_rates:
            losses = [results.runs[experiment.run(arm.arm, seed, rate)].val_loss[-1] for seed in seeds]
            low, median, high = np.quantile(np.where(np.isfinite(losses), losses, np.inf), _QUARTILES, method="nearest")
            rows.append({
                "label": arm.arm.label, "rate": rate, "median": float(median), "low": float(low), "high": float(high),
                "diverged": int(np.sum(~np.isfinite(losses))), "chosen": rate == arm.learning_rate,
            })  # fmt: skip
    return Panel(
        "rates",
        "Or does it just like this learning rate?",
        f"Final validation loss against learning rate: median and quartiles over {len(seeds)} seeds; a ring marks the "
        f"rate chosen by validation {results.analysis.metric} on other seeds. A diverged run counts as infinite: a "
        "line ends where most runs diverge.",
        {"rows": rows},
    )


def _outcomes(results: Results) -> Panel:
    rows = [
        {
            "label": arm.arm.label,
            "outcome": outcome,
            "share": getattr(arm, outcome) / results.experiment.seeds,
        }
        for arm in results.analysis.arms
        for outcome in ("trained", "stuck", "diverged")
    ]
    return Panel(
        "outcomes",
        "Does it train at all?",
        "Share of the compared runs. Stuck: at the end no better on validation data than a constant prediction could "
        "be by chance. Diverged: the training loss stopped being a number.",
        {"rows": rows},
    )


def _arrival(results: Results) -> Panel:
    sign = 1.0 if results.analysis.metric == "accuracy" else -1.0
    target, rows = results.analysis.target, []
    last = 0
    for arm in results.analysis.arms:
        runs = _chosen(results, arm)
        last = runs[0].steps[-1]
        times = [steps_to(run, target, sign) for run in runs]
        arrived = [math.isfinite(time) for time in times]
        steps, shares = kaplan_meier([min(time, last) for time in times], arrived)
        ends = [(0.0, 0.0), *zip(steps, shares, strict=True), (float(last), shares[-1] if shares else 0.0)]
        rows += [{"label": arm.arm.label, "step": step, "share": share} for step, share in ends]
    return Panel(
        "arrival",
        "How fast does it get there?",
        f"Share of runs whose validation {results.analysis.metric} has reached {target:.3g} (95 % of the way from a "
        "constant prediction to the best initializer's median). Runs that never arrive stay in.",
        {"rows": rows, "last": last},
    )


def _curves(results: Results) -> Panel:
    rows: list[dict[str, Any]] = []
    for arm in results.analysis.arms:
        runs = _chosen(results, arm)
        table = np.array([run.train_loss for run in runs])
        for seed, losses in enumerate(table):
            rows += [
                {"label": arm.arm.label, "line": f"seed {seed}", "step": step, "loss": loss}
                for step, loss in zip(runs[0].steps, losses.tolist(), strict=True)
            ]
        # A run that has diverged counts as infinite, so that the median is over all runs at every step.
        median = np.median(np.where(np.isfinite(table), table, np.inf), axis=0)
        rows += [
            {"label": arm.arm.label, "line": "median", "step": step, "loss": loss}
            for step, loss in zip(runs[0].steps, median.tolist(), strict=True)
        ]
    return Panel(
        "curves",
        "What happens during training?",
        "Training loss against steps (mean since the evaluation before), each seed thin, the median of "
        f"{results.experiment.seeds} thick; a line ends where its run diverged.",
        {"rows": rows},
    )


def _signals(results: Results) -> Panel | None:
    rows: list[dict[str, Any]] = []
    for arm in results.analysis.arms:
        signals = [run.signals for run in _chosen(results, arm) if run.signals is not None]
        if not signals or not signals[0].layers:
            continue
        for kind in ("signal_rms", "gradient_rms"):
            values = [getattr(s, kind) for s in signals]
            with np.errstate(invalid="ignore"):  # between two infinite values there is no number
                low, median, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
            rows += [
                {
                    "label": arm.arm.label, "kind": kind, "layer": i + 1, "name": layer.rsplit("/", 1)[-1],
                    "median": float(median[i]), "low": float(low[i]), "high": float(high[i]),
                }
                for i, layer in enumerate(signals[0].layers)
            ]  # fmt: skip
    if not rows:
        return None
    return Panel(
        "signals",
        "Do signal and gradient survive before the first step?",
        "Root mean square of each layer's pre-activation, and of the loss's gradient with respect to it, on up to 256 "
        "training examples before the first step: median and 10 to 90 % band over seeds. Exact zeros cannot be drawn "
        "on a logarithmic axis and are listed below the plot.",
        {"rows": rows, "zeros": _zeros(rows)},
    )


def _zeros(rows: list[dict[str, Any]]) -> list[str]:
    """Which initializers have layers whose signal or gradient is exactly zero."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["median"] == 0:
            found.setdefault((row["label"], row["kind"]), []).append(row["name"])
    names = {"signal_rms": "pre-activation", "gradient_rms": "gradient"}
    return [f"{label}: {names[kind]} exactly 0 in {', '.join(layers)}" for (label, kind), layers in found.items()]
