"""Layouts through real layers with shapes that have no two axes alike."""

import keras
import numpy as np
import pytest
from keras import layers

from fanin.errors import ModelError, UnknownNameError
from fanin.initializers import draw_param
from fanin.initializers.fans import canonical_order, fans_of
from fanin.keras.adapter import describe, tapped_layers, write
from fanin.records import Init, ParamInfo

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
        if param.axes
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

        def call(self, x: object) -> object:
            return keras.ops.matmul(x, self.table)

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
    assert roles == ["embedding", "norm", "norm", "unknown", "dense", "bias"]


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


def test_tapped_layers_are_those_with_a_pre_activation() -> None:
    model = keras.Sequential([keras.Input((9, 6)), layers.Conv1D(5, 3), layers.LSTM(4), layers.Dense(2)])
    assert [type(layer).__name__ for layer in tapped_layers(model)] == ["Conv1D", "Dense"]
