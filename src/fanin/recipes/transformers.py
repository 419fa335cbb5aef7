"""Recipes for deep transformers: which weights they scale, and by how much."""

import math
from dataclasses import dataclass

from fanin.recipes.base import Decision, base, need_residuals, norm_note, times
from fanin.recipes.graph import Graph, Residual
from fanin.recipes.uniform import WEIGHT_ROLES
from fanin.records import Init, ModelInfo, ParamInfo, Plan
from fanin.theory import scaling

__all__ = ["deepnorm", "t_fixup"]


@dataclass(frozen=True)
class _Layers:
    """How a transformer is built.

    Attributes:
        encoders, decoders: Numbers of layers; a model of one kind of layer alone has encoders.
        side: ``encoder`` or ``decoder`` for each weight within a residual branch.
        lookers: The weights that make queries and keys alone, which no recipe scales.
    """

    encoders: int
    decoders: int
    side: dict[str, str]
    lookers: frozenset[str]


def _layers(graph: Graph) -> _Layers:
    streams: dict[int, list[Residual]] = {}
    roots: dict[int, int] = {}
    for each in graph.residuals:
        before = _earlier_add(graph, each.skip, roots)
        roots[each.add] = each.add if before is None else roots[before]
        streams.setdefault(roots[each.add], []).append(each)
    side: dict[str, str] = {}
    counts = {"encoder": 0, "decoder": 0}
    for residuals in streams.values():
        crossing = [each for each in residuals if _attends_elsewhere(graph, each)]
        name = "decoder" if crossing else "encoder"
        counts[name] += len(crossing) or sum(_attends(graph, each) for each in residuals)
        side |= {graph.ops[index].params[0]: name for each in residuals for index in each.weights}
    lookers = {
        graph.ops[index].params[0] for each in graph.residuals for index in each.weights if _only_looks(graph, index)
    }
    return _Layers(counts["encoder"], counts["decoder"], side, frozenset(lookers))


def _earlier_add(graph: Graph, index: int, known: dict[int, int]) -> int | None:
    """The residual addition whose output a step passes on, if there is one."""
    waiting = [index]
    while waiting:
        at = waiting.pop()
        if at in known:
            return at
        if graph.ops[at].kind in ("norm", "move", "dropout", "scale"):
            waiting.extend(graph.ops[at].inputs)
    return None


def _attends(graph: Graph, residual: Residual) -> bool:
    inside = range(residual.fork, residual.branch + 1)
    return any(graph.ops[index].kind in ("attention", "softmax") for index in inside)


def _attends_elsewhere(graph: Graph, residual: Residual) -> bool:
    """Whether the branch attends to a signal other than the one that it branched from."""
    if not _attends(graph, residual):
        return False
    inside = range(residual.fork, residual.branch + 1)
    return any(
        source not in inside and graph.live[source] for index in residual.weights for source in graph.comes_from(index)
    )


def _only_looks(graph: Graph, index: int) -> bool:
    """Whether a weight makes queries or keys, and not values: a packed one makes all three."""
    for each in graph.follows(index):
        op = graph.ops[each]
        if each < 0 or op.kind not in ("attention", "matmul"):
            continue
        passed = [set(_passed(graph, source)) for source in op.inputs]
        if op.kind == "attention":
            return index not in passed[-1]
        return not any(graph.ops[source].kind == "softmax" for sources in passed for source in sources)
    return False


def _passed(graph: Graph, index: int) -> list[int]:
    """A step and those before it whose signal it is."""
    found, waiting = [], [index]
    while waiting:
        at = waiting.pop()
        found.append(at)
        if graph.ops[at].kind in ("move", "dropout", "scale", "norm"):
            waiting.extend(graph.ops[at].inputs)
    return found


def _scaled(
    info: ModelInfo, name: str, layers: _Layers, factors: dict[str, float], table: float | None, notes: tuple[str, ...]
) -> Plan:
    """Xavier weights; values, attention outputs and feed-forward weights times their side's factor."""

    def decide(param: ParamInfo) -> Decision:
        """What the recipe gives one parameter; None where it says nothing."""
        if param.role == "embedding" and table is not None:
            stddev = float(f"{param.shape[-1] ** -0.5 * table:.6g}")
            return Init("random_normal", stddev=stddev), f"embeddings of variance 1 / width, times {table:.4g}"
        if param.role not in WEIGHT_ROLES:
            return None
        side = layers.side.get(param.path)
        if side is None:
            return Init("glorot_normal"), "outside of residual branches: Xavier"
        factor = factors[side]
        if param.gates == 3:
            return Init("glorot_normal"), f"packed, {side}: Xavier, values times {factor:.4g}", (1.0, 1.0, factor)
        if param.path in layers.lookers:
            return Init("glorot_normal"), "queries and keys: Xavier"
        return times(1.0, "fan_avg", factor), f"{side}: value, output or feed-forward, Xavier times {factor:.4g}"

    return base(info, name, decide, notes)


def t_fixup(info: ModelInfo) -> Plan:
    """Xavier, with values, outputs and feed-forward weights scaled by depth; for transformers without norms.

    Source: Huang et al., ICML 2020.
    """
    graph = need_residuals(info, "t_fixup")
    layers = _layers(graph)
    encoders, decoders = max(1, layers.encoders), max(1, layers.decoders)
    factors = {"encoder": scaling.t_fixup(encoders), "decoder": scaling.t_fixup(decoders, "decoder")}
    table = scaling.t_fixup(encoders, "embedding")
    return _scaled(info, "t_fixup", layers, factors, table, norm_note(graph, "T-Fixup"))


def deepnorm(info: ModelInfo) -> Plan:
    """Xavier, with values, outputs and feed-forward weights times beta; the model multiplies its skips by alpha.

    Source: Wang et al. 2022 (arXiv:2203.00555).
    """
    graph = need_residuals(info, "deepnorm")
    layers = _layers(graph)
    encoder, decoder = scaling.deepnorm(layers.encoders or (0 if layers.decoders else 1), layers.decoders)
    sides = {name: numbers for name, numbers in (("encoder", encoder), ("decoder", decoder)) if numbers is not None}
    skips = [graph.ops[each.skip] for each in graph.residuals]
    multiplied = all(
        op.kind == "scale" and any(math.isclose(op.value, each.alpha, rel_tol=0.01) for each in sides.values())
        for op in skips
    )
    wanted = " and ".join(f"{numbers.alpha:.4g} ({name})" for name, numbers in sides.items())
    note = f"DeepNorm multiplies what skips a branch by alpha = {wanted}; this model does not."
    factors = {name: numbers.beta for name, numbers in sides.items()}
    return _scaled(info, "deepnorm", layers, factors, None, () if multiplied else (note,))
