"""Causes before symptoms, facts before what had to be tried: on patients whose training is made up."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fanin.doctor import CHECKS, Patient, examined
from fanin.doctor.data import constant_inputs
from fanin.doctor.facts import Facts
from fanin.records import ModelInfo, Op, ParamInfo, Setup, Trial, Vitals

WIDTHS = (6, 5, 4, 3)
N = 40
RNG = np.random.default_rng(2)
X = RNG.normal(size=(N, WIDTHS[0])).astype(np.float32)
Y = RNG.integers(0, 3, N)


def cross_entropy(outputs, y):
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(y)), y].mean())


def info():
    """Three layers with ReLU between them."""
    params, ops = [], [Op("input", (), (N, WIDTHS[0]), place="x")]
    for at, (given, made) in enumerate(pairwise(WIDTHS)):
        params.append(ParamInfo(f"l{at}.weight", (made, given), "float32", ("out", "in"), "dense"))
        ops.append(Op("weight", (len(ops) - 1,), (N, made), (f"l{at}.weight",), f"l{at}"))
        if at < 2:
            ops.append(Op("activation", (len(ops) - 1,), (N, made), name="relu", place=f"r{at}"))
    return ModelInfo("torch", tuple(params), tuple(ops), (len(ops) - 1,))


def patient(values, gradient=None, train=None, setup=None):
    """A model that holds these values; signals and gradients are computed for real, forwards and backwards."""
    described = info()
    signals, activations = [X], [X]
    for at, weight in enumerate(values.values()):
        signals.append(activations[-1] @ weight.T)
        activations.append(np.maximum(signals[-1], 0) if at < 2 else signals[-1])
        if at < 2:
            signals.append(activations[-1])
    outputs = signals[-1]
    rms = tuple(float(np.sqrt(np.mean(each**2))) for each in signals)
    count = len(described.ops)
    vitals = Vitals(
        tuple(op.place for op in described.ops), rms, (0.1,) * count,
        mean=(0.0,) * count, quantiles=((0.0,) * 11,) * count, cosine=(0.1,) * count, rank=(3.0,) * count,
        infinite=(0,) * count, lowest=tuple(each.min(axis=0) for each in signals),
        highest=tuple(each.max(axis=0) for each in signals),
        param_gradients=gradient or dict.fromkeys(values, 0.1), loss=cross_entropy(outputs, Y), outputs=(outputs,),
    )  # fmt: skip
    return Patient(described, vitals, setup or Setup(), X, Y, values.__getitem__, cross_entropy, train)


def good():
    return {
        p.path: (RNG.normal(size=p.shape) * np.sqrt(2 / p.shape[1])).astype(np.float32) for p in info().params
    }  # fmt: skip


def trial(learned, values, gradients=None):
    """A training that ended at all right answers, or at the same answer for all."""
    outputs = np.eye(3, dtype=np.float32)[Y if learned else np.zeros(N, int)]
    after = {path: value + RNG.normal(size=value.shape).astype(np.float32) for path, value in values.items()}
    return Trial((1.1, 0.1 if learned else 1.09), (outputs,), after, gradients or dict.fromkeys(values, 0.1))


def codes(findings):
    return [each.code for each in findings]


def test_a_patient_who_learns_is_healthy():
    values = good()
    findings, told = examined(patient(values, train=lambda **_: trial(True, values)))
    assert codes(findings) == []
    assert told.losses == (1.1, 0.1)


def test_a_size_is_a_fault_only_if_the_cure_helps():
    values = good()
    values["l0.weight"] *= 20

    def cured(**changed):
        return trial(changed.get("values") is not None, values)

    findings, _ = examined(patient(values, train=cured))
    assert codes(findings) == ["weights-too-large"]
    assert findings[0].where == "l0.weight"
    assert findings[0].outcome.helps
    assert len(findings[0].symptoms) == 2  # the loss at the start, and nothing learned

    findings, _ = examined(patient(values, train=lambda **_: trial(False, values)))
    assert all(each.severity != "error" for each in findings)
    findings, _ = examined(patient(values, train=lambda **_: trial(True, values)))
    assert all(each.severity != "error" for each in findings)


@pytest.mark.parametrize(("losses", "helps"), [((1.1, 1.09, 0.1), False), ((1.1, 0.5, 0.1), True), ((1.1, 0.1), True)])
def test_trainings_of_different_lengths_are_compared_at_the_last_step_of_both(losses, helps):
    """Time has ended the first one after a step; that the cure's went on is no merit of the cure."""
    values = good()
    values["l0.weight"] *= 20

    def cured(**changed):
        found = trial(changed.get("values") is not None, values)
        return replace(found, losses=losses) if changed.get("values") is not None else found

    findings, _ = examined(patient(values, train=cured))
    assert (findings[0].severity == "error") is helps


def test_facts_come_before_what_had_to_be_tried():
    values = good()
    values["l0.weight"] *= 20

    def cured(**changed):
        return trial(changed.get("values") is not None, values)

    findings, _ = examined(patient(values, train=cured, setup=Setup(unregistered=("extra",))))
    assert codes(findings)[:2] == ["unregistered-parameters", "weights-too-large"]


def test_random_arrays_that_multiply_the_signal_are_a_warning_where_nothing_is_learned():
    values = good()
    for learns in (False, True):
        train = None if not learns else lambda **_: trial(True, values)
        findings, _ = examined(patient(values, train=train, setup=Setup(constant=("fixed",))))
        told = [(each.code, each.where, each.severity) for each in findings]
        assert (("unregistered-parameters", "fixed", "warning") in told) is not learns


@pytest.mark.parametrize(("divisor", "found"), [(50, 1), (1, 0), (0.5, 0), (10, 0)])
def test_fractions_that_choose_rows_are_cut_to_one(divisor, found):
    numbers = (np.random.default_rng(1).integers(0, 50, (N, 7)) / divisor).astype(np.float32)
    whole = patient(good())
    ops = (Op("input", (), (N, 7), place="x"), Op("lookup", (0,), (N, 7, 3), ("table",), "table"))
    # The other steps of the patient have nothing to do with it.
    described = replace(whole.info, ops=(*ops, *whole.info.ops[2:]))
    sick = replace(whole, info=described, example=numbers)
    assert [suspicion.where for suspicion in constant_inputs(Facts(sick))] == ["input 0"] * found


def test_zeros_are_held_against_the_gradients_of_the_whole_training():
    values = good()
    values["l1.weight"][:] = 0
    stuck = dict.fromkeys(values, 0.0)

    def cured(**changed):
        helped = changed.get("values") is not None
        return trial(helped, values, None if helped else stuck)

    findings, _ = examined(patient(values, stuck, cured))
    assert codes(findings)[0] == "zero-weights"
    assert "3 parameters had a gradient of exactly 0 after 1 steps" in findings[0].observed


def test_a_zero_head_is_no_fault():
    values = good()
    values["l2.weight"][:] = 0
    findings, _ = examined(patient(values, train=lambda **_: trial(True, values)))
    assert codes(findings) == []


def test_a_rate_is_doubted_only_if_nothing_else_is_at_fault():
    values = good()
    tried = []

    def cured(**changed):
        tried.append(changed.get("learning_rate"))
        return trial(changed.get("learning_rate") == pytest.approx(0.03), values)

    setup = Setup(optimizer="sgd", learning_rate=3.0)
    findings, _ = examined(patient(values, train=cured, setup=setup))
    assert codes(findings) == ["learning-rate-too-large"]
    assert "0.03" in findings[0].cure

    tried.clear()
    broken = Setup(optimizer="sgd", learning_rate=3.0, unregistered=("extra",))
    examined(patient(values, train=cured, setup=broken))
    assert [each for each in tried if each is not None] == []


def test_units_that_die_in_the_first_steps_are_seen():
    """Nothing is learned, and behind the first ReLU all but one of five units are off after training."""
    values = good()
    sick = patient(values, train=lambda **_: trial(False, values))
    highest = list(sick.vitals.highest)
    highest[2] = np.array([1.0, 0.0, -1.0, 0.0, 0.0], np.float32)
    findings, _ = examined(replace(sick, after=lambda _: replace(sick.vitals, highest=tuple(highest))))
    dead = next(each for each in findings if each.code == "dead-units")
    assert (dead.where, dead.severity) == ("r0", "warning")
    assert "80% after 1 steps" in dead.observed
    assert "dead-units" not in codes(examined(replace(sick, after=lambda _: sick.vitals))[0])


@pytest.mark.parametrize(("change", "gradient", "words"), [
    (lambda each: each * np.nan, 0.1, "first in l0.weight"),
    (lambda each: each, np.inf, "first in the gradient of l2.weight"),
    (lambda each: 1e9 * each, 0.1, "when l1.weight had grown 1e+09 times"),
])  # fmt: skip
def test_a_loss_that_is_lost_is_told_with_its_place(change, gradient, words):
    values = good()
    after = {path: change(each) if path != "l2.weight" and (path != "l0.weight" or "first" in words) else each
             for path, each in values.items()}  # fmt: skip
    lost = Trial((1.1, 2.0, np.inf), (np.full((N, 3), np.nan),), after, dict.fromkeys(values, gradient),
                 dict.fromkeys(values, 0.1))  # fmt: skip
    findings, _ = examined(patient(values, train=lambda **_: lost))
    assert codes(findings)[0] == "divergence"
    assert findings[0].observed.startswith("after 2 steps the loss is not finite")
    assert findings[0].observed.endswith(words)


def test_a_rate_is_told_with_the_weights_that_it_moves_least_and_most():
    values = good()
    updates = {"l0.weight": (-7.0,) * 3, "l1.weight": (0.0, math.log10(3e-6), -9.0), "l2.weight": (math.log10(2e-6),)}

    def cured(**changed):
        return replace(trial(changed.get("learning_rate") == pytest.approx(1e-3), values), updates=updates)

    findings, _ = examined(patient(values, train=cured, setup=Setup(optimizer="sgd", learning_rate=1e-6)))
    assert codes(findings)[0] == "learning-rate-too-small"
    assert findings[0].observed.endswith("by 2e-06 of its size, l0.weight by 1e-07 and l1.weight by 3e-06")


def test_codes_are_unique_and_every_check_speaks_for_itself():
    assert len(CHECKS) > 40
    for code, check in CHECKS.items():
        assert code == check.code
        assert check.cause.endswith(".")
        assert check.find.__doc__


@pytest.mark.parametrize("last", [0.9, 5000.0])
def test_accuracy_by_chance_is_nothing_learned_where_the_loss_is_lost(last):
    """Nine answers in ten are right by chance; a rate ten times smaller has a lower loss and the same answers."""
    values, labels = good(), np.where(np.arange(N) % 10, Y, (Y + 1) % 3)

    def train(learning_rate=None, **_):
        loss = last if learning_rate is None else 0.2
        return replace(trial(True, values), losses=(1.1, loss), outputs=(np.eye(3, dtype=np.float32)[labels],))

    found, _ = examined(patient(values, train=train, setup=Setup(optimizer="adam", learning_rate=1.0)))
    assert [each.code for each in found if each.severity == "error"] == ["learning-rate-too-large"] * (last > 1)
