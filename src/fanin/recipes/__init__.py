"""Rules for whole models: from a description to a decision for every parameter, with a reason."""

from fanin.recipes.graph import trunk
from fanin.recipes.rules import decided
from fanin.recipes.table import RECIPES, Recipe
from fanin.recipes.uniform import WEIGHT_ROLES, single

__all__ = ["RECIPES", "WEIGHT_ROLES", "Recipe", "decided", "single", "trunk"]
