"""The figures of a comparison: which questions its runs can answer, and with what numbers."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fanin.activations import saturation
from fanin.experiments.analysis import ArmSummary, amount, steps_to
from fanin.experiments.results import Results
from fanin.experiments.spec import TUNING_SEEDS
from fanin.records import InitialSignals, RunResult
from fanin.report.charts import Axis, Forest, Interval, Line, Lines, Panel, Share, Shares
from fanin.report.predictions import Predicted, predicted
from fanin.stats import kaplan_meier

__all__ = ["panels"]

_QUARTILES = (0.25, 0.5, 0.75)
_DECILES = (0.1, 0.5, 0.9)
_MOST_POINTS = 100
"""So many points of a curve are drawn; more could not be told apart, and would make the page large."""
_OUTCOMES = {"trained": "#009E73", "stuck": "#A67C00", "diverged": "#D55E00"}
_SIGNALS = {"signal_rms": "pre-activation", "gradient_rms": "gradient"}
_GEOMETRY = {"cosine": "cosine between examples", "dead": "dead units, %", "saturated": "saturated, %"}
_CAN_BE: dict[str, Callable[[str], bool]] = {
    "cosine": lambda _: True,
    "dead": lambda activation: activation in ("relu", "relu6"),
    "saturated": lambda activation: math.isfinite(saturation(activation)),
}
"""Which activations make it worth drawing."""
_WHAT = "initializer"


def panels(results: Results) -> list[Panel]:
    """The figures that the data allows, in the order in which they are read."""
    made = (
        _forest(results),
        _rates(results),
        _outcomes(results),
        _arrival(results),
        _curves(results),
        _signals(results),
        _geometry(results),
    )
    return [panel for panel in made if panel is not None]


def _labels(results: Results) -> tuple[str, ...]:
    return tuple(arm.arm.label for arm in results.analysis.arms)


def _chosen(results: Results, arm: ArmSummary) -> list[RunResult]:
    """The compared runs of an initializer at its learning rate, by seed."""
    experiment = results.experiment
    return [results.runs[experiment.run(arm.arm, seed, arm.learning_rate)] for seed in range(experiment.seeds)]


def _forest(results: Results) -> Panel | None:
    arms = [arm for arm in results.analysis.arms if arm.comparison is not None]
    if not arms:
        return None
    scale = 100.0 if results.analysis.metric == "accuracy" else 1.0
    # An initializer that does not train lies so far off that the others could not be told apart beside it.
    near = [arm for arm in arms if 2 * arm.trained > results.experiment.seeds] or arms
    ends = [scale * end for arm in near for end in _ends(arm) if math.isfinite(end)]
    domain = (min(0.0, *ends), max(0.0, *ends))

    def row(arm: ArmSummary) -> Interval:
        """The difference of one initializer to the baseline."""
        effect, low, high = (scale * end for end in _ends(arm))
        failed = f", {arm.diverged} diverged" if arm.diverged else ""
        note = f"{arm.verdict}, n = {results.experiment.seeds}{failed}"
        return Interval(arm.arm.label, arm.arm.label, effect, low, high, note, not domain[0] <= effect <= domain[1])

    points = results.analysis.metric == "accuracy"
    what = "points of test accuracy" if points else "test loss (sign turned: right is better)"
    return Panel(
        "forest",
        f"Is it better than {results.experiment.baseline.label}?",
        "Mean difference over paired seeds with its 95 % interval (exact, by subset means), each initializer at its "
        "own learning rate. Right of zero is better. The verdict also adjusts for the number of comparisons. A "
        "triangle at the edge stands for an initializer far outside, with its value.",
        (Forest(Axis(f"difference in {what}", domain=domain), tuple(map(row, arms))),),
        _labels(results),
        _WHAT,
    )


def _ends(arm: ArmSummary) -> tuple[float, float, float]:
    """Difference to the baseline, and the ends of its interval."""
    assert arm.comparison is not None  # the baseline has no row
    return arm.comparison.difference, arm.comparison.low, arm.comparison.high


def _rates(results: Results) -> Panel | None:
    experiment = results.experiment
    if not experiment.tuned:
        return None
    seeds = TUNING_SEEDS if experiment.auto else tuple(range(experiment.seeds))

    def line(arm: ArmSummary) -> Line:
        """Final validation loss of one initializer at each rate."""
        losses = np.array([
            [results.runs[experiment.run(arm.arm, seed, rate)].val_loss[-1] for rate in experiment.learning_rates]
            for seed in seeds
        ])  # fmt: skip
        gone = (~np.isfinite(losses)).sum(axis=0)
        low, median, high = np.quantile(np.where(np.isfinite(losses), losses, np.inf), _QUARTILES, axis=0,
                                        method="nearest")  # fmt: skip
        chosen = experiment.learning_rates.index(arm.learning_rate)
        notes = tuple(
            ", ".join(["chosen"] * (i == chosen) + [f"{count} of {len(seeds)} diverged"] * bool(count))
            for i, count in enumerate(gone.tolist())
        )
        return Line(arm.arm.label, experiment.learning_rates, tuple(median.tolist()), tuple(low.tolist()),
                    tuple(high.tolist()), notes=notes, rings=(chosen,))  # fmt: skip

    return Panel(
        "rates",
        "Or does it just like this learning rate?",
        f"Final validation loss against learning rate: median and quartiles over {len(seeds)} seeds; a ring marks the "
        f"rate chosen by validation {results.analysis.metric} on other seeds. A diverged run counts as infinite: a "
        "line ends where most runs diverge.",
        (
            Lines(
                Axis("learning rate", log=True, ticks=experiment.learning_rates),
                Axis("final validation loss", log=True),
                tuple(map(line, results.analysis.arms)),
                band="quartiles",
            ),
        ),
        _labels(results),
        _WHAT,
    )


def _outcomes(results: Results) -> Panel:
    rows = tuple(
        Share(arm.arm.label, tuple(getattr(arm, outcome) for outcome in _OUTCOMES)) for arm in results.analysis.arms
    )
    return Panel(
        "outcomes",
        "Does it train at all?",
        "Share of the compared runs. Stuck: at the end no better on validation data than a constant prediction could "
        "be by chance. Diverged: the training loss stopped being a number.",
        (Shares(Axis("share of runs, %", domain=(0.0, 100.0)), tuple(_OUTCOMES), tuple(_OUTCOMES.values()), rows),),
        _labels(results),
        _WHAT,
    )


def _arrival(results: Results) -> Panel:
    sign = 1.0 if results.analysis.metric == "accuracy" else -1.0
    target = results.analysis.target
    last = max(run.steps[-1] for run in results.runs.values())

    def line(arm: ArmSummary) -> Line:
        """Share of one initializer's runs that have arrived."""
        times = [steps_to(run, target, sign) for run in _chosen(results, arm)]
        steps, shares = kaplan_meier([min(time, last) for time in times], [math.isfinite(time) for time in times])
        x = (0.0, *steps, float(last))
        y = (0.0, *shares, shares[-1] if len(shares) else 0.0)
        return Line(arm.arm.label, tuple(map(float, x)), tuple(100 * float(share) for share in y))

    shown = amount(results.experiment, target) + (" %" if results.analysis.metric == "accuracy" else "")
    return Panel(
        "arrival",
        "How fast does it get there?",
        f"Share of runs whose validation {results.analysis.metric} has reached {shown} (95 % of the way from a "
        "constant prediction to the best initializer's median). Runs that never arrive stay in.",
        (
            Lines(
                Axis("step", domain=(0.0, float(last))), Axis("runs arrived, %", domain=(0.0, 100.0)),
                tuple(map(line, results.analysis.arms)), steps=True,
            ),
        ),
        _labels(results),
        _WHAT,
    )  # fmt: skip


def _curves(results: Results) -> Panel:
    lines: list[Line] = []
    places: list[int] = []
    for arm in results.analysis.arms:
        runs = _chosen(results, arm)
        places = _thinned(len(runs[0].steps))
        steps = tuple(float(runs[0].steps[i]) for i in places)
        table = np.array([run.train_loss for run in runs])[:, places]
        lines += [
            Line(arm.arm.label, steps, tuple(losses), name=f"seed {seed}", kind="thin")
            for seed, losses in enumerate(table.tolist())
        ]
        # A run that has diverged counts as infinite, so that the median is over all runs at every step.
        median = np.median(np.where(np.isfinite(table), table, np.inf), axis=0)
        lines.append(Line(arm.arm.label, steps, tuple(median.tolist()), name="median"))
    every = len(_chosen(results, results.analysis.arms[0])[0].steps)
    fewer = f" Of {every} evaluations {len(places)} are drawn, evenly spaced." if len(places) < every else ""
    xs, ys = _span([x for line in lines for x in line.x]), _span([y for line in lines for y in line.y])
    return Panel(
        "curves",
        "What happens during training?",
        "Training loss against steps (mean since the evaluation before), each seed thin, the median of "
        f"{results.experiment.seeds} thick; a line ends where its run diverged.{fewer}",
        (Lines(Axis("step", domain=xs), Axis("training loss", log=True, domain=ys), tuple(lines), apart=True),),
        _labels(results),
        _WHAT,
    )


def _span(values: Sequence[float]) -> tuple[float, float] | None:
    """From the smallest to the largest number above 0; None where there are no two."""
    usable = [value for value in values if math.isfinite(value) and value > 0]
    return (min(usable), max(usable)) if len(set(usable)) > 1 else None


def _thinned(count: int) -> list[int]:
    """Evenly spaced places of a curve, the first and the last among them.

    Example:
        >>> _thinned(3), len(_thinned(1000)), _thinned(1000)[-1]
        ([0, 1, 2], 100, 999)
    """
    return [round(place) for place in np.linspace(0, count - 1, min(count, _MOST_POINTS)).tolist()]


def _known(results: Results) -> dict[ArmSummary, list[InitialSignals]]:
    """The signals of the compared runs of each initializer, where there are any."""
    measured = {
        arm: [run.signals for run in _chosen(results, arm) if run.signals is not None] for arm in results.analysis.arms
    }
    return {arm: signals for arm, signals in measured.items() if signals and signals[0].layers}


def _layer_names(signals: Sequence[InitialSignals]) -> tuple[str, ...]:
    return tuple(layer.rsplit("/", 1)[-1] for layer in signals[0].layers)


def _signals(results: Results) -> Panel | None:
    known = _known(results)
    if not known:
        return None
    theory = {arm: predicted(results.experiment, arm.arm) for arm in known}
    lines: dict[str, list[Line]] = {}
    zeros: list[str] = []
    for kind, what in _SIGNALS.items():
        for arm, signals in known.items():
            names = _layer_names(signals)
            line = _ribbon(arm.arm.label, names, np.array([getattr(each, kind) for each in signals]))
            lines.setdefault(kind, []).append(line)
            lines[kind] += _theory_line(line, theory[arm], kind)
            zero = [name for name, y in zip(names, line.y, strict=True) if y == 0]
            zeros += [f"{arm.arm.label}: {what} exactly 0 in {', '.join(zero)}"] if zero else []
    said = any(theory.values())
    layer = Axis("layer", ticks=lines["signal_rms"][0].x)
    return Panel(
        "signals",
        "Do signal and gradient survive before the first step?",
        "Root mean square of each layer's pre-activation, and of the loss's gradient with respect to it, on up to 256 "
        "training examples before the first step: median and 10 to 90 % band over seeds. Exact zeros cannot be drawn "
        "on a logarithmic axis and are listed below."
        + (" Dashed: theory for infinitely wide layers; of the gradient, from its measured size at the output." * said),
        tuple(
            Lines(layer, Axis(f"{what} RMS", log=True), tuple(lines[kind]), band="10 to 90 %", dashed="theory" * said)
            for kind, what in _SIGNALS.items()
        ),
        _labels(results),
        _WHAT,
        (*zeros, *_unpredicted(theory)),
    )


def _geometry(results: Results) -> Panel | None:
    """Cosines, and units that are dead or saturated, where the activation can make them so."""
    known = {arm: signals for arm, signals in _known(results).items() if all(each.cosine for each in signals)}
    lines: dict[str, tuple[Line, ...]] = {}
    for kind, share in (("cosine", 1.0), ("dead", 100.0), ("saturated", 100.0)):
        shown = {arm: signals for arm, signals in known.items() if _CAN_BE[kind](arm.arm.activation)}
        # No activation follows the last layer that could switch its units off.
        last = None if kind == "cosine" else -1
        lines[kind] = tuple(
            _ribbon(arm.arm.label, names, share * np.array([getattr(each, kind)[:last] for each in signals]))
            for arm, signals in shown.items()
            if (names := _layer_names(signals)[:last])
        )
    drawn = {kind: ribbons for kind, ribbons in lines.items() if ribbons}
    if not known:
        return None
    layer = Axis("layer", ticks=drawn["cosine"][0].x)
    return Panel(
        "geometry",
        "Are examples told apart, and are units off, before the first step?",
        "Each layer's pre-activations on up to 256 training examples: the mean cosine between two examples (near 1 "
        "they can hardly be told apart)"
        + (", the share of units that are above 0 for none of them (dead under ReLU)" * ("dead" in drawn))
        + (", the share of values where the activation is within 1 % of its bounds" * ("saturated" in drawn))
        + ". Median and 10 to 90 % band over seeds.",
        tuple(Lines(layer, Axis(_GEOMETRY[kind]), ribbons, band="10 to 90 %") for kind, ribbons in drawn.items()),
        _labels(results),
        _WHAT,
    )


def _ribbon(label: str, names: Sequence[str], values: NDArray[np.float64]) -> Line:
    """Median and deciles over seeds by layer; `values` has shape (seeds, layers)."""
    with np.errstate(invalid="ignore"):  # between two infinite values there is no number
        low, median, high = np.quantile(values, _DECILES, axis=0).tolist()
    return Line(label, tuple(float(i) for i in range(1, len(names) + 1)), tuple(median), tuple(low), tuple(high),
                name="measured", notes=tuple(names))  # fmt: skip


def _theory_line(measured: Line, theory: Predicted | None, kind: str) -> list[Line]:
    """What theory expects beside what was measured; none where it does not speak of these layers."""
    if theory is None or len(theory.signal) != len(measured.x):
        return []
    values = theory.signal if kind == "signal_rms" else tuple(measured.y[-1] * ratio for ratio in theory.gradient)
    return [Line(measured.label, measured.x, values, name="theory", kind="dashed", notes=measured.notes)]


def _unpredicted(theory: dict[ArmSummary, Predicted | None]) -> list[str]:
    """A sentence on the initializers of which theory does not speak, where it speaks of others."""
    silent = [arm.arm.label for arm, found in theory.items() if found is None]
    return [f"Theory does not speak of {', '.join(silent)}."] if silent and len(silent) < len(theory) else []
