"""The published recipes, number by number against their papers' formulas, on models counted by hand."""

import math

import pytest

from fanin.errors import ModelError
from fanin.initializers import decide
from fanin.initializers.fans import fans_of
from fanin.recipes import decided
from fanin.records import Init
from tests.recipes.models import Model, encoder_decoder, mlp, residual_mlp, transformer


def variance(entry) -> float:
    return decide(entry.init, fans_of(entry.param)).variance


def by_path(plan):
    return {entry.param.path: entry for entry in plan.entries}


def test_fixup():
    plan = by_path(decided(residual_mlp(16, 8), "fixup"))
    fan_in = 8
    assert variance(plan["3.up.weight"]) == pytest.approx(2 / fan_in * 16 ** (-2 / 2), rel=1e-5)
    assert plan["3.down.weight"].init == plan["head.weight"].init == Init("zeros")
    assert plan["stem.weight"].init == Init("he_normal")
    assert "meant for models without normalisation" in decided(residual_mlp(2, 8, norm="pre"), "fixup").notes[-1]


def test_t_fixup_counts_the_layers_of_both_sides():
    plan = by_path(decided(encoder_decoder(6, 4, 16), "t_fixup"))
    glorot = 2 / (16 + 16)
    assert variance(plan["e0.self.value.weight"]) == pytest.approx(glorot * 0.67**2 * 6**-0.5, rel=1e-5)
    assert variance(plan["d3.cross.out.weight"]) == pytest.approx(glorot * (9 * 4) ** -0.5, rel=1e-5)
    assert variance(plan["d0.self.query.weight"]) == pytest.approx(glorot, rel=1e-5)
    assert variance(plan["e5.mlp.up.weight"]) == pytest.approx(2 / 48 * 0.67**2 * 6**-0.5, rel=1e-5)


def test_deepnorm_scales_values_outputs_and_feed_forward_alone():
    plan = decided(transformer(12, norm="post"), "deepnorm")
    entries, beta = by_path(plan), (8 * 12) ** -0.25
    glorot = 2 / (16 + 16)
    for name in ("value", "out"):
        assert variance(entries[f"5.attention.{name}.weight"]) == pytest.approx(glorot * beta**2, rel=1e-5)
    for name in ("query", "key"):
        assert variance(entries[f"5.attention.{name}.weight"]) == pytest.approx(glorot, rel=1e-5)
    assert f"alpha = {(2 * 12) ** 0.25:.4g}" in plan.notes[-1]


def test_deepnorm_knows_both_sides():
    plan = by_path(decided(encoder_decoder(6, 4), "deepnorm"))
    encoder, decoder = 0.87 * (6**4 * 4) ** (-1 / 16), (12 * 4) ** -0.25
    assert variance(plan["e0.self.out.weight"]) == pytest.approx(2 / 32 * encoder**2, rel=1e-5)
    assert variance(plan["d0.self.out.weight"]) == pytest.approx(2 / 32 * decoder**2, rel=1e-5)


def test_gpt2_divides_by_the_root_of_the_number_of_branches():
    plan = by_path(decided(transformer(12), "gpt2"))
    assert plan["11.mlp.down.weight"].init.params["stddev"] == pytest.approx(0.02 / math.sqrt(24), rel=1e-5)
    assert plan["tokens.weight"].init == plan["0.mlp.up.weight"].init == Init("random_normal", stddev=0.02)
    assert plan["final.weight"].init == Init("ones")
    assert plan["final.bias"].init == Init("zeros")


def test_rezero_needs_something_to_set_to_zero():
    with pytest.raises(ModelError, match=r"ends with 0\.down\.weight"):
        decided(residual_mlp(2, 8), "rezero")
    model = Model()
    at = model.weight(model.input(6), 8, "stem")
    end = model.norm(model.feed_forward(at, 10, "a"), "a.norm", "batch")
    model.weight(model.add_op("add", at, end), 3, "head")
    plan = by_path(decided(model.info(), "skipinit"))
    assert plan["a.norm.weight"].init == Init("zeros")
    assert plan["a.up.weight"].init == by_path(decided(model.info()))["a.up.weight"].init


def test_mup_has_small_outputs_and_says_what_else_it_takes():
    plan = decided(transformer(2, 25), "mup")
    entries = by_path(plan)
    assert entries["head.weight"].init == Init("random_normal", stddev=1 / 25)
    assert entries["0.mlp.up.weight"].init == Init("lecun_normal")
    assert "learning rate" in plan.notes[-1]


def test_vit_starts_its_head_at_zero():
    plan = by_path(decided(transformer(2), "vit"))
    assert plan["head.weight"].init == Init("zeros")
    assert plan["0.attention.query.weight"].init == Init("glorot_uniform")


def test_zero_has_nothing_random():
    plan = by_path(decided(residual_mlp(2, 8), "zero"))
    assert {entry.init.name for entry in plan.values()} == {"hadamard", "zeros"}
    assert plan["1.down.weight"].init == Init("zeros")


def test_the_frameworks_defaults():
    torch = by_path(decided(mlp(3, 6, "relu", inputs=5), "torch_default"))
    assert variance(torch["0.weight"]) == pytest.approx(1 / (3 * 5))
    assert torch["0.bias"].init.params["maxval"] == pytest.approx(5**-0.5)
    keras = by_path(decided(mlp(3, 6, "relu", inputs=5), "keras_default"))
    assert keras["0.weight"].init == Init("glorot_uniform")
    assert keras["0.bias"].init == Init("zeros")


def test_delta_orthogonal_carries_the_gain_of_what_follows():
    plan = by_path(decided(mlp(3, 64, "relu", inputs=64), "delta_orthogonal"))
    assert plan["0.weight"].init == Init("scaled_orthogonal", gain=1.41421)
    assert plan["2.weight"].init == Init("scaled_orthogonal", gain=1.0)
