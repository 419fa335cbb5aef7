"""Checks of units that hand on nothing: dead ones, and saturated ones."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fanin.doctor.cures import Cure, can_help, is_still, redrawn
from fanin.doctor.facts import Facts
from fanin.doctor.suspicions import Suspicion
from fanin.recipes import trunk
from fanin.records import Op, Vitals

__all__ = ["all_off", "dead_units", "has_dead_layer", "is_collapsed", "saturated_units"]

_ONE = 1 - 1e-6
_WIDE = 8.0
"""Standard deviations beyond which a normal number does not come."""
_BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hard_sigmoid": (0.0, 1.0), "hard_tanh": (-1.0, 1.0),
           "softsign": (-1.0, 1.0), "erf": (-1.0, 1.0), "rnn_tanh": (-1.0, 1.0), "gru": (-1.0, 1.0),
           "lstm": (-1.0, 1.0)}  # fmt: skip
"""Between which two numbers a saturating activation, or a recurrent layer's state, lies."""
_EDGE = 0.01
"""Share of its range within which an activation counts as saturated: a slope below 4 % of the largest."""
_PLACES = 4
"""Over fewer places a softmax is a gate."""
_RECTIFIERS = ("relu", "relu6", "crelu")
_TAILED = ("elu", "celu", "selu", "gelu", "gelu_tanh", "silu", "hard_silu", "mish", "softplus", "leaky_relu")
"""Activations that are nearly flat far below 0, or as good as flat."""
_FLAT_SLOPE = 0.02
_FAR = 100.0
_BATCH = 16
"""Fewer numbers say little about units that are always off."""
_SHUT = 1e-6
"""A state of this size is what closed gates let through."""
_GROWN = 0.1
"""Share of the units that training has to turn off."""
_MANY = 0.5
_MOST = 0.9


def dead_units(facts: Facts) -> Iterator[Suspicion]:
    """Units that are off for the whole batch, so that they are neither used nor trained."""
    yield from _silent(facts)
    found = _dead(facts, facts.vitals)
    worst = {i: share for i, share in found.items() if _is_dead(facts, i, share)}
    if not worst:
        yield from _dying(facts, found)
    else:
        index, share = next(iter(worst.items()))
        units = facts.vitals.highest[index].size
        yield Suspicion(
            facts.place(index), f"{share:.0%} of {units} units are off for all {facts.ops[index].shape[0]} examples",
            "a few percent at most",
            "Set biases to 0 and draw the weights again, or use an activation that does not die (leaky_relu, gelu).",
            Cure(plan=redrawn(facts, _weights_before(facts, index))), "warning", "warning",
        )  # fmt: skip


def _is_dead(facts: Facts, index: int, share: float) -> bool:
    """Whether more units of an activation are off than chance explains; or all, and nothing is learned."""
    return share > max(_MANY, _likely(facts, facts.vitals, index)) or (share == 1 and is_still(facts))


def _likely(facts: Facts, vitals: Vitals, index: int) -> float:
    """The largest share of units that random weights without biases would turn off: three deviations above the mean."""
    layers = [each for each in facts.graph.comes_from(index) if facts.ops[each].kind in ("weight", "norm")]
    known = [vitals.cosine[source] for layer in layers for source in facts.ops[layer].inputs]
    share = all_off(max([0.0, *(each for each in known if math.isfinite(each))]), facts.ops[index].shape[0])
    return share + 3 * math.sqrt(share * (1 - share) / max(1, vitals.highest[index].size))


def is_collapsed(facts: Facts) -> bool:
    """Whether all that leads to the output gets the same for all examples."""
    given = [facts.vitals.cosine[source] for head in facts.graph.heads for source in facts.ops[head].inputs]
    return bool(given) and all(cosine > _ONE for cosine in given)


def all_off(cosine: float, count: int) -> float:
    """The probability that a unit of random weights is below 0 for all of some examples.

    Its pre-activations are normal numbers whose correlation is the cosine c of the examples: E[Phi(z sqrt(c / (1 -
    c)))^n] over normal z.

    Args:
        cosine: Of any two examples, from 0 to 1.
        count: How many examples, n.

    Example:
        >>> round(all_off(0.0, 3), 4), round(all_off(1.0, 3), 2)
        (0.125, 0.5)
    """
    cosine = min(cosine, _ONE)
    z = np.linspace(-_WIDE, _WIDE, 1601)
    weights = np.exp(-z * z / 2)
    below = ndtr(z * math.sqrt(cosine / (1 - cosine))) ** count
    return float(np.sum(below * weights) / np.sum(weights))


def _silent(facts: Facts) -> Iterator[Suspicion]:
    """Recurrent layers and steps that are not understood, on the way of all signals, that give 0 for everything.

    Gates that are shut leave a recurrent layer a state that is as good as 0.
    """
    sizes = facts.vitals.signal_rms
    for index in trunk(facts.info):
        op = facts.ops[index]
        heard = max((sizes[source] for source in op.inputs), default=0.0)
        least = _SHUT * min(1.0, heard) if op.kind == "recurrent" else 0.0
        if op.kind in ("recurrent", "other") and sizes[index] <= least and heard > 0:
            size = f"of size {sizes[index]:.2g}" if sizes[index] else "0"
            yield Suspicion(
                facts.place(index), f"all outputs of {op.name} are {size} for all {op.shape[0]} examples",
                "a few percent at most", "Set biases to 0 and draw the weights again, or use another activation.",
                Cure(plan=redrawn(facts, frozenset(op.params) or _weights_before(facts, index))),
            )  # fmt: skip
            return


def _dead(facts: Facts, vitals: Vitals) -> dict[int, float]:
    """The share of units that are off for all examples, by activation: below 0, where it is 0 or as good as flat."""
    found: dict[int, float] = {}
    for index, op in enumerate(facts.ops):
        can_die = op.name in (*_RECTIFIERS, *_TAILED) or (op.function is not None and _bends(op.function))
        if op.kind == "activation" and can_die and facts.graph.live[index]:
            highest = vitals.highest[index] if index < len(vitals.highest) else np.array([])
            if highest.size and math.prod(op.shape) >= _BATCH * highest.size and np.isfinite(highest).all():
                found[index] = float(np.mean(_off(vitals, index, op)))
    return found


def _bends(function: Callable[[Any], Any]) -> bool:
    """Whether a function gives different numbers at all."""
    return bool(np.ptp(function(np.linspace(-_FAR, _FAR, 201))) > 0)


def _off(vitals: Vitals, index: int, op: Op) -> NDArray[np.bool_]:
    """Which units of an activation are off for all examples."""
    if op.name in _RECTIFIERS:
        return np.asarray(vitals.highest[index] <= 0)
    if op.name in _TAILED:
        return _in_the_tail(vitals, index, op.inputs[0])
    low, high = vitals.lowest[op.inputs[0]], vitals.highest[op.inputs[0]]  # one of the model's own
    differs = high > low if high.shape == vitals.highest[index].shape else np.ones(1, bool)
    return np.asarray((vitals.highest[index] == vitals.lowest[index]) & differs)


def _in_the_tail(vitals: Vitals, index: int, source: int) -> NDArray[np.bool_]:
    """Which units get numbers below 0 alone, and hardly hand on how these differ."""
    low, high = vitals.lowest[source], vitals.highest[source]
    if high.shape != vitals.highest[index].shape:
        return np.zeros(1, bool)
    passed = vitals.highest[index] - vitals.lowest[index]
    return np.asarray((high < 0) & (passed < _FLAT_SLOPE * (high - low)))


def _dying(facts: Facts, before: dict[int, float]) -> Iterator[Suspicion]:
    """Units that the first steps of training have turned off, in a model that learns little."""
    if not before or not can_help(facts) or facts.trained is None or is_collapsed(facts):
        return
    after = _dead(facts, facts.trained)
    least = {i: max(_MANY, before.get(i, 0.0) + _GROWN, _likely(facts, facts.trained, i)) for i in after}
    worst = next((i for i, share in after.items() if share > least[i]), None)
    if worst is not None and facts.trial is not None:
        rate = facts.setup.learning_rate
        yield Suspicion(
            facts.place(worst), f"{before.get(worst, 0.0):.0%} of the units are off for all examples at the start, "
            f"{after[worst]:.0%} after {len(facts.trial.losses) - 1} steps", "a share that hardly grows",
            "Lower the learning rate, or use an activation that does not die (leaky_relu, gelu).",
            None if rate is None else Cure(learning_rate=0.1 * rate), "warning", "warning",
        )  # fmt: skip


def saturated_units(facts: Facts) -> Iterator[Suspicion]:
    """Bounded activations at their bounds, where they have no slope."""
    yield from _one_sided(facts)
    for index, op in enumerate(facts.ops):
        bounds = _BOUNDS.get(op.name)
        if bounds is None or index in facts.ending or not facts.graph.live[index]:
            continue
        share = _saturated(facts.vitals.quantiles[index], bounds)
        if share > _MANY:
            yield Suspicion(
                facts.place(index), f"about {share:.0%} of the outputs of {op.name} are within 1 % of its bounds",
                "a few percent at most", "Draw the weights again, smaller, or standardise what comes in.",
                Cure(plan=redrawn(facts, frozenset(op.params) or _weights_before(facts, index))), "warning", "warning",
            )  # fmt: skip
            return


def _one_sided(facts: Facts) -> Iterator[Suspicion]:
    """Shares within the model, as of an attention, that all go to one place."""
    for index, op in enumerate(facts.ops):
        inside = op.kind == "softmax" and op.name != "log_softmax" and index not in facts.ending
        if not inside or not facts.graph.live[index] or op.value < _PLACES:
            continue
        # The sum of squared shares is 1 where one place has all, and 1 / n where n places have the same.
        together = op.value * facts.vitals.signal_rms[index] ** 2
        if together > _MOST:
            yield Suspicion(
                facts.place(index), f"the shares over {op.value:g} places go to one of them: their squares sum to "
                f"{together:.2f}", f"{1 / op.value:.2g} to {_MANY:g}",
                "Divide the scores by the square root of their length, and draw queries and keys smaller.",
                Cure(plan=redrawn(facts)), "warning", "warning",
            )  # fmt: skip
            return


def _saturated(quantiles: tuple[float, ...], bounds: tuple[float, float]) -> float:
    """About what share of the numbers with these quantiles, evenly spaced, lies at one of two bounds."""
    low, high = bounds
    edge = _EDGE * (high - low)
    outside = [quantile < low + edge or quantile > high - edge for quantile in quantiles]
    return float(np.mean(outside)) if outside else 0.0


def has_dead_layer(facts: Facts) -> bool:
    """Whether some activation is off or at its bounds for everything, which sends no gradient either."""
    known = [(op.name, facts.vitals.quantiles[i]) for i, op in enumerate(facts.ops) if op.kind == "activation"]
    return any(
        not np.ptp(each) > 0 or (name in _BOUNDS and _saturated(each, _BOUNDS[name]) > _MOST) for name, each in known
    )


def _weights_before(facts: Facts, index: int) -> frozenset[str]:
    """The parameters of the layer that feeds an activation."""
    steps = [each for each in facts.graph.comes_from(index) if facts.ops[each].kind in ("weight", "norm", "recurrent")]
    return frozenset(path for each in steps for path in facts.ops[each].params)
