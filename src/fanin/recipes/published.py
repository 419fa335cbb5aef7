"""Recipes for whole models from the literature."""

import math

from fanin.errors import FaninError, ModelError
from fanin.initializers.fans import fans_of
from fanin.recipes.auto import auto
from fanin.recipes.base import ONES, ZEROS, Decision, base, is_multiplier, need_graph, need_residuals, norm_note, times
from fanin.recipes.flow import activation_of
from fanin.recipes.graph import Graph, Residual
from fanin.recipes.points import working_point
from fanin.recipes.uniform import WEIGHT_ROLES
from fanin.records import Init, ModelInfo, ParamInfo, Plan
from fanin.theory import scaling

__all__ = ["delta_orthogonal", "fixup", "gpt2", "mup", "rezero", "vit", "zero"]


def fixup(info: ModelInfo) -> Plan:
    """He weights, those of residual branches times ``L ** (-1 / (2 m - 2))``, the last of each and the classifier 0.

    Source: Zhang et al. 2019 (arXiv:1901.09321).
    """
    graph = need_residuals(info, "fixup")
    residuals = graph.residuals
    branches: dict[str, tuple[Residual, int]] = {}
    for each in residuals:
        for index in each.weights:
            branches.setdefault(graph.ops[index].params[0], (each, index))
    heads = {graph.ops[index].params[0] for index in graph.heads}

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.path in heads:
            return ZEROS, "the classifier starts at 0"
        if param.role not in WEIGHT_ROLES:
            return (ONES, "a multiplier: 1") if is_multiplier(graph, param) else None
        if param.path not in branches:
            return Init("he_normal"), "outside of residual branches: He"
        residual, index = branches[param.path]
        if index in residual.ends:
            return ZEROS, "the last of a residual branch starts at 0"
        depth = max(2, len(residual.weights))
        factor = scaling.fixup(len(residuals), depth)
        return times(2.0, "fan_in", factor), f"He times {factor:.4g}: {len(residuals)} branches of {depth} weights"

    return base(info, "fixup", decide, norm_note(graph, "Fixup"))


def gpt2(info: ModelInfo) -> Plan:
    """Normal weights of standard deviation 0.02, those that end a residual branch divided by sqrt(branches).

    Source: Radford et al. 2019.
    """
    graph = need_residuals(info, "gpt2")
    residuals = graph.residuals
    ends = _last_weights(graph)
    small = float(f"{0.02 / math.sqrt(len(residuals)):.6g}")

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.path in ends:
            return Init("random_normal", stddev=small), f"ends one of {len(residuals)} branches: 0.02 / sqrt of that"
        is_table = any(graph.ops[index].kind == "param" for index in graph.used_by.get(param.path, ()))
        if param.role in WEIGHT_ROLES or param.role == "embedding" or (is_table and len(param.shape) > 1):
            return Init("random_normal", stddev=0.02), "standard deviation 0.02"
        return None

    return base(info, "gpt2", decide)


def _last_weights(graph: Graph) -> set[str]:
    """The weights that end a residual branch."""
    ends = (graph.ops[end] for each in graph.residuals for end in each.ends)
    return {op.params[0] for op in ends if op.kind == "weight"}


def rezero(info: ModelInfo) -> Plan:
    """Every residual branch starts at 0 through its multiplier, or through the scale of its last normalisation.

    The rest is as in `auto`. Sources: Bachlechner et al. 2021 (arXiv:2003.04887), De and Smith 2020
    (arXiv:2002.10444), Goyal et al. 2017 (arXiv:1706.02677).
    """
    graph = need_residuals(info, "rezero")
    zeros: dict[str, str] = {}
    for each in graph.residuals:
        for end in each.ends:
            op = graph.ops[end]
            if op.kind == "norm":
                zeros[op.params[0]] = "the scale of a branch's last normalisation starts at 0"
            elif op.kind == "mul":
                zeros |= {
                    graph.ops[source].params[0]: "the multiplier of a branch starts at 0"
                    for source in op.inputs if graph.ops[source].kind == "param"
                }  # fmt: skip
            else:
                raise ModelError(
                    "rezero does not fit the model", given=f"a branch that ends with {op.params[0]}",
                    allowed="branches that end with a multiplier or a normalisation's scale",
                    hint="fixup sets the last weight to 0.",
                )  # fmt: skip
    usual = {entry.param.path: entry for entry in auto(info).entries}

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.path in zeros:
            return ZEROS, zeros[param.path]
        entry = usual[param.path]
        return None if entry.init is None else (entry.init, entry.reason, entry.scales)

    return base(info, "rezero", decide)


def mup(info: ModelInfo) -> Plan:
    """The maximal update parametrisation for a model that is not rewritten: outputs of variance 1 / fan_in^2.

    Source: Yang et al. 2022 (arXiv:2203.03466), table 3.
    """
    graph = need_graph(info, "mup")
    heads = {graph.ops[index].params[0] for index in graph.heads}

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.role == "embedding":
            tied = " (tied to the output, which muP does not provide for)" if param.path in heads else ""
            return Init("random_normal", stddev=1.0), f"an input: variance 1{tied}"
        if param.role not in WEIGHT_ROLES:
            return None
        if param.path in heads:
            stddev = float(f"{1 / fans_of(param).fan_in:.6g}")
            return Init("random_normal", stddev=stddev), "an output: variance 1 / fan_in^2"
        return Init("lecun_normal"), "hidden or input: variance 1 / fan_in"

    return base(info, "mup", decide, (
        "With muP, Adam's learning rate of hidden and output weights is divided by the width relative to the base "
        "model, and attention's scores are divided by d in place of sqrt(d).",
    ))  # fmt: skip


def vit(info: ModelInfo) -> Plan:
    """Xavier uniform weights, positions of standard deviation 0.02, first convolution LeCun, head 0.

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929) and its published code.
    """
    graph = Graph(info)
    heads = {graph.ops[index].params[0] for index in graph.heads}

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.path in heads:
            return ZEROS, "the head starts at 0"
        if param.role in ("conv", "depthwise", "transposed_conv"):
            return Init("lecun_normal"), "patches: LeCun"
        if param.role in WEIGHT_ROLES:
            return Init("glorot_uniform"), "Xavier uniform, each of packed queries, keys and values by itself"
        tables = [index for index in graph.used_by.get(param.path, ()) if graph.ops[index].kind == "param"]
        if param.role == "embedding" or any(
            graph.ops[user].kind == "add" for index in tables for user in graph.users[index]
        ):
            return Init("random_normal", stddev=0.02), "positions: standard deviation 0.02"
        return (ZEROS, "the class token starts at 0") if tables else None

    return base(info, "vit", decide)


def zero(info: ModelInfo) -> Plan:
    """Nothing random: identities, Hadamard matrices where a layer widens, and 0 where a residual branch ends.

    Source: Zhao et al., TMLR 2022 (arXiv:2110.12661).
    """
    graph = Graph(info)
    ends = {
        graph.ops[end].params[0] for each in graph.residuals for end in each.ends if graph.ops[end].kind == "weight"
    }

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.role not in WEIGHT_ROLES:
            return None
        if param.path in ends:
            return ZEROS, "the last of a residual branch starts at 0"
        return Init("hadamard"), "an identity, or a Hadamard matrix where the layer widens"

    return base(info, "zero", decide)


def delta_orthogonal(info: ModelInfo) -> Plan:
    """Orthogonal matrices at the centre of each kernel, with the gain of what follows.

    Source: Xiao et al., ICML 2018 (arXiv:1806.05393).
    """
    graph = Graph(info)

    def gain(param: ParamInfo) -> float:
        """The gain of the activation that follows the weight; 1 without one."""
        for index in graph.used_by.get(param.path, ()):
            for each in graph.follows(index):
                if each >= 0 and graph.ops[each].kind == "activation":
                    try:
                        point = working_point(activation_of(graph.ops[each]), graph.runs[index], False)
                        return math.sqrt(point.gain2)
                    except FaninError:
                        return 1.0
        return 1.0

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.role not in WEIGHT_ROLES:
            return None
        fans, wanted = fans_of(param), float(f"{gain(param):.6g}")
        fits = "spatial" in param.axes and fans.rows <= fans.columns
        name = "delta_orthogonal" if fits else "scaled_orthogonal"
        why = "no more inputs than units" if fits else "scaled, so that the signal keeps its size"
        return Init(name, gain=wanted), f"orthogonal at the kernel's centre, {why}"

    return base(info, "delta_orthogonal", decide)
