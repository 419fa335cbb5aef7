"""One self-contained HTML file: verdicts first, then the plots, then every run."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from fanin.experiments.analysis import amount
from fanin.experiments.results import Results, system
from fanin.records import to_plain
from fanin.report.panels import COLOURS, panels

__all__ = ["asset", "facts_of", "html", "listed", "tabled"]


def html(results: Results, command: str = "") -> str:
    """The report as one document that loads nothing from elsewhere.

    Plots are drawn by the embedded Observable Plot; without JavaScript every number is still there in tables.

    Args:
        results: A finished comparison.
        command: The command that made it, shown so that it can be repeated.
    """
    drawn = panels(results)
    payload = {
        "labels": [arm.arm.label for arm in results.analysis.arms],
        "colours": [COLOURS[i % len(COLOURS)] for i in range(len(results.analysis.arms))],
        "panels": [{"name": panel.name, **panel.data} for panel in drawn],
    }
    figures = "\n".join(
        f'<section class="plot"><h2>{escape(panel.question)}</h2>'
        f'<figure data-panel="{panel.name}" role="img" aria-label="{escape(panel.question)}"></figure>'
        f"<p class=caption>{escape(panel.caption)}</p>{listed(panel.data.get('zeros', []))}</section>"
        for panel in drawn
    )
    experiment = results.experiment
    title = f"{len(experiment.arms)} initializers on {experiment.task.name}"
    return Template(asset("report.html")).substitute(
        title=escape(title),
        style=asset("report.css"),
        lead=escape(_lead(results)),
        sentences=listed(arm.sentence for arm in results.analysis.arms if arm.comparison is not None),
        notes=listed([*results.analysis.notes, *results.notes]),
        summary=_summary(results),
        figures=figures,
        rates=_rates(results),
        runs=_runs(results),
        settings=_settings(results, command),
        payload=json.dumps(to_plain(payload), allow_nan=False).replace("<", "\\u003c"),
        d3=asset("d3-7.9.0.min.js"),
        plot=asset("plot-0.6.17.min.js"),
        script=asset("report.js"),
    )


def asset(name: str) -> str:
    """A file that pages embed."""
    return (files("fanin.report") / "assets" / name).read_text(encoding="utf-8")


def listed(lines: Iterable[str]) -> str:
    """Sentences as a list; nothing for none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _lead(results: Results) -> str:
    """The answer in one sentence."""
    verdicts: dict[str, list[str]] = {}
    for arm in results.analysis.arms:
        verdicts.setdefault(arm.verdict, []).append(arm.arm.label)
    base = results.experiment.baseline.label
    parts = [
        f"{', '.join(verdicts[verdict])} {'is' if len(verdicts[verdict]) == 1 else 'are'} {words} {base}"
        for verdict, words in (
            ("better", "better than"),
            ("worse", "worse than"),
            ("not decided", "not to be told from"),
            ("too few seeds", "measured on too few seeds to be compared with"),
        )
        if verdict in verdicts
    ]
    return ("; ".join(parts) or f"{base} alone was run") + "."


def tabled(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: set[int]) -> str:
    """A table; `numbers` are the columns that are set to the right."""

    def cells(row: Sequence[str], tag: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{' class=n' if i in numbers else ''}>{escape(text)}</{tag}>" for i, text in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"


def _summary(results: Results) -> str:
    experiment = results.experiment
    unit = " %" if results.analysis.metric == "accuracy" else ""
    rows = []
    for arm in results.analysis.arms:
        c = arm.comparison
        interval = (
            f"{amount(experiment, c.low, True)} to {amount(experiment, c.high, True)}"
            if c and math.isfinite(c.low)
            else ""
        )
        rows.append((
            arm.arm.label, arm.verdict, f"{arm.learning_rate:g}", amount(experiment, arm.median),
            amount(experiment, c.difference, True) if c else "", interval, f"{c.p_adjusted:.3f}" if c else "",
            f"{arm.trained} / {arm.stuck} / {arm.diverged}",
            f"{arm.steps_to_target:.0f}" if math.isfinite(arm.steps_to_target) else "never",
        ))  # fmt: skip
    head = (
        "initializer", "verdict", "learning rate", f"median test {results.analysis.metric}{unit}", "mean difference",
        "95 % interval", "p (adjusted)", "trained / stuck / diverged", "median steps to target",
    )  # fmt: skip
    return tabled(head, rows, {2, 3, 4, 5, 6, 7, 8})


def _rates(results: Results) -> str:
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
    return tabled(("initializer", "learning rate", metric, "quartiles", "seeds", "diverged"), rows, {1, 2, 3, 4, 5})


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _runs(results: Results) -> str:
    shown = (
        "label", "seed", "learning_rate", "purpose", "status", "diverged_at", "train_loss", "val_loss", "val_metric",
        "test_loss", "test_metric", "seconds", "id",
    )  # fmt: skip
    rows = [tuple(_number(row[name]) for name in shown) for row in to_plain(results.rows())]
    head = tuple(name.replace("_", " ") for name in shown)
    return tabled(head, rows, {1, 2, 5, 6, 7, 8, 9, 10, 11})


def _settings(results: Results, command: str) -> str:
    experiment, settings, task = results.experiment, results.experiment.settings, results.experiment.task
    facts = {
        "command": command,
        "task": f"{task.name}: {len(task.x_train)} training, {len(task.x_val)} validation, {len(task.x_test)} test "
        f"examples of shape {task.x_train.shape[1:]}, {task.outputs} outputs (data {task.fingerprint[:12]})",
        "model": experiment.model.text,
        "training": f"{settings.optimizer}, batch size {settings.batch_size}, {settings.epochs} epochs, whole batches",
        "learning rates": ", ".join(f"{rate:g}" for rate in experiment.learning_rates)
        + (", chosen for each initializer on validation data and separate seeds" if experiment.tuned else ", fixed"),
        "statistics": "exact sign-flip tests on paired seeds, adjusted over initializers by Holm's step-down on the "
        "joint distribution of the p values; a diverged run counts as the worst value",
        **{f"made with ({i})" if len(results.environments) > 1 else "made with": _facts(env)
           for i, env in enumerate(results.environments, 1)},
        "reported with": _facts(system()),
    }  # fmt: skip
    return facts_of(facts)


def facts_of(facts: Mapping[str, str]) -> str:
    """What is known, a term and its value each; empty values are left out."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items() if value)
    return f"<dl>{rows}</dl>"


def _facts(record: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in record.items())
