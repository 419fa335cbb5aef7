"""What the frameworks' own layers draw, as recipes."""

import math

from fanin.initializers.fans import fans_of
from fanin.recipes.base import ONES, Decision, base
from fanin.recipes.graph import Graph
from fanin.recipes.uniform import WEIGHT_ROLES
from fanin.records import Init, ModelInfo, ParamInfo, Plan

__all__ = ["keras_default", "torch_default"]


def _bounded(bound: float) -> Init:
    edge = float(f"{bound:.8g}")
    return Init("random_uniform", minval=-edge, maxval=edge)


def torch_default(info: ModelInfo) -> Plan:
    """What PyTorch's own modules draw, by role. Source: the modules' `reset_parameters`, torch 2.11."""
    graph = Graph(info)
    weights = {param.path: param for param in info.params if param.axes}

    def weight_of(param: ParamInfo) -> ParamInfo | None:
        for index in graph.used_by.get(param.path, ()):
            owner = weights.get(graph.ops[index].params[0])
            if owner is not None:
                return owner
        return weights.get(f"{param.path.removesuffix('bias')}weight")

    def decide(param: ParamInfo) -> Decision:
        if param.role == "embedding":
            return Init("random_normal", stddev=1.0), "torch: N(0, 1)"
        if param.role == "recurrent" or (
            param.role == "bias" and "_hh" in param.path + param.path.replace("_ih", "_hh") and param.gates > 1
        ):
            hidden = param.shape[0] // param.gates
            return _bounded(hidden**-0.5), "torch: uniform up to 1 / sqrt(hidden)"
        if param.role == "attention" and param.gates == 3:
            rows, columns = param.shape
            return _bounded(math.sqrt(6 / (rows + columns))), "torch: Xavier over the packed matrix"
        if param.role in WEIGHT_ROLES:
            return Init("fan_in_uniform"), "torch: uniform up to 1 / sqrt(fan_in)"
        owner = weight_of(param) if param.role == "bias" else None
        if owner is not None and owner.role in ("dense", "conv", "depthwise", "transposed_conv"):
            return _bounded(fans_of(owner).fan_in ** -0.5), "torch: uniform up to 1 / sqrt(fan_in) of its weight"
        return None

    return base(info, "torch_default", decide)


def keras_default(info: ModelInfo) -> Plan:
    """What Keras's own layers draw, by role. Source: the layers' defaults, Keras 3.15."""

    def decide(param: ParamInfo) -> Decision:
        if param.role == "embedding":
            return Init("random_uniform", minval=-0.05, maxval=0.05), "Keras: uniform up to 0.05"
        if param.role == "recurrent" and ("recurrent" in param.path or "weight_hh" in param.path):
            return Init("orthogonal"), "Keras: orthogonal (per gate here, whole in Keras)"
        if param.role in WEIGHT_ROLES:
            return Init("glorot_uniform"), "Keras: Glorot uniform"
        if param.role == "bias" and param.gates == 4 and "hh" not in param.path:
            return ONES, "Keras: the forget gate's bias 1, the others 0", (0.0, 1.0, 0.0, 0.0)
        return None

    return base(info, "keras_default", decide)
