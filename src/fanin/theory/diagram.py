"""The phase diagram of an activation: order, chaos, and how deep a network can be, over weight and bias variance."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.activations import Activation, activation
from fanin.errors import InvalidValueError
from fanin.theory.criticality import curve
from fanin.theory.maps import Floats, Function, check_variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PhaseDiagram", "phase_diagram"]


@dataclass(frozen=True)
class PhaseDiagram:
    """Arrays of shape (bias variances, weight variances).

    Attributes:
        sigma_w2, sigma_b2: The axes.
        q: The second moment that signals run into; infinite where they diverge.
        chi: chi.perpendicular there: below 1 order, above 1 chaos.
        depth: Layers in which the size of gradients changes by e: ``1 / |log chi|``.
    """

    activation: str
    sigma_w2: Floats
    sigma_b2: Floats
    q: Floats
    chi: Floats

    @property
    def depth(self) -> Floats:
        """Layers in which the size of gradients changes by e."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 / np.abs(np.log(self.chi))

    def to_dict(self) -> dict[str, Any]:
        """The arrays as lists, for JSON; None where signals diverge."""

        def plain(values: Floats) -> Any:
            return np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload]

        return {
            "activation": self.activation,
            "sigma_w2": self.sigma_w2.tolist(),
            "sigma_b2": self.sigma_b2.tolist(),
            "q": plain(self.q),
            "chi": plain(self.chi),
        }

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw it with Matplotlib: colour is how fast gradients change, the line is the edge of chaos."""
        import matplotlib.pyplot as plt
        from matplotlib.colors import TwoSlopeNorm

        if axes is None:
            _, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
        change = np.log10(np.where(np.isfinite(self.chi) & (self.chi > 0), self.chi, np.nan))
        reach = max(0.05, float(np.nanmax(np.abs(change)))) if np.isfinite(change).any() else 1.0
        mesh = axes.pcolormesh(
            self.sigma_w2, self.sigma_b2, change, cmap="PuOr", norm=TwoSlopeNorm(0.0, -reach, reach), shading="nearest"
        )
        axes.figure.colorbar(mesh, ax=axes, label="log10 of the gradient's change per layer (second moment)")
        inside = np.isfinite(change)
        if inside.any() and np.nanmin(change) < 0 < np.nanmax(change):
            axes.contour(self.sigma_w2, self.sigma_b2, change, levels=[0.0], colors="black", linewidths=1.5)
        axes.set_facecolor("0.85")
        axes.set(
            xlabel="weight variance x fan-in",
            ylabel="bias variance",
            title=f"{self.activation}: order (left of the line) and chaos; grey: signals diverge",
        )
        return axes


def phase_diagram(
    given: Function,
    sigma_w2: tuple[float, float] = (0.05, 4.0),
    sigma_b2: tuple[float, float] = (0.0, 0.5),
    points: int = 61,
) -> PhaseDiagram:
    """Fixed points and gradient growth on a grid of weight and bias variances.

    Args:
        given: A name, or any vectorised function.
        sigma_w2, sigma_b2: The ranges of the two variances.
        points: Along each axis.

    Example:
        >>> diagram = phase_diagram("tanh", points=5)
        >>> diagram.chi.shape, bool(diagram.chi[2, 0] < 1 < diagram.chi[2, -1])
        ((5, 5), True)
    """
    entry = activation(given)
    if isinstance(points, bool) or not hasattr(points, "__index__") or not 2 <= points <= 2000:
        raise InvalidValueError("The number of points is out of range", given=points, allowed="2 to 2000")
    weights = np.linspace(*_ends(sigma_w2, "sigma_w2"), points)
    biases = np.linspace(*_ends(sigma_b2, "sigma_b2"), points)
    w, b = np.meshgrid(weights, biases)
    q = _reached(entry, w.reshape(-1), b.reshape(-1))
    chi = np.full(q.shape, np.nan)
    found = curve(entry)
    live = np.isfinite(q)
    at = np.maximum(q[live], found.q[0])
    logs = np.log(np.maximum(found.slope_second, 1e-300))
    chi[live] = w.reshape(-1)[live] * np.exp(np.interp(np.log(at), np.log(found.q), logs))
    return PhaseDiagram(entry.name, weights, biases, q.reshape(w.shape), chi.reshape(w.shape))


def _ends(given: tuple[float, float], name: str) -> tuple[float, float]:
    pair = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    ends = [check_variance(value, name) for value in pair]
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise InvalidValueError(f"The range of {name} is empty", given=given, allowed="(low, high) with low below high")
    return ends[0], ends[1]


def _reached(entry: Activation, w: Floats, b: Floats) -> Floats:
    """For each pair of variances the smallest q that signals run into; infinite where there is none."""
    found = curve(entry)
    if found.scale is not None:
        rate = w * found.scale
        with np.errstate(divide="ignore", invalid="ignore"):
            still = np.where((np.abs(rate - 1) < 1e-9) & (b == 0), 1.0, np.inf)
            q = np.where(rate < 1 - 1e-9, b / (1 - rate), still)
        return q
    excess = (w[:, None] * found.second + b[:, None]) / found.q - 1
    falls = (excess[:, :-1] > 0) & (excess[:, 1:] <= 0)
    first = np.where(falls.any(axis=1), falls.argmax(axis=1), -1)
    dies = excess[:, 0] <= 0
    low, high = np.log(found.q[np.maximum(first, 0)]), np.log(found.q[np.maximum(first, 0) + 1])
    logs, values = np.log(found.q), np.log(np.maximum(found.second, 1e-300))
    for _ in range(30):
        middle = (low + high) / 2
        above = w * np.exp(np.interp(middle, logs, values)) + b > np.exp(middle)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    q = np.exp((low + high) / 2)
    return np.where(dies, 0.0, np.where(first >= 0, q, np.inf))
