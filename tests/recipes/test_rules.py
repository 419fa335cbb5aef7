"""What a user asks beyond a recipe, and the errors for what cannot be."""

from dataclasses import replace

import pytest

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.recipes import RECIPES, decided
from fanin.records import Init, ModelInfo, Plan
from tests.recipes.models import mlp, residual_mlp, transformer

INFO = mlp(3, 6, "relu", inputs=5, outputs=4)


def inits(plan: Plan) -> dict[str, str]:
    return {entry.param.path: str(entry.init or "") for entry in plan.entries}


def test_the_last_rule_that_matches_decides():
    plan = decided(INFO, rules={"*.weight": "he_uniform", "1.*": "zeros", "*.bias": "keep"})
    assert inits(plan) == {
        **{"0.weight": "he_uniform", "1.weight": "zeros", "2.weight": "he_uniform"},
        **{"0.bias": "", "1.bias": "", "2.bias": ""},
    }
    assert plan.entries[0].reason == "your rule for *.weight"
    assert plan.entries[0].otherwise == "the recipe would give he_normal"


def test_only_and_except_leave_the_rest_alone_with_a_reason():
    plan = decided(INFO, only=["0.*", "2.*"], except_="*.bias")
    assert [entry.param.path for entry in plan.chosen] == ["0.weight", "2.weight"]
    assert plan.entries[2].reason == "not among what was asked for (0.*, 2.*)"
    assert plan.entries[1].reason == "excepted (*.bias)"


def test_rules_do_not_reach_beyond_only():
    assert inits(decided(INFO, only="0.weight", rules={"*": "zeros"}))["1.weight"] == ""


@pytest.mark.parametrize("wish", [{"rules": {"fc.*": "zeros"}}, {"only": "0.wieght"}, {"except_": ["nothing"]}])
def test_a_pattern_that_matches_nothing_is_an_error(wish):
    with pytest.raises(UnknownNameError, match="no such parameter"):
        decided(INFO, **wish)


def test_names_have_suggestions():
    with pytest.raises(UnknownNameError, match="Did you mean fixup"):
        decided(INFO, "fixpu")
    with pytest.raises(UnknownNameError, match="Did you mean he_normal"):
        decided(INFO, rules={"*": "he_norml"})


def shared(*names: str) -> ModelInfo:
    first, *rest = INFO.params
    return replace(INFO, params=(replace(first, shared=names), *rest))


def test_a_shared_parameter_answers_to_all_of_its_names():
    assert inits(decided(shared("decoder.weight"), rules={"decoder.*": "zeros"}))["0.weight"] == "zeros"
    with pytest.raises(InvalidValueError, match="disagree about one shared parameter"):
        decided(shared("decoder.weight"), rules={"decoder.*": "zeros", "0.*": "ones"})
    decided(shared("decoder.weight"), rules={"decoder.*": "zeros", "0.*": "zeros"})


def test_parameters_without_floating_numbers_are_left_alone_or_refused():
    first, *rest = INFO.params
    info = replace(INFO, params=(replace(first, dtype="int8"), *rest))
    plan = decided(info, "he_normal")
    assert plan.entries[0].init is None
    assert "int8" in plan.entries[0].reason
    with pytest.raises(InvalidValueError, match="holds no floating numbers"):
        decided(info, rules={"0.weight": "zeros"})


@pytest.mark.parametrize("recipe", ["fixup", "t_fixup", "deepnorm", "gpt2", "rezero"])
def test_recipes_for_residual_networks_refuse_plain_ones(recipe):
    with pytest.raises(ModelError, match=f"{recipe} does not fit the model"):
        decided(INFO, recipe)


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {"rezero"}))
def test_every_recipe_decides_a_transformer(recipe):
    plan = decided(transformer(2), recipe, seed=5)
    assert plan.recipe == recipe
    assert plan.seed == 5
    assert len(plan.chosen) >= 13


def test_a_plan_survives_json():
    import json

    plan = decided(residual_mlp(2, 8), rules={"head.weight": "random_normal(stddev=0.5)"}, seed=9)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    other = decided(residual_mlp(2, 8), seed=9)
    assert other.diff(plan) == (f"head.weight: {other.entries[-2].init} -> random_normal(stddev=0.5)",)
    assert plan.diff(again) == ()
    assert Init("zeros") in {entry.init for entry in again.chosen}


@pytest.mark.parametrize(("path", "wish"), [("0.bias", "he_normal"), ("0.bias", "orthogonal"), ("1.weight", "stft")])
def test_a_law_that_does_not_fit_is_refused_with_the_parameter(path, wish):
    with pytest.raises(InvalidValueError, match=f"^{path}: "):
        decided(INFO, rules={path: wish})


def test_a_plan_is_a_table_in_notebooks_and_in_pandas():
    plan = decided(INFO, rules={"2.*": "zeros"})
    frame = plan.to_pandas()
    assert frame.loc[frame.path == "2.weight", "init"].item() == "zeros"
    assert plan._repr_html_().count("<tr>") == 1 + len(plan.entries)
    assert "your rule for 2.*" in plan._repr_html_()
