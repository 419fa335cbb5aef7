import math

import numpy as np
import pytest
from matplotlib.figure import Figure

import fanin
from fanin.errors import InvalidValueError
from fanin.records import Course, Trial
from fanin.report.updates import panel, plot_updates

UPDATES = {"kernel": (-3.0, -0.5, 0.5), "bias": (math.inf, -7.0, -math.inf), "unseen": ()}


def test_rows_are_the_parameters_that_were_seen():
    assert panel(UPDATES).labels == ("kernel", "bias")


@pytest.mark.parametrize("watched", [Course(updates=UPDATES), Trial((1.0,), updates=UPDATES)])
def test_each_step_has_its_colour_and_what_has_none_a_cross(watched):
    axes = Figure().subplots()
    assert fanin.plot_updates(watched, axes) is axes
    (image,) = axes.images
    colours = image.to_rgba(image.get_array())
    pale, orange, darkest = colours[0, 0], colours[0, 1], colours[0, 2]
    assert min(pale[:3]) > 0.9
    assert orange[0] > orange[2] > darkest[2]  # larger steps are more orange, and darker
    assert colours[1, 1][2] > colours[1, 1][1]  # hardly anything moved: purple
    assert image.get_array().mask.tolist() == [[False] * 3, [True, False, True]]
    crosses = np.column_stack(axes.lines[0].get_data())
    np.testing.assert_array_equal(crosses, [[1, 1], [3, 1]])
    assert image.get_extent() == [0.5, 3.5, 1.5, -0.5]  # the first row stands on top


def test_nothing_watched_cannot_be_drawn():
    with pytest.raises(InvalidValueError, match="nothing to draw"):
        plot_updates(Course())
    with pytest.raises(InvalidValueError, match="Given: int"):
        plot_updates(3)  # type: ignore[arg-type]
