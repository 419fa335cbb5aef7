"""Whole models read as steps: what ran, on what, with which parameters; and nothing of them changed."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.backend.common import global_state

from fanin.activations import ACTIVATIONS
from fanin.errors import ModelError
from fanin.keras.adapter import describe
from fanin.records import OPS, ModelInfo
from tests.keras import traced_models


@lru_cache
def made(name: str) -> tuple[keras.Model, Any]:
    """A model and its example, built once: building is slow, and reading changes nothing."""
    built: tuple[keras.Model, Any] = traced_models.MODELS[name]()
    return built


def told(info: ModelInfo) -> list[str]:
    """One line for each step: kind, name, value, inputs, the last parts of its parameters' paths."""
    lines = []
    for op in info.ops:
        value = "" if op.value == 1 else f" {op.value:.4g}"
        params = ",".join("/".join(path.split("/")[-2:]) for path in op.params)
        lines.append(f"{op.kind} {op.name}{value} {list(op.inputs)} {params}".replace("  ", " ").strip())
    return lines


def sequential(shape: tuple[int, ...], *parts: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts])


def functional(shape: tuple[int, ...], function: Callable[[Any], Any]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


EXPECTED = {
    "convolutions": """
        input []
        scale 0.25 [0]
        weight [1] grouped/kernel,grouped/bias
        activation relu [2]
        norm batch [3] norm/gamma,norm/beta
        max 6 [4]
        weight [5] depthwise/kernel,depthwise/bias
        activation relu6 [6]
        weight [7] separable/depthwise_kernel
        weight [8] separable/pointwise_kernel,separable/bias
        activation silu [9]
        add [10, 7]
        weight 0.1667 [11] up/kernel,up/bias
        move [12]
        move [13]
        concat [12, 14]
        mean 45 [15]
        dropout 0.3 [16]
        weight [17] head/kernel,head/bias
        softmax 3 [18]
    """,
    "recurrent": """
        input index []
        lookup [0] tokens/embeddings
        recurrent lstm [1] lstm_cell/kernel,lstm_cell/recurrent_kernel,lstm_cell/bias
        recurrent lstm [1] lstm_cell/kernel,lstm_cell/recurrent_kernel,lstm_cell/bias
        move [3]
        concat [2, 4]
        recurrent gru [5] gru_cell/kernel,gru_cell/recurrent_kernel,gru_cell/bias
        move [6]
        weight [7] each/kernel,each/bias
        move [8]
        recurrent rnn_relu [9] simple_rnn_cell/kernel,simple_rnn_cell/recurrent_kernel,simple_rnn_cell/bias
        weight [10] head/kernel,head/bias
    """,
    "before": """
        input index []
        lookup [0] tokens/embeddings
        constant []
        lookup [2] positions/embeddings
        add [1, 3]
        param [] table
        add [4, 5]
        param [] token
        move [7]
        concat [8, 6]
        norm layer [9] first/gamma,first/beta
        weight [10] query/kernel,query/bias
        weight [10] key/kernel,key/bias
        weight [10] value/kernel,value/bias
        attention dot_product [11, 12, 13]
        weight [14] attention_output/kernel,attention_output/bias
        dropout 0.1 [15]
        add [9, 16]
        norm layer [17] second/gamma,second/beta
        weight [18] up/kernel,up/bias
        activation gelu [19]
        weight [20] down/kernel,down/bias
        param [] block/alpha
        mul [22, 21]
        add [17, 23]
        move [24]
        weight [25] head,shift
        weight [24] tokens/embeddings
    """,
    "odd": """
        input []
        move [0]
        weight [1] experts
        max 4 [2]
        activation x * (sigmoid(1.702 * x)) [3]
        weight [4] kernel
        param [] log
        activation exp [6]
        mul [5, 7]
        scale 0.5 [8]
        weight [9] row
        activation gelu_tanh [10]
        move [11]
        matmul 7 [11, 12]
        scale 0.378 [13]
        move [14]
        softmax 9 [15]
        matmul 9 [16, 11]
        norm batch [17]
        param [] norm/beta
        add [18, 19]
        mean 9 [20]
        scale -1 [21]
        add [20, 22]
        activation (sin(30 * x)) - 1 [20]
    """,
}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", EXPECTED)
def test_whole_models(name: str) -> None:
    model, example = made(name)
    info = describe(model, example)
    assert told(info) == lines(EXPECTED[name])
    assert info.notes == ()
    assert all(op.kind in OPS and all(i < n for i in op.inputs) for n, op in enumerate(info.ops))
    real = keras.tree.flatten(model.compute_output_spec(keras.KerasTensor(example.shape, str(example.dtype))))
    assert [info.ops[i].shape for i in info.outputs] == [tuple(each.shape) for each in real]


def test_variables_get_their_axes_from_how_they_are_used() -> None:
    model, example = made("odd")
    found = {param.path: (param.axes, param.role) for param in describe(model, example).params}
    assert found["experts"] == (("batch", "in", "out"), "dense")
    assert found["kernel"] == (("spatial", "in", "out"), "conv")
    assert found["row"] == (("out", "in"), "dense")
    assert found["log"] == ((), "unknown")
    model, example = made("before")
    found = {param.path: (param.axes, param.role) for param in describe(model, example).params}
    assert found["head"] == (("in", "out"), "dense")
    assert found["shift"] == ((), "bias")
    assert found["tokens/embeddings"] == (("batch", "out"), "embedding")


NAMED = [name for name in ACTIVATIONS if hasattr(keras.activations, name)]


@pytest.mark.parametrize("name", NAMED)
def test_activations_have_their_names(name: str) -> None:
    function = getattr(keras.activations, name)
    arguments = {"negative_slope": 0.01} if name == "leaky_relu" else {}
    expected = {"celu": ["elu"], "linear": []}.get(name, [name])  # with alpha = 1 the two are one function
    model = sequential((7,), layers.Dense(5, activation=lambda x: function(x, **arguments)))
    assert [op.name for op in describe(model).ops[2:]] == expected


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: keras.activations.gelu(x, approximate=True), "gelu_tanh"),
        (lambda x: keras.activations.leaky_relu(x), "leaky_relu(0.2)"),
        (lambda x: keras.activations.elu(x, alpha=0.5), "elu(0.5)"),
        (lambda x: keras.activations.relu(x, 0.1, 4.0, 0.5), "relu(0.1, 4, 0.5)"),
        (lambda x: keras.activations.squareplus(x), "squareplus(4)"),
        (lambda x: keras.activations.soft_shrink(x), "soft_shrink(0.5)"),
        (lambda x: keras.activations.hard_shrink(x), "hard_shrink(0.5)"),
        (lambda x: keras.activations.tanh_shrink(x), "tanh_shrink"),
        (lambda x: keras.activations.sparse_plus(x), "sparse_plus"),
        (lambda x: keras.activations.sparse_sigmoid(x), "sparse_sigmoid"),
        (lambda x: keras.activations.log_sigmoid(x), "log_sigmoid"),
        (lambda x: keras.activations.threshold(x, 0.5, -1.0), "threshold(0.5, -1)"),
        (lambda x: keras.activations.celu(x, alpha=2.0), "celu(2)"),
        (lambda x: ops.relu(x) ** 2, "relu ** 2"),
        (lambda x: ops.where(x > 0, x, 0.3 * ops.expm1(x)), "where(x > 0, x, 0.3 * expm1)"),
        (lambda x: ops.clip(x, -1.0, 2.0), "clip(-1, 2)"),
        (lambda x: ops.sin(30 * x), "sin(30 * x)"),
        (lambda x: x - ops.tanh(x) / 2, "x + ((tanh / 2) * -1)"),
        (lambda x: 1 / (1 + ops.exp(-x)), "sigmoid"),
        (lambda x: ops.maximum(x, 0), "relu"),
        (lambda x: ops.maximum(x, 0.25 * x), "maximum(x, 0.25 * x)"),
        (lambda x: layers.Lambda(jax.nn.relu)(x), "relu"),
        (lambda x: layers.Activation(jax.nn.swish)(x), "silu"),
        (lambda x: layers.PReLU(alpha_initializer=keras.initializers.Constant(0.3))(x), "leaky_relu(0.3)"),
    ],
)
def test_functions_of_each_element_are_composed(function: Callable[[Any], Any], name: str) -> None:
    """The oracle is the model itself, run in float32; a relative error of 1e-5 is a hundred roundings."""
    inputs = keras.Input((5,))
    model = keras.Model(inputs, function(inputs))
    info = describe(model)
    assert [op.kind for op in info.ops] == ["input", "activation"]
    op = info.ops[1]
    assert op.name == name
    values = np.linspace(-4.1, 4.3, 60).reshape(12, 5)
    phi = ACTIVATIONS[op.name].phi if op.function is None else op.function
    computed = np.asarray(phi(values))
    assert computed.dtype == np.float64
    np.testing.assert_allclose(np.asarray(model(values.astype(np.float32))), computed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "part", "expected"),
    [
        ((7,), lambda: layers.UnitNormalization(), "norm rms [0] | scale 0.378 [1]"),
        ((7,), lambda: layers.LayerNormalization(center=False), "norm layer [0]"),
        ((7,), lambda: layers.LayerNormalization(scale=False), "norm layer [0] | param [] | add [1, 2]"),
        ((7,), lambda: layers.RMSNormalization(), "norm rms [0]"),
        ((9, 6), lambda: layers.GroupNormalization(3), "norm group [0]"),
        ((9, 6), lambda: layers.GroupNormalization(6), "norm instance [0]"),
        ((9, 6), lambda: ops.rms_normalization, "norm rms [0]"),
        ((9, 6), lambda: ops.layer_normalization, "norm layer [0]"),
        ((7, 6), lambda: layers.UpSampling1D(2), "move [0]"),
        ((7, 6, 5), lambda: layers.UpSampling2D(2, interpolation="bilinear"), "other UpSampling2D(bilinear) [0]"),
        ((9, 6), lambda: layers.GaussianNoise(0.5), ""),
        ((9, 8, 3), lambda: layers.RandomFlip(), "move RandomFlip [0]"),
        ((9, 8, 3), lambda: layers.RandomRotation(0.1), "move RandomRotation [0]"),
        ((9, 8, 3), lambda: layers.Resizing(6, 5), "move Resizing [0]"),
        ((8, 6), lambda: layers.AveragePooling1D(4), "mean 4 [0]"),
        ((8, 6), lambda: layers.GlobalMaxPooling1D(), "max 8 [0]"),
        ((6,), lambda: layers.Rescaling(1 / 4, -1), "activation (x * 0.25) + -1 [0]"),
        ((6,), lambda: keras.activations.glu, "move [0] | move [0] | activation sigmoid [2] | mul [1, 3]"),
        ((9, 6), lambda: lambda x: layers.Average()([x, x[:, ::-1]]), "move [0] | add [0, 1] | scale 0.5 [2]"),
        ((9, 6), lambda: lambda x: layers.Subtract()([x, x[:, ::-1]]), "move [0] | scale -1 [1] | add [0, 2]"),
        ((9, 6), lambda: lambda x: layers.Maximum()([x, x[:, ::-1]]), "move [0] | max 2 [0, 1]"),
        (
            (9, 6), lambda: lambda x: x / (1.5 + ops.sum(x, 1, keepdims=True)),
            "sum 9 [0] | activation reciprocal(1.5 + x) [1] | mul [0, 2]",
        ),
        ((6, 9), lambda: ops.log_softmax, "other log_softmax [0]"),
        ((9, 6), lambda: lambda x: layers.Attention()([x, x[:, :5]]), "move [0] | attention attention [0, 1, 1]"),
        ((9, 6), lambda: lambda x: layers.Dot(2)([x, x[:, :5]]), "move [0] | move [1] | matmul 6 [0, 2]"),
        ((9, 6), lambda: layers.LSTM(4, activation="relu"), "other LSTMCell(relu, sigmoid) [0]"),
        ((5, 9, 6), lambda: layers.ConvLSTM1D(4, 3), "other ConvLSTMCell(tanh, sigmoid) [0]"),
        ((9, 8, 6), lambda: layers.SpectralNormalization(layers.Conv2D(5, 3)), "weight [0]"),
        ((9, 8, 6), lambda: layers.Conv2D(5, 3, data_format="channels_first"), "weight [0]"),
        ((9, 6), lambda: layers.EinsumDense("abc,cde->abde", (9, 2, 5), bias_axes="de"), "weight [0]"),
        ((9, 6), lambda: lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x[:, :5]),
         "move [0] | weight [0] | weight [1] | weight [1] | move [3] | move [4] | attention dot_product [2, 5, 6] "
         "| weight [7]"),
    ],
)  # fmt: skip
def test_single_steps(shape: tuple[int, ...], part: Callable[[], Any], expected: str) -> None:
    info = describe(functional(shape, part()))
    found = [line[: line.index("]") + 1] for line in told(info)]
    assert found == ["input []", *filter(None, expected.split(" | "))]
    assert len(info.notes) == expected.count("other")


def test_what_cannot_be_read_is_named() -> None:
    class Raw(layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(7, 3), name="w")

        def call(self, x: Any) -> Any:
            return jax.numpy.dot(x, self.w.value)

    model = functional((6,), lambda x: layers.Dense(2)(Raw(name="raw")(layers.Dense(7, name="before")(x))))
    info = describe(model)
    assert told(info)[2] == "other Raw [1] raw/w"
    assert [note.split(":")[0] for note in info.notes] == ["raw"]
    assert next(param for param in info.params if param.path == "raw/w").role == "unknown"


def test_several_inputs_and_outputs_and_shared_layers() -> None:
    one, two = keras.Input((7,), name="one"), keras.Input((7,), name="two")
    shared = layers.Dense(5, name="shared")
    model = keras.Model([one, two], {"sum": shared(one) + shared(two), "first": shared(one)})
    examples = [np.ones((3, 7), np.float32), np.zeros((3, 7), np.float32)]
    info = describe(model, tuple(examples))
    uses = [f"weight [{number}] shared/kernel,shared/bias" for number in (0, 1, 0)]
    assert told(info) == ["input []", "input []", uses[0], uses[1], uses[2], "add [2, 3]"]
    assert info.outputs == (4, 5)  # by the names of the outputs
    for example in (examples, {"one": examples[0], "two": examples[1]}):
        assert told(describe(model, example)) == told(info)
    assert [param.path for param in info.params] == ["shared/kernel", "shared/bias"]


def test_two_submodels_with_layers_of_one_name() -> None:
    inner = [functional((7,), layers.Dense(7, name="d")) for _ in range(2)]
    info = describe(functional((7,), lambda x: inner[1](inner[0](x))))
    assert told(info)[1:] == ["weight [0] d/kernel,d/bias", "weight [1] d/kernel:2,d/bias:2"]


def test_a_bias_is_one_only_of_its_own_weight() -> None:
    class Shifted(keras.Model):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(6, 5), name="w")
            self.b = self.add_weight(shape=(5,), name="b")
            self.table = self.add_weight(shape=(9, 5), name="table")

        def call(self, x: Any) -> Any:
            h = x @ self.w
            return h, h + self.b, (x @ self.w) + self.table, (x @ self.w) + self.b

    model = Shifted(name="shifted")
    x = np.ones((2, 9, 6), np.float32)
    model(x)
    assert told(describe(model, x)) == [
        "input []", "weight [0] w", "param [] b", "add [1, 2]", "weight [0] w", "param [] table", "add [4, 5]",
        "weight [0] w,b",
    ]  # fmt: skip


def state(model: keras.Model) -> list[Any]:
    """All that a caller could see of a model."""
    parts: list[Any] = [np.asarray(variable.value) for variable in model.variables]
    for layer in model._flatten_layers():
        parts += [layer.name, layer.path, layer.built, layer._called, len(layer._inbound_nodes)]
        parts += [len(layer._outbound_nodes), sorted(vars(layer)), [id(value) for value in vars(layer).values()]]
    return parts


@pytest.mark.parametrize("name", sorted(traced_models.MODELS))
def test_nothing_is_changed(name: str) -> None:
    model, example = made(name)
    before, numbers = state(model), np.random.get_state()[1]
    counted = dict(global_state.get_global_attribute("object_name_uids"))
    patched = [keras.layers.Layer.__call__, keras.layers.Layer.symbolic_call, keras.Variable.__mul__]
    for _ in range(2):
        describe(model, example)
        after = state(model)
        assert len(after) == len(before)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
    assert (np.random.get_state()[1] == numbers).all()
    assert global_state.get_global_attribute("object_name_uids") == counted
    assert patched == [keras.layers.Layer.__call__, keras.layers.Layer.symbolic_call, keras.Variable.__mul__]


def test_after_a_failure_all_is_as_before() -> None:
    model = sequential((7,), layers.Dense(5))
    before = state(model)
    with pytest.raises(ModelError, match="cannot be called on the example"):
        describe(model, np.ones((3, 6), np.float32))
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    x = keras.Input((7,))
    assert keras.Model(x, model(x) + 1).output_shape == (None, 5)
    assert model.layers[0].output.shape == (None, 5)


def test_without_an_example_a_subclassed_model_is_its_parameters() -> None:
    model, example = made("odd")
    assert describe(model).ops == ()
    assert [p.path for p in describe(model).params] == [p.path for p in describe(model, example).params]
    with pytest.raises(ModelError, match="not built"):
        describe(traced_models.Odd())
    new = traced_models.Odd()
    told, known = describe(new, example).params, describe(model, example).params
    assert [(p.axes, p.shape) for p in told] == [(p.axes, p.shape) for p in known]
    assert new.built
    assert np.abs(np.asarray(new(example)) - np.asarray(model(example))).max() > 0  # its own values, drawn for good


def test_a_call_with_keyword_arguments() -> None:
    model, example = made("before")
    plain = told(describe(model, example))
    assert told(describe(model, {"ids": example, "training": True})) == plain
    assert told(describe(model, (example,))) == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "EfficientNetB0", "InceptionV3", "MobileNetV2", "DenseNet121"])
def test_applications_are_read_whole(name: str) -> None:
    model = getattr(keras.applications, name)(weights=None)
    info = describe(model)
    assert info.notes == ()
    used = {path for op in info.ops for path in op.params}
    assert used == {param.path for param in info.params}
    assert all(param.role != "unknown" for param in info.params)
    assert math.prod(info.ops[info.outputs[0]].shape[1:]) == 1000
