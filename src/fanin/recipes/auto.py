"""The recipe `auto`: each parameter as its place in the model asks for, with the reason."""

import math
from collections.abc import Sequence

from fanin.initializers.fans import fans_of
from fanin.recipes.base import need_graph
from fanin.recipes.chains import Chain, chains
from fanin.recipes.flow import Signal, activation_of, backward, forward, moments_of
from fanin.recipes.graph import Graph, Residual, trunk
from fanin.recipes.sizes import GROWTH, HEAD, Wish, part_of_a_sum, share, unknowns, wish
from fanin.records import Init, ModelInfo, Op, ParamInfo, Plan, PlanEntry

__all__ = ["auto", "scaled"]

_POSITIONS = 0.5
"""Second moment of a learnt table of positions beside tokens of 1, as that of sines and cosines is."""
_FLAT = 2.0
"""Beyond this factor between largest and smallest, a plan says that signal or gradient is not flat."""


def scaled(variance: float) -> Init:
    """Normal weights whose variance is ``variance / fan_in``, by the name that the field knows, if there is one.

    Example:
        >>> scaled(2.0), scaled(0.5)
        (Init('he_normal'), Init('variance_scaling(scale=0.5)'))
    """
    names = {2.0: "he_normal", 1.0: "lecun_normal"}
    near = next((name for value, name in names.items() if math.isclose(variance, value, rel_tol=1e-6)), None)
    return Init(near) if near else Init("variance_scaling", scale=float(f"{variance:.6g}"))


def auto(info: ModelInfo) -> Plan:
    """Decide for every parameter by its role, by what follows it and by how deep the model is.

    Raises:
        ModelError: If the model was described without being run, so that nothing is known of what follows what.
    """
    return _Auto(need_graph(info, "auto")).plan()


class _Auto:
    """The decisions, made in executed order so that each weight's input is known when its turn comes."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.ends: dict[int, Residual] = {end: each for each in self.graph.residuals for end in each.ends}
        self.chains: dict[int, tuple[Chain, int]] = {
            weight: (chain, position) for chain in chains(self.graph) for position, weight in enumerate(chain.weights)
        }
        self._tied = {
            path for path, users in graph.used_by.items()
            if {"lookup", "weight"} <= {graph.ops[index].kind for index in users}
        }  # fmt: skip
        self.entries: dict[str, PlanEntry] = {}
        self.seconds: dict[str, float] = {}
        """Second moment of the entries of each parameter that is decided."""
        self.slopes: dict[int, float] = {}
        """By what each weight step multiplies the squared norm of gradients."""
        self.warnings: dict[str, None] = {}

    def plan(self) -> Plan:
        """Everything decided."""
        info = self.graph.info
        signals = forward(self.graph, self._weight, self._value)
        self._follow_ups()
        for param in info.params:
            self.entries.setdefault(param.path, _left(self.graph, param))
        entries = tuple(self.entries[param.path] for param in info.params)
        return Plan(entries, "auto", notes=(*info.notes, *self.warnings, *self._notes(signals)))

    def _decide(
        self,
        path: str,
        init: Init | None,
        reason: str,
        considers: str,
        otherwise: str = "",
        *,
        output: float | None = None,
        scales: tuple[float, ...] = (),
    ) -> None:
        """Keep a decision; the first use of a parameter decides."""
        if path in self.graph.params:
            self.entries.setdefault(
                path,
                PlanEntry(self.graph.params[path], init, reason, considers, otherwise, scales, output),
            )

    def _weight(self, index: int, signals: Sequence[Signal]) -> float:
        """Decide a weight when its first use is met; returns its variance times the number that one unit sums."""
        op, graph = self.graph.ops[index], self.graph
        path = op.params[0]
        param = graph.params.get(path)
        if param is None or not param.axes:
            self.slopes[index] = 1.0
            return 1.0
        # A table tied to the output is multiplied with signals of its width.
        fan_in = param.shape[-1] if param.role == "embedding" else fans_of(param).fan_in
        if path not in self.entries:
            given = math.prod(signals[source].second for source in op.inputs) or 1.0
            self._decide_weight(index, param, given, signals)
        variance = self.seconds[path] * fan_in * op.value
        self.slopes[index] = self._chain_slope(index) or variance
        return variance

    def _chain_slope(self, index: int) -> float:
        """For a weight within a chain: what makes the predicted growth of gradients that of the chain."""
        chain, position = self.chains.get(index, (None, 0))
        if chain is None or position == 0:
            return 0.0
        slope = _slope_second(self.graph.ops[self.graph.comes_from(index)[0]], chain.point.q)
        ends = position == len(chain.weights) - 1
        return 0.0 if ends or not slope else chain.growth / slope

    def _decide_weight(self, index: int, param: ParamInfo, given: float, signals: Sequence[Signal]) -> None:
        value = self.graph.ops[index].value
        wanted = wish(self.graph, index, given, self._stream(index, signals))
        second, init = wanted.second, None
        if index in self.chains:
            chain, position = self.chains[index]
            second = chain.point.q if position < len(chain.weights) - 1 else second
            init = chain.init(position, given, second)
            wanted = Wish(second, chain.reason, "architecture", wanted.otherwise, chain.warning)
        if wanted.warning:
            self.warnings[wanted.warning] = None
        # Attention averages at the start: to make up for that would enlarge a branch as soon as it looks at something.
        averaged = any(self.graph.ops[each].kind in ("attention", "matmul") for each in self.graph.comes_from(index))
        fans = fans_of(param)
        self.seconds[param.path] = second / (given * fans.fan_in * value)
        self._decide(
            param.path, init or scaled(second / (given * value)),
            f"{param.role.replace('_', ' ')}, fan-in {fans.fan_in}: {wanted.reason}",
            wanted.considers, wanted.otherwise, output=None if averaged else second,
        )  # fmt: skip

    def _stream(self, index: int, signals: Sequence[Signal]) -> float | None:
        """The second moment of the signal that a weight's branch is added to; None if it ends no branch."""
        residual = self.ends.get(index)
        if residual is None:
            return None
        return signals[residual.skip if residual.skip < len(signals) else residual.fork].second

    def _value(self, index: int, other: Signal) -> float:
        """Decide a parameter that is used as a value; returns the second moment of its entries."""
        op = self.graph.ops[index]
        path = op.params[0]
        if path not in self.entries and path in self.graph.params:
            decided = {"lookup": self._lookup, "norm": self._norm, "param": self._param}[op.kind]
            decided(index, path, other)
        return self.seconds.get(path, 1.0)

    def _constant(self, path: str, value: float, reason: str, considers: str, otherwise: str = "") -> None:
        self.seconds[path] = value**2
        init = Init("ones") if value == 1 else Init("zeros") if value == 0 else Init("constant", value=value)
        self._decide(path, init, reason, considers, otherwise)

    def _normal(self, path: str, second: float, reason: str, considers: str, otherwise: str = "") -> None:
        self.seconds[path] = second
        stddev = float(f"{math.sqrt(second):.6g}")
        self._decide(path, Init("random_normal", stddev=stddev), reason, considers, otherwise)

    def _norm(self, index: int, path: str, _: Signal) -> None:
        if index not in self.ends:
            behind = part_of_a_sum(self.graph, index, 1.0)
            scale = float(f"{math.sqrt(behind.second):.6g}") if behind else 1.0
            reason = behind.reason if behind else "its output has second moment 1"
            self._constant(path, scale, f"a normalisation's scale: {reason}", "normalisation")
            return
        # The signal that the branch is added to has second moment near 1, whatever runs first.
        residual = self.ends[index]
        share = float(GROWTH ** (1 / residual.chain) - 1) / len(residual.ends)
        self._constant(
            path, float(f"{math.sqrt(share):.6g}"),
            f"the last normalisation of a residual branch, one of {residual.chain} that together may enlarge the "
            f"signal by {GROWTH:g}", "normalisation",
            f"at 1 the signal would grow to {residual.chain + 1} times its second moment",
        )  # fmt: skip

    def _lookup(self, index: int, path: str, _: Signal) -> None:
        graph = self.graph
        sums = [each for each in graph.follows(index) if each >= 0 and graph.ops[each].kind == "add"]
        if any(map(self._is_shared_out, (index, *sums))):
            self._constant(path, 0.0, "added to attention's scores: 0, no preference at the start", "architecture")
            return
        multiplier = math.prod(
            graph.ops[user].value ** 2 for user in graph.users[index] if graph.ops[user].kind == "scale"
        )
        if path in self._tied:
            heads = [each for each in graph.used_by[path] if graph.ops[each].kind == "weight"]
            width = graph.params[path].shape[-1]
            before = math.prod(
                graph.ops[each].value ** 2 for each in graph.ops[heads[0]].inputs if graph.ops[each].kind == "scale"
            )
            self._normal(
                path, HEAD / (width * before),
                f"a table tied to the output: {width} products of it sum to outputs of second moment {HEAD:g}", "task",
                f"a standard deviation of 1 would begin with outputs of {math.sqrt(width):.3g}",
            )  # fmt: skip
            return
        tables = self._tables_added(index)
        tied = next((path for path in tables if self.seconds.get(path) and path in self._tied), None)
        if tied is not None:
            self._normal(path, self.seconds[tied], f"a table added to {tied}, which is tied to the output: as large",
                         "architecture")  # fmt: skip
            return
        among = f", one of {len(tables)} tables that are added" if len(tables) > 1 else ""
        self._normal(path, 1 / (len(tables) * multiplier), f"a table of embeddings{among}: the signal starts at second "
                     "moment 1", "architecture")  # fmt: skip

    def _is_shared_out(self, index: int) -> bool:
        """Whether a softmax is taken of what a step makes."""
        return any(each >= 0 and self.graph.ops[each].kind == "softmax" for each in self.graph.follows(index))

    def _tables_added(self, index: int) -> tuple[str, ...]:
        """The tables that are added up with this one before anything else happens, in executed order."""
        residual = {each.add for each in self.graph.residuals}
        members, waiting = {index}, [index]
        while waiting:
            at = waiting.pop()
            near = list(self.graph.users[at])
            if at != index:
                near += self.graph.ops[at].inputs
            fresh = [
                each for each in near
                if each not in members and each not in residual
                and self.graph.ops[each].kind in ("add", "move", "dropout", "scale", "lookup")
            ]  # fmt: skip
            members.update(fresh)
            waiting.extend(each for each in fresh if self.graph.ops[each].kind != "lookup")
        return tuple(
            self.graph.ops[each].params[0] for each in sorted(members) if self.graph.ops[each].kind == "lookup"
        )

    def _param(self, index: int, path: str, other: Signal) -> None:
        users = [self.graph.ops[user] for user in self.graph.users[index]]
        shape = self.graph.params[path].shape
        end = next((user for user in self.graph.users[index] if user in self.ends), None)
        if any(user.kind == "mul" for user in users):
            if end is None:
                self._constant(path, 1.0, "a multiplier: 1, the signal passes as it is", "architecture")
                return
            factor = math.sqrt(share(self.ends[end]) / max(other.second, 1e-6))
            self._constant(path, float(f"{factor:.6g}"), "the multiplier of a residual branch, one of "
                           f"{self.ends[end].chain} that together may enlarge the signal by {GROWTH:g}",
                           "architecture", "at 0 (ReZero) the branch has no gradient at the first step")  # fmt: skip
        elif any(user.kind == "add" for user in users) and sum(size > 1 for size in shape) < 2:
            self._constant(path, 0.0, "added to the signal, like a bias: 0", "variance")
        elif any(user.kind == "add" for user in users):
            self._normal(path, _POSITIONS * other.second, "a table added to the signal, such as positions: half its "
                         "second moment", "architecture")  # fmt: skip
        elif math.prod(shape) == 1:
            self.seconds[path] = 1.0
            self._decide(path, None, "a single number, such as a temperature: it stays as the model made it", "task")
        else:
            self._normal(path, other.second, "beside the signal, or in its place: of its second moment", "architecture")

    def _follow_ups(self) -> None:
        """Biases and shifts of the steps that are decided, and the weights of recurrent layers."""
        for op in self.graph.ops:
            if op.kind == "recurrent":
                self._recurrent(op)
            elif op.kind in ("weight", "norm"):
                for path in op.params[1:]:
                    kind = "a normalisation's shift" if op.kind == "norm" else "a bias"
                    self._constant(path, 0.0, f"{kind}: 0, weights alone break the symmetry", "variance")

    def _recurrent(self, op: Op) -> None:
        weights = [path for path in op.params if path in self.graph.params and self.graph.params[path].axes
                   and self.graph.params[path].role == "recurrent"]  # fmt: skip
        for position, path in enumerate(weights):
            param = self.graph.params[path]
            gates = f", {param.gates} gates, each a weight of its own" if param.gates > 1 else ""
            if position < len(weights) / 2:
                self._decide(path, Init("lecun_normal"), f"inputs of a recurrent layer{gates}: pre-activations of "
                            "second moment 1", "activation")  # fmt: skip
            else:
                self._decide(path, Init("orthogonal"), f"states of a recurrent layer{gates}: orthogonal, so that they "
                            "neither grow nor vanish in time", "architecture")  # fmt: skip
        forget = op.name == "lstm"
        for path in op.params:
            if path in weights or path not in self.graph.params:
                continue
            if forget and self.graph.params[path].gates == 4:
                self._decide(path, Init("ones"), "the forget gate's bias is 1, so that the state is kept at first; the "
                            "others 0", "architecture", scales=(0.0, 1.0, 0.0, 0.0))  # fmt: skip
                forget = False
            else:
                self._constant(path, 0.0, "a bias: 0", "variance")

    def _notes(self, signals: Sequence[Signal]) -> tuple[str, ...]:
        """Where signal or gradient are predicted not to be flat, and what cannot be predicted."""
        slopes = backward(self.graph, signals, self.slopes)
        places = trunk(self.graph.info)
        found = [*unknowns(self.graph)]
        for name, values in (
            ("signal", [signals[i].second for i in places]),
            ("gradient", [slopes[i] for i in places]),
        ):
            positive = [value for value in values if value > 0]
            if positive and max(positive) > _FLAT**2 * min(positive):
                found.append(
                    f"Predicted second moment of the {name}: {positive[0]:.3g} at the first step, {positive[-1]:.3g} "
                    f"at the last, {min(positive):.3g} to {max(positive):.3g} between."
                )
        return tuple(found)


def _slope_second(op: Op, q: float) -> float:
    return moments_of(activation_of(op), q).slope_second if op.kind == "activation" else 0.0


def _left(graph: Graph, param: ParamInfo) -> PlanEntry:
    """The entry of a parameter that no rule reached."""
    used = [graph.ops[index] for index in graph.used_by.get(param.path, ())]
    if not used:
        return PlanEntry(param, None, "no step of the model that was seen uses it: it stays as the model made it")
    names = ", ".join(dict.fromkeys(op.name or op.kind for op in used))
    return PlanEntry(param, None, f"used by {names}, which is not understood: it stays as the model made it",
                     otherwise="A rule for its path decides it.")  # fmt: skip
