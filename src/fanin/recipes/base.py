"""What the published recipes share: the plan that follows from a decision for each parameter."""

from collections.abc import Callable, Iterable

from fanin.errors import ModelError
from fanin.recipes.graph import Graph
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry

__all__ = ["ONES", "ZEROS", "Decision", "base", "is_multiplier", "need_graph", "need_residuals", "norm_note", "times"]

Decision = tuple[Init, str] | tuple[Init, str, tuple[float, ...]] | None
ZEROS, ONES = Init("zeros"), Init("ones")


def base(info: ModelInfo, name: str, decide: Callable[[ParamInfo], Decision], notes: Iterable[str] = ()) -> Plan:
    """The plan of a recipe: what `decide` says of each parameter, norms 1 and biases 0 where it says nothing."""
    graph = Graph(info)

    def entry(param: ParamInfo) -> PlanEntry:
        """The decision for one parameter, as an entry of the plan."""
        decision = decide(param) or _usual(graph, param)
        if decision is None:
            return PlanEntry(param, None, f"{name} says nothing of it: it stays as the model made it")
        init, reason, *scales = decision
        return PlanEntry(param, init, reason, scales=scales[0] if scales else ())

    return Plan(tuple(map(entry, info.params)), name, notes=(*info.notes, *notes))


def _usual(graph: Graph, param: ParamInfo) -> Decision:
    if param.role == "bias":
        return ZEROS, "a bias: 0"
    if param.role == "norm":
        shifts = {path for op in graph.ops if op.kind == "norm" for path in op.params[1:]}
        is_shift = param.path in shifts or param.path.rpartition(".")[2].rpartition("/")[2] in ("bias", "beta")
        return (ZEROS, "a normalisation's shift: 0") if is_shift else (ONES, "a normalisation's scale: 1")
    return None


def need_graph(info: ModelInfo, name: str) -> Graph:
    """The graph of a model.

    Raises:
        ModelError: If the model was described without being run.
    """
    if not info.ops:
        raise ModelError(
            f"{name} has to see what the model computes",
            given="a model that was not run",
            hint="Give an example of its input, example=x; or choose one initializer for all weights.",
        )
    return Graph(info)


def need_residuals(info: ModelInfo, name: str) -> Graph:
    """The graph of a model with residual branches.

    Raises:
        ModelError: If the model was not run, or has no residual branch.
    """
    graph = need_graph(info, name)
    if not graph.residuals:
        raise ModelError(
            f"{name} does not fit the model",
            given="a model without residual additions",
            allowed="a model whose branches are added to what they branched from",
            hint="auto fits every model.",
        )
    return graph


def times(scale: float, mode: str, factor: float) -> Init:
    """Normal weights of variance ``scale / fan``, times a factor."""
    return Init("variance_scaling", scale=float(f"{scale * factor**2:.6g}"), mode=mode)


def is_multiplier(graph: Graph, param: ParamInfo) -> bool:
    """Whether the model multiplies a signal by the parameter, element by element."""
    return any(
        graph.ops[user].kind == "mul"
        for index in graph.used_by.get(param.path, ()) if graph.ops[index].kind == "param"
        for user in graph.users[index]
    )  # fmt: skip


def norm_note(graph: Graph, name: str) -> tuple[str, ...]:
    """What to say of a recipe that makes normalisation superfluous, where the model has some."""
    if not any(op.kind == "norm" for op in graph.ops):
        return ()
    return (f"{name} is meant for models without normalisation; this one has some.",)
