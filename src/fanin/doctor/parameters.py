"""Checks of the weights themselves: values that no training can start from, or that are on the wrong scale."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.doctor.cures import Cure, can_help, redrawn
from fanin.doctor.facts import Facts
from fanin.doctor.scales import OFF, is_weight
from fanin.doctor.suspicions import Suspicion
from fanin.errors import FaninError
from fanin.initializers.fans import fans_of
from fanin.recipes import trunk
from fanin.recipes.audit import unwritten
from fanin.recipes.repeats import beginning, repeats
from fanin.records import Axis, ParamInfo, Severity

__all__ = [
    "distinct_units", "identical_units", "non_finite_weights", "repeated_weights", "tied_scale",
    "uninitialised_weights", "weights_too_large", "weights_too_small", "zero_weights",
]  # fmt: skip

_COMPARED = 4096
"""Of so many units it is looked whether they are the same."""
_UNCHANGED = 1e-3
"""Share by which an output may change by rounding."""
_FAR_OFF = 30.0
"""By this factor nobody's initializer is off on purpose."""
_NEAR = 1.5
"""By so much chance, a bias or the choice of rows changes the size of what is made with a weight."""
_ABSURD = 150.0
"""And by this one not even in a model that learns; a gain of .01, as for policies, is meant."""
_ALIKE = ("max", "add", "mul")
"""Steps that treat all of their inputs alike."""
_OWN = ("input", "constant", "dropout")
"""Steps of which no two give the same."""
_WILD = 10.0
"""A loss so many times that of a constant answer is no start, whatever the first steps make of it."""


def non_finite_weights(facts: Facts) -> Iterator[Suspicion]:
    """Parameters with infinities or NaN."""
    found = {p.path: np.count_nonzero(~np.isfinite(facts.values(p.path))) for p in facts.used}
    bad = {path: count for path, count in found.items() if count}
    if bad:
        path = next(iter(bad))
        yield Suspicion(
            path, f"{bad[path]} of its {facts.values(path).size} numbers are not finite{_and_more(bad)}",
            "finite numbers", "Draw these weights again.", Cure(plan=redrawn(facts, frozenset(bad))),
        )  # fmt: skip


def uninitialised_weights(facts: Facts) -> Iterator[Suspicion]:
    """Parameters that hold what was in memory before."""
    found = {}
    for param in facts.used:
        values = facts.values(param.path)
        if np.isfinite(values).all() and (words := unwritten(values, param.dtype)):
            found[param.path] = words
    if found:
        path = next(iter(found))
        yield Suspicion(
            path, f"{found[path]}{_and_more(found)}", "numbers between 1e-38 and 1e10",
            "Initialise the parameter: torch.empty and torch.Tensor(n, m) only reserve memory.",
            Cure(plan=redrawn(facts, frozenset(found))),
        )  # fmt: skip


def zero_weights(facts: Facts) -> Iterator[Suspicion]:
    """Weights of zeros that training cannot move, or whose units it moves all alike."""
    zeros = [p for p in facts.used if is_weight(p) and not facts.values(p.path).any()]
    held = [p.path for p in zeros if p.path in facts.stuck or _stays_alike(facts, p)]
    stuck = len(facts.stuck & {p.path for p in facts.used})
    if stuck:
        words = f"{stuck} parameters had a gradient of exactly 0 {_so_far(facts)}"
    else:
        words = f"its units are still the same {_so_far(facts)}" if held else "only biases tell its units apart"
    yield from _symmetric(facts, [p.path for p in zeros], held, "all of its weights are 0", words)


def identical_units(facts: Facts) -> Iterator[Suspicion]:
    """Units that compute the same and are changed alike, so that a layer is no wider than its different units."""
    counts = {
        p.path: min((distinct_units(p, facts.values(p.path), unit) for unit in _units(p)), key=lambda n: n[0] / n[1])
        for p in facts.used if is_weight(p)
    }  # fmt: skip
    alike = [
        path for path, (different, units) in counts.items()
        if different == 1 < units and facts.values(path).any()
    ]  # fmt: skip
    held = [p.path for p in facts.used if p.path in counts and facts.values(p.path).any() and _stays_alike(facts, p)]
    if alike or held:
        different, units = counts[(held or alike)[0]]
        words = f"and still has {_so_far(facts)}" if held else "only biases tell its units apart"
        yield from _symmetric(facts, alike or held, held, f"has {different} different units of {units}", words)


def _symmetric(facts: Facts, paths: list[str], held: list[str], observed: str, words: str) -> Iterator[Suspicion]:
    """Weights whose units are the same: at fault if training cannot part them, or if others would train.

    Gates and branches that start shut are parted by the first steps; they are no fault of a model that learns.
    """
    hidden = [path for path in paths if not _leads_out(facts, path) and not _is_added(facts, path)]
    if not held and not hidden:
        return
    # Of a branch whose gradient cancels a model that learns has no need.
    fatal = held and (facts.trial is None or can_help(facts) or _is_on_the_way(facts, held))
    yield Suspicion(
        (held or hidden)[0], f"{observed}{_and_more(held or hidden)}, {words}", "different weights for each unit",
        "Draw the weights at random; zeros and constants are right for biases alone.",
        Cure(plan=redrawn(facts, frozenset(paths) | frozenset(held))), "error" if fatal else "warning",
        "error" if fatal else "warning" if held or can_help(facts) or _is_on_the_way(facts, hidden) else None,
    )  # fmt: skip


def _is_on_the_way(facts: Facts, paths: list[str]) -> bool:
    """Whether all that reaches the output passes one of some weights."""
    return bool({use for path in paths for use in facts.graph.used_by.get(path, ())} & {*trunk(facts.info)})


def _is_added(facts: Facts, path: str) -> bool:
    """Whether all that a weight makes is added to or multiplied with something else, so that zeros are harmless."""
    kinds = {
        facts.ops[at].kind for use in facts.graph.used_by.get(path, ()) for at in facts.graph.follows(use) if at >= 0
    }
    return bool(kinds) and kinds <= {"add", "mul"}


def repeated_weights(facts: Facts) -> Iterator[Suspicion]:
    """Layers that hold the same random numbers."""
    twins = next(_twin_weights(facts), None)
    if twins is not None:
        path, others = twins
        yield Suspicion(
            path, f"holds the same numbers as {', '.join(others[:3])}, and what is made with them meets again, made of "
            "the same input: they stay the same", "numbers of its own",
            "Do not set the seed again before each layer, and do not copy layers without drawing them again.",
            Cure(plan=redrawn(facts, frozenset((path, *others)))), "warning", "warning",
        )  # fmt: skip
        return
    starts = {}
    for param in facts.used:
        values = facts.values(param.path)
        first = beginning(values, param.dtype) if is_weight(param) and np.ptp(values) > 0 else None
        if first is not None:
            starts[param.path] = first
    repeated = {path: others for path, others in repeats(starts).items() if others}
    # Copies of a layer, as nn.TransformerEncoder makes them, do no harm to a model that learns.
    severity: Severity = "warning" if facts.trial is None or can_help(facts) else "info"
    for path, others in list(repeated.items())[:1]:
        yield Suspicion(
            path, f"begins with the same random numbers as {', '.join(others[:3])}", "numbers of its own",
            "Do not set the seed again before each layer, do not give two layers one initializer with a seed, and do "
            "not copy layers without drawing them again.", severity=severity, unproven=severity,
        )  # fmt: skip


def _twin_weights(facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Weights of branches that make the same of the same input, for a step that treats all of them alike.

    Nothing ever tells such branches apart. A weight of the first one, and those of the others in its place.
    """
    keys = _kinds_of_work(facts)
    for index, op in enumerate(facts.ops):
        users = [facts.ops[each].kind for each in facts.graph.users[index]]
        if op.kind in _ALIKE or (op.kind == "concat" and users and {*users} <= {"mean", "sum", "max"}):
            branches: dict[int, list[int]] = {}
            for source in dict.fromkeys(op.inputs):
                branches.setdefault(keys[source], []).append(source)
            for first, *rest in branches.values():
                own = _params_of(facts, first) if rest else []
                same = [paths for each in rest if _hold_alike(facts, own, paths := _params_of(facts, each))]
                at = next((at for at, path in enumerate(own) if _is_random(facts, path)), None)
                others = () if at is None else tuple(paths[at] for paths in same if paths[at] != own[at])
                if at is not None and others:
                    yield own[at], others


def _kinds_of_work(facts: Facts) -> list[int]:
    """A number for each step: the same for two that do the same with the same inputs, but for the weights' values."""
    numbers: dict[Any, int] = {}
    found: list[int] = []
    for index, op in enumerate(facts.ops):
        alone = index if op.kind in _OWN else -1
        key = (op.kind, op.name, op.value, op.shape, len(op.params), tuple(found[each] for each in op.inputs), alone)
        found.append(numbers.setdefault(key, len(numbers)))
    return found


def _params_of(facts: Facts, index: int) -> list[str]:
    """The parameters that a step's output is made with, in executed order."""
    return [path for each in (*facts.before(index), index) for path in facts.ops[each].params if path in facts.params]


def _hold_alike(facts: Facts, paths: list[str], others: list[str]) -> bool:
    """Whether parameters hold the same numbers, one by one."""
    pairs = list(zip(paths, others, strict=False))
    return len(paths) == len(others) and all(
        one == two or np.array_equal(facts.values(one), facts.values(two)) for one, two in pairs
    )


def _is_random(facts: Facts, path: str) -> bool:
    """Whether it is a weight whose numbers differ, so that nobody else has them by chance."""
    return is_weight(facts.params[path]) and facts.values(path).size > 1 and np.ptp(facts.values(path)) > 0


def weights_too_small(facts: Facts) -> Iterator[Suspicion]:
    """Weights far below what their fan-in and the activation behind them call for."""
    small = {path: ratio for path, ratio in facts.ratios.items() if ratio < 1 / OFF and np.ptp(facts.values(path)) > 0}
    yield from _off_scale(facts, small, "small")


def weights_too_large(facts: Facts) -> Iterator[Suspicion]:
    """Weights far above what their fan-in and the activation behind them call for."""
    large = {p: ratio for p, ratio in facts.ratios.items() if ratio > OFF and not _is_tied(facts, p)}
    yield from _off_scale(facts, large, "large")


def tied_scale(facts: Facts) -> Iterator[Suspicion]:
    """A table that is also the output's weight, and too large for that."""
    yield from _off_scale(facts, {p: r for p, r in facts.ratios.items() if r > OFF and _is_tied(facts, p)}, "large")


def _off_scale(facts: Facts, ratios: dict[str, float], word: str) -> Iterator[Suspicion]:
    path = next((each for each, ratio in ratios.items() if not _is_rescaled(facts, each, ratio)), None)
    if path is None:
        return
    # A table may be small: what follows it makes up for that within a few steps.
    # A head has no size of its own: how large outputs are, the loss at the start says.
    told = [
        max(ratio, 1 / ratio) for each, ratio in ratios.items()
        if facts.params[each].role != "embedding" and not _leads_out(facts, each)
    ]  # fmt: skip
    learns = facts.trial is not None and not can_help(facts)
    wild = facts.against_constant(facts.vitals.loss) > _WILD
    far = max(told, default=1.0) > (_ABSURD if learns else _FAR_OFF) or wild
    measured = float(facts.values(path).std(dtype=np.float64))
    factor = max(ratios[path], 1 / ratios[path])
    yield Suspicion(
        path, f"standard deviation {measured:.3g}, too {word} by a factor of {factor:.3g}{_and_more(ratios)}",
        f"about {measured / ratios[path]:.3g}", "Draw them again, scaled by their fan-in: fanin.init.",
        Cure(plan=redrawn(facts, frozenset(ratios))), "warning", "warning" if far else None,
    )  # fmt: skip


def _is_rescaled(facts: Facts, path: str, ratio: float) -> bool:
    """Whether a weight's size does not matter to what is made with it, as where the model divides it by its norm."""
    uses = facts.graph.used_by.get(path, ())
    if facts.patient.after is None or not uses:
        return False
    own, made = _product(facts, path, uses[0]), facts.vitals.signal_rms[uses[0]]
    if own / _NEAR < made < own * _NEAR:
        return False  # it is used as large as it is: a run with another size would say no more
    try:
        after = facts.patient.after({path: (facts.values(path) / ratio).astype(facts.values(path).dtype)})
    except FaninError:
        return False
    before, now = facts.vitals.signal_rms[uses[0]], after.signal_rms[uses[0]]
    return abs(now - before) < _UNCHANGED * before


def _product(facts: Facts, path: str, use: int) -> float:
    """The size of what a step makes with a weight as it is, if its numbers are random."""
    size = float(np.sqrt(np.mean(np.square(facts.values(path), dtype=np.float64))))
    op = facts.ops[use]
    if op.kind != "weight":
        return size
    return size * float(np.sqrt(fans_of(facts.params[path]).fan_in)) * facts.vitals.signal_rms[op.inputs[0]]


def _is_tied(facts: Facts, path: str) -> bool:
    kinds = {facts.ops[use].kind for use in facts.graph.used_by.get(path, ())}
    return {"lookup", "weight"} <= kinds


def _stays_alike(facts: Facts, param: ParamInfo) -> bool:
    """Whether at least half of the units are the same as another one, and training does not part them."""
    return any(_stay_alike(facts, param, unit) for unit in _units(param))


def _units(param: ParamInfo) -> tuple[Axis, ...]:
    """The axes of a weight's units; a table has two kinds: its rows, and the features that each row has."""
    return ("batch", "out") if param.role == "embedding" and "batch" in param.axes else ("out",)


def _stay_alike(facts: Facts, param: ParamInfo, unit: Axis) -> bool:
    different, units = distinct_units(param, facts.values(param.path), unit)
    if units < 2 or 2 * different > units:
        return False
    if facts.trial is None:
        return different == 1 and not _leads_out(facts, param.path)
    after = facts.trial.values.get(param.path)
    return after is not None and distinct_units(param, after, unit)[0] <= different


def _leads_out(facts: Facts, path: str) -> bool:
    return bool(facts.graph.heads & set(facts.graph.used_by.get(path, ())))


def distinct_units(param: ParamInfo, values: NDArray[np.floating], unit: Axis) -> tuple[int, int]:
    """How many units of a weight are different, and how many there are.

    Args:
        unit: What its axes are that hold units: ``out``, or for the rows of a table ``batch``.

    Example:
        >>> param = ParamInfo("w", (4, 3), "float32", ("out", "in"), "dense")
        >>> distinct_units(param, np.array([[1, 2, 3], [1, 2, 3], [0, 0, 0], [1, 2, 4.0]]), "out")
        (3, 4)
    """
    axes = [axis for axis, name in enumerate(param.axes) if name == unit]
    moved = np.moveaxis(values, axes, range(len(axes)))
    count = int(np.prod(moved.shape[: len(axes)]))
    rows = np.ascontiguousarray(moved.reshape(count, -1)[:_COMPARED])
    _, kinds, counts = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
    shared = counts[kinds] > 1  # most are told apart by their first number, and the whole rows are slow to sort
    alike = len(np.unique(rows[shared], axis=0)) if shared.any() else 0
    return int(np.count_nonzero(~shared)) + alike, len(rows)


def _so_far(facts: Facts) -> str:
    return "at the start" if facts.trial is None else f"after {len(facts.trial.losses) - 1} steps of training"


def _and_more(found: object) -> str:
    count = len(found) - 1  # type: ignore[arg-type]
    return f" (and {count} more)" if count else ""
