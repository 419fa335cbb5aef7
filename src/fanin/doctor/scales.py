"""How large weights are beside what their fan-in, the activation behind them and this very batch call for."""

from typing import TYPE_CHECKING

import numpy as np

from fanin.initializers.draws import law_of
from fanin.recipes.verdicts import expected_stddev
from fanin.records import ParamInfo, PlanEntry

if TYPE_CHECKING:
    from fanin.doctor.facts import Facts

__all__ = ["OFF", "is_weight", "ratios_of"]

OFF = 3.0
"""A standard deviation that is off by less is within what usual initializers differ by."""


def ratios_of(facts: "Facts") -> dict[str, float]:
    """For each weight that no norm rescales its standard deviation over the one that `auto` would give it.

    In executed order, and without weights whose output has the size that it is meant to have, whatever their own.
    """
    found = {}
    for entry in facts.recommended.chosen:
        param = entry.param
        if entry.init is None or not is_weight(param) or facts.values(param.path).size < 2:
            continue
        if param.path in facts.setup.frozen:  # trained elsewhere, or a finding of its own
            continue
        if _is_normalised(facts, param.path) or _suits_its_input(facts, entry):
            continue
        expected = expected_stddev(param, law_of(param, entry.init), entry.scales)
        measured = float(np.sqrt(np.mean(np.square(facts.values(param.path), dtype=np.float64))))
        if expected > 0 and 0 < measured < np.inf:
            found[param.path] = measured / expected
    order = {param.path: at for at, param in enumerate(facts.used)}
    return dict(sorted(found.items(), key=lambda each: order.get(each[0], len(order))))


def is_weight(param: ParamInfo) -> bool:
    """Whether a parameter multiplies a signal that units then tell apart."""
    return "out" in param.axes and param.role not in ("bias", "norm", "unknown")


def _suits_its_input(facts: "Facts", entry: PlanEntry) -> bool:
    """Whether a weight's output on this batch has about the size that it is meant to have, whatever its own size."""
    sizes = [facts.vitals.signal_rms[use] for use in facts.graph.used_by.get(entry.param.path, ())]
    if not sizes or not entry.output:
        return False
    return 1 / OFF < sizes[0] / float(np.sqrt(entry.output)) < OFF


def _is_normalised(facts: "Facts", path: str) -> bool:
    """Whether every output of a weight is normalised, so that its scale does not matter."""
    uses = facts.graph.used_by.get(path, ())
    return bool(uses) and all(
        all(each >= 0 and facts.ops[each].kind == "norm" for each in facts.graph.follows(use)) for use in uses
    )
