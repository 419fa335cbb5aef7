"""Phase diagrams: cell by cell against fixed points, as data, and as a figure."""

import json
import math

import matplotlib as mpl
import numpy as np
import pytest

from fanin.activations import ACTIVATIONS
from fanin.errors import FaninError, InvalidValueError, UnknownNameError
from fanin.theory import depth_scales, fixed_points, moments, phase_diagram

mpl.use("Agg")
GRID = 16 * math.log(10) / 320
"""Distance of neighbours in log q on the curve that the diagram is read off."""


def bends(name, q):
    """Largest second derivatives of log E phi^2 and log E phi'^2 by log q, near q."""
    logs = math.log(q) + np.linspace(-2, 2, 17) * GRID
    values = [moments(name, math.exp(x)) for x in logs]
    return [
        float(np.abs(np.diff([math.log(getattr(value, key)) for value in values], 2)).max() / (logs[1] - logs[0]) ** 2)
        for key in ("second", "slope_second")
    ]


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "hard_tanh", "selu", "gelu", "silu", "sigmoid", "softplus"])
def test_cells(name):
    """Between points of the curve logarithms are joined by lines, which are off by bend * GRID^2 / 8 at most.

    A fixed point is off by that over 1 - d log V / d log q, where V is the variance map; chi by that times the
    slope of log E phi'^2, and by its own bend. Each is allowed 1.2 times that, for what changes on the way.
    """
    diagram = phase_diagram(name, (0.1, 2.6), (0.0, 0.4), points=6)
    checked = 0
    for i, b in enumerate(diagram.sigma_b2):
        for j, w in enumerate(diagram.sigma_w2):
            found = fixed_points(name, w, b)
            reached = found.reached
            if reached is None:
                assert diagram.q[i, j] == math.inf
                assert math.isnan(diagram.chi[i, j])
                continue
            if reached.q == 0:
                assert diagram.q[i, j] == 0
                # It is read off at q = 1e-8; a kink at 0 makes chi change by as much as sqrt(q).
                assert diagram.chi[i, j] == pytest.approx(reached.chi.perpendicular, rel=1e-3)
                continue
            bend, slope_bend = bends(name, reached.q)
            here = moments(name, reached.q)
            part = w * here.second / reached.q
            off = 1.2 * part * bend * GRID**2 / 8 / (1 - reached.chi.parallel) + 1e-8
            if off > 0.05:  # so near a fixed point that vanishes that it may have
                continue
            assert math.log(diagram.q[i, j] / reached.q) == pytest.approx(0, abs=off)
            step = 1e-3
            up, down = (moments(name, reached.q * math.exp(sign * step)).slope_second for sign in (1, -1))
            follows = abs(math.log(up / down)) / (2 * step)
            tolerance = 1.2 * (follows * off + slope_bend * GRID**2 / 8) + 1e-8
            assert math.log(diagram.chi[i, j] / reached.chi.perpendicular) == pytest.approx(0, abs=tolerance)
            checked += 1
    assert checked >= 18


def test_phases_are_those_of_depth_scales():
    diagram = phase_diagram("tanh", (0.5, 3.0), (0.01, 0.2), points=5)
    seen = []
    for i, b in enumerate(diagram.sigma_b2):
        for j, w in enumerate(diagram.sigma_w2):
            scales = depth_scales("tanh", w, b)
            seen.append(scales.phase)
            if abs(scales.chi.perpendicular - 1) > 0.01:
                assert (diagram.chi[i, j] > 1) == (scales.phase == "chaotic")
                assert diagram.depth[i, j] == pytest.approx(1 / abs(math.log(scales.chi.perpendicular)), rel=0.05)
    assert min(seen.count("ordered"), seen.count("chaotic")) >= 5


def test_relu_is_exact_and_diverges():
    diagram = phase_diagram("relu", (0.5, 2.5), (0.0, 0.4), points=5)
    assert diagram.sigma_w2.tolist() == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert diagram.sigma_b2.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    for i, b in enumerate(diagram.sigma_b2):
        for j, w in enumerate(diagram.sigma_w2[:3]):
            assert diagram.q[i, j] == pytest.approx(b / (1 - w / 2), rel=1e-12)
            assert diagram.chi[i, j] == pytest.approx(w / 2, rel=1e-12)
    assert (diagram.q[1:, 3:] == math.inf).all()
    assert (diagram.q[:, 4] == math.inf).all()
    assert np.isnan(diagram.chi[1:, 3:]).all()
    # He's point: every q is fixed.
    assert (diagram.q[0, 3], diagram.chi[0, 3]) == (1, pytest.approx(1, rel=1e-12))
    assert diagram.depth[0, 3] > 1e12


def test_gelu_diverges_where_it_has_no_fixed_point():
    diagram = phase_diagram("gelu", (0.5, 3.0), (0.05, 0.5), points=4)
    assert np.isfinite(diagram.q[:, 0]).all()
    assert (diagram.q[:, -1] == math.inf).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_as_data_and_as_a_figure(name):
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    diagram = phase_diagram(name, points=4)
    assert diagram.activation == name
    assert diagram.q.shape == diagram.chi.shape == diagram.depth.shape == (4, 4)
    data = json.loads(json.dumps(diagram.to_dict(), allow_nan=False))
    assert set(data) == {"activation", "sigma_w2", "sigma_b2", "q", "chi"}
    assert data["sigma_w2"] == diagram.sigma_w2.tolist()
    for key in ("q", "chi"):
        for row, plain in zip(getattr(diagram, key), data[key], strict=True):
            assert plain == [value if math.isfinite(value) else None for value in row.tolist()]
    try:
        axes = diagram.plot()
        assert isinstance(axes, Axes)
        assert name in axes.get_title()
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        axes.figure.canvas.draw()
    finally:
        plt.close("all")


def test_a_figure_in_given_axes():
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2)
    try:
        assert phase_diagram("tanh", points=9).plot(right) is right
        assert right.collections
        assert not left.collections
    finally:
        plt.close(figure)


@pytest.mark.parametrize("given", [lambda u: 0 * u, lambda u: 0 * u + 1], ids=["zero", "one"])
def test_constants(given):
    import matplotlib.pyplot as plt

    diagram = phase_diagram(given, (0.5, 1.5), (0.1, 0.3), points=3)
    value = float(given(np.zeros(1))[0])
    true = value * diagram.sigma_w2 + diagram.sigma_b2[:, None]
    assert diagram.q == pytest.approx(true, rel=0.01)
    assert (diagram.chi < 1e-12).all()
    try:
        diagram.plot()
    finally:
        plt.close("all")


@pytest.mark.parametrize("wrong", [1, 0, -3, 2001, 2.5, True, None, "9"])
def test_wrong_numbers_of_points(wrong):
    with pytest.raises(InvalidValueError, match="number of points is out of range") as error:
        phase_diagram("tanh", points=wrong)
    assert error.value.allowed == "2 to 2000"


@pytest.mark.parametrize("wrong", [(2, 1), (1, 1), (-1, 1), (0, math.nan), (0, math.inf), ("a", 1), (None, 1)])
@pytest.mark.parametrize("axis", ["sigma_w2", "sigma_b2"])
def test_wrong_ranges(axis, wrong):
    with pytest.raises(InvalidValueError, match=axis) as error:
        phase_diagram("tanh", **{axis: wrong})
    assert error.value.allowed


@pytest.mark.parametrize("wrong", [(1, 2, 3), (1,), 3.0, None])
@pytest.mark.parametrize("axis", ["sigma_w2", "sigma_b2"])
def test_ranges_that_are_no_pairs(axis, wrong):
    with pytest.raises(FaninError, match=axis):
        phase_diagram("tanh", **{axis: wrong})


def test_an_unknown_name():
    with pytest.raises(UnknownNameError):
        phase_diagram("tahn")
