import numpy as np
import pytest

from fanin.doctor.cures import drawn, standardised
from fanin.initializers.draws import draw_param
from fanin.records import Init, ParamInfo, Plan, PlanEntry

RNG = np.random.default_rng(1)


def test_features_are_standardised_one_by_one():
    x = RNG.normal(size=(50, 3)) * (1.0, 100.0, 0.01) + (5.0, -300.0, 0.0)
    made = standardised(x)
    assert made.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert made.std(axis=0) == pytest.approx(1)


def test_images_are_standardised_by_channel_in_both_layouts():
    last = RNG.normal(size=(6, 8, 9, 3)) * (1.0, 7.0, 50.0)
    first = np.moveaxis(last, -1, 1)
    np.testing.assert_allclose(np.moveaxis(standardised(first), 1, -1), standardised(last))


def test_what_is_no_floating_array_stays():
    example = {"ids": np.arange(6).reshape(2, 3), "x": np.array([[1.0], [3.0]]), "flag": True}
    made = standardised(example)
    assert made["ids"] is example["ids"]
    assert made["flag"] is True
    assert made["x"].tolist() == [[-1.0], [1.0]]
    assert standardised((np.full((4, 2), 7.0),))[0].tolist() == [[0.0, 0.0]] * 4


def test_a_plan_draws_what_init_would_write():
    param = ParamInfo("w", (4, 3), "float32", ("out", "in"), "dense")
    plan = Plan((PlanEntry(param, Init("he_normal"), ""), PlanEntry(param, None, "left")), seed=9)
    np.testing.assert_array_equal(drawn(plan)["w"], draw_param(param, Init("he_normal"), 9))
