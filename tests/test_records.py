"""The types that travel: equality, printing, identity, and JSON without loss."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.records import (
    Call,
    Init,
    InitialSignals,
    ModelSpec,
    ParamInfo,
    Plan,
    PlanEntry,
    Run,
    RunResult,
    Task,
    to_plain,
)

quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
RUN = Run(
    task="digits", task_hash="abc", model="mlp:128x128", model_hash="", activation="relu", init="he_normal", seed=3,
    learning_rate=0.1, optimizer="sgd(momentum=0.9)", batch_size=64, epochs=10, evaluations=20, engine="1",
)  # fmt: skip
RESULT = RunResult(
    status="finished", diverged_at=None, steps=(10, 20), train_loss=(1.5, 0.5), val_loss=(1.6, 0.7),
    val_metric=(0.5, 0.8), test_loss=0.75, test_metric=0.8125, signals=None, seconds=1.25,
)  # fmt: skip
anything = st.floats(allow_nan=True, allow_infinity=True)


# ------------------------------------------------------------------------------------------- Call and Init
def test_a_call_prints_as_the_command_line_takes_it():
    assert str(Call("sgd")) == "sgd"
    assert str(Call("sgd", momentum=0.9, learning_rate=0.1)) == "sgd(learning_rate=0.1, momentum=0.9)"
    assert str(Init("stft", window="hann", scaling=None)) == "stft(scaling=None, window='hann')"
    assert repr(Init("constant", value=1.0)) == "Init('constant(value=1.0)')"
    assert repr(Call("adam")) == "Call('adam')"


def test_equality_and_hash_follow_name_and_parameters():
    init = Init("random_normal", mean=0.0, stddev=0.01)
    same = Init("random_normal", stddev=0.01, mean=0.0)
    assert init == same
    assert hash(init) == hash(same)
    assert init != Init("random_normal", stddev=0.01)
    assert init != Init("truncated_normal", mean=0.0, stddev=0.01)
    assert init != Call("random_normal", mean=0.0, stddev=0.01)
    assert len({init, same, Init("zeros")}) == 2
    assert init.params == {"mean": 0.0, "stddev": 0.01}
    with pytest.raises(dataclasses.FrozenInstanceError):
        init.name = "zeros"


def test_a_parameter_may_be_called_name():
    assert Call("f", name="x").params == {"name": "x"}


# ----------------------------------------------------------------------------------------------------- Run
OTHER = {str: "other", int: 12345, float: 0.987}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Run)])
def test_every_field_is_part_of_the_identity(field):
    changed = dataclasses.replace(RUN, **{field: OTHER[type(getattr(RUN, field))]})
    assert changed.id != RUN.id
    assert changed != RUN


def test_fields_do_not_run_into_each_other():
    one, other = (dataclasses.replace(RUN, task=a, task_hash=b) for a, b in (("ab", "c"), ("a", "bc")))
    assert one.id != other.id


def test_the_identity_is_the_same_in_another_process():
    program = f"from fanin.records import Run; print(Run(**{RUN.to_dict()!r}).id)"
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == RUN.id
    assert len(RUN.id) == 32
    assert int(RUN.id, 16)


def test_a_run_goes_through_json():
    again = Run.from_dict(json.loads(json.dumps(RUN.to_dict())))
    assert again == RUN
    assert again.id == RUN.id
    with pytest.raises(TypeError):
        Run.from_dict(RUN.to_dict() | {"extra": 1})


# ----------------------------------------------------------------------------------------------- RunResult
def same(one, other):
    """Equality in which not-a-number equals itself."""
    return repr(dataclasses.astuple(one)) == repr(dataclasses.astuple(other))


@st.composite
def results(draw):
    count, layers = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    curve = st.lists(anything, min_size=count, max_size=count).map(tuple)
    rms = st.lists(anything, min_size=layers, max_size=layers).map(tuple)
    names = st.lists(st.text(), min_size=layers, max_size=layers).map(tuple)
    return RunResult(
        status=draw(st.sampled_from(["finished", "diverged"])),
        diverged_at=draw(st.none() | st.integers(0, 10**9)),
        steps=tuple(draw(st.lists(st.integers(0, 10**9), min_size=count, max_size=count))),
        train_loss=draw(curve),
        val_loss=draw(curve),
        val_metric=draw(curve),
        test_loss=draw(anything),
        test_metric=draw(anything),
        signals=draw(st.none() | st.builds(InitialSignals, names, rms, rms)),
        seconds=draw(st.floats(0, 1e6)),
        train_metric=draw(curve | st.just(())),
    )


@quick
@given(results())
def test_a_result_goes_through_json(result):
    text = result.to_json()
    assert "\n" not in text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert same(RunResult.from_json(text), result)


def test_what_json_lacks_is_spelt_out():
    diverged = dataclasses.replace(RESULT, train_loss=(math.inf, math.nan), test_loss=-math.inf)
    record = json.loads(diverged.to_json())
    assert record["train_loss"] == ["inf", None]
    assert record["test_loss"] == "-inf"
    assert same(RunResult.from_json(diverged.to_json()), diverged)


def test_a_newer_field_does_not_stop_reading():
    record = json.loads(RESULT.to_json()) | {"later": 1}
    assert RunResult.from_json(json.dumps(record)) == RESULT


def test_to_plain():
    value = {"a": (1, 2.5, math.nan), "b": [{"c": math.inf}, -math.inf], "d": None, "e": True, "f": "nan"}
    assert to_plain(value) == {"a": [1, 2.5, None], "b": [{"c": "inf"}, "-inf"], "d": None, "e": True, "f": "nan"}


# --------------------------------------------------------------------------------------------------- rest
def test_a_plan_prints_a_line_for_each_parameter():
    kernel = ParamInfo("dense/kernel", (3, 2), "float32", ("in", "out"), "dense")
    bias = ParamInfo("dense/bias", (2,), "float32", (), "bias")
    plan = Plan((PlanEntry(kernel, Init("he_normal"), "because"), PlanEntry(bias, None, "left")))
    assert plan.chosen == plan.entries[:1]
    assert [line.split() for line in str(plan).splitlines()] == [
        ["dense/kernel", "he_normal", "because"],
        ["dense/bias", "left", "alone", "left"],
    ]
    assert str(Plan(())) == ""


def test_the_users_function_is_no_part_of_a_models_identity():
    one, other = (ModelSpec("m.py:build", "user", fingerprint="f", build=build) for build in (min, max))
    assert one == other
    assert hash(one) == hash(other)
    assert one != ModelSpec("m.py:build", "user", fingerprint="g", build=min)


@pytest.mark.parametrize(("kind", "metric"), [("classification", "accuracy"), ("regression", "loss")])
def test_the_metric_of_a_task(kind, metric):
    assert Task("t", kind, 2, *[None] * 6, "f").metric == metric
