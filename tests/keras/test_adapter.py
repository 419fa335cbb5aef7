"""Layouts through real layers with shapes that have no two axes alike."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.initializers import draw_param
from fanin.initializers.fans import canonical_order, fans_of
from fanin.keras.adapter import describe, examples, fill, values, write
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry

IMAGE, SERIES, CUBE = (9, 8, 6), (9, 6), (7, 6, 5, 4)
CASES = {
    "dense": (layers.Dense(5), (7,), {"kernel": ("dense", 7, 5)}),
    "conv1d": (layers.Conv1D(5, 3), SERIES, {"kernel": ("conv", 18, 15)}),
    "conv2d": (layers.Conv2D(5, (3, 2)), IMAGE, {"kernel": ("conv", 36, 30)}),
    "conv3d": (layers.Conv3D(5, (3, 2, 1)), CUBE, {"kernel": ("conv", 24, 30)}),
    "grouped": (layers.Conv2D(4, (3, 2), groups=2), IMAGE, {"kernel": ("conv", 18, 12)}),
    "depthwise": (layers.DepthwiseConv2D((3, 2), depth_multiplier=5), IMAGE, {"kernel": ("depthwise", 6, 30)}),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=5), SERIES, {"kernel": ("depthwise", 3, 15)}),
    "separable": (
        layers.SeparableConv2D(5, (3, 2), depth_multiplier=2),
        IMAGE,
        {"depthwise_kernel": ("depthwise", 6, 12), "pointwise_kernel": ("conv", 12, 5)},
    ),
    "transposed1d": (layers.Conv1DTranspose(5, 3), SERIES, {"kernel": ("transposed_conv", 18, 15)}),
    "transposed2d": (layers.Conv2DTranspose(5, (3, 2)), IMAGE, {"kernel": ("transposed_conv", 36, 30)}),
    "transposed3d": (layers.Conv3DTranspose(5, (3, 2, 1)), CUBE, {"kernel": ("transposed_conv", 24, 30)}),
    "lstm": (layers.LSTM(5), SERIES, {"kernel": ("recurrent", 6, 5), "recurrent_kernel": ("recurrent", 5, 5)}),
    "gru": (layers.GRU(5), SERIES, {"kernel": ("recurrent", 6, 5), "recurrent_kernel": ("recurrent", 5, 5)}),
    "rnn": (layers.SimpleRNN(5), SERIES, {"kernel": ("recurrent", 6, 5), "recurrent_kernel": ("recurrent", 5, 5)}),
    "einsum": (layers.EinsumDense("abc,cde->abde", (9, 2, 5)), SERIES, {"kernel": ("dense", 6, 10)}),
    "experts": (layers.EinsumDense("aeb,ebc->aec", (9, 5)), (9, 6), {"kernel": ("dense", 6, 5)}),
}


@pytest.mark.parametrize("name", CASES)
def test_roles_and_fans_through_real_layers(name: str) -> None:
    layer, shape, expected = CASES[name]
    model = keras.Sequential([keras.Input(shape), layer])
    found = {
        param.path.rsplit("/", 1)[-1]: (param.role, fans_of(param).fan_in, fans_of(param).fan_out)
        for param in describe(model).params
        if param.axes and param.role != "bias"
    }
    assert found == expected


def test_attention_projections_are_read_apart() -> None:
    inputs = keras.Input((9, 6))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 3, value_dim=5)(inputs, inputs))
    roles = {p.path.split("/")[-2]: (p.role, fans_of(p)) for p in describe(model).params if p.axes}
    found = {name: (role, fans.fan_in, fans.fan_out) for name, (role, fans) in roles.items()}
    assert found == {
        "query": ("attention", 6, 6),
        "key": ("attention", 6, 6),
        "value": ("attention", 6, 10),
        "attention_output": ("attention", 10, 6),
    }


def test_fan_in_is_what_a_unit_really_sums() -> None:
    """Constant weights on constant input: the output in the middle is fan_in, whatever the layout."""
    for name in ("dense", "conv1d", "conv2d", "conv3d", "grouped", "depthwise"):
        layer, shape, _ = CASES[name]
        model = keras.Sequential([keras.Input(shape), type(layer).from_config(layer.get_config())])
        (param,) = [param for param in describe(model).params if param.axes]
        write(model, {param.path: np.ones(param.shape, np.float32)})
        output = np.asarray(model(np.ones((1, *shape), np.float32)))
        assert set(output.reshape(-1).tolist()) == {float(fans_of(param).fan_in)}, name


def test_a_transposed_convolution_is_drawn_in_the_canonical_layout() -> None:
    plain = ParamInfo("w", (3, 2, 6, 5), "float32", ("spatial", "spatial", "in", "out"), "conv")
    turned = ParamInfo("w", (3, 2, 5, 6), "float32", ("spatial", "spatial", "out", "in"), "transposed_conv")
    assert canonical_order(turned.axes) == (0, 1, 3, 2)
    for init in (Init("he_normal"), Init("orthogonal")):
        a, b = draw_param(plain, init, 3), draw_param(turned, init, 3)
        np.testing.assert_array_equal(a, b.transpose(0, 1, 3, 2))


def test_an_lstm_is_orthogonal_gate_by_gate() -> None:
    model = keras.Sequential([keras.Input((9, 6)), layers.LSTM(5)])
    param = next(param for param in describe(model).params if param.path.endswith("recurrent_kernel"))
    array = draw_param(param, Init("orthogonal"), 0).astype(np.float64)
    gates = array.reshape(5, 4, 5).transpose(1, 0, 2)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(5), atol=1e-6)
    assert not np.allclose(gates[0], gates[1])


def test_what_is_no_weight_is_told_apart() -> None:
    class Odd(layers.Layer):
        def build(self, shape: tuple[int, ...]) -> None:
            self.table = self.add_weight(shape=(shape[-1], 4), name="table")
            self.size = self.add_weight(shape=(4,), name="size")

        def call(self, x: object) -> object:
            return keras.ops.matmul(x, self.table) * self.size

    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Embedding(11, 4),
            layers.BatchNormalization(),
            layers.Flatten(),
            Odd(),
            layers.Dense(2),
        ]
    )
    roles = [param.role for param in describe(model).params]
    assert roles == ["embedding", "norm", "norm", "dense", "unknown", "dense", "bias"]


def test_write_sets_by_path_and_refuses_the_unknown() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")])
    before = np.asarray(model.layers[0].bias)
    assert [param.path for param in describe(model).params] == ["d/kernel", "d/bias"]
    write(model, {"d/kernel": np.full((3, 2), 7, np.float32)})
    assert np.asarray(model.layers[0].kernel).tolist() == [[7, 7]] * 3
    np.testing.assert_array_equal(np.asarray(model.layers[0].bias), before)
    with pytest.raises(UnknownNameError, match=r"d/kernle"):
        write(model, {"d/kernle": np.zeros((3, 2), np.float32), "d/kernel": np.zeros((3, 2), np.float32)})
    assert np.asarray(model.layers[0].kernel).tolist() == [[7, 7]] * 3


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ModelError, match="not built"):
        describe(keras.Sequential([layers.Dense(2)]))


def recurrent() -> keras.Model:
    return keras.Sequential([keras.Input((9, 6)), layers.LSTM(5, name="lstm"), layers.Dense(2, name="head")])


def planned(info: ModelInfo, **inits: Init) -> Plan:
    """A plan for the parameters whose path ends like a name."""
    return Plan(
        tuple(
            PlanEntry(param, inits[name], "")
            for param in info.params
            for name in inits
            if param.path.endswith(f"/{name}")
        ),
        seed=7,
    )


def test_a_plan_is_drawn_into_the_model_and_nothing_else_is() -> None:
    model = recurrent()
    info = describe(model)
    before = {param.path: values(model, param.path) for param in info.params}
    plan = planned(
        info, kernel=Init("he_normal"), recurrent_kernel=Init("orthogonal"), bias=Init("constant", value=0.5)
    )
    told: list[int] = []
    fill(model, plan, told.append)
    assert told == [before[entry.param.path].size for entry in plan.chosen]
    for entry in plan.chosen:
        assert entry.init is not None
        drawn = draw_param(entry.param, entry.init, 7)
        np.testing.assert_array_equal(values(model, entry.param.path), drawn)
    fill(model, Plan(plan.entries[:1], seed=8))
    assert not np.array_equal(values(model, "lstm/lstm_cell/kernel"), before["lstm/lstm_cell/kernel"])
    np.testing.assert_array_equal(values(model, "head/bias"), np.full(2, 0.5, np.float32))


def test_gates_get_their_factors() -> None:
    model = recurrent()
    kernel, _, bias = (param for param in describe(model).params if "lstm" in param.path)
    assert (bias.axes, bias.gates) == (("out",), 4)
    scales = (0.5, 1.0, 2.0, 0.0)
    fill(model, Plan((PlanEntry(kernel, Init("he_normal"), "", scales=scales),
                      PlanEntry(bias, Init("ones"), "", scales=(0.0, 1.0, 0.0, 0.0)))))  # fmt: skip
    drawn = draw_param(kernel, Init("he_normal"), 0)
    for gate, scale in enumerate(scales):
        cut = slice(5 * gate, 5 * gate + 5)
        np.testing.assert_array_equal(values(model, kernel.path)[:, cut], scale * drawn[:, cut])
    # Keras's order is input, forget, cell, output: the forget gate is open.
    assert values(model, bias.path).tolist() == [0] * 5 + [1] * 5 + [0] * 10


def test_a_gru_keeps_a_bias_for_each_kernel() -> None:
    model = keras.Sequential([keras.Input((9, 6)), layers.GRU(5)])
    bias = describe(model).params[2]
    assert (bias.shape, bias.axes, bias.gates) == ((2, 15), ("batch", "out"), 3)
    fill(model, Plan((PlanEntry(bias, Init("ones"), "", scales=(1.0, 2.0, 3.0)),)))
    assert values(model, bias.path).tolist() == [[1] * 5 + [2] * 5 + [3] * 5] * 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"path": "lstm/lstm_cell/kernl"}, UnknownNameError, "lstm_cell/kernel"),
        ({"shape": (6, 5)}, ModelError, "another shape"),
        ({"axes": ()}, InvalidValueError, "needs fan-in"),
    ],
)
def test_a_plan_that_does_not_fit_writes_nothing(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model = recurrent()
    params = [param for param in describe(model).params if param.axes and param.role != "bias"]
    before = [values(model, param.path) for param in params]
    wrong = dataclasses.replace(params[0], **change)
    entries = [PlanEntry(param, Init("he_normal"), "") for param in (*params[1:], wrong)]
    with pytest.raises(error, match=message):
        fill(model, Plan(tuple(entries)))
    for param, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(values(model, param.path), value)


def test_whatever_happens_while_filling_the_old_values_come_back() -> None:
    model = recurrent()
    info = describe(model)
    before = [values(model, param.path) for param in info.params]

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(model, planned(info, kernel=Init("ones")), interrupted)
    for param, value in zip(info.params, before, strict=True):
        np.testing.assert_array_equal(values(model, param.path), value)


def test_values_come_in_a_precision_of_numpy() -> None:
    for kind, expected in (("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32")):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d", dtype=kind)])
        fill(model, planned(describe(model), kernel=Init("constant", value=0.5)))
        array = values(model, "d/kernel")
        assert str(array.dtype) == expected
        assert array.tolist() == [[0.5, 0.5]] * 3
    with pytest.raises(UnknownNameError, match=r"d/kernel"):
        values(model, "d/kernle")


def test_made_up_examples_have_the_shape_of_the_first_call() -> None:
    class Tokens(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = layers.Embedding(11, 6), layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.head(self.table(x))

    model = Tokens()
    model(keras.Input((9,), dtype="int32"))
    assert describe(model).ops == ()
    made_up, words = next(examples(model))
    assert words == "int32 of shape (2, 9)"
    assert [op.kind for op in describe(model, made_up).ops] == ["input", "lookup", "weight"]
    assert list(examples(keras.Sequential([layers.Dense(2)]))) == []
