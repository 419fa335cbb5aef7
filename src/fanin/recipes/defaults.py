"""What the frameworks' own layers draw, as recipes."""

import math

from fanin.initializers.fans import fans_of
from fanin.recipes.base import ONES, Decision, base
from fanin.recipes.uniform import WEIGHT_ROLES
from fanin.records import Init, ModelInfo, ParamInfo, Plan

__all__ = ["keras_default", "torch_default"]


def torch_default(info: ModelInfo) -> Plan:
    """What PyTorch's own modules draw, by role. Source: the modules' `reset_parameters`, torch 2.11."""
    weights = {param.path: param for param in info.params if param.axes}
    owners = {path: weights.get(op.params[0]) for op in info.ops for path in op.params[1:]}

    def decide(param: ParamInfo) -> Decision:
        """What the framework draws for one parameter; None where it says nothing."""
        name = param.path.rpartition(".")[2]
        if param.role == "embedding":
            return Init("random_normal", stddev=1.0), "torch: N(0, 1)"
        if name == "in_proj_weight":
            return _uniform(sum(param.shape) / 6), "torch: Xavier over the packed matrix"
        if name.endswith("_proj_weight"):
            return Init("glorot_uniform"), "torch: Xavier"
        if param.role in WEIGHT_ROLES:
            return _uniform(_torch_number(param)), "torch: uniform up to 1 / sqrt of what it sums"
        if param.role == "bias" and not param.path.endswith(("in_proj_bias", "out_proj.bias")):
            owner = owners.get(param.path) if "_ih" not in name and "_hh" not in name else None
            owner = owner or weights.get(f"{param.path.removesuffix(name)}{name.replace('bias', 'weight')}")
            return None if owner is None else (_uniform(_torch_number(owner)), "torch: the bound of its weight")
        return None

    return base(info, "torch_default", decide)


def _uniform(number: float) -> Init:
    """Uniform up to ``1 / sqrt(number)``."""
    edge = float(f"{number**-0.5:.8g}")
    return Init("random_uniform", minval=-edge, maxval=edge)


def _torch_number(param: ParamInfo) -> int:
    """What PyTorch takes the square root of: hidden units, or the second axis of the tensor times its kernel."""
    if param.role == "recurrent":
        is_projection = param.path.rpartition(".")[2].startswith("weight_hr")
        return param.shape[1] if is_projection else param.shape[0] // param.gates
    if param.role == "transposed_conv":
        return fans_of(param).fan_out
    return param.shape[1] if param.axes == ("out", "in", "in") else fans_of(param).fan_in


def keras_default(info: ModelInfo) -> Plan:
    """What Keras's own layers draw, by role. Source: the layers' defaults, Keras 3.15."""

    def decide(param: ParamInfo) -> Decision:
        """What the framework draws for one parameter; None where it says nothing."""
        if param.role == "embedding":
            return Init("random_uniform", minval=-0.05, maxval=0.05), "Keras: uniform up to 0.05"
        if param.role == "recurrent" and ("recurrent" in param.path or "weight_hh" in param.path):
            return Init("orthogonal"), "Keras: orthogonal (per gate here, whole in Keras)"
        if param.role in ("conv", "depthwise", "recurrent"):
            # Keras counts the last two axes whole: all groups, all channels, all gates.
            receptive = math.prod(size for size, axis in zip(param.shape, param.axes, strict=True) if axis == "spatial")
            others = math.fsum(size for size, axis in zip(param.shape, param.axes, strict=True) if axis != "spatial")
            return _uniform(receptive * others / 6), "Keras: Glorot uniform, over the whole kernel"
        if param.role in WEIGHT_ROLES:
            return Init("glorot_uniform"), "Keras: Glorot uniform"
        if param.role == "bias" and param.gates == 4 and "hh" not in param.path:
            return ONES, "Keras: the forget gate's bias 1, the others 0", (0.0, 1.0, 0.0, 0.0)
        return None

    return base(info, "keras_default", decide)
