"""Every recipe in one table, and the way from a recipe's name and a user's wishes to a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Literal

from fanin.errors import InvalidValueError, UnknownNameError, unknown_name
from fanin.initializers import INITIALIZERS, canonical, parse_call
from fanin.initializers.specs import SPELLINGS
from fanin.recipes import defaults, published, transformers
from fanin.recipes.auto import auto
from fanin.recipes.uniform import single
from fanin.records import Init, ModelInfo, Plan

__all__ = ["RECIPES", "Recipe", "decide_all", "identified"]


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
    found = _found(recipe)
    return found.decide(info) if found else single(info, _initializer(recipe))


def identified(given: str | Init) -> Init:
    """What identifies an initializer, or a recipe with the version of fanin: what a recipe decides may improve.

    Where both have a name, as ``delta_orthogonal``, the initializer is meant.

    Raises:
        UnknownNameError: If neither a recipe nor an initializer has this name, or it has no such parameter.
        InvalidValueError: If the recipe looks at data, or a parameter is out of its range.

    Example:
        >>> print(identified("kaiming_normal"), identified("auto").name)
        he_normal auto
    """
    found = None if given in SPELLINGS else _found(given)
    if found is None:
        return _initializer(given)
    if found.tuning:
        plain = (name for name, each in RECIPES.items() if not each.tuning and name not in SPELLINGS)
        raise InvalidValueError(
            "The recipe looks at data, which it does not get here", given=found.name,
            allowed=f"an initializer, {', '.join(plain)}",
            hint=f"fanin.init(model, {found.name!r}, calibrate=x) applies it.",
        )  # fmt: skip
    return Init(found.name, fanin=version("fanin"))


def _found(given: str | Init) -> Recipe | None:
    """The recipe of a name, or of what `identified` made of it."""
    if isinstance(given, Init):
        return None if given.name in SPELLINGS else RECIPES.get(given.name)
    return RECIPES.get(_ALIASES.get(given, given))


def _initializer(given: str | Init) -> Init:
    call = parse_call(given, "initializer") if isinstance(given, str) else given
    if call.name not in SPELLINGS and _found(call.name) is not None:
        raise UnknownNameError(f"The recipe {call.name} takes no parameters", given=", ".join(call.params))
    if call.name not in SPELLINGS:
        raise unknown_name("recipe or initializer", call.name, {*RECIPES, *_ALIASES, *INITIALIZERS})
    return canonical(given)
