"""Rules for whole models: from a description to a decision for every parameter, with a reason."""

from fanin.recipes.graph import trunk
from fanin.recipes.rules import decided
from fanin.recipes.table import RECIPES, Recipe, decide_all, identified
from fanin.recipes.uniform import WEIGHT_ROLES, single

__all__ = ["RECIPES", "WEIGHT_ROLES", "Recipe", "decide_all", "decided", "identified", "single", "trunk"]
