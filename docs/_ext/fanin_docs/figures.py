"""The figures of the guide, drawn from stored results or from the theory."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fanin import theory
from fanin.report.charts import COLOURS
from fanin.studies import STUDIES
from fanin_docs.stored import everything, stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FIGURES", "Picture", "svg"]

_INK = "#010203"
"""Stands for the page's text colour, which replaces it: so figures can be read in light and in dark."""
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}
_MARKS = "os^Dv"
_SMALLEST = float(np.finfo(np.float32).tiny)
_VERDICTS = {
    "supported": (COLOURS[2], "o"),
    "refuted": (COLOURS[1], "s"),
    "not decided at this size": (COLOURS[6], "D"),
}


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        draw: Draws into an empty figure.
        size: Width and height in inches.
        studies: Those whose results it shows; empty if it shows theory alone, or all.
        origin: Where it comes from if it names no studies, in Markdown.
    """

    draw: Callable[[Figure], None]
    size: tuple[float, float]
    studies: tuple[str, ...] = ()
    origin: str = "Computed by `fanin.theory`."


def svg(name: str, alt: str) -> str:
    """A figure as an SVG element to stand in a page.

    Args:
        name: One of `FIGURES`.
        alt: What it shows, for who cannot see it.
    """
    picture, stream = FIGURES[name], io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=picture.size, layout="constrained")
        picture.draw(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # Several figures may stand on one page, and Matplotlib gives parts of each the same names.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


def _width_of(study: str) -> int:
    """Units of a hidden layer in the stored run of a study that trains one network."""
    design: Any = STUDIES[study].run
    return int(getattr(design, stored(study).answer.size).widths[0])


def _by_layer(found: Mapping[str, Sequence[float]], quantity: str) -> NDArray[np.float64]:
    """Of an arm of `what-not-to-do`, shape (layers, seeds)."""
    names = sorted((key for key in found if key.startswith(f"{quantity} ")), key=lambda key: int(key.rsplit(" ", 1)[1]))
    return np.array([found[name] for name in names])


def _mistakes(figure: Figure) -> None:
    """Signal and gradient by layer from five starts, measured and, for random ones, as theory predicts."""
    numbers, width = stored("what-not-to-do").answer.numbers, _width_of("what-not-to-do")
    predicted = {
        "glorot_normal": 1.0,
        "random_normal(stddev=0.001)": width * 0.001**2,
        "random_normal(stddev=1.0)": float(width),
    }
    left, right = figure.subplots(1, 2)
    for colour, mark, (arm, found) in zip(COLOURS, _MARKS, numbers.items(), strict=False):
        signal, gradient = _by_layer(found, "signal"), _by_layer(found, "gradient")
        layers, style = np.arange(1, len(signal) + 1), {"color": colour, "markersize": 3, "alpha": 0.6}
        left.plot(layers, np.where(signal > 0, signal, np.nan), mark, **style)
        right.plot(layers, np.where(gradient > _SMALLEST, gradient, np.nan), mark, **style)
        left.plot([], [], mark, color=colour, label=arm)
        if arm in predicted:
            stack = [theory.Layer("tanh", predicted[arm])] * (len(signal) - 1)
            expected = theory.propagate(stack, q=float(np.mean(signal[0] ** 2)))
            end = np.exp(np.log(gradient[-1]).mean())
            left.plot(layers, np.sqrt(expected.signal), "--", color=colour, linewidth=1)
            right.plot(layers, end * np.sqrt(expected.gradient), "--", color=colour, linewidth=1)
    for axes, what in ((left, "signal"), (right, "gradient")):
        axes.set(yscale="log", xlabel="layer", title=f"{what} (root mean square)")
    figure.legend(loc="outside lower center", ncols=3)


def _tutorial(figure: Figure) -> None:
    """Accuracy and loss by epoch on training and on validation data: medians over seeds, with quartiles."""
    sides = dict(zip((("accuracy", 100, "accuracy, %"), ("loss", 1, "loss")), figure.subplots(1, 2), strict=True))
    curves = stored("cifar10-xavier-vs-he").answer.numbers["curves"]
    for colour, mark, (label, found) in zip(COLOURS, _MARKS, curves.items(), strict=False):
        for (what, scale, title), axes in sides.items():
            for part, style in (("train", "-"), ("val", "--")):
                low, median, high = (
                    scale * np.array(found[f"{part}_{what}"][end]) for end in ("low", "median", "high")
                )
                axes.plot(found["epochs"], median, f"{mark}{style}", color=colour, linewidth=1, markersize=3)
                axes.fill_between(found["epochs"], low, high, color=colour, alpha=0.2, linewidth=0)
            axes.set(xlabel="epoch", title=title)
        figure.axes[0].plot([], [], f"{mark}-", color=colour, label=label)
    figure.legend(loc="outside lower center", ncols=2)


def _saturation(figure: Figure) -> None:
    """Share of saturated values by layer."""
    axes = figure.subplots()
    numbers = stored("what-not-to-do").answer.numbers
    for colour, mark, (arm, found) in zip(COLOURS, _MARKS, numbers.items(), strict=False):
        share = _by_layer(found, "saturated")
        layers = np.arange(1, len(share) + 1)
        axes.plot(layers, share.mean(axis=1), f"{mark}-", color=colour, linewidth=1, markersize=5, label=arm)
        axes.plot(layers, share, mark, color=colour, markersize=2.5, alpha=0.6)
    axes.set(xlabel="layer", ylabel="|tanh| above .97, % of values")
    figure.legend(loc="outside right upper")


def _sizes(figure: Figure) -> None:
    """Signal and gradient in a deep ReLU network for several weight variances; for He's with the band of width 100."""
    sizes = {"1/3: PyTorch's default": 1 / 3, "1: Xavier, LeCun": 1.0, "2: He": 2.0, "3": 3.0}
    left, right = figure.subplots(1, 2)
    for colour, style, (label, sigma_w2) in zip(COLOURS, ("-", "--", "-", "-."), sizes.items(), strict=False):
        # The bands of the others would be as narrow in decades, and take as long to compute.
        deep = theory.propagate([theory.Layer("relu", sigma_w2, width=100 if sigma_w2 == 2 else None)] * 50)
        for axes, line, band in ((left, deep.signal, deep.band), (right, deep.gradient, deep.gradient_band)):
            axes.plot(line, style, color=colour, label=label if axes is left else None)
            if band is not None:
                axes.fill_between(range(len(line)), band.low, band.high, color=colour, alpha=0.25, linewidth=0)
    for axes, what in ((left, "signal"), (right, "gradient")):
        axes.set(yscale="log", xlabel="layer", title=f"{what} (second moment)")
    figure.legend(loc="outside lower center", ncols=4, title="weight variance x fan-in")


def _gains(figure: Figure) -> None:
    """The weight variance that each activation calls for, against those that Glorot and He give."""
    names = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "tanh", "erf", "softsign", "sigmoid")
    axes = figure.subplots()
    for shift, kind, mark, label in ((-0.12, "second_moment", "o", "keeps signals of mean square 1"),
                                     (0.12, "backward", "s", "keeps gradients")):  # fmt: skip
        wanted = [theory.gain(name, kind) ** 2 for name in names]  # type: ignore[arg-type]
        colour = COLOURS[0] if mark == "o" else COLOURS[1]
        axes.plot(wanted, np.arange(len(names)) + shift, mark, color=colour, markersize=5, label=label)
    for place, who in ((1 / 3, "PyTorch"), (1.0, "Xavier"), (2.0, "He")):
        axes.axvline(place, color=COLOURS[6], linewidth=1, linestyle=":")
        axes.annotate(who, (place, -0.8), ha="center", color=_INK, fontsize=8)
    axes.set(
        xscale="log", xlabel="weight variance x fan-in (equal widths)", yticks=range(len(names)), yticklabels=names
    )
    figure.legend(loc="outside lower center", ncols=2)


def _phases(figure: Figure) -> None:
    """Order and chaos of tanh networks."""
    axes = theory.phase_diagram("tanh", points=81).plot(figure.subplots())
    for mesh in axes.collections[:1]:
        mesh.set_rasterized(True)  # one small picture instead of thousands of squares
    axes.set(xlabel="weight variance x fan-in", ylabel="bias variance", title="tanh: order (left of the line), chaos")
    figure.axes[-1].set_ylabel("log10 of the change a layer")


def _strips(axes: "Axes", rows: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A row of dots, one a seed, for each group, with a bar at the mean; a colour for each series."""
    series = list(dict.fromkeys(name for groups in rows.values() for name in groups))
    for place, (_, groups) in enumerate(rows.items()):
        for nth, name in enumerate(series):
            values, y = np.array(groups[name]), place + 0.22 * nth - 0.11 * (len(series) - 1)
            axes.plot(values, np.full(len(values), y), "o", color=COLOURS[nth], markersize=4, alpha=0.6)
            axes.plot([values.mean()] * 2, [y - 0.09, y + 0.09], color=COLOURS[nth], linewidth=2.5,
                      label=None if place else name)  # fmt: skip
    axes.set(yticks=range(len(rows)), yticklabels=list(rows))
    axes.invert_yaxis()


def _before_and_after(study: str, what: str) -> Callable[[Figure], None]:
    """A quantity of a study's arms before and after training."""

    def draw(figure: Figure) -> None:
        """Two rows of dots for each arm."""
        axes = figure.subplots()
        numbers = stored(study).answer.numbers
        _strips(
            axes,
            {
                arm: {"before training": found["start"], "after training": found["end"]}
                for arm, found in numbers.items()
            },
        )
        axes.set(xlabel=what, xlim=(-2, None))
        figure.legend(loc="outside lower center", ncols=2)

    return draw


def _transfer(figure: Figure) -> None:
    """Accuracy on new classes by the number of trained layers that are kept."""
    axes = figure.subplots()
    _strips(axes, {f"{arm} of 3": found for arm, found in stored("transfer").answer.numbers.items()})
    axes.set_xlabel("test accuracy on the new classes, %")
    figure.legend(loc="outside lower center", ncols=2)


def _depth(figure: Figure) -> None:
    """Accuracy by depth: each seed, and the median."""
    axes = figure.subplots()
    trials = {int(name.split()[0]): trial["arms"] for name, trial in stored("depth").answer.numbers.items()}
    for colour, mark, arm in zip(COLOURS, _MARKS, next(iter(trials.values())), strict=False):
        values = 100 * np.array([arms[arm]["test_accuracy"] for arms in trials.values()])
        axes.plot(list(trials), values, mark, color=colour, markersize=3, alpha=0.5)
        axes.plot(list(trials), np.median(values, axis=1), f"{mark}-", color=colour, markersize=5, label=arm)
    axes.set(xlabel="hidden layers", ylabel="test accuracy, %", xticks=list(trials))
    figure.legend(loc="outside right upper")


def _claims(figure: Figure) -> None:
    """Every claim about test accuracy that a verdict rests on: effect, interval, verdict."""
    axes = figure.subplots()
    shown = [
        (record.answer, claim)
        for record in everything()
        for claim in record.answer.claims
        if claim.main and claim.unit == "points of test accuracy"
    ][::-1]
    axes.axvspan(-1, 1, color=COLOURS[6], alpha=0.2, linewidth=0)
    for y, (_, claim) in enumerate(shown):
        colour, mark = _VERDICTS[claim.verdict]
        axes.plot([claim.low, claim.high], [y, y], color=colour, linewidth=2)
        axes.plot(claim.effect, y, mark, color=colour, markersize=5)
    for verdict, (colour, mark) in _VERDICTS.items():
        axes.plot([], [], mark, color=colour, label=verdict)
    axes.set_yticks(range(len(shown)), [f"{fill(c.claim, 48)} ({a.size})" for a, c in shown], fontsize=7.5)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set(ylim=(-0.7, len(shown) - 0.3), xlabel="points of test accuracy")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-130, 130)
    axes.set_xticks([-100, -10, -1, 0, 1, 10, 100], ["-100", "-10", "-1", "0", "1", "10", "100"])
    figure.legend(loc="outside upper center", ncols=3)


FIGURES: Mapping[str, Picture] = MappingProxyType(
    {
        "mistakes": Picture(_mistakes, (7.2, 3.6), ("what-not-to-do",)),
        "saturation": Picture(_saturation, (7.2, 2.6), ("what-not-to-do",)),
        "tutorial": Picture(_tutorial, (7.2, 3.2), ("cifar10-xavier-vs-he",)),
        "sizes": Picture(_sizes, (7.2, 3.4)),
        "gains": Picture(_gains, (7.2, 3.8)),
        "phases": Picture(_phases, (7.2, 3.8)),
        "distinct": Picture(
            _before_and_after("symmetry", "distinct units, % of the hidden units"), (7.2, 2.6), ("symmetry",)
        ),
        "dead": Picture(
            _before_and_after("dead-units", "dead units, % of the hidden units"), (7.2, 2.4), ("dead-units",)
        ),
        "depth": Picture(_depth, (7.2, 2.8), ("depth",)),
        "transfer": Picture(_transfer, (7.2, 2.8), ("transfer",)),
        "claims": Picture(_claims, (7.2, 11.0), origin="Measured: [all studies](/studies.md)."),
    }
)
"""By name."""
