"""How values are read for a law: gates, factors, blocks, rounding."""

import numpy as np
import pytest

from fanin.initializers import decide, draw_param
from fanin.initializers.fans import fans_of
from fanin.initializers.laws import Constant, Uniform
from fanin.recipes.verdicts import Values, expected_stddev, is_certain, misfit, planned, same
from fanin.records import Init, ParamInfo

# Two out axes (heads of a packed projection), read as one: 3 gates of 4 units.
HEADS = ParamInfo("w", (5, 6, 2), "float32", ("in", "out", "out"), "attention", gates=3)
GROUPED = ParamInfo("w", (12, 2, 3), "float32", ("out", "in", "spatial"), "conv", groups=2)
STACK = ParamInfo("w", (7, 4, 6), "float32", ("batch", "in", "out"), "dense")


def numbers(param):
    return np.arange(1.0, 1 + np.prod(param.shape), dtype=np.float32).reshape(param.shape)


def test_each_gate_has_its_factor():
    wanted = np.ones((5, 12)) * np.repeat([1, 0, 3], 4)
    found = planned(HEADS, Constant(1.0), 0, (1.0, 0.0, 3.0))
    assert np.array_equal(found.reshape(5, 12), wanted)
    assert np.array_equal(planned(HEADS, Constant(2.0), 0, ()), np.full((5, 6, 2), 2))
    scalar = ParamInfo("gate", (), "float32", (), "unknown")
    assert planned(scalar, Constant(2.0), 0, (0.5,)) == 1.0


def test_values_without_their_factors():
    values = Values(HEADS, numbers(HEADS))
    flat = numbers(HEADS).reshape(5, 12)
    kept = np.concatenate([flat[:, :4], flat[:, 8:] / 3], axis=1)
    assert np.allclose(values.divided((1.0, 0.0, 3.0)), kept.reshape(-1))
    blocks = values.blocks(HEADS, (1.0, 0.0, 3.0))
    assert blocks.shape == (2, 1, 5, 4)
    assert np.allclose(blocks[1, 0], flat[:, 8:] / 3)


def test_blocks_are_weights_of_their_own():
    blocks = Values(GROUPED, numbers(GROUPED)).blocks(GROUPED, ())
    assert blocks.shape == (2, 3, 2, 6)
    for group in range(2):
        for position in range(3):
            assert np.array_equal(blocks[group, position], numbers(GROUPED)[6 * group : 6 * group + 6, :, position].T)
    assert np.array_equal(Values(STACK, numbers(STACK)).blocks(STACK, ())[:, 0], numbers(STACK))


@pytest.mark.parametrize("param", [HEADS, GROUPED, STACK], ids=["heads", "grouped", "stack"])
@pytest.mark.parametrize("scales", [(), (1.0, -2.0, 0.0)])
def test_the_expected_standard_deviation(param, scales):
    # 100 draws of 60 to 168 numbers: off by 6 % with a probability below 1e-6.
    scales = scales if param.gates == 3 else ()
    for init in (Init("he_normal"), Init("orthogonal"), Init("ones"), Init("random_normal", mean=1.0)):
        law = decide(init, fans_of(param))
        found = np.stack([planned(param, law, seed, scales) for seed in range(100)])
        assert expected_stddev(param, law, scales) == pytest.approx(found.std(), rel=0.06, abs=1e-9)


def test_rounding_is_the_same_number():
    wanted = np.float32([1.0, -0.003, 0.0])
    assert same(wanted * np.float32(1 + 2e-7), wanted, "float32").all()
    assert not same(wanted * np.float32(1 + 1e-5), wanted, "float32")[0]
    assert same(wanted * np.float32(1 + 3e-3), wanted, "bfloat16").all()
    assert not same(wanted * np.float32(1 + 9e-3), wanted, "bfloat16")[0]


@pytest.mark.parametrize(
    ("init", "certain"),
    [("zeros", True), ("dirac", True), ("hadamard", True), ("sinusoidal", True), ("random_normal", False),
     ("delta_orthogonal", False), ("sparse", False), ("orthogonal", False)],
)  # fmt: skip
def test_laws_that_give_one_array(init, certain):
    param = ParamInfo("w", (9, 4, 3), "float32", ("out", "in", "spatial"), "conv")
    assert is_certain(decide(Init(init), fans_of(param))) is certain
    assert certain == np.array_equal(draw_param(param, Init(init), 0), draw_param(param, Init(init), 1))


def test_factors_of_zero_ask_for_zeros():
    law = Uniform(-1.0, 1.0)
    assert misfit(STACK, law, (0.0,), Values(STACK, np.zeros(STACK.shape, np.float32)), 1e-6) == ""
    assert "not 0 where its factor is" in misfit(STACK, law, (0.0,), Values(STACK, numbers(STACK)), 1e-6)
