"""The recipe that gives every weight the same initializer."""

import pytest

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.recipes import WEIGHT_ROLES, single
from fanin.records import Init, ModelInfo, ParamInfo

KERNEL = ParamInfo("dense/kernel", (5, 7), "float32", ("in", "out"), "dense")
LSTM = ParamInfo("lstm/kernel", (5, 28), "float32", ("in", "out"), "recurrent", gates=4)
GROUPED = ParamInfo("conv/kernel", (3, 3, 2, 12), "float32", ("spatial", "spatial", "in", "out"), "conv", groups=4)
REASONS = {
    "bias": "a bias stays as the model made it",
    "norm": "a normalisation's scale and shift stay as the model made them",
    "embedding": "a lookup table has no fan-in: it stays as the model made it",
    "unknown": "not known to be a weight: it stays as the model made it",
}
LEFT = [ParamInfo(f"p/{role}", (7,), "float32", (), role) for role in REASONS]


def info(*params):
    return ModelInfo("keras", params)


def test_weights_get_the_initializer_and_their_fans_as_the_reason():
    plan = single(info(KERNEL, LSTM, GROUPED), "kaiming_normal")
    assert [entry.init for entry in plan.entries] == [Init("he_normal")] * 3
    assert [entry.reason for entry in plan.entries] == [
        "dense, fan-in 5, fan-out 7",
        "recurrent, fan-in 5, fan-out 7",
        "conv, fan-in 18, fan-out 27",
    ]


@pytest.mark.parametrize("role", WEIGHT_ROLES)
def test_every_weight_role_is_chosen(role):
    param = ParamInfo("w", (5, 7), "float32", ("in", "out"), role)
    assert single(info(param), Init("constant", value=2)).chosen[0].init == Init("constant", value=2.0)


@pytest.mark.parametrize("param", LEFT, ids=lambda param: param.role)
def test_the_rest_is_left_alone_with_a_reason(param):
    plan = single(info(param, KERNEL), "zeros")
    assert [entry.param for entry in plan.entries] == [param, KERNEL]
    assert plan.entries[0].init is None
    assert plan.entries[0].reason == REASONS[param.role]
    assert plan.chosen == plan.entries[1:]
    assert "left alone" in str(plan).splitlines()[0]


@pytest.mark.parametrize(
    ("params", "given"),
    [(LEFT, "p/bias, p/norm, p/embedding, p/unknown"), ([], "no trainable parameters")],
)
def test_a_model_without_a_weight_is_refused(params, given):
    with pytest.raises(ModelError) as error:
        single(info(*params), "zeros")
    assert f"Given: {given}. Allowed: dense, convolution, attention or recurrent layers." in str(error.value)


@pytest.mark.parametrize(
    ("init", "kind"), [("he_norml", UnknownNameError), ("random_normal(stddev=-1)", InvalidValueError)]
)
def test_a_wrong_initializer_is_refused_before_the_model_is_read(init, kind):
    with pytest.raises(kind):
        single(info(), init)
