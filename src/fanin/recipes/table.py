"""Every recipe in one table, and the way from a recipe's name and a user's wishes to a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fanin.errors import UnknownNameError, unknown_name
from fanin.initializers import INITIALIZERS, canonical
from fanin.recipes import defaults, published, transformers
from fanin.recipes.auto import auto
from fanin.recipes.uniform import single
from fanin.records import Init, ModelInfo, Plan

__all__ = ["RECIPES", "Recipe", "decide_all"]


@dataclass(frozen=True)
class Recipe:
    """One entry of the table.

    Attributes:
        summary: One sentence.
        source: Where the rule comes from.
        decide: From a described model to a plan.
        tuning: What is then done with the weights and a batch of data; empty for nothing.
    """

    name: str
    summary: str
    source: str
    decide: Callable[[ModelInfo], Plan]
    tuning: Literal["", "lsuv", "metainit", "gradinit"] = ""


def _orthonormal(info: ModelInfo) -> Plan:
    return single(info, "scaled_orthogonal")


_TABLE = (
    Recipe("auto", "Each weight by its role, by what follows and by depth; residual branches, head and gates, too.",
           "fanin, docs/recipes.md", auto),
    Recipe("torch_default", "What PyTorch's own modules draw.", "torch.nn, reset_parameters", defaults.torch_default),
    Recipe("keras_default", "What Keras's own layers draw.", "keras.layers", defaults.keras_default),
    Recipe("fixup", "Residual networks without normalisation: branches scaled by depth, their last weight 0.",
           "Zhang et al. 2019, arXiv:1901.09321", published.fixup),
    Recipe("t_fixup", "Transformers without normalisation or warm-up.", "Huang et al., ICML 2020",
           transformers.t_fixup),
    Recipe("deepnorm", "Very deep post-norm transformers, whose skips are multiplied by alpha.",
           "Wang et al. 2022, arXiv:2203.00555", transformers.deepnorm),
    Recipe("gpt2", "Standard deviation 0.02, divided by sqrt(branches) where a residual branch ends.",
           "Radford et al. 2019", published.gpt2),
    Recipe("rezero", "Residual branches start at 0 through their multiplier or last normalisation (also SkipInit).",
           "Bachlechner et al. 2021, arXiv:2003.04887; De and Smith 2020, arXiv:2002.10444", published.rezero),
    Recipe("mup", "The maximal update parametrisation's variances.", "Yang et al. 2022, arXiv:2203.03466",
           published.mup),
    Recipe("vit", "Vision transformers: Xavier uniform, positions 0.02, head 0.",
           "Dosovitskiy et al. 2021, arXiv:2010.11929", published.vit),
    Recipe("zero", "Identities and Hadamard matrices, nothing random.", "Zhao et al., TMLR 2022, arXiv:2110.12661",
           published.zero),
    Recipe("delta_orthogonal", "Orthogonal at the kernels' centres, with the gain of what follows.",
           "Xiao et al., ICML 2018, arXiv:1806.05393", published.delta_orthogonal),
    Recipe("lsuv", "Orthogonal, then each weight rescaled until its output has variance 1 on a batch.",
           "Mishkin and Matas 2016, arXiv:1511.06422", _orthonormal, "lsuv"),
    Recipe("metainit", "auto, then weight norms tuned until one gradient step changes the gradient least.",
           "Dauphin and Schoenholz, NeurIPS 2019", auto, "metainit"),
    Recipe("gradinit", "auto, then weight norms tuned until one step lowers the loss most.",
           "Zhu et al., NeurIPS 2021, arXiv:2102.08098", auto, "gradinit"),
)  # fmt: skip

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _TABLE})
"""The recipes by name. Every initializer is a recipe as well: it is given to all weights."""
_ALIASES = {"skipinit": "rezero"}


def decide_all(info: ModelInfo, recipe: str | Init) -> Plan:
    """The plan of a recipe, or of one initializer for all weights.

    Raises:
        UnknownNameError: If neither a recipe nor an initializer has this name.
        ModelError: If the recipe does not fit the model.
    """
    name = _ALIASES.get(recipe, recipe) if isinstance(recipe, str) else recipe
    if isinstance(name, str) and name in RECIPES:
        return RECIPES[name].decide(info)
    try:
        chosen = canonical(name)
    except UnknownNameError:
        raise unknown_name("recipe or initializer", str(name), {*RECIPES, *_ALIASES, *INITIALIZERS}) from None
    return single(info, chosen)
