"""How far training moves weights, step by step: a picture of a check's trial, or of a training that was watched."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fanin.errors import InvalidValueError, extra_missing
from fanin.records import Course, Trial
from fanin.report.charts import Axis, Heat, Panel
from fanin.report.figure import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["panel", "plot_updates"]

_CHANGES = (-6.0, -5.0, -4.0, -2.0, -1.0, 0.0)
"""Of log10(change / size): where the colour changes."""


def panel(updates: Mapping[str, tuple[float, ...]]) -> Panel:
    """The figure of all steps; without labels where there are none.

    Args:
        updates: See `fanin.records.Trial.updates`; rows stand in this order.
    """
    rows = tuple(path for path, changes in updates.items() if changes)
    chart = Heat(
        Axis("training step"), Axis("log10 of change / size", ticks=_CHANGES), rows, tuple(updates[row] for row in rows)
    )
    return Panel(
        "updates", "How far does each step move the weights?",
        "Root mean square of a step's change over that of the weights before, as log10. About -3 is usual (pale). Dark "
        "orange: as large as the weights themselves; dark purple: hardly anything moves. A cross: nothing moved, or "
        "the weights were 0 or not finite.", (chart,), rows, "weight",
    )  # fmt: skip


def plot_updates(watched: Course | Trial, axes: "Axes | None" = None) -> "Axes":
    """Draw with Matplotlib how far each step of a training moved each parameter.

    Args:
        watched: From `fanin.torch.watch.watching`, from `fanin.keras.watch.Watch`, or the `trial` of a check.
        axes: Where to draw; a new figure if None.

    Raises:
        InvalidValueError: If no step was watched, or it is something else.
        MissingExtraError: If Matplotlib is not installed.

    Example:
        >>> axes = plot_updates(Course((1.0, 0.5), {"kernel": (-3.0, -2.5), "bias": (float("inf"), -1.0)}))
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['kernel', 'bias']
    """
    if not isinstance(watched, Course | Trial):
        raise InvalidValueError(
            "These are no watched steps of training", given=type(watched).__name__, allowed="a course, or a trial",
            hint="The trial of a check is fanin.check(...).trial.",
        )  # fmt: skip
    shown = panel(watched.updates)
    if not shown.labels:
        raise InvalidValueError(
            "There is nothing to draw", given="no watched step of training", allowed="one step or more"
        )
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise extra_missing(error, "plot", ("matplotlib",), "Drawing a picture") from None
    if axes is None:
        height = 2.2 + 0.16 * min(len(shown.labels), 40)
        _, axes = plt.subplots(figsize=(7.5, height), layout="constrained")
    return draw(shown, 0, "", axes)
