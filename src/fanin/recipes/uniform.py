"""Rules for whole models: from a description to a decision for every parameter, with a reason."""

from fanin.errors import ModelError
from fanin.initializers import canonical
from fanin.initializers.fans import fans_of
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry

__all__ = ["single"]

WEIGHT_ROLES = ("dense", "conv", "depthwise", "transposed_conv", "recurrent", "attention")
"""Roles whose parameters are multiplied with a signal, so that fans and variances mean something."""

_LEFT_ALONE = {
    "bias": "a bias stays as the model made it",
    "norm": "a normalisation's scale and shift stay as the model made them",
    "embedding": "a lookup table has no fan-in: it stays as the model made it",
    "unknown": "not known to be a weight: it stays as the model made it",
}


def single(info: ModelInfo, init: str | Init) -> Plan:
    """The recipe that gives every weight of a model the same initializer and leaves the rest alone.

    Raises:
        ModelError: If the model has no weight that the recipe knows.
    """
    chosen = canonical(init)

    def decide(param: ParamInfo) -> PlanEntry:
        if param.role not in WEIGHT_ROLES:
            return PlanEntry(param, None, _LEFT_ALONE[param.role])
        fans = fans_of(param)
        return PlanEntry(param, chosen, f"{param.role}, fan-in {fans.fan_in}, fan-out {fans.fan_out}")

    plan = Plan(tuple(decide(param) for param in info.params))
    if not plan.chosen:
        raise ModelError(
            "The model has no weight that an initializer could be applied to",
            given=", ".join(param.path for param in info.params) or "no trainable parameters",
            allowed="dense, convolution, attention or recurrent layers",
        )
    return plan
