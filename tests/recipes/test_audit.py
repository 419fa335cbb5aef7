"""Audits: what follows a plan is not accused, what does not is found, and the reason says what is wrong."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from fanin.errors import InvalidValueError, ModelError
from fanin.initializers import INITIALIZERS, canonical, decide, draw_param
from fanin.initializers.fans import fans_of
from fanin.recipes.audit import FALSE_ALARMS, audit
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry

DENSE = ParamInfo("dense/kernel", (40, 70), "float32", ("in", "out"), "dense")
LINEAR = ParamInfo("linear.weight", (70, 40), "float32", ("out", "in"), "dense")
CONV = ParamInfo("conv.weight", (36, 12, 3, 2), "float32", ("out", "in", "spatial", "spatial"), "conv")
GROUPED = ParamInfo("grouped", (3, 5, 4, 24), "float32", ("spatial", "spatial", "in", "out"), "conv", groups=3)
DEPTHWISE = ParamInfo("depthwise", (3, 3, 30, 10), "float32", ("spatial", "spatial", "batch", "out"), "depthwise")
LSTM = ParamInfo("lstm.weight_hh_l0", (80, 20), "float32", ("out", "in"), "recurrent", gates=4)
PACKED = ParamInfo("in_proj_weight", (96, 32), "float32", ("out", "in"), "attention", gates=3)
BIAS = ParamInfo("bias", (70,), "float32", (), "bias")
FORGET = ParamInfo("lstm.bias", (80,), "float32", ("out",), "bias", gates=4)
TABLE = ParamInfo("table.weight", (500, 24), "float32", ("batch", "out"), "embedding")
WEIGHTS = (DENSE, LINEAR, CONV, GROUPED, DEPTHWISE, LSTM, PACKED)


def planned(*entries, seed=0):
    return Plan(tuple(PlanEntry(param, init, "", scales=scales) for param, init, scales in entries), "test", seed)


def drawn(plan, seed):
    """The values of a plan under another seed, with each gate's factor, in a plain way."""
    found = {}
    for entry in plan.chosen:
        array = draw_param(entry.param, entry.init, seed)
        if entry.scales:
            axis = entry.param.axes.index("out")
            parts = np.split(array, len(entry.scales), axis)
            array = np.concatenate([part * np.float32(f) for part, f in zip(parts, entry.scales, strict=True)], axis)
        found[entry.param.path] = array
    return found


def audited(plan, arrays):
    return audit(ModelInfo("torch", tuple(entry.param for entry in plan.entries)), arrays.__getitem__, plan)


def one(param, init, array, scales=(), seed=0):
    plan = planned((param, None if init is None else canonical(init), scales), seed=seed)
    (line,) = audited(plan, {param.path: array}).lines
    return line


def fits(param, init):
    try:
        draw_param(param, init, 0)
    except InvalidValueError:
        return False
    return True


EVERY = [
    *((name, Init(name)) for name in INITIALIZERS if name != "stft"),
    ("other", Init("variance_scaling", scale=0.3, mode="fan_avg", distribution="untruncated_normal")),
    ("orthogonal scaling", Init("variance_scaling", scale=2.0, distribution="orthogonal")),
    ("far cut", Init("truncated_normal", mean=0.5, lower=-1.0, upper=4.0)),
    ("no spread", Init("random_normal", mean=0.25, stddev=0.0)),
]


# ------------------------------------------------------------------------------------------------ no false alarms
@pytest.mark.parametrize(("name", "init"), EVERY, ids=[name for name, _ in EVERY])
def test_every_law_on_every_layer_follows_itself(name, init):
    # With another seed a line is accused with a probability below 1e-3; the seeds are fixed.
    plan = planned(*((param, init, ()) for param in WEIGHTS if fits(param, init)), seed=5)
    assert plan.chosen
    for seed, reason in ((5, "the draw that was planned, number by number"), (6, "another draw of the same law")):
        found = audited(plan, drawn(plan, seed))
        assert found.ok
        for line in found.lines:
            assert line.follows is True
            assert line.looks_like[0] == str(init)
            assert line.reason in (reason, "holds just that")
            spread = math.sqrt(decide(init, fans_of(next(p for p in WEIGHTS if p.path == line.path))).variance)
            assert line.expected_stddev == pytest.approx(spread, abs=1e-9)
            assert line.stddev == pytest.approx(spread, rel=0.1, abs=1e-9)


def test_the_short_time_fourier_transform():
    param = ParamInfo("frames", (8, 1, 5), "float32", ("spatial", "in", "out"), "conv")
    array = draw_param(param, Init("stft"), 0)
    line = one(param, "stft", array)
    assert (line.follows, line.reason) == (True, "holds just that")
    assert line.expected_stddev == pytest.approx(array.std())
    assert one(param, "stft(window='hamming')", array).follows is False


def test_models_drawn_as_planned_are_not_accused():
    # 12 models of 40 parameters, 1 to 1800 numbers each: any alarm among them has a probability of at most 1.2 %, and
    # the seeds are fixed. At a level of 5 % for each parameter there would be 24 alarms.
    inits = ("he_normal", "glorot_uniform", "orthogonal", "random_normal", "sparse(sparsity=0.5)")
    sizes = [(1, 1), (1, 3), (2, 2), (5, 3), (7, 9), (12, 30), (31, 20), (60, 30)]
    entries = [
        (ParamInfo(f"{init}/{size}", size, "float32", ("out", "in"), "dense"), canonical(init), ())
        for init in inits for size in sizes
    ]  # fmt: skip
    plan = planned(*entries, seed=1)
    for seed in range(2, 14):
        assert audited(plan, drawn(plan, seed)).deviating == ()


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 8), ("float16", 11)])
@pytest.mark.parametrize("init", ["he_normal", "glorot_uniform", "orthogonal", "random_normal", "constant(value=0.3)"])
@pytest.mark.parametrize("seed", [3, 4])
def test_low_precision_is_the_same_law_rounded(dtype, digits, init, seed):
    param = replace(LINEAR, dtype=dtype, shape=(300, 200))
    mantissa, exponent = np.frexp(draw_param(param, canonical(init), seed).astype(np.float64))
    rounded = np.ldexp(np.round(mantissa * 2**digits) / 2**digits, exponent).astype(np.float32)
    line = one(param, init, rounded, seed=3)
    assert line.follows is True
    if "constant" not in init:
        assert ("number by number" in line.reason) == (seed == 3)


@pytest.mark.parametrize("seed", [3, 4])
def test_factors_by_gate(seed):
    scales = (1.0, 0.5, 0.0, 2.0)
    plan = planned((LSTM, Init("he_normal"), scales), (FORGET, Init("ones"), (0.0, 1.0, 0.0, 0.0)),
                   (replace(LSTM, path="o"), Init("orthogonal"), scales), seed=3)  # fmt: skip
    arrays = drawn(plan, seed)
    assert all(line.follows for line in audited(plan, arrays).lines)
    for line in audited(plan, arrays).lines:
        assert line.stddev == pytest.approx(line.expected_stddev, rel=0.08)
    for path in arrays:
        swapped = np.roll(arrays[path], 20, axis=0)
        (line,) = (line for line in audited(plan, arrays | {path: swapped}).lines if line.path == path)
        assert line.follows is False
    wrong = arrays["lstm.weight_hh_l0"].copy()
    wrong[:20] *= 1.5
    line = audited(plan, arrays | {"lstm.weight_hh_l0": wrong}).lines[0]
    assert "too large, before its factors" in line.reason


def test_few_numbers_are_not_accused_and_not_acquitted():
    param = replace(LINEAR, shape=(1, 3))
    line = one(param, "he_normal", np.float32([[0.5, 1.0, -0.7]]))
    assert (line.follows, line.looks_like) == (None, ())
    assert line.reason == "3 numbers: too few entries to tell"
    assert one(param, "he_normal", np.float32([[0.5, 1.0, -70]])).follows is False
    assert one(param, "zeros", np.zeros((1, 3), np.float32)).follows is True


# ---------------------------------------------------------------------------------------------------- what is found
def test_ten_percent_too_large_is_found():
    param = replace(LINEAR, shape=(400, 250))
    line = one(param, "he_normal", draw_param(param, Init("he_normal"), 9) * np.float32(1.1))
    assert line.follows is False
    assert line.reason.endswith("10 % too large")
    assert line.looks_like[0].startswith("1.1 times he_normal")


def test_the_reason_names_both_standard_deviations():
    param = replace(LINEAR, shape=(256, 384))
    line = one(
        param, f"random_normal(stddev={0.02 / 24**0.5})", draw_param(param, Init("random_normal", stddev=0.02), 1)
    )
    assert line.reason == "standard deviation 0.02 instead of 0.00408: 4.9 times too large"
    assert "GPT-2's N(0, 0.02)" in line.looks_like


@pytest.mark.parametrize(
    ("expected", "real"),
    [("random_normal", "random_uniform(minval=-0.0866025, maxval=0.0866025)"),
     ("truncated_normal(stddev=0.0568423)", "random_uniform(minval=-0.0866025, maxval=0.0866025)"),
     ("random_normal", "truncated_normal(stddev=0.0568423)"),
     ("random_uniform(minval=-0.0866025, maxval=0.0866025)", "random_normal")],
)  # fmt: skip
def test_laws_of_one_size_are_told_apart_by_ten_thousand_numbers(expected, real):
    param = replace(LINEAR, shape=(125, 80))
    line = one(param, expected, draw_param(param, canonical(real), 3))
    assert line.follows is False
    assert "numbers reach" in line.reason


WRONG = [
    ("he_normal", lambda a: np.zeros_like(a), "holds zeros"),
    ("he_normal", lambda a: np.full_like(a, 0.5), "holds 0.5 everywhere"),
    ("zeros", lambda a: a, "2800 of 2800 numbers are not the law's, the first"),
    ("ones", lambda a: np.zeros_like(a), "holds zeros"),
    ("constant(value=0.3)", lambda a: np.where(a == a.max(), a, np.float32(0.3)), "1 of 2800 numbers"),
    ("he_normal", lambda a: a + np.float32(0.2), "mean 0.2"),
    ("he_normal", lambda a: np.where(a == a.max(), np.float32(3), a), "further than 2800 numbers of the law"),
    ("he_normal", lambda a: np.where(a == a.max(), np.nan, a), "not finite: 1 of 2800 numbers"),
    ("he_normal", lambda a: np.where(a == a.max(), np.inf, a), "not finite: 1 of 2800 numbers"),
    ("he_normal", lambda a: np.where(a == a.max(), np.float32(1e-40), a), "never written to? 1 numbers below 1e-38"),
    ("he_normal", lambda a: np.where(a == a.max(), np.float32(1e20), a), "never written to? 1 numbers above 1e10"),
    ("he_normal", lambda a: np.concatenate([a[:35], a[:35]]), "100 % of its numbers occur more than once"),
    ("orthogonal", lambda a: a, "standard deviation"),
    ("orthogonal", lambda a: a * np.float32(70**-0.5) / a.std(), "are not orthogonal with the length 1"),
    ("mirrored", lambda a: a, "too"),
    ("dirac", lambda a: a, "numbers are not the law's"),
]  # fmt: skip


@pytest.mark.parametrize(("init", "change", "reason"), WRONG, ids=[f"{init}: {reason}" for init, _, reason in WRONG])
def test_what_is_wrong_is_said(init, change, reason):
    line = one(LINEAR, init, change(draw_param(LINEAR, Init("he_normal"), 2)))
    assert line.follows is False
    assert reason in line.reason


def test_a_shifted_mean_is_found_at_the_right_size():
    param = replace(LINEAR, shape=(400, 250))
    line = one(param, "random_normal", draw_param(param, Init("random_normal"), 2) + np.float32(0.002))
    assert line.reason == "mean 0.00202 instead of 0"


def test_what_no_law_gives_deviates_without_a_plan():
    assert one(LINEAR, None, np.full(LINEAR.shape, np.nan)).follows is False
    assert one(LINEAR, None, draw_param(LINEAR, Init("he_normal"), 0)).follows is None


def test_a_row_for_padding_is_no_fault():
    table = draw_param(TABLE, Init("random_normal", stddev=1.0), 8)
    for empty in (0, 499):
        padded = table.copy()
        padded[empty] = 0
        line = one(TABLE, "random_normal(stddev=1.0)", padded)
        assert line.follows is True
        assert line.reason.endswith(f"row {empty} holds zeros, as for padding")
        assert one(LINEAR, "he_normal", draw_param(LINEAR, Init("he_normal"), 8) * (np.arange(70) > 0)[:, None]).follows
    padded[:100] = 0
    assert one(TABLE, "random_normal(stddev=1.0)", padded).follows is False


# ------------------------------------------------------------------------------------------------ repeated numbers
def test_a_repeated_seed_is_found_also_behind_a_factor():
    params = [
        replace(LINEAR, path=name, shape=shape) for name, shape in (("a", (50, 30)), ("b", (50, 30)), ("c", (9, 30)))
    ]
    plan = planned(*((param, Init("he_normal"), ()) for param in params), seed=2)
    arrays = drawn(plan, 3)
    assert audited(plan, arrays).ok
    found = audited(plan, arrays | {"b": arrays["a"], "c": arrays["a"][:9]})
    assert [line.follows for line in found.lines] == [False] * 3
    assert found.lines[0].reason == "the same random numbers as 2 other parameters (b, c): a repeated seed, or a copy"
    # Of a copy and the planned draw that it was copied from, the copy deviates.
    right = drawn(plan, 2)
    assert [line.follows for line in audited(plan, right | {"b": right["a"]}).lines] == [True, False, True]
    unplanned = audit(ModelInfo("torch", tuple(params)), (arrays | {"b": 2 * arrays["a"]}).__getitem__)
    assert [line.follows for line in unplanned.lines] == [None] * 3
    assert unplanned.ok
    assert ["repeated seed" in line.reason for line in unplanned.lines] == [True, True, False]


@pytest.mark.parametrize("init", ["zeros", "identity", "sinusoidal", "hadamard"])
def test_laws_without_random_numbers_may_be_held_twice(init):
    params = [replace(LINEAR, path=name) for name in "ab"]
    plan = planned(*((param, Init(init), ()) for param in params))
    assert audited(plan, drawn(plan, 0)).ok
    alone = audit(ModelInfo("torch", tuple(params)), drawn(plan, 0).__getitem__)
    assert not any("seed" in line.reason for line in alone.lines)


# ---------------------------------------------------------------------------------------------------------- the rest
def test_what_cannot_be_held_against_a_law():
    whole = ParamInfo("steps", (3,), "int64", (), "unknown")
    assert one(whole, None, np.arange(3)).reason == "holds int64, no floating numbers"
    nothing = replace(LINEAR, shape=(0, 4))
    assert one(nothing, "he_normal", np.zeros((0, 4))).reason == "has no numbers"


def test_a_plan_for_another_model_is_refused():
    plan = planned((LINEAR, Init("zeros"), ()))
    other = ModelInfo("torch", (DENSE,))
    with pytest.raises(ModelError, match=r"another model. Given: linear.weight of shape \(70, 40\)"):
        audit(other, lambda _: np.zeros(DENSE.shape), plan)
    turned = ModelInfo("torch", (replace(LINEAR, shape=(40, 70)),))
    with pytest.raises(ModelError, match=r"Allowed: shape \(40, 70\)"):
        audit(turned, lambda _: np.zeros((40, 70)), plan)
    with pytest.raises(ModelError, match=r"values of linear\.weight have another shape"):
        audit(ModelInfo("torch", (LINEAR,)), lambda _: np.zeros((40, 71)), plan)


def test_a_split_axis_and_narrow_arrays_are_read():
    up = ParamInfo("up", (2, 6, 5, 3), "float16", ("batch", "in", "out", "spatial"), "transposed_conv")
    array = draw_param(up, Init("he_normal"), 0).astype(np.float16).reshape(12, 5, 3)
    assert one(up, "he_normal", array).reason == "the draw that was planned, number by number"


@pytest.fixture
def result():
    plan = planned((LINEAR, Init("he_normal"), ()), (BIAS, Init("zeros"), ()), (TABLE, None, ()))
    arrays = {LINEAR.path: np.full(LINEAR.shape, np.nan), BIAS.path: np.zeros(70, np.float32),
              TABLE.path: draw_param(TABLE, Init("random_normal"), 0)}  # fmt: skip
    return audited(plan, arrays)


def test_the_result_as_text(result):
    head, *rows, summary = str(result).splitlines()
    assert head.split() == ["parameter", "follows", "expected", "looks", "like", "std", "expected", "std", "reason"]
    assert rows[0].split()[:3] == ["linear.weight", "no", "he_normal"]
    assert rows[1].split()[:4] == ["bias", "yes", "zeros", "zeros"]
    assert "random_normal" in rows[2]
    assert summary.startswith("1 of 2 planned parameters deviate.")
    assert f"{FALSE_ALARMS:g}" in summary
    assert not result.ok
    assert result.deviating == result.lines[:1]


def test_the_result_as_data(result):
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (record["ok"], record["recipe"], record["false_alarms"]) == (False, "test", 1e-3)
    assert record["lines"][0]["stddev"] is None
    assert record["lines"][1] == {
        "path": "bias", "expected": "zeros", "follows": True, "looks_like": ["zeros"], "stddev": 0.0,
        "expected_stddev": 0.0, "reason": "holds just that",
    }  # fmt: skip
    frame = result.to_pandas()
    assert list(frame.path) == [LINEAR.path, BIAS.path, TABLE.path]
    assert list(frame.expected) == ["he_normal", "zeros", ""]


def test_the_result_in_a_notebook():
    odd = replace(BIAS, path="<b>&")
    page = audit(ModelInfo("torch", (odd,)), lambda _: np.zeros(70))._repr_html_()
    assert "<td>&lt;b&gt;&amp;</td>" in page
    assert "1 parameters, nothing planned; 0 hold what no law gives." in page
